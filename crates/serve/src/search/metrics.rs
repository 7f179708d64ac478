//! Metrics of searches and writes: how long the parts of searches take, and how many documents were added, refused or deleted.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use trivec_search::{Arms, Timings};

use super::Counts;
use crate::metrics::seconds;

/// The label of the times of arms.
#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Arm {
    arm: &'static str,
}

/// The label of the times of a search's phases.
#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Phase {
    phase: &'static str,
}

/// The label of an index's numbers: its name.
#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Name {
    index: String,
}

#[derive(Debug)]
pub(crate) struct SearchMetrics {
    arms: Family<Arm, Histogram, fn() -> Histogram>,
    phases: Family<Phase, Histogram, fn() -> Histogram>,
    commit: Histogram,
    pub cancelled: Counter,
    pub added: Family<Counted, Counter>,
}

/// The labels of the counter of documents: the index, and what happened to them.
#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct Counted {
    pub index: String,
    /// `added`, `refused` or `deleted`.
    pub what: &'static str,
}

impl SearchMetrics {
    pub fn new() -> SearchMetrics {
        SearchMetrics {
            arms: Family::new_with_constructor(seconds),
            phases: Family::new_with_constructor(seconds),
            commit: seconds(),
            cancelled: Counter::default(),
            added: Family::default(),
        }
    }

    /// Records how long a search's arms and phases took.
    pub fn searched(&self, asked: Arms, with_filter: bool, timings: &Timings) {
        for (arm, ran, ms) in [
            ("dense", asked.dense, timings.dense_ms),
            ("bm25", asked.bm25, timings.bm25_ms),
            // The sparse arm runs only if its scores count; else its time is 0.
            ("sparse", asked.sparse && timings.sparse_ms > 0.0, timings.sparse_ms),
        ] {
            if ran {
                self.arms.get_or_create(&Arm { arm }).observe(ms / 1e3);
            }
        }
        for (phase, ran, ms) in [
            ("encode", true, timings.encode_ms),
            ("filter", with_filter, timings.filter_ms),
            ("fusion", true, timings.fusion_ms),
            ("rerank", timings.rerank_ms > 0.0, timings.rerank_ms),
            ("documents", true, timings.documents_ms),
            ("total", true, timings.total_ms),
        ] {
            if ran {
                self.phases.get_or_create(&Phase { phase }).observe(ms / 1e3);
            }
        }
    }

    /// Records how long a commit took.
    pub fn committed(&self, took: Duration) {
        self.commit.observe(took.as_secs_f64());
    }

    /// Counts `documents` documents of `index` that were `what`, such as added or deleted.
    pub fn count(&self, index: &str, what: &'static str, documents: u64) {
        if documents > 0 {
            self.added.get_or_create(&Counted { index: index.to_owned(), what }).inc_by(documents);
        }
    }

    /// Registers all metrics of searches and indexes; `counts` are what each index has now.
    pub fn register(&self, registry: &mut Registry, counts: &[Counts]) {
        let (documents, entries) = (Family::<Name, Gauge>::default(), Family::<Name, Gauge>::default());
        for counts in counts {
            let name = Name { index: counts.name.clone() };
            if let Some(count) = counts.documents {
                documents.get_or_create(&name).set(count as i64);
            }
            entries.get_or_create(&name).set(counts.entries as i64);
        }
        let what = "Documents of an index, in the view that was opened last: one in chunks counts once";
        registry.register("index_documents", what, documents);
        registry.register("index_entries", "Documents of an index, and each chunk of those in chunks", entries);
        let what = "Documents and chunks that were added, refused or deleted by requests";
        registry.register("documents", what, self.added.clone());
        let what = "Searches that ended early because their client had disconnected";
        registry.register("searches_cancelled", what, self.cancelled.clone());
        registry.register_with_unit("search_arm", "Time of a search's arm", Unit::Seconds, self.arms.clone());
        registry.register_with_unit("search_phase", "Time of a search's phase", Unit::Seconds, self.phases.clone());
        registry.register_with_unit("index_commit", "Time of a commit", Unit::Seconds, self.commit.clone());
    }
}
