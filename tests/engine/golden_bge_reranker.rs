//! Compares bge-reranker-v2-m3 with values that were published for it. The test only runs if the environment variable TRIVEC_BGE_RERANKER
//! names a checkpoint directory.
//!
//! Source: the model card of BAAI/bge-reranker-v2-m3, `FlagReranker(…, use_fp16=True).compute_score`.

use trivec_testing as common;

use std::io::Write;

use common::close;
use trivec::{Model, RerankOptions};

const PANDA: &str = "The giant panda (Ailuropoda melanoleuca), sometimes called a panda bear or simply panda, is a bear species \
                     endemic to China.";
/// The tolerance for logits of fp16 arithmetic: fp16 numbers near 8 are 0.008 apart, and 24 layers round.
const HALF: f32 = 0.05;

#[test]
fn published_logits() {
    let Some(directory) = std::env::var_os("TRIVEC_BGE_RERANKER") else {
        // Not eprintln!, whose output the test runner hides when a test passes.
        let notice =
            "SKIPPED published_logits: set TRIVEC_BGE_RERANKER to the directory of bge-reranker-v2-m3 to run it\n";
        std::io::stderr().write_all(notice.as_bytes()).unwrap();
        return;
    };
    let model = Model::load(directory).unwrap();
    let pairs = [("query", "passage"), ("what is panda?", "hi"), ("what is panda?", PANDA)];
    let found = model.rerank_pairs(&pairs, &RerankOptions::default()).unwrap();
    let logits: Vec<f32> = found.iter().map(|result| result.logit).collect();
    close(&logits, &[-5.652_343_8, -8.1875, 5.261_718_8], HALF).unwrap();
}
