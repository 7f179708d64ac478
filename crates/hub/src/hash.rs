//! Checks files against the hashes that a hub has published.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// The published hash of a file's content, in lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Hash {
    Sha256(String),
    /// The name of a git object: SHA-1 over `blob LENGTH\0` and the content. Hubs have nothing else for small files.
    Git(String),
    /// No hash is known, as for a file that was copied into a cache by hand.
    Unknown,
}

impl Hash {
    /// Parses 64 hexadecimal digits as a SHA-256, and 40 as the name of a git object; `None` for any other text.
    pub(super) fn parse(text: &str) -> Option<Hash> {
        let text = text.to_ascii_lowercase();
        if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        match text.len() {
            64 => Some(Hash::Sha256(text)),
            40 => Some(Hash::Git(text)),
            _ => None,
        }
    }

    /// The digits; empty for an unknown hash.
    pub(super) fn text(&self) -> &str {
        match self {
            Hash::Sha256(text) | Hash::Git(text) => text,
            Hash::Unknown => "",
        }
    }
}

/// Compares a file with the length and hash it should have. `Ok(Err)` says how it differs. If the hash is unknown, only the length counts.
pub(super) fn check(path: &Path, bytes: u64, hash: &Hash) -> io::Result<Result<(), String>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    if length != bytes {
        return Ok(Err(format!("it has {length} bytes, expected {bytes}")));
    }
    let (kind, expected, found) = match hash {
        Hash::Unknown => return Ok(Ok(())),
        Hash::Sha256(expected) => ("SHA-256", expected, digest(Sha256::new(), &mut file)?),
        Hash::Git(expected) => {
            let mut hasher = Sha1::new();
            hasher.update(format!("blob {bytes}\0"));
            ("git hash", expected, digest(hasher, &mut file)?)
        }
    };
    Ok(if found == *expected { Ok(()) } else { Err(format!("its {kind} is {found}, expected {expected}")) })
}

/// Adds the content of a file to a digest, and returns it in hexadecimal digits.
fn digest<D: Digest>(mut hasher: D, file: &mut File) -> io::Result<String> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => hasher.update(&buffer[..read]),
        }
    }
    Ok(hex(&hasher.finalize()))
}

/// The bytes in lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_are_checked() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        std::fs::write(&path, "hello\n").unwrap();
        // `sha256sum` and `git hash-object` of the same file.
        let good = [
            "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
            "ce013625030ba8dba906f756967f9e9ca394464a",
        ];
        for text in good {
            let hash = Hash::parse(text).unwrap();
            assert_eq!(check(&path, 6, &hash).unwrap(), Ok(()));
            assert!(check(&path, 7, &hash).unwrap().unwrap_err().contains("6 bytes, expected 7"));
            let other = Hash::parse(&text.replace('c', "d")).unwrap();
            assert!(check(&path, 6, &other).unwrap().unwrap_err().contains("expected"));
        }
        assert_eq!((Hash::parse("abc"), Hash::parse(&"g".repeat(64))), (None, None));
    }
}
