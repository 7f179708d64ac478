//! Parses filters by recursive descent, with limits on their length, their depth and the number of their values.

use trivec::numbers::grouped;

use super::expression::{Comparison, Expression, Literal, Name};
use crate::analyze::normalize_code;
use crate::document::RESERVED_NAMES;
use crate::error::{Error, Result};
use crate::text::LANG;

/// The document's fields that are searched but that no filter can compare.
const UNFILTERED: [&str; 2] = ["text", "title"];

const MAX_BYTES: usize = 64 << 10;
const MAX_DEPTH: usize = 64;
const MAX_VALUES: usize = 1_000;

/// A token of a filter's text.
#[derive(Debug, Clone, PartialEq)]
enum Word {
    /// A name or a keyword; the parser decides by its position.
    Plain(String),
    /// A name in backquotes, without them.
    Quoted(String),
    Literal(Literal),
    Sign(&'static str),
    End,
}

impl Word {
    /// The token as an error shows it.
    fn shown(&self) -> String {
        match self {
            Word::Plain(text) | Word::Quoted(text) => format!("`{}`", text.escape_debug()),
            Word::Literal(Literal::Text(_)) => "a string".to_owned(),
            Word::Literal(_) => "a number".to_owned(),
            Word::Sign(sign) => format!("`{sign}`"),
            Word::End => "the end".to_owned(),
        }
    }
}

struct Parser {
    /// The tokens, each with the position of its first character in the text, from 1 on.
    words: Vec<(Word, usize)>,
    /// The index of the next token.
    at: usize,
    /// How many values were parsed, for the limit.
    values: usize,
}

/// Parses a whole filter.
pub(super) fn parse(text: &str) -> Result<Expression> {
    if text.len() > MAX_BYTES {
        return Err(Error::Filter {
            at: 1,
            what: format!("{} bytes, expected at most {}", grouped(text.len()), grouped(MAX_BYTES)),
        });
    }
    let mut parser = Parser { words: words(text)?, at: 0, values: 0 };
    let expression = parser.or(0)?;
    match parser.peek() {
        Word::End => Ok(expression),
        _ => parser.unexpected("`and`, `or` or the end"),
    }
}

/// Signs that are tokens; of two that begin alike, the longer one comes first.
const SIGNS: [&str; 11] = ["<=", ">=", "!=", "<>", "==", "<", ">", "=", "(", ")", ","];

/// Splits a text into tokens, each with the position of its first character, from 1 on. The last one is [`Word::End`].
fn words(text: &str) -> Result<Vec<(Word, usize)>> {
    let mut words = Vec::new();
    let mut rest = text;
    // How many characters are before `rest`.
    let mut passed = 0;
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '@' | '$');
    loop {
        let trimmed = rest.trim_start();
        passed += rest[..rest.len() - trimmed.len()].chars().count();
        rest = trimmed;
        let at = passed + 1;
        let Some(first) = rest.chars().next() else { break };
        let wrong = |what: String| Err(Error::Filter { at, what });
        let (word, length) = if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            (Word::Sign(sign), sign.len())
        } else if matches!(first, '"' | '\'' | '`') {
            let Some((content, length)) = quoted(rest, first) else {
                return wrong(format!("a {first} that is not closed"));
            };
            let word = if first == '`' { Word::Quoted(content) } else { Word::Literal(Literal::Text(content)) };
            (word, length)
        } else if plain(first) {
            let length = rest.find(|c| !(plain(c) || c == '+')).unwrap_or(rest.len());
            (plain_word(&rest[..length]), length)
        } else {
            return wrong(format!("found `{}`, expected a name, a value or a comparison", first.escape_debug()));
        };
        words.push((word, at));
        passed += rest[..length].chars().count();
        rest = &rest[length..];
    }
    words.push((Word::End, passed + 1));
    Ok(words)
}

/// The content of the quotes that `text` begins with, and their length in bytes with both quotes; `None` if they are not closed. A
/// backslash escapes the next character.
fn quoted(text: &str, quote: char) -> Option<(String, usize)> {
    let mut content = String::new();
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => {
                content.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            _ if c == quote => return Some((content, at + c.len_utf8())),
            _ => content.push(c),
        }
    }
    None
}

/// A token without quotes: a number if it begins like one and is one, else a name or keyword.
fn plain_word(word: &str) -> Word {
    let numeric = word.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '.'));
    if !numeric {
        return Word::Plain(word.to_owned());
    }
    if let Ok(integer) = word.parse::<i128>() {
        return Word::Literal(Literal::Integer(integer));
    }
    match word.parse::<f64>() {
        Ok(float) if float.is_finite() => Word::Literal(Literal::Float(float)),
        _ => Word::Plain(word.to_owned()),
    }
}

impl Parser {
    fn peek(&self) -> &Word {
        self.words.get(self.at).map_or(&Word::End, |(word, _)| word)
    }

    fn next(&mut self) -> Word {
        let word = self.peek().clone();
        self.at += 1;
        word
    }

    /// The error that says which token comes next, where, and what was expected in its place.
    fn unexpected<T>(&self, expected: &str) -> Result<T> {
        let at = self.words.get(self.at).or(self.words.last()).map_or(1, |(_, at)| *at);
        Err(Error::Filter { at, what: format!("found {}, expected {expected}", self.peek().shown()) })
    }

    /// Moves on if the next token is this keyword, in upper or lower case, and returns whether it was.
    fn takes(&mut self, word: &str) -> bool {
        let there = matches!(self.peek(), Word::Plain(text) if text.eq_ignore_ascii_case(word));
        self.at += usize::from(there);
        there
    }

    /// Moves on if the next token is this sign, and returns whether it was.
    fn takes_sign(&mut self, sign: &str) -> bool {
        let there = matches!(self.peek(), Word::Sign(found) if *found == sign);
        self.at += usize::from(there);
        there
    }

    /// Parses one or more [`and`](Self::and) expressions with `or` between them. `depth` counts the parentheses and `not`s around them.
    fn or(&mut self, depth: usize) -> Result<Expression> {
        let mut parts = vec![self.and(depth)?];
        while self.takes("or") {
            parts.push(self.and(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::Or(parts) })
    }

    /// Parses one or more [`unary`](Self::unary) expressions with `and` between them.
    fn and(&mut self, depth: usize) -> Result<Expression> {
        let mut parts = vec![self.unary(depth)?];
        while self.takes("and") {
            parts.push(self.unary(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::And(parts) })
    }

    /// Parses a comparison, an expression in parentheses, or `not` and one of these.
    fn unary(&mut self, depth: usize) -> Result<Expression> {
        if depth > MAX_DEPTH {
            return self.unexpected(&format!("at most {MAX_DEPTH} nested parentheses and `not`s"));
        }
        if self.takes("not") {
            return Ok(Expression::Not(Box::new(self.unary(depth + 1)?)));
        }
        if self.takes_sign("(") {
            let inside = self.or(depth + 1)?;
            return if self.takes_sign(")") { Ok(inside) } else { self.unexpected("`)`, `and` or `or`") };
        }
        self.comparison()
    }

    /// Parses `exists(name)`, or a name with a comparison or `in` and what follows.
    fn comparison(&mut self) -> Result<Expression> {
        if self.takes("exists") {
            if !self.takes_sign("(") {
                return self.unexpected("`(` after `exists`");
            }
            let name = self.name()?;
            return if self.takes_sign(")") { Ok(Expression::Exists(name)) } else { self.unexpected("`)`") };
        }
        let name = self.name()?;
        let negated = self.takes("not");
        if self.takes("in") {
            let list = Expression::In(name.clone(), self.list(&name)?);
            return Ok(if negated { Expression::Not(Box::new(list)) } else { list });
        }
        let Word::Sign(sign) = *self.peek() else {
            return self.unexpected("a comparison (=, !=, <, <=, >, >=) or `in`");
        };
        if negated {
            return self.unexpected("`in` after `not`");
        }
        let comparison = match sign {
            "<" => Comparison::Less,
            "<=" => Comparison::LessOrEqual,
            ">" => Comparison::Greater,
            ">=" => Comparison::GreaterOrEqual,
            "=" | "==" | "!=" | "<>" => {
                self.at += 1;
                let equal = Expression::In(name.clone(), vec![self.value(&name)?]);
                return Ok(if sign.starts_with('=') { equal } else { Expression::Not(Box::new(equal)) });
            }
            _ => return self.unexpected("a comparison (=, !=, <, <=, >, >=) or `in`"),
        };
        self.at += 1;
        let value = self.value(&name)?;
        Ok(Expression::Compare(name, comparison, value))
    }

    fn name(&mut self) -> Result<Name> {
        let parts = match self.peek() {
            Word::Quoted(name) if !name.is_empty() => vec![name.clone()],
            Word::Plain(name) if !name.is_empty() && name.split('.').all(|part| !part.is_empty()) => {
                name.split('.').map(str::to_owned).collect()
            }
            _ => return self.unexpected("a name"),
        };
        // The document's own fields have no parts, and text and title have no columns. Metadata cannot have these names, so that no
        // document could ever fulfil the filter.
        let own = parts.first().is_some_and(|first| RESERVED_NAMES.contains(&first.as_str()));
        if own && (parts.len() > 1 || UNFILTERED.contains(&parts[0].as_str())) {
            return self.unexpected("key, document, lang or a name of the metadata");
        }
        self.at += 1;
        Ok(parts)
    }

    /// Parses the values in parentheses that `name` is compared with.
    fn list(&mut self, name: &Name) -> Result<Vec<Literal>> {
        if !self.takes_sign("(") {
            return self.unexpected("`(` after `in`");
        }
        let mut values = vec![self.value(name)?];
        while self.takes_sign(",") {
            values.push(self.value(name)?);
        }
        if self.takes_sign(")") { Ok(values) } else { self.unexpected("`,` or `)`") }
    }

    /// Parses a value that `name` is compared with.
    fn value(&mut self, name: &Name) -> Result<Literal> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return self.unexpected(&format!("at most {} values", grouped(MAX_VALUES)));
        }
        let value = match self.peek() {
            Word::Literal(literal) => literal.clone(),
            Word::Plain(word) if word.eq_ignore_ascii_case("true") => Literal::Bool(true),
            Word::Plain(word) if word.eq_ignore_ascii_case("false") => Literal::Bool(false),
            _ => return self.unexpected("a value: a string in quotes, a number, true or false"),
        };
        self.next();
        // Codes of languages are normalised, because those in the index are.
        Ok(match value {
            Literal::Text(text) if name.len() == 1 && name[0] == LANG => Literal::Text(normalize_code(&text)),
            value => value,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn precedence_and_forms() {
        let name = |name: &str| vec![name.to_owned()];
        let equal = |n: &str, value: i128| Expression::In(name(n), vec![Literal::Integer(value)]);
        assert_eq!(
            parse("a = 1 or b = 2 and not c = 3").unwrap(),
            Expression::Or(vec![
                equal("a", 1),
                Expression::And(vec![equal("b", 2), Expression::Not(Box::new(equal("c", 3)))])
            ])
        );
        assert_eq!(parse("(a=1 OR b=2)AND c=3").unwrap(), parse("( a == 1 or b = 2 ) and (c = 3)").unwrap());
        assert_eq!(parse("a != 1").unwrap(), parse("not a = 1").unwrap());
        assert_eq!(parse("a not in (1, 2)").unwrap(), parse("not a in (1,2)").unwrap());
        let texts = |texts: &[&str]| texts.iter().map(|text| Literal::Text((*text).to_owned())).collect::<Vec<_>>();
        assert_eq!(parse(r#"t in ("a\"b", 'c')"#).unwrap(), Expression::In(name("t"), texts(&["a\"b", "c"])));
        assert_eq!(parse("lang = 'zh-CN'").unwrap(), Expression::In(name("lang"), texts(&["zh"])));
        assert_eq!(
            parse("x >= -1.5e2").unwrap(),
            Expression::Compare(name("x"), Comparison::GreaterOrEqual, Literal::Float(-150.0))
        );
        assert_eq!(
            parse("a.b < 2").unwrap(),
            Expression::Compare(vec!["a".into(), "b".into()], Comparison::Less, Literal::Integer(2))
        );
        assert_eq!(parse("`a.b c` = true").unwrap(), Expression::In(name("a.b c"), vec![Literal::Bool(true)]));
        assert_eq!(parse("exists(a)").unwrap(), Expression::Exists(name("a")));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (text, expected) in [
            ("", "at character 1: found the end, expected a name"),
            ("year >=", "at character 8: found the end, expected a value"),
            ("年 = 1 ) ", "at character 7: found `)`, expected `and`, `or` or the end"),
            ("a = \"x", "at character 5: a \" that is not closed"),
            ("a ~ 1", "at character 3: found `~`"),
            ("a = b", "at character 5: found `b`, expected a value"),
            ("a not = 1", "expected `in` after `not`"),
            ("a in 1", "expected `(` after `in`"),
            ("a in ()", "expected a value"),
            ("a..b = 1", "expected a name"),
            ("a = 1 and title = 'x'", "at character 11: found `title`, expected key, document, lang or a name of"),
            ("exists(text)", "found `text`, expected key"),
            ("lang.code in ('de')", "found `lang.code`, expected key"),
            ("`title` = 'x'", "found `title`, expected key"),
            ("1 = 1", "found a number, expected a name"),
        ] {
            let found = error(text);
            assert!(found.contains(expected), "{text}: {found}");
        }
    }

    proptest::proptest! {
        /// Every text is parsed or refused, without a panic and with a position inside the text; and a filter in parentheses is the same
        /// filter.
        #[test]
        fn any_text_is_read_or_refused(text in "([a-c\"'`.=<>!(), 0-9-]|and |or |not |in |exists|ä|\\\\){0,40}") {
            match parse(&text) {
                Ok(expression) => proptest::prop_assert_eq!(parse(&format!("({text})")).unwrap(), expression),
                Err(e) => {
                    let inside = matches!(e, Error::Filter { at, .. } if at <= text.chars().count() + 1);
                    proptest::prop_assert!(inside);
                }
            }
        }
    }

    #[test]
    fn large_filters_are_refused() {
        assert!(error(&"x".repeat(MAX_BYTES + 1)).contains("expected at most"));
        assert!(error(&format!("{}a=1{}", "(".repeat(10_000), ")".repeat(10_000))).contains("nested"));
        assert!(error(&format!("{}a=1", "not ".repeat(10_000))).contains("nested"));
        assert!(error(&format!("a in (1{})", ",1".repeat(2_000))).contains("at most 1,000 values"));
        assert!(parse(&format!("{}a=1{}", "(".repeat(60), ")".repeat(60))).is_ok());
    }
}
