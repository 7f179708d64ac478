//! The model's names: those that the service was given, or one derived from the model's path.

use std::io::Read;
use std::path::{Component, Path};
use std::sync::{PoisonError, RwLock};

use axum::http::StatusCode;
use serde::Deserialize;

use super::error::{ApiError, Result};
use trivec::Model;

/// The model's name if its path gives no better one.
const FALLBACK: &str = "trivec";

/// Usual names of directories and files that do not say which model they have.
const PLACES: [&str; 9] =
    ["model", "models", "snapshots", "checkpoint", "pytorch_model", "weights", "data", "tmp", "mnt"];

/// The names that the model answers to.
pub(super) struct Names {
    /// The names that the service was started with; answers have the first.
    served: Vec<String>,
    /// Whether a request that names another model is refused.
    strict: bool,
    /// The name derived from the path of the model in use, which counts if `served` is empty.
    own: RwLock<String>,
}

impl Names {
    pub(super) fn new(served: Vec<String>, strict: bool, model: &Model) -> Names {
        Names { served, strict, own: RwLock::new(name_of(model)) }
    }

    /// Derives the name again, from the path of `model`, which is in use from now on.
    pub(super) fn follow(&self, model: &Model) {
        *self.own.write().unwrap_or_else(PoisonError::into_inner) = name_of(model);
    }

    /// The name that answers have.
    pub(super) fn first(&self) -> String {
        self.served.first().cloned().unwrap_or_else(|| self.own.read().unwrap_or_else(PoisonError::into_inner).clone())
    }

    pub(super) fn all(&self) -> Vec<String> {
        if self.served.is_empty() { vec![self.first()] } else { self.served.clone() }
    }

    /// The name of the model that `asked` means. A derived name is compared without organisations and without regard to upper and lower case.
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

/// The name derived from where the model came from (`info().name`): from its path; `starter` and `packed bytes` stay as they are.
fn name_of(model: &Model) -> String {
    name_of_path(Path::new(&model.info().name))
}

/// The name of the model at `path`: its name in trivec's own installation or in Hugging Face's cache, if it is there. Else the first of these
/// that is [`telling`]: the name of the file or directory, the repository that `config.json` says the model was saved from, the names of the
/// directories above.
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

/// The name, without `.safetensors`, if it can say which model it is: `None` for a hash, and for one of [`PLACES`].
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

/// The repository, as `ORG/NAME`, of a directory in Hugging Face's cache: `models--ORG--NAME/snapshots/REVISION`.
fn hub_cache(path: &Path) -> Option<String> {
    let name = names_above(path).find_map(|name| name.strip_prefix("models--"))?;
    let repository = name.replace("--", "/");
    is_repository(&repository).then_some(repository)
}

/// `_name_or_path` of the directory's `config.json`, if it is the name of a repository and not a path.
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

/// Whether a name is `NAME` or `ORG/NAME`, in the characters that names of repositories have.
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
    fn a_directorys_name_is_derived_from_its_path_and_its_config() {
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
            // Paths that end in `.` or `..`, and so have no name at their end, give the same.
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
    fn a_link_to_a_model_gives_the_links_own_name() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("0123456789abcdef");
        fs::create_dir(&target).unwrap();
        std::os::unix::fs::symlink(&target, root.path().join("served")).unwrap();
        assert_eq!(name_of_path(&root.path().join("served")), "served");
    }
}
