//! Trains a model's three heads on pairs of texts, and prints how the figures changed: `cargo run --release --example train`.
//!
//! Twelve pairs are far too few to learn anything that holds elsewhere; docs/training.md says how many are enough.
//!
//! ```text
//! step 1 of 4
//! step 2 of 4
//! step 3 of 4
//! step 4 of 4
//! dense        nDCG@10 1.000 → 1.000
//! sparse       nDCG@10 0.765 → 0.765
//! colbert      nDCG@10 0.908 → 0.908
//! dense+sparse nDCG@10 1.000 → 1.000
//! all          nDCG@10 0.908 → 0.908
//! trained and written: loads again: true
//! ```

use std::ops::ControlFlow;

use trivec::Model;
use trivec_train::{Event, ExportOptions, Inputs, PairSet, RawPair, RawPairs, Session, TrainOptions};

const PAIRS: [(&str, &str); 12] = [
    ("a cat", "The small animal sleeps on the roof and catches mice."),
    ("a dog", "It barks when somebody comes to the door."),
    ("the sun", "It rises in the east and warms the earth."),
    ("the moon", "It is seen at night and makes the tides."),
    ("bread", "Flour, water and salt are baked in an oven."),
    ("cheese", "Milk becomes firm and ripens in a cellar."),
    ("a train", "It runs on rails from one station to the next."),
    ("a ship", "It crosses the sea with goods and people."),
    ("snow", "It falls in winter and covers the fields."),
    ("a bridge", "It leads a road over a river."),
    ("a clock", "Its hands show the hours and minutes."),
    ("a violin", "Its four strings are played with a bow."),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = Model::starter()?;
    let directory = tempfile::tempdir()?;
    let inputs = Inputs { train: set(&PAIRS[..8])?, dev: Some(set(&PAIRS[8..])?), evals: Vec::new() };
    let options = TrainOptions { epochs: 2, batch: 4, ..TrainOptions::default() };

    // The observer is called for every step. If it returned ControlFlow::Break, the run would end, and the same call would resume it.
    let mut observer = |event: Event<'_>| {
        if let Event::Step(done, all, _) = event {
            println!("step {done} of {all}");
        }
        ControlFlow::Continue(())
    };
    let work = directory.path().join("work");
    let trained = Session::prepare(&model, inputs, &options, &work, &mut observer)?.train(&mut observer)?;

    for change in trained.report.dev.iter().flat_map(|dev| &dev.changes) {
        println!("{:<12} nDCG@10 {:.3} → {:.3}", change.way, change.before.unwrap_or(f64::NAN), change.after);
    }

    let output = directory.path().join("my-model.safetensors");
    trained.write(&model, &output, ExportOptions::default())?;
    println!("trained and written: loads again: {}", Model::load(&output).is_ok());
    Ok(())
}

/// Makes a set of pairs, each of a query and the passage that answers it.
fn set(pairs: &[(&str, &str)]) -> trivec_train::Result<PairSet> {
    let pairs: Vec<RawPair> = pairs
        .iter()
        .map(|&(query, passage)| RawPair { query: query.into(), passage: passage.into(), ..RawPair::default() })
        .collect();
    PairSet::new(RawPairs { pairs, ..RawPairs::default() })
}
