//! What is wrong with a text that is no JSON, in words for people.

/// An error of the parser of `text` in words that name no type of a program, and the byte that it is about.
pub fn fault(text: &str, error: &serde_json::Error) -> (usize, String) {
    let line_start = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum::<usize>();
    let message = error.to_string();
    // The parser counts the character that it has read last; of one that it only looked at, and of the end, it counts what is before.
    let before = usize::from(!message.starts_with("control character"));
    let mut at =
        if error.is_eof() { text.len() } else { line_start + error.column().saturating_sub(before) }.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    if let Some(escape) = lone_surrogates(text).next().filter(|escape| *escape <= at) {
        return (escape, format!("`{}` is half of a character", &text[escape..escape + 6]));
    }
    let message = message.split(" at line ").next().unwrap_or_default();
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

/// The same in a line, with the character that it is about.
pub fn fault_in_line(text: &str, error: &serde_json::Error) -> String {
    let (at, what) = fault(text, error);
    let character = text.get(..at).unwrap_or(text).chars().count() + 1;
    format!("it is no JSON: at character {character}: {what}")
}

/// Places of escapes that are one half of a character without the other, as `\ud83d`.
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
                // Another escape, of which the second character is no backslash that begins one.
                _ => at += 2,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_with_its_character() {
        for (text, expected) in [
            ("{\"ä\": nope}", "at character 8: expected a value of JSON"),
            ("{\"a\": 1", "at character 8: it ends before it is complete"),
            ("{\"a\": \"x", "at character 9: it ends inside a string"),
            ("{\"a\": 1} {", "at character 10: expected nothing more after the value"),
            ("{a: 1}", "at character 2: expected the name of a field, in double quotes"),
            ("{\"a\": \"\\ud83d\"}", "`\\ud83d` is half of a character"),
        ] {
            let error = serde_json::from_str::<serde_json::Value>(text).unwrap_err();
            let said = fault_in_line(text, &error);
            assert!(said.starts_with("it is no JSON: ") && said.contains(expected), "{text}: {said}");
        }
    }
}
