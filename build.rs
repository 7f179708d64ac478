//! Finds the file of the feature `starter`: `models/starter.safetensors` of this repository, or the one that `TRIVEC_STARTER_FILE` names, for
//! a package without it (it is four times the size that a package may have).

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=TRIVEC_STARTER_FILE");
    if std::env::var_os("CARGO_FEATURE_STARTER").is_none() {
        return;
    }
    let named = std::env::var_os("TRIVEC_STARTER_FILE").map(PathBuf::from);
    // Read when this program runs, not when it is compiled: a target folder that was moved or copied has a compiled one from elsewhere.
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
