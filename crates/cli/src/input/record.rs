//! Turns a JSON value or a row of a table into a record.

use std::borrow::Cow;
use std::io::BufRead;

use serde_json::value::RawValue;

use super::json::{self, Fault};
use super::source::{Place, Source};
use super::table::{Table, listed};
use super::types::{Content, Record};
use crate::exit::{Failure, Result};

/// The field or column that holds the text, unless `--column` names another.
const TEXT: &str = "text";

/// Parses the JSON `text`, which begins at `place` of the input, as a record: an object with a text or token ids, or a string.
pub(super) fn of_json<R: BufRead>(
    source: &Source<R>,
    place: Place,
    text: &str,
    column: Option<&str>,
) -> Result<Record> {
    let text = repair(source, text);
    let parsed = parse(source, &text, column);
    let (id, content) = parsed.map_err(|fault| refusal(source, place, &text, &fault))?;
    Ok(Record { id, content, line: place.line })
}

/// The JSON `text`; with `--lossy`, each half of a surrogate pair in it is replaced by U+FFFD.
pub(super) fn repair<'t, R: BufRead>(source: &Source<R>, text: &'t str) -> Cow<'t, str> {
    if source.lossy == Some(true) { json::repaired(text) } else { Cow::Borrowed(text) }
}

/// The failure for a fault in the JSON `text`, which begins at `place` of the input.
pub(super) fn refusal<R: BufRead>(source: &Source<R>, place: Place, text: &str, fault: &Fault) -> Failure {
    let half = fault.what.ends_with("is half of a character");
    let advice = if half { source.advice("--lossy puts U+FFFD in its place") } else { String::new() };
    source.refuse_at(fault.place(text, place), format!("{}{advice}", fault.what))
}

/// Parses the id and the content of a record in JSON.
fn parse<R: BufRead>(
    source: &Source<R>,
    text: &str,
    column: Option<&str>,
) -> Result<(Option<Box<RawValue>>, Content), Fault> {
    match json::kind(text) {
        "a string" => return Ok((None, Content::Text(json::string(text)?))),
        "an object" => {}
        found => return Err(Fault::new(0, format!("found {found}, expected a record such as {{\"text\": …}}"))),
    }
    let name = column.unwrap_or(TEXT);
    let json::Fields { found: [id, value, ids], others } = json::fields(text, ["id", name, "input_ids"])?;
    let id = id.map(|id| json::id_of(id, text)).transpose()?;
    // If `--column` names the field of the text, `input_ids` are not looked at.
    let ids = ids.filter(|_| column.is_none());
    match (value, ids) {
        (Some(value), None) => Ok((id, Content::Text(json::text_of(value, text, name)?))),
        (None, Some(ids)) => Ok((id, Content::Ids(json::ids_of(ids, text, "input_ids")?))),
        (Some(_), Some(_)) => Err(Fault::new(0, "the record has both `text` and `input_ids`")),
        (None, None) => {
            let missing = match column {
                Some(column) => format!("the record has no `{column}`"),
                None => "the record has neither `text` nor `input_ids`".to_owned(),
            };
            let advice = source.advice("--column names the field that holds the text");
            let found = if others.is_empty() { String::new() } else { format!(", but {}{advice}", listed(&others)) };
            Err(Fault::new(0, format!("{missing}{found}")))
        }
    }
}

/// The next row of a table as a record. `columns` are those of the id and of the text, once the header has been read.
pub(super) fn of_row<R: BufRead>(
    table: &mut Table<R>,
    columns: &mut Option<[Option<usize>; 2]>,
    column: Option<&str>,
) -> Result<Option<Record>> {
    let [id, text] = match columns {
        Some(columns) => *columns,
        None => {
            let name = column.unwrap_or(TEXT);
            let Some(found) = table.columns(["id", name])? else { return Ok(None) };
            *columns.insert(found)
        }
    };
    let Some(text) = text else {
        let advice = table.source.advice("--column names the one that holds the text");
        let what = format!("no column `{}` in the header: {}{advice}", column.unwrap_or(TEXT), table.names());
        return Err(table.source.refuse(1, what));
    };
    let Some((line, mut row)) = table.next()? else { return Ok(None) };
    let quoted = |id: &String| serde_json::value::to_raw_value(id).ok();
    let id = id.filter(|id| *id != text).and_then(|id| row.get(id)).and_then(quoted);
    let content = Content::Text(std::mem::take(&mut row[text]));
    Ok(Some(Record { id, content, line }))
}
