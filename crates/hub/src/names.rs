//! Short names of models that are known to load, and how names are written.

use super::error::HubError;

/// A file of a known model, with the length and the hash that it must have.
#[derive(Debug)]
#[cfg_attr(not(feature = "fetch"), allow(dead_code))]
pub struct Pinned {
    /// Path in the repository.
    pub path: &'static str,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256, in hexadecimal.
    pub sha256: &'static str,
}

/// A model with a short name.
#[derive(Debug)]
#[cfg_attr(not(feature = "fetch"), allow(dead_code))]
pub struct KnownModel {
    /// The name that users write.
    pub name: &'static str,
    /// The repository on Hugging Face.
    pub repository: &'static str,
    /// The commit on Hugging Face that is fetched unless another is asked for.
    pub revision: Option<&'static str>,
    /// Its licence.
    pub licence: &'static str,
    /// What is downloaded, in billions of bytes, rounded.
    pub download_gb: f64,
    /// What it is good for, in a few words.
    pub note: &'static str,
    /// Files whose hashes are known.
    pub pinned: &'static [Pinned],
}

const E5_NOTE: &str = "dense; begin texts with \"query: \" or \"passage: \"";

/// The models with short names.
pub const KNOWN: [KnownModel; 4] = [
    KnownModel {
        name: "bge-m3",
        repository: "BAAI/bge-m3",
        revision: Some("5617a9f61b028005a4858fdac845db406aefb181"),
        licence: "MIT",
        download_gb: 2.3,
        note: "dense, lexical and ColBERT; 8,192 tokens",
        pinned: &[
            Pinned {
                path: "pytorch_model.bin",
                bytes: 2_271_145_830,
                sha256: "b5e0ce3470abf5ef3831aa1bd5553b486803e83251590ab7ff35a117cf6aad38",
            },
            Pinned {
                path: "colbert_linear.pt",
                bytes: 2_100_674,
                sha256: "19bfbae397c2b7524158c919d0e9b19393c5639d098f0a66932c91ed8f5f9abb",
            },
            Pinned {
                path: "sparse_linear.pt",
                bytes: 3_516,
                sha256: "45c93804d2142b8f6d7ec6914ae23a1eee9c6a1d27d83d908a20d2afb3595ad9",
            },
            Pinned {
                path: "sentencepiece.bpe.model",
                bytes: 5_069_051,
                sha256: "cfc8146abe2a0488e9e2a0c56de7952f7c11ab059eca145a0a727afce0db2865",
            },
            Pinned {
                path: "tokenizer.json",
                bytes: 17_098_108,
                sha256: "21106b6d7dab2952c1d496fb21d5dc9db75c28ed361a05f5020bbba27810dd08",
            },
        ],
    },
    KnownModel {
        name: "multilingual-e5-base",
        repository: "intfloat/multilingual-e5-base",
        revision: None,
        licence: "MIT",
        download_gb: 1.1,
        note: E5_NOTE,
        pinned: &[],
    },
    KnownModel {
        name: "multilingual-e5-large",
        repository: "intfloat/multilingual-e5-large",
        revision: None,
        licence: "MIT",
        download_gb: 2.3,
        note: E5_NOTE,
        pinned: &[],
    },
    KnownModel {
        name: "arctic-embed-l-v2",
        repository: "Snowflake/snowflake-arctic-embed-l-v2.0",
        revision: None,
        licence: "Apache-2.0",
        download_gb: 2.3,
        note: "dense; begin queries with \"query: \"; 8,192 tokens",
        pinned: &[],
    },
];

/// Models that people ask for by a short name and that cannot be loaded, with the reason.
pub const UNSUPPORTED: [(&str, &str, &str); 1] = [(
    "multilingual-e5-small",
    "intfloat/multilingual-e5-small",
    "its architecture is BERT (`model_type` \"bert\"), and this engine runs XLM-RoBERTa; the nearest is multilingual-e5-base",
)];

/// The name of the model inside the binary.
pub const STARTER: &str = "starter";

/// What a user wrote to name a model: a short name or `ORG/REPO`, each with or without `@revision`.
///
/// ```
/// use trivec_hub::names::Spec;
///
/// let spec = Spec::parse("bge-m3")?;
/// assert_eq!((spec.repository.as_str(), spec.known.is_some()), ("BAAI/bge-m3", true));
/// let spec = Spec::parse("example/model@main")?;
/// assert_eq!((spec.name.as_str(), spec.revision.as_deref()), ("example/model", Some("main")));
/// # Ok::<(), trivec_hub::HubError>(())
/// ```
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "fetch"), allow(dead_code))]
pub struct Spec {
    /// The name under which the model is installed: the short name, or `ORG/REPO`.
    pub name: String,
    /// The repository that is meant.
    pub repository: String,
    /// The revision that was asked for, if one was.
    pub revision: Option<String>,
    /// The known model of that name.
    pub known: Option<&'static KnownModel>,
}

impl Spec {
    /// Parses a known short name or `ORG/REPO`, each with or without `@revision`.
    ///
    /// # Errors
    /// [`HubErrorKind::Usage`](crate::HubErrorKind::Usage) if `text` is no such name, or names a model that this engine cannot run.
    pub fn parse(text: &str) -> Result<Spec, HubError> {
        let (name, revision) = match text.split_once('@') {
            Some((name, revision)) => (name, Some(revision)),
            None => (text, None),
        };
        if let Some(revision) = revision
            && !is_revision(revision)
        {
            return Err(HubError::usage(format!("`{text}`: `{revision}` is not a revision (a branch, tag or commit)")));
        }
        if let Some((_, _, why)) =
            UNSUPPORTED.iter().find(|(short, repository, _)| *short == name || repository.eq_ignore_ascii_case(name))
        {
            return Err(HubError::usage(format!("{name} cannot be used: {why}")));
        }
        let known = KNOWN.iter().find(|known| known.name == name || known.repository.eq_ignore_ascii_case(name));
        let revision = revision.map(str::to_owned);
        if let Some(known) = known {
            let (name, repository) = (known.name.to_owned(), known.repository.to_owned());
            return Ok(Spec { name, repository, revision, known: Some(known) });
        }
        if !name.contains('/') {
            let names: Vec<&str> = KNOWN.iter().map(|known| known.name).collect();
            let names = names.join(", ");
            return Err(HubError::usage(format!("`{name}` is no known name ({names}) and no ORG/REPO")));
        }
        check_name(name)?;
        Ok(Spec { name: name.to_owned(), repository: name.to_owned(), revision, known: None })
    }
}

/// Whether `text` may be a branch, tag or commit: it becomes part of URLs and paths.
fn is_revision(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    (1..=100).contains(&text.len())
        && text.chars().all(plain)
        && !text.starts_with(['.', '-', '/'])
        && !text.ends_with('/')
        && !text.contains("..")
        && !text.contains("//")
}

/// Whether `text` is a full commit: 40 digits in lower-case hexadecimal.
#[cfg_attr(not(feature = "fetch"), allow(dead_code))]
pub fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Checks that `name` can be a model's name: `NAME` or `ORG/REPO` of letters, digits, `.`, `_` and `-`. Names become file names.
///
/// # Errors
/// [`HubErrorKind::Usage`](crate::HubErrorKind::Usage) if it cannot. `starter` cannot either.
pub fn check_name(name: &str) -> Result<(), HubError> {
    let part = |part: &str| {
        (1..=96).contains(&part.len())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
            && !part.starts_with(['.', '-'])
            && !part.contains("..")
            && !part.contains("--")
    };
    let parts: Vec<&str> = name.split('/').collect();
    if parts.len() <= 2 && parts.iter().all(|p| part(p)) && name != STARTER {
        return Ok(());
    }
    Err(HubError::usage(format!(
        "`{name}` cannot be a model's name: expected NAME or ORG/REPO, letters, digits, . _ -"
    )))
}

/// A model's or repository's name as it stands in file names: `BAAI/bge-m3` becomes `BAAI--bge-m3`.
pub fn file_name(name: &str) -> String {
    name.replace('/', "--")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read() {
        let spec = Spec::parse("bge-m3").unwrap();
        assert_eq!((spec.name.as_str(), spec.repository.as_str(), spec.revision), ("bge-m3", "BAAI/bge-m3", None));
        let spec = Spec::parse("baai/BGE-M3@refs/pr/38").unwrap();
        assert_eq!((spec.name.as_str(), spec.revision.as_deref()), ("bge-m3", Some("refs/pr/38")));
        let spec = Spec::parse("some/Model_v1.5@main").unwrap();
        assert_eq!((spec.name.as_str(), file_name(&spec.name).as_str()), ("some/Model_v1.5", "some--Model_v1.5"));
        assert!(spec.known.is_none());
    }

    #[test]
    fn malformed_and_unsupported_names_are_refused() {
        for bad in
            ["", "nonsense", "a/b/c", "../x", "a/..", "a/.b", "-a/b", "a/b--c", "a/b@", "a/b@../x", "a b/c", "a\\b/c"]
        {
            assert!(Spec::parse(bad).is_err(), "{bad}");
        }
        assert!(Spec::parse("nonsense").unwrap_err().message.contains("bge-m3"));
        let small = Spec::parse("intfloat/multilingual-e5-small").unwrap_err();
        assert!(small.message.contains("BERT") && small.message.contains("e5-base"), "{small}");
        assert!(check_name("starter").is_err());
    }

    #[test]
    fn pinned_hashes_and_commits_are_well_formed() {
        for pin in KNOWN.iter().flat_map(|known| known.pinned) {
            assert!(pin.sha256.len() == 64 && pin.sha256.bytes().all(|b| b.is_ascii_hexdigit()), "{}", pin.path);
        }
        assert!(KNOWN.iter().filter_map(|known| known.revision).all(is_commit));
    }
}
