//! Describes in words how a packed model is stored.

use crate::weights::WeightFormat;

/// How a packed file stores its layers, all and each, and what it was packed from.
#[derive(Debug)]
pub(super) struct Packed {
    pub format: WeightFormat,
    pub layers: Vec<WeightFormat>,
    pub source: String,
}

impl Packed {
    /// `int8`; or `int4 (3 layers), int8 (21 layers)`.
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
