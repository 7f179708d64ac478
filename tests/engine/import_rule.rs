//! Checks who imports whom: every file of `src/` and the manifests of all crates against tables of what is allowed, and that no files of a
//! crate import each other in a circle.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::source_tree::{SourceTree, circles};

/// For each module of the crate `trivec` the other modules that it may import; `kernels` is the crate `trivec-kernels`.
///
/// `model` and `heads` share `compute` (the chosen kernels and the threads) and `linear` (the matrix product).
const TABLE: [(&str, &[&str]); 27] = [
    ("error", &[]),
    // Modules that import nothing and know nothing of models: confidence intervals, escaping for terminals, reading JSON, recognising files by
    // their first bytes, and numbers in messages. Lock files and output paths follow below.
    ("bootstrap", &[]),
    ("escape", &[]),
    ("json", &[]),
    ("magic", &[]),
    ("numbers", &[]),
    // These two read the input files of other crates: text, and records.
    ("decode", &["magic"]),
    ("records", &["decode"]),
    ("lock_file", &[]),
    ("output_path", &[]),
    ("embedding", &[]),
    ("corpus", &["error"]),
    ("parallel", &[]),
    ("config", &["error"]),
    ("text", &["error"]),
    ("tensor", &["kernels", "error"]),
    ("weights", &["tensor", "config", "kernels", "magic", "error"]),
    ("compute", &["parallel", "kernels"]),
    ("linear", &["weights", "tensor", "compute", "kernels"]),
    ("model", &["linear", "compute", "weights", "tensor", "config", "parallel", "kernels", "error"]),
    ("heads", &["linear", "compute", "config", "weights", "tensor", "embedding", "kernels", "error"]),
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
            "numbers",
            "error",
        ],
    ),
    ("similarity", &["embedding", "kernels", "parallel", "error"]),
    // `pack` needs `similarity` because `verify` compares rankings.
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
    // The crate root and the entry points for fuzzing may import everything.
    ("lib", &["*"]),
    ("fuzzing", &["*"]),
];

/// The module in the table to which a file of `src/` belongs.
fn module_of(file: &str) -> &str {
    file.trim_start_matches("src/").split('/').next().unwrap().trim_end_matches(".rs")
}

/// The imports in files of `src/` that the table does not allow, and the files whose module is not in it.
fn violations(tree: &SourceTree) -> Vec<String> {
    let table: BTreeMap<_, _> = TABLE.into_iter().collect();
    let mut wrong = Vec::new();
    for file in tree.files().into_iter().filter(|file| !table.contains_key(module_of(file))) {
        wrong.push(format!("{file}: module `{}` is not in the table", module_of(file)));
    }
    let allowed =
        |from: &str, to: &str| table.get(from).is_none_or(|allowed| allowed.contains(&to) || allowed == &["*"]);
    for (file, to, names) in
        tree.arrows().iter().flat_map(|(file, to)| to.iter().map(move |(to, names)| (file, to, names)))
    {
        let (own, other) = (module_of(file), module_of(to));
        if own != other && !allowed(own, other) {
            wrong.push(format!(
                "{file}: `{own}` imports `{other}` ({})",
                Vec::from_iter(names.iter().cloned()).join(", ")
            ));
        }
    }
    for file in tree.files_that_name("trivec_kernels") {
        if !allowed(module_of(file), "kernels") {
            wrong.push(format!("{file}: `{}` imports `kernels`", module_of(file)));
        }
    }
    wrong
}

/// A crate made of these files, each given by its name below `src/` and its text.
fn made_of(files: &[(&str, &str)]) -> SourceTree {
    let file = |&(name, text): &(&str, &str)| {
        let path = name.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
        (format!("src/{name}"), path, text.to_owned())
    };
    SourceTree::of(files.iter().map(file).collect())
}

#[test]
fn imports_follow_the_table() {
    let root = trivec_testing::root("");
    let tree = SourceTree::read(&root, &root.join("src"));
    let wrong = violations(&tree);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The check has read the files and found an import that is there.
    assert!(tree.arrows()["src/engine/load.rs"].contains_key("src/text/tokenizer.rs"));
}

#[test]
fn the_check_of_imports_sees_a_violation() {
    let engine = ("engine/mod.rs", "mod model;\npub use model::Model;\n");
    let model = ("engine/model.rs", "pub struct Model;");
    let root = ("lib.rs", "mod config; mod engine; mod text;\npub use engine::Model;");
    let of = |name, text| violations(&made_of(&[root, engine, model, (name, text)]));
    let seen = ["src/text/mod.rs: `text` imports `engine` (Model)"];
    assert_eq!(of("text/mod.rs", "use crate::engine::Model;"), seen);
    assert_eq!(of("text/mod.rs", "use crate::{config::{A, b::{C, D}}, engine::Model};"), seen, "after nested braces");
    assert_eq!(of("text/mod.rs", "use crate::Model;"), seen, "by the root, which hands it on");
    assert_eq!(of("text/mod.rs", "fn f() -> super::engine::model::Model {}"), seen, "by its path");
    assert_eq!(of("text/mod.rs", "use crate::engine::*;\nstruct Holder(Model);"), seen, "by a star");
    assert_eq!(of("text/mod.rs", "use crate::engine as e;\nfn f() { e::Model::load() }"), seen, "by another name");
    assert_eq!(of("pack/mod.rs", "use crate::{Model, engine};"), Vec::<String>::new());
    assert_eq!(
        of("text/mod.rs", "// crate::engine::Model\nconst A: &str = \"crate::engine::Model\";"),
        Vec::<String>::new()
    );
    assert_eq!(of("text/mod.rs", "#[cfg(test)]\nmod tests { use crate::engine::Model; }"), Vec::<String>::new());
    let kernels = ["src/embedding.rs: `embedding` imports `kernels`"];
    assert_eq!(of("embedding.rs", "fn f() { trivec_kernels::Kernels::best(); }"), kernels);
    assert_eq!(of("embedding.rs", "use trivec_kernels::{Isa, Kernels};"), kernels);
    assert_eq!(of("unheard_of.rs", "").len(), 1);
}

/// The `src` folder of every crate of the workspace, by the list of members in the manifest.
fn crates() -> Vec<PathBuf> {
    let manifest = std::fs::read_to_string(trivec_testing::root("Cargo.toml")).unwrap();
    let list = manifest.split_once("members = [").unwrap().1.split_once(']').unwrap().0;
    let members = list.split(',').map(|member| member.trim().trim_matches('"')).chain([""]);
    members.map(|member| trivec_testing::root("").join(member).join("src")).collect()
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let root = trivec_testing::root("");
    let (mut files, mut found) = (0, Vec::new());
    for directory in crates() {
        let tree = SourceTree::read(&root, &directory);
        files += tree.files().len();
        found.extend(circles(&tree.arrows()).iter().map(|circle| circle.join("\n  ")));
    }
    assert!(found.is_empty(), "{} circles:\n{}", found.len(), found.join("\n\n"));
    assert!(files > 300, "{files} files were read");
}

#[test]
fn the_check_of_circles_sees_them() {
    let in_circles = |files: &[(&str, &str)]| {
        let circles = circles(&made_of(files).arrows());
        circles.iter().map(Vec::len).collect::<Vec<_>>()
    };
    let root = ("lib.rs", "mod a; mod b; mod c;");
    let a = ("a.rs", "use crate::{c::{C, d::{E, F}}, b::B};\npub struct A;");
    assert_eq!(
        in_circles(&[root, a, ("b.rs", "pub struct B(super::a::A);")]),
        [2],
        "an import after nested braces, and a path"
    );
    assert_eq!(in_circles(&[root, a, ("b.rs", "pub struct B;")]), [0; 0], "one way");
    assert_eq!(
        in_circles(&[root, a, ("b.rs", "pub struct B; #[cfg(test)] mod tests { use crate::a::A; }")]),
        [0; 0],
        "tests"
    );
    assert_eq!(in_circles(&[root, a, ("b.rs", "/// [`A`](crate::a::A)\npub struct B;")]), [0; 0], "comments");
    // A child module uses what its parent defines, while the parent uses or re-exports what the child defines.
    let child = ("a/child.rs", "use super::Word;\npub fn read(word: Word) {}");
    for parent in
        ["mod child; pub struct Word; fn f() { child::read(Word) }", "mod child; pub struct Word; pub use child::read;"]
    {
        assert_eq!(in_circles(&[root, ("a/mod.rs", parent), child]), [2], "{parent}");
    }
    assert_eq!(
        in_circles(&[root, ("a/mod.rs", "mod child; pub struct Word;"), child]),
        [0; 0],
        "a parent that only has a child"
    );
    let leaf = [
        ("a/mod.rs", "mod child; mod word; pub use word::Word; pub use child::read;"),
        ("a/word.rs", "pub struct Word;"),
    ];
    assert_eq!(in_circles(&[root, leaf[0], leaf[1], child]), [0; 0], "a word in a leaf, by the parent's hand");
    // A circle of three files, and two separate circles.
    let three = [
        ("a.rs", "use crate::b::B; pub struct A;"),
        ("b.rs", "use crate::c::C; pub struct B;"),
        ("c.rs", "pub struct C(crate::a::A);"),
    ];
    assert_eq!(in_circles(&[root, three[0], three[1], three[2]]), [3]);
    let two = [
        ("a.rs", "mod x; mod y;"),
        ("a/x.rs", "use super::y::*; pub struct X(Y);"),
        ("a/y.rs", "pub struct Y(super::x::X);"),
    ];
    let beside = [("b.rs", "mod z; use z::Z; pub struct B;"), ("b/z.rs", "pub struct Z(super::B);")];
    assert_eq!(in_circles(&[root, two[0], two[1], two[2], beside[0], beside[1]]), [2, 2]);
}

/// For each crate the crates of this repository on which it may depend, except in tests.
const CRATES: [(&str, &[&str]); 12] = [
    ("trivec", &["trivec-kernels", "trivec-team"]),
    ("trivec-kernels", &[]),
    ("trivec-team", &[]),
    ("trivec-hub", &["trivec"]),
    ("trivec-cache", &["trivec"]),
    // It needs the kernels for its scans.
    ("trivec-search", &["trivec", "trivec-kernels"]),
    // It needs the kernels for its matrix products.
    ("trivec-train", &["trivec", "trivec-kernels"]),
    // It needs the crate of the team for a call of the memory allocator.
    ("trivec-serve", &["trivec", "trivec-cache", "trivec-search", "trivec-team"]),
    // It needs the kernels for `trivec bench`, which measures what they can do.
    (
        "trivec-cli",
        &["trivec", "trivec-cache", "trivec-hub", "trivec-kernels", "trivec-search", "trivec-serve", "trivec-train"],
    ),
    ("trivec-testing", &["trivec"]),
    ("trivec-c", &["trivec"]),
    ("trivec-python", &["trivec", "trivec-hub", "trivec-search", "trivec-train"]),
];

/// Packages on which no crate but `trivec-cli` may depend.
const COMMAND_LINE: [&str; 4] = ["clap", "indicatif", "plotters", "anstream"];

/// Names of the packages in a manifest's tables of dependencies, except those for tests.
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

/// The dependencies in the manifest of crate `name` that [`CRATES`] and [`COMMAND_LINE`] do not allow.
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
fn the_check_of_manifests_sees_a_violation() {
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
