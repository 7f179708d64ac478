//! Filters: conditions that documents must meet to be found.
//!
//! ```text
//! lang = "zh" and year >= 2020 and not tag in ("a", "b")
//! price < 9.5 or (draft = false and author.name = 'Ann')
//! ```
//! A name is one of `key`, `document` (of a chunk), `lang`, or a value of the metadata, whose parts are joined by dots; a name with other
//! characters stands in backquotes. Values are strings in single or double quotes, numbers, `true` and `false`. A list in the metadata
//! fulfils a comparison if one of its values does. A document without the name fulfils no comparison, so `x != 1` (which is `not x = 1`)
//! holds for it. `exists(name)` asks whether there is a value. A filter that compares a name which no document has is refused, because it is
//! likely misspelt; one that asks by `exists` for the same name too is not. A deleted document counts no more: when the last one with a name
//! goes, the name goes. A filter that compares a name with a value of a type which none of its values has is refused as well: `year = "2020"`
//! where years are numbers would find nothing, and `year != "2020"` everything.
//!
//! A filter becomes one set of rows, which every arm of a search applies before it cuts its list.

mod columns;
mod expression;
mod parse;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use self::expression::{Columns, Expression, Kind, Literal, Name};
use crate::bits::Bits;
use crate::error::{Error, Result};

/// A filter that has been read.
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
    /// A document, itself or its chunks.
    pub(crate) fn of_document(key: &str) -> Filter {
        Self::equal("document", key)
    }

    /// The entries that have this key of their own.
    pub(crate) fn of_entry(key: &str) -> Filter {
        Self::equal("key", key)
    }

    /// Builds a filter that the program itself needs. Nobody has written it down, so its [`as_str`](Self::as_str) is empty.
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

    /// Reads a filter.
    ///
    /// # Errors
    /// [`Error::Filter`] says where, what was found and what was expected. Filters beyond 64 KiB, 1,000 comparisons or 64 nested
    /// parentheses are refused.
    fn from_str(text: &str) -> Result<Filter> {
        Ok(Filter { expression: parse::parse(text)?, text: text.to_owned() })
    }
}

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
    /// Refuses a name that is compared, is not asked for by `exists`, and has no value in any living document; and a name that is compared with
    /// a value of a type that none of its own has.
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

    /// The documents of a segment of tantivy's that fulfil the filter, by their places in it. `metadata` reads what is stored of one: for
    /// integers that its column may have rounded.
    pub(crate) fn of_segment(
        &self,
        segment: &tantivy::SegmentReader,
        path: &Path,
        metadata: &columns::Metadata<'_>,
    ) -> Result<Bits> {
        evaluate(&self.expression, &columns::SegmentColumns::new(segment, path, metadata))
    }
}
