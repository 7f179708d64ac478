//! The machine's limits: how fast it reads memory and multiplies, on as many threads as a model would use.

use std::time::{Duration, Instant};

use memmap2::MmapMut;
use serde::{Deserialize, Serialize};
use trivec_kernels::{Kernels, Probe, Streams};

use super::super::args::ModelArgs;
use super::super::exit::{Failure, Result};
use trivec::WeightFormat;
use trivec::parallel::Team;

/// How many bytes a measurement of the read speed goes through: more than the caches of most processors hold.
const MEMORY: usize = 512 << 20;
/// How long each kind of arithmetic, and the memory, is measured.
const SPAN: Duration = Duration::from_millis(300);
/// Rounds of the register loop in one timed run, which take about a millisecond with a fast instruction set.
const ROUNDS: usize = 200_000;

/// The machine's limits, and what they were measured with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Machine {
    pub read_gb_s: f64,
    pub int8_gop_s: f64,
    pub bf16_gflop_s: f64,
    pub f32_gflop_s: f64,
    pub cpu: String,
    pub isa: String,
    pub threads: usize,
}

impl Machine {
    /// The peak of the arithmetic that layers with weights in this format use, in 10^9 operations a second.
    pub(super) fn peak(&self, format: WeightFormat) -> f64 {
        match format.activations() {
            WeightFormat::Int8 => self.int8_gop_s,
            WeightFormat::Bf16 => self.bf16_gflop_s,
            _ => self.f32_gflop_s,
        }
    }

    /// Replaces each limit by that of `other`, another measurement of the same machine, where that is higher.
    pub(super) fn take_best(&mut self, other: Machine) {
        self.read_gb_s = self.read_gb_s.max(other.read_gb_s);
        self.int8_gop_s = self.int8_gop_s.max(other.int8_gop_s);
        self.bf16_gflop_s = self.bf16_gflop_s.max(other.bf16_gflop_s);
        self.f32_gflop_s = self.f32_gflop_s.max(other.f32_gflop_s);
    }
}

/// Measures this machine with the kernels and threads that `args` choose.
pub(super) fn measure(args: &ModelArgs) -> Result<Machine> {
    let kernels = match &args.isa {
        None => Kernels::best(),
        Some(isa) => Kernels::by_name(isa).map_err(|e| Failure::option("isa", e))?,
    };
    let team = Team::new(args.threads).map_err(|e| Failure::io("threads", &e))?;
    let peak = |probe| arithmetic(kernels, &team, probe) / 1e9;
    Ok(Machine {
        read_gb_s: memory(kernels, &team)? / 1e9,
        int8_gop_s: peak(Probe::Int8),
        bf16_gflop_s: peak(Probe::Bf16),
        f32_gflop_s: peak(Probe::F32),
        cpu: cpu_name(),
        isa: kernels.isa().name().to_owned(),
        threads: team.threads(),
    })
}

/// Operations a second: the best of many short measurements, each on all threads at once.
fn arithmetic(kernels: &Kernels, team: &Team, probe: Probe) -> f64 {
    // After a run of more than 10 ms, on a slower ISA, later runs have fewer rounds.
    let mut rounds = ROUNDS;
    let mut best = 0.0f64;
    let begin = Instant::now();
    while begin.elapsed() < SPAN {
        let tasks: Vec<()> = vec![(); team.threads()];
        let from = Instant::now();
        let operations: f64 = team.map(&tasks, |()| kernels.probe(probe, rounds)).iter().sum();
        let seconds = from.elapsed().as_secs_f64();
        best = best.max(operations / seconds);
        if seconds > 0.01 {
            rounds = (rounds / 4).max(1000);
        }
    }
    best
}

/// Bytes a second that all threads together read, each thread a part of its own: the best of many runs, in one stream and in two.
fn memory(kernels: &Kernels, team: &Team) -> Result<f64> {
    let failed = |e: std::io::Error| Failure::io("memory to measure", &e);
    let mut memory = MmapMut::map_anon(MEMORY).map_err(failed)?;
    // Large pages where there are any: the limit is the memory's, not that of address translation.
    #[cfg(target_os = "linux")]
    let _ = memory.advise(memmap2::Advice::HugePage);
    memory.fill(1);
    let parts: Vec<&[u8]> = memory.chunks(MEMORY / team.threads()).collect();
    let mut best = 0.0f64;
    let begin = Instant::now();
    // Memory is read in one stream and in two; the faster of both is the limit.
    while begin.elapsed() < SPAN {
        for streams in [Streams::One, Streams::Two] {
            let from = Instant::now();
            std::hint::black_box(team.map(&parts, |part| kernels.read_memory(part, streams)));
            best = best.max(MEMORY as f64 / from.elapsed().as_secs_f64());
        }
    }
    Ok(best)
}

/// The processor's name in /proc/cpuinfo, or the architecture's name where that file has none.
pub(in super::super) fn cpu_name() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}
