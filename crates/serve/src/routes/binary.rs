//! Answers in binary forms instead of JSON: raw f32, npy, or safetensors.

use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use safetensors::Dtype;
use serde_json::json;

use super::rows;
use crate::answer::{self, Step, Steps};
use crate::app::App;
use crate::error::{ApiError, Result};
use crate::header_fields;
use trivec::{Embedding, Modes};

/// The binary form that the client accepts instead of JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Little-endian f32: dense vectors `[texts, dim]`, or the ColBERT vectors of all texts, one after another.
    Raw,
    Npy,
    Safetensors,
}

impl Form {
    /// Reads from `Accept` the form that the client prefers. `None` stands for JSON, which is also the answer to a client that names none of
    /// the types on offer.
    ///
    /// # Errors
    /// Status 406 if `Accept` excludes JSON (`q=0`) and accepts none of the other types.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Form>> {
        let offers = [
            ("application/json", None),
            ("application/octet-stream", Some(Form::Raw)),
            ("application/x-npy", Some(Form::Npy)),
            ("application/npy", Some(Form::Npy)),
            ("application/x-safetensors", Some(Form::Safetensors)),
            ("application/safetensors", Some(Form::Safetensors)),
        ];
        header_fields::preferred(headers, &offers).ok_or_else(|| {
            let what = "`Accept` excludes every form there is, expected one of application/json, application/octet-stream, \
                        application/x-npy and application/x-safetensors";
            ApiError::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", what)
        })
    }

    /// Refuses lexical weights, which have no binary form, and dense and ColBERT vectors together, which only safetensors can hold.
    pub(super) fn check(self, modes: Modes) -> Result<()> {
        if modes.sparse {
            return Err(ApiError::invalid("sparse", "lexical weights have no binary form: ask for JSON"));
        }
        if self != Form::Safetensors && modes.dense && modes.colbert {
            let what = "raw and npy answers hold one array: ask for dense or for colbert, or accept safetensors";
            return Err(ApiError::invalid("colbert", what));
        }
        Ok(())
    }

    /// Answers with dense vectors, or with ColBERT vectors if only those are asked for; in safetensors also with both.
    pub(super) fn answer(self, app: &App, embeddings: Vec<Embedding>, modes: Modes) -> Result<Response> {
        let arrays = Arrays::of(&embeddings, modes);
        let (kind, head) = match self {
            Form::Raw => ("application/octet-stream", Vec::new()),
            Form::Npy => {
                let (rows, dim) = if modes.dense { arrays.dense } else { arrays.colbert };
                ("application/x-npy", npy_header(rows, dim))
            }
            Form::Safetensors => ("application/x-safetensors", safetensors_head(&embeddings, modes, &arrays)?),
        };
        let length = (head.len() + arrays.bytes()) as u64;
        // The dense array comes first, then the ColBERT array, each text by text.
        let dense = answer::steps(vec![if modes.dense { embeddings.len() } else { 0 }], 1).map(|step| (false, step));
        let steps = dense.chain(rows::steps(&embeddings).map(|step| (true, step)));
        let write = move |(colbert, step): (bool, Step), out: &mut Vec<u8>| match step {
            Step::Rows(text, range) if colbert => rows::append_bytes(&embeddings[text], range, out),
            Step::Rows(_, texts) => {
                for text in texts {
                    rows::append_f32(embeddings[text].dense.as_deref().unwrap_or_default(), out);
                }
            }
            _ => {}
        };
        app.answer(kind, Some(length), Steps::begun_by(move |out| out.extend_from_slice(&head), steps, write))
    }
}

/// The numbers of rows and columns of an answer's arrays; 0 if the answer does not have the array.
struct Arrays {
    dense: (usize, usize),
    colbert: (usize, usize),
}

impl Arrays {
    fn of(embeddings: &[Embedding], modes: Modes) -> Arrays {
        let dense = embeddings.first().and_then(|e| e.dense.as_ref()).filter(|_| modes.dense).map_or(0, Vec::len);
        let rows = embeddings.iter().flat_map(|e| e.colbert.as_ref()).map(|rows| rows.rows()).sum();
        let colbert = embeddings.first().and_then(|e| e.colbert.as_ref()).map_or(0, |rows| rows.dim());
        Arrays { dense: (if modes.dense { embeddings.len() } else { 0 }, dense), colbert: (rows, colbert) }
    }

    /// Bytes of all values.
    fn bytes(&self) -> usize {
        4 * (self.dense.0 * self.dense.1 + self.colbert.0 * self.colbert.1)
    }
}

/// The header of an f32 array `[rows, dim]` in npy format 1.0.
fn npy_header(rows: usize, dim: usize) -> Vec<u8> {
    let mut text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dim}), }}");
    // Spaces and a line end put the data at a multiple of 64.
    let padded = (10 + text.len() + 1).next_multiple_of(64) - 10;
    text.extend(std::iter::repeat_n(' ', padded - 1 - text.len()));
    text.push('\n');
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend((text.len() as u16).to_le_bytes());
    header.extend(text.into_bytes());
    header
}

/// The beginning of a safetensors file: its header, and the array `colbert_offsets` `[texts + 1]`, which says at which row each text begins.
/// The caller writes the f32 arrays after it: `dense` `[texts, dim]`, then `colbert` `[rows, dim]`.
fn safetensors_head(embeddings: &[Embedding], modes: Modes, arrays: &Arrays) -> Result<Vec<u8>> {
    let mut offsets = vec![0i64];
    if modes.colbert {
        for e in embeddings {
            offsets.push(offsets[offsets.len() - 1] + e.colbert.as_ref().map_or(0, |rows| rows.rows()) as i64);
        }
    }
    let mut names: Vec<(&str, Dtype, Vec<usize>, usize)> = Vec::new();
    if modes.colbert {
        names.push(("colbert_offsets", Dtype::I64, vec![offsets.len()], 8 * offsets.len()));
    }
    let f32_array = |name, (rows, dim): (usize, usize)| (name, Dtype::F32, vec![rows, dim], 4 * rows * dim);
    if modes.dense {
        names.push(f32_array("dense", arrays.dense));
    }
    if modes.colbert {
        names.push(f32_array("colbert", arrays.colbert));
    }
    let mut header = serde_json::Map::new();
    let mut at = 0;
    for (name, dtype, shape, bytes) in names {
        let of = json!({"dtype": dtype, "shape": shape, "data_offsets": [at, at + bytes]});
        header.insert(name.to_owned(), of);
        at += bytes;
    }
    let mut header = serde_json::to_vec(&header).map_err(|_| ApiError::internal())?;
    // Spaces put the arrays at a multiple of 8.
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut head = (header.len() as u64).to_le_bytes().to_vec();
    head.extend(header);
    if modes.colbert {
        head.extend(offsets.iter().flat_map(|x| x.to_le_bytes()));
    }
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn npy_data_begins_at_a_multiple_of_64() {
        for (rows, dim) in [(1, 1), (123_456, 1024), (0, 0)] {
            let header = npy_header(rows, dim);
            assert!(header.len().is_multiple_of(64) && header.ends_with(b"\n"), "{rows} {dim}");
            let text = String::from_utf8_lossy(&header[10..]).into_owned();
            assert!(text.contains(&format!("({rows}, {dim})")), "{text}");
        }
    }
}
