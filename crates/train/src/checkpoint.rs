//! A run's checkpoint file. It is written atomically, so that a killed run resumes and ends with the same bytes.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use safetensors::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::report::{CurvePoint, EpochPoint};

/// The metadata key of the file under which the [`State`] is stored, as JSON.
const KEY: &str = "trivec.train.checkpoint";

/// What a checkpoint has besides its tensors.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Digest of the model, the data and the options.
    pub key: String,
    /// How many steps are done.
    pub step: usize,
    pub curve: Vec<CurvePoint>,
    pub epochs: Vec<EpochPoint>,
    /// The epoch whose heads were the best on the dev set; 0 is before the first.
    pub best: usize,
    /// The losses of each step since the last point of the curve.
    pub since: Vec<crate::loss::Losses>,
}

/// What a checkpoint has as tensors: the parameters, Adam's first and second moments, and the parameters of the best epoch. Each of the
/// four is a list for every parameter tensor.
pub(crate) type Numbers = [Vec<Vec<f32>>; 4];

/// The prefixes of the tensors' names, in the order of [`Numbers`].
const NAMES: [&str; 4] = ["parameter", "first", "second", "best"];

/// A tensor that is written to a safetensors file: its values as little-endian bytes.
pub(crate) struct Tensor<'a> {
    pub values: Cow<'a, [u8]>,
    pub shape: Vec<usize>,
    pub dtype: Dtype,
}

impl View for Tensor<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.values)
    }
    fn data_len(&self) -> usize {
        self.values.len()
    }
}

impl Tensor<'static> {
    /// An f32 tensor of this shape that owns its values, as little-endian bytes.
    pub(crate) fn f32(values: &[f32], shape: Vec<usize>) -> Tensor<'static> {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        Tensor { values: Cow::Owned(bytes), shape, dtype: Dtype::F32 }
    }
}

/// Writes a file atomically: the bytes are synced to the disk under another name, which is then renamed to `path`.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let partial = path.with_extension("partial");
    let write = || {
        let mut file = File::create(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        drop(file);
        fs::rename(&partial, path)?;
        #[cfg(unix)]
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(parent)?.sync_all()?;
        }
        Ok(())
    };
    write().map_err(|e| Error::io(path, e))
}

/// Writes the checkpoint of a run, in place of an older one.
pub(crate) fn write(path: &Path, state: &State, numbers: &Numbers) -> Result<()> {
    let damaged = |e: &dyn std::fmt::Display| Error::damaged(path, e.to_string());
    let text = serde_json::to_string(state).map_err(|e| damaged(&e))?;
    let mut tensors = Vec::new();
    for (name, lists) in NAMES.iter().zip(numbers) {
        for (at, values) in lists.iter().enumerate() {
            tensors.push((format!("{name}.{at}"), Tensor::f32(values, vec![values.len()])));
        }
    }
    let metadata = HashMap::from([(KEY.to_owned(), text)]);
    let bytes = safetensors::serialize(tensors, Some(metadata)).map_err(|e| damaged(&e))?;
    write_whole(path, &bytes)
}

/// Reads the checkpoint of the run `key`, whose parameter tensors have these lengths. `None` if the file does not exist, is damaged or belongs to
/// another run: then the run begins anew.
pub(crate) fn read(path: &Path, key: &str, lengths: &[usize]) -> Result<Option<(State, Numbers)>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io(path, e)),
    };
    Ok(parse(&bytes, key, lengths))
}

/// As [`read`], of the file's bytes.
fn parse(bytes: &[u8], key: &str, lengths: &[usize]) -> Option<(State, Numbers)> {
    let tensors = SafeTensors::deserialize(bytes).ok()?;
    let (_, metadata) = SafeTensors::read_metadata(bytes).ok()?;
    let state: State = serde_json::from_str(metadata.metadata().as_ref()?.get(KEY)?).ok()?;
    if state.key != key {
        return None;
    }
    let mut numbers: Numbers = Default::default();
    for (name, lists) in NAMES.iter().zip(&mut numbers) {
        for (at, &length) in lengths.iter().enumerate() {
            let view = tensors.tensor(&format!("{name}.{at}")).ok()?;
            let values: Vec<f32> =
                view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            if view.dtype() != Dtype::F32 || values.len() != length {
                return None;
            }
            lists.push(values);
        }
    }
    Some((state, numbers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_read_back_but_not_of_another_run_nor_when_cut() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("checkpoint");
        assert!(read(&path, "a", &[2, 1]).unwrap().is_none());
        let state = State { key: "a".to_owned(), step: 7, best: 1, ..State::default() };
        let lists = || vec![vec![1.5, -2.0], vec![f32::MIN_POSITIVE]];
        let numbers: Numbers = [lists(), lists(), lists(), lists()];
        write(&path, &state, &numbers).unwrap();
        assert_eq!(read(&path, "a", &[2, 1]).unwrap().unwrap(), (state, numbers));
        assert!(read(&path, "b", &[2, 1]).unwrap().is_none());
        assert!(read(&path, "a", &[2, 2]).unwrap().is_none());
        let whole = fs::read(&path).unwrap();
        for length in [0, 8, whole.len() / 2, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(read(&path, "a", &[2, 1]).unwrap().is_none(), "{length}");
        }
    }
}
