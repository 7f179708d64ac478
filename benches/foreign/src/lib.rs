//! This package has only benches: `linear.rs` and `sections.rs`.
