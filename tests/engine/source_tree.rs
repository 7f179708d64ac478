//! Finds the imports in Rust source: what each file of a crate defines, which definitions of other files it names, and the circles of files that
//! name each other.
//!
//! It reads tokens and does not compile. A name is followed through modules, `use` (with nested braces, renames and `*`) and `pub use` to the
//! file that defines it. Calls of methods are not followed: a file that calls one has the type from an import. Code under `cfg(test)` does not
//! count.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

/// One import of a `use`: a path, and the name that it has in the importing module.
struct Import {
    path: Vec<String>,
    /// `None` for `*`.
    name: Option<String>,
}

/// A module: a file, or a `mod name { … }` in one.
#[derive(Default)]
struct Module {
    file: String,
    definitions: BTreeSet<String>,
    children: BTreeSet<String>,
    imports: Vec<Import>,
    /// Paths of at least two names in the code.
    paths: Vec<Vec<String>>,
    /// Single names in the code. They are only looked up in modules that are imported by `*`.
    words: BTreeSet<String>,
}

/// Splits source into words, `::` and single characters, without comments, strings and characters in quotes.
fn tokens(text: &str) -> Vec<&str> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            comment_length(rest)
        } else if let Some(length) = quoted_length(rest) {
            length
        } else {
            let length = match first {
                c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
                ':' if rest.starts_with("::") => 2,
                c => c.len_utf8(),
            };
            if !first.is_whitespace() {
                found.push(&rest[..length]);
            }
            length
        };
        rest = &rest[length..];
    }
    found
}

/// Length of the block comment that `text` begins with. It may have others inside.
fn comment_length(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    loop {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
        } else {
            at += rest.chars().next().map_or(0, char::len_utf8);
        }
        if depth == 0 || at >= text.len() {
            return at;
        }
    }
}

/// Length of the string, raw string or character that `text` begins with, if any; for a lifetime, the length of its quote.
fn quoted_length(text: &str) -> Option<usize> {
    let prefix = ["br", "cr", "r", "b", "c", ""].into_iter().find(|prefix| {
        let rest = text.strip_prefix(prefix);
        let hashes_then_quote = |rest: &str| rest.trim_start_matches('#').starts_with('"');
        rest.is_some_and(|rest| match prefix.ends_with('r') {
            true => hashes_then_quote(rest),
            false => rest.starts_with('"') || (prefix.is_empty() && rest.starts_with('\'')),
        })
    })?;
    let rest = &text[prefix.len()..];
    if prefix.ends_with('r') {
        let hashes = rest.len() - rest.trim_start_matches('#').len();
        let end = format!("\"{}", "#".repeat(hashes));
        let body = &rest[hashes + 1..];
        return Some(prefix.len() + hashes + 1 + body.find(&end).map_or(body.len(), |at| at + end.len()));
    }
    let quote = rest.chars().next()?;
    if quote == '\'' {
        // A lifetime has no second quote after its first character.
        let mut body = rest[1..].chars();
        let character = body.next()?;
        if character != '\\' && body.next() != Some('\'') {
            return Some(1);
        }
    }
    let mut escaped = false;
    let end = rest[1..].find(|c: char| {
        let ends = c == quote && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    Some(prefix.len() + end.map_or(rest.len(), |end| end + 2))
}

/// The most names of a path. One that has become longer follows imports in a circle.
const LONGEST_PATH: usize = 32;

/// A crate's modules, by their paths from the crate's root.
#[derive(Default)]
pub struct SourceTree {
    modules: BTreeMap<Vec<String>, Module>,
}

/// For each file the other files of which it names something, with the names.
pub type Arrows = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

struct Parser<'t> {
    tokens: &'t [&'t str],
    at: usize,
}

impl<'t> Parser<'t> {
    /// The token `ahead` places after the current one; empty after the end.
    fn peek(&self, ahead: usize) -> &'t str {
        self.tokens.get(self.at + ahead).copied().unwrap_or_default()
    }

    /// Skips a pair of brackets, of which the current token is the opening one, and returns the tokens from bracket to bracket.
    fn skip_brackets(&mut self) -> &'t [&'t str] {
        let (from, mut depth) = (self.at, 0);
        while self.at < self.tokens.len() {
            match self.peek(0) {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                break;
            }
        }
        &self.tokens[from..self.at]
    }

    /// Skips an item with its attributes and its visibility, to its `;` or the end of its braces.
    fn skip_item(&mut self) {
        while self.at < self.tokens.len() {
            match self.peek(0) {
                ";" => {
                    self.at += 1;
                    return;
                }
                "{" => {
                    self.skip_brackets();
                    return;
                }
                "(" | "[" => drop(self.skip_brackets()),
                _ => self.at += 1,
            }
        }
    }

    /// Reads the imports of a `use`, up to its `;`.
    fn imports(&mut self) -> Vec<Import> {
        let mut found = Vec::new();
        self.import_tree(&mut Vec::new(), &mut found);
        self.at += 1;
        found
    }

    /// Reads one path of a `use`, with the braces that may follow it, and adds its imports to `found`. `prefix` is the path before the braces.
    fn import_tree(&mut self, prefix: &mut Vec<String>, found: &mut Vec<Import>) {
        let outer = prefix.len();
        loop {
            match self.peek(0) {
                "::" => self.at += 1,
                "{" => {
                    self.at += 1;
                    while !matches!(self.peek(0), "}" | "") {
                        self.import_tree(prefix, found);
                        if self.peek(0) == "," {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    break;
                }
                "*" => {
                    self.at += 1;
                    found.push(Import { path: prefix.clone(), name: None });
                    break;
                }
                word => {
                    self.at += 1;
                    if word == "self" && !prefix.is_empty() {
                        // `a::{self}` imports `a`.
                    } else {
                        prefix.push(word.to_owned());
                    }
                    if self.peek(0) == "::" {
                        continue;
                    }
                    let mut name = prefix.last().cloned().unwrap_or_default();
                    if self.peek(0) == "as" {
                        name = self.peek(1).to_owned();
                        self.at += 2;
                    }
                    found.push(Import { path: prefix.clone(), name: Some(name) });
                    break;
                }
            }
        }
        prefix.truncate(outer);
    }
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

impl SourceTree {
    /// Reads all Rust files below `directory`. Their names are their paths relative to `root`.
    pub fn read(root: &Path, directory: &Path) -> SourceTree {
        let mut files = Vec::new();
        rust_files(directory, &mut files);
        let texts = files.iter().map(|file| {
            let name = file.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
            let module = file.strip_prefix(directory).unwrap().with_extension("");
            let module = module.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            (name, module, std::fs::read_to_string(file).unwrap())
        });
        SourceTree::of(texts.collect())
    }

    /// Parses files, each given by its name, its module path (with `mod`, `lib` or `main` as the last part of such a file) and its text.
    pub fn of(files: Vec<(String, Vec<String>, String)>) -> SourceTree {
        let mut tree = SourceTree::default();
        let mut of_tests = Vec::new();
        for (file, mut path, text) in files {
            if path.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
                path.pop();
            }
            let tokens = tokens(&text);
            tree.add(&file, &path, &mut Parser { tokens: &tokens, at: 0 }, &mut of_tests);
        }
        tree.modules.retain(|path, _| !of_tests.iter().any(|test| path.starts_with(test)));
        tree
    }

    /// The names of all files that are not tests.
    pub fn files(&self) -> BTreeSet<&str> {
        self.modules.values().map(|module| module.file.as_str()).collect()
    }

    /// The names of the files that use another crate by name.
    pub fn files_that_name(&self, other_crate: &str) -> BTreeSet<&str> {
        let names = |module: &&Module| {
            let imports = module.imports.iter().map(|import| &import.path);
            imports.chain(&module.paths).any(|path| path.first().is_some_and(|first| first == other_crate))
        };
        self.modules.values().filter(names).map(|module| module.file.as_str()).collect()
    }

    /// Adds the module `path`, which `parser` reads from `file`, and the modules in braces inside it. Paths of test modules go to `of_tests`.
    fn add(&mut self, file: &str, path: &[String], parser: &mut Parser<'_>, of_tests: &mut Vec<Vec<String>>) {
        let mut module = Module { file: file.to_owned(), ..Module::default() };
        let below = |name: &str| [path, &[name.to_owned()]].concat();
        let mut depth = 0;
        while parser.at < parser.tokens.len() {
            let (token, next) = (parser.peek(0), parser.peek(1));
            match token {
                "#" if next == "[" || (next == "!" && parser.peek(2) == "[") => {
                    parser.at += if next == "[" { 1 } else { 2 };
                    let attribute = parser.skip_brackets();
                    let is_test = attribute.get(1) == Some(&"cfg") && attribute.contains(&"test");
                    if next == "[" && is_test && !attribute.contains(&"not") {
                        let item = parser.at;
                        parser.skip_item();
                        let item = &parser.tokens[item..parser.at];
                        if let Some(at) = item.iter().position(|token| *token == "mod") {
                            of_tests.extend(item.get(at + 1).map(|name| below(name)));
                        }
                    }
                }
                "use" => {
                    parser.at += 1;
                    module.imports.extend(parser.imports());
                }
                "mod" if is_name(next) && parser.peek(2) == ";" => {
                    module.children.insert(next.to_owned());
                    parser.at += 3;
                }
                "mod" if is_name(next) && parser.peek(2) == "{" => {
                    module.children.insert(next.to_owned());
                    parser.at += 2;
                    let inside = parser.skip_brackets();
                    self.add(file, &below(next), &mut Parser { tokens: &inside[1..inside.len() - 1], at: 0 }, of_tests);
                }
                "{" | "(" | "[" => {
                    depth += 1;
                    parser.at += 1;
                }
                "}" | ")" | "]" => {
                    depth -= 1;
                    parser.at += 1;
                }
                _ if is_name(token) => {
                    let defines = ["fn", "struct", "enum", "trait", "type", "const", "static", "union"]
                        .contains(&token)
                        && !["fn", "unsafe"].contains(&next);
                    let name = match token {
                        "static" if next == "mut" => Some(parser.peek(2)),
                        "macro_rules" => Some(parser.peek(2)),
                        _ => defines.then_some(next),
                    };
                    module.definitions.extend(name.filter(|name| depth == 0 && is_name(name)).map(str::to_owned));
                    let of_value = parser.at > 0 && [".", "::"].contains(&parser.tokens[parser.at - 1]);
                    let mut path = vec![token.to_owned()];
                    parser.at += 1;
                    while parser.peek(0) == "::" && is_name(parser.peek(1)) {
                        path.push(parser.peek(1).to_owned());
                        parser.at += 2;
                    }
                    match path.len() {
                        1 if !of_value => drop(module.words.insert(token.to_owned())),
                        2.. if !of_value => module.paths.push(path),
                        _ => {}
                    }
                }
                _ => parser.at += 1,
            }
        }
        let other = self.modules.insert(path.to_vec(), module);
        assert!(other.is_none(), "{file}: two files are the module {}", path.join("::"));
    }

    /// The file that defines the item to which `path` leads from the module `from`, and the item's name there. `None` for names of other crates.
    fn definition(&self, from: &[String], path: &[String]) -> Option<(&str, &str)> {
        self.look_up(from, path, true, &mut HashSet::new())
    }

    /// Does the work of [`SourceTree::definition`]. `seen` holds what is being looked up, so that names that lead to each other end the search.
    fn look_up(
        &self,
        from: &[String],
        path: &[String],
        through_globs: bool,
        seen: &mut HashSet<(Vec<String>, Vec<String>, bool)>,
    ) -> Option<(&str, &str)> {
        let module = self.modules.get(from)?;
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => return self.look_up(&[], rest, through_globs, seen),
            "self" => return self.look_up(from, rest, through_globs, seen),
            "super" => return self.look_up(&from[..from.len().checked_sub(1)?], rest, through_globs, seen),
            _ => {}
        }
        // A name that leads back to itself has no definition.
        if path.len() > LONGEST_PATH || !seen.insert((from.to_vec(), path.to_vec(), through_globs)) {
            return None;
        }
        let child = [from, std::slice::from_ref(first)].concat();
        if module.children.contains(first) && self.modules.contains_key(&child) {
            return self.look_up(&child, rest, through_globs, seen);
        }
        if let Some(name) = module.definitions.get(first) {
            return Some((&module.file, name));
        }
        let by_name = module.imports.iter().filter(|import| import.name.as_ref() == Some(first));
        for import in by_name.filter(|import| import.path != [first.clone()]) {
            let found = self.look_up(from, &[&import.path[..], rest].concat(), through_globs, seen);
            if found.is_some() {
                return found;
            }
        }
        for import in module.imports.iter().filter(|import| import.name.is_none() && through_globs) {
            // The path of an import by `*` is not itself looked up through imports by `*`.
            let found = self.look_up(from, &[&import.path[..], path].concat(), false, seen);
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// For each file, which names of which other files it uses.
    pub fn arrows(&self) -> Arrows {
        let mut arrows = Arrows::new();
        for (from, module) in &self.modules {
            let imported =
                module.imports.iter().filter(|import| import.name.is_some()).map(|import| import.path.clone());
            let globs: Vec<&Import> = module.imports.iter().filter(|import| import.name.is_none()).collect();
            let is_own = |word: &String| {
                module.definitions.contains(word)
                    || module.imports.iter().any(|import| import.name.as_ref() == Some(word))
            };
            let words = module.words.iter().filter(|word| !is_own(word));
            let by_glob =
                words.flat_map(|word| globs.iter().map(|glob| [&glob.path[..], std::slice::from_ref(word)].concat()));
            for path in imported.chain(module.paths.iter().cloned()).chain(by_glob) {
                if let Some((file, name)) = self.definition(from, &path).filter(|(file, _)| *file != module.file) {
                    let own = arrows.entry(module.file.clone()).or_default();
                    own.entry(file.to_owned()).or_default().insert(name.to_owned());
                }
            }
        }
        arrows
    }
}

fn rust_files(directory: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

/// The groups of files that import each other in a circle. Each is given as its imports, one line for each pair of files, with the names.
pub fn circles(arrows: &Arrows) -> Vec<Vec<String>> {
    let reached = |from: &str| {
        let (mut reached, mut left) = (BTreeSet::new(), vec![from]);
        while let Some(file) = left.pop() {
            for next in arrows.get(file).into_iter().flat_map(BTreeMap::keys) {
                if reached.insert(next.as_str()) {
                    left.push(next);
                }
            }
        }
        reached
    };
    let all: BTreeMap<&str, BTreeSet<&str>> = arrows.keys().map(|file| (file.as_str(), reached(file))).collect();
    let circle_of = |file: &str| -> BTreeSet<&str> {
        let others = all[file].iter().copied();
        others.filter(|other| all.get(*other).is_some_and(|back| back.contains(file))).collect()
    };
    let circles: BTreeSet<BTreeSet<&str>> = all.keys().map(|file| circle_of(file)).filter(|c| !c.is_empty()).collect();
    let inside = |circle: &BTreeSet<&str>| -> Vec<String> {
        let from_file = circle.iter().flat_map(|file| {
            let to = arrows[*file].iter().filter(|(to, _)| circle.contains(to.as_str()));
            to.map(move |(to, names)| {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                format!("{file} -> {to}: {}", names.join(", "))
            })
        });
        from_file.collect()
    };
    circles.iter().map(inside).collect()
}
