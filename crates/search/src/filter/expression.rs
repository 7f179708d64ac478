//! A filter as it was read: comparisons of named values, joined by and, or, not.

use std::cmp::Ordering;

use crate::bits::Bits;
use crate::error::{Result, shown};

/// What a filter asks.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expression {
    And(Vec<Expression>),
    Or(Vec<Expression>),
    Not(Box<Expression>),
    /// One of the values.
    In(Name, Vec<Literal>),
    /// Compared so with the value.
    Compare(Name, Comparison, Literal),
    Exists(Name),
}

/// The parts of a name.
pub(super) type Name = Vec<String>;

impl Expression {
    /// Puts the names that are compared, with the values they are compared with, into one list, and those that `exists` asks for into another.
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

/// The types of values that a filter tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Text,
    Number,
    Boolean,
}

impl Kind {
    /// What a field has whose values are of this type.
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

    /// The value with its type, for a message.
    pub(super) fn said(&self) -> String {
        match self {
            Literal::Text(text) => format!("the text \"{}\"", shown(text)),
            Literal::Integer(n) => format!("the number {n}"),
            Literal::Float(x) => format!("the number {x}"),
            Literal::Bool(b) => b.to_string(),
        }
    }
}

/// Where a filter finds values: a list of documents with named columns.
pub(super) trait Columns {
    /// Documents, living or not.
    fn len(&self) -> usize;
    /// The documents in which a value of the column `name` is one of `values`.
    fn any_of(&self, name: &Name, values: &[Literal]) -> Result<Bits>;
    /// The documents in which a value of the column `name` stands in the relation `comparison` to `value`.
    fn compare(&self, name: &Name, comparison: Comparison, value: &Literal) -> Result<Bits>;
    /// The documents that have a value in the column `name`.
    fn exists(&self, name: &Name) -> Result<Bits>;
}
