//! Tests of whole runs: they give the same bytes with any threads and after interruptions, they learn, and they refuse what cannot be trained.

use std::fs;
use std::ops::ControlFlow;

use trivec_testing::data;
use trivec_train::{Error, Event, Inputs, PairSet, RawPairs, Session, Start, TrainOptions, Trained};

use crate::{THINGS, inputs, load, options, pair, run, set, starter};

/// The bits of every number of the heads.
fn bits(trained: &Trained) -> Vec<u32> {
    let heads = trained.heads.iter();
    heads.flat_map(|head| head.map.weight.iter().chain(&head.map.bias)).map(|x| x.to_bits()).collect()
}

#[test]
fn a_run_has_the_same_bytes_for_one_and_two_threads_and_after_every_interruption() {
    let directory = tempfile::tempdir().unwrap();
    let options = options();
    let work = |name: &str| directory.path().join(name);
    let expected = run(&starter(2), inputs(), &options, &work("whole"), None).unwrap();
    assert_eq!((expected.report.steps, expected.heads.len()), ((6, 3), 3));
    let one =
        run(&starter(1), inputs(), &TrainOptions { threads: Some(1), ..options.clone() }, &work("one"), None).unwrap();
    assert_eq!(bits(&one), bits(&expected));
    assert_eq!(one.metadata, expected.metadata);
    for until in 1..=5 {
        let work = work(&format!("until-{until}"));
        let error = run(&starter(2), inputs(), &options, &work, Some(until)).unwrap_err();
        assert!(matches!(error, Error::Stopped { .. }), "{error}");
        let trained = run(&starter(2), inputs(), &options, &work, None).unwrap();
        assert_eq!(bits(&trained), bits(&expected), "ended after step {until}");
        assert_eq!(trained.metadata, expected.metadata);
        assert_eq!(trained.report.states.computed.0, 0, "the states were there");
    }
    // Another seed gives other heads.
    let other = TrainOptions { seed: 1, ..options };
    assert_ne!(bits(&run(&starter(2), inputs(), &other, &work("other"), None).unwrap()), bits(&expected));
}

#[test]
fn pairs_in_memory_do_not_resume_the_run_of_other_pairs() {
    let directory = tempfile::tempdir().unwrap();
    // No digest is given, and the two sets have the same number of pairs.
    let of = |from: usize| Inputs {
        train: PairSet::new(RawPairs {
            pairs: THINGS[from..from + 16].iter().map(|(query, passage)| pair(query, passage)).collect(),
            ..RawPairs::default()
        })
        .unwrap(),
        ..inputs()
    };
    let (options, work) = (options(), |name: &str| directory.path().join(name));
    let expected = run(&starter(2), of(4), &options, &work("alone"), None).unwrap();
    let error = run(&starter(2), of(0), &options, &work("shared"), Some(3)).unwrap_err();
    assert!(matches!(error, Error::Stopped { .. }), "{error}");
    assert_eq!(bits(&run(&starter(2), of(4), &options, &work("shared"), None).unwrap()), bits(&expected));
}

#[test]
fn random_heads_learn_the_training_pairs_by_heart() {
    let directory = tempfile::tempdir().unwrap();
    let options = TrainOptions { epochs: 12, batch: 12, start: Start::Random, allow_overlap: true, ..options() };
    // The dev set is the training set: what is measured is whether its pairs were learned by heart.
    let train = set(THINGS.iter().map(|(query, passage)| pair(query, passage)));
    let all = Inputs { dev: Some(train.clone()), train, evals: Vec::new() };
    let trained = run(&starter(2), all, &options, directory.path(), None).unwrap();
    let report = &trained.report;
    assert!(report.kept > 0);
    let (first, last) =
        (report.epochs.first().unwrap(), report.epochs.iter().max_by(|a, b| a.mean.total_cmp(&b.mean)).unwrap());
    for arm in [0, 2] {
        let (before, after) = (first.ndcg10[arm].unwrap(), last.ndcg10[arm].unwrap());
        assert!(after > before + 0.2, "arm {arm}: {before} to {after}");
    }
    let losses = |at: usize| report.curve[at].losses.total;
    assert!(losses(report.curve.len() - 1) < losses(0) / 2.0);
}

#[test]
fn heads_that_are_not_trained_keep_their_figures() {
    let directory = tempfile::tempdir().unwrap();
    let options = TrainOptions { heads: [false, true, false], ..options() };
    let trained = run(&starter(2), inputs(), &options, directory.path(), None).unwrap();
    assert_eq!(trained.heads.iter().map(|head| head.name).collect::<Vec<_>>(), ["sparse_linear"]);
    for change in &trained.report.dev.as_ref().unwrap().changes {
        if change.way == "dense" || change.way == "colbert" {
            assert_eq!(change.before, Some(change.after), "{}", change.way);
        }
    }
}

#[test]
fn a_model_without_heads_gets_them_in_closed_form() {
    let directory = tempfile::tempdir().unwrap();
    let model = load(&data("models/noheads-h64"), 2);
    assert!(!model.info().modes.sparse && !model.info().modes.colbert);
    let trained = run(&model, inputs(), &options(), directory.path(), None).unwrap();
    let shapes: Vec<_> = trained.heads.iter().map(|head| (head.name, head.map.outputs, head.map.inputs)).collect();
    assert_eq!(shapes, [("dense", 64, 64), ("sparse_linear", 1, 64), ("colbert_linear", 64, 64)]);
    assert!(trained.heads.iter().all(|head| head.map.weight.iter().all(|x| x.is_finite())));
    let dev = trained.report.dev.unwrap();
    assert!(dev.changes.iter().any(|change| change.way == "sparse" && change.before.is_none()));
}

#[test]
fn a_reranker_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let error =
        run(&load(&data("rerankers/reranker-h48"), 1), inputs(), &options(), directory.path(), None).unwrap_err();
    assert!(matches!(&error, Error::Option { option: "model", what } if what.contains("reranker")), "{error}");
}

#[test]
fn options_that_make_no_sense_are_refused_by_name() {
    let base = TrainOptions::default;
    let with = |change: &dyn Fn(&mut TrainOptions)| {
        let mut options = base();
        change(&mut options);
        options.check().unwrap_err().to_string()
    };
    for (expected, error) in [
        ("temperature: found 0", with(&|o| o.loss.temperature = 0.0)),
        ("temperature: found -1", with(&|o| o.loss.temperature = -1.0)),
        ("temperature: found NaN", with(&|o| o.loss.temperature = f32::NAN)),
        ("lambda: found 0", with(&|o| o.loss.lambda[1] = 0.0)),
        ("lambda: found -0.1", with(&|o| o.loss.lambda[2] = -0.1)),
        ("weights: all are 0", with(&|o| o.loss.weights = [0.0; 3])),
        ("weights: found -1", with(&|o| o.loss.weights[0] = -1.0)),
        ("heads: none", with(&|o| o.heads = [false; 3])),
        ("epochs: found 0", with(&|o| o.epochs = 0)),
        ("batch: found 1", with(&|o| o.batch = 1)),
        ("lr: found inf", with(&|o| o.rate = f32::INFINITY)),
    ] {
        assert!(error.starts_with(expected), "{error}");
    }
    base().check().unwrap();
    base().paper().check().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let long = TrainOptions { max_passage: 100_000, ..options() };
    let error = run(&starter(1), inputs(), &long, directory.path(), None).unwrap_err();
    assert!(matches!(error, Error::Option { option: "max_passage", .. }), "{error}");
}

#[test]
fn a_loss_that_is_no_number_stops_the_run_and_names_the_step() {
    let directory = tempfile::tempdir().unwrap();
    // A learning rate so large that the step after the first overflows.
    let wild = TrainOptions { rate: 1e38, heads: [true, false, false], warm_up: 0.0, checkpoint_every: 1, ..options() };
    let error = run(&starter(2), inputs(), &wild, directory.path(), None).unwrap_err();
    let Error::Diverged { step, arm, query, passage, .. } = &error else { panic!("{error}") };
    assert!(*step > 1 && *arm == "dense" && !query.is_empty() && !passage.is_empty(), "{error}");
    assert!(
        error.to_string().ends_with(&format!("in a batch with the query `{query}` and the passage `{passage}`")),
        "{error}"
    );
    // The checkpoint before the failed step is there: the same run resumes from it, and fails at the same step.
    assert!(directory.path().join("checkpoint.safetensors").is_file());
    let mut resumed = None;
    let mut observer = |event: Event<'_>| {
        if let Event::Resumed(step) = event {
            resumed = Some(step);
        }
        ControlFlow::Continue(())
    };
    let model = starter(2);
    let again =
        Session::prepare(&model, inputs(), &wild, directory.path(), &mut observer).unwrap().train(&mut observer);
    assert_eq!(again.unwrap_err().to_string(), error.to_string());
    assert_eq!(resumed, Some(step - 1));
}

#[test]
fn a_score_that_is_no_number_is_not_ranked() {
    let directory = tempfile::tempdir().unwrap();
    // The only step has so large a learning rate that the heads overflow after it; no later step can report a bad loss, so the evaluation must.
    let wild =
        TrainOptions { rate: 1e38, heads: [true, false, false], warm_up: 0.0, batch: 20, epochs: 1, ..options() };
    let error = run(&starter(2), inputs(), &wild, directory.path(), None).unwrap_err();
    let Error::NotFinite { set, arm: "dense", query, passage, .. } = &error else { panic!("{error}") };
    assert!(set == "dev" && !query.is_empty() && !passage.is_empty(), "{error}");
    assert_eq!(error.kind(), trivec_train::ErrorKind::Model);
}

#[test]
fn a_directory_has_one_session_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let model = starter(1);
    let mut go_on = |_: Event<'_>| ControlFlow::Continue(());
    let held = Session::prepare(&model, inputs(), &options(), directory.path(), &mut go_on).unwrap();
    let error = Session::prepare(&model, inputs(), &options(), directory.path(), &mut go_on).err().unwrap();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    drop(held);
    Session::prepare(&model, inputs(), &options(), directory.path(), &mut go_on).unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_an_error_that_names_the_file() {
    let directory = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/full", directory.path().join("states.bin")).unwrap();
    let error = run(&starter(1), inputs(), &options(), directory.path(), None).unwrap_err();
    assert!(matches!(&error, Error::Io { path, .. } if path.ends_with("states.bin")), "{error}");
    // The next run, whose file is on a disk with room, begins anew and succeeds.
    fs::remove_file(directory.path().join("states.bin")).unwrap();
    run(&starter(1), inputs(), &options(), directory.path(), None).unwrap();
}

#[test]
fn the_ablation_has_a_row_for_every_way() {
    let directory = tempfile::tempdir().unwrap();
    let model = starter(2);
    let mut go_on = |_: Event<'_>| ControlFlow::Continue(());
    let session = Session::prepare(&model, inputs(), &options(), directory.path(), &mut go_on).unwrap();
    let rows = session.ablate(&mut go_on).unwrap();
    assert_eq!(rows.len(), 11);
    assert_eq!(rows[0].name(), "current, untrained");
    assert!(rows.iter().any(|row| row.name() == "random, distilled, λ 0.1"), "{rows:?}");
    for row in &rows {
        assert_eq!(row.ndcg10.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["dev", "same"]);
        assert!(row.ndcg10[0].1 == row.ndcg10[1].1, "the sets are the same");
    }
}
