//! Shows untrusted text on a terminal. The author of a file, a path or a request must not be able to move the cursor, set the window's title,
//! or hide and reorder what the program prints.

use std::fmt::{self, Display, Write};

/// Shows a value and escapes every character that controls the terminal instead of appearing on it: control characters including line ends,
/// format characters (bidi controls, tags) and invisible characters. The zero-width joiner and non-joiner stay where they shape the letter
/// before them, as in words of Persian and Hindi, and in emoji.
pub struct Escaped<T>(pub T);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

/// A writer that escapes the text that passes through it.
pub struct Escaping<W>(pub W);

impl<W: Write> Write for Escaping<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // Nearly every text is harmless and is written in one piece.
        let mut begin = 0;
        for (at, c) in active(text) {
            self.0.write_str(&text[begin..at])?;
            match c {
                '\n' => self.0.write_str("\\n")?,
                '\r' => self.0.write_str("\\r")?,
                '\t' => self.0.write_str("\\t")?,
                _ => write!(self.0, "{}", c.escape_unicode())?,
            }
            begin = at + c.len_utf8();
        }
        self.0.write_str(&text[begin..])
    }
}

/// Whether any character of `text` would be escaped.
pub fn is_needed(text: &str) -> bool {
    active(text).next().is_some()
}

/// The characters of a text that are to be escaped, with their byte offsets.
fn active(text: &str) -> impl Iterator<Item = (usize, char)> + '_ {
    let mut before = None;
    text.char_indices().filter(move |&(_, c)| {
        let shapes = matches!(c, '\u{200c}' | '\u{200d}') && before.is_some_and(is_shaped);
        before = Some(c);
        is_active(c) && !shapes
    })
}

/// Whether a joiner after this character changes how the character is drawn. This is so for letters and marks of scripts that join or stack
/// letters, and for emoji. After other characters, and after another joiner, it would be invisible.
fn is_shaped(c: char) -> bool {
    // Unicode's blocks of scripts: Arabic to Sinhala, Tibetan and Burmese, Khmer and Mongolian, those around Tai Tham and Balinese, more Indic
    // ones, Arabic's presentation forms, the Indic scripts beyond the first plane. Between them symbols and emoji, and the emoji selector.
    let shaped = [
        0x600..=0xdff,
        0xf00..=0x109f,
        0x1780..=0x18af,
        0x1a20..=0x1c4f,
        0x2600..=0x27bf,
        0x2b00..=0x2bff,
        0xa8e0..=0xa8ff,
        0xa980..=0xaaff,
        0xfb50..=0xfdff,
        0xfe0f..=0xfe0f,
        0xfe70..=0xfefc,
        0x11000..=0x11fff,
        0x1f000..=0x1faff,
    ];
    shaped.iter().any(|range| range.contains(&u32::from(c))) && !is_active(c)
}

/// Whether a character is escaped wherever it stands (joiners are the exception): every character that is not meant to be read. Spaces of any
/// width and combining marks are not.
pub fn is_active(c: char) -> bool {
    if c.is_ascii() || c.is_control() {
        return c.is_control();
    }
    if c.is_whitespace() {
        return matches!(c, '\u{2028}' | '\u{2029}');
    }
    is_invisible(c) || is_unprintable(c)
}

/// Whether a letter or mark shows nothing: a filler, or a selector of rare variants. The selector that turns text into emoji (U+FE0F) is not
/// one of them.
fn is_invisible(c: char) -> bool {
    let invisible =
        [0x34f..=0x34f, 0x115f..=0x1160, 0x17b4..=0x17b5, 0x180b..=0x180f, 0x3164..=0x3164, 0xffa0..=0xffa0];
    invisible.iter().any(|range| range.contains(&u32::from(c))) || (0xe0100..=0xe01ef).contains(&u32::from(c))
}

/// Whether a character is a format character, a private one or unassigned, by the standard library's table. It is tested after another
/// character, since combining marks count as unprintable only at the beginning of a text.
fn is_unprintable(c: char) -> bool {
    let mut bytes = *b"a\0\0\0\0";
    let length = c.encode_utf8(&mut bytes[1..]).len();
    let text = std::str::from_utf8(&bytes[..=length]).unwrap_or_default();
    text.escape_debug().nth(1) == Some('\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_and_characters_that_show_nothing_are_escaped() {
        for (text, shown) in [
            ("\u{1b}]0;title\u{7}", "\\u{1b}]0;title\\u{7}"),
            ("a\nb\r\tc", "a\\nb\\r\\tc"),
            ("\u{7f}\u{85}\u{9b}31m", "\\u{7f}\\u{85}\\u{9b}31m"),
            ("\u{2028}\u{2029}", "\\u{2028}\\u{2029}"),
            ("\u{3164}\u{115f}\u{e0100}", "\\u{3164}\\u{115f}\\u{e0100}"),
            ("\u{e000}\u{378}\u{10fffe}", "\\u{e000}\\u{378}\\u{10fffe}"),
        ] {
            assert_eq!(Escaped(text).to_string(), shown);
            assert!(is_needed(text));
        }
    }

    /// The ranges are all characters of the category Cf (format) in Unicode 16.
    #[test]
    fn format_characters_are_escaped() {
        let ranges = [
            0xad..=0xad,
            0x600..=0x605,
            0x61c..=0x61c,
            0x6dd..=0x6dd,
            0x70f..=0x70f,
            0x890..=0x891,
            0x8e2..=0x8e2,
            0x180e..=0x180e,
            0x200b..=0x200f,
            0x202a..=0x202e,
            0x2060..=0x2064,
            0x2066..=0x206f,
            0xfeff..=0xfeff,
            0xfff9..=0xfffb,
            0x110bd..=0x110bd,
            0x110cd..=0x110cd,
            0x13430..=0x1343f,
            0x1bca0..=0x1bca3,
            0x1d173..=0x1d17a,
            0xe0001..=0xe0001,
            0xe0020..=0xe007f,
        ];
        for c in ranges.into_iter().flatten().filter_map(char::from_u32) {
            assert!(is_active(c), "{:x}", u32::from(c));
        }
    }

    #[test]
    fn joiners_that_shape_nothing_and_bidi_controls_are_escaped() {
        for (text, shown) in [
            ("pay\u{200d}pal", "pay\\u{200d}pal"),
            ("\u{200c}می", "\\u{200c}می"),
            ("می\u{200c}\u{200c}", "می\u{200c}\\u{200c}"),
            ("苹\u{200d}果", "苹\\u{200d}果"),
            ("ا\u{61c}\u{200d}", "ا\\u{61c}\\u{200d}"),
            ("ا\u{202e}ب\u{200f}", "ا\\u{202e}ب\\u{200f}"),
        ] {
            assert_eq!(Escaped(text).to_string(), shown);
            assert!(is_needed(text));
        }
    }

    #[test]
    fn readable_text_stays_as_it_is() {
        for text in [
            "plain ASCII ~",
            "苹果\u{3000}公司",
            "e\u{301} \u{a0}x",
            "नमस्ते",
            "שלום",
            "❤\u{fe0f}🏽",
            "می\u{200c}خواهم",
            "क्\u{200d}ष ශ්\u{200d}රී",
            "👩\u{200d}🔬 👨🏽\u{200d}👩🏽\u{200d}👧 ❤\u{fe0f}\u{200d}🔥",
            "C:\\new\\u{1b}",
            "naïve �",
        ] {
            assert_eq!(Escaped(text).to_string(), text);
            assert!(!is_needed(text));
        }
    }
}
