//! `--cache` and `--cache-size`, of `embed`, `index` and `serve`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use clap::Args;
use serde::{Deserialize, Serialize};

use trivec::Model;
use trivec::numbers::grouped;
#[cfg(feature = "search")]
use trivec::{Embedding, EncodeOptions};
use trivec_cache::{Cache, DEFAULT_BYTES, Identity, LEAST_BYTES};
#[cfg(feature = "search")]
use trivec_cache::{Wanted, WhenBehind};

/// Where embeddings are kept.
#[derive(Args, Debug, Clone, Default)]
pub(super) struct CacheArgs {
    /// File to keep embeddings in, so that a text is computed once [default: none]
    #[arg(long, value_name = "PATH", env = "TRIVEC_CACHE")]
    pub cache: Option<PathBuf>,
    /// Most bytes of the cache's file, as 512MB, 2GiB or bytes; the least recently used entries are removed [default: 1GiB]
    #[arg(long, value_name = "SIZE", env = "TRIVEC_CACHE_SIZE")]
    pub cache_size: Option<ByteSize>,
}

impl CacheArgs {
    /// Opens the cache of `--cache`. Returns `None` without the option, and if opening fails: a warning then says why.
    pub(super) fn open(&self) -> Option<Cache> {
        let path = self.cache.as_deref()?;
        open(path, self.cache_size.unwrap_or_default())
    }
}

fn open(path: &Path, size: ByteSize) -> Option<Cache> {
    match Cache::open(path, size.0, Box::new(warn)) {
        Ok(cache) => Some(cache),
        Err(e) => {
            warn(&format!("no cache: {e}"));
            None
        }
    }
}

/// An open cache, and the identity of the model whose entries are read and written.
pub(super) struct Kept {
    pub cache: Cache,
    pub identity: Arc<Identity>,
}

impl Kept {
    /// Opens the cache of `--cache` for this model. Returns `None` without the option, and if it cannot be used: a warning then says why.
    pub(super) fn open(args: &CacheArgs, model: &Model) -> Option<Kept> {
        let cache = args.open()?;
        match cache.identify(model) {
            Ok(identity) => Some(Kept { cache, identity: Arc::new(identity) }),
            Err(what) => {
                warn(&format!("no cache: {what}"));
                None
            }
        }
    }

    /// Writes the entries that wait, and ends the cache's writer. Warns if the entries of this run (`kinds` for each text, one a mode) do not
    /// fit into the cache: it then holds the last texts only, and another run over the same texts, which begins with the first, finds none.
    pub(super) fn close(&self, kinds: u64) {
        self.cache.close();
        let stats = self.cache.stats();
        let inserted = stats.misses.saturating_mul(kinds);
        if stats.evictions == 0 || inserted <= stats.entries {
            return;
        }
        let needed = u128::from(stats.bytes) * u128::from(inserted) / u128::from(stats.entries.max(1));
        warn(&format!(
            "the cache holds {} of the {} entries of this run, and a repetition would compute them all again; --cache-size {}MB has room for them",
            grouped(stats.entries),
            grouped(inserted),
            (needed + needed / 4).div_ceil(1_000_000)
        ));
    }

    /// Embeds texts. Embeddings that the cache has are not computed again, and the others are stored in it.
    #[cfg(feature = "search")]
    pub(super) fn texts(
        &self,
        model: &Model,
        texts: &[String],
        options: &EncodeOptions,
    ) -> trivec::Result<Vec<Embedding>> {
        let tokens = model.token_ids_of(texts, options)?;
        let ids: Vec<&[u32]> = tokens.iter().map(|(ids, _)| ids.as_slice()).collect();
        let prompt_tokens = model.prompt_tokens(options)?;
        let EncodeOptions { modes, dimensions, normalize, .. } = *options;
        let wanted = Wanted { modes, dimensions, normalize, prompt_tokens };
        let plan = self.cache.plan_on(model.info().threads, &self.identity, &wanted, &ids);
        let to_compute = plan.missing_of(&ids);
        let computed = model
            .encode_ids(&to_compute, &EncodeOptions { prompt_tokens, ..options.clone() })
            .map_err(|e| e.at_input(|place| plan.missing().get(place).copied().unwrap_or(place)))?;
        // Wait for the cache's writer: indexing writes to disk anyway, and a text that is not stored would be computed again next time.
        self.cache.insert(&self.identity, &wanted, to_compute.iter().zip(&computed), WhenBehind::Wait);
        let whole = plan.complete(computed).into_iter().zip(&tokens);
        Ok(whole.map(|(embedding, (_, truncated))| Embedding { truncated: *truncated, ..embedding }).collect())
    }
}

/// A warning, which `--quiet` does not silence.
pub(super) fn warn(what: &str) {
    say!("trivec: warning: {what}");
}

/// A size in bytes, which people write as `512MB`, `2GiB` or a plain number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "String")]
pub(super) struct ByteSize(pub u64);

impl Default for ByteSize {
    fn default() -> Self {
        ByteSize(DEFAULT_BYTES)
    }
}

/// A size in a file of options: a number of bytes, or a text such as `512MB`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Bytes(u64),
    Text(String),
}

impl TryFrom<Written> for ByteSize {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Bytes(bytes) => bytes.to_string().parse(),
            Written::Text(text) => text.parse(),
        }
    }
}

/// Units by their names in lower case.
const UNITS: [(&str, u64); 12] = [
    ("", 1),
    ("b", 1),
    ("k", 1000),
    ("kb", 1000),
    ("m", 1_000_000),
    ("mb", 1_000_000),
    ("g", 1_000_000_000),
    ("gb", 1_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
];

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("found `{text}`, expected a size as 512MB, 2GiB or a number of bytes");
        let text = text.trim();
        let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit = unit.trim().to_ascii_lowercase();
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(expected)?;
        let bytes = match number.parse::<u64>() {
            Ok(whole) => whole.checked_mul(*factor).ok_or_else(expected)?,
            Err(_) => {
                let bytes = number.parse::<f64>().map_err(|_| expected())? * *factor as f64;
                if !(0.0..=i64::MAX as f64).contains(&bytes) {
                    return Err(expected());
                }
                bytes as u64
            }
        };
        // 8 TiB, half of what SQLite can address: its page numbers have 32 bits, and a page has 4 KiB.
        let most = 1 << 43;
        if !(LEAST_BYTES..=most).contains(&bytes) {
            return Err(format!(
                "found {} bytes, expected {} to {}",
                grouped(bytes),
                grouped(LEAST_BYTES),
                grouped(most)
            ));
        }
        Ok(ByteSize(bytes))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |(_, factor): &&(&str, u64)| self.0.is_multiple_of(*factor);
        match [("GiB", 1 << 30), ("MiB", 1 << 20), ("GB", 1_000_000_000), ("MB", 1_000_000)].iter().find(whole) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}", self.0),
        }
    }
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> String {
        size.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, bytes) in [
            ("1048576", 1 << 20),
            ("512MB", 512_000_000),
            ("512 mb", 512_000_000),
            ("2GiB", 2 << 30),
            ("1.5GiB", 3 << 29),
            ("3G", 3_000_000_000),
            ("1TiB", 1 << 40),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!(size, ByteSize(bytes), "{text}");
            assert_eq!(size.to_string().parse::<ByteSize>().unwrap(), size, "{size} can be read again");
        }
        for text in ["", "MB", "-1", "1e9", "12 parsecs", "1048575", "0", "99999999999GiB", "1.2.3MB", "16TiB", "NaN"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }
}
