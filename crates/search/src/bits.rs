//! A set of rows, as a bit vector.

/// A bit for every row of an index, or of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bits {
    words: Vec<u64>,
    len: usize,
}

impl Bits {
    /// The empty set, of rows below `len`.
    pub fn none(len: usize) -> Bits {
        Bits { words: vec![0; len.div_ceil(64)], len }
    }

    /// The set of all rows below `len`.
    pub fn all(len: usize) -> Bits {
        let mut bits = Bits { words: vec![u64::MAX; len.div_ceil(64)], len };
        bits.trim();
        bits
    }

    /// Clears the unused bits of the last word.
    fn trim(&mut self) {
        if let Some(last) = self.words.last_mut().filter(|_| !self.len.is_multiple_of(64)) {
            *last &= (1 << (self.len % 64)) - 1;
        }
    }

    /// Adds a row to the set. A row that is not below the length is ignored.
    pub fn set(&mut self, at: usize) {
        if at < self.len {
            self.words[at / 64] |= 1 << (at % 64);
        }
    }

    pub fn get(&self, at: usize) -> bool {
        self.words.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub fn and(&mut self, other: &Bits) {
        self.words.iter_mut().zip(&other.words).for_each(|(a, b)| *a &= b);
    }

    pub fn or(&mut self, other: &Bits) {
        self.words.iter_mut().zip(&other.words).for_each(|(a, b)| *a |= b);
    }

    /// Replaces the set by its complement.
    pub fn not(&mut self) {
        self.words.iter_mut().for_each(|word| *word = !*word);
        self.trim();
    }

    /// Whether a bit of `from .. to` is set.
    pub fn any(&self, from: usize, to: usize) -> bool {
        let to = to.min(self.len);
        let mut at = from;
        while at < to {
            let in_word = (64 - at % 64).min(to - at);
            let mask = if in_word == 64 { u64::MAX } else { ((1 << in_word) - 1) << (at % 64) };
            if self.words[at / 64] & mask != 0 {
                return true;
            }
            at += in_word;
        }
        false
    }

    /// The places of the set bits, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(index, &word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros() as usize)?;
                left &= left - 1;
                Some(index * 64 + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_do_what_a_list_of_booleans_does() {
        for len in [0, 1, 63, 64, 65, 200] {
            let on = |i: usize| i % 3 == 1 || i == 130;
            let mut bits = Bits::none(len);
            (0..len).filter(|&i| on(i)).for_each(|i| bits.set(i));
            bits.set(len + 5);
            let list: Vec<usize> = (0..len).filter(|&i| on(i)).collect();
            assert_eq!(bits.iter().collect::<Vec<_>>(), list);
            assert_eq!(bits.count(), list.len());
            for from in 0..len {
                for to in from..=len + 3 {
                    assert_eq!(bits.any(from, to), list.iter().any(|&i| i >= from && i < to), "{from}..{to} of {len}");
                }
            }
            let mut other = bits.clone();
            other.not();
            assert_eq!(other.count(), len - list.len());
            other.or(&bits);
            assert_eq!(other, Bits::all(len));
            other.and(&bits);
            assert_eq!(other, bits);
            assert!(!bits.get(len) && !bits.get(usize::MAX));
        }
    }
}
