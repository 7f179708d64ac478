//! Arguments, streams, files and exit codes of the program, mostly with the built-in starter.

use trivec_testing as common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A command that runs `trivec` without input, in an environment without its variables.
fn trivec(args: &[&str]) -> Command {
    let mut command = common::program::trivec();
    command.args(args).stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    trivec(args).output().unwrap()
}

fn with_stdin(args: &[&str], input: &[u8]) -> Output {
    let mut child = trivec(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // The program may end before it has read everything, so an error of writing is ignored.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

/// The standard output of a run that must succeed.
fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The lines of JSON that a run printed.
fn records(output: &Output) -> Vec<Value> {
    stdout(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The exit code and the standard error of a run.
fn failure(output: &Output) -> (i32, String) {
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

#[test]
fn a_text_that_is_cut_is_reported() {
    let long = "word ".repeat(2_000);
    let scored = &records(&run(&["score", &long, "short", "--json"]))[0];
    assert_eq!(scored["truncated"], serde_json::json!([true, false]));
    assert!(stdout(&run(&["score", "short", &long])).ends_with("cut: text B has more tokens than are allowed\n"));
    assert!(stdout(&run(&["explain", &long, &long])).contains("cut: both texts have more tokens"));
    assert!(!stdout(&run(&["score", "short", "brief"])).contains("cut:"));
    let pairs = format!("{{\"a\": \"short\", \"b\": \"{long}\"}}\n{{\"a\": \"short\", \"b\": \"brief\"}}\n");
    let table = stdout(&with_stdin(&["score", "--pairs", "-"], pairs.as_bytes()));
    let rows: Vec<bool> = table.lines().skip(1).map(|line| line.ends_with("  (cut)")).collect();
    assert_eq!(rows, [true, false]);
}

#[test]
fn help_is_printed_and_wrong_use_ends_with_2() {
    for command in ["embed", "score", "explain", "tokens", "info"] {
        let help = stdout(&run(&[command, "--help"]));
        assert!(help.contains("TRIVEC_MODEL") && help.contains("Usage: trivec"), "{command}");
    }
    assert!(stdout(&run(&["--help"])).contains("Examples:"));
    assert!(stdout(&run(&["--version"])).starts_with("trivec "));
    for args in [
        &[][..],
        &["nonsense"],
        &["score", "one text"],
        &["score"],
        &["score", "a", "b", "--pairs", "x"],
        &["embed", "a", "--input", "x"],
        &["embed", "a", "--modes", "dance"],
        &["embed", "a", "--format", "npy", "--modes", "all"],
        &["embed", "a", "--dimensions", "0"],
        &["embed", "a", "--dimensions", "385"],
        &["embed", "a", "--max-length", "1"],
        &["embed", "a", "--max-length", "513"],
        &["embed", "a", "--batch-size", "0"],
        &["info", "--threads", "0"],
        &["info", "--threads", "9999"],
        &["info", "--isa", "mmx"],
        &["score", "a", "b", "--weights", "1,1"],
        &["score", "a", "b", "--weights", "0,0,0"],
        &["score", "a", "b", "--weights", "-1,1,1"],
        &["score", "a", "b", "--weights", "NaN,1,1"],
        &["score", "a", "b", "--weights", "1e39,1,1"],
        &["score", "a", "b", "--thresholds", "0.1,0.2,0.3"],
    ] {
        let (code, message) = failure(&run(args));
        assert!(code == 2 && !message.is_empty(), "{args:?}: {code} {message}");
    }
}

#[test]
fn embeds_arguments_lines_and_jsonl_alike() {
    let arguments = records(&run(&["embed", "--modes", "all", "first text", "", "第二"]));
    let lines = records(&with_stdin(&["embed", "--modes", "all"], "first text\r\n\r第二".as_bytes()));
    assert_eq!(arguments, lines);
    let jsonl = "{\"id\":7,\"text\":\"first text\"}\n\n{\"id\":\"x\",\"text\":\"\",\"more\":1}\n{\"text\":\"第二\",\"id\":[1]}\n";
    let jsonl = records(&with_stdin(&["embed", "--modes", "all", "--input", "-"], jsonl.as_bytes()));
    assert_eq!(
        jsonl.iter().map(|r| r["id"].clone()).collect::<Vec<_>>(),
        [7.into(), "x".into(), serde_json::json!([1])]
    );
    for (index, (a, j)) in arguments.iter().zip(&jsonl).enumerate() {
        assert_eq!((a["index"].as_u64(), &a["id"]), (Some(index as u64), &Value::Null));
        for part in ["dense", "sparse", "colbert", "tokens", "truncated"] {
            assert_eq!(a[part], j[part], "{part}");
        }
    }
    // The empty text is `<s></s>`: two tokens, one ColBERT vector and no lexical weight.
    assert_eq!((&arguments[1]["tokens"], arguments[1]["colbert"].as_array().unwrap().len()), (&2.into(), 1));
    assert_eq!(arguments[1]["sparse"]["indices"], serde_json::json!([]));
    let dense_only = &records(&run(&["embed", "first text"]))[0];
    assert!(dense_only.get("sparse").is_none() && dense_only.get("colbert").is_none());
    assert_eq!(dense_only["dense"], arguments[0]["dense"]);
    assert!(stdout(&with_stdin(&["embed"], b"")).is_empty());

    let ids = records(&run(&["tokens", "--json", "first text"]))[0]["ids"].clone();
    let by_ids = with_stdin(&["embed"], format!("{{\"input_ids\":{ids}}}").as_bytes());
    assert_eq!(records(&by_ids)[0]["dense"], arguments[0]["dense"]);
}

#[test]
fn vectors_are_cut_before_they_are_normalised() {
    let whole = floats(&records(&run(&["embed", "a text"]))[0]["dense"]);
    let cut = floats(&records(&run(&["embed", "a text", "--dimensions", "64"]))[0]["dense"]);
    let norm = whole[..64].iter().map(|x| x * x).sum::<f32>().sqrt();
    assert_eq!(cut.len(), 64);
    assert!(cut.iter().zip(&whole).all(|(cut, whole)| (cut - whole / norm).abs() < 1e-6));
    let raw = floats(&records(&run(&["embed", "a text", "--no-normalize"]))[0]["dense"]);
    let length = raw.iter().map(|x| x * x).sum::<f32>().sqrt();
    assert!((length - 1.0).abs() > 0.01 && raw.iter().zip(&whole).all(|(x, y)| (x / length - y).abs() < 1e-6));
}

#[test]
fn bad_input_names_its_line() {
    let (code, message) = failure(&with_stdin(&["embed"], b"good\nb\xffd\n"));
    assert!(code == 3 && message.contains("line 2, byte 6"), "{message}");
    assert_eq!(records(&with_stdin(&["embed", "--lossy"], b"good\nb\xffd\n")).len(), 2);
    for (line, what) in [
        ("{\"text\":1}", "line 2"),
        ("nonsense", "line 2"),
        ("{\"text\":\"\\ud800\"}", "half of a character"),
        ("{\"input_ids\":[]}", "line 2"),
        ("{\"input_ids\":[999999]}", "999999"),
    ] {
        let (code, message) = failure(&with_stdin(
            &["embed", "--input-format", "jsonl"],
            format!("{{\"text\":\"a\"}}\n{line}\n").as_bytes(),
        ));
        assert!(code == 3 && message.contains(what), "{line}: {code} {message}");
    }
}

#[test]
fn binary_forms_hold_the_same_numbers() {
    let directory = TempDir::new().unwrap();
    let input = directory.path().join("in.txt");
    fs::write(&input, "first text\n\nthe third text is longer\n").unwrap();
    let input = input.to_str().unwrap();
    let expected = records(&run(&["embed", "--input", input, "--modes", "all"]));

    let npy = directory.path().join("out.npy");
    // The ending of the output's name chooses the format.
    run(&["embed", "--input", input, "--output", npy.to_str().unwrap()]);
    let bytes = fs::read(&npy).unwrap();
    assert!(bytes.starts_with(b"\x93NUMPY\x01\x00"));
    let data = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    assert!(data.is_multiple_of(64) && String::from_utf8_lossy(&bytes[..data]).contains("'shape': (3, 384)"));
    let values: Vec<f32> = bytes[data..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let dense: Vec<f32> = expected.iter().flat_map(|record| floats(&record["dense"])).collect();
    assert_eq!(values, dense);

    let tensors = with_stdin(&["embed", "--modes", "all", "--format", "safetensors"], &fs::read(input).unwrap());
    let file = safetensors::SafeTensors::deserialize(&tensors.stdout).unwrap();
    let f32s = |name: &str| -> Vec<f32> {
        file.tensor(name).unwrap().data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    let i64s = |name: &str| -> Vec<i64> {
        file.tensor(name).unwrap().data().chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap())).collect()
    };
    assert_eq!((f32s("dense"), file.tensor("dense").unwrap().shape()), (dense, &[3, 384][..]));
    assert_eq!(f32s("sparse.values"), expected.iter().flat_map(|r| floats(&r["sparse"]["values"])).collect::<Vec<_>>());
    let rows: Vec<f32> = expected.iter().flat_map(|r| r["colbert"].as_array().unwrap()).flat_map(floats).collect();
    assert_eq!(f32s("colbert.vectors"), rows);
    assert_eq!(i64s("tokens"), expected.iter().map(|r| r["tokens"].as_i64().unwrap()).collect::<Vec<_>>());
    assert_eq!(i64s("colbert.indptr").last(), Some(&((rows.len() / 384) as i64)));
    assert_eq!(i64s("sparse.indptr").len(), 4);
    assert_eq!(file.tensor("truncated").unwrap().data(), [0, 0, 0]);

    let empty = with_stdin(&["embed", "--modes", "all", "--format", "safetensors"], b"");
    let file = safetensors::SafeTensors::deserialize(&empty.stdout).unwrap();
    assert_eq!(file.tensor("dense").unwrap().shape(), [0, 384]);
}

/// The sorted names in a directory.
fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_file_appears_whole_or_not_at_all() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("in.txt"), b"good\nbad \xff\n").unwrap();
    fs::write(path("out.jsonl"), "old").unwrap();
    // One record at a time: the first is embedded and written before the second is read.
    let args = ["embed", "--batch-size", "1", "--input", &path("in.txt"), "--output", &path("out.jsonl")];
    assert_eq!(failure(&run(&args)).0, 3);
    assert_eq!(fs::read_to_string(path("out.jsonl")).unwrap(), "old");
    assert_eq!(names(directory.path()), ["in.txt", "out.jsonl"]);

    fs::write(path("in.txt"), "good\n").unwrap();
    assert!(run(&args).status.success());
    assert!(fs::read_to_string(path("out.jsonl")).unwrap().starts_with("{\"index\":0"));

    let (code, message) = failure(&run(&["embed", "--input", &path("in.txt"), "--output", &path("in.txt")]));
    assert!(code == 2 && message.contains("is the input file"), "{message}");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(path("in.txt"), path("link")).unwrap();
        assert_eq!(failure(&run(&["embed", "--input", &path("in.txt"), "--output", &path("link")])).0, 2);
    }
    assert_eq!(fs::read_to_string(path("in.txt")).unwrap(), "good\n");

    // An output that is a link to a file that does not exist creates that file; a link to itself is an error.
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("made.jsonl", path("to come")).unwrap();
        assert!(run(&["embed", "a", "--output", &path("to come")]).status.success());
        assert!(
            fs::symlink_metadata(path("to come")).unwrap().is_symlink() && Path::new(&path("made.jsonl")).is_file()
        );
        std::os::unix::fs::symlink("loop", path("loop")).unwrap();
        let (code, message) = failure(&run(&["embed", "a", "--output", &path("loop")]));
        assert!(code == 5 && message.contains("leads to itself"), "{message}");
        assert!(fs::symlink_metadata(path("loop")).unwrap().is_symlink());
    }

    let (code, message) = failure(&run(&["embed", "a", "--output", &path("nowhere/out.jsonl")]));
    assert!(code == 5 && message.contains("nowhere"), "{message}");
    assert_eq!(failure(&run(&["embed", "--input", &path("absent.txt")])).0, 5);
}

#[test]
fn no_output_replaces_a_file_that_the_command_reads() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        fs::copy(trivec_testing::data("models/f32-h64").join(name), path(name)).unwrap();
    }
    fs::write(path("texts"), "a text\n".repeat(8)).unwrap();
    assert!(run(&["pack", &path("."), "--weights", "f16", "-o", &path("packed")]).status.success());
    let before: Vec<Vec<u8>> = names(directory.path()).iter().map(|name| fs::read(path(name)).unwrap()).collect();
    let (model, weights, packed) = (path("."), path("model.safetensors"), path("packed"));
    for (args, what) in [
        (&["embed", "a", "--model", &model, "-o", &weights][..], "a file of the model"),
        (&["embed", "a", "--model", &model, "-o", &path("config.json")], "a file of the model"),
        (&["embed", "a", "--model", &packed, "-o", &packed], "a file of the model"),
        (&["embed", "a", "--model", &model, "--cache", &path("texts"), "-o", &path("texts")], "the cache"),
        (&["pack", &model, "-o", &weights], "a file of the model"),
        (&["pack", &model, "-o", &path("tokenizer.json")], "a file of the model"),
        (&["pack", &model, "--calibration", &path("texts"), "-o", &path("texts")], "the file of --calibration"),
    ] {
        let (code, message) = failure(&run(args));
        assert!(code == 2 && message.contains("--output") && message.contains(what), "{args:?}: {message}");
    }
    let after: Vec<Vec<u8>> = names(directory.path()).iter().map(|name| fs::read(path(name)).unwrap()).collect();
    assert!(before == after, "every file is as it was");
}

#[test]
#[cfg(unix)]
fn a_pipe_is_written_to_and_never_replaced() {
    use std::os::unix::fs::FileTypeExt;
    let directory = TempDir::new().unwrap();
    let fifo = directory.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let is_fifo = || fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo();
    let reader = Command::new("cat").arg(&fifo).stdout(Stdio::piped()).spawn().unwrap();
    let path = fifo.display().to_string();
    assert!(run(&["embed", "a", "-o", &path]).status.success());
    assert_eq!(records(&reader.wait_with_output().unwrap()).len(), 1);
    assert!(is_fifo());
    let (code, err) = failure(&run(&["pack", "--weights", "int4", "-o", &path]));
    assert!(code == 2 && err.contains("is not a file"), "{err}");
    assert!(is_fifo());
    assert_eq!(names(directory.path()), ["fifo"]);
    // A link to where standard output goes, as /dev/stdout is.
    let link = directory.path().join("out");
    std::os::unix::fs::symlink("/dev/fd/1", &link).unwrap();
    assert_eq!(records(&run(&["embed", "a", "-o", &link.display().to_string()])).len(), 1);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_ends_with_5_and_a_closed_pipe_with_0() {
    // A device is written to directly, without a temporary file.
    for (device, expected) in [("/dev/null", 0), ("/dev/full", 5)] {
        let output = trivec(&["embed", "-q", "a", "-o", device]).env("TMPDIR", "/nonexistent").output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(expected), "{device}: {message}");
        assert!(expected == 0 || message.contains("/dev/full: No space left"), "{message}");
    }
    let output = trivec(&["embed", "-q", "a", "-o", "/proc/x"]).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("/proc/x: No such file") && !message.contains(".tmp"), "{message}");
    for command in [&["embed", "a"][..], &["score", "a", "b"], &["explain", "a", "b"], &["tokens", "a"], &["info"]] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let (code, message) = failure(&trivec(command).stdout(full).stderr(Stdio::piped()).output().unwrap());
        assert!(code == 5 && message.contains("standard output"), "{command:?}: {code} {message}");
    }
    let mut child = trivec(&["embed", "--quiet", "--batch-size", "1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || drop(stdin.write_all("a text\n".repeat(2000).as_bytes())));
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(first.starts_with("{\"index\":0"));
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn the_default_model_is_announced_unless_quiet() {
    for command in [&["embed", "a"][..], &["score", "a", "b"], &["explain", "a", "b"], &["tokens", "a"], &["info"]] {
        let stderr = |more: &[&str]| String::from_utf8(run(&[command, more].concat()).stderr).unwrap();
        assert!(stderr(&[]).contains("built-in starter model (not BGE-M3)"), "{command:?}");
        assert_eq!(
            (stderr(&["--quiet"]), stderr(&["--model", "starter"])),
            (String::new(), String::new()),
            "{command:?}"
        );
    }
}

#[test]
fn translations_score_high_and_unrelated_texts_low() {
    let score = |a: &str, b: &str| records(&run(&["score", "--json", a, b]))[0].clone();
    for (a, b) in [
        ("我喜欢阅读书籍", "I enjoy reading books"),
        ("人工智能正在改变世界", "AI is transforming the world"),
        ("今天天气很好", "The weather is nice today"),
    ] {
        assert!(score(a, b)["dense"].as_f64().unwrap() > 0.5, "{a}");
    }
    let unrelated = score("北京是中国的首都", "Paris is the capital of France");
    assert!(unrelated["dense"].as_f64().unwrap() < 0.3);
    assert_eq!(unrelated["verdict"], "unrelated");
    let same = score("the same text", "the same text");
    assert_eq!((same["verdict"].as_str(), same["dense"].as_f64().unwrap() > 0.9999), (Some("near-identical"), true));
    let keys: Vec<_> =
        stdout(&run(&["score", "--json", "a", "b"])).split('"').skip(1).step_by(2).take(5).map(str::to_owned).collect();
    assert_eq!(keys, ["colbert", "sparse", "dense", "sparse+dense", "colbert+sparse+dense"]);
    let colbert_only = records(&run(&["score", "--json", "--weights", "0,0,1", "a b", "b c"]))[0].clone();
    assert_eq!(
        (&colbert_only["sparse+dense"], &colbert_only["colbert+sparse+dense"]),
        (&Value::Null, &colbert_only["colbert"])
    );
    let human = stdout(&run(&["score", "a", "b"]));
    assert!(human.contains(" %  ") && human.contains("colbert+sparse+dense") && !human.contains('\u{1b}'));
    assert!(stdout(&run(&["score", "a", "b", "--color", "always"])).contains('\u{1b}'));
}

#[test]
fn pairs_are_scored_from_lines_and_json() {
    let pairs = "a query\ta document\n\n{\"a\":\"x\",\"b\":\"y\",\"id\":\"p\"}\n[\"u\",\"v\"]\n";
    let scores = records(&with_stdin(&["score", "--pairs", "-", "--json"], pairs.as_bytes()));
    assert_eq!(scores.iter().map(|s| s["index"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(scores[1]["id"], "p");
    let alone = records(&run(&["score", "--json", "a query", "a document"]))[0].clone();
    assert_eq!(scores[0]["dense"], alone["dense"]);
    assert_eq!(stdout(&with_stdin(&["score", "--pairs", "-"], pairs.as_bytes())).lines().count(), 4);
    assert!(stdout(&with_stdin(&["score", "--pairs", "-"], b"")).is_empty());
    let (code, message) = failure(&with_stdin(&["score", "--pairs", "-"], b"a\tb\nonly one\n"));
    assert!(code == 3 && message.contains("line 2"), "{message}");
}

#[test]
fn explain_aligns_words_across_languages() {
    let text = stdout(&run(&["explain", "苹果公司发布新手机", "Apple launched a new iPhone"]));
    let arrows: Vec<&str> =
        text.lines().skip_while(|line| !line.starts_with("Alignment")).filter(|line| line.starts_with("  ")).collect();
    let row = |left: &str, right: &str| {
        arrows.iter().any(|line| line.trim_start().starts_with(left) && line.contains(&format!("→ {right} ")))
    };
    assert!(row("苹果", "Apple") && row("手机", "iPhone"), "{text}");
    // All arrows stand in the same column of the display, though CJK characters are two columns wide.
    let columns: Vec<usize> = arrows.iter().map(|line| unicode_width(line.split('→').next().unwrap())).collect();
    assert!(columns.windows(2).all(|pair| pair[0] == pair[1]), "{columns:?}\n{text}");
    let json = &records(&run(&["explain", "--json", "new phone", "a new phone"]))[0];
    let sum: f64 = json["shared"].as_array().unwrap().iter().map(|s| s["product"].as_f64().unwrap()).sum();
    assert!((sum - json["scores"]["sparse"].as_f64().unwrap()).abs() < 1e-6);
}

/// The width of a text on the display: two columns for CJK characters, one for others. That is enough for the texts here.
fn unicode_width(text: &str) -> usize {
    text.chars().map(|c| if ('\u{2e80}'..'\u{ffff}').contains(&c) { 2 } else { 1 }).sum()
}

#[test]
fn special_tokens_can_be_literal_and_info_shows_the_options() {
    let tokens = &records(&run(&["tokens", "--json", "a </s> b"]))[0];
    assert_eq!(tokens["ids"].as_array().unwrap().iter().filter(|id| **id == 2).count(), 2);
    let masked = &records(&run(&["tokens", "--json", "a<mask>"]))[0];
    assert_eq!(masked["special"], serde_json::json!([true, false, true, true]));
    let literal = &records(&run(&["tokens", "--json", "--special-tokens", "literal", "a </s> b"]))[0];
    assert_eq!(literal["ids"].as_array().unwrap().iter().filter(|id| **id == 2).count(), 1);
    assert_eq!(stdout(&with_stdin(&["tokens"], b"hello\n")), stdout(&run(&["tokens", "hello"])));
    let info = &records(&run(&["info", "--json", "--threads", "1", "--isa", "scalar"]))[0];
    assert_eq!((&info["model"], &info["threads"], &info["isa"]), (&"starter".into(), &1.into(), &"scalar".into()));
    assert_eq!(info["modes"], serde_json::json!(["dense", "sparse", "colbert"]));
}

#[test]
fn options_come_from_the_environment_too() {
    let with_env = trivec(&["embed", "a"])
        .envs([("TRIVEC_MODES", "sparse"), ("TRIVEC_THREADS", "1"), ("TRIVEC_MODEL", "")])
        .output()
        .unwrap();
    let record = &records(&with_env)[0];
    assert!(record.get("dense").is_none() && record.get("sparse").is_some());
    let json = trivec(&["info"]).env("TRIVEC_JSON", "1").output().unwrap();
    assert_eq!(records(&json).len(), 1);
    assert_eq!(failure(&trivec(&["info"]).env("TRIVEC_ISA", "mmx").output().unwrap()).0, 2);
    let no = trivec(&["info"]).env("TRIVEC_JSON", "off").output().unwrap();
    assert!(stdout(&no).contains("starter") && !stdout(&no).starts_with('{'));
    assert_eq!(failure(&trivec(&["info"]).env("TRIVEC_JSON", "disabled").output().unwrap()).0, 2);
    // An empty key does not count as unset, because the service would then be open to everyone.
    let (code, said) = failure(&trivec(&["serve", "--port", "0"]).env("TRIVEC_API_KEY", "").output().unwrap());
    assert!(code == 2 && said.contains("empty key"), "{said}");
}

#[test]
fn a_missing_model_and_missing_heads_are_named() {
    let (code, message) = failure(&run(&["info", "--model", "no/such/directory"]));
    assert!(code == 4 && message.contains("no/such/directory"), "{message}");
    let no_heads = common::data("models/noheads-h64");
    let no_heads = no_heads.to_str().unwrap();
    let (code, message) = failure(&run(&["embed", "a", "--model", no_heads, "--modes", "sparse"]));
    assert!(code == 4 && message.contains("mode unavailable") && message.contains("sparse_linear"), "{message}");
    let score = &records(&run(&["score", "a", "b", "--model", no_heads, "--json"]))[0];
    assert!(score["dense"].is_number() && score["sparse"].is_null() && score["colbert+sparse+dense"].is_null());
    let human = stdout(&run(&["score", "a", "b", "--model", no_heads]));
    assert!(human.contains("not available") && human.contains("sparse_linear"), "{human}");
    assert!(stdout(&run(&["explain", "a", "b", "--model", no_heads])).contains("not available"));
}

/// Messages that cannot be written to stderr are lost; results and exit codes are not.
#[cfg(target_os = "linux")]
#[test]
fn a_full_stderr_changes_no_result_and_no_exit_code() {
    let full = || Stdio::from(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    // The note that the starter is used is lost, and the result is not.
    let output = trivec(&["embed", "a"]).stderr(full()).output().unwrap();
    assert_eq!((output.status.code(), records(&output).len()), (Some(0), 1));
    let output = trivec(&["embed", "--model", "nowhere", "a"]).stderr(full()).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(4), 0));
    // Help goes to stdout.
    let output = trivec(&["--help"]).stdout(full()).output().unwrap();
    assert_eq!(output.status.code(), Some(5));
    assert!(String::from_utf8_lossy(&output.stderr).contains("standard output"));
}
