//! Finds the packed model that the feature `starter` puts into the binary: `models/starter.safetensors` of this repository, or the file that
//! `TRIVEC_STARTER_FILE` names. A package from crates.io needs the latter, because it may have only a quarter of the model's size.

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=TRIVEC_STARTER_FILE");
    if std::env::var_os("CARGO_FEATURE_STARTER").is_none() {
        return;
    }
    let named = std::env::var_os("TRIVEC_STARTER_FILE").map(PathBuf::from);
    // Read when this program runs (not by `env!`), because a target folder that was moved or copied holds a build program that was compiled
    // elsewhere.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
    let file = named.unwrap_or_else(|| Path::new(&here).join("models/starter.safetensors"));
    if !file.is_file() {
        eprintln!(
            "the feature `starter` of trivec puts {} into the program, and it is not there: set TRIVEC_STARTER_FILE to a packed model",
            file.display()
        );
        std::process::exit(1);
    }
    println!("cargo:rerun-if-changed={}", file.display());
    println!("cargo:rustc-env=TRIVEC_STARTER_FILE={}", file.display());
}
