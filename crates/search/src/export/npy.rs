//! NumPy's array format, version 1.0, and lists beside it.

use super::Files;
use crate::error::{Error, Result};
use crate::reader::Reader;

/// The header of an array of little-endian f32, `[rows, columns]`.
fn header(rows: usize, columns: usize) -> Vec<u8> {
    let mut text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    // Magic, version, length and text are a multiple of 64 bytes together, the last one a line's end.
    let length = (10 + text.len() + 1).next_multiple_of(64) - 10;
    text.extend(std::iter::repeat_n(' ', length - text.len() - 1));
    text.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((length as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

pub(super) fn write(reader: &Reader, order: &[usize], keys: &[String], files: &mut Files) -> Result<()> {
    let dim = reader.index.settings.dense_dim;
    files.begin("dense.npy".to_owned())?;
    files.write(&header(order.len(), dim))?;
    let mut vector = vec![0.0f32; dim];
    for &row in order {
        let (segment, local) = reader.place(row)?;
        segment.dense16.read(local, &mut vector)?;
        files.write(&vector.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())?;
    }
    files.begin("keys.txt".to_owned())?;
    for &row in order {
        // Keys have no control characters: a line each.
        files.write(format!("{}\n", keys[row]).as_bytes())?;
    }
    files.begin("documents.jsonl".to_owned())?;
    for &row in order {
        let document = reader.stored(row)?.document;
        let line = serde_json::to_string(&document).map_err(|e| Error::document(&document.key, e.to_string()))?;
        files.write(format!("{line}\n").as_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn headers_are_whole_lines_of_64_bytes() {
        for (rows, columns) in [(0, 1), (1, 1024), (1_000_000_000, 65_536)] {
            let header = super::header(rows, columns);
            assert!(header.len().is_multiple_of(64) && header.last() == Some(&b'\n'));
            assert_eq!(u16::from_le_bytes([header[8], header[9]]) as usize + 10, header.len());
        }
    }
}
