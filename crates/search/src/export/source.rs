//! The vectors of an index as an export has them.

use super::target::Target;
use crate::error::Result;
use crate::reader::Reader;

/// Most ColBERT rows of a point in Qdrant.
const QDRANT_ROWS: usize = 1_023;

/// The vectors of an index as an export has them.
pub(super) struct Source<'a> {
    pub(super) reader: &'a Reader,
    pub(super) target: Target,
}

impl Source<'_> {
    /// Whether the target is given ColBERT rows that are stored.
    pub(super) fn takes_colbert(&self) -> bool {
        let stored = self.reader.index.settings.modes().colbert;
        stored && !matches!(self.target, Target::Milvus | Target::Pgvector | Target::Elasticsearch)
    }

    /// A dense vector, normalised again, because rounding to f16 has changed its length a little.
    pub(super) fn dense(&self, row: usize) -> Result<Vec<f32>> {
        let mut vector = vec![0.0f32; self.reader.index.settings.dense_dim];
        let (segment, local) = self.reader.place(row)?;
        segment.dense16.read(local, &mut vector)?;
        let norm = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
        if norm > 0.0 {
            vector.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
        }
        Ok(vector)
    }

    /// A document's lexical weights, ids ascending.
    pub(super) fn sparse(&self, row: usize) -> Result<Vec<(u32, f32)>> {
        let (segment, local) = self.reader.place(row)?;
        let Some(lexical) = &segment.lexical else { return Ok(Vec::new()) };
        let (ids, weights) = lexical.document(local)?;
        let weights = weights.iter().map(|&weight| half::f16::from_bits(weight).to_f32());
        Ok(ids.iter().copied().zip(weights).filter(|&(_, weight)| weight > 0.0 && weight.is_finite()).collect())
    }

    /// A document's ColBERT rows, as many as the target takes, and whether there are more.
    pub(super) fn colbert(&self, row: usize) -> Result<(Vec<Vec<f32>>, bool)> {
        let (segment, local) = self.reader.place(row)?;
        let Some(colbert) = segment.colbert.as_ref().filter(|_| self.takes_colbert()) else {
            return Ok((Vec::new(), false));
        };
        let mut rows = colbert.vectors(local)?;
        let more = self.target == Target::Qdrant && rows.len() > QDRANT_ROWS;
        if more {
            rows.truncate(QDRANT_ROWS);
        }
        Ok((rows, more))
    }
}
