//! Reads JSON that people have written: refuses objects that have a field twice, and says in plain words what is wrong with a text that is
//! not JSON.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Reads a JSON value. An object that has a field twice is an error; most other readers keep the last value and silently drop the others.
///
/// # Errors
/// The parser's error. [`fault`] and [`fault_in_line`] say in plain words what is wrong.
pub fn read(text: &str) -> serde_json::Result<Value> {
    let mut json = serde_json::Deserializer::from_str(text);
    let value = Once.deserialize(&mut json)?;
    json.end().map(|()| value)
}

/// Makes the parser build a [`Value`], and refuse an object that has a field twice.
struct Once;

impl<'de> DeserializeSeed<'de> for Once {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Once {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(Once)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if fields.contains_key(&name) {
                return Err(A::Error::custom(twice(&name)));
            }
            let value = map.next_value_seed(Once)?;
            fields.insert(name, value);
        }
        Ok(Value::Object(fields))
    }
}

/// The most characters of a field's name that a message shows.
const MOST_OF_A_NAME: usize = 40;

/// The message for a field that an object has twice.
pub fn twice(name: &str) -> String {
    let short: String = name.chars().take(MOST_OF_A_NAME).collect();
    let more = if short.len() < name.len() { "…" } else { "" };
    format!("the field `{}{more}` is there twice", short.escape_debug())
}

/// Returns the byte of `text` that the parser's error is about, and what is wrong, in words that name no type of Rust.
pub fn fault(text: &str, error: &serde_json::Error) -> (usize, String) {
    let line_start = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum::<usize>();
    let message = error.to_string();
    // The parser's column counts the bytes of the line up to and with the one that the error is about. After a line end it is 0. For a control
    // character in a string that the parser skips, instead of reading it, it counts only the bytes before it.
    let end = (line_start + error.column()).min(text.len());
    let is_control = |at: usize| text.as_bytes().get(at).is_some_and(|&byte| byte < b' ');
    let mut at = match end.saturating_sub(1) {
        _ if error.is_eof() => text.len(),
        last if message.starts_with("control character") && !is_control(last) => end,
        last => last,
    };
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    if let Some(escape) = lone_surrogates(text).next().filter(|escape| *escape <= at) {
        return (escape, format!("`{}` is half of a character", &text[escape..escape + 6]));
    }
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(what, _)| what);
    let what = match message {
        "EOF while parsing a string" => "it ends inside a string",
        _ if error.is_eof() => "it ends before it is complete",
        "expected value" | "expected ident" => "expected a value of JSON",
        "key must be a string" => "expected the name of a field, in double quotes",
        "trailing characters" => "expected nothing more after the value",
        "trailing comma" => "expected something after the comma",
        "invalid escape" => "a backslash that begins no escape of JSON",
        "recursion limit exceeded" => "nested deeper than 128 levels",
        other if other.starts_with("control character") => {
            "a control character inside a string, where JSON has an escape such as `\\n`"
        }
        other => other,
    };
    (at, what.to_owned())
}

/// What [`fault`] says, in one line with the number of the character that the error is about, from 1 on. `text` is one line too.
pub fn fault_in_line(text: &str, error: &serde_json::Error) -> String {
    let (at, what) = fault(text, error);
    let character = text.get(..at).unwrap_or(text).chars().count() + 1;
    let is_json = what.ends_with("` is there twice");
    format!("{}at character {character}: {what}", if is_json { "" } else { "it is no JSON: " })
}

/// The byte offsets of escapes that are one half of a surrogate pair without the other, as `\ud83d`.
pub fn lone_surrogates(text: &str) -> impl Iterator<Item = usize> + '_ {
    let bytes = text.as_bytes();
    let unit = |at: usize| {
        let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
        let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
        u16::from_str_radix(digits, 16).ok()
    };
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            at += bytes.get(at..)?.iter().position(|&byte| byte == b'\\')?;
            let escape = at;
            match (unit(at), unit(at + 6)) {
                (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => at += 12,
                (Some(0xd800..=0xdfff), _) => {
                    at += 6;
                    return Some(escape);
                }
                // Another escape. Its second character is skipped too, because it may be a backslash that begins no escape of its own.
                _ => at += 2,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_they_are_and_no_object_has_a_field_twice() {
        for text in [
            "null",
            "[true, -5, 18446744073709551615, 1e300, 123456789012345678901234567890, \"\\n\\u00e4\", [], {}]",
            r#" {"a": {"b": [1, {"c": 2}]}, "A": 1, "": null} "#,
            r#"[{"a": 1}, {"a": 2}]"#,
            r#"{"a": {"a": {"a": 1}}}"#,
        ] {
            assert_eq!(read(text).unwrap(), serde_json::from_str::<Value>(text).unwrap(), "{text}");
        }
        for (text, place, name) in [
            (r#"{"a": 1, "a": 1}"#, 12, "a"),
            (r#"{"a": null, "b": 2, "a": 1}"#, 23, "a"),
            (r#"{"x": [{"ä at line b": 1, "ä at line b": 2}]}"#, 39, "ä at line b"),
            (r#"{"a": 1, "\u0061": 2}"#, 17, "a"),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(
                fault_in_line(text, &error),
                format!("at character {place}: the field `{name}` is there twice"),
                "{text}"
            );
        }
        for bad in ["", "[", "{\"a\": 1} 2", "{\"a\" 1}", "[1,]", &"[".repeat(1_000), "\"\\ud83d\""] {
            let plain = serde_json::from_str::<Value>(bad).unwrap_err();
            assert_eq!(fault_in_line(bad, &read(bad).unwrap_err()), fault_in_line(bad, &plain), "{bad}");
        }
        let long = "x".repeat(5_000);
        assert!(twice(&long).len() < 100);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_character() {
        for (text, expected) in [
            ("{\"ä\": nope}", "at character 8: expected a value of JSON"),
            ("{\"a\": 1", "at character 8: it ends before it is complete"),
            ("{\"a\": \"x", "at character 9: it ends inside a string"),
            ("{\"a\": 1} {", "at character 10: expected nothing more after the value"),
            ("{a: 1}", "at character 2: expected the name of a field, in double quotes"),
            ("{\"a\": \"\\ud83d\"}", "`\\ud83d` is half of a character"),
            ("{\"a\": \"\\x\"}", "at character 9: a backslash that begins no escape"),
        ] {
            let error = serde_json::from_str::<Value>(text).unwrap_err();
            let said = fault_in_line(text, &error);
            assert!(said.starts_with("it is no JSON: ") && said.contains(expected), "{text}: {said}");
        }
    }
    /// The parser reads some strings and skips others, and counts differently in both.
    #[test]
    fn a_control_character_is_found_at_its_place_in_every_string() {
        #[derive(serde::Deserialize)]
        struct Skipped {}
        for control in ['\u{0}', '\t', '\n', '\r', '\u{1b}', '\u{1f}'] {
            for before in ["", "a", "\u{7f}", "é", "\\n", "\\\"x", "\\\\"] {
                for text in [
                    format!("{{\"text\":\"{before}{control}b\"}}"),
                    format!("{{\"{before}{control}\":1}}"),
                    format!("{{\n \"text\":[\"\", \"{before}{control}{control}\"]}}"),
                ] {
                    // The third text has a line end outside strings too, at 1.
                    let right = (2..text.len()).find(|&at| text.as_bytes()[at] == control as u8);
                    let read = read(&text).unwrap_err();
                    let skipped = serde_json::from_str::<Skipped>(&text).err();
                    let ignored = serde_json::from_str::<serde::de::IgnoredAny>(&text).unwrap_err();
                    for error in [Some(read), skipped, Some(ignored)].into_iter().flatten() {
                        let (at, what) = fault(&text, &error);
                        assert_eq!(
                            (Some(at), what.contains("a control character inside")),
                            (right, true),
                            "{text:?}: {error}"
                        );
                    }
                }
            }
        }
    }
}
