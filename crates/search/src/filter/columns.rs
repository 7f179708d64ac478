//! The values that filters compare: tantivy's fast fields, which have a column for each name and type.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value};
use tantivy::SegmentReader;
use tantivy::columnar::{ColumnType, DynamicColumn, DynamicColumnHandle, TermOrdHit};

use super::expression::{Columns, Comparison, Kind, Literal, Name};
use crate::bits::Bits;
use crate::error::{Error, Result};
use crate::text::{GROUP, KEY, LANG, METADATA};

/// A function that reads the stored metadata of a document, given by its number in the segment.
pub(crate) type Metadata<'a> = dyn Fn(u32) -> Result<Map<String, Value>> + 'a;

/// The columns of one of tantivy's segments.
pub(super) struct SegmentColumns<'a> {
    segment: &'a SegmentReader,
    path: &'a Path,
    metadata: &'a Metadata<'a>,
}

/// From this magnitude on, not every integer is an f64. If a name has both floats and integers in a segment, or both negative integers and
/// some beyond i64, tantivy makes one column of floats for it, in which integers may be rounded.
const ROUNDED: f64 = 9_007_199_254_740_992.0; // 2^53

/// A number of a document, without rounding.
#[derive(Clone, Copy)]
enum Number {
    Integer(i128),
    Float(f64),
}

impl Number {
    /// Compares with a value of a filter, without rounding whatever the types are; `None` if the value is no number or one of the two is
    /// NaN.
    fn compare(self, value: &Literal) -> Option<Ordering> {
        let value = match value {
            Literal::Integer(n) => Number::Integer(*n),
            Literal::Float(x) => Number::Float(*x),
            _ => return None,
        };
        match (self, value) {
            (Number::Integer(a), Number::Integer(b)) => Some(a.cmp(&b)),
            (Number::Float(a), Number::Float(b)) => a.partial_cmp(&b),
            (Number::Integer(a), Number::Float(b)) => mixed(a, b),
            (Number::Float(a), Number::Integer(b)) => mixed(b, a).map(Ordering::reverse),
        }
    }
}

/// Compares an integer with a float: first with the largest integer that is not above the float, then by whether the float has a fraction.
fn mixed(a: i128, b: f64) -> Option<Ordering> {
    if b.is_nan() {
        return None;
    }
    // The conversion saturates for floats beyond i128, which are beyond every integer of a column.
    let below = b.floor();
    Some(a.cmp(&(below as i128)).then(if b > below { Ordering::Less } else { Ordering::Equal }))
}

/// Escapes a part of a name for one of tantivy's paths, in which dots separate the parts and a backslash escapes the next character.
fn escaped(part: &str) -> String {
    part.replace('\\', "\\\\").replace('.', "\\.")
}

/// Collects the numbers under a path in a value, those in lists as well.
fn collect_numbers(value: &Value, path: &[String], numbers: &mut Vec<Number>) {
    match (value, path) {
        (Value::Array(values), _) => values.iter().for_each(|value| collect_numbers(value, path, numbers)),
        (Value::Object(map), [first, rest @ ..]) => {
            if let Some(value) = map.get(first) {
                collect_numbers(value, rest, numbers);
            }
        }
        (Value::Number(number), []) => {
            let integer = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
            let number = integer.map(Number::Integer).or_else(|| number.as_f64().map(Number::Float));
            numbers.extend(number);
        }
        _ => {}
    }
}

/// Whether a name is one of a document's own fields, and not a name of the metadata.
pub(super) fn is_own(name: &Name) -> bool {
    matches!(name.as_slice(), [one] if [KEY, "id", GROUP, LANG].contains(&one.as_str()))
}

/// The columns of a name.
fn handles(name: &Name, segment: &SegmentReader, path: &Path) -> Result<Vec<DynamicColumnHandle>> {
    let field = match name.as_slice() {
        [one] if one == "id" => KEY.to_owned(),
        [one] if is_own(name) => one.clone(),
        parts => parts.iter().fold(METADATA.to_owned(), |path, part| path + "." + &escaped(part)),
    };
    segment.fast_fields().dynamic_column_handles(&field).map_err(|e| Error::text(path, e))
}

/// The types of the values under a name in documents that are not deleted; empty if no such document has one. The columns have values of
/// deleted documents too, until tantivy merges its segments; these do not count.
pub(super) fn kinds(name: &Name, segments: &[SegmentReader], path: &Path) -> Result<BTreeSet<Kind>> {
    let mut kinds = BTreeSet::new();
    for segment in segments {
        for handle in handles(name, segment, path)? {
            let kind = match handle.column_type() {
                ColumnType::Str => Kind::Text,
                ColumnType::Bool => Kind::Boolean,
                ColumnType::I64 | ColumnType::U64 | ColumnType::F64 => Kind::Number,
                // The index writes no others.
                _ => continue,
            };
            if kinds.contains(&kind) {
                continue;
            }
            let column = handle.open_u64_lenient().map_err(|e| Error::text(path, e.into()))?;
            if column.is_some_and(|column| segment.doc_ids_alive().any(|doc| column.index.has_value(doc))) {
                kinds.insert(kind);
            }
        }
    }
    Ok(kinds)
}

/// The names of the metadata in documents that are not deleted, sorted, as they are written in a filter.
pub(super) fn names(segments: &[SegmentReader], path: &Path) -> Result<Vec<String>> {
    let mut names = BTreeSet::new();
    for segment in segments {
        let fields = segment.fields_metadata().map_err(|e| Error::text(path, e))?;
        for field in fields {
            let Some(name) = field.field_name.strip_prefix(METADATA).and_then(|rest| rest.strip_prefix('.')) else {
                continue;
            };
            // tantivy joins the parts of a name with dots, and a part may itself have dots. So the name is tried as one part with all the
            // dots (which a filter writes in backquotes), then with a part between every two dots. Names with both kinds of dots are left
            // out.
            let lives = |name: &Name| Ok::<bool, Error>(!kinds(name, segments, path)?.is_empty());
            if name.contains('.') && lives(&vec![name.to_owned()])? {
                names.insert(format!("`{name}`"));
            } else if lives(&name.split('.').map(str::to_owned).collect())? {
                names.insert(name.to_owned());
            }
        }
    }
    Ok(names.into_iter().collect())
}

impl<'a> SegmentColumns<'a> {
    pub fn new(segment: &'a SegmentReader, path: &'a Path, metadata: &'a Metadata<'a>) -> SegmentColumns<'a> {
        SegmentColumns { segment, path, metadata }
    }

    fn columns(&self, name: &Name) -> Result<Vec<DynamicColumn>> {
        let fail = |e: std::io::Error| Error::text(self.path, e.into());
        handles(name, self.segment, self.path)?.into_iter().map(|handle| handle.open().map_err(fail)).collect()
    }

    /// Sets the bits of the documents that have a value in the column for which `holds` is true.
    fn select<T: PartialOrd + Copy + std::fmt::Debug + Send + Sync + 'static>(
        &self,
        column: &tantivy::columnar::Column<T>,
        bits: &mut Bits,
        holds: impl Fn(T) -> bool,
    ) {
        for doc in 0..self.segment.max_doc() {
            if column.values_for_doc(doc).any(&holds) {
                bits.set(doc as usize);
            }
        }
    }

    /// Sets the bits of the documents that have a number under this name for which `holds` is true. Where the column may have rounded a
    /// number, the numbers are read from the stored document.
    fn numbers(
        &self,
        name: &Name,
        column: &DynamicColumn,
        bits: &mut Bits,
        holds: impl Fn(Number) -> bool,
    ) -> Result<()> {
        match column {
            DynamicColumn::I64(column) => self.select(column, bits, |n| holds(Number::Integer(n.into()))),
            DynamicColumn::U64(column) => self.select(column, bits, |n| holds(Number::Integer(n.into()))),
            DynamicColumn::F64(column) => {
                for doc in 0..self.segment.max_doc() {
                    let held = match column.values_for_doc(doc).any(|x| x.abs() >= ROUNDED) {
                        false => column.values_for_doc(doc).any(|x| holds(Number::Float(x))),
                        true => {
                            let mut numbers = Vec::new();
                            for (first, value) in &(self.metadata)(doc)? {
                                if name.first() == Some(first) {
                                    collect_numbers(value, &name[1..], &mut numbers);
                                }
                            }
                            numbers.into_iter().any(&holds)
                        }
                    };
                    if held {
                        bits.set(doc as usize);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Columns for SegmentColumns<'_> {
    fn len(&self) -> usize {
        self.segment.max_doc() as usize
    }

    fn any_of(&self, name: &Name, values: &[Literal]) -> Result<Bits> {
        let mut bits = Bits::none(self.len());
        for column in self.columns(name)? {
            match &column {
                DynamicColumn::Str(column) => {
                    let mut wanted = Bits::none(column.dictionary().num_terms());
                    for value in values {
                        let Literal::Text(text) = value else { continue };
                        let ord = column.dictionary().term_ord(text).map_err(|e| Error::io(self.path, e))?;
                        ord.into_iter().for_each(|ord| wanted.set(ord as usize));
                    }
                    self.select(column.ords(), &mut bits, |ord| wanted.get(ord as usize));
                }
                DynamicColumn::Bool(column) => {
                    self.select(column, &mut bits, |b| values.contains(&Literal::Bool(b)));
                }
                column => self.numbers(name, column, &mut bits, |number| {
                    values.iter().any(|value| number.compare(value) == Some(Ordering::Equal))
                })?,
            }
        }
        Ok(bits)
    }

    fn compare(&self, name: &Name, comparison: Comparison, value: &Literal) -> Result<Bits> {
        let mut bits = Bits::none(self.len());
        for column in self.columns(name)? {
            match (&column, value) {
                (DynamicColumn::Str(column), Literal::Text(text)) => {
                    // The dictionary is sorted: the place of the value in it, or of the next one, decides how every other text compares
                    // with it.
                    let hit = column.dictionary().term_ord_or_next(text).map_err(|e| Error::io(self.path, e))?;
                    self.select(column.ords(), &mut bits, |ord| {
                        let order = match hit {
                            TermOrdHit::Exact(value) => ord.cmp(&value),
                            TermOrdHit::Next(next) if ord < next => Ordering::Less,
                            TermOrdHit::Next(_) => Ordering::Greater,
                        };
                        comparison.holds(order)
                    });
                }
                (DynamicColumn::Bool(column), Literal::Bool(value)) => {
                    self.select(column, &mut bits, |b| comparison.holds(b.cmp(value)));
                }
                (column, value) => self.numbers(name, column, &mut bits, |number| {
                    number.compare(value).is_some_and(|order| comparison.holds(order))
                })?,
            }
        }
        Ok(bits)
    }

    fn exists(&self, name: &Name) -> Result<Bits> {
        let mut bits = Bits::none(self.len());
        for column in self.columns(name)? {
            match &column {
                DynamicColumn::Str(column) => self.select(column.ords(), &mut bits, |_| true),
                DynamicColumn::Bool(column) => self.select(column, &mut bits, |_| true),
                column => self.numbers(name, column, &mut bits, |_| true)?,
            }
        }
        Ok(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_and_floats_compare_exactly() {
        let big = 9_007_199_254_740_993_i128; // 2^53 + 1, which f64 has not
        let cases = [
            (Number::Integer(3), Literal::Float(3.5), Ordering::Less),
            (Number::Integer(4), Literal::Float(3.5), Ordering::Greater),
            (Number::Integer(-4), Literal::Float(-3.5), Ordering::Less),
            (Number::Integer(-3), Literal::Float(-3.5), Ordering::Greater),
            (Number::Integer(big), Literal::Float(9_007_199_254_740_992.0), Ordering::Greater),
            (Number::Float(9_007_199_254_740_992.0), Literal::Integer(big), Ordering::Less),
            (Number::Float(2.0), Literal::Integer(2), Ordering::Equal),
            (Number::Integer(i128::from(u64::MAX)), Literal::Float(1e300), Ordering::Less),
            (Number::Integer(i128::from(i64::MIN)), Literal::Float(-1e300), Ordering::Greater),
        ];
        for (number, value, expected) in cases {
            assert_eq!(number.compare(&value), Some(expected), "{value:?}");
        }
        assert_eq!(Number::Float(1.0).compare(&Literal::Text("1".into())), None);
        assert_eq!(Number::Float(1.0).compare(&Literal::Bool(true)), None);
    }
}
