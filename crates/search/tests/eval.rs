//! Tests the evaluation on the small collection, for which the relevant documents are known.

mod common;

use common::{TEXTS, documents, indexed, model};
use trivec_search::IndexOptions;
use trivec_search::eval::{EvalOptions, Judgements, Question, evaluate};

#[test]
fn metrics_fit_the_known_judgements_and_repeat_with_the_same_seed() {
    let directory = tempfile::tempdir().unwrap();
    let index = indexed(directory.path(), &IndexOptions::default());
    let (model, id) = model();
    let encoder = index.encoder(model, id).unwrap();
    let reader = index.reader().unwrap();
    // Each sentence is a question, whose relevant documents are itself, with gain 2, and its translations, with gain 1.
    let topic = |key: &str| key.split('-').next().unwrap().to_owned();
    let mut questions: Vec<Question> = documents()
        .iter()
        .map(|d| Question { id: d.key.clone(), text: d.text.clone(), lang: d.lang.clone() })
        .collect();
    let mut judgements = Judgements::default();
    for (asked, _, _) in TEXTS {
        for (key, _, _) in TEXTS.iter().filter(|(key, _, _)| topic(key) == topic(asked)) {
            judgements.insert(asked, *key, if *key == asked { 2 } else { 1 });
        }
    }
    judgements.insert("rain-en", "not in the index", 1);
    questions.push(Question { id: "nobody judged".into(), text: "x".into(), lang: None });
    let options = EvalOptions { resamples: 200, ..EvalOptions::default() };
    let mut seen = 0;
    let report = evaluate(&reader, &encoder, &questions, &judgements, &options, |done, _| seen = done).unwrap();
    assert_eq!((report.queries.len(), report.unjudged, report.missing, seen), (30, 1, 1, 30));
    let of = |name: &str| report.rankings.iter().find(|ranking| ranking.name == name).unwrap();
    // By its words the Chinese sentence finds only itself of its four relevant documents: nDCG is its gain 2 divided by the ideal.
    let log = |x: f64| x.log2();
    let ideal = 2.0 + 1.0 / log(3.0) + 1.0 / log(4.0) + 1.0 / log(5.0);
    let words = of("bm25").per_query[report.queries.iter().position(|id| id == "rain-zh").unwrap()];
    assert!((words.ndcg10 - 2.0 / ideal).abs() < 0.15 && words.mrr == 1.0, "{words:?} {}", 2.0 / ideal);
    for ranking in &report.rankings {
        let interval = ranking.ndcg10;
        assert!(interval.low <= interval.mean && interval.mean <= interval.high, "{ranking:?}");
        assert_eq!(ranking.per_query.len(), 30);
        assert!(ranking.recall10.mean <= ranking.recall100.mean + 1e-12);
    }
    assert!(of("dense").ndcg10.mean > of("bm25").ndcg10.mean + 0.1, "across languages words find little");
    assert!(of("share").ndcg10.mean > of("dense").ndcg10.mean - 0.01);
    assert!(of("share+colbert").ndcg10.mean > 0.8);
    assert!(report.paired.iter().all(|pair| pair.with == "dense") && report.paired.len() >= 5);
    let tuned = report.tuned.as_ref().unwrap();
    assert_eq!((tuned.tuned_on, tuned.reported_on), (15, 15));
    let again = evaluate(&reader, &encoder, &questions, &judgements, &options, |_, _| ()).unwrap();
    assert_eq!(report, again);
    assert!(evaluate(&reader, &encoder, &questions[30..], &judgements, &options, |_, _| ()).is_err());
}
