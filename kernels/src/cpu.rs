//! Facts of the CPU at hand that no feature flag tells: how it is best read from memory, and whether its matrix registers may be used.

use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;

/// In how many streams a core reads weights from memory, in products of few rows. The choice changes how long a product takes, never its
/// bits. Which is faster depends on the CPU's prefetchers and cannot be told from its instruction set. Whoever loads a model measures it
/// ([`Kernels::read_memory`](crate::Kernels::read_memory)) and sets it here for the whole process.
///
/// EXPERIMENTS.md has the speeds of two servers, one of either kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streams {
    /// A panel is read front to back and prefetched far ahead into the second-level cache. (int4, which arithmetic limits, is prefetched
    /// into the first-level cache as well.)
    One,
    /// The two halves of a panel's depth are read in turn and prefetched into the first-level cache.
    Two,
}

/// Whether products read in one stream. Relaxed ordering is enough: results are correct with either value.
static ONE_STREAM: AtomicBool = AtomicBool::new(false);

impl Streams {
    /// What products of this process do now; two streams until something else was set.
    pub fn current() -> Streams {
        if reads_one_stream() { Streams::One } else { Streams::Two }
    }

    /// Products of this process do it from now on (on x86-64).
    pub fn set(self) {
        ONE_STREAM.store(self == Streams::One, Ordering::Relaxed);
    }

    /// `one` or `two`.
    pub fn name(self) -> &'static str {
        match self {
            Streams::One => "one",
            Streams::Two => "two",
        }
    }
}

/// Whether [`Streams::current`] is one. Asked once or twice a product.
#[cfg(target_arch = "x86_64")]
#[inline(never)]
pub(crate) fn reads_one_stream() -> bool {
    ONE_STREAM.load(Ordering::Relaxed)
}

/// On other architectures products read in two streams, whatever was set: one has not been tried there.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub(crate) fn reads_one_stream() -> bool {
    false
}
