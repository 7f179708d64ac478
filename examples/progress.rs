//! Embeds many texts in one call, reports its progress, and ends a second call early: `cargo run --release --example progress`.
//!
//! ```text
//! 500 of 500 texts are embedded
//! 500 embeddings, in the order of the texts
//! the second call was cancelled
//! ```

use trivec::{Cancel, EncodeOptions, Error, Model, Progress};

fn main() -> trivec::Result<()> {
    let model = Model::starter()?;
    // One call takes all texts. The engine sorts them by length and makes the batches itself.
    let texts: Vec<String> = (0..500).map(|number| format!("Text number {number} of a long list.")).collect();

    let progress = Progress::new(|done, total| {
        if done == total {
            println!("{done} of {total} texts are embedded");
        }
    });
    let options = EncodeOptions { progress: Some(progress), ..Default::default() };
    let embeddings = model.encode(&texts, &options)?;
    println!("{} embeddings, in the order of the texts", embeddings.len());

    // Any thread that has a clone of the flag may set it. Here the progress function does, after the first batch.
    let cancel = Cancel::new();
    let flag = cancel.clone();
    let progress = Progress::new(move |_, _| flag.cancel());
    let options = EncodeOptions { progress: Some(progress), cancel: Some(cancel), ..Default::default() };
    match model.encode(&texts, &options) {
        Err(Error::Cancelled) => println!("the second call was cancelled"),
        other => println!("the second call gave {} embeddings", other?.len()),
    }
    Ok(())
}
