//! The identity of a model: a digest of everything that decides its vectors.
//!
//! The content of every file the model was read from (weights, heads, configuration, tokenizer) goes into it byte for byte. The cache
//! remembers each file's digest with the file's stamp (device, inode, length and times), so that the digest is computed once, not at every
//! start. The arithmetic decides vectors too, so the identity also covers this program's version and the bits of the embeddings of a few
//! tokens, computed on the spot: a build or an instruction set that rounds differently has another identity.

use std::fs::File;
use std::sync::Arc;
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::entry::{Wanted, Widths, payload};
use super::store::FileDigest;
use trivec::internal::{Content, Stamp, read_through};
use trivec::{EncodeOptions, Model};

/// The identity of a model, which goes into the key of each of its entries.
#[derive(Debug)]
pub struct Identity {
    pub(super) digest: [u8; 32],
    pub(super) widths: Widths,
    files: Vec<(Arc<File>, Stamp)>,
}

impl Identity {
    /// Whether the model's files are unchanged since they were digested. (A file that is overwritten in place while it is mapped changes the
    /// vectors of the model in use.)
    pub(super) fn still_holds(&self) -> bool {
        self.files.iter().all(|(file, stamp)| matches!(Stamp::of(file), Ok(Some(now)) if now == *stamp))
    }

    /// Computes the identity. `known` looks up digests of files, `remember` stores new ones.
    pub(super) fn of(
        model: &Model,
        known: impl Fn(&Stamp) -> Option<[u8; 32]>,
        remember: impl Fn(FileDigest),
    ) -> Result<Identity, String> {
        let info = model.info();
        if info.rerank {
            return Err("the model is a reranker, which has no embeddings to keep".to_owned());
        }
        let mut hash = Sha256::new();
        let mut files = Vec::new();
        // Each field is preceded by its length, so that different lists of fields never have the same bytes.
        let mut field = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        field(b"trivec embeddings 1");
        field(env!("CARGO_PKG_VERSION").as_bytes());
        field(info.weights.as_bytes());
        field(format!("{} {} {}", info.pooling, info.dense_normalized, info.dense_dim).as_bytes());
        // Instruction sets give the same bits, except where they multiply bf16 differently.
        field(if info.weights.contains("bf16") { info.isa } else { "any" }.as_bytes());
        for (name, content) in model.contents() {
            field(name.as_bytes());
            field(&digest_of(&name, content, &known, &remember, &mut files)?);
        }
        field(&probe(model)?);
        let digest = hash.finalize().into();
        let widths = Widths { dense: info.dense_dim, colbert: info.colbert_dim.unwrap_or(0) };
        Ok(Identity { digest, widths, files })
    }
}

/// The SHA-256 of one of the model's files: what `known` has for its stamp; else it is computed and, if the stamp is settled, given to
/// `remember`. Adds the file and its stamp to `files`.
fn digest_of(
    name: &str,
    content: Content,
    known: impl Fn(&Stamp) -> Option<[u8; 32]>,
    remember: impl Fn(FileDigest),
    files: &mut Vec<(Arc<File>, Stamp)>,
) -> Result<[u8; 32], String> {
    let file = match content {
        Content::Static(bytes) => return Ok(Sha256::digest(bytes).into()),
        Content::File(Some(file)) => file,
        Content::File(None) | Content::Memory => return Err(format!("the content of `{name}` cannot be told")),
    };
    let failed = |e: std::io::Error| format!("`{name}` cannot be read: {e}");
    let before = Stamp::of(&file).map_err(failed)?;
    if let Some(digest) = before.and_then(|stamp| known(&stamp)) {
        files.extend(before.map(|stamp| (file, stamp)));
        return Ok(digest);
    }
    let mut hash = Sha256::new();
    read_through(&file, |bytes| hash.update(bytes)).map_err(failed)?;
    let digest = hash.finalize().into();
    if Stamp::of(&file).map_err(failed)? != before {
        return Err(format!("`{name}` was changed while it was read"));
    }
    if let Some(stamp) = before {
        if stamp.is_settled(SystemTime::now()) {
            remember(FileDigest { stamp, digest });
        }
        files.push((file, stamp));
    }
    Ok(digest)
}

/// A digest of the bits of one embedding, in every mode that the model has. Its text is eight token ids spread over the vocabulary.
fn probe(model: &Model) -> Result<[u8; 32], String> {
    let info = model.info();
    let ids: Vec<u32> = (0..8).map(|i| (i * info.vocabulary / 8) as u32).take(info.max_length).collect();
    let wanted = Wanted::from(info.modes);
    let options = EncodeOptions { modes: info.modes, ..EncodeOptions::default() };
    let embedding = model.encode_ids(&[ids], &options).map_err(|e| e.to_string())?;
    let mut hash = Sha256::new();
    for part in wanted.parts() {
        let bytes = embedding.first().and_then(|embedding| payload(embedding, part));
        hash.update(bytes.ok_or("the model gave no embedding")?);
    }
    Ok(hash.finalize().into())
}
