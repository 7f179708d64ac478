//! The lexical arm: the product of a query's weights with those of every document that shares a token with it, by accumulators.

use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use trivec::LexicalWeights;

use super::topk::{Scored, TopK};
use crate::bits::Bits;
use crate::error::Result;
use crate::reader::Reader;

/// Rows whose sums are gathered at a time: they stay in the second-level cache.
const BLOCK: usize = 1 << 16;

/// The `k` best of the selected rows that share a token with the query.
pub(crate) fn search(reader: &Reader, query: &LexicalWeights, selected: &Bits, k: usize) -> Result<Vec<Scored>> {
    let mut best = TopK::new(k);
    let mut sums: Vec<f32> = Vec::new();
    let mut widened: Vec<f32> = Vec::new();
    for (index, segment) in reader.segments().iter().enumerate() {
        let Some(lexical) = &segment.lexical else { continue };
        // Ascending ids, so that a document's sum has one order whatever else is there.
        let mut lists = Vec::new();
        for (id, weight) in query.iter() {
            let (rows, weights) = lexical.postings(id)?;
            if !rows.is_empty() {
                lists.push((rows, weights, weight));
            }
        }
        let (base, rows) = (reader.bases()[index], segment.record.rows as usize);
        for from in (0..rows).step_by(BLOCK) {
            let to = rows.min(from + BLOCK);
            if !selected.any(base + from, base + to) {
                continue;
            }
            sums.clear();
            sums.resize(to - from, 0.0);
            for &(rows, weights, of_query) in &lists {
                let start = rows.partition_point(|&row| (row as usize) < from);
                let end = start + rows[start..].partition_point(|&row| (row as usize) < to);
                widened.resize(end - start, 0.0);
                weights[start..end].reinterpret_cast::<f16>().convert_to_f32_slice(&mut widened);
                for (&row, &weight) in rows[start..end].iter().zip(&widened) {
                    if let Some(sum) = sums.get_mut(row as usize - from) {
                        *sum += of_query * weight;
                    }
                }
            }
            best.push_all(&sums, base + from, |row| selected.get(row) && sums[row - base - from] > 0.0);
        }
    }
    Ok(best.into_sorted())
}

/// The weights that a query and a row share: token id, the query's weight, the document's.
pub(crate) fn shared(reader: &Reader, query: &LexicalWeights, row: usize) -> Result<Vec<(u32, f32, f32)>> {
    let (segment, local) = reader.place(row)?;
    let Some(lexical) = &segment.lexical else { return Ok(Vec::new()) };
    let (ids, weights) = lexical.document(local)?;
    let of = |id: u32| ids.binary_search(&id).ok().map(|at| f16::from_bits(weights[at]).to_f32());
    Ok(query.iter().filter_map(|(id, weight)| of(id).map(|own| (id, weight, own))).collect())
}

/// The lexical score of a row: the same sum as the arm's.
pub(crate) fn score(reader: &Reader, query: &LexicalWeights, row: usize) -> Result<f32> {
    Ok(shared(reader, query, row)?.into_iter().fold(0.0, |sum, (_, a, b)| sum + a * b))
}
