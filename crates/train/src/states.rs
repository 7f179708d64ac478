//! Token states. The engine computes them once; they are stored on disk as f16, in a file that is mapped for reading.
//!
//! The file has a header, then a record for each text, which is found by a digest of its token ids. A killed run may leave an incomplete
//! record at the end; the next run cuts it off and continues. No run with the same model computes the texts of the file again.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use sha2::{Digest, Sha256};
use trivec::internal::{Content, MappedFile, read_through};
use trivec::{EncodeOptions, Model};

use crate::error::{Error, Result};

const MAGIC: [u8; 16] = *b"trivec states 1\n";
/// Bytes of the file's header: magic, the model's digest, the width of a state, zeros.
const HEADER: usize = 64;
/// Bytes before each text's states: the digest of its token ids, the number of tokens, the checksum of the states, zeros.
const RECORD: usize = 32;
/// How many texts the engine is given at a time; their states are flushed before the next are computed.
const TOGETHER: usize = 512;

/// Identifies a text: the first 16 bytes of the SHA-256 of its token ids.
type Key = [u8; 16];

/// Where a text's states are in the file.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// The offset of the first value, in bytes.
    at: u64,
    tokens: u32,
}

/// The token states of some texts, read from the mapped file.
#[derive(Debug)]
pub(crate) struct States {
    map: MappedFile,
    hidden: usize,
    /// Where each text's states are.
    places: Vec<Place>,
}

/// What [`Store::fill`] computed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Filled {
    /// Texts whose states were computed.
    pub computed: usize,
    /// Tokens whose states were computed.
    pub tokens: usize,
}

/// A file of states that is being written. `end` is its length, `known` the texts that it has.
pub(crate) struct Store {
    path: PathBuf,
    file: BufWriter<File>,
    end: u64,
    known: HashMap<Key, Place>,
    hidden: usize,
}

/// Digest of everything that decides a model's states: the content of its files, and how its weights are stored.
pub(crate) fn model_digest(model: &Model) -> Result<[u8; 32]> {
    let info = model.info();
    let mut hash = Sha256::new();
    let mut field = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    field(b"trivec model 1");
    field(info.weights.as_bytes());
    // Instruction sets give the same bits, except where they multiply bf16 differently.
    field(if info.weights.contains("bf16") { info.isa } else { "any" }.as_bytes());
    for (name, content) in model.contents() {
        field(name.as_bytes());
        match content {
            Content::Static(bytes) => field(&Sha256::digest(bytes)),
            Content::File(Some(file)) => {
                let mut own = Sha256::new();
                read_through(&file, |bytes| own.update(bytes)).map_err(|e| Error::io(Path::new(&name), e))?;
                field(&own.finalize());
            }
            Content::File(None) | Content::Memory => {
                return Err(Error::option("model", format!("the content of `{name}` cannot be told")));
            }
        }
    }
    Ok(hash.finalize().into())
}

/// The key of a text with these token ids.
fn key(ids: &[u32]) -> Key {
    let mut hash = Sha256::new();
    ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
    let digest: [u8; 32] = hash.finalize().into();
    digest[..16].try_into().unwrap_or_default()
}

/// The little-endian u32 at `at`; 0 if the bytes end before.
fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

impl Store {
    /// Opens the file at `path`, or makes it. A file of another model or width is emptied; an incomplete record at the end is cut off.
    pub(crate) fn open(path: &Path, model: &[u8; 32], hidden: usize) -> Result<Store> {
        let fail = |e| Error::io(path, e);
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(fail)?;
        let mut header = MAGIC.to_vec();
        header.extend(model);
        header.extend((hidden as u32).to_le_bytes());
        header.resize(HEADER, 0);
        let length = file.metadata().map_err(fail)?.len();
        let (known, end) = if length < HEADER as u64 {
            (HashMap::new(), 0)
        } else {
            let map = MappedFile::open(path)?;
            if map[..HEADER] == header[..] { scan(&map, hidden) } else { (HashMap::new(), 0) }
        };
        file.set_len(end).map_err(fail)?;
        file.seek(SeekFrom::Start(end)).map_err(fail)?;
        let mut store =
            Store { path: path.to_path_buf(), file: BufWriter::with_capacity(1 << 20, file), end, known, hidden };
        if end == 0 {
            store.append(&header)?;
        }
        Ok(store)
    }

    /// Writes bytes at the end of the file.
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| Error::io(&self.path, e))?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Computes and writes the states of those `texts` (token ids) that the file does not have. `progress` is called with the number of
    /// tokens computed by this call, and the number that it must compute in all; if it returns `false`, the call ends with
    /// [`Error::Stopped`].
    pub(crate) fn fill(
        &mut self,
        model: &Model,
        texts: &[Vec<u32>],
        mut progress: impl FnMut(usize, usize) -> bool,
    ) -> Result<Filled> {
        let mut missing: Vec<(Key, &Vec<u32>)> = Vec::new();
        let mut asked = std::collections::HashSet::new();
        for text in texts {
            let key = key(text);
            if !self.known.contains_key(&key) && asked.insert(key) {
                missing.push((key, text));
            }
        }
        let mut filled = Filled::default();
        // Texts of similar length are computed together, which fills the engine's passes better.
        missing.sort_by_key(|(_, text)| text.len());
        let total: usize = missing.iter().map(|(_, text)| text.len()).sum();
        for part in missing.chunks(TOGETHER) {
            if !progress(filled.tokens, total) {
                self.flush()?;
                let path = self.path.parent().unwrap_or(Path::new("")).to_path_buf();
                return Err(Error::Stopped { path });
            }
            let ids: Vec<&[u32]> = part.iter().map(|(_, text)| text.as_slice()).collect();
            let mut failed = None;
            model.hidden_states(&ids, &EncodeOptions::default(), |place, states| {
                if failed.is_none() {
                    failed = self.put(part[place].0, ids[place].len(), states).err();
                }
            })?;
            if let Some(error) = failed {
                return Err(error);
            }
            self.flush()?;
            filled.computed += part.len();
            filled.tokens += ids.iter().map(|ids| ids.len()).sum::<usize>();
        }
        progress(filled.tokens, total);
        Ok(filled)
    }

    /// Appends a text's record. An error if f16 cannot hold one of its states.
    fn put(&mut self, key: Key, tokens: usize, states: &[f32]) -> Result<()> {
        let halves: Vec<u8> = states.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect();
        if let Some(x) = states.iter().find(|&&x| !f16::from_f32(x).is_finite()) {
            return Err(Error::option(
                "model",
                format!("a token's state has the value {x}, which f16 cannot hold: it cannot be trained on"),
            ));
        }
        let mut record = key.to_vec();
        record.extend((tokens as u32).to_le_bytes());
        record.extend(crc32fast::hash(&halves).to_le_bytes());
        record.resize(RECORD, 0);
        self.append(&record)?;
        let place = Place { at: self.end, tokens: tokens as u32 };
        self.append(&halves)?;
        self.known.insert(key, place);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(|e| Error::io(&self.path, e))
    }

    /// Maps the file to read the states of `texts`, all of which it must have. Compares their checksums.
    pub(crate) fn states(mut self, texts: &[Vec<u32>]) -> Result<States> {
        self.flush()?;
        let map = MappedFile::open(&self.path)?;
        let mut places = Vec::with_capacity(texts.len());
        for text in texts {
            let damaged = |what: &str| Error::damaged(&self.path, what.to_owned());
            let place = *self.known.get(&key(text)).ok_or_else(|| damaged("a text has no states"))?;
            let (at, bytes) = (place.at as usize, text.len() * self.hidden * 2);
            let content = map.get(at..at + bytes).filter(|_| place.tokens as usize == text.len());
            let content = content.ok_or_else(|| damaged("it is shorter than its records say"))?;
            if crc32fast::hash(content) != number(&map, at - RECORD + 20) {
                return Err(damaged("the checksum of a text's states is another: remove the file"));
            }
            places.push(place);
        }
        Ok(States { map, hidden: self.hidden, places })
    }
}

/// The texts of a file, and the offset at which its last complete record ends.
fn scan(map: &[u8], hidden: usize) -> (HashMap<Key, Place>, u64) {
    let mut known = HashMap::new();
    let mut at = HEADER;
    while let Some(record) = map.get(at..at + RECORD) {
        let tokens = number(record, 16);
        let Some(bytes) = (tokens as usize).checked_mul(hidden * 2).filter(|&bytes| bytes > 0) else { break };
        let Some(end) = (at + RECORD).checked_add(bytes).filter(|&end| end <= map.len()) else { break };
        let key: Key = record[..16].try_into().unwrap_or_default();
        known.insert(key, Place { at: (at + RECORD) as u64, tokens });
        at = end;
    }
    (known, at as u64)
}

impl States {
    pub(crate) fn hidden(&self) -> usize {
        self.hidden
    }

    /// The number of tokens of a text.
    pub(crate) fn tokens(&self, text: usize) -> usize {
        self.places[text].tokens as usize
    }

    /// Copies a text's states into `out`, `[tokens, hidden]`, widened to f32.
    pub(crate) fn copy(&self, text: usize, out: &mut [f32]) {
        let place = self.places[text];
        let bytes = &self.map[place.at as usize..][..out.len() * 2];
        let mut bits = [0u16; 1024];
        for (out, bytes) in out.chunks_mut(bits.len()).zip(bytes.chunks(bits.len() * 2)) {
            let bits = &mut bits[..out.len()];
            for (bits, bytes) in bits.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *bits = u16::from_le_bytes(*bytes);
            }
            bits.reinterpret_cast::<f16>().convert_to_f32_slice(out);
        }
    }

    /// The size of the file, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.map.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(path: &Path, texts: &[Vec<u32>], until: usize) -> Store {
        let mut store = Store::open(path, &[7; 32], 4).unwrap();
        for text in &texts[..until] {
            let states: Vec<f32> = text.iter().flat_map(|&id| [id as f32, 0.5, -1.0, 2.0]).collect();
            if !store.known.contains_key(&key(text)) {
                store.put(key(text), text.len(), &states).unwrap();
            }
        }
        store.flush().unwrap();
        store
    }

    #[test]
    fn a_file_cut_at_any_byte_is_completed_to_the_same_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let texts: Vec<Vec<u32>> = (0..4).map(|i| (0..3 + i).collect()).collect();
        let whole = directory.path().join("whole");
        drop(filled(&whole, &texts, 4));
        let expected = std::fs::read(&whole).unwrap();
        let path = directory.path().join("cut");
        for length in 0..expected.len() {
            std::fs::write(&path, &expected[..length]).unwrap();
            let store = filled(&path, &texts, 4);
            let states = store.states(&texts).unwrap();
            let mut out = vec![0.0; 12];
            states.copy(0, &mut out);
            assert_eq!(out[4..8], [1.0, 0.5, -1.0, 2.0]);
            assert_eq!(std::fs::read(&path).unwrap(), expected, "{length}");
        }
    }

    #[test]
    fn another_model_empties_the_file_and_a_flipped_bit_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("states");
        let texts = vec![vec![0, 5, 2]];
        drop(filled(&path, &texts, 1));
        assert_eq!(Store::open(&path, &[7; 32], 4).unwrap().known.len(), 1);
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let error = Store::open(&path, &[7; 32], 4).unwrap().states(&texts).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
        assert!(Store::open(&path, &[8; 32], 4).unwrap().known.is_empty());
        assert_eq!(std::fs::metadata(&path).unwrap().len(), HEADER as u64);
    }

    #[test]
    fn values_that_f16_cannot_hold_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = Store::open(&directory.path().join("s"), &[0; 32], 1).unwrap();
        for x in [f32::NAN, 1e6, f32::INFINITY] {
            assert!(matches!(store.put([0; 16], 1, &[x]), Err(Error::Option { option: "model", .. })));
        }
    }
}
