//! What a result may not be: NaN or infinite.

use trivec_kernels::Kernels;

use crate::error::Error;

/// Which of a text's results is NaN or infinite, as [`Error::NotFinite`] has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotFinite {
    pub mode: &'static str,
    pub at: usize,
}

impl NotFinite {
    /// The error of the input at `index`.
    pub(crate) fn of_input(self, index: usize) -> Error {
        Error::NotFinite { index, mode: self.mode, at: self.at }
    }
}

/// Gives a vector the length 1 (zeros stay zeros); whether it is finite then. Values whose squares overflow are not: they would become zeros.
pub(super) fn normalize(kernels: &Kernels, vector: &mut [f32]) -> bool {
    let finite = kernels.dot(vector, vector).is_finite();
    kernels.l2_normalize(vector);
    finite
}
