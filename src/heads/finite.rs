//! Results that are NaN or infinite, which become errors.

use trivec_kernels::Kernels;

use crate::error::Error;

/// The result of a text that is NaN or infinite: which representation, and which value or token of it, as in [`Error::NotFinite`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotFinite {
    pub mode: &'static str,
    pub at: usize,
}

impl NotFinite {
    /// The error that says that this is a result of the input number `index`.
    pub(crate) fn of_input(self, index: usize) -> Error {
        Error::NotFinite { index, mode: self.mode, at: self.at }
    }
}

/// Scales a vector to L2 norm 1; zeros stay zeros. Returns `false` if a value is NaN or infinite, or so large that the sum of squares
/// overflows (it would then have been scaled to zeros).
pub(super) fn normalize(kernels: &Kernels, vector: &mut [f32]) -> bool {
    let finite = kernels.dot(vector, vector).is_finite();
    kernels.l2_normalize(vector);
    finite
}
