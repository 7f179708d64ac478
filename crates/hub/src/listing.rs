//! What a hub holds: a repository at a revision, and its files.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::address::{Endpoint, encode};
use super::hash::{Hash, hex};

/// A service that models are fetched from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hub {
    /// huggingface.co, or a mirror that speaks its API.
    HuggingFace,
    /// modelscope.cn.
    ModelScope,
}

impl Hub {
    /// Its name in records, paths and messages.
    pub fn name(self) -> &'static str {
        match self {
            Hub::HuggingFace => "huggingface",
            Hub::ModelScope => "modelscope",
        }
    }

    /// The revision that is meant when none is given.
    pub(super) fn default_revision(self) -> &'static str {
        match self {
            Hub::HuggingFace => "main",
            Hub::ModelScope => "master",
        }
    }
}

/// A file of a repository. Its path is plain and relative.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RemoteFile {
    pub path: String,
    pub bytes: u64,
    pub hash: Hash,
}

/// A repository at a revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listing {
    pub hub: Hub,
    pub repository: String,
    /// Identifies the content: the commit, or a digest of the files' hashes if the hub names no commit.
    pub revision: String,
    /// The revision as it stands in the addresses of files.
    pub address: String,
    pub files: Vec<RemoteFile>,
}

impl Listing {
    pub(super) fn file(&self, path: &str) -> Option<&RemoteFile> {
        self.files.iter().find(|file| file.path == path)
    }

    /// The address from which a file's content is downloaded.
    pub(super) fn url(&self, endpoint: &Endpoint, path: &str) -> String {
        let (base, repository) = (&endpoint.base, &self.repository);
        let (revision, path) = (encode(&self.address), encode(path));
        match self.hub {
            Hub::HuggingFace => format!("{base}/{repository}/resolve/{revision}/{path}"),
            Hub::ModelScope => format!("{base}/api/v1/models/{repository}/repo?Revision={revision}&FilePath={path}"),
        }
    }
}

/// Whether a path from a hub may be used as a local path.
pub(super) fn is_safe(path: &str) -> bool {
    path.len() <= 200
        && trivec::internal::is_plain_relative(path)
        // On Windows, colons and some endings have a special meaning.
        && !path.contains(|c: char| c.is_control() || matches!(c, ':' | '*' | '?' | '"' | '<' | '>' | '|'))
        && path.split('/').all(|part| !part.is_empty() && !part.starts_with('.') && !part.ends_with(['.', ' ']))
        && !path.ends_with(".part")
        && !path.ends_with(".etag")
}

/// Parses a hash of a listing. Empty text means no hash; anything else that is not a hash is refused.
pub(super) fn hash_of(oid: &str) -> Result<Hash, String> {
    match oid.trim_start_matches("sha256:") {
        "" => Ok(Hash::Unknown),
        oid => Hash::parse(oid).ok_or_else(|| format!("no hash, found `{oid}`")),
    }
}

/// A digest of the paths, lengths and hashes of a repository's files, which stands for the revision on hubs that name no commit. It has 40
/// digits, as a commit has.
pub(super) fn digest(files: &[RemoteFile]) -> String {
    let mut digest = Sha256::new();
    for file in files {
        digest.update(format!("{}\0{}\0{}\n", file.path, file.bytes, file.hash.text()));
    }
    hex(&digest.finalize())[..40].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_paths_are_refused() {
        for good in ["config.json", "1_Pooling/config.json", "model-00001-of-00002.safetensors"] {
            assert!(is_safe(good), "{good}");
        }
        for bad in [
            "",
            "/etc/passwd",
            "../x",
            "a/../../x",
            "a\\b",
            "C:x",
            "a//b",
            "a/",
            ".git/config",
            "a/.b",
            "x.part",
            "a\0b",
            "a/b\n",
            "x.json.etag",
            "con.",
        ] {
            assert!(!is_safe(bad), "{bad:?}");
        }
        assert!(!is_safe(&"a".repeat(300)));
    }
}
