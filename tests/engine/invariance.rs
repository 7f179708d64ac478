//! A text's embedding has the same bits alone or among neighbours, in any order, on any number of threads.

use trivec_testing as common;

use common::{data, report, same_bits};
use trivec::{Embedding, EncodeOptions, LoadOptions, Model, Modes};

const ALL: EncodeOptions = EncodeOptions {
    modes: Modes::ALL,
    max_length: None,
    dimensions: None,
    normalize: None,
    special_tokens: trivec::SpecialTokens::Parse,
    prompt: trivec::Prompt::Default,
    prompt_tokens: 0,
    cancel: None,
    progress: None,
    colbert_dimensions: None,
    colbert_raw: false,
};
const THREADS: [usize; 4] = [1, 2, 3, 8];
const NEIGHBOURS: usize = 64;

fn options(threads: usize, isa: Option<&str>) -> LoadOptions {
    LoadOptions { threads: Some(threads), isa: isa.map(str::to_owned), ..Default::default() }
}

/// Encodes the texts whose numbers are in `order` in one call, and returns how the result of each text `i` differs from `alone[i]`.
fn compare(
    what: &str,
    alone: &[Embedding],
    order: &[usize],
    encode: impl Fn(&[usize]) -> Vec<Embedding>,
) -> Vec<String> {
    let found = encode(order);
    assert_eq!(found.len(), order.len(), "{what}");
    let differ = order.iter().zip(&found).enumerate().filter_map(|(place, (&text, found))| {
        Some(format!("{what}: text {text} at place {place}: {}", same_bits(found, &alone[text]).err()?))
    });
    differ.collect()
}

/// The numbers of the 64 texts that follow `text` (the first of all `count` texts follows the last), with `text` itself put in at `place`.
fn among_neighbours(text: usize, place: usize, count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (1..=NEIGHBOURS).map(|i| (text + i) % count).collect();
    order.insert(place, text);
    order
}

/// Token sequences of every length from 2 to 72, which crosses the edges of all tiles, and two long ones. Their ids
/// repeat within a text, so that the largest weight of an id is at stake too.
fn sequences(vocabulary: u32) -> Vec<Vec<u32>> {
    let lengths = (2..=72).chain([128, 513]);
    let sequence = |n: u32| {
        let inner = (0..n - 2).map(|i| 4 + (i * i * 7 + i * n + n) % (vocabulary - 4));
        [0].into_iter().chain(inner).chain([2]).collect()
    };
    lengths.map(sequence).collect()
}

#[test]
fn odd_sizes_give_the_same_bits_on_every_instruction_set() {
    let directory = data("models/bf16-h60");
    let mut failures = Vec::new();
    // One thread and scalar code give the results that all others must have, to the bit.
    let single = Model::load_with(&directory, &options(1, Some("scalar"))).unwrap();
    let texts = sequences(single.info().vocabulary as u32);
    let alone: Vec<Embedding> =
        texts.iter().flat_map(|text| single.encode_ids(&[text.as_slice()], &ALL).unwrap()).collect();
    for isa in trivec::instruction_sets() {
        let load = |threads| Model::load_with(&directory, &options(threads, Some(isa))).unwrap();
        let count = texts.len();
        let forward: Vec<usize> = (0..count).collect();
        let backward: Vec<usize> = forward.iter().rev().copied().collect();
        // 31 shares no factor with the 73 texts, so every text comes once, and long ones beside short ones.
        let mixed: Vec<usize> = forward.iter().map(|i| (i * 31 + 5) % count).collect();
        for (turn, threads) in THREADS.into_iter().enumerate() {
            let model = load(threads);
            let encode = |order: &[usize]| {
                let batch: Vec<&[u32]> = order.iter().map(|&text| texts[text].as_slice()).collect();
                model.encode_ids(&batch, &ALL).unwrap()
            };
            for (order, name) in [(&forward, "forward"), (&backward, "backward"), (&mixed, "mixed")] {
                failures.extend(compare(&format!("{isa}, {threads} threads, {name}"), &alone, order, encode));
            }
            // Each of these texts comes at one of three places, at another with the next number of threads: so at all of them on every ISA.
            for (number, text) in [0, 1, 15, 31, 63, count - 1].into_iter().enumerate() {
                let place = [0, NEIGHBOURS / 2, NEIGHBOURS][(number + turn) % 3];
                let order = among_neighbours(text, place, count);
                failures.extend(compare(&format!("{isa}, {threads} threads, of 65"), &alone, &order, encode));
                failures.extend(compare(&format!("{isa}, {threads} threads, alone"), &alone, &[text], encode));
            }
        }
    }
    report(failures);
}

/// If only dense vectors are asked for, the last layer computes only the first token of each text. From 64 texts on, these are enough rows to
/// be divided among two threads (`rows_are_shared` in `src/compute.rs`).
#[test]
fn many_first_tokens_have_the_bits_of_one() {
    let (single, two) = (options(1, None), options(2, None));
    let load = |options| Model::load_with(data("models/bf16-h60"), options).unwrap();
    let (single, two) = (load(&single), load(&two));
    let texts: Vec<Vec<u32>> = sequences(single.info().vocabulary as u32).into_iter().take(63).collect();
    let dense = EncodeOptions { modes: Modes::DENSE, ..ALL };
    for count in [64, 5, 65, 1, 64, 130] {
        let batch: Vec<&[u32]> = (0..count).map(|i| texts[i % texts.len()].as_slice()).collect();
        for (text, found) in batch.iter().zip(two.encode_ids(&batch, &dense).unwrap()) {
            let alone = single.encode_ids(&[text], &dense).unwrap();
            same_bits(&found, &alone[0]).map_err(|what| format!("{count} texts: {what}")).unwrap();
        }
    }
}

#[test]
fn a_mode_has_the_same_bits_whatever_else_is_asked() {
    let model = Model::load_with(data("models/bf16-h60"), &options(2, None)).unwrap();
    let texts = sequences(model.info().vocabulary as u32);
    let all = model.encode_ids(&texts, &ALL).unwrap();
    for modes in [Modes::DENSE, Modes::SPARSE, Modes::COLBERT] {
        let some = model.encode_ids(&texts, &EncodeOptions { modes, ..ALL }).unwrap();
        for (index, (found, all)) in some.iter().zip(&all).enumerate() {
            let expected = Embedding {
                dense: all.dense.clone().filter(|_| modes.dense),
                lexical: all.lexical.clone().filter(|_| modes.sparse),
                colbert: all.colbert.clone().filter(|_| modes.colbert),
                ..all.clone()
            };
            same_bits(found, &expected).map_err(|what| format!("{modes}: text {index}: {what}")).unwrap();
        }
    }
}

#[cfg(feature = "starter")]
#[test]
fn the_starter_gives_the_same_bits() {
    // Long texts are cut: they cost time and the tiny model covers them.
    let options_48 = EncodeOptions { max_length: Some(48), ..ALL };
    let texts: Vec<String> = common::texts().into_iter().map(|text| text.text).collect();
    let count = texts.len();
    let run = |model: &Model, order: &[usize]| {
        let batch: Vec<&str> = order.iter().map(|&text| texts[text].as_str()).collect();
        model.encode(&batch, &options_48).unwrap()
    };
    let single = Model::starter_with(&options(1, None)).unwrap();
    let alone: Vec<Embedding> = (0..count).flat_map(|text| run(&single, &[text])).collect();

    let mut failures = Vec::new();
    for (threads, text, place) in [(1, 0, 64), (2, 17, 32), (8, 37, 0), (8, 60, 64)] {
        let model = Model::starter_with(&options(threads, None)).unwrap();
        let order = among_neighbours(text, place, count);
        let backward: Vec<usize> = order.iter().rev().copied().collect();
        for order in [order, backward] {
            failures.extend(compare(&format!("{threads} threads"), &alone, &order, |order| run(&model, order)));
        }
    }
    report(failures);
}
