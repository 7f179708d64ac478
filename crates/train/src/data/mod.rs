//! Pairs of queries and passages: training's data, read, checked and grouped.
//!
//! Each text is stored once. Pairs that share a query, a passage or a group's name belong to one group: a passage of the query's own group
//! is never a negative.

mod documents;
mod groups;
mod raw;
mod read;

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

pub use documents::read_documents;
pub use raw::{RawPair, RawPairs};
pub use read::{Split, parse_pairs, read_pairs};

use crate::error::{Error, Result};
use groups::Groups;

/// A query and the passage that answers it, as indices into a [`PairSet`].
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// Index into [`PairSet::queries`].
    pub query: u32,
    /// Index into [`PairSet::passages`].
    pub passage: u32,
    /// The query's negatives, as indices into [`PairSet::passages`].
    pub negatives: Vec<u32>,
    /// The number of the pair's group, from 0 on.
    pub group: u32,
    /// The score that another model (a teacher) gives the passage.
    pub score: Option<f32>,
    /// The scores that the other model gives the negatives; empty, or one for each.
    pub negative_scores: Vec<f32>,
}

/// What was left out of the data, and why.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Pairs whose query or passage is blank.
    pub empty: usize,
    /// Repeated pairs.
    pub duplicates: usize,
    /// Negatives that are passages of the query's own group: by another line of the data they are right answers.
    pub contradictions: usize,
}

/// Pairs that can be trained on.
///
/// ```
/// use trivec_train::{PairSet, RawPair, RawPairs};
///
/// let pair = |query: &str, passage: &str| RawPair { query: query.into(), passage: passage.into(), ..RawPair::default() };
/// let pairs = vec![pair("a cat", "It catches mice."), pair("a dog", "It barks."), pair("a dog", "It barks.")];
/// let set = PairSet::new(RawPairs { pairs, ..RawPairs::default() })?;
/// assert_eq!((set.pairs.len(), set.groups, set.left_out.duplicates), (2, 2, 1));
/// # Ok::<(), trivec_train::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct PairSet {
    /// The texts of the queries, each once.
    pub queries: Vec<String>,
    /// The texts of the passages, negatives included, each once.
    pub passages: Vec<String>,
    /// The pairs.
    pub pairs: Vec<Pair>,
    /// The group of each passage; `None` for a passage that answers no query.
    pub passage_groups: Vec<Option<u32>>,
    /// How many groups there are.
    pub groups: usize,
    /// How many groups there were by the data's own names (a pair without a name counts as one), before groups with a common text were joined.
    pub groups_before: usize,
    /// What was left out.
    pub left_out: LeftOut,
    /// How many pairs were made from documents without labels.
    pub unlabelled: usize,
    /// SHA-256 of what the pairs were read from, or of the pairs themselves: see [`RawPairs::digest`].
    pub digest: String,
}

/// A list of texts that has each text once.
#[derive(Default)]
struct Texts {
    all: Vec<String>,
    places: HashMap<String, u32>,
}

impl Texts {
    /// The index of the text, which is added if it is not there.
    fn place(&mut self, text: &str) -> u32 {
        if let Some(&place) = self.places.get(text) {
            return place;
        }
        let place = self.all.len() as u32;
        self.all.push(text.to_owned());
        self.places.insert(text.to_owned(), place);
        place
    }
}

/// The fewest groups that a dev set should have. With fewer questions, chance decides which epoch scores best.
pub const FEW_JUDGED: usize = 10;

/// The largest number of texts that a set may be made of, repeats included. Indices are u32; half of their range is far more than any data
/// needs.
const MAX_TEXTS: usize = u32::MAX as usize / 2;

impl PairSet {
    /// Stores each text once, joins pairs into groups, and leaves out and counts the pairs and negatives that cannot be used.
    ///
    /// # Errors
    /// [`Error::Data`] if there are too many texts.
    pub fn new(mut raw: RawPairs) -> Result<PairSet> {
        raw.complete_digest();
        let most = raw.pairs.iter().map(|pair| 2 + pair.negatives.len()).sum::<usize>() + raw.others.len();
        if most > MAX_TEXTS {
            return Err(Error::data(format!("{most} texts, expected at most {MAX_TEXTS}")));
        }
        let (mut queries, mut passages) = (Texts::default(), Texts::default());
        let mut left_out = LeftOut::default();
        let mut pairs: Vec<Pair> = Vec::new();
        let mut names: Vec<Option<String>> = Vec::new();
        let mut seen: HashMap<(u32, u32), usize> = HashMap::new();
        for pair in &raw.pairs {
            if pair.query.trim().is_empty() || pair.passage.trim().is_empty() {
                left_out.empty += 1;
                continue;
            }
            let (query, passage) = (queries.place(&pair.query), passages.place(&pair.passage));
            if seen.contains_key(&(query, passage)) {
                left_out.duplicates += 1;
                continue;
            }
            seen.insert((query, passage), pairs.len());
            let has_scores = pair.negative_scores.len() == pair.negatives.len();
            let kept = pair.negatives.iter().enumerate().filter(|(_, text)| !text.trim().is_empty());
            let kept: Vec<(u32, Option<f32>)> =
                kept.map(|(at, text)| (passages.place(text), pair.negative_scores.get(at).copied())).collect();
            pairs.push(Pair {
                query,
                passage,
                negatives: kept.iter().map(|(place, _)| *place).collect(),
                group: 0,
                score: pair.score,
                negative_scores: if has_scores {
                    kept.iter().filter_map(|(_, score)| *score).collect()
                } else {
                    Vec::new()
                },
            });
            names.push(pair.group.clone());
        }
        raw.others.iter().filter(|text| !text.trim().is_empty()).for_each(|text| {
            passages.place(text);
        });
        let mut set = PairSet {
            passage_groups: vec![None; passages.all.len()],
            queries: queries.all,
            passages: passages.all,
            pairs,
            left_out,
            unlabelled: raw.unlabelled,
            digest: raw.digest,
            ..PairSet::default()
        };
        set.join(&names);
        set.drop_contradictions();
        Ok(set)
    }

    /// Joins pairs into groups if they share a group's name, a query or a passage, or if the query of one is the passage of the other.
    fn join(&mut self, names: &[Option<String>]) {
        let mut groups = Groups::new(self.pairs.len());
        let mut by_name: HashMap<&str, u32> = HashMap::new();
        for (at, name) in names.iter().enumerate() {
            if let Some(name) = name {
                let first = *by_name.entry(name).or_insert(at as u32);
                groups.join(first, at as u32);
            }
        }
        self.groups_before = names.iter().filter(|name| name.is_none()).count() + by_name.len();
        let mut by_text: HashMap<&str, u32> = HashMap::new();
        for (at, pair) in self.pairs.iter().enumerate() {
            for text in [&self.queries[pair.query as usize], &self.passages[pair.passage as usize]] {
                let first = *by_text.entry(text).or_insert(at as u32);
                groups.join(first, at as u32);
            }
        }
        let (numbers, count) = groups.numbered();
        self.groups = count;
        for (pair, group) in self.pairs.iter_mut().zip(numbers) {
            pair.group = group;
            self.passage_groups[pair.passage as usize] = Some(group);
        }
    }

    /// Removes and counts negatives that are passages of their query's own group.
    fn drop_contradictions(&mut self) {
        let groups = &self.passage_groups;
        for pair in &mut self.pairs {
            let wrong: Vec<bool> =
                pair.negatives.iter().map(|&negative| groups[negative as usize] == Some(pair.group)).collect();
            let mut at = wrong.iter();
            pair.negatives.retain(|_| !at.next().copied().unwrap_or(false));
            if !pair.negative_scores.is_empty() {
                let mut at = wrong.iter();
                pair.negative_scores.retain(|_| !at.next().copied().unwrap_or(false));
            }
            self.left_out.contradictions += wrong.iter().filter(|wrong| **wrong).count();
        }
    }

    /// Refuses what cannot be trained on.
    ///
    /// # Errors
    /// [`Error::Data`] says what was found and what is needed.
    pub fn check(&self) -> Result<()> {
        if self.pairs.is_empty() {
            let LeftOut { empty, .. } = self.left_out;
            let why = if empty > 0 {
                format!(" ({empty} were left out, as a side of them has no text)")
            } else {
                String::new()
            };
            return Err(Error::data(format!("there are no pairs to train on{why}")));
        }
        if self.groups < 2 {
            return Err(Error::data(format!(
                "all {} pairs belong to one group (they share queries, passages or a group's name): there is nothing to tell apart, at least \
                 two groups are needed",
                self.pairs.len()
            )));
        }
        Ok(())
    }

    /// Refuses a set on which all heads would get the same score: it has no pairs, or all its passages are right answers. Errors call it `name`.
    ///
    /// # Errors
    /// [`Error::Data`] says what was found and what is needed.
    pub(crate) fn check_judges(&self, name: &str) -> Result<()> {
        if self.pairs.is_empty() {
            return Err(Error::data(format!("there are no pairs in {name}")));
        }
        let first = self.passage_groups.first();
        if self.passage_groups.iter().all(|group| group.is_some() && Some(group) == first) {
            return Err(Error::data(format!(
                "{name} judges nothing: all its {} passages are right answers to its {} questions, which any model finds; pairs of two groups at least \
                 are needed",
                self.passages.len(),
                self.queries.len()
            )));
        }
        Ok(())
    }

    /// Counts the pairs of `dev` whose query or passage is also in a pair of this set, and gives the query of the first. `None` if there are
    /// none.
    pub fn overlap(&self, dev: &PairSet) -> Option<(usize, String)> {
        let own: BTreeSet<&str> = self.pairs.iter().flat_map(|pair| self.texts_of(pair)).collect();
        let common: Vec<&Pair> =
            dev.pairs.iter().filter(|pair| dev.texts_of(pair).iter().any(|text| own.contains(text))).collect();
        let first = common.first()?;
        Some((common.len(), dev.queries[first.query as usize].clone()))
    }

    /// The query and the passage of a pair.
    fn texts_of(&self, pair: &Pair) -> [&str; 2] {
        [&self.queries[pair.query as usize], &self.passages[pair.passage as usize]]
    }

    /// Moves about `percent` of the groups into a dev set, but at least [`FEW_JUDGED`] and at most half. A hash of each group's first query
    /// decides which groups are moved. Passages that belong to no pair, as a BEIR corpus has them, are in both sets then: they can be mined
    /// as negatives and are ranked by dev queries. Returns the groups that stay, and the dev set.
    ///
    /// # Errors
    /// [`Error::Data`] if there are fewer than twice [`FEW_JUDGED`] groups.
    pub fn split_dev(mut self, percent: u64) -> Result<(PairSet, PairSet)> {
        if self.groups < 2 * FEW_JUDGED {
            return Err(Error::data(format!(
                "{} pairs in {} groups are too few to train on some and to judge by others: {} groups are needed, or a dev set of its own (some hundred \
                 pairs show whether training is worth while)",
                self.pairs.len(),
                self.groups,
                2 * FEW_JUDGED
            )));
        }
        let mut hashes: Vec<Option<(u64, u64)>> = vec![None; self.groups];
        for pair in &self.pairs {
            hashes[pair.group as usize].get_or_insert_with(|| {
                let hash = hash(&self.queries[pair.query as usize]);
                (hash % 100, hash)
            });
        }
        let mut order: Vec<usize> = (0..self.groups).collect();
        order.sort_by_key(|&group| (hashes[group], group));
        let count = order.iter().filter(|&&group| hashes[group].is_some_and(|(part, _)| part < percent)).count();
        let count = count.clamp(FEW_JUDGED, self.groups / 2);
        let mut chosen = vec![false; self.groups];
        order.iter().take(count).for_each(|&group| chosen[group] = true);
        let is_wanted = |pair: &&Pair, wanted| chosen[pair.group as usize] == wanted;
        let mut is_paired = vec![false; self.passages.len()];
        for pair in &self.pairs {
            pair.negatives.iter().chain([&pair.passage]).for_each(|&passage| is_paired[passage as usize] = true);
        }
        let others = self.passages.iter().zip(&is_paired).filter(|(_, is_paired)| !**is_paired);
        let others: Vec<String> = others.map(|(text, _)| text.clone()).collect();
        let raw = |set: &PairSet, wanted: bool| RawPairs {
            pairs: set.pairs.iter().filter(|pair| is_wanted(pair, wanted)).map(|pair| set.raw(pair)).collect(),
            others: others.clone(),
            digest: set.digest.clone(),
            ..RawPairs::default()
        };
        let dev = PairSet::new(raw(&self, true))?;
        let rest = PairSet::new(RawPairs { unlabelled: self.unlabelled, ..raw(&self, false) })?;
        self.pairs.clear();
        Ok((PairSet { left_out: self.left_out, groups_before: rest.groups_before, ..rest }, dev))
    }

    /// The pair with its texts, as it was read; its group is named by its number.
    fn raw(&self, pair: &Pair) -> RawPair {
        RawPair {
            query: self.queries[pair.query as usize].clone(),
            passage: self.passages[pair.passage as usize].clone(),
            negatives: pair.negatives.iter().map(|&place| self.passages[place as usize].clone()).collect(),
            group: Some(pair.group.to_string()),
            score: pair.score,
            negative_scores: pair.negative_scores.clone(),
        }
    }
}

/// Hashes a text to 32 bits, the same on every machine: FNV-1a and a final mix.
fn hash(text: &str) -> u64 {
    let fnv = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    (fnv ^ (fnv >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 32
}
