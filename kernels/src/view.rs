//! Two-dimensional views of `f32` memory: rows of `cols` values, `stride` apart.
//!
//! A mutable view can be cut by rows *and by columns* into views that share no element, so that threads can write column blocks of one
//! matrix. Slices cannot express this.

use std::marker::PhantomData;

/// A read-only view `[rows, cols]`, row-major, rows `stride` elements apart.
#[derive(Debug, Clone, Copy)]
pub struct MatRef<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    stride: usize,
}

/// The length of the memory from the first element of such a matrix to its last, gaps between the rows included; `None` if it overflows.
fn extent(rows: usize, cols: usize, stride: usize) -> Option<usize> {
    if rows == 0 || cols == 0 {
        return Some(0);
    }
    (rows - 1).checked_mul(stride)?.checked_add(cols)
}

impl<'a> MatRef<'a> {
    /// A view of `rows` rows of `cols` values that lie `stride` apart in `data`.
    ///
    /// # Panics
    /// If `data` is too short, or if there is more than one row and `stride < cols`.
    pub fn new(data: &'a [f32], rows: usize, cols: usize, stride: usize) -> Self {
        assert!(rows <= 1 || stride >= cols, "rows of {cols} overlap at a stride of {stride}");
        let needed = extent(rows, cols, stride);
        assert!(needed.is_some_and(|n| n <= data.len()), "[{rows}, {cols}] by {stride} needs more than {}", data.len());
        MatRef { data, rows, cols, stride }
    }

    /// A view of rows without gaps: `data` is `[data.len() / cols, cols]`. Values that are left over after the last whole row are not in it.
    pub fn dense(data: &'a [f32], cols: usize) -> Self {
        Self::new(data, data.len().checked_div(cols).unwrap_or(0), cols, cols)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Elements between the beginnings of two rows.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Row `row`.
    ///
    /// # Panics
    /// If the matrix has no such row.
    pub fn row(&self, row: usize) -> &'a [f32] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        if self.cols == 0 {
            return &[];
        }
        &self.data[row * self.stride..][..self.cols]
    }

    /// A view of the rows `start .. start + rows`.
    ///
    /// # Panics
    /// If the matrix has fewer than `start + rows` rows.
    pub fn rows_from(&self, start: usize, rows: usize) -> MatRef<'a> {
        assert!(start <= self.rows && rows <= self.rows - start, "rows {start} + {rows} of {}", self.rows);
        let data = if rows == 0 || self.cols == 0 { &[] } else { &self.data[start * self.stride..] };
        MatRef::new(data, rows, self.cols, self.stride)
    }

    pub(crate) fn as_ptr(&self) -> *const f32 {
        self.data.as_ptr()
    }
}

/// A mutable view `[rows, cols]`, row-major, rows `stride` elements apart. It owns its elements for `'a`, and only them: the
/// gap between two rows may belong to another view.
#[derive(Debug)]
pub struct MatMut<'a> {
    data: *mut f32,
    rows: usize,
    cols: usize,
    stride: usize,
    _elements: PhantomData<&'a mut [f32]>,
}

// SAFETY: a view is the only way to its elements (constructed from `&mut [f32]`, cut only into disjoint views), so it may
// move to another thread as a `&mut [f32]` may.
unsafe impl Send for MatMut<'_> {}

impl<'a> MatMut<'a> {
    /// A view of `rows` rows of `cols` values that lie `stride` apart in `data`.
    ///
    /// # Panics
    /// If `data` is too short, or if there is more than one row and `stride < cols`.
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize, stride: usize) -> Self {
        MatRef::new(data, rows, cols, stride);
        MatMut { data: data.as_mut_ptr(), rows, cols, stride, _elements: PhantomData }
    }

    /// A view of rows without gaps: `data` is `[data.len() / cols, cols]`. Values that are left over after the last whole row are not in it.
    pub fn dense(data: &'a mut [f32], cols: usize) -> Self {
        let rows = data.len().checked_div(cols).unwrap_or(0);
        Self::new(data, rows, cols, cols)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Elements between the beginnings of two rows.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Row `row`.
    ///
    /// # Panics
    /// If the matrix has no such row.
    pub fn row_mut(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        // A row without elements may be at any address: the constructor checked no extent.
        let offset = if self.cols == 0 { 0 } else { row * self.stride };
        // SAFETY: the row lies inside the extent that the constructor checked (or is empty), belongs to this view alone, and
        // `&mut self` keeps a second reference away.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(offset), self.cols) }
    }

    /// A shorter-lived view of the same elements.
    pub fn reborrow(&mut self) -> MatMut<'_> {
        MatMut { data: self.data, rows: self.rows, cols: self.cols, stride: self.stride, _elements: PhantomData }
    }

    /// Cuts into rows `.. at` and rows `at ..`.
    ///
    /// # Panics
    /// If the matrix has fewer than `at` rows.
    pub fn split_rows(self, at: usize) -> (MatMut<'a>, MatMut<'a>) {
        assert!(at <= self.rows, "row {at} of {}", self.rows);
        let offset = if at == self.rows || self.cols == 0 { 0 } else { at * self.stride };
        let part = |data, rows| MatMut { data, rows, cols: self.cols, stride: self.stride, _elements: PhantomData };
        // SAFETY: `offset` is that of a row inside the checked extent, or 0.
        (part(self.data, at), part(unsafe { self.data.add(offset) }, self.rows - at))
    }

    /// Cuts into columns `.. at` and columns `at ..`.
    ///
    /// # Panics
    /// If the matrix has fewer than `at` columns.
    pub fn split_cols(self, at: usize) -> (MatMut<'a>, MatMut<'a>) {
        assert!(at <= self.cols, "column {at} of {}", self.cols);
        let part = |data, cols| MatMut { data, rows: self.rows, cols, stride: self.stride, _elements: PhantomData };
        let offset = if self.rows == 0 { 0 } else { at };
        // SAFETY: with a row present, column `at <= cols` is inside (or one past) the checked extent; else the offset is 0.
        (part(self.data, at), part(unsafe { self.data.add(offset) }, self.cols - at))
    }

    /// Cuts into blocks of at most `rows` rows and `cols` columns. The blocks of the first rows come first.
    ///
    /// # Panics
    /// If `rows` or `cols` is 0.
    pub fn into_blocks(self, rows: usize, cols: usize) -> Vec<Block<'a>> {
        assert!(rows > 0 && cols > 0, "blocks of [{rows}, {cols}]");
        let mut blocks = Vec::with_capacity(self.rows.div_ceil(rows) * self.cols.div_ceil(cols));
        let mut below = self;
        let mut row = 0;
        while below.rows > 0 {
            let at = rows.min(below.rows);
            let (mut right, rest) = below.split_rows(at);
            let mut col = 0;
            while right.cols > 0 {
                let at = cols.min(right.cols);
                let (view, rest) = right.split_cols(at);
                blocks.push(Block { row, col, view });
                col += at;
                right = rest;
            }
            row += at;
            below = rest;
        }
        blocks
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut f32 {
        self.data
    }
}

/// A block of a matrix, and where in the matrix it lies.
#[derive(Debug)]
pub struct Block<'a> {
    /// First row of the block in the matrix.
    pub row: usize,
    /// First column of the block in the matrix.
    pub col: usize,
    /// The block's elements.
    pub view: MatMut<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_every_element_once() {
        for (rows, cols, stride) in [(1, 1, 1), (5, 7, 9), (6, 4, 4), (0, 3, 3), (3, 0, 5)] {
            let mut data = vec![0.0; rows * stride];
            for mut block in MatMut::new(&mut data, rows, cols, stride).into_blocks(2, 3) {
                for row in 0..block.view.rows() {
                    for (col, value) in block.view.row_mut(row).iter_mut().enumerate() {
                        *value += ((block.row + row) * 100 + block.col + col) as f32 + 1.0;
                    }
                }
            }
            for (index, value) in data.iter().enumerate() {
                let (row, col) = (index / stride, index % stride);
                let expected = if col < cols { (row * 100 + col) as f32 + 1.0 } else { 0.0 };
                assert_eq!(*value, expected, "[{rows}, {cols}] by {stride} at {row}, {col}");
            }
        }
    }

    #[test]
    fn rows_without_columns_are_empty() {
        let empty = MatRef::new(&[], 3, 0, 5);
        assert!(empty.row(2).is_empty() && empty.rows_from(1, 2).row(1).is_empty());
        let mut below = MatMut::new(&mut [], 3, 0, 5).split_rows(2).1;
        assert!(below.rows() == 1 && below.row_mut(0).is_empty());
    }

    #[test]
    #[should_panic(expected = "needs more than")]
    fn short_data_is_refused() {
        MatRef::new(&[0.0; 11], 3, 4, 4);
    }

    #[test]
    #[should_panic(expected = "overlap")]
    fn overlapping_rows_are_refused() {
        MatMut::new(&mut [0.0; 12], 3, 4, 2);
    }

    #[test]
    #[should_panic(expected = "needs more than")]
    fn overflowing_extent_is_refused() {
        MatRef::new(&[0.0; 12], usize::MAX, 4, usize::MAX);
    }
}
