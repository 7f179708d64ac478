//! The C interface of trivec. Programs include `include/trivec.h`, which is generated from this crate (`tests/header.rs` checks that it is
//! current); what it says about ownership, threads and errors holds here too.
//!
//! This crate uses only the engine. It alone dereferences the callers' pointers: inside a guard (`error.rs`), which turns whatever happens into a
//! status, each function first makes Rust values of its arguments (`arguments.rs`), then calls the engine.
#![allow(non_camel_case_types, reason = "types have the names that the header gives them")]

mod arguments;
mod callbacks;
mod cancel;
mod encode;
mod error;
mod load;
mod rerank;
mod result;
mod score;
mod tokens;
mod version;

#[cfg(test)]
mod tests;
