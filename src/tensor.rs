//! The owned f32 matrix of the forward pass and views of it. There are two dimensions only, and no broadcasting.

use trivec_kernels::Buffer;
pub(crate) use trivec_kernels::{MatMut, MatRef};

/// A row-major matrix `[rows, cols]` whose shape can change. When it becomes smaller, it keeps its memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Matrix {
    /// At least `rows · stride` values.
    data: Buffer<f32>,
    rows: usize,
    cols: usize,
}

/// Values from the beginning of a row to that of the next: an odd number of whole cache lines. Without this padding, rows of 1,024 or 4,096
/// values would begin a multiple of 4 KB apart, and a block of their columns would compete for a few cache sets.
fn stride_of(cols: usize) -> usize {
    let lines = cols.div_ceil(16);
    16 * (lines + 1 - lines % 2)
}

impl Matrix {
    /// Changes the shape. The values are unspecified afterwards.
    pub(crate) fn reshape(&mut self, rows: usize, cols: usize) {
        (self.rows, self.cols) = (rows, cols);
        self.data.grow(rows * stride_of(cols));
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes of memory that the matrix holds.
    pub(crate) fn bytes(&self) -> usize {
        self.data.bytes()
    }

    /// Values from the beginning of a row to that of the next.
    pub(crate) fn stride(&self) -> usize {
        stride_of(self.cols)
    }

    pub(crate) fn as_slice(&self) -> &[f32] {
        &self.data[..self.rows * self.stride()]
    }

    pub(crate) fn view(&self) -> MatRef<'_> {
        MatRef::new(self.as_slice(), self.rows, self.cols, self.stride())
    }

    pub(crate) fn view_mut(&mut self) -> MatMut<'_> {
        let (rows, cols, stride) = (self.rows, self.cols, self.stride());
        MatMut::new(&mut self.data[..rows * stride], rows, cols, stride)
    }

    pub(crate) fn row(&self, row: usize) -> &[f32] {
        &self.data[row * self.stride()..][..self.cols]
    }

    /// Keeps only these rows, whose numbers must ascend, and moves them together.
    pub(crate) fn keep_rows(&mut self, rows: impl Iterator<Item = usize>) {
        let (cols, stride) = (self.cols, self.stride());
        let mut kept = 0;
        for row in rows {
            assert!(kept <= row && row < self.rows, "row {row} of {} after {kept} others", self.rows);
            self.data.copy_within(row * stride..row * stride + cols, kept * stride);
            kept += 1;
        }
        self.rows = kept;
    }

    /// All rows, to be read, written and cut into blocks.
    pub(crate) fn rows_mut(&mut self) -> RowsMut<'_> {
        let (rows, cols, stride) = (self.rows, self.cols, self.stride());
        RowsMut { data: &mut self.data[..rows * stride], rows, cols, stride }
    }
}

/// Whole consecutive rows of a matrix, to be read and written.
#[derive(Debug)]
pub(crate) struct RowsMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    cols: usize,
    stride: usize,
}

impl<'a> RowsMut<'a> {
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn view(&self) -> MatRef<'_> {
        MatRef::new(self.data, self.rows, self.cols, self.stride)
    }

    pub(crate) fn view_mut(&mut self) -> MatMut<'_> {
        MatMut::new(self.data, self.rows, self.cols, self.stride)
    }

    /// Cuts the rows into blocks of at most `rows` rows. Each block comes with the number of its first row.
    pub(crate) fn into_blocks(self, rows: usize) -> impl Iterator<Item = (usize, RowsMut<'a>)> {
        let (cols, stride) = (self.cols, self.stride);
        let blocks = self.data.chunks_mut(rows * stride).enumerate();
        blocks.map(move |(index, data)| (index * rows, RowsMut { rows: data.len() / stride, data, cols, stride }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_kept_and_cut_into_blocks() {
        let mut matrix = Matrix::default();
        matrix.reshape(7, 3);
        for row in 0..7 {
            matrix.view_mut().row_mut(row).fill(row as f32);
        }
        matrix.keep_rows([0, 2, 3, 6].into_iter());
        let mut seen = Vec::new();
        for (first, mut block) in matrix.rows_mut().into_blocks(3) {
            assert_eq!(block.view().rows(), block.rows());
            let rows = block.rows();
            for row in 0..rows {
                seen.push((first + row, block.view().row(row).to_vec()));
                block.view_mut().row_mut(row).fill(-1.0);
            }
        }
        let expected = [0.0, 2.0, 3.0, 6.0].map(|value| vec![value; 3]);
        assert_eq!(seen, expected.into_iter().enumerate().collect::<Vec<_>>());
        assert!((0..4).all(|row| matrix.row(row) == [-1.0; 3]));
    }
}
