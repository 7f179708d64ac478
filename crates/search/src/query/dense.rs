//! The dense arm: multiplies the query with the int8 rows of all selected documents, and then scores the best anew by their f16 rows.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use trivec_kernels::{Epilogue, Kernels, MatMut, PANEL, Panels};

use super::stop::Stop;
use super::topk::{Scored, TopK, order};
use crate::bits::Bits;
use crate::error::{Error, Result};
use crate::reader::Reader;
use crate::segment::panels::QueryRows;
use crate::settings::ColbertBits;

/// Rows that a thread works on at a time: 64 panels, so few that their products stay in the cache.
const CHUNK: usize = 64 * PANEL;

/// The arm uses at most one thread per this many rows.
const ROWS_OF_A_THREAD: usize = 4 * CHUNK;

/// For each query the `k` best of the selected rows: selected by int8 products, then scored and sorted by f16 products.
pub(crate) fn search(
    reader: &Reader,
    queries: &[&[f32]],
    selected: &Bits,
    k: usize,
    threads: usize,
    stop: &Stop<'_>,
) -> Result<Vec<Vec<Scored>>> {
    let lists = scan(reader, queries, selected, k, threads, stop)?;
    let rescore = |(list, query): (Vec<Scored>, &&[f32])| {
        stop.check()?;
        rescored(reader, query, list)
    };
    lists.into_iter().zip(queries).map(rescore).collect()
}

/// For each query the `k` best of the selected rows by int8 products, without the scores in f16.
pub(crate) fn scan(
    reader: &Reader,
    queries: &[&[f32]],
    selected: &Bits,
    k: usize,
    threads: usize,
    stop: &Stop<'_>,
) -> Result<Vec<Vec<Scored>>> {
    let dim = reader.index.settings.dense_dim;
    let rows = QueryRows::new(ColbertBits::Eight, dim, queries.iter().copied())?;
    // Chunks of whole panels that have a selected row: the segment's index, and the chunk's first and end row in that segment.
    let mut chunks = Vec::new();
    for (index, segment) in reader.segments().iter().enumerate() {
        let (base, count) = (reader.bases()[index], segment.record.rows as usize);
        for first in (0..count).step_by(CHUNK) {
            let end = count.min(first + CHUNK);
            if selected.any(base + first, base + end) {
                chunks.push((index, first, end));
            }
        }
    }
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<TopK>> {
        let mut best: Vec<TopK> = queries.iter().map(|_| TopK::new(k)).collect();
        let mut products = vec![0.0; queries.len() * CHUNK];
        while let Some(&(index, first, end)) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) {
            stop.check()?;
            scan_chunk(reader, &rows, selected, (index, first, end), &mut products, &mut best)?;
        }
        Ok(best)
    };
    let threads = threads.min(reader.rows().div_ceil(ROWS_OF_A_THREAD)).max(1);
    let parts = on_threads(threads, work)?;
    let mut lists: Vec<Vec<Scored>> = queries.iter().map(|_| Vec::new()).collect();
    for part in parts {
        lists.iter_mut().zip(part).for_each(|(list, top)| list.extend(top.into_sorted()));
    }
    for list in &mut lists {
        list.sort_unstable_by(order);
        list.truncate(k);
    }
    Ok(lists)
}

/// Runs `work` once on each of `threads` threads, of which the calling one is one, and returns what the calls returned, in any order.
pub(crate) fn on_threads<T: Send>(threads: usize, work: impl Fn() -> Result<T> + Sync) -> Result<Vec<T>> {
    let parts = Mutex::new(Vec::new());
    let run = || {
        let result = work();
        parts.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(result);
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // If the system cannot create a thread, the threads that exist do its share of the work.
            if std::thread::Builder::new().spawn_scoped(scope, run).is_err() {
                break;
            }
        }
        run();
    });
    parts.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).into_iter().collect()
}

/// Multiplies the queries with the rows `first..end` of a segment, except panels without a selected row, and pushes the products of
/// selected rows into `best`, which has a list for each query. `products` is scratch.
fn scan_chunk(
    reader: &Reader,
    queries: &QueryRows,
    selected: &Bits,
    (index, first, end): (usize, usize, usize),
    products: &mut [f32],
    best: &mut [TopK],
) -> Result<()> {
    let (segment, base) = (&reader.segments()[index], reader.bases()[index]);
    let mut from = first;
    while from < end {
        // Panels without a selected row are skipped; neighbouring panels that have one are multiplied in a single call.
        if !selected.any(base + from, base + end.min(from + PANEL)) {
            from += PANEL;
            continue;
        }
        let mut to = from + PANEL;
        while to < end && selected.any(base + to, base + end.min(to + PANEL)) {
            to += PANEL;
        }
        let to = to.min(end);
        let (panels, scales) = segment.dense8.rows(from, to)?;
        let count = to - from;
        let products = &mut products[..queries.rows() * count];
        let weights = Panels::new(panels, count, segment.dense8.panel_bytes());
        let epilogue = Epilogue { scales: Some(scales), ..Epilogue::default() };
        Kernels::best().linear_i8(queries.as_rows8(), weights, epilogue, MatMut::dense(products, count));
        for (best, products) in best.iter_mut().zip(products.chunks(count)) {
            best.push_all(products, base + from, |row| selected.get(row));
        }
        from = to;
    }
    Ok(())
}

/// Replaces the scores of a list by the products with the f16 rows, and sorts it by these.
fn rescored(reader: &Reader, query: &[f32], list: Vec<Scored>) -> Result<Vec<Scored>> {
    let mut rows = vec![0.0; query.len()];
    let mut list: Vec<Scored> =
        list.into_iter().map(|(_, row)| Ok((score(reader, query, row, &mut rows)?, row))).collect::<Result<_>>()?;
    list.sort_unstable_by(order);
    Ok(list)
}

/// The product of the query with a row's f16 vector. `scratch` must have as many values as the vectors.
pub(crate) fn score(reader: &Reader, query: &[f32], row: usize, scratch: &mut [f32]) -> Result<f32> {
    let (segment, local) = reader.place(row)?;
    segment.dense16.read(local, scratch)?;
    let score = Kernels::best().dot(query, scratch);
    match score.is_finite() {
        true => Ok(score),
        false => Err(Error::damaged(&reader.index.directory, format!("the dense score of row {row} is not a number"))),
    }
}
