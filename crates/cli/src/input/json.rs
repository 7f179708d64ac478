//! Reads the JSON values of an input one by one: the elements of a list, or values one after another. Also parses such a value, or a line.

use std::borrow::Cow;
use std::fmt;
use std::io::BufRead;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::source::{MAX_RECORD_BYTES, Place, Source};
use super::table::MAX_NAMES;
use crate::exit::Result;
use trivec::json::{lone_surrogates, twice};
use trivec::records::Cut;

/// What is wrong with a text of JSON, and at which of its bytes.
#[derive(Debug, PartialEq)]
pub(crate) struct Fault {
    pub at: usize,
    pub what: String,
}

impl Fault {
    pub(crate) fn new(at: usize, what: impl Into<String>) -> Fault {
        Fault { at, what: what.into() }
    }

    /// Where the fault is in the input, in which `text` begins at `begin`.
    pub(super) fn place(&self, text: &str, begin: Place) -> Place {
        let before = text.get(..self.at).unwrap_or(text);
        match before.rsplit_once('\n') {
            Some((above, line)) => Place {
                line: begin.line + 1 + above.matches('\n').count() as u64,
                column: 1 + line.chars().count() as u64,
            },
            None => Place { column: begin.column + before.chars().count() as u64, ..begin },
        }
    }
}

/// The values of a stream: each element of the lists at the top level, and each value at the top level that is no list.
pub(super) struct Values<R> {
    pub source: Source<R>,
    /// Whether a list that begins with a text is a list of values, like any other list. If not, it is a value itself: a pair.
    lists_of_texts: bool,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// Between values at the top level.
    Top,
    /// In the list that began in this line, with nothing or a comma before the next element.
    Element { list: u64, first: bool },
    /// After an element.
    After { list: u64 },
}

impl<R: BufRead> Values<R> {
    pub(super) fn new(source: Source<R>, lists_of_texts: bool) -> Self {
        Values { source, lists_of_texts, state: State::Top }
    }

    /// The next value's text, and where it begins.
    pub(super) fn next(&mut self) -> Result<Option<(Place, String)>> {
        loop {
            self.skip_blank()?;
            let place = self.source.place();
            let Some(byte) = self.source.peek()? else {
                return match self.state {
                    State::Top => Ok(None),
                    State::Element { list, .. } | State::After { list } => {
                        Err(self.source.refuse(list, "the list that begins here has no end"))
                    }
                };
            };
            match (self.state, byte) {
                (State::Top, b'[') if self.is_container()? => {
                    self.source.take(1);
                    self.state = State::Element { list: place.line, first: true };
                }
                (State::Element { first: true, .. } | State::After { .. }, b']') => {
                    self.source.take(1);
                    self.state = State::Top;
                }
                (State::After { list }, b',') => {
                    self.source.take(1);
                    self.state = State::Element { list, first: false };
                }
                (State::After { .. }, _) => {
                    return Err(self.source.refuse_at(place, "expected `,` or `]` after an element of the list"));
                }
                (State::Top | State::Element { .. }, _) => {
                    let text = self.value(place)?;
                    if let State::Element { list, .. } = self.state {
                        self.state = State::After { list };
                    }
                    return Ok(Some((place, text)));
                }
            }
        }
    }

    /// Consumes the white space before the next value.
    fn skip_blank(&mut self) -> Result<()> {
        loop {
            let available = self.source.available()?;
            let blank = available.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
            let (all, none) = (blank == available.len(), available.is_empty());
            self.source.take(blank);
            if none || !all {
                return Ok(());
            }
        }
    }

    /// Whether the list that begins here is a list of values, and not a value itself.
    fn is_container(&mut self) -> Result<bool> {
        if self.lists_of_texts {
            return Ok(true);
        }
        let after = |bytes: &[u8]| bytes.iter().skip(1).copied().find(|byte| !byte.is_ascii_whitespace());
        let looked = self.source.look(|bytes| after(bytes).is_some() || bytes.len() > MAX_RECORD_BYTES)?;
        Ok(after(looked) != Some(b'"'))
    }

    /// Reads the value that begins here. Its brackets and quotes tell where it ends; it is not parsed.
    fn value(&mut self, begin: Place) -> Result<String> {
        let start = self.source.offset();
        let mut bytes: Vec<u8> = Vec::new();
        let mut cut = Cut::default();
        loop {
            let available = self.source.available()?;
            let ended = available.is_empty();
            let length = cut.end(available);
            let taken = length.unwrap_or(available.len());
            if bytes.len() + taken > MAX_RECORD_BYTES {
                let what = format!("a value longer than {} MiB", MAX_RECORD_BYTES >> 20);
                return Err(self.source.refuse(begin.line, what));
            }
            bytes.extend_from_slice(&available[..taken]);
            self.source.take(taken);
            if length.is_some() || ended {
                return self.source.text(bytes, begin.line, start);
            }
        }
    }
}

/// The values of an object's fields that were asked for.
pub(crate) struct Fields<'t, const N: usize> {
    /// In the order of the names; `None` too where a field is null.
    pub found: [Option<&'t RawValue>; N],
    /// The names of other fields, [`MAX_OTHERS`] at most.
    pub others: Vec<String>,
}

/// Names of other fields that are kept for a message: one more than it lists, so that it can say that there are more.
const MAX_OTHERS: usize = MAX_NAMES + 1;

/// Parses `text`, which must be an object, for the fields of these names.
pub(crate) fn fields<'t, const N: usize>(text: &'t str, names: [&str; N]) -> Result<Fields<'t, N>, Fault> {
    match kind(text) {
        "an object" => {}
        found => return Err(Fault::new(0, format!("found {found}, expected an object"))),
    }
    whole(text, |json| Names(names).deserialize(json))
}

/// Parses all of `text`.
fn whole<'t, T>(
    text: &'t str,
    parse: impl FnOnce(&mut serde_json::Deserializer<serde_json::de::StrRead<'t>>) -> serde_json::Result<T>,
) -> Result<T, Fault> {
    let mut json = serde_json::Deserializer::from_str(text);
    parse(&mut json).and_then(|value| json.end().map(|()| value)).map_err(|e| fault(text, &e))
}

/// Deserializes an object to the [`Fields`] of these names.
struct Names<'n, const N: usize>([&'n str; N]);

impl<'t, const N: usize> DeserializeSeed<'t> for Names<'_, N> {
    type Value = Fields<'t, N>;

    fn deserialize<D: Deserializer<'t>>(self, json: D) -> std::result::Result<Self::Value, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'t, const N: usize> Visitor<'t> for Names<'_, N> {
    type Value = Fields<'t, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let mut fields = Fields { found: [None; N], others: Vec::new() };
        let mut seen = [false; N];
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value::<&RawValue>()?;
            match self.0.iter().position(|wanted| *wanted == name) {
                Some(at) if seen[at] => return Err(de::Error::custom(twice(&name))),
                Some(at) => {
                    seen[at] = true;
                    fields.found[at] = Some(value).filter(|value| value.get() != "null");
                }
                None if fields.others.len() < MAX_OTHERS => fields.others.push(name),
                None => {}
            }
        }
        Ok(fields)
    }
}

/// The content of the JSON string `value`, which is a part of `whole`. Errors call it `name`.
pub(crate) fn text_of(value: &RawValue, whole: &str, name: &str) -> Result<String, Fault> {
    let at = position(value, whole);
    match kind(value.get()) {
        "a string" => string(value.get()).map_err(|fault| Fault { at: at + fault.at, ..fault }),
        found => Err(Fault::new(at, format!("`{name}` is {found}, expected a string"))),
    }
}

/// The content of a JSON string.
pub(crate) fn string(text: &str) -> Result<String, Fault> {
    whole(text, |json| de::Deserialize::deserialize(json))
}

/// A copy of the id `value`, which is a part of `whole`. It goes to the output as it was written, so that one with half of a surrogate
/// pair, which other JSON readers refuse, is an error here.
pub(super) fn id_of(value: &RawValue, whole: &str) -> Result<Box<RawValue>, Fault> {
    match lone_surrogates(value.get()).next() {
        Some(at) => {
            let what = format!("`{}` is half of a character", &value.get()[at..at + 6]);
            Err(Fault::new(position(value, whole) + at, what))
        }
        None => Ok(value.to_owned()),
    }
}

/// The token ids in the JSON list `value`, which is a part of `whole_text`. Errors call it `name`.
pub(super) fn ids_of(value: &RawValue, whole_text: &str, name: &str) -> Result<Vec<u32>, Fault> {
    let at = position(value, whole_text);
    if kind(value.get()) != "a list" {
        return Err(Fault::new(at, format!("`{name}` is {}, expected a list of token ids", kind(value.get()))));
    }
    if let Ok(ids) = serde_json::from_str::<Vec<u32>>(value.get()) {
        return Ok(ids);
    }
    let elements: Vec<&RawValue> = whole(value.get(), |json| de::Deserialize::deserialize(json))?;
    let bad = elements.iter().enumerate().find(|(_, element)| serde_json::from_str::<u32>(element.get()).is_err());
    let Some((index, element)) = bad else { return Err(Fault::new(at, format!("`{name}` is no list of token ids"))) };
    let found = match kind(element.get()) {
        "a number" => format!("{:.24}", element.get()),
        found => found.to_owned(),
    };
    let what = format!("`{name}[{index}]` is {found}, expected a token id, a whole number from 0");
    Err(Fault::new(at + position(element, value.get()), what))
}

/// The elements of the JSON list `text`, as parts of it.
pub(crate) fn elements(text: &str) -> Result<Vec<&RawValue>, Fault> {
    whole(text, |json| de::Deserialize::deserialize(json))
}

/// The byte of `whole` at which `part` begins, which must be a slice of it.
fn position(part: &RawValue, whole: &str) -> usize {
    (part.get().as_ptr() as usize).saturating_sub(whole.as_ptr() as usize).min(whole.len())
}

/// What kind of JSON value `text` is, by its first character, in the words of error messages.
pub(crate) fn kind(text: &str) -> &'static str {
    match text.trim_start_matches([' ', '\t', '\n', '\r']).bytes().next() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => "a string",
        Some(b'-' | b'0'..=b'9') => "a number",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        Some(_) => "no JSON",
        None => "nothing",
    }
}

/// Turns an error of `serde_json` about `text` into a fault in plain words.
fn fault(text: &str, error: &serde_json::Error) -> Fault {
    let (at, what) = trivec::json::fault(text, error);
    Fault { at, what }
}

/// Returns JSON `text` with the escape of U+FFFD in place of each escape that is half of a surrogate pair.
pub(super) fn repaired(text: &str) -> Cow<'_, str> {
    let mut lone = lone_surrogates(text).peekable();
    if lone.peek().is_none() {
        return Cow::Borrowed(text);
    }
    let mut repaired = String::with_capacity(text.len());
    let mut from = 0;
    for at in lone {
        repaired.push_str(&text[from..at]);
        repaired.push_str("\\ufffd");
        from = at + 6;
    }
    repaired.push_str(&text[from..]);
    Cow::Owned(repaired)
}
