//! Facts about this CPU that no feature flag tells: in how many streams it reads memory fastest, and whether its matrix registers may be used.

use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;

/// In how many streams a core reads weights from memory, in products of few rows. The choice changes how long a product takes, never its
/// bits. Which is faster depends on the CPU's prefetchers and cannot be told from its instruction set. The engine times products both ways
/// when it loads a model, and sets the faster one here for the whole process.
///
/// EXPERIMENTS.md has the speeds of two servers: one is faster with one stream, the other with two.
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
    /// In how many streams products of this process read now: two until something else is set.
    pub fn current() -> Streams {
        if reads_one_stream() { Streams::One } else { Streams::Two }
    }

    /// Makes products of this process read in this many streams from now on. On other architectures than x86-64 this does nothing.
    pub fn set(self) {
        ONE_STREAM.store(self == Streams::One, Ordering::Relaxed);
    }

    /// The number as a word: `one` or `two`.
    pub fn name(self) -> &'static str {
        match self {
            Streams::One => "one",
            Streams::Two => "two",
        }
    }
}

/// Whether [`Streams::current`] is one. Products call this for each panel or tile.
#[cfg(target_arch = "x86_64")]
#[inline(never)]
pub(crate) fn reads_one_stream() -> bool {
    ONE_STREAM.load(Ordering::Relaxed)
}

/// On other architectures products read in two streams, whatever was set, because a single stream has not been measured there.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub(crate) fn reads_one_stream() -> bool {
    false
}
