//! Types of the texts, documents and token ids in request bodies. Lists are read element by element, so that an error names its place.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use super::fields::{Whole, whole_of};

/// A text, or several.
#[derive(Debug)]
pub(super) enum Texts {
    One(String),
    Many(Vec<String>),
}

impl Texts {
    pub(super) fn into_vec(self) -> Vec<String> {
        match self {
            Texts::One(text) => vec![text],
            Texts::Many(texts) => texts,
        }
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Texts, E> {
                Ok(Texts::One(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Texts, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = list.next_element()? {
                    texts.push(text);
                }
                Ok(Texts::Many(texts))
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

/// A document: a string, or as in Cohere's and Jina's APIs an object with the string as `text`, whose other fields are ignored.
#[derive(Debug)]
pub(super) struct Document(pub String);

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DocumentVisitor)
    }
}

struct DocumentVisitor;

impl<'de> Visitor<'de> for DocumentVisitor {
    type Value = Document;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, or an object with `text`")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Document, E> {
        Ok(Document(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Document, A::Error> {
        #[derive(Deserialize)]
        struct Fields {
            text: String,
        }
        Fields::deserialize(MapAccessDeserializer::new(map)).map(|fields| Document(fields.text))
    }
}

/// A pair of texts, written as a list of two strings.
#[derive(Debug)]
pub(super) struct Pair(pub String, pub String);

impl<'de> Deserialize<'de> for Pair {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Two;
        impl<'de> Visitor<'de> for Two {
            type Value = Pair;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of two strings")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Pair, A::Error> {
                let first = list.next_element()?.ok_or_else(|| de::Error::invalid_length(0, &self))?;
                let second = list.next_element()?.ok_or_else(|| de::Error::invalid_length(1, &self))?;
                let mut length = 2;
                while list.next_element::<IgnoredAny>()?.is_some() {
                    length += 1;
                }
                if length > 2 {
                    return Err(de::Error::invalid_length(length, &self));
                }
                Ok(Pair(first, second))
            }
        }
        deserializer.deserialize_seq(Two)
    }
}

/// A text to embed, given as a string or as the ids of its tokens.
#[derive(Debug)]
pub(super) enum Input {
    Text(String),
    Ids(Vec<u32>),
}

/// The texts to embed, one or several.
#[derive(Debug)]
pub(super) struct Inputs(pub Vec<Input>);

impl<'de> Deserialize<'de> for Inputs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Inputs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a list of strings, a list of token ids, or a list of such lists")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Inputs, E> {
                Ok(Inputs(vec![Input::Text(text.to_owned())]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Inputs, A::Error> {
                inputs(list, true).map(Inputs)
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

/// Lists of token ids, or one such list.
#[derive(Debug)]
pub(super) struct IdLists(pub Vec<Vec<u32>>);

impl<'de> Deserialize<'de> for IdLists {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Lists;
        impl<'de> Visitor<'de> for Lists {
            type Value = IdLists;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of token ids, or a list of such lists")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<IdLists, A::Error> {
                let ids = |input| match input {
                    Input::Ids(ids) => Some(ids),
                    Input::Text(_) => None,
                };
                let lists: Vec<Vec<u32>> = inputs(list, false)?.into_iter().filter_map(ids).collect();
                // The empty list is a text without tokens.
                Ok(IdLists(if lists.is_empty() { vec![Vec::new()] } else { lists }))
            }
        }
        deserializer.deserialize_seq(Lists)
    }
}

/// Reads a list of inputs, which may be strings if `texts`. If the first element is a token id, the list is the ids of one input.
fn inputs<'de, A: SeqAccess<'de>>(mut list: A, texts: bool) -> Result<Vec<Input>, A::Error> {
    let mut inputs = match list.next_element_seed(ElementSeed { texts, id: true })? {
        None => Vec::new(),
        Some(Element::Input(input)) => vec![input],
        Some(Element::Id(id)) => return ids(list, vec![id]).map(|ids| vec![Input::Ids(ids)]),
    };
    while let Some(Element::Input(input)) = list.next_element_seed(ElementSeed { texts, id: false })? {
        inputs.push(input);
    }
    Ok(inputs)
}

/// Reads the rest of a list of token ids, of which `ids` have been read.
fn ids<'de, A: SeqAccess<'de>>(mut list: A, mut ids: Vec<u32>) -> Result<Vec<u32>, A::Error> {
    while let Some(Whole(id)) = list.next_element()? {
        ids.push(id);
    }
    Ok(ids)
}

enum Element {
    Input(Input),
    Id(u32),
}

/// Reads an element of a list of inputs: a list of token ids; if `texts`, also a string or a document; if `id`, also a single token id.
struct ElementSeed {
    texts: bool,
    id: bool,
}

impl<'de> DeserializeSeed<'de> for ElementSeed {
    type Value = Element;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Element, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ElementSeed {
    type Value = Element;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.texts, self.id) {
            (true, true) => "a string, a token id, or a list of token ids",
            (true, false) => "a string or a list of token ids",
            (false, true) => "a token id or a list of token ids",
            (false, false) => "a list of token ids",
        })
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Element, E> {
        if !self.texts {
            return Err(E::invalid_type(Unexpected::Str(text), &self));
        }
        Ok(Element::Input(Input::Text(text.to_owned())))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Element, A::Error> {
        if !self.texts {
            return Err(de::Error::invalid_type(Unexpected::Map, &self));
        }
        DocumentVisitor.visit_map(map).map(|Document(text)| Element::Input(Input::Text(text)))
    }

    fn visit_u64<E: de::Error>(self, id: u64) -> Result<Element, E> {
        if !self.id {
            return Err(E::invalid_type(Unexpected::Unsigned(id), &self));
        }
        u32::try_from(id).map(Element::Id).map_err(|_| E::invalid_value(Unexpected::Unsigned(id), &self))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Element, E> {
        match whole_of(number) {
            Some(id) => self.visit_u64(id),
            None => Err(E::invalid_type(Unexpected::Float(number), &self)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Element, A::Error> {
        ids(list, Vec::new()).map(|ids| Element::Input(Input::Ids(ids)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::{parse, place};

    #[test]
    fn inputs_are_texts_or_token_ids_with_their_place() {
        #[derive(Deserialize)]
        struct Request {
            x: Inputs,
        }
        let read = |x: &str| {
            let Inputs(inputs) = parse::<Request>(format!(r#"{{"x":{x}}}"#).as_bytes()).unwrap().x;
            let shown = |input: &Input| match input {
                Input::Text(text) => text.clone(),
                Input::Ids(ids) => format!("{ids:?}"),
            };
            inputs.iter().map(shown).collect::<Vec<_>>().join("|")
        };
        for (x, expected) in [
            (r#""a""#, "a"),
            (r#"["a","b"]"#, "a|b"),
            ("[1,2.0]", "[1, 2]"),
            ("[[1],[2,3]]", "[1]|[2, 3]"),
            (r#"["a",[1],{"text":"b","more":5}]"#, "a|[1]|b"),
            ("[]", ""),
            ("[[]]", "[]"),
        ] {
            assert_eq!(read(x), expected, "{x}");
        }
        for (x, expected) in [
            ("5", "x"),
            ("null", "x"),
            ("{}", "x"),
            (r#"["a",5]"#, "x[1]"),
            (r#"["a",null]"#, "x[1]"),
            (r#"[1,"a"]"#, "x[1]"),
            ("[[1],[-1]]", "x[1][0]"),
            ("[4294967296]", "x[0]"),
            ("[1.5]", "x[0]"),
            (r#"["a",{}]"#, "x[1].text"),
            (r#"[{"image":"a"}]"#, "x[0].text"),
        ] {
            assert_eq!(place::<Request>(&format!(r#"{{"x":{x}}}"#)).as_deref(), Some(expected), "{x}");
        }
    }

    #[test]
    fn lists_of_ids_and_texts_are_read_with_their_place() {
        #[derive(Deserialize)]
        struct Request {
            #[serde(default)]
            ids: Option<IdLists>,
            #[serde(default)]
            texts: Option<Texts>,
        }
        let read = |body: &str| parse::<Request>(body.as_bytes()).unwrap();
        for (ids, expected) in [("[]", vec![vec![]]), ("[1,2]", vec![vec![1, 2]]), ("[[1],[]]", vec![vec![1], vec![]])]
        {
            assert_eq!(read(&format!(r#"{{"ids":{ids}}}"#)).ids.unwrap().0, expected, "{ids}");
        }
        assert_eq!(read(r#"{"texts":["a","b"]}"#).texts.unwrap().into_vec(), ["a", "b"]);
        assert_eq!(read(r#"{"texts":"a"}"#).texts.unwrap().into_vec(), ["a"]);
        for (body, expected) in [
            (r#"{"ids":"a"}"#, "ids"),
            (r#"{"ids":["a"]}"#, "ids[0]"),
            (r#"{"ids":[[1],2]}"#, "ids[1]"),
            (r#"{"ids":[{"text":"a"}]}"#, "ids[0]"),
            (r#"{"texts":["a",["b"]]}"#, "texts[1]"),
            (r#"{"texts":{}}"#, "texts"),
        ] {
            assert_eq!(place::<Request>(body).as_deref(), Some(expected), "{body}");
        }
    }
}
