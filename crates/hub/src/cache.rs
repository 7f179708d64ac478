//! Hugging Face's settings in the environment: addresses, the token, and the cache that its own tools fill.

use std::fs;
use std::path::{Path, PathBuf};

use super::address::{Endpoint, is_loopback};
use super::hash::Hash;
use super::listing::{Hub, Listing, RemoteFile, is_safe};
use super::names::{file_name, is_commit};

/// The trimmed value of a variable of the environment; `None` if it is unset or empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// Whether a variable of the environment is switched on.
fn is_true(name: &str) -> bool {
    variable(name).is_some_and(|value| matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on"))
}

/// Whether `HF_HUB_OFFLINE` forbids the network.
pub(super) fn offline() -> bool {
    is_true("HF_HUB_OFFLINE")
}

/// The directory of Hugging Face's own tools; `None` if there is no home directory.
fn hf_home() -> Option<PathBuf> {
    let cache = || match variable("XDG_CACHE_HOME") {
        Some(cache) => Some(PathBuf::from(cache)),
        None => std::env::home_dir().map(|home| home.join(".cache")),
    };
    variable("HF_HOME").map(PathBuf::from).or_else(|| Some(cache()?.join("huggingface")))
}

/// The directory in which Hugging Face's own tools keep the files of repositories.
fn hub_cache() -> Option<PathBuf> {
    variable("HF_HUB_CACHE").map(PathBuf::from).or_else(|| Some(hf_home()?.join("hub")))
}

/// Hugging Face's token: that of the environment, else that of the file in which its own tools keep it.
fn token() -> Option<String> {
    let from_file = || {
        let path = variable("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| Some(hf_home()?.join("token")))?;
        Some(fs::read_to_string(path).ok()?.trim().to_owned())
    };
    let token =
        variable("HF_TOKEN").or_else(|| if is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN") { None } else { from_file() });
    token.filter(|token| is_token(token))
}

/// Whether a text can be a token, which is sent in a header.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.len() < 1000 && text.bytes().all(|b| b.is_ascii_graphic())
}

/// The address of a hub and its token, as the environment says; without a variable, the hub's usual address.
pub(super) fn endpoint(hub: Hub) -> Endpoint {
    let (base, token) = match hub {
        Hub::HuggingFace => (variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned()), token()),
        Hub::ModelScope => {
            let domain = || variable("MODELSCOPE_DOMAIN").map(|domain| format!("https://{domain}"));
            let base = variable("MODELSCOPE_ENDPOINT").or_else(domain);
            (
                base.unwrap_or_else(|| "https://modelscope.cn".to_owned()),
                variable("MODELSCOPE_API_TOKEN").filter(|token| is_token(token)),
            )
        }
    };
    Endpoint { base: base.trim_end_matches('/').to_owned(), token }
}

/// Hugging Face's API at the address `base`, with the environment's token.
pub(super) fn endpoint_at(base: &str) -> Endpoint {
    Endpoint { base: base.trim_end_matches('/').to_owned(), token: token() }
}

/// Whether the environment gives Hugging Face a loopback address, so that the hub is on this machine.
pub fn endpoint_is_loopback() -> bool {
    is_loopback(&endpoint(Hub::HuggingFace).base)
}

/// A repository in the cache of Hugging Face's own tools.
#[derive(Debug)]
pub(super) struct CachedRepository {
    root: PathBuf,
}

impl CachedRepository {
    /// The repository in the cache that the environment names, if it is there.
    pub(super) fn find(repository: &str) -> Option<CachedRepository> {
        Self::in_cache(&hub_cache()?, repository)
    }

    fn in_cache(cache: &Path, repository: &str) -> Option<CachedRepository> {
        let root = cache.join(format!("models--{}", file_name(repository)));
        root.is_dir().then_some(CachedRepository { root })
    }

    /// The commit that `revision` meant when the cache was last updated.
    pub(super) fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let commit = fs::read_to_string(self.root.join("refs").join(revision)).ok()?;
        Some(commit.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// The path of a commit's file, with links resolved; `None` if it is not in the cache.
    pub(super) fn file(&self, commit: &str, path: &str) -> Option<PathBuf> {
        let file = fs::canonicalize(self.root.join("snapshots").join(commit).join(path)).ok()?;
        file.is_file().then_some(file)
    }

    /// The files of a commit that the cache has. A file's hash is the name of the blob that it links to; without a blob it is unknown.
    pub(super) fn listing(&self, repository: &str, commit: &str) -> Listing {
        let mut files = Vec::new();
        self.walk(&self.root.join("snapshots").join(commit), "", 0, &mut files);
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Listing {
            hub: Hub::HuggingFace,
            repository: repository.to_owned(),
            revision: commit.to_owned(),
            address: commit.to_owned(),
            files,
        }
    }

    /// Adds the files below `directory`, at most two directories deep.
    fn walk(&self, directory: &Path, prefix: &str, depth: usize, files: &mut Vec<RemoteFile>) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = format!("{prefix}{name}");
            let Ok(target) = fs::canonicalize(entry.path()) else { continue };
            if target.is_dir() && depth < 2 {
                self.walk(&entry.path(), &format!("{path}/"), depth + 1, files);
            } else if let (true, Ok(metadata)) = (is_safe(&path), fs::metadata(&target)) {
                let blob = target.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let hash = if target.parent() == Some(&self.blobs()) { Hash::parse(blob) } else { None };
                files.push(RemoteFile { path, bytes: metadata.len(), hash: hash.unwrap_or(Hash::Unknown) });
            }
        }
    }

    fn blobs(&self) -> PathBuf {
        let blobs = self.root.join("blobs");
        fs::canonicalize(&blobs).unwrap_or(blobs)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn files_and_their_hashes_are_read_from_the_cache() {
        let directory = tempfile::tempdir().unwrap();
        let commit = "a".repeat(40);
        let root = directory.path().join("models--o--r");
        let snapshot = root.join("snapshots").join(&commit);
        fs::create_dir_all(snapshot.join("1_Pooling")).unwrap();
        fs::create_dir_all(root.join("blobs")).unwrap();
        fs::create_dir_all(root.join("refs")).unwrap();
        fs::write(root.join("refs/main"), &commit).unwrap();
        let blob = "ce013625030ba8dba906f756967f9e9ca394464a";
        fs::write(root.join("blobs").join(blob), "hello\n").unwrap();
        std::os::unix::fs::symlink(format!("../../../blobs/{blob}"), snapshot.join("1_Pooling/config.json")).unwrap();
        fs::write(snapshot.join("plain.json"), "{}").unwrap();
        std::os::unix::fs::symlink("../../nowhere", snapshot.join("broken.json")).unwrap();

        assert!(CachedRepository::in_cache(directory.path(), "o/other").is_none());
        let cached = CachedRepository::in_cache(directory.path(), "o/r").unwrap();
        assert_eq!(cached.commit("main"), Some(commit.clone()));
        assert_eq!(cached.commit("other"), None);
        let listing = cached.listing("o/r", &commit);
        let found: Vec<_> = listing.files.iter().map(|f| (f.path.as_str(), f.bytes, f.hash.clone())).collect();
        let expected = [("1_Pooling/config.json", 6, Hash::Git(blob.into())), ("plain.json", 2, Hash::Unknown)];
        assert_eq!(found, expected);
        assert!(cached.file(&commit, "1_Pooling/config.json").unwrap().ends_with(blob));
        assert!(cached.file(&commit, "broken.json").is_none());
    }
}
