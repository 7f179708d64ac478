//! Two-dimensional views and the owned matrix behind them. Two dimensions, no broadcasting.

pub(crate) use trivec_kernels::{MatMut, MatRef};

/// A matrix `[rows, cols]` without gaps, row-major, that can change its shape and keeps its memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Matrix {
    /// At least `rows · cols`.
    data: Vec<f32>,
    rows: usize,
    cols: usize,
}

impl Matrix {
    pub(crate) fn zeros(rows: usize, cols: usize) -> Matrix {
        Matrix { data: vec![0.0; rows * cols], rows, cols }
    }

    /// Takes another shape. What the values are afterwards is not said.
    pub(crate) fn reshape(&mut self, rows: usize, cols: usize) {
        (self.rows, self.cols) = (rows, cols);
        if self.data.len() < rows * cols {
            self.data.resize(rows * cols, 0.0);
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.data.capacity() * size_of::<f32>()
    }

    pub(crate) fn as_slice(&self) -> &[f32] {
        &self.data[..self.rows * self.cols]
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut self.data[..self.rows * self.cols]
    }

    pub(crate) fn view(&self) -> MatRef<'_> {
        MatRef::new(self.as_slice(), self.rows, self.cols, self.cols)
    }

    pub(crate) fn view_mut(&mut self) -> MatMut<'_> {
        let (rows, cols) = (self.rows, self.cols);
        MatMut::new(self.as_mut_slice(), rows, cols, cols)
    }

    pub(crate) fn row(&self, row: usize) -> &[f32] {
        &self.data[row * self.cols..][..self.cols]
    }
}
