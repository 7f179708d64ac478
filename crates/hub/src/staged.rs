//! Packing in stages that survive an interruption, if it is known where the model comes from. Measurements and the part of the file written so far are kept in a hidden directory
//! beside the output, which is removed when the file is complete.
//!
//! ```text
//! .NAME.packing/key     what is being packed and how; with another key, packing starts again
//! .NAME.packing/plan    what was measured
//! .NAME.packing/data    the file so far
//! .NAME.packing/synced  how much of it has reached the disk
//! .NAME.packing.lock    held by the process that packs
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::{HubError, HubErrorKind};
use trivec::Model;
use trivec::lock_file::LockFile;
use trivec::pack::{Calibration, PackOptions, PackReport, Plan, Stage, Writing};

/// How many bytes are written between two flushes to disk, each of which is recorded in `synced`.
const SYNC_EVERY: u64 = 64 << 20;

/// Progress of packing.
pub trait Watcher {
    /// A stage of measuring stands at `done` of `total`.
    fn measuring(&self, stage: Stage, done: usize, total: usize);
    /// `done` of the file's `total` bytes are written.
    fn writing(&self, done: u64, total: u64);
    /// The results of an interrupted call that `what` names are reused.
    fn resumed(&self, what: &str);
}

/// Ignores all progress.
impl Watcher for () {
    fn measuring(&self, _: Stage, _: usize, _: usize) {}
    fn writing(&self, _: u64, _: u64) {}
    fn resumed(&self, _: &str) {}
}

/// What stages of packing must have in common to be reused. Only `source` tells models of the same shape apart.
#[derive(Serialize)]
struct Key<'a> {
    version: &'static str,
    source: &'a Option<String>,
    weights: &'static str,
    mixed_budget: Option<u64>,
    calibration: CalibrationKey<'a>,
    /// The instruction set: with a budget, measuring on it decides which layers get the better format.
    isa: &'static str,
}

/// The texts of [`Calibration`], as a [`Key`] has them.
#[derive(Serialize)]
enum CalibrationKey<'a> {
    None,
    Bundled,
    Texts(&'a [String]),
}

/// Packs `model` to the file `target`. If `options.source` says where the model comes from, an interrupted call's work is kept in a hidden
/// directory beside the target, and a call with the same source and options goes on there. Without a source nothing tells models of the same
/// shape apart, so that every call begins anew. An existing file is replaced at the end.
///
/// # Errors
/// The model's, in [`HubError::cause`]; [`HubErrorKind::Busy`] while another process packs to the same file; those of the file system.
pub fn pack(
    model: &Model,
    options: &PackOptions,
    target: &Path,
    watcher: &dyn Watcher,
) -> Result<PackReport, HubError> {
    let directory = directory_of(target)?;
    let key = key(model, options)?;
    let _lock = lock(&directory, target)?;
    fs::create_dir_all(&directory).map_err(|e| HubError::io(&directory, &e))?;
    let packed = pack_in(&directory, target, &key, (model, options), watcher);
    if packed.is_err() && (options.source.is_none() || !directory.join("plan").exists()) {
        // There is nothing that a later call could reuse.
        let _ = fs::remove_dir_all(&directory);
    }
    packed
}

/// Packs to `target`, with the stages in `directory`, which the caller has locked.
fn pack_in(
    directory: &Path,
    target: &Path,
    key: &str,
    (model, options): (&Model, &PackOptions),
    watcher: &dyn Watcher,
) -> Result<PackReport, HubError> {
    let key_path = directory.join("key");
    let is_same = options.source.is_some() && fs::read(&key_path).ok().as_deref() == Some(key.as_bytes());
    if !is_same {
        for part in ["plan", "synced", "data"] {
            remove(&directory.join(part))?;
        }
        replace(&key_path, key.as_bytes())?;
    }

    let plan = plan(model, options, &directory.join("plan"), watcher)?;
    let step = |stage, done, total| watcher.measuring(stage, done, total);
    let writing = Writing::new(model, options, &plan, &step)?;
    let data = directory.join("data");
    let report = write(&writing, &data, &directory.join("synced"), watcher)?;

    if let Ok(metadata) = fs::metadata(target) {
        // A file that is replaced keeps its permissions, as for every output.
        fs::set_permissions(&data, metadata.permissions()).map_err(|e| HubError::io(target, &e))?;
    }
    fs::rename(&data, target).map_err(|e| HubError::io(target, &e))?;
    fs::remove_dir_all(directory).map_err(|e| HubError::io(directory, &e))?;
    Ok(report)
}

/// Drops a packed file's pages from the page cache, so that the next process that maps the file can get huge pages. (The pages of a file
/// that was just written are small, and would stay small.)
pub fn drop_from_cache(file: &File) {
    #[cfg(target_os = "linux")]
    {
        // This is only advice; a file system may ignore it.
        let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = file;
}

/// The hidden directory for the stages of packing to `target`.
fn directory_of(target: &Path) -> Result<PathBuf, HubError> {
    let name = target.file_name().ok_or_else(|| HubError::usage(format!("{} names no file", target.display())))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".packing");
    Ok(target.with_file_name(hidden))
}

/// Takes the lock for packing to `target`, or fails if another packing holds it. The lock file lies beside the directory of the stages, which
/// is removed at the end.
fn lock(directory: &Path, target: &Path) -> Result<LockFile, HubError> {
    let mut path = directory.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let above = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(above).map_err(|e| HubError::io(above, &e))?;
    match LockFile::take(&path) {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => {
            Err(HubError::new(HubErrorKind::Busy, format!("{}: another process is packing it", target.display())))
        }
        Err(e) => Err(HubError::io(&path, &e)),
    }
}

/// The key of this packing, as text.
fn key(model: &Model, options: &PackOptions) -> Result<String, HubError> {
    let key = Key {
        version: env!("CARGO_PKG_VERSION"),
        source: &options.source,
        weights: options.weights.name(),
        mixed_budget: options.mixed_budget,
        calibration: match &options.calibration {
            Calibration::Bundled => CalibrationKey::Bundled,
            Calibration::Texts(texts) => CalibrationKey::Texts(texts),
            Calibration::None => CalibrationKey::None,
        },
        isa: model.info().isa,
    };
    serde_json::to_string(&key).map_err(|e| HubError::model(format!("the key of what is packed: {e}")))
}

/// Removes a file; one that is not there is no error.
fn remove(path: &Path) -> Result<(), HubError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(HubError::io(path, &e)),
        _ => Ok(()),
    }
}

/// Writes a small file whole or not at all.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), HubError> {
    let new = path.with_extension("new");
    let written = File::create(&new).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.and_then(|()| fs::rename(&new, path)).map_err(|e| HubError::io(path, &e))
}

/// Reads the plan that an interrupted call has stored, or measures and stores a new one.
fn plan(model: &Model, options: &PackOptions, path: &Path, watcher: &dyn Watcher) -> Result<Plan, HubError> {
    // A file that is no valid plan for this model is replaced.
    let kept = fs::read(path).ok().and_then(|bytes| serde_json::from_slice::<Plan>(&bytes).ok());
    if let Some(plan) = kept.filter(|plan| plan.fits(model, options)) {
        watcher.resumed("what was measured");
        return Ok(plan);
    }
    let step = |stage, done, total| watcher.measuring(stage, done, total);
    let plan = trivec::pack::plan(model, options, &step).map_err(|e| match e.of_input() {
        Some((index, what)) => HubError::model(format!("text {} of the calibration: {what}", index + 1)),
        None => e.into(),
    })?;
    let json = serde_json::to_vec(&plan).map_err(|e| HubError::io(path, &e.into()))?;
    replace(path, &json)?;
    Ok(plan)
}

/// Writes the packed file to `data`, from where an interrupted call stopped.
fn write(writing: &Writing<'_>, data: &Path, synced: &Path, watcher: &dyn Watcher) -> Result<PackReport, HubError> {
    let failed = |e: io::Error| HubError::io(data, &e);
    let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(data).map_err(failed)?;
    let from = writing.last_boundary(kept_bytes(writing, &mut file, synced)?)?;
    if from > 0 {
        watcher.resumed(&format!("{:.1} MB", from as f64 / 1e6));
    }
    file.set_len(from).and_then(|()| file.seek(SeekFrom::Start(from))).map_err(failed)?;
    let out = Synced { file: BufWriter::with_capacity(1 << 20, file), at: from, marked: from, path: synced };
    let mut out = out;
    let report = writing.write(data, &mut out, from, &|done, total| watcher.writing(done, total))?;
    let file = out.file.into_inner().map_err(|e| failed(e.into_error()))?;
    file.sync_all().map_err(failed)?;
    drop_from_cache(&file);
    Ok(report)
}

/// How much of the unfinished file can be reused: what has reached the disk, if the file begins with the right bytes.
fn kept_bytes(writing: &Writing<'_>, file: &mut File, synced: &Path) -> Result<u64, HubError> {
    let Some(marked) = fs::read_to_string(synced).ok().and_then(|text| text.trim().parse::<u64>().ok()) else {
        return Ok(0);
    };
    let beginning = writing.beginning()?;
    let mut found = vec![0; beginning.len()];
    let begins = file.rewind().and_then(|()| file.read_exact(&mut found)).is_ok() && found == beginning;
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    Ok(if begins { marked.min(length) } else { 0 })
}

/// A file that is flushed to disk every [`SYNC_EVERY`] bytes, and the file at `path` that records how much of it is there.
struct Synced<'a> {
    file: BufWriter<File>,
    at: u64,
    marked: u64,
    path: &'a Path,
}

impl Write for Synced<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.at += written as u64;
        if self.at - self.marked >= SYNC_EVERY {
            self.file.flush()?;
            self.file.get_ref().sync_data()?;
            fs::write(self.path, self.at.to_string())?;
            self.marked = self.at;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use trivec::WeightFormat;

    /// Records the progress, and ends packing at a chosen point by a panic, as abruptly as a killed process.
    #[derive(Default)]
    struct Script {
        stop_after: Option<u64>,
        heard: RefCell<Vec<String>>,
    }

    impl Watcher for Script {
        fn measuring(&self, stage: Stage, done: usize, _: usize) {
            if done == 0 {
                self.heard.borrow_mut().push(format!("{stage:?}"));
            }
        }
        fn writing(&self, done: u64, _: u64) {
            if self.stop_after.is_some_and(|stop| done >= stop) {
                panic!("stopped");
            }
        }
        fn resumed(&self, what: &str) {
            self.heard.borrow_mut().push(format!("resumed: {what}"));
        }
    }

    fn model() -> Model {
        Model::load(trivec_testing::data("models/f32-h64")).unwrap()
    }

    /// Options with a source, without which nothing is resumed.
    fn options() -> PackOptions {
        PackOptions { source: Some("a test".to_owned()), ..PackOptions::new(WeightFormat::Int8) }
    }

    /// Packs until the file has `stop_after` bytes, and leaves what a killed process would leave. So small a file is not flushed before its end, so
    /// that this records a length as the flushes of a large file do.
    fn interrupted(model: &Model, options: &PackOptions, target: &Path, stop_after: u64) {
        let script = Script { stop_after: Some(stop_after), ..Script::default() };
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pack(model, options, target, &script).map(|_| ())))
            .unwrap_err();
        assert!(!target.exists(), "nothing is seen of an unfinished file");
        let stages = directory_of(target).unwrap();
        let kept = fs::metadata(stages.join("data")).unwrap().len();
        fs::write(stages.join("synced"), kept.to_string()).unwrap();
    }

    /// Two models of one shape have plans that fit each other.
    #[test]
    fn without_a_source_nothing_of_another_model_is_taken() {
        let directory = tempfile::tempdir().unwrap();
        let other = Model::load(trivec_testing::data("models/unnormalized-h64")).unwrap();
        for weights in [WeightFormat::Int8, WeightFormat::F16] {
            let options = PackOptions::new(weights);
            let [whole, target] =
                ["whole", "target"].map(|name| directory.path().join(format!("{name}-{}", weights.name())));
            pack(&model(), &options, &whole, &Script::default()).unwrap();
            let expected = fs::read(&whole).unwrap();
            interrupted(&other, &options, &target, expected.len() as u64 / 2);
            let script = Script::default();
            pack(&model(), &options, &target, &script).unwrap();
            assert_eq!(fs::read(&target).unwrap(), expected);
            let heard = script.heard.into_inner();
            assert!(!heard.iter().any(|what| what.contains("resumed")), "{heard:?}");
        }
    }

    #[test]
    fn every_option_is_in_the_key() {
        let (model, base) = (model(), options());
        let calibrated = |calibration| PackOptions { calibration, ..base.clone() };
        let texts =
            |texts: &[&str]| calibrated(Calibration::Texts(texts.iter().map(|text| text.to_string()).collect()));
        let all = [
            base.clone(),
            calibrated(Calibration::None),
            texts(&[]),
            texts(&[""]),
            texts(&["a"]),
            texts(&["a", "b"]),
            PackOptions { weights: WeightFormat::Int4, ..base.clone() },
            PackOptions { mixed_budget: Some(1 << 20), ..base.clone() },
            PackOptions { source: Some("another".to_owned()), ..base.clone() },
        ];
        let keys: std::collections::BTreeSet<String> =
            all.iter().map(|options| key(&model, options).unwrap()).collect();
        assert_eq!(keys.len(), all.len(), "{keys:?}");
    }

    #[test]
    fn an_interrupted_packing_resumes_and_gives_the_same_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let (model, options) = (model(), options());
        let whole = directory.path().join("whole");
        pack(&model, &options, &whole, &Script::default()).unwrap();
        let expected = fs::read(&whole).unwrap();

        let target = directory.path().join("target");
        interrupted(&model, &options, &target, expected.len() as u64 / 2);
        let script = Script::default();
        pack(&model, &options, &target, &script).unwrap();
        assert_eq!(fs::read(&target).unwrap(), expected);
        assert!(!directory.path().join(".target.packing").exists());
        let heard = script.heard.into_inner();
        assert!(heard[..2] == ["resumed: what was measured", "Moments"] && heard[2].contains("MB"), "{heard:?}");
    }

    #[test]
    fn stages_with_another_key_and_damaged_ones_are_not_reused() {
        let directory = tempfile::tempdir().unwrap();
        let (model, options) = (model(), options());
        let whole = directory.path().join("whole");
        pack(&model, &options, &whole, &Script::default()).unwrap();
        let expected = fs::read(&whole).unwrap();

        let target = directory.path().join("target");
        let stages = directory.path().join(".target.packing");
        let other_key = r#"{"another":"key"}"#;
        let good_key = key(&model, &options).unwrap();
        for (key, plan) in [(other_key, "{}"), (good_key.as_str(), "{}"), (good_key.as_str(), "\u{0}")] {
            fs::create_dir_all(&stages).unwrap();
            fs::write(stages.join("key"), key).unwrap();
            fs::write(stages.join("plan"), plan).unwrap();
            fs::write(stages.join("data"), vec![7; expected.len() + 5]).unwrap();
            fs::write(stages.join("synced"), "18446744073709551615").unwrap();
            let script = Script::default();
            pack(&model, &options, &target, &script).unwrap();
            assert_eq!(fs::read(&target).unwrap(), expected);
            assert_eq!(script.heard.into_inner(), ["Calibration", "Moments"], "all is made anew");
        }
    }

    #[test]
    fn a_second_packing_of_one_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("target");
        let stages = directory_of(&target).unwrap();
        let held = lock(&stages, &target).unwrap();
        let refused = pack(&model(), &PackOptions::new(WeightFormat::F16), &target, &Script::default());
        assert_eq!(refused.unwrap_err().kind, HubErrorKind::Busy);
        drop(held);
        pack(&model(), &PackOptions::new(WeightFormat::F16), &target, &Script::default()).unwrap();
    }

    #[test]
    fn concurrent_packings_of_one_file_succeed_or_are_refused_as_busy() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("target");
        let (model, options) = (model(), PackOptions::new(WeightFormat::F16));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        if let Err(error) = pack(&model, &options, &target, &()) {
                            assert_eq!(error.kind, HubErrorKind::Busy, "{error}");
                        }
                    }
                });
            }
        });
        let left: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["target"], "nothing else is left");
    }
}
