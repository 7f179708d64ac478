//! Random texts in which characters of all kinds of scripts and symbols stand side by side.

/// A small random number generator (xorshift64*) with the state as its field. The state must not be 0, because 0 would stay 0.
pub struct Random(pub u64);

impl Random {
    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize) % n
    }

    /// A character of a random block of Unicode. The blocks are small and mixed, so that neighbouring characters often differ in kind.
    pub fn char(&mut self) -> char {
        const BLOCKS: [(u32, u32); 24] = [
            (0x20, 0x5f),
            (0x20, 1),
            (0x61, 26),
            (0x00, 0x20),
            (0x80, 0x80),
            (0x100, 0x150),
            (0x300, 0x70),
            (0x370, 0x190),
            (0x590, 0x170),
            (0x900, 0x180),
            (0xe00, 0x80),
            (0x1100, 0x100),
            (0x1e00, 0x200),
            (0x2000, 0x70),
            (0x2100, 0x80),
            (0x2581, 1),
            (0x3000, 0x100),
            (0x4e00, 0x5200),
            (0xac00, 0x2ba4),
            (0xfb00, 0x50),
            (0xfe00, 0x200),
            (0x1f1e6, 26),
            (0x1f300, 0x400),
            (0, 0x110000),
        ];
        loop {
            let (from, len) = BLOCKS[self.below(BLOCKS.len())];
            if let Some(c) = char::from_u32(from + self.below(len as usize) as u32) {
                return c;
            }
        }
    }

    /// Returns a text of 0 to 39 random parts. A part is a character as [`char`](Self::char) makes it, up to seven letters, or a special token,
    /// a line end, a combining mark or a word that tokenizers treat specially.
    pub fn text(&mut self) -> String {
        const PARTS: [&str; 14] = [
            "<s>", "</s>", "<mask>", "<pad>", "<unk>", "<", "  ", "\r\n", "\u{200d}", "\u{301}", "\u{3099}", "ﾊﾟ",
            "the ", "世界",
        ];
        let mut text = String::new();
        for _ in 0..self.below(40) {
            match self.below(8) {
                0 => text.push_str(PARTS[self.below(PARTS.len())]),
                1 => (0..self.below(8)).for_each(|_| text.push((b'a' + self.below(26) as u8) as char)),
                _ => text.push(self.char()),
            }
        }
        text
    }
}
