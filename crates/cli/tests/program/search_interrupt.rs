//! `trivec index` that is interrupted: the first signal ends it after what was read is committed, a second one at once.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::search::Fixture;

/// More than a pipe holds, so that the program indexes when all was written.
const WRITTEN: usize = 400_000;

/// A run that reads documents from a pipe that stays open, when it has begun to index; and how many documents were written.
fn begun(fixture: &Fixture, index: &str) -> (Child, usize) {
    let mut command = fixture.command(&["-q", "index", index, "--input", "-", "--max-length", "8"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pipe = child.stdin.as_mut().unwrap();
    let (mut written, mut count) = (0, 0);
    while written < WRITTEN {
        let line = format!("{{\"id\": \"{count}\", \"text\": \"{}\"}}\n", "a word ".repeat(400));
        pipe.write_all(line.as_bytes()).unwrap();
        written += line.len();
        count += 1;
    }
    (child, count)
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[test]
fn the_first_interrupt_commits_what_was_read() {
    let fixture = Fixture::new();
    for (index, signal) in [("by-int", Signal::INT), ("by-term", Signal::TERM)] {
        let (mut child, count) = begun(&fixture, index);
        send(&child, signal);
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert!(line.contains("what was read is committed first; interrupt again to end at once"), "{line}");
        // What comes later is not read any more.
        let mut pipe = child.stdin.take().unwrap();
        let _ = pipe.write_all(b"{\"id\": \"late\", \"text\": \"too late\"}\n");
        drop(pipe);
        let mut rest = String::new();
        said.read_to_string(&mut rest).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{rest}");
        assert!(rest.contains("interrupted: what is added is in the index"), "{rest}");
        let summary = String::from_utf8(output.stdout).unwrap();
        assert!(summary.contains(" added as "), "{summary}");
        let documents = fixture.json(&["index", index, "--stats", "--json"])["documents"].as_u64().unwrap();
        assert!(documents > 0 && documents <= count as u64, "{documents} of {count}");
        assert!(summary.contains(&format!("{documents} added as ")), "{documents}: {summary}");
        assert!(fixture.fails(3, &["get", index, "late"]).contains("late"));
        fixture.ok(&["index", index, "--check"]);
        // The same run goes on from there.
        let again = fixture.ok(&["index", index, "--input", "docs.jsonl"]);
        assert!(again.contains("4 added"), "{again}");
    }
}

#[test]
fn a_second_interrupt_ends_at_once_and_the_index_is_whole() {
    let fixture = Fixture::new();
    let (mut child, _) = begun(&fixture, "twice");
    send(&child, Signal::INT);
    let mut said = BufReader::new(child.stderr.take().unwrap());
    said.read_line(&mut String::new()).unwrap();
    // It waits for the pipe, which stays open.
    send(&child, Signal::INT);
    let pipe = child.stdin.take();
    let status = child.wait().unwrap();
    drop(pipe);
    assert_eq!(status.signal(), Some(Signal::INT.as_raw()), "{status}");
    fixture.ok(&["index", "twice", "--check"]);
    assert!(fixture.ok(&["index", "twice", "--input", "docs.jsonl"]).contains("4 added"));
}
