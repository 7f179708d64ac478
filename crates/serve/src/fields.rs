//! Types of the values in request bodies. Each is deserialised on its own, so that an error names its place, such as `input[3]`.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use super::error::ApiError;

/// A JSON object with `T`'s fields. A struct with derived `Deserialize` would also accept a list of its fields' values in their order.
#[derive(Debug, Default)]
pub(super) struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(Fields(PhantomData))
    }
}

/// A whole number, also if it is written `301.0`: JSON Schema counts this as an integer, and some clients write it so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Whole<T>(pub T);

impl<'de, T: TryFrom<u64>> Deserialize<'de> for Whole<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number<T>(PhantomData<T>);
        impl<T: TryFrom<u64>> Visitor<'_> for Number<T> {
            type Value = Whole<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number, not negative")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Whole<T>, E> {
                T::try_from(number).map(Whole).map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Whole<T>, E> {
                let wrong = |_| E::invalid_value(Unexpected::Float(number), &"a whole number, not negative");
                match whole_of(number) {
                    Some(number) => self.visit_u64(number),
                    // A whole number above 2^53, which f64 does not hold exactly: as a limit it limits nothing, so the largest u64 stands for it.
                    None if number.fract() == 0.0 && number > 0.0 => T::try_from(u64::MAX).map(Whole).map_err(wrong),
                    None => Err(E::invalid_value(Unexpected::Float(number), &self)),
                }
            }
        }
        deserializer.deserialize_any(Number(PhantomData))
    }
}

/// The float as an integer, if it is a whole number from 0 to 2^53. Above that, several whole numbers have the same f64.
pub(super) fn whole_of(number: f64) -> Option<u64> {
    (number.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&number)).then_some(number as u64)
}

/// A field that is a [`Whole`] number, `null` or absent.
pub(super) fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    Ok(Option::<Whole<usize>>::deserialize(deserializer)?.map(|Whole(number)| number))
}

/// A field that is an integer, `null` or absent: vLLM's `truncate_prompt_tokens`, which may be -1. `17.0` counts as an integer. A number beyond
/// i64 becomes the nearest i64; [`truncate_prompt_tokens`] refuses other negative numbers.
pub(super) fn integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    struct Number(i64);

    impl<'de> Deserialize<'de> for Number {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Expected;
            impl Visitor<'_> for Expected {
                type Value = Number;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("-1 or a number of tokens")
                }

                fn visit_i64<E: de::Error>(self, number: i64) -> Result<Number, E> {
                    Ok(Number(number))
                }

                fn visit_u64<E: de::Error>(self, number: u64) -> Result<Number, E> {
                    Ok(Number(i64::try_from(number).unwrap_or(i64::MAX)))
                }

                fn visit_f64<E: de::Error>(self, number: f64) -> Result<Number, E> {
                    if number.fract() == 0.0 {
                        return Ok(Number(number as i64));
                    }
                    Err(E::invalid_value(Unexpected::Float(number), &self))
                }
            }
            deserializer.deserialize_any(Expected)
        }
    }
    Ok(Option::<Number>::deserialize(deserializer)?.map(|Number(number)| number))
}

/// The value of several fields with one meaning, for which different services have different names. The fields that a request has must be equal.
pub(super) fn agreed<T: PartialEq + Copy, const N: usize>(
    fields: [(&'static str, Option<T>); N],
) -> super::error::Result<Option<T>> {
    let mut given = fields.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let Some((first, value)) = given.next() else { return Ok(None) };
    match given.find(|(_, other)| *other != value) {
        Some((name, _)) => {
            Err(ApiError::invalid(name, format!("expected the same as `{first}`, which means the same")))
        }
        None => Ok(Some(value)),
    }
}

/// The value of vLLM's `truncate_prompt_tokens`: the number of tokens that a text is cut to, where -1 means `most`, the model's own limit.
pub(super) fn truncate_prompt_tokens(value: Option<i64>, most: usize) -> super::error::Result<Option<usize>> {
    let wrong =
        |n| ApiError::invalid("truncate_prompt_tokens", format!("found {n}, expected -1 or a number of tokens"));
    match value {
        None => Ok(None),
        Some(-1) => Ok(Some(most)),
        Some(n) => usize::try_from(n).map(Some).map_err(|_| wrong(n)),
    }
}

/// Values that are written as one of a few words.
pub(super) trait Words: Copy + 'static {
    const WORDS: &'static [(&'static str, Self)];
}

/// One of a few words. An enum with derived `Deserialize` would also accept `{"word": null}`, and its error for a number would be one of JSON
/// syntax.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Word<T>(pub T);

impl<'de, T: Words> Deserialize<'de> for Word<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOf { listed: false, words: PhantomData }).map(Word)
    }
}

/// One of a few words, or a list that holds one, as Jina's and Mixedbread's clients may send it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listed<T>(pub T);

impl<'de, T: Words> Deserialize<'de> for Listed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOf { listed: true, words: PhantomData }).map(Listed)
    }
}

/// Reads one of `T`'s words; if `listed`, also a list of one such word.
struct OneOf<T> {
    listed: bool,
    words: PhantomData<T>,
}

impl<'de, T: Words> Visitor<'de> for OneOf<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = T::WORDS.iter().map(|(word, _)| format!("`{word}`")).collect();
        f.write_str(&words.join(" or "))
    }

    fn visit_str<E: de::Error>(self, found: &str) -> Result<T, E> {
        let known = T::WORDS.iter().find(|(word, _)| *word == found);
        known.map(|(_, value)| *value).ok_or_else(|| E::invalid_value(Unexpected::Str(found), &self))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<T, A::Error> {
        if !self.listed {
            return Err(de::Error::invalid_type(Unexpected::Seq, &self));
        }
        let Word(word) = list.next_element()?.ok_or_else(|| de::Error::invalid_length(0, &"one word"))?;
        match list.next_element::<IgnoredAny>()? {
            None => Ok(word),
            Some(_) => Err(de::Error::invalid_length(2, &"one word")),
        }
    }
}

/// Which end of a text is cut off if the text is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Right,
    Left,
}

impl Words for Direction {
    const WORDS: &'static [(&'static str, Direction)] = &[
        ("Right", Direction::Right),
        ("right", Direction::Right),
        ("Left", Direction::Left),
        ("left", Direction::Left),
    ];
}

impl Direction {
    /// Refuses the field `name` if it asks to cut the beginning of texts: the service cuts their end.
    pub(super) fn check(name: &'static str, asked: Option<Word<Direction>>) -> super::error::Result<()> {
        match asked {
            Some(Word(Direction::Left)) => {
                Err(ApiError::invalid(name, "`left` is not supported: texts are cut at their end"))
            }
            _ => Ok(()),
        }
    }
}

/// Whether texts that are too long are cut: Jina's `true` and `false`, or Cohere's and NVIDIA's words `END` and `NONE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Truncate(pub bool);

impl<'de> Deserialize<'de> for Truncate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FlagOrWord;
        impl Visitor<'_> for FlagOrWord {
            type Value = Truncate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false, `END` or `NONE`")
            }

            fn visit_bool<E: de::Error>(self, cut: bool) -> Result<Truncate, E> {
                Ok(Truncate(cut))
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Truncate, E> {
                match word {
                    "END" => Ok(Truncate(true)),
                    "NONE" => Ok(Truncate(false)),
                    _ => Err(E::invalid_value(Unexpected::Str(word), &self)),
                }
            }
        }
        deserializer.deserialize_any(FlagOrWord)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::{parse, place};

    #[test]
    fn whole_numbers_may_be_written_with_a_point() {
        #[derive(Deserialize)]
        struct Numbers {
            ids: Vec<Whole<u32>>,
            #[serde(default, deserialize_with = "whole")]
            most: Option<usize>,
        }
        let read =
            |body: &str| parse::<Numbers>(body.as_bytes()).map(|n| (n.ids.iter().map(|id| id.0).collect(), n.most));
        assert_eq!(
            read(r#"{"ids":[1, 101.0, 4294967295.0],"most":301.0}"#).unwrap(),
            (vec![1, 101, u32::MAX], Some(301))
        );
        assert_eq!(read(r#"{"ids":[],"most":null}"#).unwrap(), (vec![], None));
        assert_eq!(read(r#"{"ids":[]}"#).unwrap(), (vec![], None));
        // A limit that is too large for an integer, or for an exact float, is read as the largest integer.
        for huge in ["18446744073709551615", "18446744073709551616", "9007199254740994.0", "8e22", "1e300"] {
            assert_eq!(read(&format!(r#"{{"ids":[],"most":{huge}}}"#)).unwrap(), (vec![], Some(usize::MAX)), "{huge}");
        }
        for bad in
            ["-1", "-0.5", "1.5", "4294967296", "4294967296.0", "1e300", "\"1\"", "null", "true", "-1e9", "1e999"]
        {
            assert_eq!(place::<Numbers>(&format!(r#"{{"ids":[{bad}]}}"#)).as_deref(), Some("ids[0]"), "{bad}");
        }
    }
}
