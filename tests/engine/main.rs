//! The tests of the engine, one file for each subject. They are one program, because each program would have to be linked with the engine.

mod bad_models;
mod comparators;
mod fuzz_corpus;
mod golden_bge_m3;
mod golden_bge_reranker;
mod golden_models;
mod golden_rerank;
mod golden_starter;
mod golden_tokens;
mod import;
mod import_rule;
mod invariance;
mod not_finite;
mod odd_texts;
mod packed;
mod quantization_quality;
mod rerank;
mod settings;
mod source_tree;
mod states;
mod torch_models;
