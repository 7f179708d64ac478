//! Model files: where they are, what they hold, and the typed weights made of them.

mod checkpoint;
mod content;
mod format;
mod linear;
mod mmap;
mod names;
pub(crate) mod packed;
mod prefix;
mod q4_0;
pub(crate) mod safetensors;
mod source;
mod store;
mod torch;

pub(crate) use checkpoint::{Checkpoint, Mapped, Q4_0_KEY, UnreadTensor};
pub use content::{Content, Stamp, read_through};
pub use format::WeightFormat;
pub(crate) use format::panel_shape;
pub(crate) use linear::{FloatLinear, InputForm, Linear, WeightsRef};
pub use mmap::MappedFile;
pub(crate) use names::{
    Classifier, EncoderWeights, HeadWeights, LayerWeights, Site, dense_module_tensors, encoder_shapes, head_tensors,
};
pub(crate) use safetensors::{TensorEntry, read_header};
pub(crate) use source::Source;
pub(crate) use store::{Norm, Table};

/// Whether `bytes` begin with a safetensors header that this engine accepts for a file of this length; for fuzzing.
pub(crate) fn header_is_valid(bytes: &[u8]) -> bool {
    read_header(bytes, std::path::Path::new("fuzz")).is_ok()
}

/// Whether `pickle` describes a state dict that this engine would read; for fuzzing.
pub(crate) fn pickle_is_valid(pickle: &[u8]) -> bool {
    torch::pickle_is_valid(pickle)
}

/// Whether `bytes` are a file of `torch.save` that this engine would read; for fuzzing.
pub(crate) fn torch_is_valid(bytes: &[u8]) -> bool {
    torch::is_valid(bytes)
}
