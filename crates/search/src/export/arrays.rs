//! Writes arrays in NumPy's format, version 1.0, and the documents in a file of their own:
//!
//! | file | values |
//! |---|---|
//! | `dense.npy` | f32 `[documents, dense_dim]` |
//! | `sparse_starts.npy`, `sparse_ids.npy`, `sparse_weights.npy` | u64 `[documents + 1]`, u32 and f32 `[weights]`: document i has the ids and weights from start i to before start i + 1 |
//! | `colbert_starts.npy`, `colbert.npy` | u64 `[documents + 1]`, f16 `[rows, colbert_dim]`, in the same way |
//! | `documents.jsonl` | one document per line, in the same order |

use half::f16;
use half::slice::HalfFloatSliceExt;
use zerocopy::IntoBytes;

use super::files::Files;
use super::manifest::Manifest;
use super::source::Source;
use crate::error::{Error, Result};

/// NumPy's header of an array in row-major order. `kind` is NumPy's name of the type, such as `<f4`; `lengths` is the shape.
fn header(kind: &str, lengths: &[u64]) -> Vec<u8> {
    let shape: String = lengths.iter().map(|length| format!("{length}, ")).collect();
    let mut text = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({}), }}", shape.trim_end());
    // Magic, version, length and text together must be a multiple of 64 bytes, of which the last one is a line feed.
    let length = (10 + text.len() + 1).next_multiple_of(64) - 10;
    text.extend(std::iter::repeat_n(' ', length - text.len() - 1));
    text.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((length as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

/// Writes the arrays and documents of the rows `order`, in this order.
pub(super) fn write(source: &Source<'_>, order: &[usize], files: &mut Files, manifest: &mut Manifest) -> Result<()> {
    let documents = order.len() as u64;
    files.begin("dense.npy")?;
    files.write(&header("<f4", &[documents, manifest.dense_dim as u64]))?;
    for &row in order {
        files.write(source.dense(row)?.as_bytes())?;
    }
    if source.reader.index.settings.lexical {
        let mut starts = vec![0u64];
        for &row in order {
            let weights = source.sparse(row)?.len() as u64;
            manifest.with_sparse += u64::from(weights > 0);
            starts.push(starts[starts.len() - 1] + weights);
        }
        let all = starts[order.len()];
        write_starts(files, "sparse_starts.npy", &starts)?;
        files.begin("sparse_ids.npy")?;
        files.write(&header("<u4", &[all]))?;
        for &row in order {
            let ids: Vec<u32> = source.sparse(row)?.iter().map(|&(id, _)| id).collect();
            files.write(ids.as_bytes())?;
        }
        files.begin("sparse_weights.npy")?;
        files.write(&header("<f4", &[all]))?;
        for &row in order {
            let weights: Vec<f32> = source.sparse(row)?.iter().map(|&(_, weight)| weight).collect();
            files.write(weights.as_bytes())?;
        }
    }
    if let Some(dim) = manifest.colbert_dim {
        let mut starts = vec![0u64];
        for &row in order {
            let (segment, local) = source.reader.place(row)?;
            let rows = segment.colbert.as_ref().map_or(Ok(0), |colbert| colbert.tokens_of(local))? as u64;
            starts.push(starts[starts.len() - 1] + rows);
        }
        write_starts(files, "colbert_starts.npy", &starts)?;
        files.begin("colbert.npy")?;
        files.write(&header("<f2", &[starts[order.len()], dim as u64]))?;
        for &row in order {
            for vector in source.colbert(row)?.0 {
                let mut halves = vec![f16::ZERO; dim];
                halves.convert_from_f32_slice(&vector);
                files.write(halves.iter().map(|x| x.to_bits()).collect::<Vec<u16>>().as_bytes())?;
            }
        }
    }
    files.begin("documents.jsonl")?;
    for &row in order {
        let document = source.reader.stored(row)?.document;
        let line = serde_json::to_string(&document).map_err(|e| Error::document(&document.key, e.to_string()))?;
        files.write(format!("{line}\n").as_bytes())?;
    }
    Ok(())
}

fn write_starts(files: &mut Files, name: &str, starts: &[u64]) -> Result<()> {
    files.begin(name)?;
    files.write(&header("<u8", &[starts.len() as u64]))?;
    files.write(starts.as_bytes())
}

#[cfg(test)]
mod tests {
    #[test]
    fn headers_are_whole_lines_of_64_bytes() {
        for lengths in [&[0, 1][..], &[1, 1024], &[1_000_000_000, 65_536], &[7]] {
            let header = super::header("<f4", lengths);
            assert!(header.len().is_multiple_of(64) && header.last() == Some(&b'\n'));
            assert_eq!(u16::from_le_bytes([header[8], header[9]]) as usize + 10, header.len());
        }
        // NumPy reads these as Python's tuples: one length needs its comma.
        assert!(super::header("<u8", &[7]).windows(14).any(|part| part == b"'shape': (7,),"));
    }
}
