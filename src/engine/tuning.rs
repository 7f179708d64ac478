//! Measures in how many streams this CPU reads weights fastest. It times the model's own products once, and keeps the result for later processes.
//!
//! The measurement changes how long a pass takes, never its bits. It takes the time of two to three passes over the feed-forward layers, and gives
//! up if the weights have to be read from a disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, TryLockError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use trivec_kernels::Streams;

use crate::compute::Compute;
use crate::model::Encoder;

/// Whether to find out how this CPU reads weights fastest ([`LoadOptions::tune`](super::LoadOptions::tune)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tune {
    /// No measurement. The process keeps its current way: two streams, unless an earlier load has chosen one.
    Off,
    /// Measure unless the answer is known: kept by an earlier process in [`LoadOptions::tuning`](super::LoadOptions::tuning), or found by
    /// an earlier load.
    #[default]
    Auto,
    /// Measure even if the answer is known.
    Force,
}

/// The longest time for bringing the weights to memory. If it is not enough, they are still on a disk.
const LIMIT: Duration = Duration::from_millis(300);
/// How much faster one stream must be to be chosen: two measurements of the same thing differ by about as much.
const CLEARLY: f64 = 1.04;
/// A longer file was not written by this code.
const MAX_FILE_BYTES: u64 = 4096;

/// The measurement needs at least this many bytes of feed-forward weights. Fewer stay in caches, where both ways are equally fast.
const MIN_BYTES: f64 = 64e6;

/// This process's last measurement.
static LAST: Mutex<Option<Measured>> = Mutex::new(None);

/// A measurement as it is stored: a JSON file for each kind of CPU and instruction set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Measured {
    cpu: String,
    isa: String,
    one_stream_gb_s: f64,
    two_streams_gb_s: f64,
}

impl Measured {
    fn streams(&self) -> Streams {
        if self.one_stream_gb_s > CLEARLY * self.two_streams_gb_s { Streams::One } else { Streams::Two }
    }

    /// The choice and both speeds in words; `how` says where the measurement comes from.
    fn describe(&self, how: &str) -> String {
        let count = match self.streams() {
            Streams::One => "one stream",
            Streams::Two => "two streams",
        };
        format!("in {count}: {:.1} GB/s in one, {:.1} in two, {how}", self.one_stream_gb_s, self.two_streams_gb_s)
    }

    fn is_plausible(&self) -> bool {
        [self.one_stream_gb_s, self.two_streams_gb_s].iter().all(|speed| speed.is_finite() && *speed > 0.0)
    }
}

/// Sets how the process reads weights, and says what was chosen and why. `kept` is the directory in which measurements are stored.
pub(super) fn settle(tune: Tune, kept: Option<&Path>, compute: Compute<'_>, encoder: &Encoder) -> String {
    settle_from(MIN_BYTES, tune, kept, compute, encoder)
}

/// As [`settle`], with `min_bytes` as the lower limit of the weights' size.
fn settle_from(min_bytes: f64, tune: Tune, kept: Option<&Path>, compute: Compute<'_>, encoder: &Encoder) -> String {
    let unmeasured = |why: &str| {
        let count = if Streams::current() == Streams::One { "one stream" } else { "two streams" };
        format!("in {count}: {why}")
    };
    if tune == Tune::Off {
        return unmeasured("not measured, because tuning is off");
    }
    let bytes = encoder.feed_forward_bytes();
    if bytes < min_bytes {
        return unmeasured("not measured, because the weights are small");
    }
    let (cpu, isa) = (cpu_identity(compute.team.threads()), compute.kernels.isa().name());
    let file = kept.map(|directory| file_of(directory, &cpu, isa));
    if tune == Tune::Auto
        && let Some(known) = file.as_deref().and_then(|file| read(file, &cpu, isa))
    {
        known.streams().set();
        return known.describe("measured by an earlier process");
    }
    // The load never waits for the lock: in the child of a `fork` the lock's holder may not exist.
    let mut last = match LAST.try_lock() {
        Ok(last) => last,
        Err(TryLockError::Poisoned(last)) => last.into_inner(),
        Err(TryLockError::WouldBlock) => return unmeasured("not measured, because another load is at it"),
    };
    if tune == Tune::Auto
        && let Some(known) = last.as_ref().filter(|known| known.cpu == cpu && known.isa == isa)
    {
        known.streams().set();
        return known.describe("measured when another model was loaded");
    }
    let before = Streams::current();
    let ways = [Streams::One, Streams::Two];
    let Some([one, two]) = encoder.time_products(compute, LIMIT, |way| ways[way].set()) else {
        before.set();
        return unmeasured("not measured, because the weights were not in memory yet");
    };
    let speed = |seconds: f64| bytes / seconds.max(1e-9) / 1e9;
    let found = Measured { cpu, isa: isa.to_owned(), one_stream_gb_s: speed(one), two_streams_gb_s: speed(two) };
    found.streams().set();
    // A directory that cannot be written means that the next process measures again.
    let is_kept = file.is_some_and(|file| write(&file, &found).is_some());
    let said = found.describe(if is_kept { "measured now and kept" } else { "measured now" });
    *last = Some(found);
    said
}

/// Identifies this kind of CPU by the system's names for it, and by how many threads read at once.
fn cpu_identity(threads: usize) -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let first = info.split("\n\n").next().unwrap_or_default();
    let wanted =
        ["vendor_id", "cpu family", "model", "model name", "stepping", "cache size", "CPU implementer", "CPU part"];
    let facts: Vec<&str> = first
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| wanted.contains(&name.trim()))
        .map(|(_, value)| value.trim())
        .collect();
    let name =
        if facts.is_empty() { format!("{} {}", std::env::consts::OS, std::env::consts::ARCH) } else { facts.join(" ") };
    format!("{name}, {threads} threads")
}

/// The file that stores the measurement of a CPU and an instruction set. Its name is a hash, which any file system accepts.
fn file_of(directory: &Path, cpu: &str, isa: &str) -> PathBuf {
    // FNV-1a.
    let hash = cpu
        .bytes()
        .chain([0])
        .chain(isa.bytes())
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    directory.join(format!("{hash:016x}.json"))
}

/// The measurement stored in `file`, if it is of this CPU and instruction set. Any other content is ignored, and replaced when the next
/// measurement is stored.
fn read(file: &Path, cpu: &str, isa: &str) -> Option<Measured> {
    if fs::metadata(file).ok()?.len() > MAX_FILE_BYTES {
        return None;
    }
    let kept: Measured = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    (kept.cpu == cpu && kept.isa == isa && kept.is_plausible()).then_some(kept)
}

/// Stores a measurement. The file is replaced by a rename, so that readers always find a complete one. `None` if it cannot be written.
fn write(file: &Path, found: &Measured) -> Option<()> {
    let directory = file.parent()?;
    fs::create_dir_all(directory).ok()?;
    let beside = file.with_extension(format!("{}.tmp", std::process::id()));
    let written = fs::write(&beside, serde_json::to_vec(found).ok()?).and_then(|()| fs::rename(&beside, file));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(one: f64, two: f64) -> Measured {
        Measured { cpu: "a cpu".to_owned(), isa: "avx2".to_owned(), one_stream_gb_s: one, two_streams_gb_s: two }
    }

    #[test]
    fn one_stream_is_taken_only_where_it_is_clearly_faster() {
        assert_eq!(found(31.0, 23.0).streams(), Streams::One);
        assert_eq!(found(23.3, 23.0).streams(), Streams::Two);
        assert_eq!(found(24.0, 35.0).streams(), Streams::Two);
    }

    #[test]
    fn a_stored_measurement_is_read_back_and_other_files_are_ignored() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join("not there yet");
        let file = file_of(&directory, "a cpu", "avx2");
        assert_eq!(read(&file, "a cpu", "avx2"), None);
        write(&file, &found(2.0, 1.0)).unwrap();
        assert_eq!(read(&file, "a cpu", "avx2"), Some(found(2.0, 1.0)));
        assert_eq!(read(&file, "another", "avx2"), None);
        assert_eq!(read(&file, "a cpu", "avx512"), None);
        assert_ne!(file, file_of(&directory, "a cpu", "avx512"));
        for damaged in
            [&b"{"[..], b"", b"{\"cpu\":\"a cpu\",\"isa\":\"avx2\",\"one_stream_gb_s\":-1.0,\"two_streams_gb_s\":1.0}"]
        {
            fs::write(&file, damaged).unwrap();
            assert_eq!(read(&file, "a cpu", "avx2"), None);
        }
        fs::write(&file, vec![b' '; MAX_FILE_BYTES as usize + 1]).unwrap();
        assert_eq!(read(&file, "a cpu", "avx2"), None);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
    }

    #[cfg(feature = "starter")]
    #[test]
    fn a_stored_measurement_is_used_unless_a_new_one_is_forced() {
        let model = crate::Model::starter().unwrap();
        let compute = Compute { kernels: model.kernels, team: &model.team };
        let directory = tempfile::tempdir().unwrap();
        let settle = |min, tune| settle_from(min, tune, Some(directory.path()), compute, &model.encoder);
        assert!(model.info().reading.ends_with("the weights are small"), "{}", model.info().reading);
        assert!(settle(f64::INFINITY, Tune::Force).ends_with("the weights are small"));
        assert!(settle(0.0, Tune::Off).ends_with("tuning is off"));
        assert!(!directory.path().join("anything").exists() && fs::read_dir(directory.path()).unwrap().count() == 0);

        let (cpu, isa) = (cpu_identity(model.team.threads()), model.kernels.isa().name());
        let file = file_of(directory.path(), &cpu, isa);
        // If the machine is too busy for a measurement within its limit, nothing is stored and the message says so.
        let said = settle(0.0, Tune::Force);
        assert_eq!(file.exists(), said.ends_with("measured now and kept"), "{said}");
        let own = Measured { cpu, isa: isa.to_owned(), one_stream_gb_s: 3.0, two_streams_gb_s: 1.0 };
        write(&file, &own).unwrap();
        let said = settle(0.0, Tune::Auto);
        assert_eq!(said, "in one stream: 3.0 GB/s in one, 1.0 in two, measured by an earlier process");
        assert!(!settle(0.0, Tune::Force).contains("earlier process"));
    }
}
