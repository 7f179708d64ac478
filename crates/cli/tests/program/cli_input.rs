//! Input files: every format and encoding is recognised, or refused with the option that reads it. Output files: where they lie until they
//! are complete.

use trivec_testing::http;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A path below tests/data.
fn data(path: &str) -> std::path::PathBuf {
    trivec_testing::data("").join(path)
}

/// A command that runs `trivec` with the small model and without input.
fn trivec(args: &[&str]) -> Command {
    let mut command = http::trivec();
    // A tiny model, which loads at once. Its vectors do not matter here.
    command.env("TRIVEC_MODEL", data("models/f32-h64"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(args: &[&str]) -> Output {
    trivec(args).output().unwrap()
}

fn with_stdin(args: &[&str], input: &[u8]) -> Output {
    let mut child = trivec(args).stdin(Stdio::piped()).spawn().unwrap();
    // The program may end before it has read everything, so an error of writing is ignored.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// The standard output of a run that must succeed.
fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn records(output: &Output) -> Vec<Value> {
    stdout(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The exit code and the standard error of a run.
fn failure(output: &Output) -> (i32, String) {
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A text in UTF-16LE with a byte order mark.
fn utf16(text: &str) -> Vec<u8> {
    format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// The directory of a tiny reranker.
fn reranker() -> std::path::PathBuf {
    let mut entries = fs::read_dir(data("rerankers")).unwrap().map(|entry| entry.unwrap().path());
    entries.find(|path| path.is_dir()).unwrap()
}

/// The small model.
const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/models/f32-h64");

/// The vectors of `a text` and `第二`.
fn expected() -> Vec<Value> {
    records(&run(&["embed", "a text", "第二"])).into_iter().map(|record| record["dense"].clone()).collect()
}

#[test]
fn files_of_every_format_and_encoding_give_the_same_vectors() {
    let directory = TempDir::new().unwrap();
    let expected = expected();
    let array = "[\n  {\"id\": 1, \"text\": \"a text\"},\n  {\"id\": 2, \"text\": \"第二\"}\n]\n";
    let pretty = "{\n  \"text\": \"a text\"\n}\n{\n  \"text\": \"第二\"\n}\n";
    for (name, text) in [
        ("lines.txt", "a text\n第二\n"),
        ("lines", "a text\r\n第二"),
        ("records.json", array),
        ("records.txt", array),
        ("records.jsonl", array),
        ("pretty.json", pretty),
        ("pretty", pretty),
        ("strings.json", "[\"a text\", \"第二\"]"),
        ("jsonl.json", "{\"text\": \"a text\"}\n{\"text\": \"第二\"}\n"),
        ("rows.csv", "id,text\n1,a text\n2,\"第二\"\n"),
        ("rows.tsv", "text\tid\na text\t1\n第二\t2\n"),
        ("rows.txt", "id;text\r\n1;a text\r\n2;\"第二\"\r\n"),
    ] {
        for (kind, bytes) in [
            ("UTF-8", text.as_bytes().to_vec()),
            ("UTF-16", utf16(text)),
            ("marked", format!("\u{feff}{text}").into_bytes()),
        ] {
            let path = directory.path().join(name);
            fs::write(&path, bytes).unwrap();
            let found = records(&run(&["embed", "--input", path.to_str().unwrap()]));
            let dense: Vec<Value> = found.into_iter().map(|record| record["dense"].clone()).collect();
            assert!(dense == expected, "{name} in {kind}");
        }
    }
    let path = directory.path().join("rows.csv");
    fs::write(&path, "title,body\nx,a text\ny,第二\n").unwrap();
    let (code, said) = failure(&run(&["embed", "--input", path.to_str().unwrap()]));
    assert!(code == 3 && said.contains("`title`, `body`") && said.contains("--column"), "{said}");
    let found = records(&run(&["embed", "--input", path.to_str().unwrap(), "--column", "body"]));
    assert_eq!(found.into_iter().map(|record| record["dense"].clone()).collect::<Vec<_>>(), expected);
    let (code, said) = failure(&with_stdin(&["embed", "--column", "body"], b"a line\n"));
    assert!(code == 2 && said.contains("--column"), "{said}");
}

#[test]
fn every_command_names_gzip_and_tokens_names_utf16() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("texts.txt.gz");
    fs::write(&path, b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xcbH\xcd\xc9\xc9\xe7\x02\0 0:6\x06\0\0\0").unwrap();
    let path = path.to_str().unwrap();
    let reranker = reranker();
    for args in [
        &["embed", "--input", path][..],
        &["embed", "--lossy", "--input-format", "lines", "--input", path],
        &["score", "--pairs", path],
        &["--model", reranker.to_str().unwrap(), "rerank", "a query", "--input", path],
        &["pack", "-o", "never", "--calibration", path],
        &["verify", MODEL, MODEL, "--texts", path],
    ] {
        let (code, said) = failure(&run(args));
        assert!(code == 3 && said.contains("this is gzip, not text"), "{args:?}: {code} {said}");
    }
    let (code, said) = failure(&with_stdin(&["tokens"], &fs::read(path).unwrap()));
    assert!(code == 3 && said.contains("standard input: this is gzip"), "{said}");
    assert_eq!(stdout(&with_stdin(&["tokens"], &utf16("héllo\r\n"))), stdout(&run(&["tokens", "héllo"])));
    let (code, said) = failure(&with_stdin(&["tokens"], b"h\0e\0l\0l\0o\0"));
    assert!(code == 3 && said.contains("UTF-16LE"), "{said}");
}

#[test]
fn pairs_and_documents_come_in_the_same_formats() {
    let directory = TempDir::new().unwrap();
    let one = records(&run(&["score", "--json", "a text", "第二"]))[0]["dense"].clone();
    for (name, text, more) in [
        ("pairs.json", "[\n  {\"a\": \"a text\", \"b\": \"第二\"}\n]\n", &[][..]),
        ("pairs.json", "[[\"a text\", \"第二\"]]", &[]),
        ("pairs.csv", "a,b\n\"a text\",第二\n", &[]),
        ("faq.csv", "n;question;answer\n1;a text;第二\n", &["--columns", "question,answer"]),
        ("faq.jsonl", "{\"question\":\"a text\",\"answer\":\"第二\"}\n", &["--columns", "question,answer"]),
        ("pairs.txt", "a text\t第二\n", &[]),
    ] {
        let path = directory.path().join(name);
        fs::write(&path, utf16(text)).unwrap();
        let args = [&["score", "--json", "--pairs", path.to_str().unwrap()], more].concat();
        let scores = records(&run(&args));
        assert_eq!((scores.len(), &scores[0]["dense"]), (1, &one), "{name}: {text}");
    }
    let (code, said) = failure(&with_stdin(&["score", "--columns", "a", "--pairs", "-"], b"x\ty\n"));
    assert!(code == 2 && said.contains("--columns: expected two names, found 1"), "{said}");
    for columns in ["a,a", ",b", "a,", ","] {
        let (code, said) = failure(&with_stdin(&["score", "--columns", columns, "--pairs", "-"], b"a\tb\nx\ty\n"));
        assert!(code == 2 && said.contains("--columns: expected the names of two columns"), "{columns}: {said}");
    }
    let (code, said) = failure(&with_stdin(&["score", "--columns", "q,d", "--pairs", "-"], b"x\ty\n"));
    assert!(code == 2 && said.contains("--columns: lines of two texts have no columns"), "{said}");
    let cut = b"{\"a\":\"cut \\ud83d\",\"b\":\"x\xff\"}\n";
    assert_eq!(failure(&with_stdin(&["score", "--pairs", "-"], cut)).0, 3);
    assert_eq!(records(&with_stdin(&["score", "--json", "--lossy", "--pairs", "-"], cut)).len(), 1);

    let reranker = reranker();
    let rerank = ["--model", reranker.to_str().unwrap(), "rerank", "--json", "--lossy", "--column", "body", "query"];
    let found = records(&with_stdin(&rerank, b"[{\"id\":\"\\ud83d\",\"body\":\"one\\udc00\"},\n{\"body\":\"two\"}]"));
    let mut texts: Vec<_> = found.iter().map(|record| record["text"].as_str().unwrap()).collect();
    texts.sort_unstable();
    assert_eq!(texts, ["one\u{fffd}", "two"]);
    // Texts to compare two models on; empty ones do not count.
    let path = directory.path().join("texts.json");
    fs::write(&path, "[\"a text\", \"\", \"another one\"]").unwrap();
    let path = path.to_str().unwrap();
    assert!(stdout(&run(&["verify", MODEL, MODEL, "--texts", path])).contains(", 2 texts"));
}

#[test]
fn lone_surrogates_are_refused_and_replaced_with_lossy() {
    let input = b"{\"text\":\"fine\"}\n{\"text\":\"cut \\ud83d\"}\n{\"id\":\"\\udc4d\",\"text\":\"fine too\"}\n";
    let found = records(&with_stdin(&["embed", "--lossy", "--input-format", "jsonl"], input));
    let replaced = records(&run(&["embed", "cut \u{fffd}"]));
    assert_eq!((found.len(), &found[1]["dense"], &found[2]["id"]), (3, &replaced[0]["dense"], &"\u{fffd}".into()));
    let (code, said) = failure(&with_stdin(&["embed"], input));
    assert!(code == 3 && said.contains("line 2, column 14: `\\ud83d` is half of a character (--lossy puts"), "{said}");
    // An id is copied to the output, where a lone surrogate would make the JSON unreadable for other programs.
    let reranker = reranker();
    let rerank = ["rerank", "--model", reranker.to_str().unwrap(), "q"];
    for id in ["\"\\udc4d\"", "[\"a\", \"\\ud83d.\"]", "{\"\\udc4d\": 1}"] {
        let input = format!("{{\"id\": {id}, \"text\": \"fine\"}}\n");
        for args in [&["embed"][..], &rerank] {
            let (code, said) = failure(&with_stdin(args, input.as_bytes()));
            assert!(code == 3 && said.contains("is half of a character (--lossy puts"), "{args:?}: {said}");
        }
        assert_eq!(records(&with_stdin(&["embed", "--lossy"], input.as_bytes())).len(), 1);
    }
}

/// The sorted names in a directory.
fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
#[cfg(unix)]
fn an_unfinished_output_lies_beside_its_place_and_not_in_tmpdir() {
    let directory = TempDir::new().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    for format in ["jsonl", "npy", "safetensors"] {
        let output = trivec(&["embed", "a", "-f", format, "-o", &at(format)]).env("TMPDIR", "/nonexistent").output();
        assert_eq!(failure(&output.unwrap()).0, 0, "{format}");
    }
    assert_eq!(names(directory.path()), ["jsonl", "npy", "safetensors"]);
    // A pipe has no directory: up to some megabytes are kept in memory, and the bytes are the same.
    for format in ["npy", "safetensors"] {
        let output = trivec(&["embed", "a", "-q", "-f", format]).env("TMPDIR", "/nonexistent").output().unwrap();
        assert_eq!(failure(&output).0, 0, "{format}: {}", failure(&output).1);
        assert_eq!(output.stdout, fs::read(at(format)).unwrap(), "{format}");
    }
    // More than that goes into a temporary file. The error says what the file is for, and which variable moves it.
    let lines = format!("{}\n", "a b c d e f g h ".repeat(20)).repeat(400);
    fs::write(at("texts.txt"), lines).unwrap();
    let much = ["embed", "-q", "-i", &at("texts.txt"), "-m", "colbert", "-f", "safetensors"];
    let (code, said) = failure(&trivec(&much).env("TMPDIR", "/nonexistent").output().unwrap());
    assert!(code == 5 && said.contains("/nonexistent: ") && said.contains("set TMPDIR"), "{said}");
    assert!(said.contains("more than some megabytes of what goes into a pipe"), "{said}");
    let piped = run(&much);
    let filed = run(&[&much[..], &["-o", &at("much")]].concat());
    assert_eq!((failure(&piped).0, failure(&filed).0), (0, 0));
    assert!(piped.stdout.len() > 8 << 20 && piped.stdout == fs::read(at("much")).unwrap());
    let jsonl = trivec(&["embed", "a"]).env("TMPDIR", "/nonexistent").output().unwrap();
    assert_eq!(records(&jsonl).len(), 1);
    // Other commands that write files need no TMPDIR either.
    let packed = at("packed.safetensors");
    for args in [
        &["pack", "--weights", "f16", "-o", &packed][..],
        &["verify", &packed, MODEL, "--texts", &at("texts.txt"), "--plot", &at("plot.svg")],
        &["bench", "--model", &packed, "--shapes", "none"],
        &["import", data("models/f32-h64").to_str().unwrap(), "-o", &at("imported")],
        &["embed", "a", "--cache", &at("cache")],
    ] {
        fs::write(at("texts.txt"), "a text\n").unwrap();
        let output = trivec(args).env("TMPDIR", "/nonexistent").output().unwrap();
        assert_eq!(failure(&output).0, 0, "{args:?}: {}", failure(&output).1);
    }
}

#[test]
fn a_missing_directory_gives_the_same_error_in_every_command() {
    let directory = TempDir::new().unwrap();
    let missing = directory.path().join("no/such");
    let shown = missing.display().to_string();
    let below = missing.join("x").display().to_string();
    let model = data("models/f32-h64");
    let model = model.to_str().unwrap();
    for args in [
        &["embed", "a", "-o", &below][..],
        &["embed", "a", "-f", "npy", "-o", &below],
        &["pack", model, "-o", &below],
        &["import", model, "-o", &below],
        &["verify", model, model, "--plot", &below],
        &["bench", "--export", &below],
    ] {
        let (code, said) = failure(&run(args));
        let expected = format!("{below}: there is no directory `{shown}` (`mkdir -p` makes it)");
        assert!(code == 5 && said.contains(&expected), "{args:?}: {code} {said}");
        assert_eq!(names(directory.path()), [""; 0]);
    }
    let here = directory.path().display().to_string();
    for (args, option) in [
        (&["embed", "a", "-o", &here][..], "--output"),
        (&["pack", model, "-o", &here], "--output"),
        (&["verify", model, model, "--plot", &here], "--plot"),
    ] {
        let (code, said) = failure(&run(args));
        assert!(code == 2 && said.contains(&format!("{option}: {here} is a directory")), "{args:?}: {said}");
    }
}

#[test]
fn a_file_that_is_no_model_is_named_by_its_kind() {
    let directory = TempDir::new().unwrap();
    let tar = [&[b'a'; 257][..], b"ustar\x0000"].concat();
    for (text, what) in [
        (&b"just some words of text\n"[..], "this is text, expected a safetensors file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "this is a pointer of Git LFS"),
        (b"<!DOCTYPE html>\n<html><body>Not found</body></html>", "this is a web page"),
        (b"{\"model_type\": \"xlm-roberta\"}", "this is JSON"),
        (
            b"PK\x03\x04\0\0\x08\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x10\0\0\0archive/data.pkl",
            "this is a zip archive",
        ),
        (
            b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.",
            "this is a pickle of Python (PyTorch's old files are such: give the directory",
        ),
        (&tar, "this is a tar archive (unpack it"),
        (b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0", "this is a GGUF file"),
    ] {
        let path = directory.path().join("model");
        fs::write(&path, text).unwrap();
        let (code, said) = failure(&run(&["info", "--model", path.to_str().unwrap()]));
        assert!(code == 4 && said.contains(what), "{said}");
    }
}
