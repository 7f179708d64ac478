//! The C interface of trivec. What programs see is `include/trivec.h`, which is made of this crate (`tests/header.rs` holds it current);
//! everything said there about ownership, threads and errors is meant here too.
//!
//! It knows the engine and nothing else. Pointers are looked at in this crate alone: each function first makes Rust values of its arguments
//! (`arguments.rs`), then calls the engine inside a guard (`error.rs`), which makes a status of whatever happens.
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
