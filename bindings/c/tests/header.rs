//! Tests that `include/trivec.h` is what cbindgen generates from the sources, and has every function that the library exports.

use std::path::Path;

/// Generates the header from the sources as they are now, without the `# Safety` sections, which are for readers of Rust.
fn made() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).unwrap();
    let builder = cbindgen::Builder::new().with_config(config);
    let bindings = modules(root).into_iter().fold(builder, |builder, file| builder.with_src(file));
    let mut text = Vec::new();
    bindings.generate().unwrap().write(&mut text);
    without_safety(&String::from_utf8(text).unwrap())
}

/// The source files that have something for the header, in the header's order.
fn modules(root: &Path) -> Vec<std::path::PathBuf> {
    let names = [
        "version",
        "error",
        "arguments",
        "cancel",
        "callbacks",
        "load",
        "result",
        "encode",
        "rerank",
        "tokens",
        "score",
    ];
    names.map(|name| root.join(format!("src/{name}.rs"))).to_vec()
}

/// The header without its `# Safety` sections: each ends with its comment.
fn without_safety(text: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut skips = false;
    for line in text.lines() {
        let is_comment = line.starts_with("//");
        skips = is_comment && (skips || line.trim_end() == "// # Safety");
        if skips && kept.last().is_some_and(|line| line.trim_end() == "//") {
            kept.pop();
        }
        if !skips {
            kept.push(line.trim_end());
        }
    }
    kept.join("\n") + "\n"
}

#[test]
fn the_header_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/trivec.h");
    let made = made();
    if std::env::var_os("TRIVEC_WRITE_HEADER").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap();
    assert!(made == there, "include/trivec.h is old: run TRIVEC_WRITE_HEADER=1 cargo test -p trivec-c --test header");
}

#[test]
fn the_header_has_every_function() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let header = std::fs::read_to_string(root.join("include/trivec.h")).unwrap();
    let mut functions = 0;
    for file in modules(root) {
        let text = std::fs::read_to_string(file).unwrap();
        let exported = text.match_indices("#[unsafe(no_mangle)]").map(|(at, _)| &text[at..]);
        for item in exported {
            let name = item.split("extern \"C\" fn ").nth(1).unwrap().split('(').next().unwrap();
            assert!(name.starts_with("trivec_"), "{name}");
            assert!(header.contains(&format!("{name}(")), "{name}");
            functions += 1;
        }
    }
    assert!(functions > 35, "{functions}");
}
