//! The starter model, inside the binary: a packed file that is read in place from the executable's map. What the model is and how the
//! file is made: `models/starter/README.md`. `build.rs` finds it.

use crate::weights::Source;

/// Bytes aligned for every tensor, so that weights are read in place.
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

static PACKED: &Aligned<[u8]> = &Aligned(*include_bytes!(env!("TRIVEC_STARTER_FILE")));

/// Where the engine reads the starter from.
pub(crate) fn source() -> Source {
    Source::embedded(&PACKED.0, "starter")
}
