//! Colours (only ever through `anstream`, which drops them where they are not wanted) and columns by display width.

use anstyle::{AnsiColor, Style};
use serde::Serialize;
use unicode_width::UnicodeWidthStr;

use trivec::escape::{Escaped, is_active, is_needed};
use trivec::similarity::Verdict;

pub(super) const ERROR: Style = AnsiColor::Red.on_default().bold();
pub(super) const DIM: Style = Style::new().dimmed();
pub(super) const BOLD: Style = Style::new().bold();

/// A value as JSON in one line. Characters that would act on a terminal are written as JSON escapes, which mean the same to every reader.
pub(super) fn json(value: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string(value).map(harmless)
}

/// Replaces characters that would act on a terminal by JSON escapes. JSON has such characters only inside strings, where an escape means the
/// same.
pub(super) fn harmless(json: String) -> String {
    if !is_needed(&json) {
        return json;
    }
    let mut escaped = String::with_capacity(json.len() + 64);
    for c in json.chars() {
        // These three are JSON's white space between values.
        if is_active(c) && !matches!(c, '\n' | '\r' | '\t') {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| escaped.push_str(&format!("\\u{unit:04x}")));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// The style of a verdict: bold and green, yellow or red; bold without a colour for "unclear".
pub(super) fn of_verdict(verdict: Verdict) -> Style {
    match verdict {
        Verdict::NearIdentical => AnsiColor::Green.on_default().bold(),
        Verdict::Related => AnsiColor::Yellow.on_default().bold(),
        Verdict::Unrelated => AnsiColor::Red.on_default().bold(),
        Verdict::Unclear => BOLD,
    }
}

/// The columns that `text` takes on a terminal: two for each CJK character.
pub(super) fn width(text: &str) -> usize {
    UnicodeWidthStr::width(text)
}

/// `text` followed by as many spaces as it lacks to `columns`.
pub(super) fn pad(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// A piece as people read it: without the mark of a word's start, escaped for the terminal, and right-to-left script isolated, so that it
/// does not turn the rest of its line around.
pub(super) fn readable(piece: &str) -> String {
    let body = piece.strip_prefix('▁').filter(|body| !body.is_empty()).unwrap_or(piece);
    let text = Escaped(body).to_string();
    let [begin, end] = isolation(&text);
    format!("{begin}{text}{end}")
}

/// The marks to put before and after `text`, so that right-to-left script in it does not turn the rest of its line around; empty without
/// such script.
pub(super) fn isolation(text: &str) -> [&'static str; 2] {
    if text.chars().any(is_right_to_left) { ["\u{2068}", "\u{2069}"] } else { [""; 2] }
}

/// Whether a character is in a block of Unicode for right-to-left scripts: Hebrew, Arabic and others.
fn is_right_to_left(c: char) -> bool {
    matches!(u32::from(c), 0x590..=0x8ff | 0xfb1d..=0xfdff | 0xfe70..=0xfefe | 0x10800..=0x10fff | 0x1e800..=0x1efff)
}

/// A bar that is `columns` long for a `fraction` of 1, and shorter in steps of an eighth of a column for less.
pub(super) fn bar(fraction: f32, columns: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (fraction.clamp(0.0, 1.0) * (columns * 8) as f32).round() as usize;
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

/// A fraction in percent with one decimal. A value that rounds to zero has no sign.
#[cfg(any(feature = "search", feature = "train"))]
pub(super) fn percent(part: f64) -> String {
    format!("{:.1}", unsigned_zero(part * 100.0))
}

/// A fraction in percent with one decimal and a plus or minus sign.
#[cfg(any(feature = "search", feature = "train"))]
pub(super) fn signed_percent(part: f64) -> String {
    format!("{:+.1}", unsigned_zero(part * 100.0))
}

/// Returns 0 for a value that one decimal shows as 0, so that no `-0.0` is printed.
#[cfg(any(feature = "search", feature = "train"))]
fn unsigned_zero(value: f64) -> f64 {
    if value.abs() < 0.05 { 0.0 } else { value }
}

/// A count with its noun: `1 layer`, `3 entries`, `27,978 passages`.
pub(super) fn counted(n: impl TryInto<u64>, what: &str) -> String {
    let n = n.try_into().unwrap_or(u64::MAX);
    let what = match (n, what.strip_suffix('y')) {
        (1, _) => what.to_owned(),
        (_, Some(stem)) => format!("{stem}ies"),
        (_, None) => format!("{what}s"),
    };
    format!("{} {what}", grouped(n))
}

/// A number of bytes: in megabytes (10^6), or in what shows something of fewer.
#[cfg(feature = "search")]
pub(super) fn bytes(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} B"),
        1_000..100_000 => format!("{:.1} kB", n as f64 / 1e3),
        _ => format!("{:.1} MB", n as f64 / 1e6),
    }
}

/// A number as all commands print it: `27,978`.
pub(super) use trivec::numbers::grouped;

/// A text on one line: each run of line ends and other white space is one space.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    let mut in_blank = false;
    for c in text.chars() {
        let blank = c.is_whitespace();
        if !(blank && in_blank) {
            line.push(if blank { ' ' } else { c });
        }
        in_blank = blank;
    }
    line
}

/// The beginning of a text, on one line of `columns` columns or so.
pub(super) fn excerpt(text: &str, columns: usize) -> String {
    let mut shown = String::new();
    for c in readable(one_line(text).trim()).chars() {
        if width(&shown) >= columns {
            shown.push('…');
            // A text in right-to-left script was isolated; the isolation is closed again.
            if shown.starts_with('\u{2068}') {
                shown.push('\u{2069}');
            }
            break;
        }
        shown.push(c);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_acts_on_no_terminal_and_says_the_same() {
        let text = "a\u{1b}]0;x\u{7}\u{7f}\u{9b}31m\u{202e}\u{ad}\u{e0041}\n\"苹果\" می\u{200c}خواهم";
        let shown = json(&[text]).unwrap();
        assert!(!is_needed(&shown) && shown.contains("苹果") && shown.contains("\\udb40\\udc41"), "{shown}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&shown).unwrap(), [text]);
        assert_eq!(harmless("{\n\t\"a\": 1\n}".to_owned()), "{\n\t\"a\": 1\n}");
    }

    #[test]
    fn counts_have_grouped_digits_and_the_right_noun() {
        assert_eq!((counted(1_usize, "layer"), counted(0_u64, "text")), ("1 layer".into(), "0 texts".into()));
        assert_eq!((counted(1_u32, "entry"), counted(2_usize, "query")), ("1 entry".into(), "2 queries".into()));
        for (n, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (27_978, "27,978"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(n as u64), text);
        }
    }

    #[test]
    #[cfg(any(feature = "search", feature = "train"))]
    fn zero_is_never_negative() {
        for nothing in [0.0, -0.0, -1e-9, -0.000_499] {
            assert_eq!((percent(nothing), signed_percent(nothing)), ("0.0".into(), "+0.0".into()), "{nothing:e}");
        }
        assert_eq!((percent(-0.0006), signed_percent(0.5)), ("-0.1".into(), "+50.0".into()));
    }

    #[test]
    fn pads_by_display_width() {
        assert_eq!(pad("苹果", 6), "苹果  ");
        assert_eq!(pad("abc", 2), "abc");
        assert_eq!(width(&pad("a\u{301}", 4)), 4);
    }

    #[test]
    fn pieces_are_readable() {
        assert_eq!(readable("▁Apple"), "Apple");
        assert_eq!(readable("▁"), "▁");
        assert_eq!(readable("a\u{0}\u{202e}"), "a\\u{0}\\u{202e}");
        assert_eq!(readable("שלום"), "\u{2068}שלום\u{2069}");
        assert_eq!(width(&readable("שלום")), 4);
    }

    #[test]
    fn an_excerpt_is_one_line_without_escapes_of_line_ends() {
        for (text, expected) in [
            ("first\nsecond\r\n\r\n\tthird", "first second third"),
            ("\n\n  a\u{2028}b\u{a0}c\u{3000}d \n", "a b c d"),
            ("a\rb\u{b}c\u{85}d", "a b c d"),
            ("", ""),
            ("\n", ""),
            ("\u{1b}[1m\n\u{0}x", "\\u{1b}[1m \\u{0}x"),
            ("שלום\nעולם", "\u{2068}שלום עולם\u{2069}"),
        ] {
            assert_eq!(excerpt(text, 40), expected, "{text:?}");
        }
        assert_eq!(excerpt("one\ntwo three", 7), "one two…");
        assert_eq!(one_line(" a \n b\n"), " a b ");
    }

    #[test]
    #[cfg(feature = "search")]
    fn bytes_have_the_unit_that_shows_them() {
        for (n, expected) in [
            (0, "0 B"),
            (1, "1 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (49_949, "49.9 kB"),
            (99_999, "100.0 kB"),
            (100_000, "0.1 MB"),
            (123_456_789, "123.5 MB"),
            (12_345_678_900, "12345.7 MB"),
        ] {
            assert_eq!(bytes(n), expected);
        }
    }

    #[test]
    fn bars_grow_by_eighths() {
        assert_eq!(
            (bar(0.0, 8), bar(1.0, 2), bar(0.5, 1), bar(f32::NAN, 4)),
            (String::new(), "██".into(), "▌".into(), String::new())
        );
    }
}
