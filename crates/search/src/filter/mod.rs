//! Filters: conditions that documents must meet to be found.
//!
//! ```text
//! lang = "zh" and year >= 2020 and not tag in ("a", "b")
//! price < 9.5 or (draft = false and author.name = 'Ann')
//! ```
//! A name is `key` (or `id`), `document` (the key of the whole document), `lang`, or the name of a value of the metadata: names of nested
//! values are joined by dots, and a name with other characters stands in backquotes. Values are strings in single or double quotes,
//! numbers, `true` and `false`. A list in the metadata fulfils a comparison if one of its values does. A document without the name fulfils
//! no comparison, so `x != 1` (which is `not x = 1`) holds for it. `exists(name)` holds for documents with a value of this name.
//!
//! A filter that compares a name which no document has is refused, because the name is likely misspelt, except if the filter asks for it by
//! `exists` as well. Deleted documents do not count. A filter that compares a name with a value of a type that none of the name's values
//! has is refused too: `year = "2020"` where years are numbers would find nothing, and `year != "2020"` everything.
//!
//! A filter becomes one set of rows, which every arm of a search applies before it cuts its list to the best.

mod columns;
mod expression;
mod parse;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use self::expression::{Columns, Expression, Kind, Literal, Name};
use crate::bits::Bits;
use crate::error::{Error, Result};

/// A filter, parsed from its text.
///
/// ```
/// use trivec_search::Filter;
///
/// let filter: Filter = r#"lang = "zh" and year >= 2020"#.parse()?;
/// assert!("year >=".parse::<Filter>().is_err());
/// # let _ = filter;
/// # Ok::<(), trivec_search::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    expression: Expression,
    text: String,
}

impl Filter {
    /// A filter for the entries of a document: the whole document, or its chunks.
    pub(crate) fn of_document(key: &str) -> Filter {
        Self::equal("document", key)
    }

    /// A filter for the entries that have this key themselves.
    pub(crate) fn of_entry(key: &str) -> Filter {
        Self::equal("key", key)
    }

    /// Builds a filter that the program itself needs. It was not parsed from a text, so its [`as_str`](Self::as_str) is empty.
    fn equal(name: &str, value: &str) -> Filter {
        let expression = Expression::In(vec![name.to_owned()], vec![Literal::Text(value.to_owned())]);
        Filter { expression, text: String::new() }
    }

    /// The filter as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl std::str::FromStr for Filter {
    type Err = Error;

    /// Parses a filter.
    ///
    /// # Errors
    /// [`Error::Filter`] says where something is wrong, what was found and what was expected. Filters of more than 64 KiB, 1,000 values or
    /// 64 nested parentheses and `not`s are refused.
    fn from_str(text: &str) -> Result<Filter> {
        Ok(Filter { expression: parse::parse(text)?, text: text.to_owned() })
    }
}

/// The documents of `columns` that fulfil an expression.
fn evaluate(expression: &Expression, columns: &dyn Columns) -> Result<Bits> {
    Ok(match expression {
        Expression::And(parts) => {
            let mut all = Bits::all(columns.len());
            for part in parts {
                all.and(&evaluate(part, columns)?);
            }
            all
        }
        Expression::Or(parts) => {
            let mut any = Bits::none(columns.len());
            for part in parts {
                any.or(&evaluate(part, columns)?);
            }
            any
        }
        Expression::Not(part) => {
            let mut bits = evaluate(part, columns)?;
            bits.not();
            bits
        }
        Expression::In(name, values) => columns.any_of(name, values)?,
        Expression::Compare(name, comparison, value) => columns.compare(name, *comparison, value)?,
        Expression::Exists(name) => columns.exists(name)?,
    })
}

impl Filter {
    /// Refuses a filter if it compares a name, without asking for it by `exists`, that has no value in any document that is not deleted; or
    /// if it compares a name with a value of a type that none of the name's values has.
    pub(crate) fn check_names(&self, segments: &[tantivy::SegmentReader], path: &Path) -> Result<()> {
        let (mut compared, mut asked) = (Vec::new(), Vec::new());
        self.expression.names(&mut compared, &mut asked);
        let mut known: BTreeMap<&Name, BTreeSet<Kind>> = BTreeMap::new();
        for (name, values) in compared {
            let kinds = match known.entry(name) {
                Entry::Occupied(kinds) => kinds.into_mut(),
                // The document's own fields.
                Entry::Vacant(place) if columns::is_own(name) => place.insert(BTreeSet::from([Kind::Text])),
                Entry::Vacant(place) => place.insert(columns::kinds(name, segments, path)?),
            };
            if kinds.is_empty() && !asked.contains(&name) {
                let fields = columns::names(segments, path)?;
                return Err(Error::NoField { name: name.join("."), fields });
            }
            if let Some(other) = values.iter().find(|value| !kinds.is_empty() && !kinds.contains(&value.kind())) {
                let has = kinds.iter().map(|kind| kind.of_field()).collect::<Vec<_>>().join(" and ");
                return Err(Error::FieldType { name: name.join("."), has, value: other.said() });
            }
        }
        Ok(())
    }

    /// The documents of one of tantivy's segments that fulfil the filter, by their numbers in that segment, deleted ones too. `metadata`
    /// reads the stored metadata of a document, which is needed for integers that the segment's column may have rounded.
    pub(crate) fn of_segment(
        &self,
        segment: &tantivy::SegmentReader,
        path: &Path,
        metadata: &columns::Metadata<'_>,
    ) -> Result<Bits> {
        evaluate(&self.expression, &columns::SegmentColumns::new(segment, path, metadata))
    }
}
