//! The lexical arm: the dot product of a query's lexical weights with those of every document that shares a token id with it. The lists of
//! the query's token ids are added up, one after the other, into a sum for each row.

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

/// Rows whose sums are made at a time: so few that the sums, and the part of a list that is added to them, stay in the second-level cache.
const BLOCK: usize = 1 << 15;

/// The arm uses at most one thread per this many postings.
const POSTINGS_OF_A_THREAD: usize = 1 << 17;

/// The list of a token id in a segment: its rows, ascending, their weights as f16 bits, and the query's weight.
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
    // For each segment the lists of the query's token ids; then the blocks of rows: a segment's index, and a block's first row in that
    // segment.
    let mut lists: Vec<Vec<List<'_>>> = Vec::new();
    let mut blocks = Vec::new();
    let mut postings = 0;
    for (index, segment) in reader.segments().iter().enumerate() {
        let mut of_segment = Vec::new();
        if let Some(lexical) = &segment.lexical {
            // The ids ascend, so that a document's products are always added in the same order, whatever else the segment has.
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

/// Buffers that a thread uses for one block after another.
#[derive(Default)]
struct Scratch {
    sums: Vec<f32>,
    widened: Vec<f32>,
}

impl Scratch {
    /// Sets `sums` to the lexical scores of the rows `from..to` of a segment whose lists are `lists`.
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

/// For every token id that has a weight in both the query and the document in `row`: the id, the query's weight and the document's.
pub(crate) fn shared(reader: &Reader, query: &LexicalWeights, row: usize) -> Result<Vec<(u32, f32, f32)>> {
    let (segment, local) = reader.place(row)?;
    let Some(lexical) = &segment.lexical else { return Ok(Vec::new()) };
    let (ids, weights) = lexical.document(local)?;
    let of = |id: u32| ids.binary_search(&id).ok().map(|at| f16::from_bits(weights[at]).to_f32());
    Ok(query.iter().filter_map(|(id, weight)| of(id).map(|own| (id, weight, own))).collect())
}

/// The lexical score of the document in `row`: equal to the bit to the one that [`search`] gives it.
pub(crate) fn score(reader: &Reader, query: &LexicalWeights, row: usize) -> Result<f32> {
    Ok(shared(reader, query, row)?.into_iter().fold(0.0, |sum, (_, a, b)| sum + a * b))
}
