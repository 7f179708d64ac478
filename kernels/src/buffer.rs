//! A growing buffer that begins at a cache line, for operands of the kernels.

use std::ops::{Deref, DerefMut};

/// Bytes of a cache line, and of the widest register.
const LINE: usize = 64;

/// A growing buffer whose first element is at the beginning of a cache line, because reading a vector that crosses two lines takes two loads
/// (EXPERIMENTS.md has the gain).
#[derive(Debug, Default)]
pub struct Buffer<T> {
    /// Padding up to the first cache line, then the elements.
    data: Vec<T>,
    /// Where the elements begin in `data`.
    start: usize,
}

impl<T: Copy + Default> Buffer<T> {
    /// Makes the buffer at least `len` long. All its elements are then initialised, but their values are unspecified.
    pub fn grow(&mut self, len: usize) {
        if self.len() < len {
            // Grows by at least a quarter, so that a length that rises a little at a time does not allocate every time.
            let len = len.max(self.len() + self.len() / 4);
            // The content need not survive, so the old memory is freed first and nothing is copied.
            (self.data, self.start) = (Vec::new(), 0);
            self.data = vec![T::default(); len + LINE / size_of::<T>().clamp(1, LINE)];
            self.start = self.data.as_ptr().align_offset(LINE).min(self.data.len() - len);
        }
    }

    /// Bytes of memory that the buffer has allocated.
    pub fn bytes(&self) -> usize {
        self.data.capacity() * size_of::<T>()
    }
}

impl<T> Deref for Buffer<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.data[self.start..]
    }
}

impl<T> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.data[self.start..]
    }
}

impl<T: Copy + Default> Clone for Buffer<T> {
    /// The copy begins at a cache line too.
    fn clone(&self) -> Self {
        let mut copy = Buffer::default();
        copy.grow(self.len());
        copy[..self.len()].copy_from_slice(self);
        copy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the first element is at the beginning of a cache line.
    fn begins_a_line<T>(buffer: &Buffer<T>) -> bool {
        buffer.as_ptr().addr().is_multiple_of(LINE)
    }

    #[test]
    fn buffers_begin_at_a_cache_line_and_are_at_least_as_long_as_asked() {
        let (mut bytes, mut floats) = (Buffer::<i8>::default(), Buffer::<f32>::default());
        assert!(bytes.is_empty() && floats.is_empty());
        for len in [1, 3, 64, 1000, 500, 70_000] {
            bytes.grow(len);
            floats.grow(len);
            assert!(bytes.len() >= len && floats.len() >= len);
            assert!(begins_a_line(&bytes) && begins_a_line(&floats), "{len}");
        }
        bytes[69_999] = 7;
        let copy = bytes.clone();
        assert!(begins_a_line(&copy) && copy[69_999] == 7 && copy.len() >= bytes.len());
    }
}
