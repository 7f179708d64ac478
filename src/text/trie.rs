//! A double-array trie over the bytes of the vocabulary's pieces: one flat array, used in place wherever it lies.
//!
//! Unit `n` is two `u32`: `base << 8 | label`, and the id of the piece that ends there. The child of a node with base `b` by byte `c` is
//! unit `b ^ c`, and is there if that unit's label is `c`: no two nodes with children have the same base, so the label is enough to identify the parent.
//! (The root is no node's child; its label is that of a free unit.) (Aoe 1989; the exclusive-or form is that of darts-clone.) Every index
//! is checked when it is used: a damaged array gives wrong pieces or none.

use super::types::Numbers;

/// The id in a unit at which no piece ends.
const NONE: u32 = u32::MAX;
/// The first number of a unit that is no node. Its label is no byte of UTF-8.
const FREE: u32 = NO_BASE << 8 | NO_BYTE;
/// The label of a unit that is no node's child.
const NO_BYTE: u32 = 0xff;
/// The base of a node without children: with any byte it gives a unit beyond the largest array.
const NO_BASE: u32 = 0xff_ffff;
/// The most units of an array.
const MAX_UNITS: usize = NO_BASE as usize - 255;
/// All children of a node lie in one block of this many units.
const BLOCK: usize = 256;
/// A block that had no room for a node's children this many times is not tried again.
const MISSES: usize = 64;

/// A trie; its root is unit 0.
pub(super) struct Trie {
    units: Numbers<u32>,
}

impl std::fmt::Debug for Trie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Trie({} units)", self.units().len() / 2)
    }
}

impl Trie {
    /// The trie in an array that [`Trie::units`] gave, which is used in place.
    pub(super) fn from_units(units: Numbers<u32>) -> Trie {
        Trie { units }
    }

    /// The array, to be stored: two numbers for each unit.
    pub(super) fn units(&self) -> &[u32] {
        (*self.units).as_ref()
    }

    /// Builds the trie of `pieces`, whose ids are their positions. Of equal pieces the last counts; an empty piece is never found.
    pub(super) fn new<'a>(pieces: impl Iterator<Item = &'a str>) -> Result<Trie, String> {
        let mut sorted: Vec<(&[u8], u32)> = pieces.zip(0..).map(|(piece, id)| (piece.as_bytes(), id)).collect();
        sorted.sort_unstable();
        let mut builder = Builder::default();
        builder.grow()?;
        builder.free[0][0] = false;
        builder.units[0] = [NO_BASE << 8 | NO_BYTE, NONE];
        // Depth first: each entry is a node, the range of the sorted pieces that begin with the node's `depth` bytes, and `depth`.
        let mut open = vec![(0usize, 0usize..sorted.len(), 0usize)];
        let mut children: Vec<(u8, std::ops::Range<usize>)> = Vec::new();
        while let Some((node, mut range, depth)) = open.pop() {
            while range.start < range.end && sorted[range.start].0.len() == depth {
                if depth > 0 {
                    builder.units[node][1] = sorted[range.start].1;
                }
                range.start += 1;
            }
            children.clear();
            while range.start < range.end {
                let byte = sorted[range.start].0[depth];
                let len = sorted[range.clone()].iter().take_while(|(piece, _)| piece[depth] == byte).count();
                children.push((byte, range.start..range.start + len));
                range.start += len;
            }
            if children.is_empty() {
                continue;
            }
            let base = builder.place(&children)?;
            builder.units[node][0] = base << 8 | builder.units[node][0] & 0xff;
            for (byte, range) in children.drain(..) {
                let child = (base ^ u32::from(byte)) as usize;
                builder.units[child] = [NO_BASE << 8 | u32::from(byte), NONE];
                open.push((child, range, depth + 1));
            }
        }
        let units: Vec<u32> = builder.units.into_iter().flatten().collect();
        Ok(Trie { units: std::sync::Arc::new(units) })
    }

    /// Calls `f(length, id)` for every piece that is a prefix of `bytes`, shortest first.
    #[inline]
    pub(super) fn prefixes(&self, bytes: &[u8], mut f: impl FnMut(usize, u32)) {
        let (units, _) = self.units().as_chunks::<2>();
        let Some([mut unit, _]) = units.first().copied() else { return };
        for (at, &byte) in bytes.iter().enumerate() {
            let child = (unit >> 8) ^ u32::from(byte);
            let Some(&[next, id]) = units.get(child as usize) else { return };
            if next & 0xff != u32::from(byte) {
                return;
            }
            if id != NONE {
                f(at + 1, id);
            }
            unit = next;
        }
    }
}

/// The array while it is built.
#[derive(Default)]
struct Builder {
    units: Vec<[u32; 2]>,
    /// For each unit, block by block: whether it is free, and (`based`) whether its index is the base of a node.
    free: Vec<[bool; BLOCK]>,
    based: Vec<[bool; BLOCK]>,
    /// The blocks that may have room, oldest first, each with the number of times that it had none.
    open: Vec<(usize, usize)>,
}

impl Builder {
    /// Adds a block of free units.
    fn grow(&mut self) -> Result<(), String> {
        let len = self.units.len() + BLOCK;
        if len > MAX_UNITS {
            return Err(format!("the vocabulary needs more than {MAX_UNITS} units of a trie"));
        }
        self.units.resize(len, [FREE, NONE]);
        self.open.push((self.free.len(), 0));
        self.free.push([true; BLOCK]);
        self.based.push([false; BLOCK]);
        Ok(())
    }

    /// Finds a base that no node has and whose units for all children are free. Marks the base and these units as used, and returns the
    /// base.
    fn place(&mut self, children: &[(u8, std::ops::Range<usize>)]) -> Result<u32, String> {
        let labels: Vec<usize> = children.iter().map(|(byte, _)| usize::from(*byte)).collect();
        loop {
            for index in 0..self.open.len() {
                let block = self.open[index].0;
                let (free, based) = (&mut self.free[block], &mut self.based[block]);
                // A base and the units of its children differ in the last eight bits only, so all are in one block.
                let fits = |unit: &usize| {
                    let base = unit ^ labels[0];
                    free[*unit] && !based[base] && labels.iter().all(|label| free[base ^ label])
                };
                if let Some(unit) = (0..BLOCK).find(fits) {
                    let base = unit ^ labels[0];
                    based[base] = true;
                    labels.iter().for_each(|label| free[base ^ label] = false);
                    return Ok((block * BLOCK + base) as u32);
                }
                self.open[index].1 += 1;
            }
            self.open.retain(|(_, misses)| *misses < MISSES);
            self.grow()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(trie: &Trie, text: &str) -> Vec<(usize, u32)> {
        let mut found = Vec::new();
        trie.prefixes(text.as_bytes(), |length, id| found.push((length, id)));
        found
    }

    #[test]
    fn finds_all_prefixes_shortest_first() {
        let trie = Trie::new(["b", "ab", "", "a", "abc", "ab", "苹果", "苹", "a\0", "\0"].into_iter()).unwrap();
        assert_eq!(found(&trie, "abcd"), [(1, 3), (2, 5), (3, 4)]);
        assert_eq!(found(&trie, "苹果汁"), [(3, 7), (6, 6)]);
        assert_eq!(found(&trie, "苹"), [(3, 7)]);
        assert_eq!(found(&trie, "a\0b"), [(1, 3), (2, 8)]);
        assert_eq!(found(&trie, "\0"), [(1, 9)]);
        assert!(found(&trie, "x").is_empty() && found(&trie, "").is_empty());
        assert!(found(&Trie::new(std::iter::empty()).unwrap(), "a").is_empty());
    }

    #[test]
    fn a_nul_does_not_lead_back_to_the_root() {
        // The node of "a" gets the base 0, because its child for the byte 2 gets unit 2. So its child for NUL would be unit 0, the root.
        let trie = Trie::new(["\0", "a\u{2}"].into_iter()).unwrap();
        assert_eq!(found(&trie, "a\0\0"), []);
        assert_eq!(found(&trie, "a\u{2}"), [(2, 1)]);
        // The same with byte and unit 3, with the piece "b" at the root: "a\0b" must not find it.
        let trie = Trie::new(["b", "a\u{3}"].into_iter()).unwrap();
        assert_eq!(found(&trie, "a\0b"), []);
    }

    proptest! {
        #[test]
        fn finds_what_a_search_finds(pieces in prop::collection::vec("[a-dß苹\0]{0,6}", 0..200), text in "[a-dß苹\0]{0,12}") {
            let trie = Trie::new(pieces.iter().map(String::as_str)).unwrap();
            let last = |prefix: &str| pieces.iter().rposition(|piece| piece == prefix);
            let expected: Vec<(usize, u32)> = (1..=text.len())
                .filter(|&end| text.is_char_boundary(end))
                .filter_map(|end| Some((end, last(&text[..end])? as u32)))
                .collect();
            prop_assert_eq!(found(&trie, &text), expected);
        }

        #[test]
        fn a_damaged_array_never_panics(units in prop::collection::vec(any::<u32>(), 0..600), text in ".{0,20}") {
            let trie = Trie::from_units(std::sync::Arc::new(units));
            prop_assert!(found(&trie, &text).len() <= text.len());
        }
    }
}
