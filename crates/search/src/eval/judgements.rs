//! Reads queries and judgements from files in the formats of TREC, BEIR and MIRACL.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use serde_json::Value;
use trivec::numbers::grouped;
use trivec::records::{Record, Records};

use crate::analyze::is_blank;
use crate::error::{Error, Result};
use crate::ingest::{MAX_RECORD_BYTES, error_of, is_exact};

/// Largest file of queries or judgements, in bytes.
const MAX_BYTES: u64 = 1 << 30;

/// A query of an evaluation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The name by which judgements refer to it.
    pub id: String,
    /// Its text.
    pub text: String,
    /// Its language, if the file names it.
    pub lang: Option<String>,
}

/// Which documents are relevant to which queries, and how much: by query and document, a gain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judgements(BTreeMap<String, BTreeMap<String, i32>>);

impl Judgements {
    /// Adds a judgement, or replaces the one of the same query and document. A document with a gain above 0 is relevant.
    pub fn insert(&mut self, query: impl Into<String>, document: impl Into<String>, gain: i32) {
        self.0.entry(query.into()).or_default().insert(document.into(), gain);
    }

    /// The gain of a document for a query; 0 if there is no judgement.
    pub fn of(&self, query: &str, document: &str) -> i32 {
        self.given(query, document).unwrap_or(0)
    }

    fn given(&self, query: &str, document: &str) -> Option<i32> {
        self.0.get(query)?.get(document).copied()
    }

    /// The gains of all documents that are judged for a query.
    pub fn gains(&self, query: &str) -> impl Iterator<Item = i32> + '_ {
        self.0.get(query).into_iter().flat_map(|documents| documents.values().copied())
    }

    /// The relevant documents of a query.
    pub fn relevant(&self, query: &str) -> impl Iterator<Item = &str> {
        let documents = self.0.get(query).into_iter().flatten();
        documents.filter(|(_, gain)| **gain > 0).map(|(document, _)| document.as_str())
    }

    /// The number of queries that have a judgement.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no judgement.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The records of a file, each with its line number: the lines that are not blank, or the elements of a JSON list.
fn records(path: &Path) -> Result<Vec<Record>> {
    let fail = |e| Error::io(path, e);
    let file = File::open(path).map_err(fail)?;
    let bytes = file.metadata().map_err(fail)?.len();
    if bytes > MAX_BYTES {
        return Err(Error::Line {
            path: path.to_path_buf(),
            line: 1,
            what: format!("{} bytes, expected at most {}", grouped(bytes), grouped(MAX_BYTES)),
        });
    }
    let records = Records::new(BufReader::new(file.take(MAX_BYTES)), MAX_RECORD_BYTES);
    records.map(|record| record.map_err(|problem| error_of(problem, path))).collect()
}

/// Reads queries. Each is either a JSON object, in JSON Lines or a JSON list, with `_id` or `id`, `text` and perhaps `lang` (BEIR); or a
/// line with its id, a tab and its text (MIRACL's and TREC's topics).
///
/// # Errors
/// [`Error::Line`] names the line that is neither, that has a blank text, or whose id an earlier line has; [`Error::NothingToRead`] for a file
/// without a query; [`Error::Io`].
pub fn read_queries(path: &Path) -> Result<Vec<Question>> {
    let mut questions: Vec<Question> = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for Record { line, text: content } in records(path)? {
        let wrong = |what: String| Error::Line { path: path.to_path_buf(), line, what };
        let question = if content.trim_start().starts_with('{') {
            let object: Value =
                trivec::json::read(&content).map_err(|e| wrong(trivec::json::fault_in_line(&content, &e)))?;
            let named = |names: &[&str]| {
                names.iter().find_map(|name| match object.get(name)? {
                    Value::String(text) => Some(text.clone()),
                    Value::Number(number) if is_exact(number) => Some(number.to_string()),
                    _ => None,
                })
            };
            let id = named(&["_id", "id", "query_id", "qid"]).ok_or_else(|| wrong("it has no `id`".to_owned()))?;
            let text = named(&["text", "query", "question"]).ok_or_else(|| wrong("it has no `text`".to_owned()))?;
            Question { id, text, lang: named(&["lang", "language"]) }
        } else {
            let (id, text) =
                content.split_once('\t').ok_or_else(|| wrong("expected a name, a tab and the text".to_owned()))?;
            Question { id: id.trim().to_owned(), text: text.trim().to_owned(), lang: None }
        };
        if is_blank(&question.text) || !seen.insert(question.id.clone()) {
            return Err(wrong(format!("the query `{}` is empty or was there before", question.id.escape_debug())));
        }
        questions.push(question);
    }
    if questions.is_empty() {
        let what =
            "no query in it, expected JSON with `id` and `text`, or a name, a tab and the text a line".to_owned();
        return Err(Error::NothingToRead { path: path.to_path_buf(), what });
    }
    Ok(questions)
}

/// The query, document and gain of a line of judgements, or how many fields it has.
fn fields(content: &str) -> Result<(&str, &str, &str), usize> {
    // In a line with tabs only tabs separate the fields, because keys may have spaces.
    let fields: Vec<&str> = if content.contains('\t') {
        content.split('\t').map(str::trim).collect()
    } else {
        content.split_whitespace().collect()
    };
    match fields.as_slice() {
        [query, document, gain] | [query, _, document, gain] => Ok((query, document, gain)),
        _ => Err(fields.len()),
    }
}

/// Reads judgements, one a line: `query 0 document gain` (TREC, MIRACL) or `query document gain` (BEIR), separated by tabs or spaces. The
/// first line may have the names of the columns instead. It counts as such if its last field is no number and its first is no id in
/// `questions`.
///
/// # Errors
/// [`Error::Line`] names a line that is none of these, or that gives a document another gain than an earlier line; [`Error::Io`].
pub fn read_judgements(path: &Path, questions: &[Question]) -> Result<Judgements> {
    let mut judgements = Judgements::default();
    let records = records(path)?;
    for (place, Record { line, text: content }) in records.iter().enumerate() {
        let wrong = |what: String| Error::Line { path: path.to_path_buf(), line: *line, what };
        let (query, document, gain) = fields(content).map_err(|found| {
            wrong(format!("fields: found {found}, expected `query 0 document gain` or `query document gain`"))
        })?;
        // Gains are whole numbers; some files write them as `1.0`.
        match gain.parse::<f64>() {
            Ok(gain) if gain.fract() == 0.0 && gain.abs() < 1e6 => {
                let gain = gain as i32;
                if let Some(before) = judgements.given(query, document).filter(|before| *before != gain) {
                    let same = |own: &&Record| fields(&own.text).is_ok_and(|(q, d, _)| (q, d) == (query, document));
                    let first = records.iter().find(same).map_or(*line, |own| own.line);
                    let (query, document) = (query.escape_debug(), document.escape_debug());
                    return Err(wrong(format!(
                        "the gain of `{document}` for `{query}` is {gain}, and {before} in line {first}: expected one"
                    )));
                }
                judgements.insert(query, document, gain);
            }
            Err(_) if place == 0 && !gain.is_empty() && questions.iter().all(|question| question.id != query) => {}
            _ => return Err(wrong(format!("the gain is `{}`, expected a whole number", gain.escape_debug()))),
        }
    }
    Ok(judgements)
}

/// A line of a run in TREC's format: `query Q0 document rank score tag`. White space in the names becomes `_`, because it would separate
/// fields.
pub fn run_line(query: &str, document: &str, rank: u32, score: f32, tag: &str) -> String {
    let plain = |name: &str| name.chars().map(|c| if c.is_whitespace() { '_' } else { c }).collect::<String>();
    format!("{} Q0 {} {rank} {score} {}", plain(query), plain(document), plain(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: impl AsRef<[u8]>) -> (tempfile::TempDir, std::path::PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, content).unwrap();
        (directory, path)
    }

    #[test]
    fn judgements_of_all_layouts() {
        for content in [
            "q1 0 d1 1\nq1 0 d2 0\nq2 0 d 3 2\n".replace("d 3", "d3"),
            "q1\t0\td1\t1\r\nq1\tQ0\td2\t0\r\n\r\nq2\t0\td3\t2".to_owned(),
            "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\t0\nq2\td3\t2.0\n".to_owned(),
        ] {
            let (_directory, path) = file(&content);
            let judgements = read_judgements(&path, &[]).unwrap();
            assert_eq!((judgements.len(), judgements.of("q1", "d1"), judgements.of("q2", "d3")), (2, 1, 2));
            assert_eq!(judgements.relevant("q1").collect::<Vec<_>>(), ["d1"]);
            assert_eq!(judgements.gains("q1").count(), 2);
        }
        let (_directory, path) = file("query-id\tcorpus-id\tscore\nq1\td 1\tx\n");
        assert!(read_judgements(&path, &[]).unwrap_err().to_string().contains("line 2: the gain is `x`"));
        let (_directory, path) = file("q1 d1\n");
        assert!(read_judgements(&path, &[]).is_err());
    }

    #[test]
    fn a_document_that_is_judged_twice_has_one_gain() {
        let read = |content: &str| {
            let (_directory, path) = file(content);
            read_judgements(&path, &[]).map(|own| own.of("q 1", "d")).map_err(|e| e.to_string())
        };
        for same in ["q 1\td\t2\nq 1\td\t2\n", "q 1\t0\td\t2\nq 1\td\t2.0\n", "q 1\td\t2\nq 2\td\t1\nq 1\te\t1\n"] {
            assert_eq!(read(same), Ok(2), "{same}");
        }
        for (content, line, found, before, first) in [
            ("q 1\td\t2\nq 1\td\t1\n", 2, 1, 2, 1),
            ("query\tdocument\tgain\n\nq 1\te\t1\nq 1\td\t0\nq 2\td\t1\n\nq 1\td\t1\n", 7, 1, 0, 4),
            ("q 1\t0\td\t-1\nq 1\td\t1.0\n", 2, 1, -1, 1),
            ("q 1\td\t0\nq 1\td\t0\nq 1\tQ0\td\t3\n", 3, 3, 0, 1),
        ] {
            let expected = format!("line {line}: the gain of `d` for `q 1` is {found}, and {before} in line {first}");
            let error = read(content).unwrap_err();
            assert!(error.contains(&expected), "{content}: {error}");
        }
    }

    #[test]
    fn a_file_without_queries_is_refused() {
        for content in ["", "\n \r\n", "\u{feff}", "[]", "[\n]\n"] {
            let (_directory, path) = file(content);
            let error = read_queries(&path).unwrap_err();
            assert!(matches!(error, Error::NothingToRead { .. }), "{content:?}: {error}");
            assert!(error.to_string().contains("no query in it"), "{error}");
        }
    }

    #[test]
    fn the_first_line_may_have_the_names_of_the_columns_and_else_must_be_a_judgement() {
        let questions = ["q1", "qid"].map(|id| Question { id: id.into(), text: "was".into(), lang: None });
        let read = |first: &str| {
            let (_directory, path) = file(format!("{first}\nq1\td2\t2\n"));
            let judgements = read_judgements(&path, &questions);
            judgements.map(|own| (own.len(), own.gains("q1").count())).map_err(|e| e.to_string())
        };
        for names in [
            "query-id\tcorpus-id\tscore",
            "query_id corpus_id score",
            "query-id 0 doc-id rel",
            "topic\titeration\tdocument\trelevance",
            "Frage\tDokument\tWert",
            "\n\nquery-id\tcorpus-id\tscore",
        ] {
            assert_eq!(read(names), Ok((1, 1)), "{names}");
        }
        for (bad, gain) in [
            ("q1\td1\thigh", "high"),
            ("q1 0 d1 x", "x"),
            ("q1\td1\t", ""),
            ("q1\td1\t1,0", "1,0"),
            ("q9\td1\t", ""),
            // A question's id may be what columns are often called: then the line is a judgement.
            ("qid\tdocid\tscore", "score"),
            // The last field is a number, but none that a gain may be.
            ("q9 0 d1 1.5", "1.5"),
            ("q9 0 d1 nan", "nan"),
            ("q9 0 d1 1e9", "1e9"),
        ] {
            let expected = format!("line 1: the gain is `{gain}`, expected a whole number");
            assert!(read(bad).unwrap_err().ends_with(&expected), "{bad}: {:?}", read(bad));
        }
        assert_eq!(read("q1\td1\t1.0"), Ok((1, 2)));
    }

    #[test]
    fn queries_of_both_layouts() {
        let expected =
            |lang: Option<&str>| Question { id: "7".into(), text: "was ist das".into(), lang: lang.map(str::to_owned) };
        let (_directory, path) = file("\u{feff}{\"_id\": 7, \"text\": \"was ist das\", \"lang\": \"de\"}\n\n");
        assert_eq!(read_queries(&path).unwrap(), [expected(Some("de"))]);
        let (_directory, path) = file("7\twas ist das\r\n8\tx\ty\n");
        let questions = read_queries(&path).unwrap();
        assert_eq!((&questions[0], questions[1].text.as_str()), (&expected(None), "x\ty"));
        let list = "[\n  {\"id\": 7, \"text\": \"was ist das\"},\n  {\"id\": 8, \"text\": \"x\"}\n]\n";
        let (_directory, path) = file(list);
        assert_eq!((read_queries(&path).unwrap().len(), &read_queries(&path).unwrap()[0]), (2, &expected(None)));
        let wide: Vec<u8> = "\u{feff}7\twas ist das\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let (_directory, path) = file(&wide);
        assert_eq!(read_queries(&path).unwrap(), [expected(None)]);
        let (_directory, path) = file(&wide[2..]);
        assert!(read_queries(&path).unwrap_err().to_string().contains("UTF-16LE without a byte order mark"));
        for bad in [
            "7\n",
            "{\"id\": 1}\n",
            "{\"id\": 1, \"text\": \"\"}",
            "{\"id\": 1, \"text\": \" \\n\"}",
            "{\"id\": 1, \"text\": \"\\u0000\\u200b\"}",
            "1\ta\n1\tb\n",
            "{\"id\": 1, \"text\": \"a\", \"text\": \"b\"}",
            "{bad}",
        ] {
            let (_directory, path) = file(bad);
            assert!(matches!(read_queries(&path), Err(Error::Line { .. })), "{bad}");
        }
    }

    #[test]
    fn run_lines_have_six_fields() {
        assert_eq!(run_line("q 1", "d\t2", 3, 0.5, "x"), "q_1 Q0 d_2 3 0.5 x");
    }
}
