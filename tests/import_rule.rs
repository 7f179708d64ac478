//! Who may import whom: the table of the design, held against every `use` in `src/`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Module → what it may import of this crate; `kernels` is the crate `trivec-kernels`.
///
/// `compute` (the chosen kernels, the threads, and the matrix product cut into tasks) is what `model` and `heads` share.
const TABLE: [(&str, &[&str]); 24] = [
    ("error", &[]),
    // Leaves that know nothing of models: text made safe to print, what a file's first bytes are, lock files, places of output.
    ("escape", &[]),
    ("magic", &[]),
    ("lock_file", &[]),
    ("output_path", &[]),
    ("embedding", &[]),
    ("parallel", &[]),
    ("config", &["error"]),
    ("text", &["error"]),
    ("tensor", &["kernels", "error"]),
    ("weights", &["tensor", "config", "kernels", "magic", "error"]),
    ("compute", &["weights", "tensor", "parallel", "kernels", "error"]),
    ("model", &["compute", "weights", "tensor", "config", "parallel", "kernels", "error"]),
    ("heads", &["compute", "config", "weights", "tensor", "embedding", "parallel", "kernels", "error"]),
    ("starter", &["weights"]),
    (
        "engine",
        &[
            "text",
            "model",
            "heads",
            "compute",
            "weights",
            "config",
            "embedding",
            "parallel",
            "starter",
            "kernels",
            "error",
        ],
    ),
    ("similarity", &["embedding", "kernels", "parallel", "error"]),
    // `similarity` because `verify` compares rankings.
    (
        "pack",
        &[
            "similarity",
            "engine",
            "text",
            "model",
            "weights",
            "tensor",
            "config",
            "embedding",
            "parallel",
            "kernels",
            "escape",
            "lock_file",
            "error",
        ],
    ),
    ("hub", &["pack", "weights", "config", "lock_file", "error"]),
    // `weights` for the model's files, whose content says which model it is.
    ("cache", &["engine", "weights", "embedding", "output_path", "error"]),
    // `parallel` and `kernels` for the bench, which measures what they can do.
    ("server", &["cache", "engine", "similarity", "embedding", "config", "escape", "error"]),
    // `weights` for what a copy that was packed once is recognised by.
    (
        "cli",
        &[
            "weights",
            "server",
            "cache",
            "engine",
            "pack",
            "hub",
            "similarity",
            "embedding",
            "parallel",
            "kernels",
            "escape",
            "magic",
            "lock_file",
            "output_path",
            "error",
        ],
    ),
    // The crate root and the fuzz entrances see everything.
    ("lib", &["*"]),
    ("fuzzing", &["*"]),
];

fn rust_files(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

/// Names that follow `prefix` in `text`: `crate::{a::B, c::D}` and `crate::a::B` both count.
fn names_after(text: &str, prefix: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in text.match_indices(prefix) {
        let rest = &text[at + prefix.len()..];
        let list = match rest.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap(),
            None => rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap(),
        };
        for name in list.split(',') {
            let name = name.trim().split("::").next().unwrap();
            names.insert(name.to_owned());
        }
    }
    names.remove("");
    names
}

/// Public names of the crate root, by the module they come from.
fn origin(name: &str) -> &str {
    match name {
        "Error" | "ErrorKind" | "Result" => "error",
        "Embedding" | "LexicalWeights" | "Modes" | "Reranked" | "TokenVectors" => "embedding",
        "EncodeOptions" | "LoadOptions" | "Model" | "ModelInfo" | "Prompt" | "RerankOptions" | "Token" | "Tokens"
        | "Inspection" | "instruction_sets" => "engine",
        // `SpecialTokens` is an option of the engine's calls.
        "SpecialTokens" => "engine",
        // What `pack` offers, and `weights` defines.
        "WeightFormat" => "pack",
        other => other,
    }
}

fn violations(module: &str, text: &str) -> Vec<String> {
    let table: BTreeMap<_, _> = TABLE.into_iter().collect();
    let Some(allowed) = table.get(module) else { return vec![format!("module `{module}` is not in the table")] };
    let mut found = names_after(text, "crate::");
    if text.contains("trivec_kernels") {
        found.insert("kernels".to_owned());
    }
    let found = found.iter().map(|name| origin(name)).filter(|name| *name != module);
    found
        .filter(|name| !allowed.contains(name) && allowed != &["*"])
        .map(|name| format!("`{module}` imports `{name}`"))
        .collect()
}

#[test]
fn imports_follow_the_table() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    let mut wrong = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&src).unwrap();
        let first = relative.iter().next().unwrap().to_string_lossy();
        let module = first.trim_end_matches(".rs");
        if module == "main" {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let code: String =
            text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        wrong.extend(violations(module, &code).into_iter().map(|v| format!("{}: {v}", relative.display())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_judge_sees_a_violation() {
    assert_eq!(violations("text", "use crate::engine::Model;"), ["`text` imports `engine`"]);
    assert_eq!(violations("config", "use crate::{error::Result, weights::Source};"), ["`config` imports `weights`"]);
    assert_eq!(violations("embedding", "trivec_kernels::Kernels::best()"), ["`embedding` imports `kernels`"]);
    assert_eq!(violations("cli", "use crate::{Model, similarity};"), Vec::<String>::new());
    assert!(!violations("unheard_of", "").is_empty());
}
