//! Answers without JSON: raw f32, npy, or safetensors.

use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::native::bytes_answer;
use crate::embedding::{Embedding, Modes};
use crate::server::error::{ApiError, Result};
use crate::server::header_fields;

/// What the client accepts instead of JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `[texts, dim]` little-endian f32; of ColBERT the rows of all texts, one after another.
    Raw,
    Npy,
    Safetensors,
}

impl Form {
    /// The one that `Accept` prefers to JSON, which is `None`.
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

    /// Dense vectors, or ColBERT rows where those alone are asked for; safetensors takes both.
    pub(super) fn answer(self, embeddings: &[Embedding], modes: Modes) -> Result<Response> {
        if modes.sparse {
            return Err(ApiError::invalid("sparse", "lexical weights have no binary form: ask for JSON"));
        }
        let dense: Vec<f32> = embeddings.iter().flat_map(|e| e.dense.iter().flatten()).copied().collect();
        let colbert: Vec<f32> =
            embeddings.iter().flat_map(|e| e.colbert.iter().flat_map(|rows| rows.as_slice())).copied().collect();
        let dense_dim = embeddings.first().and_then(|e| e.dense.as_ref()).map_or(0, Vec::len);
        let colbert_dim = embeddings.first().and_then(|e| e.colbert.as_ref()).map_or(0, |rows| rows.dim());
        if self == Form::Safetensors {
            return safetensors_answer(embeddings, modes, (&dense, dense_dim), (&colbert, colbert_dim));
        }
        if modes.dense && modes.colbert {
            let what = "raw and npy answers hold one array: ask for dense or for colbert, or accept safetensors";
            return Err(ApiError::invalid("colbert", what));
        }
        let (values, dim) = if modes.dense { (dense, dense_dim) } else { (colbert, colbert_dim) };
        let bytes = values.iter().flat_map(|x| x.to_le_bytes());
        Ok(match self {
            Form::Npy => {
                let rows = values.len().checked_div(dim).unwrap_or(0);
                bytes_answer(npy_header(rows, dim).into_iter().chain(bytes).collect(), "application/x-npy")
            }
            _ => bytes_answer(bytes.collect(), "application/octet-stream"),
        })
    }
}

/// The header of format 1.0 of an f32 array `[rows, dim]`.
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

/// `dense` `[texts, dim]`; `colbert` `[rows, dim]` with `colbert_offsets` `[texts + 1]`, where each text's rows begin.
fn safetensors_answer(
    embeddings: &[Embedding],
    modes: Modes,
    (dense, dense_dim): (&[f32], usize),
    (colbert, colbert_dim): (&[f32], usize),
) -> Result<Response> {
    let failed = |e: safetensors::SafeTensorError| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "engine_error", e.to_string())
    };
    let bytes = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let mut parts: Vec<(&str, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    if modes.dense {
        parts.push(("dense", Dtype::F32, vec![embeddings.len(), dense_dim], bytes(dense)));
    }
    if modes.colbert {
        let mut offsets = vec![0i64];
        for e in embeddings {
            offsets.push(offsets[offsets.len() - 1] + e.colbert.as_ref().map_or(0, |rows| rows.rows()) as i64);
        }
        let rows = colbert.len().checked_div(colbert_dim).unwrap_or(0);
        parts.push(("colbert", Dtype::F32, vec![rows, colbert_dim], bytes(colbert)));
        let offsets_bytes = offsets.iter().flat_map(|x| x.to_le_bytes()).collect();
        parts.push(("colbert_offsets", Dtype::I64, vec![offsets.len()], offsets_bytes));
    }
    let mut views = Vec::new();
    for (name, dtype, shape, bytes) in &parts {
        views.push((*name, TensorView::new(*dtype, shape.clone(), bytes).map_err(failed)?));
    }
    let file = safetensors::serialize(views, None).map_err(failed)?;
    Ok(bytes_answer(file, "application/x-safetensors"))
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
