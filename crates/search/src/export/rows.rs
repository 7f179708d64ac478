//! Writes documents for engines that load text: for each document a line (two for Elasticsearch) in the engine's own format.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::files::{BATCH, BATCH_BYTES, Files};
use super::manifest::Manifest;
use super::source::Source;
use super::target::Target;
use crate::document::Document;
use crate::error::Result;

/// Longest text that a field of Milvus can have, in bytes.
const MILVUS_TEXT: usize = 65_535;
/// Longest id of Elasticsearch, in bytes.
const ELASTIC_ID: usize = 512;
/// The dimension of pgvector's sparse vectors: the size of XLM-RoBERTa's vocabulary, which is larger than every token id.
const SPARSE_DIMENSIONS: u32 = 250_002;

/// A document with its vectors.
struct Entry {
    document: Document,
    dense: Vec<f32>,
    sparse: Vec<(u32, f32)>,
    colbert: Vec<Vec<f32>>,
}

/// Writes the schema, if the target has one, and the documents of the rows `order`, in this order and in files of limited size.
pub(super) fn write(source: &Source<'_>, order: &[usize], files: &mut Files, manifest: &mut Manifest) -> Result<()> {
    if let Some((name, text)) = schema(source.target, manifest) {
        files.begin(name)?;
        files.write(text.as_bytes())?;
    }
    let (mut in_file, mut bytes, mut number) = (BATCH, 0, 0);
    for &row in order {
        let (colbert, cut) = source.colbert(row)?;
        let document = source.reader.stored(row)?.document;
        let mut entry = Entry { document, dense: source.dense(row)?, sparse: source.sparse(row)?, colbert };
        manifest.cut_colbert += u64::from(cut);
        manifest.with_sparse += u64::from(!entry.sparse.is_empty());
        match source.target {
            Target::Milvus => manifest.cut_texts += u64::from(cut_texts(&mut entry.document, MILVUS_TEXT)),
            Target::Pgvector => {
                manifest.replaced_characters += u64::from(replace_all(&mut entry.document, |c| c == '\0'));
            }
            Target::Vespa => {
                manifest.replaced_characters += u64::from(replace_all(&mut entry.document, |c| !vespa_takes(c)));
            }
            _ => {}
        }
        let line = match source.target {
            Target::Qdrant => qdrant(&entry).to_string(),
            Target::Milvus => milvus(&entry).to_string(),
            Target::Pgvector => pgvector(&entry),
            Target::Elasticsearch => elasticsearch(&entry),
            _ => vespa(&entry).to_string(),
        };
        if in_file == BATCH || bytes + line.len() + 1 > BATCH_BYTES {
            let ending = if source.target == Target::Pgvector { "tsv" } else { "jsonl" };
            files.begin(format!("documents-{number:06}.{ending}"))?;
            (in_file, bytes, number) = (0, 0, number + 1);
        }
        files.write(line.as_bytes())?;
        files.write(b"\n")?;
        in_file += 1;
        bytes += line.len() + 1;
    }
    Ok(())
}

/// Cuts text and title to at most `most` bytes, between characters. Returns whether one of them was longer.
fn cut_texts(document: &mut Document, most: usize) -> bool {
    let cut = |text: &mut String| {
        let longer = text.len() > most;
        let end = (0..=most.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
        text.truncate(end.unwrap_or(0));
        longer
    };
    cut(&mut document.text) | document.title.as_mut().is_some_and(cut)
}

/// Replaces the characters for which `bad` is true by `U+FFFD` in text, title and metadata. (Keys have no control characters.) Returns
/// whether there were any.
fn replace_all(document: &mut Document, bad: impl Fn(char) -> bool + Copy) -> bool {
    fn in_value(value: &mut Value, bad: impl Fn(char) -> bool + Copy) -> bool {
        match value {
            Value::String(text) => replace(text, bad),
            Value::Array(list) => list.iter_mut().fold(false, |found, item| in_value(item, bad) | found),
            Value::Object(map) => in_object(map, bad),
            _ => false,
        }
    }
    fn in_object(map: &mut Map<String, Value>, bad: impl Fn(char) -> bool + Copy) -> bool {
        let mut found = false;
        *map = std::mem::take(map)
            .into_iter()
            .map(|(mut name, mut content)| {
                found |= replace(&mut name, bad) | in_value(&mut content, bad);
                (name, content)
            })
            .collect();
        found
    }
    let texts = replace(&mut document.text, bad) | document.title.as_mut().is_some_and(|title| replace(title, bad));
    texts | in_object(&mut document.metadata, bad)
}

/// Replaces the characters of a text for which `bad` is true by `U+FFFD`. Returns whether there were any.
fn replace(text: &mut String, bad: impl Fn(char) -> bool) -> bool {
    let found = text.contains(&bad);
    if found {
        *text = text.chars().map(|c| if bad(c) { char::REPLACEMENT_CHARACTER } else { c }).collect();
    }
    found
}

/// Whether Vespa accepts a character in a string: all except noncharacters and control characters other than tab, line feed and carriage
/// return.
fn vespa_takes(c: char) -> bool {
    match c {
        '\t' | '\n' | '\r' => true,
        c => c >= ' ' && c != '\u{7f}' && !('\u{fdd0}'..='\u{fdef}').contains(&c) && c as u32 & 0xFFFE != 0xFFFE,
    }
}

/// The name and content of the file that declares the fields to the engine, for targets that have one.
fn schema(target: Target, manifest: &Manifest) -> Option<(&'static str, String)> {
    let dim = manifest.dense_dim;
    match target {
        Target::Pgvector => Some((
            "schema.sql",
            include_str!("load/schema.sql")
                .replace("DENSE_DIM", &dim.to_string())
                .replace("SPARSE_DIM", &SPARSE_DIMENSIONS.to_string()),
        )),
        Target::Elasticsearch => {
            Some(("mapping.json", include_str!("load/mapping.json").replace("\"DENSE_DIM\"", &dim.to_string())))
        }
        Target::Vespa => {
            let colbert = manifest.colbert_dim.unwrap_or(dim);
            let text = include_str!("load/entry.sd").replace("DENSE_DIM", &dim.to_string());
            Some(("entry.sd", text.replace("COLBERT_DIM", &colbert.to_string())))
        }
        _ => None,
    }
}

/// The fields of a document that are neither vectors nor metadata.
fn fields(document: &Document) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("key".to_owned(), document.key.clone().into());
    fields.insert("text".to_owned(), document.text.clone().into());
    let others = [("title", &document.title), ("lang", &document.lang), ("document", &document.document)];
    for (name, value) in others {
        if let Some(value) = value {
            fields.insert(name.to_owned(), value.clone().into());
        }
    }
    fields
}

/// A UUID made of a key, for engines whose ids must be numbers, UUIDs or short. It is of version 8, which leaves the hash to the
/// application.
fn uuid(key: &str) -> String {
    let mut bytes: [u8; 16] = [0; 16];
    bytes.iter_mut().zip(Sha256::digest(key.as_bytes())).for_each(|(to, from)| *to = from);
    bytes[6] = bytes[6] & 0x0F | 0x80;
    bytes[8] = bytes[8] & 0x3F | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// A JSON object of weights, whose names are the token ids.
fn by_token(sparse: &[(u32, f32)]) -> Value {
    sparse.iter().map(|(id, weight)| (id.to_string(), json!(weight))).collect::<Map<_, _>>().into()
}

/// A ColBERT row with five decimals, because digits take space, and the stored row was rounded far more coarsely than that.
fn short(row: &[f32]) -> Value {
    row.iter().map(|&x| json!((f64::from(x) * 1e5).round() / 1e5)).collect()
}

/// A point of Qdrant.
fn qdrant(entry: &Entry) -> Value {
    let mut vector = Map::new();
    vector.insert("dense".to_owned(), json!(entry.dense));
    if !entry.sparse.is_empty() {
        let (indices, values): (Vec<u32>, Vec<f32>) = entry.sparse.iter().copied().unzip();
        vector.insert("sparse".to_owned(), json!({ "indices": indices, "values": values }));
    }
    if !entry.colbert.is_empty() {
        vector.insert("colbert".to_owned(), entry.colbert.iter().map(|row| short(row)).collect());
    }
    // Metadata is on the same level as the document's own fields, where filters find it. It cannot have their names.
    let mut payload = entry.document.metadata.clone();
    payload.extend(fields(&entry.document));
    json!({ "id": uuid(&entry.document.key), "vector": vector, "payload": payload })
}

/// A row of Milvus.
fn milvus(entry: &Entry) -> Value {
    let mut row = fields(&entry.document);
    row.insert("metadata".to_owned(), entry.document.metadata.clone().into());
    row.insert("dense".to_owned(), json!(entry.dense));
    if !entry.sparse.is_empty() {
        row.insert("sparse".to_owned(), by_token(&entry.sparse));
    }
    row.into()
}

/// A line of `COPY`'s text format: tabs between columns, `\N` for no value, and a backslash escape for backslashes, tabs and line ends.
fn pgvector(entry: &Entry) -> String {
    let escaped = |text: &str| {
        text.chars().fold(String::new(), |mut out, c| {
            match c {
                '\\' => out.push_str("\\\\"),
                '\t' => out.push_str("\\t"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                c => out.push(c),
            }
            out
        })
    };
    let optional = |text: &Option<String>| text.as_deref().map_or("\\N".to_owned(), escaped);
    let numbers: Vec<String> = entry.dense.iter().map(f32::to_string).collect();
    // pgvector's ids begin at 1.
    let pairs: Vec<String> = entry.sparse.iter().map(|(id, weight)| format!("{}:{weight}", id + 1)).collect();
    let sparse =
        if pairs.is_empty() { "\\N".to_owned() } else { format!("{{{}}}/{SPARSE_DIMENSIONS}", pairs.join(",")) };
    let document = &entry.document;
    [
        uuid(&document.key),
        escaped(&document.key),
        optional(&document.document),
        escaped(&document.text),
        optional(&document.title),
        optional(&document.lang),
        escaped(&Value::Object(document.metadata.clone()).to_string()),
        format!("[{}]", numbers.join(",")),
        sparse,
    ]
    .join("\t")
}

/// Two lines of a bulk request.
fn elasticsearch(entry: &Entry) -> String {
    let mut row = fields(&entry.document);
    if !entry.document.metadata.is_empty() {
        row.insert("metadata".to_owned(), entry.document.metadata.clone().into());
    }
    row.insert("dense".to_owned(), json!(entry.dense));
    if !entry.sparse.is_empty() {
        row.insert("sparse".to_owned(), by_token(&entry.sparse));
    }
    let key = &entry.document.key;
    let id = if key.len() <= ELASTIC_ID { key.clone() } else { uuid(key) };
    format!("{}\n{}", json!({ "index": { "_id": id } }), Value::Object(row))
}

/// A `put` operation of Vespa's feed.
fn vespa(entry: &Entry) -> Value {
    let document = &entry.document;
    let mut row = fields(document);
    row.insert("metadata".to_owned(), Value::Object(document.metadata.clone()).to_string().into());
    row.insert("dense".to_owned(), json!({ "values": entry.dense }));
    if !entry.sparse.is_empty() {
        row.insert("sparse".to_owned(), json!({ "cells": by_token(&entry.sparse) }));
    }
    if !entry.colbert.is_empty() {
        let rows = entry.colbert.iter().enumerate();
        let blocks: Map<String, Value> = rows.map(|(place, row)| (place.to_string(), short(row))).collect();
        row.insert("colbert".to_owned(), json!({ "blocks": blocks }));
    }
    json!({ "put": format!("id:trivec:entry::{}", document.key), "fields": row })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_for_copy_are_escaped_and_weights_that_are_missing_are_left_out() {
        let mut document = Document::new("a\\b", "one\ttwo\nthree\0").with_field("x", "\0");
        assert!(replace_all(&mut document, |c| c == '\0') && !replace_all(&mut document, |c| c == '\0'));
        let entry = Entry { document, dense: vec![0.5, -1.0], sparse: vec![(0, 0.25), (7, 1.0)], colbert: Vec::new() };
        let rest =
            "a\\\\b\t\\N\tone\\ttwo\\nthree\u{fffd}\t\\N\t\\N\t{\"x\":\"\u{fffd}\"}\t[0.5,-1]\t{1:0.25,8:1}/250002";
        assert_eq!(pgvector(&entry), format!("{}\t{rest}", uuid("a\\b")));
        let empty = Entry { sparse: Vec::new(), ..entry };
        assert!(pgvector(&empty).ends_with("\t\\N") && qdrant(&empty)["vector"].get("sparse").is_none());
        assert!(milvus(&empty).get("sparse").is_none() && vespa(&empty)["fields"].get("sparse").is_none());
        assert!(!elasticsearch(&empty).contains("sparse"));
    }

    #[test]
    fn texts_ids_and_characters_beyond_the_limits_of_engines_are_cut_or_replaced() {
        let mut document = Document::new("k", "ä".repeat(40_000)).with_field("deep", json!([{ "a": ["\u{b}"] }]));
        assert!(cut_texts(&mut document, MILVUS_TEXT) && document.text.len() == MILVUS_TEXT - 1);
        assert!(!cut_texts(&mut document, MILVUS_TEXT));
        assert!(replace_all(&mut document, |c| !vespa_takes(c)));
        assert_eq!(document.metadata["deep"], json!([{ "a": ["\u{fffd}"] }]));
        assert!(['\u{fffe}', '\u{1ffff}', '\u{fdd0}', '\u{7f}', '\0'].iter().all(|&c| !vespa_takes(c)));
        assert!(['a', '\n', '中', '\u{fffd}', '\u{1f600}'].iter().all(|&c| vespa_takes(c)));
        let long = Entry {
            document: Document::new("k".repeat(513), "t"),
            dense: vec![1.0],
            sparse: Vec::new(),
            colbert: Vec::new(),
        };
        assert!(elasticsearch(&long).contains(&format!("\"_id\":\"{}\"", uuid(&"k".repeat(513)))));
    }

    #[test]
    fn ids_are_uuids_of_the_key() {
        let id = uuid("doc-1");
        assert_eq!((id.len(), id.matches('-').count(), &id[14..15]), (36, 4, "8"));
        assert!(id == uuid("doc-1") && id != uuid("doc-2"));
    }
}
