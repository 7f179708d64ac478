//! Runs from files to models, on small data.

mod data;
mod export;
mod runs;

use std::ops::ControlFlow;
use std::path::Path;

use trivec::{LoadOptions, Model};
use trivec_train::{Event, Inputs, PairSet, RawPair, RawPairs, Result, Session, TrainOptions, Trained};

/// Queries and the passages that answer them: enough pairs for some steps.
const THINGS: [(&str, &str); 24] = [
    ("a cat", "The small animal sleeps on the roof and catches mice."),
    ("a dog", "It barks when somebody comes to the door."),
    ("the sun", "It rises in the east and warms the earth."),
    ("the moon", "It is seen at night and makes the tides."),
    ("bread", "Flour, water and salt are baked in an oven."),
    ("cheese", "Milk becomes firm and ripens in a cellar."),
    ("a train", "It runs on rails from one station to the next."),
    ("a ship", "It crosses the sea with goods and people."),
    ("a doctor", "She looks after people who are ill."),
    ("a teacher", "He explains sums and letters to children."),
    ("snow", "It falls in winter and covers the fields."),
    ("rain", "Water comes from the clouds and fills the rivers."),
    ("a book", "Many pages with a story are bound together."),
    ("a letter", "Somebody writes it and a postman brings it."),
    ("a king", "He wears a crown and rules a country."),
    ("a bridge", "It leads a road over a river."),
    ("gold", "A yellow metal that rings are made of."),
    ("coal", "It is dug from the ground and burns."),
    ("a clock", "Its hands show the hours and minutes."),
    ("a garden", "Flowers and vegetables grow behind the house."),
    ("a violin", "Its four strings are played with a bow."),
    ("a drum", "It is beaten with sticks to keep the time."),
    ("an apple", "A round fruit that ripens in autumn."),
    ("a potato", "It grows under the ground and is boiled."),
];

fn pair(query: &str, passage: &str) -> RawPair {
    RawPair { query: query.to_owned(), passage: passage.to_owned(), ..RawPair::default() }
}

fn set(pairs: impl IntoIterator<Item = RawPair>) -> PairSet {
    let pairs: Vec<RawPair> = pairs.into_iter().collect();
    let digest = format!("{pairs:?}");
    PairSet::new(RawPairs { pairs, digest, ..RawPairs::default() }).unwrap()
}

/// The first twenty pairs are the training set; the other four are the dev set, and once more a set to be measured.
fn inputs() -> Inputs {
    let all = |things: &[(&str, &str)]| set(things.iter().map(|(query, passage)| pair(query, passage)));
    Inputs {
        train: all(&THINGS[..20]),
        dev: Some(all(&THINGS[20..])),
        evals: vec![("same".to_owned(), all(&THINGS[20..]))],
    }
}

fn options() -> TrainOptions {
    TrainOptions { batch: 6, epochs: 2, checkpoint_every: 2, ..TrainOptions::default() }
}

fn load(path: &Path, threads: usize) -> Model {
    Model::load_with(path, &LoadOptions { threads: Some(threads), ..LoadOptions::default() }).unwrap()
}

fn starter(threads: usize) -> Model {
    Model::starter_with(&LoadOptions { threads: Some(threads), ..LoadOptions::default() }).unwrap()
}

/// Prepares and trains a run; with `until`, the observer ends it after the step of this number.
fn run(model: &Model, inputs: Inputs, options: &TrainOptions, work: &Path, until: Option<usize>) -> Result<Trained> {
    let mut observer = |event: Event<'_>| match event {
        Event::Step(done, _, _) if Some(done) == until => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    Session::prepare(model, inputs, options, work, &mut observer)?.train(&mut observer)
}
