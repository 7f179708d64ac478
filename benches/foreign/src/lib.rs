//! Benches alone: see `linear.rs` and `sections.rs`.
