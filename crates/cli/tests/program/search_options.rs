//! Options of `index`, `search`, `get`, `delete`, `export` and `eval`: those without effect and those that cannot be honoured are refused by
//! name. Input from a pipe, and the wording of what is printed.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use crate::search::{Fixture, keys};

#[test]
fn options_without_effect_are_refused_by_name() {
    let fixture = Fixture::new();
    fs::write(fixture.path("queries.jsonl"), "{\"id\": \"q\", \"text\": \"soup\"}\n").unwrap();
    for (args, expected) in [
        (&["search", "INDEX", "x", "--run", "r"][..], "--run has no effect with a question on the command line"),
        (&["search", "INDEX", "x", "--queries", "queries.jsonl"], "--queries has no effect with a question"),
        (&["search", "INDEX", "--run", "r"], "--run has no effect without --queries"),
        (
            &["search", "INDEX", "--queries", "queries.jsonl", "--explain"],
            "--explain has no effect with --queries without --json",
        ),
        (
            &["search", "INDEX", "--queries", "queries.jsonl", "--snippets"],
            "--snippets has no effect with --queries without",
        ),
        (
            &["search", "INDEX", "--queries", "queries.jsonl", "--run", "r", "--json"],
            "--json has no effect beside --run",
        ),
        (&["search", "INDEX", "x", "--explain", "--snippets"], "--snippets has no effect beside --explain"),
        (&["search", "INDEX", "x", "--reranker-top", "3"], "--reranker-top has no effect without --reranker"),
        (&["search", "INDEX", "x", "--arms", "dense", "--lang", "en"], "--lang has no effect with --arms without bm25"),
        (
            &["search", "INDEX", "x", "--reranker", "m", "--reranker-top", "0"],
            "--reranker-top: found 0, expected 1 to 10,000",
        ),
        (
            &["search", "INDEX", "x", "--reranker", "m", "--reranker-top", "10001"],
            "--reranker-top: found 10,001, expected 1 to 10,000",
        ),
        (&["index", "INDEX", "--stats", "--input", "docs.jsonl"], "--input has no effect beside --stats"),
        (&["index", "INDEX", "--stats", "--check"], "--check has no effect beside --stats"),
        (&["index", "INDEX", "--check", "--colbert", "8"], "--colbert has no effect beside --check"),
        (&["index", "INDEX", "--compact", "--chunk", "64"], "--chunk has no effect beside --compact"),
        (&["index", "INDEX", "--snapshot", "copy", "--threads", "2"], "--threads has no effect beside --snapshot"),
        (
            &["index", "INDEX", "--input", "docs.jsonl", "--cache-size", "2GiB"],
            "--cache-size has no effect without --cache",
        ),
        (
            &["index", "new", "--input", "docs.jsonl", "--language", "en", "--languages", "en,de"],
            "--languages has no effect beside --language",
        ),
        (
            &["index", "new", "--input", "docs.jsonl", "--format", "txt", "--key", "k"],
            "--key has no effect with --format txt",
        ),
        (&["get", "INDEX", "soup", "--filter", "year > 1"], "--filter has no effect with keys on the command line"),
        (&["delete", "INDEX", "soup", "--filter", "year > 1"], "--filter has no effect with keys on the command line"),
        (
            &["export", "INDEX", "--to", "npy", "-o", "out", "--threads", "2"],
            "--threads has no effect with a command that loads no",
        ),
    ] {
        let said = fixture.fails(2, args);
        assert!(said.contains(expected), "{args:?}: {said}");
    }
    assert!(!fixture.path("new").exists() && !fixture.path("copy").exists() && !fixture.path("r").exists());
    fixture.ok(&["get", "INDEX", "soup"]);
    // Variables may be set for other commands, so these are accepted.
    for (variables, args) in [
        (&[("TRIVEC_QUERIES", "nowhere"), ("TRIVEC_RUN", "r")][..], &["search", "INDEX", "soup"][..]),
        (&[("TRIVEC_RUN", "r")], &["search", "INDEX", "soup"]),
        (&[("TRIVEC_JSON", "1")], &["search", "INDEX", "--queries", "queries.jsonl", "--run", "run"]),
        (&[("TRIVEC_GET_FILTER", "year > 3000")], &["get", "INDEX", "soup"]),
        (&[("TRIVEC_INDEX_INPUT", "nowhere"), ("TRIVEC_COLBERT", "8")], &["index", "INDEX", "--stats"]),
        (&[("TRIVEC_COLBERT", "8")], &["index", "INDEX", "--input", "docs.jsonl"]),
        // Variables of `embed`, `score`, `pull` and `search` are not read here: the options of these names have other variables.
        (
            &[("TRIVEC_FORMAT", "npy"), ("TRIVEC_INPUT", "nowhere"), ("TRIVEC_MAX_LENGTH", "9"), ("TRIVEC_FORCE", "1")],
            &["index", "INDEX", "--input", "docs.jsonl"],
        ),
        (
            &[("TRIVEC_QUERY_PROMPT", "none such"), ("TRIVEC_DOCUMENT_PROMPT", "none such")],
            &["index", "INDEX", "--input", "docs.jsonl"],
        ),
        (
            &[("TRIVEC_FILTER", "year > 3000"), ("TRIVEC_OUTPUT", "vectors.jsonl")],
            &["export", "INDEX", "--to", "npy", "-o", "exported"],
        ),
    ] {
        let output = fixture.command(args).arg("-q").envs(variables.iter().copied()).output().unwrap();
        assert!(output.status.success(), "{variables:?} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(fixture.path("run").exists() && !fixture.path("r").exists());
    let manifest = fs::read_to_string(fixture.path("exported").join("manifest.json")).unwrap();
    assert!(!manifest.contains("\"documents\": 0") && !manifest.contains("\"documents\":0"), "{manifest}");
    // The filter of searches is not that of `delete` or `get`, and the output of `embed` is not that of `export` or `pack`.
    let before = fixture.ok(&["get", "INDEX", "--filter", "year > 0"]);
    for args in [&["delete", "INDEX"][..], &["get", "INDEX"], &["export", "INDEX", "--to", "npy"], &["pack"]] {
        let output = fixture.command(args).env("TRIVEC_FILTER", "year > 0").env("TRIVEC_OUTPUT", "o").output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(!before.is_empty() && fixture.ok(&["get", "INDEX", "--filter", "year > 0"]) == before);
}

#[test]
fn options_that_differ_from_those_an_index_was_made_with_are_refused() {
    let fixture = Fixture::new();
    fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
        [&["index", "made", "--input", "docs.jsonl"][..], more].concat()
    }
    let as_made = [
        &["--colbert", "8", "--max-length", "40", "--languages", "de,en", "--document-prompt", "passage: "][..],
        &["--query-prompt", "query: "],
    ]
    .concat();
    fixture.ok(&with(&as_made));
    // Without these options, or with the same values, documents are added.
    fixture.ok(&with(&[]));
    fixture.ok(&with(&as_made));
    fixture.ok(&with(&["--languages", "EN,de-AT"]));
    for (option, value, expected) in [
        ("--colbert", "4", "found 4, but the index made was made with 8"),
        ("--colbert", "off", "found off, but the index made was made with 8"),
        ("--max-length", "41", "found 41, but the index made was made with 40"),
        ("--languages", "de", "found de, but the index made was made with de,en"),
        ("--language", "de", "found de, but the index made was made with none"),
        ("--document-prompt", "", "found ``, but the index made was made with `passage: `"),
        ("--query-prompt", "question: ", "found `question: `, but the index made was made with `query: `"),
    ] {
        let said = fixture.fails(2, &with(&[option, value]));
        assert!(said.contains(&format!("{option}: {expected}")), "{option} {value}: {said}");
    }
    // A run that indexed nothing, whatever the reason, decides nothing: options and model are the next run's.
    fs::write(fixture.path("empty.jsonl"), "").unwrap();
    fs::write(fixture.path("bad.jsonl"), "{\"id\": \"a\"}\n").unwrap();
    let dense = trivec_testing::data("models/noheads-h64");
    let dense = dense.to_str().unwrap();
    for (at, (first, code)) in [("empty.jsonl", 0), ("bad.jsonl", 3)].into_iter().enumerate() {
        for (more, colbert) in [(&as_made[..], "eight"), (&["--colbert", "2"][..], "two")] {
            let unused = format!("unused{at}{colbert}");
            let run = |input: &str, more: &[&str]| {
                let output = fixture.command(&[&["-q", "index", &unused, "--input", input], more].concat()).output();
                let output = output.unwrap();
                let said = String::from_utf8(output.stderr).unwrap();
                (output.status.code(), said)
            };
            assert_eq!(run(first, &["--model", dense, "--colbert", "off"]).0, Some(code));
            assert_eq!(
                run(first, &["--max-length", "99", "--language", "fr", "--document-prompt", "x "]).0,
                Some(code)
            );
            let (code, said) = run("docs.jsonl", more);
            assert_eq!(code, Some(0), "{said}");
            assert_eq!(fixture.json(&["index", &unused, "--stats", "--json"])["colbert"], colbert);
            let (code, said) = run(first, &["--max-length", "99"]);
            assert!(code == Some(2) && said.contains("was made with"), "{said}");
        }
    }
    // An index that was made without these options accepts their default values.
    let defaults = ["index", "INDEX", "--input", "docs.jsonl", "--colbert", "4", "--document-prompt", ""];
    fixture.ok(&defaults);
    assert!(
        fixture.fails(2, &["index", "INDEX", "--input", "docs.jsonl", "--max-length", "40"]).contains("was made with")
    );
}

#[test]
fn options_that_an_index_cannot_have_are_refused_before_it_is_created() {
    let fixture = Fixture::new();
    let dense = trivec_testing::data("models/noheads-h64");
    let dense = dense.to_str().unwrap();
    for (more, expected) in [
        (&["--max-length", "1"][..], "--max-length: "),
        (&["--max-length", "1000000"], "--max-length: "),
        (&["--language", "xx"], "--language: found `xx`, expected the code of a language"),
        (&["--language", "german"], "--language: found `german`"),
        (&["--languages", "de,xx"], "--languages: found `xx`"),
        (&["--languages", "lo"], "--languages: found `lo`, a language that no text is found to be in"),
        (&["--model", dense, "--colbert", "4"], "--colbert has no effect with a model that has no ColBERT vectors"),
    ] {
        let said = fixture.fails(2, &[&["index", "new", "--input", "docs.jsonl"][..], more].concat());
        assert!(said.contains(expected), "{more:?}: {said}");
        assert!(!fixture.path("new").exists(), "{more:?}");
    }
    // With an index of a model without heads, nothing can be reranked by ColBERT or found by lexical weights alone.
    fixture.ok(&["index", "dense", "--input", "docs.jsonl", "--model", dense]);
    let search = |more: &[&str]| fixture.fails(2, &[&["search", "dense", "soup", "--model", dense][..], more].concat());
    assert!(search(&["--rerank", "10"]).contains("--rerank has no effect with an index that has no ColBERT vectors"));
    assert!(search(&["--arms", "sparse"]).contains("--arms: found sparse alone, but the index has no lexical weights"));
    fixture.ok(&["search", "dense", "soup", "--model", dense, "--rerank", "0"]);
}

#[test]
fn empty_questions_and_impossible_language_codes_are_refused() {
    let fixture = Fixture::new();
    for empty in ["", "  \n"] {
        assert!(fixture.fails(2, &["search", "INDEX", empty]).contains("the question is empty"));
    }
    fs::write(fixture.path("empty.jsonl"), "{\"id\": \"q\", \"text\": \"  \"}\n").unwrap();
    assert!(fixture.fails(3, &["search", "INDEX", "--queries", "empty.jsonl"]).contains("empty.jsonl, line 1"));
    for code in ["xx", "english", ""] {
        let said = fixture.fails(2, &["search", "INDEX", "soup", "--lang", code]);
        assert!(said.contains(&format!("--lang: found `{code}`")) && said.contains("the index has de, en"), "{said}");
    }
    // Two letters must be a code of ISO 639-1; any three letters are accepted.
    for code in ["en", "de-AT", "lo", "cmn"] {
        fixture.ok(&["search", "INDEX", "soup", "--lang", code]);
    }
    fs::write(fixture.path("odd.jsonl"), "{\"id\": \"q7\", \"text\": \"soup\", \"lang\": \"xx\"}\n").unwrap();
    fs::write(fixture.path("qrels"), "q7 0 soup 1\n").unwrap();
    for args in [
        &["search", "INDEX", "--queries", "odd.jsonl"][..],
        &["eval", "INDEX", "--queries", "odd.jsonl", "--qrels", "qrels"],
    ] {
        let said = fixture.fails(3, args);
        assert!(said.contains("odd.jsonl: the language of the question `q7`: found `xx`"), "{said}");
    }
    // Any other code is accepted if documents of the index have it.
    fs::write(fixture.path("own.jsonl"), "{\"id\": \"own\", \"text\": \"tlhIngan Hol\", \"lang\": \"klingon\"}\n")
        .unwrap();
    fixture.ok(&["index", "INDEX", "--input", "own.jsonl"]);
    fixture.ok(&["search", "INDEX", "Hol", "--lang", "klingon"]);
}

#[test]
fn a_question_that_is_cut_is_reported() {
    let fixture = Fixture::new();
    fixture.ok(&["index", "short", "--input", "docs.jsonl", "--max-length", "8"]);
    let long = "a soup of carrots and leek that is cooked for half an hour";
    fs::write(fixture.path("queries.tsv"), format!("1\tsoup\n2\t{long}\n")).unwrap();
    let told = |args: &[&str]| {
        let output = fixture.command(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let cut = "longer than the maximum length of the index";
    assert!(told(&["search", "short", long]).1.contains(cut));
    assert!(!told(&["search", "short", "soup"]).1.contains(cut));
    assert!(told(&["search", "short", "--queries", "queries.tsv"]).1.contains(&format!("1 question: {cut}")));
    let json = |query: &str| -> Value { serde_json::from_str(&told(&["search", "short", query, "--json"]).0).unwrap() };
    assert_eq!(json(long)["query_truncated"], true);
    assert_eq!(json("soup")["query_truncated"], false);
    assert_eq!(keys(&json("soup"))[0], "soup");
}

#[test]
fn a_snippet_of_right_to_left_script_is_isolated_as_a_whole() {
    let fixture = Fixture::new();
    let text = "הרכבת הלילית לתל אביב יוצאת בשעה עשר";
    fs::write(fixture.path("he.jsonl"), format!("{{\"id\": \"night\", \"text\": \"{text}\"}}\n")).unwrap();
    fixture.ok(&["index", "he", "--input", "he.jsonl"]);
    let output = fixture.command(&["search", "he", "הרכבת לתל אביב", "--snippets"]).output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains(&format!("\u{2068}{text}\u{2069}")), "{shown:?}");
}

#[test]
fn refused_documents_are_reported_even_with_quiet() {
    let fixture = Fixture::new();
    fs::write(fixture.path("bad.jsonl"), "{\"id\": \"a\", \"text\": 1}\n").unwrap();
    let output = fixture.command(&["-q", "index", "bad", "--input", "bad.jsonl"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(3) && said.contains("bad.jsonl, line 1"), "{said}");
}

#[test]
fn documents_come_from_standard_input() {
    let fixture = Fixture::new();
    let index = |args: &[&str], input: &str| {
        let mut command = fixture.command(&[&["-q", "index"], args].concat());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // The program may end before it has read everything, so an error of writing is ignored.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said, _) = index(&["INDEX", "--input", "-"], "{\"id\": \"piped\", \"text\": \"from a pipe\"}\n");
    assert!(code == Some(0) && said.contains("1 added"), "{said}");
    assert_eq!(fixture.json(&["get", "INDEX", "piped"])["text"], "from a pipe");
    let (code, said, _) = index(&["INDEX", "--input", "-", "--format", "csv"], "id,text\nrow,of a table\n");
    assert!(code == Some(0) && said.contains("1 added"), "{said}");
    let (code, _, said) = index(&["INDEX", "--input", "-"], "{\"id\": \"a\", \"text\": \"b\"}\nnonsense\n");
    assert!(code == Some(3) && said.contains("1 document was refused; the other one is indexed"), "{said}");
    // A table is recognised by its columns, in a pipe with a path too.
    let inputs: &[&str] = if cfg!(unix) { &["-", "/dev/stdin"] } else { &["-"] };
    for (at, input) in inputs.iter().enumerate() {
        for (line, content) in [
            format!("id;text\nt{at};a table\n"),
            format!("text\tid\na table\tu{at}\n"),
            format!("[{{\"id\": \"v{at}\", \"text\": \"a list\"}}]"),
        ]
        .iter()
        .enumerate()
        {
            let (code, said, wrong) = index(&["INDEX", "--input", input], content);
            assert!(code == Some(0) && said.contains("1 document read, 1 added"), "{input} {line}: {said}{wrong}");
        }
    }
    let mut command = fixture.command(&["index", "INDEX", "--input", "bad.jsonl"]);
    fs::write(fixture.path("bad.jsonl"), "nonsense\n{}\n").unwrap();
    let said = String::from_utf8(command.output().unwrap().stderr).unwrap();
    assert!(said.contains("2 documents were refused; none is indexed"), "{said}");
    for (args, expected) in [
        (&["new", "--input", "-", "--format", "txt"][..], "--format: a text's key is its file's name"),
        (&["new", "--input", "-", "--format", "parquet"], "--format: Parquet"),
        (&["new", "--input", "-", "--input", "-"], "--input: standard input (-) is given twice"),
    ] {
        let (code, _, said) = index(args, "");
        assert!(code == Some(2) && said.contains(expected), "{args:?}: {said}");
    }
    assert!(!fixture.path("new").exists());
    let help = fixture.ok(&["index", "--help"]);
    assert!(help.contains("- for standard input") && help.contains("parquet") == cfg!(feature = "parquet"), "{help}");
}

#[test]
fn what_is_missing_is_named_with_all_that_would_do() {
    let fixture = Fixture::new();
    for (args, expected) in [
        (&["get", "INDEX"][..], &["KEY", "--filter <FILTER>"][..]),
        (&["delete", "INDEX"], &["KEY", "--filter <FILTER>"]),
        #[cfg(feature = "train")]
        (&["train", "-o", "m"], &["--pairs <PATH>", "--documents <FILE>"]),
        #[cfg(feature = "train")]
        (&["train", "--pairs", "p"], &["--output <PATH>", "--ablation"]),
    ] {
        let said = fixture.fails(2, args);
        let (first, usage) = said.split_once("Usage:").unwrap();
        assert!(expected.iter().all(|name| first.contains(name) && usage.contains(name)), "{args:?}: {said}");
    }
    // Either does, from the environment too.
    let get =
        |filter: &str| fixture.command(&["-q", "get", "INDEX"]).env("TRIVEC_GET_FILTER", filter).output().unwrap();
    assert!(
        get("year = 2020").status.success() && String::from_utf8_lossy(&get("year = 2020").stdout).contains("soup")
    );
    assert!(fixture.ok(&["get", "INDEX", "buch"]).contains("Buch"));
}

#[test]
fn what_has_nothing_in_it_is_said_to_be_empty() {
    let fixture = Fixture::new();
    fs::write(fixture.path("empty.jsonl"), "\n").unwrap();
    fixture.ok(&["index", "none", "--input", "empty.jsonl"]);
    for (args, expected) in [
        (&["search", "INDEX", "--queries", "empty.jsonl"][..], "empty.jsonl: no query in it"),
        (&["eval", "INDEX", "--queries", "empty.jsonl", "--qrels", "empty.jsonl"], "empty.jsonl: no query in it"),
        (
            &["export", "none", "--to", "qdrant", "-o", "out"],
            "none: the index has no documents, so there is nothing to export",
        ),
        (
            &["export", "none", "--to", "npy", "-o", "out", "--filter", "not (year = 1)"],
            "none: the index has no documents",
        ),
        (&["export", "INDEX", "--to", "npy", "-o", "out", "--filter", "year = 1"], "no document matches the filter"),
    ] {
        let output = fixture.run(args);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(matches!(output.status.code(), Some(2 | 3)) && said.contains(expected), "{args:?}: {said}");
        assert!(!fixture.path("out").exists(), "{args:?}");
    }
}

#[test]
fn texts_of_several_lines_are_shown_on_one_and_small_files_have_a_size() {
    let fixture = Fixture::new();
    let text = "Leeks are\\r\\nwashed.\\n\\n\\tThen the   leeks\\nare cooked.\\n";
    fs::write(fixture.path("lines.jsonl"), format!("{{\"id\": \"leeks\", \"text\": \"{text}\"}}\n")).unwrap();
    fixture.ok(&["index", "lines", "--input", "lines.jsonl"]);
    let plain = fixture.ok(&["search", "lines", "leeks"]);
    assert!(plain.contains("\n     Leeks are washed. Then the leeks are cooked.\n"), "{plain}");
    let why = fixture.ok(&["search", "lines", "cooked leeks", "--explain"]);
    assert!(why.contains("are cooked.") && !why.contains("\\n") && !why.contains("\\t"), "{why}");
    for said in [fixture.ok(&["index", "lines", "--stats"]), fixture.ok(&["index", "lines", "--check"])] {
        assert!(said.contains(" B") || said.contains(" kB"), "{said}");
        assert!(!said.contains(" 0.0 "), "{said}");
    }
    let exported = fixture.ok(&["export", "lines", "--to", "npy", "-o", "out"]);
    assert!(exported.contains(" kB\n") && !exported.contains(" 0.0 "), "{exported}");
}

#[test]
fn stats_eval_and_export_print_readable_words() {
    let fixture = Fixture::new();
    fs::write(fixture.path("odd.jsonl"), "{\"id\": \"odd\", \"text\": \"12 345 !\"}\n").unwrap();
    fixture.ok(&["index", "INDEX", "--input", "odd.jsonl"]);
    let stats = fixture.ok(&["index", "INDEX", "--stats"]);
    assert!(stats.contains("languages de, en, not known"), "{stats}");
    // An error names the option, and no number is printed as -0.0.
    fs::write(fixture.path("queries.tsv"), "q\tsoup of carrots\nr\tunheard of\n").unwrap();
    fs::write(fixture.path("none"), "").unwrap();
    let eval = ["eval", "INDEX", "--queries", "queries.tsv", "--qrels"];
    let said = fixture.fails(2, &[&eval[..], &["none"]].concat());
    assert!(said.contains("--qrels: no query has a document that is judged relevant"), "{said}");
    fs::write(fixture.path("qrels"), "q 0 soup 1\n").unwrap();
    let table = fixture.ok(&[&eval[..], &["qrels"]].concat());
    assert!(!table.contains("-0.0") && table.contains("1 question (1 more without a relevant document"), "{table}");
    let help = fixture.ok(&["export", "--help"]);
    assert!(help.contains("opensearch") && help.contains("parquet") == cfg!(feature = "parquet"), "{help}");
    let said = fixture.fails(2, &["export", "INDEX", "--to", "nowhere", "-o", "out"]);
    assert!(said.contains("opensearch") && said.contains("parquet") == cfg!(feature = "parquet"), "{said}");
}
