//! Counters and histograms for Prometheus, and the last latencies for the page.

use std::collections::VecDeque;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::memory::Budget;
use super::scheduler::{Scheduler, Timing};
use trivec::ModelInfo;
use trivec_cache::Stats;

/// How many of the last latencies are kept for the percentiles.
const KEPT: usize = 512;

/// The labels of the counter of requests.
#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Route {
    route: String,
    status: u16,
}

/// The label of the histogram of requests' times.
#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Timed {
    route: String,
}

/// The counters and histograms that the service keeps itself; `recent` has when each of the last latencies was measured, the milliseconds,
/// and the tokens.
pub(super) struct Metrics {
    requests: Family<Route, Counter>,
    durations: Family<Timed, Histogram, fn() -> Histogram>,
    pub tokenize: Histogram,
    pub encode: Histogram,
    pub queue_wait: Histogram,
    pub serialize: Histogram,
    pub tokens: Counter,
    pub connections: Gauge,
    recent: Mutex<VecDeque<(Instant, f64, usize)>>,
}

/// Percentiles of the latencies of the last requests that needed embeddings or scores, and how fast tokens were computed.
pub(super) struct Recent {
    pub p50_ms: Option<f64>,
    pub p95_ms: Option<f64>,
    /// How many latencies the percentiles are of.
    pub count: usize,
    /// Tokens a second over the last ten seconds.
    pub tokens_s: f64,
}

/// A histogram of times in seconds.
pub(super) fn seconds() -> Histogram {
    // 0.1 ms to 100 s, four to a decade.
    Histogram::new((-16..=8).map(|i| 10f64.powf(f64::from(i) / 4.0)))
}

impl Metrics {
    pub(super) fn new() -> Metrics {
        Metrics {
            requests: Family::default(),
            durations: Family::new_with_constructor(seconds),
            tokenize: seconds(),
            encode: seconds(),
            queue_wait: seconds(),
            serialize: seconds(),
            tokens: Counter::default(),
            connections: Gauge::default(),
            recent: Mutex::default(),
        }
    }

    /// Counts a request that is over, and records how long it took.
    pub(super) fn request(&self, route: &str, status: u16, took: Duration) {
        self.requests.get_or_create(&Route { route: route.to_owned(), status }).inc();
        self.durations.get_or_create(&Timed { route: route.to_owned() }).observe(took.as_secs_f64());
    }

    /// Records that the engine has computed texts of a request, of so many tokens.
    pub(super) fn encoded(&self, tokens: usize, timing: Timing) {
        self.tokens.inc_by(tokens as u64);
        self.encode.observe(timing.computed.as_secs_f64());
        self.queue_wait.observe(timing.queued.as_secs_f64());
        self.answered(tokens, timing);
    }

    /// Records the latency of a request's embeddings or scores. `tokens` is the number of tokens that were computed for it, 0 if all came
    /// from the cache.
    pub(super) fn answered(&self, tokens: usize, timing: Timing) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() == KEPT {
            recent.pop_front();
        }
        let ms = (timing.queued + timing.computed).as_secs_f64() * 1e3;
        recent.push_back((Instant::now(), ms, tokens));
    }

    /// The percentiles of the last latencies, and the tokens a second at present.
    pub(super) fn recent(&self) -> Recent {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let mut latencies: Vec<f64> = recent.iter().map(|(_, ms, _)| *ms).collect();
        latencies.sort_by(f64::total_cmp);
        let at = |share: f64| latencies.get(((latencies.len() as f64 - 1.0) * share).round() as usize).copied();
        let lately = recent.iter().filter(|(at, ..)| at.elapsed().as_secs() < 10);
        let tokens: usize = lately.map(|(.., tokens)| tokens).sum();
        let (p50_ms, p95_ms) = if latencies.is_empty() { (None, None) } else { (at(0.5), at(0.95)) };
        Recent { p50_ms, p95_ms, count: latencies.len(), tokens_s: tokens as f64 / 10.0 }
    }

    /// All metrics in the text format that Prometheus reads; `more` registers further ones.
    pub(super) fn text(
        &self,
        scheduler: &Scheduler,
        budget: &Budget,
        model: &ModelInfo,
        cache: Option<Stats>,
        more: impl FnOnce(&mut Registry),
    ) -> String {
        let mut registry = Registry::with_prefix("trivec");
        more(&mut registry);
        registry.register("requests", "Requests by route and status", self.requests.clone());
        let durations = self.durations.clone();
        registry.register_with_unit("request", "Time of a request, by route", Unit::Seconds, durations);
        for (name, help, histogram) in [
            ("tokenize", "Time to tokenise a request's texts", &self.tokenize),
            ("encode", "Engine time of the batches with a request's texts", &self.encode),
            ("queue_wait", "Time that a request's texts waited in the queue", &self.queue_wait),
            ("serialize", "Time to write an answer", &self.serialize),
        ] {
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        }
        registry.register("tokens", "Tokens computed", self.tokens.clone());
        registry.register("connections", "Open connections", self.connections.clone());
        let rate: Gauge<f64, AtomicU64> = Gauge::default();
        rate.set(self.recent().tokens_s);
        registry.register("tokens_per_second", "Tokens computed a second, over the last ten seconds", rate);
        let (depth, cost) = scheduler.depth();
        let counters = scheduler.counters();
        let cached = |of: fn(&Stats) -> u64| cache.as_ref().map(of);
        registry.register("batch_size_tokens", "Tokens of a batch", counters.batch_sizes.clone());
        let load = |counter: &AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
        for (name, help, value) in [
            ("queue_depth", "Texts waiting in the queue", Some(depth as u64)),
            ("queue_cost", "Cost of the texts waiting in the queue", Some(cost)),
            ("requests_in_flight_bytes", "Estimated memory of the running requests", Some(budget.in_flight())),
            ("requests_most_bytes", "Limit of the requests' memory (--max-memory)", Some(budget.most())),
            ("cache_entries", "Representations in the cache", cached(|c| c.entries)),
            ("cache_bytes", "Bytes of the cache's file in use", cached(|c| c.bytes)),
        ] {
            let Some(value) = value else { continue };
            let gauge: Gauge = Gauge::default();
            gauge.set(value as i64);
            registry.register(name, help, gauge);
        }
        for (name, help, value) in [
            ("batches", "Batches computed by the engine", Some(load(&counters.batches))),
            ("batch_tokens", "Tokens of all batches", Some(load(&counters.batch_tokens))),
            ("texts", "Texts computed", Some(load(&counters.texts))),
            ("cancelled", "Texts dropped because their client had disconnected", Some(load(&counters.cancelled))),
            ("panics", "Batches in which the engine panicked", Some(load(&counters.panics))),
            ("busy_microseconds", "Time the engine was busy", Some(load(&counters.busy_micros))),
            ("cache_hits", "Cache hits", cached(|c| c.hits)),
            ("cache_misses", "Cache misses", cached(|c| c.misses)),
            (
                "cache_evictions",
                "Representations removed from the cache, to make room or because they were damaged",
                cached(|c| c.evictions),
            ),
            ("cache_errors", "Damaged entries, failed reads and failed writes of the cache", cached(|c| c.errors)),
            ("cache_dropped", "Texts not cached because the cache's writer was behind", cached(|c| c.dropped)),
        ] {
            let Some(value) = value else { continue };
            let counter: Counter = Counter::default();
            counter.inc_by(value);
            registry.register(name, help, counter);
        }
        if let Some(bytes) = resident_bytes() {
            let gauge: Gauge = Gauge::default();
            gauge.set(bytes as i64);
            registry.register_with_unit("resident_memory", "Resident memory", Unit::Bytes, gauge);
        }
        let info = Info::new(vec![
            ("model", model.name.clone()),
            ("weights", model.weights.clone()),
            ("isa", model.isa.to_owned()),
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ]);
        registry.register("model", "The model in use", info);
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = text::encode(&mut out, &registry);
        out
    }
}

/// The resident memory of this process in bytes; `None` on systems without `/proc`.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}
