//! The library's main type: [`Model`] turns texts into [`Embedding`](crate::Embedding)s, or pairs of texts into scores (`rerank`).

mod batch;
mod encode;
mod inside;
mod load;
mod model;
mod options;
mod packing;
mod prompt;
pub(crate) mod read;
mod rerank;
mod tuning;

use trivec_kernels::Isa;

pub use inside::{HeadMap, HeadMaps, Work};
pub use model::{Model, ModelInfo};
pub use options::{Cancel, EncodeOptions, LoadOptions, Progress, Prompt};
pub use rerank::RerankOptions;
pub use tuning::Tune;

/// Names of the instruction sets this CPU runs, slowest first.
pub fn instruction_sets() -> Vec<&'static str> {
    Isa::ALL.into_iter().filter(|isa| isa.is_supported()).map(Isa::name).collect()
}
