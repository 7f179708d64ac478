//! The model's names: those that the service was given, or one derived from the model's path.

use std::io::Read;
use std::path::{Component, Path};
use std::sync::{PoisonError, RwLock};

use axum::http::StatusCode;
use serde::Deserialize;

use super::error::{ApiError, Result};
use trivec::Model;

/// The name if no better one is found.
const FALLBACK: &str = "trivec";

/// Names of directories and files that say where a model is, not which.
const PLACES: [&str; 9] =
    ["model", "models", "snapshots", "checkpoint", "pytorch_model", "weights", "data", "tmp", "mnt"];

/// The names that the model answers to.
pub(super) struct Names {
    /// As the service was told; the first one stands in answers.
    served: Vec<String>,
    /// Whether a request that names another model is refused.
    strict: bool,
    /// Where `served` is empty: the name of the model in use.
    own: RwLock<String>,
}

impl Names {
    pub(super) fn new(served: Vec<String>, strict: bool, model: &Model) -> Names {
        Names { served, strict, own: RwLock::new(name_of(model)) }
    }

    /// `model` is the one in use from now on.
    pub(super) fn follow(&self, model: &Model) {
        *self.own.write().unwrap_or_else(PoisonError::into_inner) = name_of(model);
    }

    /// The name that stands in answers.
    pub(super) fn first(&self) -> String {
        self.served.first().cloned().unwrap_or_else(|| self.own.read().unwrap_or_else(PoisonError::into_inner).clone())
    }

    pub(super) fn all(&self) -> Vec<String> {
        if self.served.is_empty() { vec![self.first()] } else { self.served.clone() }
    }

    /// The model's name that `asked` is. A name that was made here is also known without its organisation, and in any case.
    pub(super) fn known(&self, asked: &str) -> Result<String> {
        let last = |name: &str| name.rsplit('/').next().unwrap_or_default().to_lowercase();
        let all = self.all();
        let same = |name: &&String| *name == asked || (self.served.is_empty() && last(name) == last(asked));
        all.iter().find(same).cloned().ok_or_else(|| {
            let what = format!("there is no model `{}` here, expected `{}`", asked.escape_debug(), all.join("` or `"));
            ApiError {
                param: Some("model".to_owned()),
                ..ApiError::new(StatusCode::NOT_FOUND, "model_not_found", what)
            }
        })
    }

    /// Checks the model that a request names. There is only one model, so any name is accepted and the answer has the real one; a strict
    /// service refuses other names.
    pub(super) fn check(&self, asked: Option<&str>) -> Result<()> {
        match asked.filter(|name| self.strict && !name.is_empty()) {
            Some(name) => self.known(name).map(drop),
            None => Ok(()),
        }
    }
}

fn name_of(model: &Model) -> String {
    name_of_path(Path::new(&model.info().name))
}

/// The name of the model at `path`: what an installation or Hugging Face's cache calls it, else the first that says something of the file's
/// or directory's own name, what `config.json` says that the model was saved from, and the names of the directories above.
fn name_of_path(path: &Path) -> String {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let given = path.file_name().and_then(|name| name.to_str());
    let found = installed(&real).or_else(|| hub_cache(&real)).or_else(|| hub_cache(path));
    let found = found.or_else(|| given.and_then(telling)).or_else(|| names_above(&real).next().and_then(telling));
    let found = found.or_else(|| saved_from(&real)).or_else(|| names_above(&real).skip(1).find_map(telling));
    found.unwrap_or_else(|| FALLBACK.to_owned())
}

/// The names of `path` and of the directories that it is in, inmost first.
fn names_above(path: &Path) -> impl Iterator<Item = &str> {
    path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => name.to_str(),
        _ => None,
    })
}

/// A name that says which model it is: not a hash, and not the name of a place. The ending of a file's name is left off.
fn telling(name: &str) -> Option<String> {
    let name = name.strip_suffix(".safetensors").unwrap_or(name);
    let is_hash = name.len() >= 12 && name.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    let says_nothing = is_hash || PLACES.contains(&name.to_lowercase().as_str()) || name.starts_with("tmp.");
    let is_plain = !name.trim().is_empty() && !name.chars().any(char::is_control);
    (is_plain && !says_nothing).then(|| name.to_owned())
}

/// The name of an installed model: `models/NAME/FILE.safetensors` beside its record `models/NAME.json`.
fn installed(path: &Path) -> Option<String> {
    let directory = path.parent()?;
    let name = directory.file_name()?.to_str()?;
    let record = directory.parent()?.join(format!("{name}.json"));
    (path.is_file() && record.is_file()).then(|| name.to_owned())
}

/// The repository of a directory in Hugging Face's cache: `models--ORG--NAME/snapshots/REVISION`.
fn hub_cache(path: &Path) -> Option<String> {
    let name = names_above(path).find_map(|name| name.strip_prefix("models--"))?;
    let repository = name.replace("--", "/");
    is_repository(&repository).then_some(repository)
}

/// `_name_or_path` of `config.json`, where it is the name of a repository and not a path.
fn saved_from(directory: &Path) -> Option<String> {
    #[derive(Deserialize)]
    struct Config {
        _name_or_path: Option<String>,
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(directory.join("config.json")).ok()?;
    file.take(1 << 20).read_to_end(&mut bytes).ok()?;
    let config: Config = serde_json::from_slice(&bytes).ok()?;
    config._name_or_path.filter(|name| is_repository(name) && name.contains('/'))
}

/// Whether a name is `NAME` or `ORG/NAME` of characters that repositories' names have.
fn is_repository(name: &str) -> bool {
    let is_plain = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
    };
    name.len() <= 200 && name.split('/').count() <= 2 && name.split('/').all(is_plain)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_name_tells_which_model_it_is() {
        let root = tempfile::tempdir().unwrap();
        let hash = "5617a9f61b028005a4858fdac845db406aefb181";
        let named = |path: &str, config: &str| {
            let path = root.path().join("home").join(path);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("config.json"), config).unwrap();
            name_of_path(&path)
        };
        let saved = r#"{"_name_or_path":"BAAI/bge-m3"}"#;
        for (path, config, expected) in [
            ("bge-m3", "{}", "bge-m3"),
            ("my.tuned", saved, "my.tuned"),
            (&format!("hub/models--BAAI--bge-m3/snapshots/{hash}"), "{}", "BAAI/bge-m3"),
            (&format!("hub/models--gpt2/snapshots/{hash}"), "{}", "gpt2"),
            (&format!("hub/models--..--etc/snapshots/{hash}"), "{}", "models--..--etc"),
            (&format!("a/{hash}"), saved, "BAAI/bge-m3"),
            (&format!("b/{hash}"), r#"{"_name_or_path":"/data/x"}"#, "b"),
            (&format!("c/{hash}"), r#"{"_name_or_path":"a/b/c"}"#, "c"),
            (&format!("d/{hash}"), r#"{"_name_or_path":"."}"#, "d"),
            (&format!("e/{hash}"), "no JSON", "e"),
            ("f/model", saved, "BAAI/bge-m3"),
            ("g/model", r#"{"_name_or_path":null}"#, "g"),
            ("starter v2/Models/snapshots", "{}", "starter v2"),
        ] {
            assert_eq!(named(path, config), expected, "{path} {config}");
            // The same by a path that has no name at its end.
            let path = root.path().join("home").join(path);
            fs::create_dir_all(path.join("1_Pooling")).unwrap();
            assert_eq!(name_of_path(&path.join(".")), expected);
            assert_eq!(name_of_path(&path.join("1_Pooling/..")), expected);
        }
    }

    #[test]
    fn files_are_named_by_their_record_or_their_own_name() {
        let root = tempfile::tempdir().unwrap();
        let file = |path: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            path
        };
        assert_eq!(name_of_path(&file("somewhere/m3-int8.safetensors")), "m3-int8");
        assert_eq!(name_of_path(&file("bge/model.safetensors")), "bge");
        file("models/bge-m3.json");
        assert_eq!(name_of_path(&file("models/bge-m3/int8-0123456789ab.safetensors")), "bge-m3");
        assert_eq!(name_of_path(Path::new("/")), FALLBACK);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_named_by_what_it_is_called() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("0123456789abcdef");
        fs::create_dir(&target).unwrap();
        std::os::unix::fs::symlink(&target, root.path().join("served")).unwrap();
        assert_eq!(name_of_path(&root.path().join("served")), "served");
    }
}
