//! Makes an index, asks it across languages, and says why each document was found: `cargo run --release --example search`.
//!
//! ```text
//! 1. phone 0.542
//!    [Apple] has presented a [new] [phone].
//!    ▁ → d 0.49
//!    苹果 → ▁Apple 0.85
//!    公司 → ▁Apple 0.56
//!    发布 → d 0.57
//!    新 → ▁new 0.77
//!    手机 → ▁phone 0.83
//! 2. soup 0.153
//!    The soup is cook[ed] with carrots and leek[.]
//!    ▁ → . 0.22
//!    苹果 → . 0.12
//!    公司 → . 0.08
//!    发布 → ed 0.14
//!    新 → ▁is 0.12
//!    手机 → . 0.11
//! with a filter: train
//! ```

use trivec::Model;
use trivec_search::{Document, Index, IndexOptions, Mark, ModelId, Query};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = Model::starter()?;
    // The identity of the model's files. An index refuses queries of another model.
    let id = ModelId::of(&model)?;
    let directory = tempfile::tempdir()?;
    let index = Index::create(directory.path().join("notes"), &id, &IndexOptions::default())?;
    let encoder = index.encoder(&model, &id)?;

    let mut writer = index.writer()?;
    writer.upsert(
        &encoder,
        &[
            Document::new("phone", "Apple has presented a new phone. Its camera is better.").with_field("year", 2024),
            Document::new("soup", "The soup is cooked with carrots and leek.").with_field("year", 2020),
            Document::new("train", "The night train to Vienna leaves at ten.").with_field("year", 2021),
        ],
    )?;
    writer.commit()?;

    let reader = index.reader()?;
    let query = Query { top: 2, explain: true, ..Query::new("苹果公司发布新手机") };
    for hit in reader.search(&encoder, &query)?.hits {
        println!("{}. {} {:.3}", hit.rank, hit.document.key, hit.score);
        let Some(why) = hit.explanation else { continue };
        // The sentence that carried the hit; [ ] stand around what a token of the query is near to.
        let snippet: String = why
            .snippet
            .iter()
            .map(|part| match part.mark {
                Some(Mark::Meaning | Mark::Word) => format!("[{}]", part.text),
                None => part.text.clone(),
            })
            .collect();
        println!("   {snippet}");
        for token in why.alignment.iter().filter(|token| token.sentence.is_some()) {
            println!("   {} → {} {:.2}", token.query, token.document, token.similarity);
        }
    }

    let query = Query { top: 1, filter: Some("year < 2022".parse()?), ..Query::new("a journey by rail") };
    let hits = reader.search(&encoder, &query)?;
    println!("with a filter: {}", hits.hits[0].document.key);
    Ok(())
}
