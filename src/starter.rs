//! The starter model, inside the binary: a packed file that is read in place from the executable's map. What the model is and how the
//! file is made: `models/starter/README.md`.

use crate::weights::Source;

/// Bytes at an address that suits every tensor, so that weights are read in place.
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

static PACKED: &Aligned<[u8]> = &Aligned(*include_bytes!("../models/starter.safetensors"));

/// Where the engine reads the starter from.
pub(crate) fn source() -> Source {
    Source::embedded(&PACKED.0, "starter")
}
