//! Classifies characters by whether their script puts spaces between words.

/// How a run of characters is cut into terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Into the words of UAX #29.
    Words,
    /// Into single characters and pairs of neighbours: Han, kana, Thai, Lao, Khmer, Burmese.
    Unspaced,
    /// Into pairs of neighbours: Hangul.
    Hangul,
}

/// How a run of characters such as `c`, which is normalised to NFKC, is cut. Source: the blocks of Unicode 16.
pub(super) fn kind(c: char) -> Kind {
    match u32::from(c) {
        // Thai and Lao letters and signs; the baht sign, digits and punctuation are cut as words.
        0x0E01..=0x0E3A | 0x0E40..=0x0E4E | 0x0E81..=0x0ECE | 0x0EDC..=0x0EDF => Kind::Unspaced,
        // Burmese letters and signs, without digits and punctuation; Khmer likewise.
        0x1000..=0x103F | 0x1050..=0x108F | 0x109A..=0x109F | 0xA9E0..=0xA9EF | 0xA9FA..=0xA9FE | 0xAA60..=0xAA7F => {
            Kind::Unspaced
        }
        0x1780..=0x17D3 | 0x17DC..=0x17DD => Kind::Unspaced,
        // The iteration mark, Hiragana and Katakana with the long mark (not the middle dot), extensions.
        0x3005..=0x3007 | 0x3041..=0x3096 | 0x309D..=0x309F | 0x30A1..=0x30FA | 0x30FC..=0x30FF | 0x31F0..=0x31FF => {
            Kind::Unspaced
        }
        // Bopomofo, Han with its extensions and compatibility ideographs.
        0x3105..=0x312F | 0x31A0..=0x31BF | 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF | 0x20000..=0x323AF => {
            Kind::Unspaced
        }
        0x1B000..=0x1B16F => Kind::Unspaced,
        0x1100..=0x11FF | 0x3131..=0x318E | 0xA960..=0xA97F | 0xAC00..=0xD7FB => Kind::Hangul,
        _ => Kind::Words,
    }
}

/// Whether a character is a letter or sign of Thai, Lao, Burmese or Khmer: scripts without spaces, whose few letters are in almost every
/// text.
pub(super) fn is_southeast_asian(c: char) -> bool {
    let is_in_a_block =
        matches!(u32::from(c), 0x0E01..=0x0EDF | 0x1000..=0x109F | 0x1780..=0x17DD | 0xA9E0..=0xA9FE | 0xAA60..=0xAA7F);
    is_in_a_block && kind(c) == Kind::Unspaced
}

/// Whether a character without a script of its own continues a run of this kind: joiners, variation selectors, and the voicing marks of
/// kana that NFKC has not combined.
pub(super) fn joins(c: char, kind: Kind) -> bool {
    kind == Kind::Unspaced
        && matches!(c, '\u{3099}' | '\u{309A}' | '\u{200B}' | '\u{200C}' | '\u{200D}' | '\u{FE00}'..='\u{FE0F}')
}
