//! Compares how two models rank a small retrieval set (`retrieval.tsv`): 42 questions and as many passages in eleven languages, written for this
//! project. The passages come in threes, about one subject or about different meanings of one word.

use serde::Serialize;

use super::encode::embeddings;
use super::statistics::{kendall_tau, ndcg10};
use crate::embedding::Embedding;
use crate::engine::{EncodeOptions, Model};
use crate::error::Result;
use crate::similarity::{ScoreWeights, Scores, score};

/// One row per line, of three columns with tabs between them: `D`, an id and a passage; or `Q`, the ids of the relevant passages and a question.
const SET: &str = include_str!("retrieval.tsv");

/// How two models rank the passages by one score.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ranking {
    /// `dense`, `sparse`, `colbert` or `colbert+sparse+dense`.
    pub by: &'static str,
    /// nDCG at 10 of the candidate, mean over the questions.
    pub ndcg10: f64,
    /// nDCG@10 of the reference.
    pub ndcg10_reference: f64,
    /// Kendall's τ-b between the two orders of all passages, mean over the questions.
    pub kendall_tau: f64,
}

/// A score by which passages are ranked: its name, and how to get it.
type By = (&'static str, fn(&Scores) -> Option<f32>);

const BY: [By; 4] = [
    ("dense", |scores| scores.dense),
    ("sparse", |scores| scores.sparse),
    ("colbert", |scores| scores.colbert),
    ("colbert+sparse+dense", |scores| scores.colbert_sparse_dense),
];

struct Set {
    passages: Vec<&'static str>,
    questions: Vec<&'static str>,
    /// For each question, the places of the passages that answer it.
    relevant: Vec<Vec<usize>>,
}

impl Set {
    /// Reads the set from [`SET`].
    fn read() -> Set {
        let rows: Vec<[&str; 3]> =
            SET.lines().filter_map(|line| line.split('\t').collect::<Vec<_>>().try_into().ok()).collect();
        let of = |kind: &'static str| rows.iter().filter(move |row| row[0] == kind);
        let ids: Vec<&str> = of("D").map(|row| row[1]).collect();
        let places =
            |row: &[&str; 3]| row[1].split(' ').filter_map(|id| ids.iter().position(|other| *other == id)).collect();
        Set {
            passages: of("D").map(|row| row[2]).collect(),
            questions: of("Q").map(|row| row[2]).collect(),
            relevant: of("Q").map(places).collect(),
        }
    }
}

/// How many texts [`compare`] encodes with each model.
pub(super) fn texts() -> usize {
    let set = Set::read();
    set.passages.len() + set.questions.len()
}

/// Ranks the set by every score that both models have. `progress` is called with the number of texts that are done.
pub(super) fn compare(
    reference: &Model,
    candidate: &Model,
    options: &EncodeOptions,
    progress: &dyn Fn(usize),
) -> Result<Vec<Ranking>> {
    let set = Set::read();
    progress(0);
    let encode = |model, texts: &[&str], what: &str| {
        embeddings(model, texts, options, |index| format!("{what} {} of the retrieval set", index + 1))
    };
    let of_passages = |model| encode(model, &set.passages, "passage");
    let passages = [of_passages(reference)?, of_passages(candidate)?];
    progress(set.passages.len());
    let of_questions = |model| encode(model, &set.questions, "question");
    let questions = [of_questions(reference)?, of_questions(candidate)?];
    let mut rankings = Vec::new();
    for (by, value) in BY {
        let scores_of = |model: usize, question: usize| -> Option<Vec<f64>> {
            scores(&questions[model][question], &passages[model], value)
        };
        let (mut found, mut expected, mut tau) = (0.0, 0.0, 0.0);
        let mut defined = true;
        for (question, relevant) in set.relevant.iter().enumerate() {
            let (Some(a), Some(b)) = (scores_of(0, question), scores_of(1, question)) else {
                defined = false;
                break;
            };
            expected += ndcg10(&a, relevant);
            found += ndcg10(&b, relevant);
            tau += kendall_tau(&a, &b);
        }
        if defined {
            let mean = |sum: f64| sum / set.questions.len() as f64;
            let (ndcg10, ndcg10_reference, kendall_tau) = (mean(found), mean(expected), mean(tau));
            rankings.push(Ranking { by, ndcg10, ndcg10_reference, kendall_tau });
        }
    }
    Ok(rankings)
}

/// The scores of all passages for a question; `None` if the model does not have that score.
fn scores(question: &Embedding, passages: &[Embedding], value: fn(&Scores) -> Option<f32>) -> Option<Vec<f64>> {
    let weights = ScoreWeights::default();
    passages.iter().map(|passage| value(&score(question, passage, &weights)).map(f64::from)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_question_of_the_set_has_a_relevant_passage() {
        let set = Set::read();
        assert_eq!((set.passages.len(), set.questions.len()), (42, 42));
        assert_eq!(SET.lines().count(), 84, "every line is read");
        assert!(set.relevant.iter().all(|relevant| !relevant.is_empty()));
    }
}
