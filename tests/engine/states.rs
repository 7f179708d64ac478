//! Calls on token ids: inspections of several texts in shared passes, hidden states, and calls that are ended early.

use trivec::{Cancel, EncodeOptions, Error, Inspection, LoadOptions, Model, Modes, Prompt};
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
    // Sides with prompts of their own.
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
    // More texts than fit into one batch: the flag is set while the first is handed over.
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
    // The model is as good as before.
    model.encode(&TEXTS, &EncodeOptions::default()).unwrap();
}
