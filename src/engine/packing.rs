//! Describes in words how a packed model is stored.

use crate::weights::WeightFormat;

/// How a packed file stores its layers, and what it was packed from.
#[derive(Debug)]
pub(super) struct Packed {
    /// The format that was asked for when the file was packed.
    pub format: WeightFormat,
    /// The format of each layer.
    pub layers: Vec<WeightFormat>,
    /// A digest of the weights that were packed, `starter`, or `unknown`.
    pub source: String,
}

impl Packed {
    /// The formats of the layers in words: `int8`, if all have the same, or `int4 (3 layers), int8 (21 layers)`.
    pub(super) fn describe(&self) -> String {
        if let Some(first) = self.layers.first().filter(|first| self.layers.iter().all(|format| format == *first)) {
            return first.name().to_owned();
        }
        let count = |format: &WeightFormat| (*format, self.layers.iter().filter(|other| *other == format).count());
        let counts = WeightFormat::ALL.iter().map(count).filter(|(_, count)| *count > 0);
        let layers = |n| if n == 1 { "layer" } else { "layers" };
        counts.map(|(format, n)| format!("{} ({n} {})", format.name(), layers(n))).collect::<Vec<_>>().join(", ")
    }
}
