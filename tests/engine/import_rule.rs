//! Who may import whom: the table of the design, held against every `use` in `src/` and against the manifests of the other crates.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Module → what it may import of this crate; `kernels` is the crate `trivec-kernels`.
///
/// `compute` (the chosen kernels, the threads, and the matrix product cut into tasks) is what `model` and `heads` share.
const TABLE: [(&str, &[&str]); 22] = [
    ("error", &[]),
    // Leaves that know nothing of models: intervals of means, text made safe to print, what a file's first bytes are, lock files, places of
    // output.
    ("bootstrap", &[]),
    ("escape", &[]),
    ("magic", &[]),
    ("lock_file", &[]),
    ("output_path", &[]),
    ("embedding", &[]),
    ("corpus", &["error"]),
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
        "Cancel" | "EncodeOptions" | "LoadOptions" | "Model" | "ModelInfo" | "Progress" | "Prompt"
        | "RerankOptions" | "Token" | "Tokens" | "Inspection" | "instruction_sets" => "engine",
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
    let src = trivec_testing::root("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    let mut wrong = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&src).unwrap();
        let first = relative.iter().next().unwrap().to_string_lossy();
        let module = first.trim_end_matches(".rs");
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
    assert_eq!(violations("pack", "use crate::{Model, similarity};"), Vec::<String>::new());
    assert!(!violations("unheard_of", "").is_empty());
}

/// Crate → the crates of this repository that it may depend on (tests aside).
const CRATES: [(&str, &[&str]); 12] = [
    ("trivec", &["trivec-kernels", "trivec-team"]),
    ("trivec-kernels", &[]),
    ("trivec-team", &[]),
    ("trivec-hub", &["trivec"]),
    ("trivec-cache", &["trivec"]),
    // The kernels, for the scans.
    ("trivec-search", &["trivec", "trivec-kernels"]),
    // The kernels, for the products.
    ("trivec-train", &["trivec", "trivec-kernels"]),
    // The team's crate, for its call of the allocator.
    ("trivec-serve", &["trivec", "trivec-cache", "trivec-search", "trivec-team"]),
    // The kernels, for the bench, which measures what they can do.
    (
        "trivec-cli",
        &["trivec", "trivec-cache", "trivec-hub", "trivec-kernels", "trivec-search", "trivec-serve", "trivec-train"],
    ),
    ("trivec-testing", &["trivec"]),
    ("trivec-c", &["trivec"]),
    ("trivec-python", &["trivec", "trivec-hub", "trivec-search"]),
];

/// Packages of the command line, which no other crate may know.
const COMMAND_LINE: [&str; 4] = ["clap", "indicatif", "plotters", "anstream"];

/// Names of the packages in a manifest's tables of dependencies, those of tests aside.
fn dependencies(manifest: &str) -> Vec<&str> {
    let mut counts = false;
    let mut names = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            counts = line.ends_with("dependencies]")
                && !line.contains("dev-dependencies")
                && !line.contains("workspace.dependencies");
        } else if counts && line.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            names.extend(line.split([' ', '.', '=']).next());
        }
    }
    names
}

fn manifest_violations(name: &str, manifest: &str) -> Vec<String> {
    let Some((_, allowed)) = CRATES.iter().find(|(known, _)| *known == name) else {
        return vec![format!("crate `{name}` is not in the table")];
    };
    let wrong = |dependency: &&str| match dependency.starts_with("trivec") {
        true => !allowed.contains(dependency),
        false => name != "trivec-cli" && COMMAND_LINE.contains(dependency),
    };
    dependencies(manifest).into_iter().filter(wrong).map(|other| format!("`{name}` depends on `{other}`")).collect()
}

#[test]
fn crates_depend_on_those_below_them() {
    let mut manifests = vec![trivec_testing::root("Cargo.toml"), trivec_testing::root("kernels/Cargo.toml")];
    for folder in ["crates", "bindings"] {
        let crates = std::fs::read_dir(trivec_testing::root(folder)).unwrap();
        let own = crates.map(|entry| entry.unwrap().path().join("Cargo.toml"));
        // In `bindings` there are folders of other languages, too.
        manifests.extend(own.filter(|manifest| manifest.exists()));
    }
    let mut wrong = Vec::new();
    for path in &manifests {
        let text = std::fs::read_to_string(path).unwrap();
        let name = text.lines().find_map(|line| line.strip_prefix("name = \"")).unwrap().trim_end_matches('"');
        wrong.extend(manifest_violations(name, &text));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(manifests.len(), CRATES.len());
}

#[test]
fn the_judge_of_manifests_sees_a_violation() {
    let manifest =
        "[dependencies]\ntrivec.workspace = true\n\n[dev-dependencies]\ntrivec-cli = { path = \"../cli\" }\n";
    assert_eq!(manifest_violations("trivec-hub", manifest), Vec::<String>::new());
    assert_eq!(manifest_violations("trivec-kernels", manifest), ["`trivec-kernels` depends on `trivec`"]);
    let manifest = "[target.'cfg(unix)'.dependencies]\nclap = \"4\"\ntrivec-cache.workspace = true\n";
    assert_eq!(
        manifest_violations("trivec-hub", manifest),
        ["`trivec-hub` depends on `clap`", "`trivec-hub` depends on `trivec-cache`"]
    );
    assert!(!manifest_violations("trivec-unheard-of", "").is_empty());
}
