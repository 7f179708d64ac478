//! Mines hard negatives: the passages nearest to a query by the model's own dense vectors that are not of the query's group.

use rayon::prelude::*;

use crate::arms::{Effective, dense};
use crate::corpus::{Corpus, Placed};
use crate::data::PairSet;
use crate::math::product_into;

/// The three nearest passages of other groups are skipped, because they are often right answers without a label.
pub(crate) const FIRST_RANK: usize = 3;
/// The last rank of a negative among the nearest passages of other groups, counted from 1.
pub(crate) const LAST_RANK: usize = 30;

/// How many queries one task scores with all passages.
const TOGETHER: usize = 32;

/// For each query, the indices in the set of the passages at ranks 4 to 30 by dense score among those that are not of the query's group. Passages
/// with equal scores are ranked in the order of the set.
pub(crate) fn mine(corpus: &Corpus, set: &PairSet, placed: Placed, map: &Effective) -> Vec<Vec<u32>> {
    let texts: Vec<usize> = (0..set.passages.len() as u32).map(|place| placed.passage(place)).collect();
    let passages = dense::vectors(map, &corpus.pooled(&texts));
    let mut groups = vec![u32::MAX; set.queries.len()];
    set.pairs.iter().for_each(|pair| groups[pair.query as usize] = pair.group);
    let texts: Vec<usize> = (0..set.queries.len() as u32).map(|place| placed.query(place)).collect();
    let queries = dense::vectors(map, &corpus.pooled(&texts));
    let k = map.outputs;
    let of_part = |(part, rows): (usize, &[f32])| {
        let count = set.passages.len();
        let mut scores = vec![0.0; rows.len() / k * count];
        product_into(rows, &passages, k, &mut scores);
        let nearest = |(row, scores): (usize, &[f32])| {
            let group = Some(groups[part * TOGETHER + row]);
            let others = |place: &u32| set.passage_groups[*place as usize] != group;
            let mut places: Vec<u32> = (0..count as u32).filter(others).collect();
            let order = |a: &u32, b: &u32| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b));
            if places.len() > LAST_RANK {
                places.select_nth_unstable_by(LAST_RANK, order);
                places.truncate(LAST_RANK);
            }
            places.sort_by(order);
            places.split_off(FIRST_RANK.min(places.len()))
        };
        scores.chunks_exact(count.max(1)).enumerate().map(nearest).collect::<Vec<_>>()
    };
    queries.par_chunks(TOGETHER * k).enumerate().flat_map_iter(of_part).collect()
}
