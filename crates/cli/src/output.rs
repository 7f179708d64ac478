//! Writes embeddings as JSONL, npy or safetensors, to standard output or to a file that appears whole or not at all.

use std::io::{self, BufWriter, IsTerminal, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::Serialize;
use serde_json::value::RawValue;
use tempfile::SpooledTempFile;

use super::args::OutputFormat;
use super::exit::{Failure, Result};
use super::pending::{Aside, Pending, create_beside, move_into_place, of_system};
use super::style::harmless;
use trivec::{Embedding, Modes};

/// Where the bytes of the output go.
enum Target {
    Stdout(BufWriter<io::Stdout>),
    /// A temporary file that becomes the file at `path`, or the device or pipe at `path`.
    File {
        path: PathBuf,
        file: BufWriter<Pending>,
    },
}

/// Whether a path means standard output.
fn is_stdout(path: Option<&Path>) -> bool {
    path.is_none_or(|path| path.as_os_str() == "-")
}

impl Target {
    fn open(path: Option<&Path>) -> Result<Target> {
        let Some(path) = path.filter(|_| !is_stdout(path)) else {
            return Ok(Target::Stdout(BufWriter::new(io::stdout())));
        };
        let (path, file) = create_beside(path, "--output")?;
        Ok(Target::File { path, file })
    }

    /// The directory for temporary files with the parts of the output.
    fn aside(&self) -> Aside {
        match self {
            Target::Stdout(_) => Aside::of(None),
            Target::File { path, .. } => Aside::of(Some(path)),
        }
    }

    /// The failure for an error of writing.
    fn failure(&self, error: &io::Error) -> Failure {
        match self {
            Target::Stdout(_) => Failure::stdout(error),
            // The reader of the pipe has closed it.
            Target::File { .. } if error.kind() == io::ErrorKind::BrokenPipe => Failure::ClosedPipe,
            Target::File { path, .. } => Failure::io_path(path, error),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = match self {
            Target::Stdout(out) => out.write_all(bytes),
            Target::File { file, .. } => file.write_all(bytes),
        };
        written.map_err(|e| self.failure(&e))
    }

    fn flush(&mut self) -> Result<()> {
        let flushed = match self {
            Target::Stdout(out) => out.flush(),
            Target::File { file, .. } => file.flush(),
        };
        flushed.map_err(|e| self.failure(&e))
    }

    /// Completes the output. A file appears under its name once its bytes have reached the disk.
    fn finish(mut self) -> Result<()> {
        self.flush()?;
        let Target::File { path, file } = self else { return Ok(()) };
        move_into_place(&path, file)
    }
}

/// How many bytes of each part of the output are held in memory before they go to a temporary file, if the output is standard output, a
/// device or a pipe. There are eight parts at most.
const IN_MEMORY: usize = 8 << 20;

/// The bytes of one part of the output, stored until the number of records is known, which is written before them. They are in a temporary
/// file without a name, which is gone when the program ends, however it ends; a few may be in memory instead (see [`IN_MEMORY`]).
struct Spool {
    file: BufWriter<SpooledTempFile>,
    bytes: u64,
    aside: Rc<Aside>,
}

impl Spool {
    fn new(aside: &Rc<Aside>) -> Result<Spool> {
        let mut file = tempfile::spooled_tempfile_in(IN_MEMORY, &aside.directory);
        // For an output file the parts go to disk at once: its directory must have room for as many bytes anyway.
        if !aside.system {
            file.roll().map_err(|e| aside.failure(&of_system(e)))?;
        }
        Ok(Spool { file: BufWriter::with_capacity(1 << 16, file), bytes: 0, aside: Rc::clone(aside) })
    }

    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|e| self.aside.failure(&of_system(e)))
    }

    fn push_floats(&mut self, values: &[f32]) -> Result<()> {
        values.iter().try_for_each(|x| self.push(&x.to_le_bytes()))
    }

    /// Copies all bytes to the output.
    fn drain_into(self, target: &mut Target) -> Result<()> {
        let fail = |e: io::Error| self.aside.failure(&of_system(e));
        let mut file = self.file.into_inner().map_err(|e| fail(e.into_error()))?;
        file.seek(SeekFrom::Start(0)).map_err(fail)?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            match file.read(&mut buffer).map_err(fail)? {
                0 => return Ok(()),
                read => target.write(&buffer[..read])?,
            }
        }
    }
}

/// A record of the JSONL output.
#[derive(Serialize)]
struct JsonRecord<'a> {
    index: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a RawValue>,
    tokens: usize,
    truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    dense: Option<&'a [f32]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sparse: Option<JsonSparse<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    colbert: Option<Vec<&'a [f32]>>,
}

#[derive(Serialize)]
struct JsonSparse<'a> {
    indices: &'a [u32],
    values: &'a [f32],
}

/// Refuses an output format that cannot hold the vectors of these modes.
pub(super) fn check_format(format: OutputFormat, modes: Modes) -> Result<()> {
    if format == OutputFormat::Npy && modes != Modes::DENSE {
        return Err(Failure::usage(format!(
            "--format npy holds dense vectors alone, found --modes {modes}: use safetensors"
        )));
    }
    Ok(())
}

/// A record as a line of JSONL, its line end included.
pub(super) fn json_line(index: u64, id: Option<&RawValue>, embedding: &Embedding) -> Result<String> {
    let record = JsonRecord {
        index,
        id,
        tokens: embedding.tokens,
        truncated: embedding.truncated,
        dense: embedding.dense.as_deref(),
        sparse: embedding.lexical.as_ref().map(|l| JsonSparse { indices: l.ids(), values: l.weights() }),
        colbert: embedding.colbert.as_ref().map(|c| c.iter().collect()),
    };
    let mut line = serde_json::to_string(&record).map_err(|e| Failure::input(format!("record {index}: {e}")))?;
    line.push('\n');
    Ok(line)
}

/// The row offsets (`indptr`) of a ragged tensor, and how many rows it has so far.
struct Ragged {
    indptr: Spool,
    rows: u64,
}

impl Ragged {
    fn new(aside: &Rc<Aside>) -> Result<Ragged> {
        let mut indptr = Spool::new(aside)?;
        indptr.push(&0i64.to_le_bytes())?;
        Ok(Ragged { indptr, rows: 0 })
    }

    /// Adds a record with so many rows.
    fn push(&mut self, rows: usize) -> Result<()> {
        self.rows += rows as u64;
        self.indptr.push(&(self.rows as i64).to_le_bytes())
    }
}

/// The tensors of a safetensors output, each in a spool of its own until all records are known.
struct Columns {
    tokens: Spool,
    truncated: Spool,
    dense: Option<Spool>,
    /// Offsets, token ids and weights.
    sparse: Option<(Ragged, Spool, Spool)>,
    /// Offsets and vectors.
    colbert: Option<(Ragged, Spool)>,
}

enum Form {
    Jsonl,
    /// The dense rows.
    Npy(Spool),
    Safetensors(Box<Columns>),
}

/// Writes embeddings one by one in an output format.
pub(super) struct Writer {
    target: Target,
    form: Form,
    records: u64,
    dense_dim: usize,
    colbert_dim: usize,
    on_terminal: bool,
}

impl Writer {
    /// `dense_dim` and `colbert_dim` are the widths of the vectors, which a header states even if there are no records.
    pub(super) fn new(
        path: Option<&Path>,
        format: OutputFormat,
        modes: Modes,
        dense_dim: usize,
        colbert_dim: usize,
    ) -> Result<Writer> {
        let on_terminal = is_stdout(path) && io::stdout().is_terminal();
        if format != OutputFormat::Jsonl && on_terminal {
            return Err(Failure::usage("binary output does not go to a terminal: give --output FILE or a pipe"));
        }
        check_format(format, modes)?;
        let target = Target::open(path)?;
        let aside = Rc::new(target.aside());
        let spool = || Spool::new(&aside);
        let form = match format {
            OutputFormat::Jsonl => Form::Jsonl,
            OutputFormat::Npy => Form::Npy(spool()?),
            OutputFormat::Safetensors => Form::Safetensors(Box::new(Columns {
                tokens: spool()?,
                truncated: spool()?,
                dense: modes.dense.then(spool).transpose()?,
                sparse: if modes.sparse { Some((Ragged::new(&aside)?, spool()?, spool()?)) } else { None },
                colbert: if modes.colbert { Some((Ragged::new(&aside)?, spool()?)) } else { None },
            })),
        };
        Ok(Writer { target, form, records: 0, dense_dim, colbert_dim, on_terminal })
    }

    /// Writes a record, or adds it to the parts that wait for the last record.
    pub(super) fn push(&mut self, id: Option<&RawValue>, embedding: &Embedding) -> Result<()> {
        let index = self.records;
        self.records += 1;
        match &mut self.form {
            Form::Jsonl => {
                let line = json_line(index, id, embedding)?;
                // Ids are written as the input has them; on a terminal, characters that would act on it are escaped.
                let line = if self.on_terminal { harmless(line) } else { line };
                self.target.write(line.as_bytes())
            }
            Form::Npy(dense) => dense.push_floats(embedding.dense.as_deref().unwrap_or_default()),
            Form::Safetensors(columns) => columns.push(embedding),
        }
    }

    /// Hands on the records so far, so that the reader of a pipe sees them. Only JSONL can: other formats begin with the number of records.
    pub(super) fn flush(&mut self) -> Result<()> {
        match self.form {
            Form::Jsonl => self.target.flush(),
            _ => Ok(()),
        }
    }

    /// Writes what had to wait for the last record, and completes the output.
    pub(super) fn finish(mut self) -> Result<()> {
        match self.form {
            Form::Jsonl => {}
            Form::Npy(dense) => {
                self.target.write(&npy_header(self.records, self.dense_dim))?;
                dense.drain_into(&mut self.target)?;
            }
            Form::Safetensors(columns) => {
                columns.finish(self.records, self.dense_dim, self.colbert_dim, &mut self.target)?
            }
        }
        self.target.finish()
    }
}

/// The header of npy 1.0 for `[rows, cols]` little-endian f32; the data begins at a multiple of 64 bytes.
fn npy_header(rows: u64, cols: usize) -> Vec<u8> {
    let mut dict = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {cols}), }}");
    while !(10 + dict.len() + 1).is_multiple_of(64) {
        dict.push(' ');
    }
    dict.push('\n');
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend_from_slice(&(dict.len() as u16).to_le_bytes());
    header.extend_from_slice(dict.as_bytes());
    header
}

impl Columns {
    /// Adds a record to every tensor.
    fn push(&mut self, embedding: &Embedding) -> Result<()> {
        self.tokens.push(&(embedding.tokens as i64).to_le_bytes())?;
        self.truncated.push(&[u8::from(embedding.truncated)])?;
        if let (Some(spool), Some(dense)) = (&mut self.dense, &embedding.dense) {
            spool.push_floats(dense)?;
        }
        if let (Some((indptr, indices, values)), Some(lexical)) = (&mut self.sparse, &embedding.lexical) {
            indptr.push(lexical.len())?;
            lexical.ids().iter().try_for_each(|id| indices.push(&id.to_le_bytes()))?;
            values.push_floats(lexical.weights())?;
        }
        if let (Some((indptr, vectors)), Some(colbert)) = (&mut self.colbert, &embedding.colbert) {
            indptr.push(colbert.rows())?;
            vectors.push_floats(colbert.as_slice())?;
        }
        Ok(())
    }

    /// Writes the header, and then the tensors.
    fn finish(self, records: u64, dense_dim: usize, colbert_dim: usize, target: &mut Target) -> Result<()> {
        // Tensors of wider types come first, so that every tensor is aligned to its type.
        let mut tensors: Vec<(&str, Dtype, Vec<u64>, Spool)> = Vec::new();
        tensors.push(("tokens", Dtype::I64, vec![records], self.tokens));
        let mut after = Vec::new();
        if let Some(dense) = self.dense {
            after.push(("dense", Dtype::F32, vec![records, dense_dim as u64], dense));
        }
        if let Some((ragged, indices, values)) = self.sparse {
            tensors.push(("sparse.indptr", Dtype::I64, vec![records + 1], ragged.indptr));
            after.push(("sparse.indices", Dtype::U32, vec![ragged.rows], indices));
            after.push(("sparse.values", Dtype::F32, vec![ragged.rows], values));
        }
        if let Some((ragged, vectors)) = self.colbert {
            tensors.push(("colbert.indptr", Dtype::I64, vec![records + 1], ragged.indptr));
            after.push(("colbert.vectors", Dtype::F32, vec![ragged.rows, colbert_dim as u64], vectors));
        }
        tensors.append(&mut after);
        tensors.push(("truncated", Dtype::U8, vec![records], self.truncated));

        let mut infos = Vec::new();
        let mut offset = 0;
        for (name, dtype, shape, spool) in &tensors {
            let end = offset + spool.bytes as usize;
            let shape = shape.iter().map(|&dim| dim as usize).collect();
            infos.push(((*name).to_owned(), TensorInfo { dtype: *dtype, shape, data_offsets: (offset, end) }));
            offset = end;
        }
        let fail = |what: String| Failure::io("safetensors header", &io::Error::other(what));
        let metadata = Metadata::new(None, infos).map_err(|e| fail(e.to_string()))?;
        let mut header = serde_json::to_vec(&metadata).map_err(|e| fail(e.to_string()))?;
        header.resize(header.len().next_multiple_of(8), b' ');
        target.write(&(header.len() as u64).to_le_bytes())?;
        target.write(&header)?;
        tensors.into_iter().try_for_each(|(_, _, _, spool)| spool.drain_into(target))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn npy_data_is_aligned() {
        for rows in [0, 7, 123_456_789] {
            let header = npy_header(rows, 1024);
            assert!(header.len().is_multiple_of(64) && header.ends_with(b"\n"));
            assert_eq!(usize::from(header[8]) + 256 * usize::from(header[9]) + 10, header.len());
        }
    }
}
