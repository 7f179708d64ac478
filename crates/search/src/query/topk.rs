//! Selects the best of a stream of scores.

use std::cmp::Ordering;

/// A score and the row that has it.
pub(crate) type Scored = (f32, usize);

/// The order of a list of hits: the largest score first; of equal scores the smaller row first.
pub(crate) fn order(a: &Scored, b: &Scored) -> Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

/// Selects the `k` best of the scores that are pushed. The result does not depend on the order in which they arrive.
#[derive(Debug)]
pub(crate) struct TopK {
    k: usize,
    kept: Vec<Scored>,
    /// The worst of the `k` best so far, as of the last [`cut`](Self::cut). Anything worse cannot be among the best.
    bar: Option<Scored>,
}

impl TopK {
    pub fn new(k: usize) -> TopK {
        TopK { k, kept: Vec::new(), bar: None }
    }

    /// A score below this cannot be among the best.
    pub fn threshold(&self) -> f32 {
        self.bar.map_or(f32::NEG_INFINITY, |(score, _)| score)
    }

    /// Adds a score, unless it cannot be among the best.
    pub fn push(&mut self, scored: Scored) {
        if self.k == 0 || self.bar.is_some_and(|bar| order(&scored, &bar).is_gt()) {
            return;
        }
        self.kept.push(scored);
        if self.kept.len() >= 2 * self.k {
            self.cut();
        }
    }

    /// Drops all but the `k` best. Called when the list has twice as many, so that a push takes constant time on average.
    fn cut(&mut self) {
        if self.kept.len() > self.k {
            self.kept.select_nth_unstable_by(self.k - 1, order);
            self.kept.truncate(self.k);
        }
        self.bar = self.kept.iter().copied().max_by(order).filter(|_| self.kept.len() == self.k);
    }

    /// Pushes the scores of the rows from `first` on for which `selected` returns true. Most groups of 32 rows are skipped because their
    /// largest score is below the threshold.
    pub fn push_all(&mut self, scores: &[f32], first: usize, selected: impl Fn(usize) -> bool) {
        for (part, scores) in scores.chunks(32).enumerate() {
            let threshold = self.threshold();
            let mut largest = [f32::NEG_INFINITY; 8];
            for eight in scores.chunks(8) {
                largest
                    .iter_mut()
                    .zip(eight)
                    .for_each(|(largest, &x)| *largest = if x > *largest { x } else { *largest });
            }
            if largest.iter().all(|&x| x < threshold) {
                continue;
            }
            for (i, &score) in scores.iter().enumerate() {
                let row = first + part * 32 + i;
                if score >= self.threshold() && selected(row) {
                    self.push((score, row));
                }
            }
        }
    }

    /// The `k` best, the best first.
    pub fn into_sorted(mut self) -> Vec<Scored> {
        if self.k > 0 {
            self.cut();
        }
        self.kept.sort_unstable_by(order);
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_what_a_sort_would_keep_in_any_order() {
        let scores: Vec<Scored> = (0..1000).map(|i: usize| (((i * 7919) % 97) as f32 / 10.0, i)).collect();
        let mut sorted = scores.clone();
        sorted.sort_by(order);
        for k in [0, 1, 2, 31, 500, 999, 1000, 2000] {
            let mut forwards = TopK::new(k);
            scores.iter().for_each(|&scored| forwards.push(scored));
            let mut backwards = TopK::new(k);
            scores.iter().rev().for_each(|&scored| backwards.push(scored));
            let mut all = TopK::new(k);
            let values: Vec<f32> = scores.iter().map(|scored| scored.0).collect();
            all.push_all(&values[..333], 0, |_| true);
            all.push_all(&values[333..], 333, |_| true);
            let expected: Vec<Scored> = sorted.iter().copied().take(k).collect();
            assert_eq!(forwards.into_sorted(), expected);
            assert_eq!(backwards.into_sorted(), expected);
            assert_eq!(all.into_sorted(), expected);
        }
    }

    #[test]
    fn rows_that_are_not_selected_do_not_take_a_place() {
        let mut top = TopK::new(2);
        top.push_all(&[5.0, 4.0, 3.0, 2.0, 1.0], 10, |row| row % 2 == 1);
        assert_eq!(top.into_sorted(), [(4.0, 11), (2.0, 13)]);
    }
}
