//! The syntax tree of a filter: comparisons of named values, joined by `and`, `or` and `not`.

use std::cmp::Ordering;

use crate::bits::Bits;
use crate::error::{Result, shown};

/// A condition that a document fulfils or not.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expression {
    And(Vec<Expression>),
    Or(Vec<Expression>),
    Not(Box<Expression>),
    /// The document has one of these values under the name.
    In(Name, Vec<Literal>),
    /// The document has a value under the name that is less (or greater, …) than this value.
    Compare(Name, Comparison, Literal),
    /// The document has a value under the name.
    Exists(Name),
}

/// The parts of a name, which dots separate. A name in backquotes is a single part.
pub(super) type Name = Vec<String>;

impl Expression {
    /// Collects the names that are compared, with the values that each is compared with, in `compared`, and the names that `exists` asks
    /// for in `asked`.
    pub(super) fn names<'e>(&'e self, compared: &mut Vec<(&'e Name, &'e [Literal])>, asked: &mut Vec<&'e Name>) {
        match self {
            Expression::And(parts) | Expression::Or(parts) => {
                parts.iter().for_each(|part| part.names(compared, asked));
            }
            Expression::Not(part) => part.names(compared, asked),
            Expression::In(name, values) => compared.push((name, values)),
            Expression::Compare(name, _, value) => compared.push((name, std::slice::from_ref(value))),
            Expression::Exists(name) => asked.push(name),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    /// Whether the comparison is true of two values that are in this order.
    pub(super) fn holds(self, order: Ordering) -> bool {
        match self {
            Comparison::Less => order.is_lt(),
            Comparison::LessOrEqual => order.is_le(),
            Comparison::Greater => order.is_gt(),
            Comparison::GreaterOrEqual => order.is_ge(),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Literal {
    Text(String),
    Integer(i128),
    Float(f64),
    Bool(bool),
}

/// The types of values that a filter distinguishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Text,
    Number,
    Boolean,
}

impl Kind {
    /// What a message says that a field has if its values are of this type.
    pub(super) fn of_field(self) -> &'static str {
        match self {
            Kind::Text => "text",
            Kind::Number => "numbers",
            Kind::Boolean => "true and false",
        }
    }
}

impl Literal {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Literal::Text(_) => Kind::Text,
            Literal::Integer(_) | Literal::Float(_) => Kind::Number,
            Literal::Bool(_) => Kind::Boolean,
        }
    }

    /// The value after its type, as a message shows it.
    pub(super) fn said(&self) -> String {
        match self {
            Literal::Text(text) => format!("the text \"{}\"", shown(text)),
            Literal::Integer(n) => format!("the number {n}"),
            Literal::Float(x) => format!("the number {x}"),
            Literal::Bool(b) => b.to_string(),
        }
    }
}

/// A list of documents with named columns, in which a filter is evaluated. The results have a bit for each document.
pub(super) trait Columns {
    /// The number of documents, deleted ones too.
    fn len(&self) -> usize;
    /// The documents in which a value of the column `name` is one of `values`.
    fn any_of(&self, name: &Name, values: &[Literal]) -> Result<Bits>;
    /// The documents in which a value of the column `name` stands in the relation `comparison` to `value`.
    fn compare(&self, name: &Name, comparison: Comparison, value: &Literal) -> Result<Bits>;
    /// The documents that have a value in the column `name`.
    fn exists(&self, name: &Name) -> Result<Bits>;
}
