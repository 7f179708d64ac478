//! Opens files, directories and standard input as sources of documents.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use trivec::decode::{Decoded, NotText};

use super::columns::{Columns, Format};
use super::sniff::{self, Beginning};
use super::{csv, jsonl};
use crate::document::{Document, MAX_TEXT_BYTES};
use crate::error::{Error, Result};

/// Endings of the files that are read as text in a directory.
const TEXT_ENDINGS: [&str; 6] = ["txt", "md", "markdown", "rst", "text", "adoc"];

/// The path that means standard input.
pub const STANDARD_INPUT: &str = "-";

/// How deep directories are walked; what is deeper is left out.
const MAX_DEPTH: usize = 64;

type Documents = Box<dyn Iterator<Item = Result<Document>>>;

/// An iterator over the documents of an input, with a counter of the bytes that were read.
pub struct Source {
    documents: Documents,
    read: Arc<AtomicU64>,
    total: u64,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("total", &self.total).finish_non_exhaustive()
    }
}

impl Source {
    /// The counter of the bytes that were read. It can be watched while the documents are read elsewhere.
    pub fn counter(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.read)
    }

    /// The bytes of the whole input: the sum of its files' lengths when it was opened; 0 for standard input.
    pub fn total_bytes(&self) -> u64 {
        self.total
    }
}

impl Iterator for Source {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Result<Document>> {
        self.documents.next()
    }
}

/// Opens a file, or all files of a directory that have the ending of a text or of one of the other formats. Files are read in the format
/// `format`, or with `None` by the ending of their names; a single file whose ending is not known is read in the format in which it begins.
/// The key of a text file is its path below the directory, or its name if it was given itself. [`STANDARD_INPUT`] is read as JSON Lines
/// unless a format is given or it begins with the names of a table's columns.
///
/// # Errors
/// [`Error::Io`]; [`Error::NothingToRead`] for a directory without such files; [`Error::Columns`] if a table lacks a column that was named,
/// or all documents of JSON Lines lack it (a table in a directory is an [`Error::Line`] of the iterator instead), or if a file without a
/// known ending begins with JSON objects of which none has both key and text; [`Error::Line`] for a table whose names cannot be read;
/// [`Error::Option`] for a format that cannot be read from standard input, or for Parquet if this program was built without it.
pub fn open(path: &Path, format: Option<Format>, columns: &Columns) -> Result<Source> {
    let read = Arc::new(AtomicU64::new(0));
    if path.as_os_str() == STANDARD_INPUT {
        let documents = standard_input(format, columns, Arc::clone(&read))?;
        return Ok(Source { documents, read, total: 0 });
    }
    let metadata = fs::metadata(path).map_err(|e| Error::io(path, e))?;
    let mut files = Vec::new();
    if metadata.is_dir() {
        walk(path, 0, &mut files)?;
        if files.is_empty() {
            return Err(Error::NothingToRead { path: path.to_path_buf(), what: nothing_in_it() });
        }
        files.sort();
    } else {
        files.push(path.to_path_buf());
    }
    let mut format = format;
    if format.is_none() && !metadata.is_dir() && Format::of_path(path) == Format::Text {
        let input = Counting { input: File::open(path).map_err(|e| Error::io(path, e))?, read: Arc::clone(&read) };
        let (beginning, input) = sniff::look(input, path, columns)?;
        let found = of_beginning(beginning, path, columns)?;
        if !metadata.is_file() {
            // What was read of a pipe does not come again.
            let documents = of_stream(input, found, path, file_name(path), columns)?;
            return Ok(Source { documents, read, total: 0 });
        }
        read.store(0, Ordering::Relaxed);
        format = Some(found);
    }
    look_for_fields(path, &files, format, columns)?;
    let total = files.iter().map(|file| fs::metadata(file).map_or(0, |metadata| metadata.len())).sum();
    let (root, is_directory) = (path.to_path_buf(), metadata.is_dir());
    let (columns, counter) = (columns.clone(), Arc::clone(&read));
    let of_file = move |file: &PathBuf| -> Result<Documents> {
        let input = Counting { input: File::open(file).map_err(|e| Error::io(file, e))?, read: Arc::clone(&counter) };
        Ok(match format.unwrap_or_else(|| Format::of_path(file)) {
            Format::Jsonl if is_regular(file) => Box::new(jsonl::read_checked(input, file, &columns)),
            Format::Jsonl => Box::new(jsonl::read(input, file, &columns)),
            Format::Csv => Box::new(csv::read(decoded(input), b',', file, &columns)?),
            Format::Tsv => Box::new(csv::read(decoded(input), b'\t', file, &columns)?),
            Format::Parquet => parquet(input, file, &columns)?,
            Format::Text => {
                // Paths are written with `/` on every system, so that keys are the same.
                let parts = |name: &Path| {
                    let parts = name.components().map(|part| part.as_os_str().to_string_lossy());
                    parts.collect::<Vec<_>>().join("/")
                };
                let key = match is_directory {
                    true => parts(file.strip_prefix(&root).unwrap_or(file)),
                    false => file_name(file),
                };
                Box::new(std::iter::once(text(decoded(input), file, key)))
            }
        })
    };
    // If a single file cannot be opened, the call fails at once. In a directory the iterator gives an error for that file, and goes on.
    let documents: Documents = match files.as_slice() {
        [file] if !is_directory => of_file(file)?,
        _ => Box::new(files.into_iter().flat_map(move |file| match of_file(&file) {
            Ok(documents) => documents,
            Err(Error::Columns { path, what }) => Box::new(std::iter::once(Err(Error::Line { path, line: 1, what }))),
            Err(e) => Box::new(std::iter::once(Err(e))),
        })),
    };
    Ok(Source { documents, read, total })
}

/// The message for a directory without files that are read.
fn nothing_in_it() -> String {
    let tables = ["jsonl", "ndjson", "jsonlines", "json", "csv", "tsv", "tab"]
        .into_iter()
        .chain(cfg!(feature = "parquet").then_some("parquet"));
    let endings: Vec<&str> = TEXT_ENDINGS.into_iter().chain(tables).collect();
    let endings = endings.join(", ");
    format!("no file in it is read: expected names that end in {endings}; names that begin with a dot are passed over")
}

/// Whether a file is a regular one, which can be read twice, and not a pipe.
fn is_regular(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|metadata| metadata.is_file())
}

/// Checks, before any document is returned, that every named field is in some document of the files of JSON Lines.
fn look_for_fields(path: &Path, files: &[PathBuf], format: Option<Format>, columns: &Columns) -> Result<()> {
    let of_lines =
        |file: &&PathBuf| format.unwrap_or_else(|| Format::of_path(file)) == Format::Jsonl && is_regular(file);
    jsonl::look_for(path, files.iter().filter(of_lines).map(PathBuf::as_path), columns)
}

/// The key of a text that is named alone.
fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The format of a file that begins so, and whose name does not say what it is.
fn of_beginning(beginning: Beginning, path: &Path, columns: &Columns) -> Result<Format> {
    match beginning {
        Beginning::Documents => Ok(Format::Jsonl),
        Beginning::Table(format) => Ok(format),
        Beginning::Objects(fields) if !TEXT_ENDINGS.contains(&ending(path).as_str()) => {
            let (key, text) = (columns.key.escape_debug(), columns.text.escape_debug());
            let what = format!(
                "it begins with JSON that has not both `{key}` (the key) and `{text}` (the text), only {fields}: name the fields, or say \
                 the format: txt takes the whole file as one text"
            );
            Err(Error::Columns { path: path.to_path_buf(), what })
        }
        Beginning::Objects(_) | Beginning::Other => Ok(Format::Text),
    }
}

/// Opens standard input; in errors the file's name is `standard input`.
fn standard_input(format: Option<Format>, columns: &Columns, read: Arc<AtomicU64>) -> Result<Documents> {
    let path = Path::new("standard input");
    let input = Counting { input: std::io::stdin(), read };
    match format {
        Some(Format::Text) => {
            Err(Error::option("format", "a text's key is its file's name, which standard input has not"))
        }
        Some(format) => of_stream(input, format, path, String::new(), columns),
        None => {
            let (beginning, input) = sniff::look(input, path, columns)?;
            let format = if let Beginning::Table(format) = beginning { format } else { Format::Jsonl };
            of_stream(input, format, path, String::new(), columns)
        }
    }
}

/// The documents of what can be read only once; `key` is that of a text.
fn of_stream(
    input: impl Read + 'static,
    format: Format,
    path: &Path,
    key: String,
    columns: &Columns,
) -> Result<Documents> {
    Ok(match format {
        Format::Jsonl => Box::new(jsonl::read(input, path, columns)),
        Format::Csv => Box::new(csv::read(decoded(input), b',', path, columns)?),
        Format::Tsv => Box::new(csv::read(decoded(input), b'\t', path, columns)?),
        Format::Text => Box::new(std::iter::once(text(decoded(input), path, key))),
        Format::Parquet => {
            return Err(Error::option(
                "format",
                "Parquet begins at its end: it is read from a file, not standard input",
            ));
        }
    })
}

#[cfg(feature = "parquet")]
fn parquet(input: Counting<File>, path: &Path, columns: &Columns) -> Result<Documents> {
    let bytes = input.input.metadata().map_or(0, |metadata| metadata.len());
    let read = input.read;
    // A Parquet file is not read front to back, so its bytes are counted after its last row.
    let end = std::iter::from_fn(move || {
        read.fetch_add(bytes, Ordering::Relaxed);
        None
    });
    Ok(Box::new(super::parquet::read(input.input, path, columns)?.chain(end)))
}

#[cfg(not(feature = "parquet"))]
fn parquet(_: Counting<File>, path: &Path, _: &Columns) -> Result<Documents> {
    let what = format!("{}: this program was built without Parquet (the feature `parquet`)", path.display());
    Err(Error::option("format", what))
}

/// The ending of a file's name, in small letters.
fn ending(path: &Path) -> String {
    path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase()).unwrap_or_default()
}

/// Adds the files below a directory that are read to `files`. Names that begin with a dot are left out; links to directories are not
/// followed.
fn walk(directory: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    if depth > MAX_DEPTH {
        return Ok(());
    }
    for entry in fs::read_dir(directory).map_err(|e| Error::io(directory, e))? {
        let entry = entry.map_err(|e| Error::io(directory, e))?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(|e| Error::io(directory, e))?);
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if kind.is_dir() {
            walk(&path, depth + 1, files)?;
        } else if path.is_file()
            && (TEXT_ENDINGS.contains(&ending(&path).as_str()) || Format::of_path(&path) != Format::Text)
        {
            files.push(path);
        }
    }
    Ok(())
}

/// Decodes an input to UTF-8: a byte order mark tells the encoding, and is dropped.
fn decoded<R: Read>(input: R) -> Decoded<BufReader<R>> {
    Decoded::new(BufReader::new(input), false)
}

/// Reads a text file as a document. Line ends at the end of the file are not part of the text.
fn text(input: impl Read, path: &Path, key: String) -> Result<Document> {
    let mut bytes = Vec::new();
    let wrong = |what: String| Error::Line { path: path.to_path_buf(), line: 1, what };
    let failed = |e: std::io::Error| match NotText::of(&e) {
        Some(not_text) => wrong(not_text.to_string()),
        None => Error::io(path, e),
    };
    input.take(MAX_TEXT_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > MAX_TEXT_BYTES {
        return Err(wrong(format!("a text of more than {MAX_TEXT_BYTES} bytes")));
    }
    let mut text = String::from_utf8(bytes)
        .map_err(|e| wrong(format!("it is not UTF-8 at byte {}", e.utf8_error().valid_up_to())))?;
    text.truncate(text.trim_end_matches(['\n', '\r']).len());
    let document = Document::new(key, text);
    document.validate().map_err(|e| wrong(e.to_string()))?;
    Ok(document)
}

/// An input that adds the number of bytes that are read from it to a counter.
struct Counting<R> {
    input: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.input.read(buffer)?;
        self.read.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}
