//! Tests of inspections of several texts in shared passes, hidden states, calls that are cancelled or report their progress, and ColBERT
//! vectors that are cut.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use trivec::{Cancel, EncodeOptions, Error, Inspection, LoadOptions, Model, Modes, Progress, Prompt, RerankOptions};
use trivec_testing::{data, same_bits};

const TEXTS: [&str; 4] =
    ["the cat sat", "", "天気がいい", "a much longer text about cats that sit on mats and look at the weather"];

fn model() -> Model {
    Model::load_with(data("models/f32-h64"), &LoadOptions { threads: Some(2), ..LoadOptions::default() }).unwrap()
}

fn assert_alike(found: &Inspection, expected: &Inspection) {
    same_bits(&found.embedding, &expected.embedding).unwrap();
    assert_eq!(found.tokens, expected.tokens);
    assert_eq!(found.token_weights, expected.token_weights);
}

#[test]
fn inspections_in_one_pass_are_those_of_each_text() {
    let (model, options) = (model(), EncodeOptions::default());
    let each: Vec<Inspection> = TEXTS.iter().map(|text| model.inspect(text, &options).unwrap()).collect();
    let ids: Vec<Vec<u32>> = TEXTS.iter().map(|text| model.token_ids(text, &options).unwrap().0).collect();
    for (found, expected) in model.inspect_ids(&ids, &options).unwrap().iter().zip(&each) {
        assert_alike(found, expected);
    }
    let [a, b] = model.inspect_pair(TEXTS[0], TEXTS[3], [&options, &options]).unwrap();
    assert_alike(&a, &each[0]);
    assert_alike(&b, &each[3]);
    // The two texts have different prompts.
    let query = EncodeOptions { prompt: Prompt::Text("cat: ".to_owned()), ..EncodeOptions::default() };
    let [a, b] = model.inspect_pair(TEXTS[0], TEXTS[3], [&query, &options]).unwrap();
    assert_alike(&a, &model.inspect(TEXTS[0], &query).unwrap());
    assert_alike(&b, &each[3]);
    let bad = model.inspect_ids(&[vec![0, 2], vec![u32::MAX]], &options).unwrap_err();
    assert!(matches!(bad, Error::Input { index: 1, .. }), "{bad}");
}

#[test]
fn hidden_states_are_what_the_heads_read() {
    let (model, options) = (model(), EncodeOptions::default());
    let hidden = model.info().hidden;
    assert_eq!(model.info().pooling, "cls");
    let ids: Vec<Vec<u32>> = TEXTS.iter().map(|text| model.token_ids(text, &options).unwrap().0).collect();
    let embeddings = model.encode_ids(&ids, &EncodeOptions { modes: Modes::DENSE, ..options.clone() }).unwrap();
    let mut seen = vec![0; ids.len()];
    let each = |place: usize, states: &[f32]| {
        seen[place] += 1;
        assert_eq!(states.len(), ids[place].len() * hidden);
        let norm = states[..hidden].iter().map(|x| x * x).sum::<f32>().sqrt();
        for (state, dense) in states[..hidden].iter().zip(embeddings[place].dense.as_ref().unwrap()) {
            assert!((state / norm - dense).abs() < 1e-6, "{place}: {} for {dense}", state / norm);
        }
    };
    model.hidden_states(&ids, &options, each).unwrap();
    assert_eq!(seen, vec![1; ids.len()]);
}

#[test]
fn a_cancelled_call_ends_before_its_next_layer() {
    let model = model();
    let cancel = Cancel::new();
    let options = EncodeOptions { cancel: Some(cancel.clone()), modes: Modes::ALL, ..EncodeOptions::default() };
    assert_eq!(model.encode(&TEXTS, &options).unwrap().len(), TEXTS.len());
    // There are more texts than fit into one batch. The flag is set while the states of the first batch are handed over.
    let ids = vec![vec![5; model.info().max_length]; 400];
    let mut seen = 0;
    let ended = model.hidden_states(&ids, &options, |_, _| {
        seen += 1;
        cancel.cancel();
    });
    assert!(matches!(ended, Err(Error::Cancelled)), "{ended:?}");
    assert!(seen > 0 && seen < ids.len(), "{seen}");
    for refused in [model.encode(&TEXTS, &options).map(|_| ()), model.inspect(TEXTS[0], &options).map(|_| ())] {
        assert!(matches!(refused, Err(Error::Cancelled)), "{refused:?}");
    }
    // The model still works.
    model.encode(&TEXTS, &EncodeOptions::default()).unwrap();
}

#[test]
fn a_call_reports_its_progress_and_can_be_cancelled_then() {
    let model = model();
    let (told, cancel) = (Arc::new(Mutex::new(Vec::new())), Cancel::new());
    let progress = Progress::new({
        let (told, cancel) = (Arc::clone(&told), cancel.clone());
        move |done, total| {
            told.lock().unwrap().push((done, total));
            if total == 500 {
                cancel.cancel();
            }
        }
    });
    let options = EncodeOptions { progress: Some(progress), cancel: Some(cancel), ..EncodeOptions::default() };
    // A batch has at most 4,096 tokens: 64 texts of 64.
    let ids = vec![vec![5; 64]; 200];
    model.encode_ids(&ids, &options).unwrap();
    assert_eq!(std::mem::take(&mut *told.lock().unwrap()), [(64, 200), (128, 200), (192, 200), (200, 200)]);
    model.encode::<&str>(&[], &options).unwrap();
    assert_eq!(*told.lock().unwrap(), []);
    let ended = model.encode_ids(&vec![vec![5; 64]; 500], &options);
    assert!(matches!(ended, Err(Error::Cancelled)), "{ended:?}");
    assert_eq!(*told.lock().unwrap(), [(64, 500)]);
}

#[test]
fn a_flag_that_asks_is_set_by_the_answer() {
    let (model, asked) = (model(), Arc::new(AtomicUsize::new(0)));
    // The function returns true when it is called for the fourth time.
    let ask = {
        let asked = Arc::clone(&asked);
        move || asked.fetch_add(1, Ordering::Relaxed) == 3
    };
    let options = EncodeOptions { cancel: Some(Cancel::asking(ask)), ..EncodeOptions::default() };
    let layers = model.info().layers;
    let ended = (0..4).find(|_| matches!(model.encode(&TEXTS, &options), Err(Error::Cancelled)));
    // The function is called before every layer, and never again once the flag is set.
    assert_eq!((ended, asked.load(Ordering::Relaxed)), (Some(3 / layers), 4));
    assert!(matches!(model.encode(&TEXTS, &options), Err(Error::Cancelled)));
    assert_eq!(asked.load(Ordering::Relaxed), 4);
}

#[test]
fn reranking_reports_its_progress_and_can_be_cancelled() {
    let model =
        Model::load_with(data("rerankers/reranker-h48"), &LoadOptions { threads: Some(2), ..Default::default() });
    let (model, cancel, told) = (model.unwrap(), Cancel::new(), Arc::new(Mutex::new(Vec::new())));
    let progress = Progress::new({
        let told = Arc::clone(&told);
        move |done, total| told.lock().unwrap().push((done, total))
    });
    let options = RerankOptions { cancel: Some(cancel.clone()), progress: Some(progress), ..RerankOptions::default() };
    assert_eq!(model.rerank("cat", &TEXTS, &options).unwrap().len(), TEXTS.len());
    assert_eq!(*told.lock().unwrap(), [(4, 4)]);
    cancel.cancel();
    assert!(matches!(model.rerank("cat", &TEXTS, &options), Err(Error::Cancelled)));
}

#[test]
fn colbert_vectors_are_cut_before_they_are_normalised_or_left_as_they_are() {
    let model = model();
    let of = |colbert_dimensions, colbert_raw| {
        let options = EncodeOptions { modes: Modes::COLBERT, colbert_dimensions, colbert_raw, ..Default::default() };
        let embeddings = model.encode(&TEXTS, &options).unwrap();
        embeddings.into_iter().map(|embedding| embedding.colbert.unwrap()).collect::<Vec<_>>()
    };
    let dim = model.info().colbert_dim.unwrap();
    let (raw, plain) = (of(None, true), of(None, false));
    for kept in [1, 7, dim] {
        let (cut, cut_raw) = (of(Some(kept), false), of(Some(kept), true));
        for text in 0..TEXTS.len() {
            assert_eq!((cut[text].dim(), cut[text].rows()), (kept, plain[text].rows()));
            for ((cut, cut_raw), raw) in cut[text].iter().zip(cut_raw[text].iter()).zip(raw[text].iter()) {
                assert_eq!(cut_raw, &raw[..kept]);
                let norm = cut_raw.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
                for (cut, raw) in cut.iter().zip(cut_raw) {
                    assert!((f64::from(*cut) - f64::from(*raw) / norm).abs() < 1e-6);
                }
            }
        }
    }
    assert_eq!(of(Some(dim), false), plain);
    for colbert_dimensions in [Some(0), Some(dim + 1)] {
        let options = EncodeOptions { colbert_dimensions, ..Default::default() };
        let refused = model.encode(&TEXTS, &options).unwrap_err();
        assert!(matches!(refused, Error::Option { option: "colbert_dimensions", .. }), "{refused}");
    }
}
