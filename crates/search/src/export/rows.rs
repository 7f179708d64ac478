//! Documents as rows of engines.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{BATCH, BATCH_BYTES, Files, Manifest, Target, sparse};
use crate::document::Document;
use crate::error::Result;
use crate::reader::Reader;

/// Most ColBERT rows that Qdrant takes of a point.
const QDRANT_ROWS: usize = 1_023;

/// A document with its vectors.
struct Entry {
    document: Document,
    dense: Vec<f32>,
    sparse: Vec<(u32, f32)>,
    colbert: Vec<Vec<f32>>,
}

pub(super) fn write(
    reader: &Reader,
    order: &[usize],
    target: Target,
    files: &mut Files,
    manifest: &mut Manifest,
) -> Result<()> {
    let dim = reader.index.settings.dense_dim;
    if target == Target::Pgvector {
        files.begin("schema.sql".to_owned())?;
        files.write(schema(dim).as_bytes())?;
    }
    let (mut in_file, mut bytes, mut number) = (BATCH, 0, 0);
    for &row in order {
        let mut entry = Entry {
            document: reader.stored(row)?.document,
            dense: vec![0.0; dim],
            sparse: sparse(reader, row)?,
            colbert: Vec::new(),
        };
        let (segment, local) = reader.place(row)?;
        segment.dense16.read(local, &mut entry.dense)?;
        if let (Target::Qdrant | Target::Vespa, Some(colbert)) = (target, &segment.colbert) {
            entry.colbert = colbert.vectors(local)?;
            if target == Target::Qdrant && entry.colbert.len() > QDRANT_ROWS {
                entry.colbert.truncate(QDRANT_ROWS);
                manifest.cut_colbert += 1;
            }
        }
        manifest.with_sparse += u64::from(!entry.sparse.is_empty());
        let line = match target {
            Target::Qdrant => qdrant(&entry).to_string(),
            Target::Milvus => milvus(&entry).to_string(),
            Target::Pgvector => pgvector(&entry),
            Target::Elasticsearch => elasticsearch(&entry),
            Target::Vespa | Target::Npy => vespa(&entry).to_string(),
        };
        if in_file == BATCH || bytes + line.len() + 1 > BATCH_BYTES {
            let ending = if target == Target::Pgvector { "tsv" } else { "jsonl" };
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

/// The fields of a document that are not vectors.
fn fields(document: &Document) -> Map<String, Value> {
    let mut fields = document.metadata.clone();
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

/// A UUID made of a key (version 8: by a hash of our own choice), for engines whose ids are numbers or UUIDs.
fn uuid(key: &str) -> String {
    let mut bytes: [u8; 16] = [0; 16];
    bytes.iter_mut().zip(Sha256::digest(key.as_bytes())).for_each(|(to, from)| *to = from);
    bytes[6] = bytes[6] & 0x0F | 0x80;
    bytes[8] = bytes[8] & 0x3F | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

fn qdrant(entry: &Entry) -> Value {
    let mut vector = Map::new();
    vector.insert("dense".to_owned(), json!(entry.dense));
    if !entry.sparse.is_empty() {
        let (indices, values): (Vec<u32>, Vec<f32>) = entry.sparse.iter().copied().unzip();
        vector.insert("sparse".to_owned(), json!({ "indices": indices, "values": values }));
    }
    if !entry.colbert.is_empty() {
        vector.insert("colbert".to_owned(), json!(entry.colbert));
    }
    json!({ "id": uuid(&entry.document.key), "vector": vector, "payload": fields(&entry.document) })
}

fn milvus(entry: &Entry) -> Value {
    let mut row = fields(&entry.document);
    row.insert("dense".to_owned(), json!(entry.dense));
    if !entry.sparse.is_empty() {
        let weights: Map<String, Value> =
            entry.sparse.iter().map(|(id, weight)| (id.to_string(), json!(weight))).collect();
        row.insert("sparse".to_owned(), weights.into());
    }
    row.into()
}

/// A line of `COPY`'s text format: tabs between columns, `\N` for nothing, backslashes before what would be a sign.
fn pgvector(entry: &Entry) -> String {
    let escaped = |text: &str| {
        text.chars().fold(String::new(), |mut out, c| {
            match c {
                '\\' => out.push_str("\\\\"),
                '\t' => out.push_str("\\t"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                // Text of PostgreSQL has no NUL.
                '\0' => out.push('\u{fffd}'),
                c => out.push(c),
            }
            out
        })
    };
    let optional = |text: &Option<String>| text.as_deref().map_or("\\N".to_owned(), escaped);
    let numbers: Vec<String> = entry.dense.iter().map(f32::to_string).collect();
    // Ids begin at 1 there.
    let pairs: Vec<String> = entry.sparse.iter().map(|(id, weight)| format!("{}:{weight}", id + 1)).collect();
    let sparse =
        if pairs.is_empty() { "\\N".to_owned() } else { format!("{{{}}}/{SPARSE_DIMENSIONS}", pairs.join(",")) };
    let document = &entry.document;
    [
        escaped(&document.key),
        escaped(&document.text),
        optional(&document.title),
        optional(&document.lang),
        escaped(&Value::Object(document.metadata.clone()).to_string()),
        format!("[{}]", numbers.join(",")),
        sparse,
    ]
    .join("\t")
}

/// XLM-RoBERTa's vocabulary: more than any id.
const SPARSE_DIMENSIONS: u32 = 250_002;

fn schema(dim: usize) -> String {
    format!(
        "CREATE EXTENSION IF NOT EXISTS vector;\n\
         CREATE TABLE documents (\n    key text PRIMARY KEY,\n    text text NOT NULL,\n    title text,\n    lang text,\n    metadata jsonb NOT NULL,\n    \
         dense vector({dim}) NOT NULL,\n    sparse sparsevec({SPARSE_DIMENSIONS})\n);\n\
         -- \\copy documents FROM 'documents-000000.tsv'\n\
         -- SELECT key FROM documents ORDER BY dense <=> (SELECT dense FROM documents WHERE key = '…') LIMIT 10;\n"
    )
}

/// Two lines of a bulk request.
fn elasticsearch(entry: &Entry) -> String {
    let mut row = fields(&entry.document);
    row.insert("dense".to_owned(), json!(entry.dense));
    if !entry.sparse.is_empty() {
        let weights: Map<String, Value> =
            entry.sparse.iter().map(|(id, weight)| (id.to_string(), json!(weight))).collect();
        row.insert("sparse".to_owned(), weights.into());
    }
    let action = json!({ "index": { "_id": entry.document.key } });
    format!("{action}\n{}", Value::Object(row))
}

fn vespa(entry: &Entry) -> Value {
    let document = &entry.document;
    let mut row = Map::new();
    row.insert("key".to_owned(), document.key.clone().into());
    row.insert("text".to_owned(), document.text.clone().into());
    for (name, value) in [("title", &document.title), ("lang", &document.lang)] {
        if let Some(value) = value {
            row.insert(name.to_owned(), value.clone().into());
        }
    }
    row.insert("metadata".to_owned(), Value::Object(document.metadata.clone()).to_string().into());
    row.insert("dense".to_owned(), json!({ "values": entry.dense }));
    let cells: Map<String, Value> = entry.sparse.iter().map(|(id, weight)| (id.to_string(), json!(weight))).collect();
    row.insert("sparse".to_owned(), json!({ "cells": cells }));
    if !entry.colbert.is_empty() {
        let blocks: Map<String, Value> =
            entry.colbert.iter().enumerate().map(|(i, row)| (i.to_string(), json!(row))).collect();
        row.insert("colbert".to_owned(), json!({ "blocks": blocks }));
    }
    json!({ "put": format!("id:trivec:document::{}", document.key), "fields": row })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_copy_have_no_bare_signs() {
        let document = Document::new("a\\b", "one\ttwo\nthree\0");
        let entry = Entry { document, dense: vec![0.5, -1.0], sparse: vec![(0, 0.25), (7, 1.0)], colbert: Vec::new() };
        assert_eq!(pgvector(&entry), "a\\\\b\tone\\ttwo\\nthree\u{fffd}\t\\N\t\\N\t{}\t[0.5,-1]\t{1:0.25,8:1}/250002");
        let empty = Entry { sparse: Vec::new(), ..entry };
        assert!(pgvector(&empty).ends_with("\t\\N") && qdrant(&empty)["vector"].get("sparse").is_none());
        assert!(milvus(&empty).get("sparse").is_none());
    }

    #[test]
    fn ids_are_uuids_of_the_key() {
        let id = uuid("doc-1");
        assert_eq!((id.len(), id.matches('-').count(), &id[14..15]), (36, 4, "8"));
        assert!(id == uuid("doc-1") && id != uuid("doc-2"));
    }
}
