//! The starter model's files, inside the binary. What it is and where it comes from: `models/starter/README.md`.

use crate::weights::Source;

/// Bytes at an address that suits every tensor, so that weights are read in place.
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

macro_rules! embedded {
    ($($file:literal),+ $(,)?) => {
        /// The model's files by name.
        static FILES: &[(&str, &[u8])] = &[$(($file, {
            static FILE: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!("../models/starter/", $file)));
            &FILE.0
        })),+];
    };
}

embedded![
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "modules.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
    "2_Dense/config.json",
    "2_Dense/model.safetensors",
    "colbert_linear.safetensors",
    "sparse_linear.safetensors",
];

/// Where the engine reads the starter from.
pub(crate) fn source() -> Source {
    Source::Embedded { name: "starter", files: FILES }
}
