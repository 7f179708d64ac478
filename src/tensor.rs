//! Two-dimensional views and the owned matrix behind them. Two dimensions, no broadcasting.

pub(crate) use trivec_kernels::{MatMut, MatRef};

/// A matrix `[rows, cols]` without gaps, row-major.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Matrix {
    data: Vec<f32>,
    rows: usize,
    cols: usize,
}

impl Matrix {
    pub(crate) fn zeros(rows: usize, cols: usize) -> Matrix {
        Matrix { data: vec![0.0; rows * cols], rows, cols }
    }

    pub(crate) fn view(&self) -> MatRef<'_> {
        MatRef::new(&self.data, self.rows, self.cols, self.cols)
    }

    pub(crate) fn view_mut(&mut self) -> MatMut<'_> {
        MatMut::new(&mut self.data, self.rows, self.cols, self.cols)
    }

    pub(crate) fn row(&self, row: usize) -> &[f32] {
        &self.data[row * self.cols..][..self.cols]
    }
}
