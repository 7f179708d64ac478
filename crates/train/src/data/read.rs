//! Reads pairs from JSON Lines or a JSON list, in this crate's own form or in that of FlagEmbedding's fine-tuning, and from directories in
//! BEIR's layout.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use trivec::records::{Problem, Record, Records};

use super::raw::{RawPair, RawPairs, hex};
use crate::error::{Error, Result, shown};

/// The longest line, or the longest object of a list, that is read, in bytes.
const MAX_RECORD: usize = 64 << 20;

/// Which file of judgements of a BEIR directory is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// `qrels/train.tsv`
    Train,
    /// `qrels/dev.tsv`, or without it `qrels/test.tsv`
    Dev,
    /// `qrels/test.tsv`, or without it `qrels/dev.tsv`
    Test,
}

impl Split {
    /// The names of the files, without `.tsv`, of which the first that exists is read.
    fn names(self) -> &'static [&'static str] {
        match self {
            Split::Train => &["train"],
            Split::Dev => &["dev", "test"],
            Split::Test => &["test", "dev"],
        }
    }
}

/// Reads pairs from a file or a directory. A file has JSON objects, one a line or in a list: each is `{"query", "passage"}` with optional
/// `negatives`, `group`, `score` and `negative_scores`, or FlagEmbedding's `{"query", "pos", "neg"}` with optional `pos_scores` and
/// `neg_scores`. A directory has BEIR's layout: `corpus.jsonl`, `queries.jsonl`, and the file in `qrels` that `split` names.
///
/// # Errors
/// [`Error::Line`] names the line that is none of these, or whose numbers make no sense; [`Error::Io`].
pub fn read_pairs(path: &Path, split: Split) -> Result<RawPairs> {
    let metadata = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
    if metadata.is_dir() { read_beir(path, split) } else { jsonl(path, open(path)?) }
}

/// Reads pairs from a text in memory, as [`read_pairs`] reads a file. Errors show `name` where they would show the file's path.
///
/// # Errors
/// As [`read_pairs`].
///
/// ```
/// let found = trivec_train::parse_pairs("pairs", r#"{"query": "a cat", "passage": "It catches mice."}"#)?;
/// assert_eq!(found.pairs[0].query, "a cat");
/// let error = trivec_train::parse_pairs("pairs", r#"{"query": "a cat"}"#).unwrap_err();
/// assert!(error.to_string().starts_with("pairs, line 1: "));
/// # Ok::<(), trivec_train::Error>(())
/// ```
pub fn parse_pairs(name: &str, text: &str) -> Result<RawPairs> {
    jsonl(Path::new(name), text.as_bytes())
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|e| Error::io(path, e))
}

/// A reader that hashes all bytes that are read through it.
struct Digested<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Read for Digested<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}

/// Calls `each` for every line that is not blank, or for every object of a JSON list, with the number of its line. Returns the SHA-256 of the
/// whole file.
pub(super) fn records(path: &Path, each: impl FnMut(u64, &str) -> Result<()>) -> Result<[u8; 32]> {
    records_of(path, open(path)?, each)
}

/// As [`records`], for the bytes that `inner` gives; `path` is only for errors.
fn records_of(path: &Path, inner: impl Read, mut each: impl FnMut(u64, &str) -> Result<()>) -> Result<[u8; 32]> {
    let mut file = Digested { inner, hash: Sha256::new() };
    for record in Records::new(BufReader::with_capacity(1 << 20, &mut file), MAX_RECORD) {
        let Record { line, text } = record.map_err(|problem| match problem {
            Problem::Io(source) => Error::io(path, source),
            Problem::Record { line, what } => Error::line(path, line, what),
        })?;
        each(line, text.trim())?;
    }
    Ok(file.hash.finalize().into())
}

/// Parses a line that is a JSON object. A field that is there twice is an error, because nobody knows which of the two is meant.
pub(super) fn object(line: &str) -> Result<Map<String, Value>, String> {
    match trivec::json::read(line) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("expected a JSON object".to_owned()),
        Err(e) => Err(format!("expected a JSON object: {}", trivec::json::fault_in_line(line, &e))),
    }
}

/// Reads pairs from lines or a list of JSON objects; `path` is only for errors.
fn jsonl(path: &Path, inner: impl Read) -> Result<RawPairs> {
    let mut pairs = Vec::new();
    let digest = records_of(path, inner, |number, text| {
        let wrong = |what: String| Error::line(path, number, what);
        let object = object(text).map_err(wrong)?;
        pairs.extend(pairs_of(&object).map_err(wrong)?);
        Ok(())
    })?;
    Ok(RawPairs { pairs, digest: hex(&digest), ..RawPairs::default() })
}

/// The pairs of one JSON object: one in this crate's own form, or one for each right answer in FlagEmbedding's.
fn pairs_of(object: &Map<String, Value>) -> Result<Vec<RawPair>, String> {
    let query = text(object, "query")?.ok_or("it has no `query`")?;
    if object.contains_key("pos") {
        return of_flag_embedding(object, query);
    }
    let passage = text(object, "passage")?.ok_or("it has neither a `passage` nor FlagEmbedding's `pos`")?;
    let negatives = texts(object, "negatives")?;
    if negatives.contains(&passage) {
        return Err(format!("its passage is among its negatives: `{}`", shown(&passage)));
    }
    let group = match object.get("group") {
        None | Some(Value::Null) => None,
        Some(Value::String(name)) => Some(name.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        Some(other) => return Err(format!("`group` is {other}, expected a text or a number")),
    };
    let score = object.get("score").filter(|value| !value.is_null()).map(|value| number(value, "score")).transpose()?;
    let negative_scores = numbers(object, "negative_scores", negatives.len())?;
    Ok(vec![RawPair { query, passage, negatives, group, score, negative_scores }])
}

/// One pair for every text in `pos`, each with all texts in `neg` as its negatives.
fn of_flag_embedding(object: &Map<String, Value>, query: String) -> Result<Vec<RawPair>, String> {
    let (positives, negatives) = (texts(object, "pos")?, texts(object, "neg")?);
    if positives.is_empty() {
        return Err("`pos` is empty".to_owned());
    }
    if let Some(both) = positives.iter().find(|text| negatives.contains(text)) {
        return Err(format!("a text is in `pos` and in `neg`: `{}`", shown(both)));
    }
    let scores = numbers(object, "pos_scores", positives.len())?;
    let negative_scores = numbers(object, "neg_scores", negatives.len())?;
    let pair = |(at, passage): (usize, String)| RawPair {
        query: query.clone(),
        passage,
        negatives: negatives.clone(),
        group: None,
        score: scores.get(at).copied(),
        negative_scores: negative_scores.clone(),
    };
    Ok(positives.into_iter().enumerate().map(pair).collect())
}

/// The text of a field; `None` if there is no such field.
pub(super) fn text(object: &Map<String, Value>, name: &str) -> Result<Option<String>, String> {
    match object.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(format!("`{name}` is {}, expected a text", kind(other))),
    }
}

/// The title of a document; `None` if it is missing, null or blank.
pub(super) fn title(object: &Map<String, Value>) -> Result<Option<String>, String> {
    match object.get("title") {
        Some(Value::Null) => Ok(None),
        _ => Ok(text(object, "title")?.filter(|title| !title.trim().is_empty())),
    }
}

/// The list of texts in a field; empty if the field is missing or null.
fn texts(object: &Map<String, Value>, name: &str) -> Result<Vec<String>, String> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(values)) => {
            let one = |value: &Value| match value {
                Value::String(text) => Ok(text.clone()),
                other => Err(format!("`{name}` has {}, expected texts", kind(other))),
            };
            values.iter().map(one).collect()
        }
        Some(other) => Err(format!("`{name}` is {}, expected a list of texts", kind(other))),
    }
}

/// A finite number; the error names the field `name`.
fn number(value: &Value, name: &str) -> Result<f32, String> {
    let number = value.as_f64().map(|x| x as f32).filter(|x| x.is_finite());
    number.ok_or_else(|| format!("`{name}` is {}, expected a finite number", kind(value)))
}

/// The list of `expected` numbers in a field; empty if the field is missing or null.
fn numbers(object: &Map<String, Value>, name: &str, expected: usize) -> Result<Vec<f32>, String> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(values)) if values.len() == expected => {
            values.iter().map(|value| number(value, name)).collect()
        }
        Some(Value::Array(values)) => Err(format!("`{name}` has {} numbers, expected {expected}", values.len())),
        Some(other) => Err(format!("`{name}` is {}, expected a list of numbers", kind(other))),
    }
}

/// What a message calls this kind of JSON value.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The identifier of a document or a query of BEIR, which is a text or a number.
fn id(object: &Map<String, Value>) -> Result<String, String> {
    match object.get("_id").or(object.get("id")) {
        Some(Value::String(id)) => Ok(id.clone()),
        Some(Value::Number(id)) => Ok(id.to_string()),
        _ => Err("it has no `_id`".to_owned()),
    }
}

/// What is in BEIR's `corpus.jsonl` or `queries.jsonl`.
struct BeirTexts {
    places: BTreeMap<String, usize>,
    all: Vec<String>,
    digest: [u8; 32],
}

/// Reads BEIR's `corpus.jsonl` or `queries.jsonl`: the texts in the file's order, the place of each identifier, and the file's digest.
fn beir_texts(path: &Path, with_title: bool) -> Result<BeirTexts> {
    let (mut places, mut all) = (BTreeMap::new(), Vec::new());
    let digest = records(path, |number, line| {
        let wrong = |what: String| Error::line(path, number, what);
        let object = object(line).map_err(wrong)?;
        let id = id(&object).map_err(wrong)?;
        let body = text(&object, "text").map_err(wrong)?.ok_or_else(|| wrong("it has no `text`".to_owned()))?;
        let title = if with_title { title(&object).map_err(wrong)? } else { None };
        // BEIR's own readers join the two by a space.
        let whole = title.map_or(body.clone(), |title| format!("{title} {body}"));
        if places.insert(id.clone(), all.len()).is_some() {
            return Err(wrong(format!("the id `{}` comes twice", shown(&id))));
        }
        all.push(whole);
        Ok(())
    })?;
    Ok(BeirTexts { places, all, digest })
}

/// Reads a directory in BEIR's layout: one pair for every judgement with a gain above 0.
fn read_beir(directory: &Path, split: Split) -> Result<RawPairs> {
    let BeirTexts { places: corpus_ids, all: corpus, digest: corpus_digest } =
        beir_texts(&directory.join("corpus.jsonl"), true)?;
    let BeirTexts { places: query_ids, all: queries, digest: query_digest } =
        beir_texts(&directory.join("queries.jsonl"), false)?;
    let qrels = qrels_path(directory, split)?;
    let mut pairs = Vec::new();
    let mut paired = BTreeSet::new();
    let mut first = true;
    let digest = records(&qrels, |number, line| {
        let may_be_names = std::mem::take(&mut first);
        let wrong = |what: String| Error::line(&qrels, number, what);
        // With tabs, an id may have spaces.
        let fields: Vec<&str> = match line.contains('\t') {
            true => line.split('\t').map(str::trim).collect(),
            false => line.split_whitespace().collect(),
        };
        let (query, document, gain) = match fields.as_slice() {
            [query, document, gain] | [query, _, document, gain] => (*query, *document, *gain),
            _ => return Err(wrong(format!("fields: found {}, expected query, document and gain", fields.len()))),
        };
        let Some(gain) = gain.parse::<f64>().ok().filter(|gain| gain.is_finite()) else {
            // The first line may have the names of the columns, in any words. A line with the id of a query or a document is a judgement.
            let is_known = query_ids.contains_key(query) || corpus_ids.contains_key(document);
            return match may_be_names && !is_known && !gain.is_empty() && gain.parse::<f64>().is_err() {
                true => Ok(()),
                false => Err(wrong(format!("the gain is `{}`, expected a finite number", shown(gain)))),
            };
        };
        if gain <= 0.0 {
            return Ok(());
        }
        let missing = |what: &str, id: &str| wrong(format!("there is no {what} with the id `{}`", shown(id)));
        let query_at = *query_ids.get(query).ok_or_else(|| missing("query", query))?;
        let passage_at = *corpus_ids.get(document).ok_or_else(|| missing("document", document))?;
        paired.insert(passage_at);
        pairs.push(RawPair {
            query: queries[query_at].clone(),
            passage: corpus[passage_at].clone(),
            ..RawPair::default()
        });
        Ok(())
    })?;
    let others = corpus.into_iter().enumerate().filter(|(at, _)| !paired.contains(at)).map(|(_, text)| text).collect();
    let all = Sha256::new().chain_update(corpus_digest).chain_update(query_digest).chain_update(digest).finalize();
    Ok(RawPairs { pairs, others, digest: hex(&all), unlabelled: 0 })
}

/// The first file of judgements that exists among those of the split.
fn qrels_path(directory: &Path, split: Split) -> Result<PathBuf> {
    let paths: Vec<PathBuf> =
        split.names().iter().map(|name| directory.join("qrels").join(format!("{name}.tsv"))).collect();
    let found = paths.iter().find(|path| path.is_file());
    found.cloned().ok_or_else(|| Error::io(&paths[0], std::io::ErrorKind::NotFound.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &[u8]) -> Result<RawPairs> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pairs");
        std::fs::write(&path, content).unwrap();
        read_pairs(&path, Split::Train)
    }

    #[test]
    fn pairs_are_read_from_lines_from_a_list_and_from_utf16() {
        let pair = |n: u8| format!("{{\"query\": \"q{n}\", \"passage\": \"мир {n}\"}}");
        let lines = format!("{}\r\n\n{}\n", pair(1), pair(2));
        let list = format!("[\n  {},\n  {}\n]\n", pair(1), pair(2));
        let wide: Vec<u8> = format!("\u{feff}{list}").encode_utf16().flat_map(u16::to_le_bytes).collect();
        let expected = read(lines.as_bytes()).unwrap();
        assert_eq!(expected.pairs.len(), 2);
        for content in [list.as_bytes(), &wide] {
            let found = read(content).unwrap();
            assert_eq!(found.pairs, expected.pairs);
            assert_eq!(found.digest, hex(&Sha256::digest(content)), "of the file as it is");
        }
        for (content, said) in [
            (format!("[{},\n 5]", pair(1)), "line 2: expected a JSON object"),
            ("[\n{}".to_owned(), "line 2: it has no `query`"),
            ("\u{1f}\u{8b}".to_owned(), "expected a JSON object"),
        ] {
            let error = read(content.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        let error = read(&wide[2..]).unwrap_err().to_string();
        assert!(error.contains("line 1: this is UTF-16LE without a byte order mark"), "{error}");
    }
}
