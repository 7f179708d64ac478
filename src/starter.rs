//! The starter model, inside the binary: a packed file that is read in place from the executable's memory map. `models/starter/README.md`
//! says what the model is and how the file is made. `build.rs` finds the file.

use crate::weights::Source;

/// Bytes with an alignment that suits every tensor, so that weights are read in place.
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

static PACKED: &Aligned<[u8]> = &Aligned(*include_bytes!(env!("TRIVEC_STARTER_FILE")));

/// Where the engine reads the starter from.
pub(crate) fn source() -> Source {
    Source::embedded(&PACKED.0, "starter")
}
