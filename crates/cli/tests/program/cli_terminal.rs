//! Nothing that comes from a file, an argument, a variable, a name or a text acts on the terminal: it is escaped where it is printed for
//! people. JSON has it unchanged.

use trivec_testing::http;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use http::{Server, trivec};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A path below tests/data.
fn data(path: &str) -> PathBuf {
    trivec_testing::data("").join(path)
}

/// A text that would set the window's title, hide text and forge a line of the program's own, with a C1 control, and with characters that
/// reorder others or are invisible.
const HOSTILE: &str = "\u{1b}]0;pwned\u{7}\u{1b}[8m\u{9b}31m\nforged: line\r\t\u{7f}\u{202e}\u{2066}\u{200f}\u{200b}\u{2028}\u{61c}\u{feff}\u{e0041}\u{ad}\u{3164}";

/// The colours that the program itself sets.
const COLOURS: [&str; 9] = [
    "\u{1b}[0m",
    "\u{1b}[1m",
    "\u{1b}[2m",
    "\u{1b}[4m",
    "\u{1b}[31m",
    "\u{1b}[32m",
    "\u{1b}[33m",
    "\u{1b}[36m",
    "\u{1b}[35m",
];

/// Asserts that what the program printed does not act on a terminal, and returns it without the program's own colours.
fn harmless(output: &Output, what: &str) -> String {
    let printed = [&output.stdout[..], &output.stderr].concat();
    let printed = String::from_utf8(printed).unwrap_or_else(|e| panic!("{what}: {e}"));
    let mut plain = printed.clone();
    for colour in COLOURS {
        plain = plain.replace(colour, "");
    }
    let acts = |c: &char| {
        c.is_control() && *c != '\n'
            || HOSTILE.contains(*c) && !c.is_ascii()
            || ('\u{2000}'..'\u{2070}').contains(c) && is_format(*c)
    };
    assert_eq!(plain.chars().find(acts), None, "{what}: {printed:?}");
    assert!(!plain.lines().any(|line| line.trim_start().starts_with("forged")), "{what}: {printed:?}");
    plain
}

/// Whether a character of General Punctuation is an invisible one that formats text.
fn is_format(c: char) -> bool {
    matches!(u32::from(c), 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f)
}

/// A command that runs `trivec` with a tiny model, which loads at once.
fn small() -> Command {
    let mut command = trivec();
    command.env("TRIVEC_MODEL", data("models/f32-h64"));
    command
}

/// Runs `trivec` with the colours that it uses on a terminal.
fn run(args: &[&str]) -> Output {
    small().args(["--color", "always"]).args(args).stdin(Stdio::null()).output().unwrap()
}

fn with_stdin(args: &[&str], input: &[u8]) -> Output {
    let mut command = small();
    command.args(["--color", "always"]).args(args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The program may end before it has read everything, so an error of writing is ignored.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// Copies a directory with all that is below it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Adds the JSON files below a directory to `found`.
fn json_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for path in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            json_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "json") {
            found.push(path);
        }
    }
}

/// Every way to put a hostile text into a value: in place of a text or a number, and in place of a field's name. Of a list, its first
/// and last elements stand for all.
fn hostile(value: &Value) -> Vec<Value> {
    let mut all = vec![json!(HOSTILE)];
    match value {
        Value::Object(fields) => {
            for (name, inner) in fields {
                for inner in hostile(inner) {
                    let mut fields = fields.clone();
                    fields.insert(name.clone(), inner);
                    all.push(fields.into());
                }
                let mut renamed = fields.clone();
                renamed.remove(name);
                renamed.insert(HOSTILE.to_owned(), inner.clone());
                all.push(renamed.into());
            }
        }
        Value::Array(elements) if !elements.is_empty() => {
            for at in [0, elements.len() - 1] {
                for inner in hostile(&elements[at]) {
                    let mut elements = elements.clone();
                    elements[at] = inner;
                    all.push(elements.into());
                }
            }
        }
        _ => {}
    }
    all
}

#[test]
fn no_field_of_a_model_directory_acts_on_the_terminal() {
    let directory = TempDir::new().unwrap();
    let (mut tried, mut shown) = (0, 0);
    for model in ["mean-dense-h64", "sharded-h96"] {
        let path = directory.path().join(model);
        copy(&data("models").join(model), &path);
        let mut files = Vec::new();
        json_files(&path, &mut files);
        assert!(files.len() > 2);
        for file in files {
            let whole = fs::read(&file).unwrap();
            for value in hostile(&serde_json::from_slice(&whole).unwrap()) {
                fs::write(&file, value.to_string()).unwrap();
                let said = harmless(&run(&["info", "--model", path.to_str().unwrap()]), &format!("{}", file.display()));
                tried += 1;
                shown += usize::from(said.contains("\\u{1b}]0;pwned"));
            }
            fs::write(&file, whole).unwrap();
        }
    }
    assert!(tried > 100 && shown > 20, "{tried} tried, {shown} showed what was hostile");
}

#[test]
fn no_name_of_a_tensor_or_file_acts_on_the_terminal() {
    let directory = TempDir::new().unwrap();
    // A directory and a packed file have a hostile name. Further down, tensors have one too.
    let model = directory.path().join(HOSTILE);
    copy(&data("models/f32-h64"), &model);
    let path = model.to_str().unwrap();
    let info = harmless(&run(&["info", "--model", path]), "info of a directory");
    assert!(info.contains("\\u{1b}]0;pwned"), "{info}");
    let packed = model.join(format!("{HOSTILE}.safetensors"));
    let packed = packed.to_str().unwrap();
    harmless(&run(&["pack", path, "-o", packed, "--calibration", "none"]), "pack");
    for args in [&["info", "--model", packed][..], &["verify", packed, path]] {
        let said = harmless(&run(args), &format!("{args:?}"));
        assert!(said.contains("\\u{1b}]0;pwned"), "{args:?}: {said}");
    }
    // JSON, which programs read, has the hostile text unchanged.
    let json: Value = serde_json::from_slice(&run(&["info", "--json", "--model", path]).stdout).unwrap();
    assert!(json["model"].as_str().unwrap().contains(HOSTILE), "{json}");

    let weights = model.join("model.safetensors");
    let whole = fs::read(&weights).unwrap();
    let length = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&whole[8..8 + length]).unwrap();
    for (at, changed) in hostile(&header).into_iter().enumerate().filter(|(at, _)| at % 7 < 2) {
        let text = changed.to_string();
        fs::write(&weights, [&(text.len() as u64).to_le_bytes(), text.as_bytes(), &whole[8 + length..]].concat())
            .unwrap();
        harmless(&run(&["info", "--model", path]), &format!("header {at}"));
    }
    let cut = format!("{HOSTILE} is a text");
    fs::write(&weights, &cut).unwrap();
    harmless(&run(&["info", "--model", path]), "a text for weights");
}

#[test]
fn no_argument_or_variable_acts_on_the_terminal() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "text\n").unwrap();
    // Nothing can be created below a file.
    let below = format!("{}/{HOSTILE}/x", file.display());
    let missing = format!("{}/{HOSTILE}", directory.path().display());
    for args in [
        &["info", "--model", HOSTILE][..],
        &["info", "--isa", HOSTILE],
        &["info", "--threads", HOSTILE],
        &["embed", "--input", &missing],
        &["embed", "a", "--output", &below],
        &["embed", "a", "--format", HOSTILE],
        &["embed", "a", "--modes", HOSTILE],
        &["embed", "a", "--cache", &below],
        &["embed", "a", "--cache", &missing, "--cache-size", HOSTILE],
        &["embed", "--input", file.to_str().unwrap(), "--input-format", "json", "--column", HOSTILE],
        &["embed", "--input", file.to_str().unwrap(), "--input-format", "csv", "--column", HOSTILE],
        &["score", "a", "b", "--weights", HOSTILE],
        &["score", "--pairs", &missing],
        &["score", "--pairs", file.to_str().unwrap(), "--input-format", "csv", "--columns", HOSTILE],
        &["rerank", "q", "--input", &missing],
        &["pack", HOSTILE, "-o", "x"],
        &["pack", "-o", &below],
        &["pack", "-o", "x", "--calibration", &missing],
        &["pack", "-o", "x", "--weights", HOSTILE],
        &["import", HOSTILE, "-o", &below],
        &["verify", HOSTILE],
        &["verify", HOSTILE, HOSTILE, "--texts", &missing],
        &["models", "use", HOSTILE],
        &["models", "rm", HOSTILE],
        &["pull", HOSTILE],
        &["serve", "--config", &missing],
        &["serve", "--host", HOSTILE],
        &["serve", "--port", HOSTILE],
        &["bench", "--shapes", HOSTILE],
        &["bench", "--synthetic", HOSTILE],
        &[HOSTILE],
        &["info", HOSTILE],
        &["embed", &format!("--{}", HOSTILE)],
    ] {
        let output = run(args);
        let said = harmless(&output, &format!("{args:?}"));
        assert!(!output.status.success() || args.contains(&"--cache"), "{args:?}: {said}");
    }
    for (variable, args) in [
        ("TRIVEC_MODEL", &["info"][..]),
        ("TRIVEC_THREADS", &["info"]),
        ("TRIVEC_COLOR", &["info"]),
        ("TRIVEC_QUIET", &["info"]),
        ("TRIVEC_MODES", &["embed", "a"]),
        ("TRIVEC_FORMAT", &["embed", "a"]),
        ("TRIVEC_WEIGHTS", &["score", "a", "b"]),
        ("TRIVEC_MODEL", &["info", "--help"]),
        ("TRIVEC_OUTPUT", &["embed", "--help"]),
        ("TRIVEC_HOME", &["models", "use", "x"]),
        ("TMPDIR", &["bench", "--weights", "f16", "--shapes", "none"]),
    ] {
        let output = small().args(["--color", "always"]).args(args).env(variable, HOSTILE).output().unwrap();
        harmless(&output, &format!("{variable} {args:?}"));
    }
}

#[test]
fn no_text_and_no_message_about_an_input_acts_on_the_terminal() {
    // Only the starter's vocabulary has these characters; the small model shows nothing of them.
    let tokens = harmless(&with_stdin(&["--model", "starter", "tokens"], "x\u{202e}y\u{2066}z".as_bytes()), "tokens");
    assert!(tokens.contains("\\u{202e}") || tokens.contains("\\u{2066}"), "{tokens}");
    harmless(&with_stdin(&["tokens"], HOSTILE.as_bytes()), "tokens");
    for args in [&["score", HOSTILE, HOSTILE][..], &["explain", HOSTILE, "plain"]] {
        harmless(&run(args), &format!("{args:?}"));
    }
    let field = serde_json::to_string(HOSTILE).unwrap();
    let pair = json!({"a": HOSTILE, "b": HOSTILE}).to_string();
    harmless(&with_stdin(&["score", "--pairs", "-"], pair.as_bytes()), "pairs");
    let said = harmless(&with_stdin(&["embed"], format!("{{{field}: 1}}").as_bytes()), "a field's name");
    assert!(said.contains("\\u{1b}]0;pwned"), "{said}");
    let header = format!("\"{HOSTILE}\",b\n1,2\n");
    let said = harmless(&with_stdin(&["embed", "--input-format", "csv"], header.as_bytes()), "a column's name");
    assert!(said.contains("\\u{1b}]0;pwned"), "{said}");
    let reranker = data("rerankers");
    let reranker =
        fs::read_dir(reranker).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.is_dir()).unwrap();
    let reranked = run(&["--model", reranker.to_str().unwrap(), "rerank", "query", HOSTILE, "plain"]);
    let said = harmless(&reranked, "rerank");
    assert!(reranked.status.success() && said.contains("\\u{1b}]0;pwned"), "{said}");
    // JSON, which programs read, has the hostile text unchanged.
    let json: Value = serde_json::from_slice(
        &run(&["--model", reranker.to_str().unwrap(), "rerank", "--json", "query", HOSTILE]).stdout,
    )
    .unwrap();
    assert_eq!(json["text"], HOSTILE);
}

#[test]
fn no_request_acts_on_the_terminal_through_the_log() {
    let server = Server::start(&["--log-texts", "--log-level", "debug"]);
    server.post("/v1/embeddings", &json!({"input": [HOSTILE]}));
    // A header can carry all bytes but ASCII controls.
    let id = "a\u{202e}b\u{9b}31m";
    server.request("GET", "/v1/status", &[("x-request-id", id)], b"");
    server.get("/\u{202e}%1b%5b8m");
    server.raw("GET /\u{202e}\u{1b}[8m HTTP/1.1\r\nhost: localhost\r\n\r\n".as_bytes());
    server.request("GET", "/health", &[("x-request-id", "the-last")], b"");
    let log = server.log_with("the-last");
    assert!(log.contains("pwned"), "{log}");
    let output =
        Output { status: Command::new("true").status().unwrap(), stdout: log.into_bytes(), stderr: Vec::new() };
    harmless(&output, "the log");
}
