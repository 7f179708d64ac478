//! The lexical arm: the product of a query's weights with those of every document that shares a token with it, by accumulators.

use std::sync::atomic::{AtomicUsize, Ordering};

use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use trivec::LexicalWeights;

use super::dense::on_threads;
use super::stop::Stop;
use super::topk::{Scored, TopK, order};
use crate::bits::Bits;
use crate::error::Result;
use crate::reader::Reader;

/// Rows whose sums are gathered at a time: with the list that is added they stay in the second-level cache.
const BLOCK: usize = 1 << 15;

/// Fewer postings than this are one thread's work.
const POSTINGS_OF_A_THREAD: usize = 1 << 17;

/// The documents of a token: rows, ascending, their weights, and the query's.
type List<'a> = (&'a [u32], &'a [u16], f32);

/// The `k` best of the selected rows that share a token with the query.
pub(crate) fn search(
    reader: &Reader,
    query: &LexicalWeights,
    selected: &Bits,
    k: usize,
    threads: usize,
    stop: &Stop<'_>,
) -> Result<Vec<Scored>> {
    // Of each segment the lists, then blocks of rows: segment, its first row among its own.
    let mut lists: Vec<Vec<List<'_>>> = Vec::new();
    let mut blocks = Vec::new();
    let mut postings = 0;
    for (index, segment) in reader.segments().iter().enumerate() {
        let mut of_segment = Vec::new();
        if let Some(lexical) = &segment.lexical {
            // Ascending ids, so that a document's sum has one order whatever else is there.
            for (id, weight) in query.iter() {
                let (rows, weights) = lexical.postings(id)?;
                if !rows.is_empty() {
                    postings += rows.len();
                    of_segment.push((rows, weights, weight));
                }
            }
        }
        if !of_segment.is_empty() {
            blocks.extend((0..segment.record.rows as usize).step_by(BLOCK).map(|from| (index, from)));
        }
        lists.push(of_segment);
    }
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<Scored>> {
        let (mut best, mut scratch) = (TopK::new(k), Scratch::default());
        while let Some(&(index, from)) = blocks.get(next.fetch_add(1, Ordering::Relaxed)) {
            stop.check()?;
            let (base, rows) = (reader.bases()[index], reader.segments()[index].record.rows as usize);
            let to = rows.min(from + BLOCK);
            if selected.any(base + from, base + to) {
                scratch.add_up(&lists[index], from, to);
                let sums = &scratch.sums;
                best.push_all(sums, base + from, |row| selected.get(row) && sums[row - base - from] > 0.0);
            }
        }
        Ok(best.into_sorted())
    };
    let threads = threads.min(postings.div_ceil(POSTINGS_OF_A_THREAD)).max(1);
    let mut list: Vec<Scored> = on_threads(threads, work)?.into_iter().flatten().collect();
    list.sort_unstable_by(order);
    list.truncate(k);
    Ok(list)
}

/// A thread's own memory.
#[derive(Default)]
struct Scratch {
    sums: Vec<f32>,
    widened: Vec<f32>,
}

impl Scratch {
    /// The sums of rows `from .. to` of a segment.
    fn add_up(&mut self, lists: &[List<'_>], from: usize, to: usize) {
        let Scratch { sums, widened } = self;
        sums.clear();
        sums.resize(to - from, 0.0);
        for &(rows, weights, of_query) in lists {
            let start = rows.partition_point(|&row| (row as usize) < from);
            let end = start + rows[start..].partition_point(|&row| (row as usize) < to);
            widened.resize(end - start, 0.0);
            weights[start..end].reinterpret_cast::<f16>().convert_to_f32_slice(widened);
            for (&row, &weight) in rows[start..end].iter().zip(widened.iter()) {
                if let Some(sum) = sums.get_mut((row as usize).wrapping_sub(from)) {
                    *sum += of_query * weight;
                }
            }
        }
    }
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
