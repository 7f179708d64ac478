//! `trivec index`, `search`, `get`, `delete`, `export`, `eval`: from a file of documents to hits and their explanation, also on a terminal.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;
use trivec_testing::program::trivec;

const DOCUMENTS: &str = r#"{"id": "phone", "text": "Apple has launched a new iPhone. It is sold from Friday on.", "lang": "en", "year": 2024}
{"id": "soup", "text": "A soup of carrots and leek is cooked for half an hour.", "lang": "en", "year": 2020}
{"id": "train", "text": "The night train to Vienna leaves at nine in the evening.", "lang": "en", "year": 2021}
{"id": "buch", "text": "Ich lese abends gern ein gutes Buch.", "lang": "de", "year": 2022}
"#;

/// A directory with an index, `notes`, of the four documents.
pub(crate) struct Fixture(TempDir);

impl Fixture {
    /// Indexes the documents with the starter.
    pub(crate) fn new() -> Fixture {
        let fixture = Fixture(tempfile::tempdir().unwrap());
        fs::write(fixture.path("docs.jsonl"), DOCUMENTS).unwrap();
        let said = fixture.ok(&["index", "INDEX", "--input", "docs.jsonl"]);
        assert!(said.contains("4 documents read, 4 added"), "{said}");
        fixture
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    /// A command that runs `trivec` in the fixture's directory; the argument `INDEX` stands for the index.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = trivec();
        command.current_dir(self.0.path()).args(args.iter().map(|arg| if *arg == "INDEX" { "notes" } else { arg }));
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).arg("-q").output().unwrap()
    }

    /// The standard output of a run with -q that must succeed.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(args)).unwrap()
    }

    /// The standard error of a run with -q that must end with this exit code.
    pub(crate) fn fails(&self, code: i32, args: &[&str]) -> String {
        let output = self.run(args);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        said
    }
}

/// The keys of the hits, in their order.
pub(crate) fn keys(found: &Value) -> Vec<&str> {
    found["hits"].as_array().unwrap().iter().map(|hit| hit["document"]["key"].as_str().unwrap()).collect()
}

#[test]
fn a_question_in_another_language_finds_its_document_and_says_why() {
    let fixture = Fixture::new();
    let found = fixture.json(&["search", "INDEX", "苹果公司发布新手机", "--json", "--explain"]);
    assert_eq!(keys(&found)[0], "phone");
    let why = &found["hits"][0]["explanation"];
    assert!(!why["alignment"].as_array().unwrap().is_empty() && !why["snippet"].as_array().unwrap().is_empty());
    let text = fixture.ok(&["search", "INDEX", "苹果公司发布新手机", "--explain"]);
    assert!(text.contains("phone") && text.contains("nearest:") && text.contains("word share 0.0"), "{text}");
    // Without a question on the command line, each line of standard input is one.
    let mut command = trivec();
    command.current_dir(fixture.0.path()).args(["-q", "search", "notes", "--top", "1"]);
    let input = fs::File::open({
        fs::write(fixture.path("questions"), "carrots\n\nWien mit dem Nachtzug\n").unwrap();
        fixture.path("questions")
    });
    let output = command.stdin(input.unwrap()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.find("soup").unwrap() < text.find("train").unwrap(), "{text}");
}

#[test]
fn filters_apply_and_deleted_documents_are_gone_until_indexed_again() {
    let fixture = Fixture::new();
    let found = fixture.json(&["search", "INDEX", "soup", "--json", "--filter", "year >= 2021 and lang = \"en\""]);
    assert!(!keys(&found).contains(&"soup") && !keys(&found).contains(&"buch"), "{found}");
    assert_eq!(fixture.json(&["get", "INDEX", "soup"])["metadata"]["year"], 2020);
    assert_eq!(fixture.json(&["delete", "INDEX", "soup", "not-there", "--json"])["deleted"], 1);
    assert!(fixture.fails(3, &["get", "INDEX", "soup"]).contains("soup"));
    assert!(!keys(&fixture.json(&["search", "INDEX", "soup of carrots", "--json"])).contains(&"soup"));
    // The same file is indexed again: the deleted document comes back, the others are unchanged.
    let again = fixture.json(&["index", "INDEX", "--input", "docs.jsonl", "--json"]);
    assert_eq!((&again["added"], &again["unchanged"]), (&1.into(), &3.into()), "{again}");
    fixture.ok(&["index", "INDEX", "--compact"]);
    let checked = fixture.json(&["index", "INDEX", "--check", "--json"]);
    assert_eq!((&checked["sound"], &checked["documents"]), (&true.into(), &4.into()), "{checked}");
    assert_eq!(fixture.json(&["index", "INDEX", "--stats", "--json"])["documents"], 4);
    fixture.ok(&["index", "INDEX", "--snapshot", "copy"]);
    assert_eq!(keys(&fixture.json(&["search", "copy", "carrots", "--json", "--top", "1"])), ["soup"]);
}

#[test]
fn a_file_of_questions_becomes_a_run_and_a_table() {
    let fixture = Fixture::new();
    fs::write(
        fixture.path("queries.jsonl"),
        "{\"id\": \"q1\", \"text\": \"carrots\"}\n{\"id\": \"q2\", \"text\": \"night train\"}\n",
    )
    .unwrap();
    fs::write(fixture.path("qrels"), "q1 0 soup 1\nq2 0 train 1\n").unwrap();
    fixture.ok(&["search", "INDEX", "--queries", "queries.jsonl", "--run", "out.trec", "--top", "2"]);
    let run = fs::read_to_string(fixture.path("out.trec")).unwrap();
    let lines: Vec<Vec<&str>> = run.lines().map(|line| line.split(' ').collect()).collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[0][..4], ["q1", "Q0", "soup", "1"]);
    assert_eq!(lines[2][..4], ["q2", "Q0", "train", "1"]);
    let report = fixture.json(&["eval", "INDEX", "--queries", "queries.jsonl", "--qrels", "qrels", "--json"]);
    assert_eq!(report["rankings"][0]["mrr"]["mean"], 1.0, "{report}");
    let table = fixture.ok(&["eval", "INDEX", "--queries", "queries.jsonl", "--qrels", "qrels", "--svg", "report.svg"]);
    assert!(table.contains("nDCG@10"));
    let svg = fs::read_to_string(fixture.path("report.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("share+colbert") && svg.contains("2 questions"), "{svg}");
}

#[test]
fn a_cache_gives_an_index_the_same_vectors() {
    let fixture = Fixture::new();
    let arms = |directory: &str| {
        let found = fixture.json(&["search", directory, "a soup in the train", "--json"]);
        found["hits"].as_array().unwrap().iter().map(|hit| hit["arms"].clone()).collect::<Vec<_>>()
    };
    let expected = arms("INDEX");
    for directory in ["computed", "looked-up"] {
        fixture.ok(&["index", directory, "--input", "docs.jsonl", "--cache", "embeddings.cache"]);
        assert_eq!(arms(directory), expected, "{directory}");
    }
    assert!(fixture.fails(2, &["index", "x", "--input", "docs.jsonl", "--cache-size", "2GiB"]).contains("--cache"));
}

#[test]
fn a_run_has_each_document_once_by_falling_score() {
    let fixture = Fixture::new();
    fs::write(
        fixture.path("long.jsonl"),
        DOCUMENTS.replace("Apple has", "Soup is good. Carrots are red. Leek is green. Apple has"),
    )
    .unwrap();
    fixture.ok(&["index", "chunks", "--input", "long.jsonl", "--chunk", "8"]);
    fs::write(fixture.path("queries.tsv"), "q1\tcarrots and a night train\nq2\tApple\n").unwrap();
    for (index, more) in [("INDEX", ["--rerank", "1"]), ("INDEX", ["--rerank", "0"]), ("chunks", ["--rerank", "2"])] {
        let run = fixture
            .ok(&[&["search", index, "--queries", "queries.tsv", "--run", "-", "--top", "50"][..], &more].concat());
        for query in ["q1", "q2"] {
            let lines: Vec<Vec<&str>> =
                run.lines().map(|line| line.split(' ').collect()).filter(|line: &Vec<&str>| line[0] == query).collect();
            let mut documents: Vec<&str> = lines.iter().map(|line| line[2]).collect();
            let scores: Vec<f32> = lines.iter().map(|line| line[4].parse().unwrap()).collect();
            assert!(scores.windows(2).all(|pair| pair[0] > pair[1]), "{index} {more:?}: {run}");
            assert!(lines.iter().zip(1..).all(|(line, rank)| line[3] == rank.to_string()), "{run}");
            documents.sort_unstable();
            assert_eq!(documents, ["buch", "phone", "soup", "train"], "{index} {more:?}: {run}");
        }
    }
}

#[test]
fn an_output_cannot_be_a_file_of_the_index_the_model_or_the_cache() {
    let fixture = Fixture::new();
    fs::write(fixture.path("queries.tsv"), "q1\tcarrots\n").unwrap();
    fs::write(fixture.path("qrels"), "q1 0 soup 1\n").unwrap();
    let search = ["search", "INDEX", "--queries", "queries.tsv", "--run"];
    let eval = ["eval", "INDEX", "--queries", "queries.tsv", "--qrels", "qrels", "--svg"];
    for output in ["notes/trivec-index.json", "notes/text/meta.json", "notes/../notes/new.txt"] {
        for command in [&search[..], &eval] {
            let said = fixture.fails(2, &[command, &[output]].concat());
            assert!(said.contains("is among the files of the index"), "{said}");
        }
    }
    assert!(fixture.fails(2, &[&eval[..], &["-"]].concat()).contains("a picture is a file"));
    let reranker = trivec_testing::data("rerankers/reranker-h48").join("config.json");
    let before = fs::read(&reranker).unwrap();
    let (directory, file) = (reranker.parent().unwrap().to_str().unwrap(), reranker.to_str().unwrap());
    let said = fixture.fails(2, &[&search[..], &[file, "--reranker", directory]].concat());
    assert!(said.contains("is a file of the model") && fs::read(&reranker).unwrap() == before, "{said}");
    assert_eq!(fixture.json(&["search", "INDEX", "soup", "--json"])["hits"].as_array().unwrap().len(), 4);
    // This holds for a cache that does not exist yet, and for the files that will lie beside it.
    for output in ["new.cache", "./new.cache", "new.cache-wal", "new.cache.lock"] {
        let said = fixture.fails(2, &["embed", "a", "--cache", "new.cache", "--output", output]);
        assert!(said.contains("is the cache"), "{said}");
    }
}

#[test]
fn short_documents_of_unknown_language_are_found_by_a_question_with_a_language() {
    let fixture = Fixture::new();
    fs::write(
        fixture.path("titles.jsonl"),
        "{\"id\": \"t1\", \"text\": \"soups\"}\n{\"id\": \"t2\", \"text\": \"Soup\"}\n",
    )
    .unwrap();
    fixture.ok(&["index", "INDEX", "--input", "titles.jsonl"]);
    assert_eq!(fixture.json(&["get", "INDEX", "t2"])["lang"], Value::Null);
    let found = fixture.json(&["search", "INDEX", "soup", "--lang", "en", "--arms", "bm25", "--rerank", "0", "--json"]);
    let mut keys = keys(&found);
    keys.sort_unstable();
    assert_eq!(keys, ["soup", "t2"], "{found}");
    // A fusion that gives all requested arms the weight 0 would give every document the score 0, so it is refused.
    let said = fixture.fails(2, &["search", "INDEX", "soup", "--arms", "bm25", "--fusion", "weighted"]);
    assert!(said.contains("none of the arms that are asked for a say"), "{said}");
}

#[test]
fn numbers_in_documents_keep_all_their_digits() {
    let fixture = Fixture::new();
    let numbers = ["31.245270191439438", "449.49106478873813", "9007199254740993.0", "0.1", "1e-300"];
    let lines: String = numbers
        .iter()
        .zip(0..)
        .map(|(x, n)| format!("{{\"id\": \"n{n}\", \"text\": \"number\", \"v\": {x}}}\n"))
        .collect();
    fs::write(fixture.path("numbers.jsonl"), lines).unwrap();
    fixture.ok(&["index", "numbers", "--input", "numbers.jsonl"]);
    for (x, n) in numbers.iter().zip(0..) {
        let found = fixture.json(&["search", "numbers", "number", "--filter", &format!("v = {x}"), "--json"]);
        assert_eq!(keys(&found), [format!("n{n}")], "{x}");
        let kept = fixture.ok(&["get", "numbers", &format!("n{n}")]);
        let shown = kept.split("\"v\":").nth(1).unwrap().split('}').next().unwrap();
        assert_eq!(shown.parse::<f64>().unwrap().to_bits(), x.parse::<f64>().unwrap().to_bits(), "{kept}");
    }
}

/// The third document is damaged in the second MiB of the file, which has a checksum of its own, so that only a call that reads it notices.
#[test]
fn documents_are_read_only_as_long_as_someone_reads_them() {
    let fixture = Fixture::new();
    let long = "word ".repeat(150_000);
    let line = |key: &str, text: &str| format!("{{\"id\": \"{key}\", \"text\": \"{text}\", \"n\": 1}}\n");
    let lines =
        [line("first", "A short text."), line("between", &long), line("bad", &long), line("after", &long)].concat();
    fs::write(fixture.path("long.jsonl"), lines).unwrap();
    fixture.ok(&["index", "long", "--input", "long.jsonl"]);
    let path = fixture.path("long/seg/000000.docs");
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes[..1_450_000].windows(5).rposition(|window| window == b"word ").unwrap();
    bytes[at] = b'W';
    fs::write(&path, bytes).unwrap();

    let all = ["get", "long", "--filter", "n = 1"];
    let read = fixture.run(&all);
    let said = String::from_utf8_lossy(&read.stderr);
    assert_eq!((read.status.code(), String::from_utf8_lossy(&read.stdout).lines().count()), (Some(4), 2), "{said}");
    assert!(said.contains("000000.docs"), "{said}");
    // Nobody reads the other end of this pipe.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let stopped = fixture.command(&all).arg("-q").stdout(writer).output().unwrap();
    assert_eq!((stopped.status.code(), String::from_utf8_lossy(&stopped.stderr)), (Some(0), "".into()));
}

#[test]
fn a_cross_encoder_decides_the_final_order() {
    let fixture = Fixture::new();
    let reranker = trivec_testing::data("rerankers/reranker-h48");
    let reranker = reranker.to_str().unwrap();
    let texts = ["phone", "soup", "train", "buch"].map(|key| fixture.json(&["get", "INDEX", key])["text"].clone());
    let texts: Vec<&str> = texts.iter().map(|text| text.as_str().unwrap()).collect();
    let expected: Vec<Value> = fixture
        .ok(&[&["rerank", "--model", reranker, "--json", "soup"][..], &texts].concat())
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let found = fixture.json(&["search", "INDEX", "soup", "--json", "--reranker", reranker]);
    assert_eq!(found["hits"].as_array().unwrap().len(), 4);
    for (place, (hit, expected)) in found["hits"].as_array().unwrap().iter().zip(&expected).enumerate() {
        assert_eq!(hit["document"]["text"], texts[expected["index"].as_u64().unwrap() as usize], "{found}");
        assert_eq!(hit["arms"]["reranker"]["rank"], place as u64 + 1);
        assert_eq!(hit["rank"], place as u64 + 1);
    }
    // The cross-encoder scores two documents, but only one is asked for.
    let args = ["search", "INDEX", "soup", "--json", "--reranker", reranker, "--reranker-top", "2", "--top", "1"];
    assert_eq!(fixture.json(&args)["hits"].as_array().unwrap().len(), 1);
    let said = fixture.fails(4, &["search", "INDEX", "soup", "--reranker", "starter"]);
    assert!(said.contains("--reranker: starter has no reranking head"), "{said}");
}

#[test]
fn an_export_writes_all_documents_and_a_manifest() {
    let fixture = Fixture::new();
    let manifest = fixture.json(&["export", "INDEX", "--to", "qdrant", "--output", "out", "--json"]);
    assert_eq!(manifest["documents"], 4);
    assert!(fixture.path("out/manifest.json").is_file());
}

#[test]
fn a_bad_document_is_refused_alone_and_wrong_use_is_named() {
    let fixture = Fixture::new();
    fs::write(fixture.path("mixed.jsonl"), "{\"id\": \"new\", \"text\": \"a new text\"}\n{\"id\": \"bad\"}\n").unwrap();
    let said = fixture.run(&["index", "INDEX", "--input", "mixed.jsonl"]);
    assert_eq!(said.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&said.stdout).contains("1 added"), "{said:?}");
    fixture.ok(&["get", "INDEX", "new"]);
    assert!(fixture.fails(3, &["search", "not-there", "a"]).contains("not-there"));
    assert!(fixture.fails(2, &["search", "INDEX", "a", "--top", "1000000000"]).contains("top"));
    assert!(fixture.fails(2, &["search", "INDEX", "a", "--filter", "year >"]).contains("filter"));
    assert!(fixture.fails(2, &["index", "INDEX"]).contains("--input"));
    // A question cannot be embedded by another model than the index's.
    let other = trivec_testing::data("models/f32-h64");
    let other = other.to_str().unwrap();
    let said = fixture.fails(4, &["search", "INDEX", "a", "--model", other]);
    assert!(said.contains("starter") && said.contains("f32-h64"), "{said}");
    assert!(Path::new(&fixture.path("notes/trivec-index.json")).is_file());
}

#[test]
fn paths_without_an_index_and_inputs_without_texts_are_refused() {
    let fixture = Fixture::new();
    let said = fixture.fails(2, &["index", "docs.jsonl"]);
    assert!(said.contains("docs.jsonl: it is a file, expected the directory") && said.contains("--input"), "{said}");
    let said = fixture.fails(2, &["index", "docs.jsonl", "--input", "docs.jsonl"]);
    assert!(said.contains("it is a file, expected the directory"), "{said}");
    assert!(fixture.fails(3, &["search", "docs.jsonl", "soup"]).contains("it is a file, expected a directory"));
    assert!(fixture.fails(3, &["search", "nowhere", "soup"]).contains("nothing is there"));
    fs::create_dir(fixture.path("pictures")).unwrap();
    fs::write(fixture.path("pictures/cat.png"), "not a text").unwrap();
    let said = fixture.fails(3, &["index", "new", "--input", "pictures"]);
    assert!(said.contains("pictures: no file in it is read: expected names that end in txt"), "{said}");
    assert!(!Path::new(&fixture.path("new")).exists(), "nothing was begun");
    for chunk in ["2/0", "0", "64/33", "1000000"] {
        let said = fixture.fails(2, &["index", "new", "--input", "docs.jsonl", "--chunk", chunk]);
        assert!(said.contains("--chunk: found ") && said.contains("expected "), "{said}");
        assert!(!Path::new(&fixture.path("new")).exists(), "nothing was begun: {chunk}");
    }
    fs::write(fixture.path("bad.jsonl"), "{\"id\": \"a\", \"text\": nope}\n").unwrap();
    let said = fixture.fails(3, &["index", "INDEX", "--input", "bad.jsonl"]);
    assert!(said.contains("line 1: it is no JSON: at character 22: expected a value of JSON"), "{said}");
}

#[test]
fn a_filter_with_a_misspelt_field_or_a_value_of_another_type_is_refused() {
    let fixture = Fixture::new();
    for command in [
        vec!["search", "INDEX", "soup"],
        vec!["get", "INDEX"],
        vec!["delete", "INDEX"],
        vec!["export", "INDEX", "--to", "npy", "--output", "out"],
    ] {
        let said = fixture.fails(2, &[&command[..], &["--filter", "yaer >= 2020"]].concat());
        assert!(said.contains("no document has a field `yaer`, only ") && said.contains("year"), "{said}");
        let said = fixture.fails(2, &[&command[..], &["--filter", "year >= '2020'"]].concat());
        assert!(said.contains("the field `year` has numbers, and was compared with the text \"2020\""), "{said}");
    }
    assert!(!Path::new(&fixture.path("out")).exists());
}

/// The values of printed lines of JSON.
fn lines(printed: &[u8]) -> Vec<Value> {
    String::from_utf8_lossy(printed).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_key_gets_a_document_or_its_chunks_and_missing_keys_are_named() {
    let fixture = Fixture::new();
    let text: String = (0..6).map(|n| format!("Here is a sentence about the topic number {n}. ")).collect();
    fs::write(fixture.path("long.jsonl"), serde_json::json!({"id": "d", "text": text}).to_string()).unwrap();
    fixture.ok(&["index", "INDEX", "--input", "long.jsonl", "--chunk", "16"]);
    let whole = fixture.json(&["get", "INDEX", "d"]);
    assert!(Fixture::new().ok(&["search", "INDEX", "soup"]).contains("of 4 documents in "));
    let chunks = whole["chunks"].as_array().unwrap();
    assert!(whole["key"] == "d" && chunks.len() > 2, "{whole}");
    for (n, chunk) in chunks.iter().enumerate() {
        assert_eq!((&chunk["key"], &chunk["document"]), (&format!("d#{n}").into(), &"d".into()));
    }
    assert_eq!(fixture.json(&["get", "INDEX", "d#1", "--json"]), chunks[1]);
    let said = format!("5 documents as {} entries", 4 + chunks.len());
    for what in ["--stats", "--check"] {
        assert!(fixture.ok(&["index", "INDEX", what]).starts_with(&said), "{what}");
        assert_eq!(fixture.json(&["index", "INDEX", what, "--json"])["documents"], 5);
    }
    // An export counts documents and entries alike, and a search tells how many entries it went through.
    let entries = 4 + chunks.len();
    let exported = fixture.ok(&["export", "INDEX", "--to", "npy", "--output", "out"]);
    assert!(exported.starts_with(&format!("{said}, {entries} with lexical weights")), "{exported}");
    let manifest: Value = serde_json::from_slice(&fs::read(fixture.path("out/manifest.json")).unwrap()).unwrap();
    assert_eq!((&manifest["documents"], &manifest["entries"]), (&5.into(), &entries.into()));
    assert!(fixture.ok(&["search", "INDEX", "soup"]).contains(&format!("of {entries} entries in ")));
    let one = ["export", "INDEX", "--to", "npy", "--output", "one", "--filter", "document = 'd'", "--json"];
    let manifest = fixture.json(&one);
    assert_eq!((&manifest["documents"], &manifest["entries"]), (&1.into(), &chunks.len().into()));
    // Every key is looked up, even if another one is missing.
    let said = fixture.run(&["get", "INDEX", "no", "soup", "nor this", "d"]);
    let found = lines(&said.stdout);
    assert_eq!(said.status.code(), Some(3), "{said:?}");
    assert_eq!((found.len(), &found[0]["key"], &found[1]), (2, &"soup".into(), &whole));
    let told = String::from_utf8_lossy(&said.stderr);
    assert!(told.contains("the key `no`") && told.contains("the key `nor this`"), "{told}");
    assert!(told.contains("2 of 4 keys are not in the index"), "{told}");
}

/// A pseudo-terminal, and the program that runs on it.
#[cfg(target_os = "linux")]
struct Terminal {
    /// The user's end, to which keys are written.
    keys: fs::File,
    /// What the program writes.
    screen: std::sync::mpsc::Receiver<Vec<u8>>,
    /// What was received of it and not yet returned by [`Terminal::shows`].
    seen: String,
    /// The terminal's modes before the program began.
    before: [u32; 4],
    child: std::process::Child,
}

#[cfg(target_os = "linux")]
impl Terminal {
    /// Starts a command on a terminal of 40 rows and 100 columns.
    fn new(mut command: Command) -> Terminal {
        use std::io::Read;
        use std::os::fd::OwnedFd;

        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let size = rustix::termios::Winsize { ws_row: 40, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&person, size).unwrap();
        let before = modes(&person);
        let path = ptsname(&person, Vec::new()).unwrap().into_string().unwrap();
        let program = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        let end = || OwnedFd::from(program.try_clone().unwrap());
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let mut reading = fs::File::from(person);
        let keys = reading.try_clone().unwrap();
        let (send, screen) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut part = vec![0; 4096];
            // Reading ends when the program has ended.
            while let Ok(n @ 1..) = reading.read(&mut part) {
                if send.send(part[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        Terminal { keys, screen, seen: String::new(), before, child }
    }

    fn press(&mut self, keys: &str) {
        use std::io::Write;
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the program has written `expected` since the last call, and returns what it has written.
    fn shows(&mut self, expected: &str) -> String {
        let until = std::time::Instant::now() + trivec_testing::wait::DEADLINE;
        while !self.seen.contains(expected) {
            let left = until.saturating_duration_since(std::time::Instant::now());
            let part = self.screen.recv_timeout(left);
            let part = part.unwrap_or_else(|e| panic!("no `{expected}` ({e}): {:?}", self.seen));
            self.seen.push_str(&String::from_utf8_lossy(&part));
        }
        std::mem::take(&mut self.seen)
    }
}

/// The modes of a terminal, read at either of its ends.
#[cfg(target_os = "linux")]
fn modes(end: &impl std::os::fd::AsFd) -> [u32; 4] {
    let modes = rustix::termios::tcgetattr(end).unwrap();
    [modes.input_modes.bits(), modes.output_modes.bits(), modes.control_modes.bits(), modes.local_modes.bits()]
}

#[cfg(target_os = "linux")]
impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn on_a_terminal_hits_follow_what_is_typed() {
    let fixture = Fixture::new();
    let mut command = trivec();
    command.current_dir(fixture.0.path()).args(["-q", "--color", "never", "search", "notes"]);
    let mut terminal = Terminal::new(command);
    terminal.shows("type a question");
    terminal.press("carrots");
    terminal.shows("›  1  soup");
    terminal.press("\u{1b}[B");
    terminal.shows("›  2  ");
    terminal.press("\u{1b}[A");
    terminal.shows("›  1  soup");
    terminal.press("\r");
    terminal.shows("nearest:");
    // Ctrl-U clears the question, and another one is typed. The first Escape clears that one, the second ends the program.
    terminal.press("\u{15}苹果公司");
    terminal.shows("›  1  phone");
    terminal.press("\u{1b}");
    terminal.shows("type a question");
    terminal.press("\u{1b}");
    assert_eq!(terminal.child.wait().unwrap().code(), Some(0));
    assert_eq!(modes(&terminal.keys), terminal.before);
}

#[cfg(target_os = "linux")]
#[test]
fn a_signal_leaves_the_terminal_as_it_was() {
    use std::os::unix::process::ExitStatusExt;

    use rustix::process::{Pid, Signal, kill_process};
    let fixture = Fixture::new();
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut terminal = Terminal::new(fixture.command(&["-q", "--color", "never", "search", "INDEX"]));
        terminal.press("carrots");
        terminal.shows("›  1  soup");
        assert_ne!(modes(&terminal.keys), terminal.before, "keys are read one by one");
        kill_process(Pid::from_child(&terminal.child), signal).unwrap();
        assert_eq!(terminal.child.wait().unwrap().signal(), Some(signal.as_raw()));
        assert_eq!(modes(&terminal.keys), terminal.before, "{signal:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn on_a_terminal_unused_keys_insert_nothing_and_joiners_are_kept() {
    let fixture = Fixture::new();
    let mut terminal = Terminal::new(fixture.command(&["-q", "--color", "never", "search", "INDEX"]));
    terminal.shows("type a question");
    // F1, F5, Shift-F12, Ctrl-Up and Alt-x are pressed between letters.
    for (letter, key) in
        [("c", "\u{1b}OP"), ("a", "\u{1b}[15~"), ("r", "\u{1b}[24;2~"), ("r", "\u{1b}[1;5A"), ("o", "\u{1b}x")]
    {
        terminal.press(letter);
        terminal.press(key);
    }
    terminal.press("ts");
    terminal.shows("search: carrots▏");
    // A zero-width non-joiner is text; a control that reorders text is shown escaped.
    terminal.press("\u{15}می\u{200c}خواهم");
    terminal.shows("search: \u{2068}می\u{200c}خواهم\u{2069}▏");
    terminal.press("\u{15}a\u{202e}");
    terminal.shows("search: a\\u{202e}▏");
}
