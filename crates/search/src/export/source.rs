//! Reads the vectors of an index as an export writes them.

use super::target::Target;
use crate::error::Result;
use crate::reader::Reader;

/// The largest number of ColBERT rows that Qdrant accepts for a point.
const QDRANT_ROWS: usize = 1_023;

/// The vectors of an index as an export has them.
pub(super) struct Source<'a> {
    pub(super) reader: &'a Reader,
    pub(super) target: Target,
}

impl Source<'_> {
    /// Whether the export has ColBERT rows: the index must store them, and the target must have a use for them.
    pub(super) fn takes_colbert(&self) -> bool {
        let stored = self.reader.index.settings.modes().colbert;
        stored && !matches!(self.target, Target::Milvus | Target::Pgvector | Target::Elasticsearch)
    }

    /// The dense vector of a row from the f16 file, normalised again, because rounding to f16 has changed its length a little.
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

    /// The lexical weights of a row: pairs of token id and weight, ids ascending, weights above 0 and finite.
    pub(super) fn sparse(&self, row: usize) -> Result<Vec<(u32, f32)>> {
        let (segment, local) = self.reader.place(row)?;
        let Some(lexical) = &segment.lexical else { return Ok(Vec::new()) };
        let (ids, weights) = lexical.document(local)?;
        let weights = weights.iter().map(|&weight| half::f16::from_bits(weight).to_f32());
        Ok(ids.iter().copied().zip(weights).filter(|&(_, weight)| weight > 0.0 && weight.is_finite()).collect())
    }

    /// The token vectors of a row, at most as many as the target accepts, and whether some were left out.
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
