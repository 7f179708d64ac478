//! Tests that what a writer has acknowledged is there after its process was killed at any instruction, and that another writer can go on.

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use common::model;
use trivec_search::{Document, Index, IndexOptions};

const DIRECTORY: &str = "TRIVEC_TEST_KILLED";

/// Not a test but the child process of the one below: each round commits two documents, of which `same` replaces an earlier one, deletes
/// the document of two rounds before, and acknowledges the commit on standard error. Every fifth round compacts the index.
#[test]
fn child_that_writes_until_it_is_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let (model, id) = model();
    let index = Index::open(directory).unwrap();
    let encoder = index.encoder(model, id).unwrap();
    let mut writer = index.writer().unwrap();
    for round in 0..10_000 {
        let text = format!("round {round}");
        let new = [Document::new(format!("k{round}"), text.clone()), Document::new("same", text)];
        writer.upsert(&encoder, &new).unwrap();
        if round >= 2 {
            writer.delete(&format!("k{}", round - 2)).unwrap();
        }
        writer.commit().unwrap();
        // To standard error, which the parent reads.
        eprintln!("acknowledged {round}");
        if round % 5 == 4 {
            writer.compact(true).unwrap();
        }
    }
}

#[test]
fn a_killed_writer_leaves_what_it_has_acknowledged() {
    let (model, id) = model();
    for rounds in [0, 1, 4, 5, 7, 12] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("index");
        let index = Index::create(&path, id, &IndexOptions::default()).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_writes_until_it_is_killed", "--nocapture", "--test-threads", "1"])
            .env(DIRECTORY, &path)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut acknowledged = None;
        for line in BufReader::new(child.stderr.take().unwrap()).lines() {
            let line = line.unwrap();
            if let Some(round) = line.strip_prefix("acknowledged ") {
                acknowledged = Some(round.parse::<usize>().unwrap());
                if acknowledged == Some(rounds) {
                    break;
                }
            }
        }
        assert_eq!(acknowledged, Some(rounds), "the child has ended before it was killed");
        child.kill().unwrap();
        child.wait().unwrap();

        let reader = index.reader().unwrap();
        // `same` has the text of the last round that was committed, which may be later than the one that was acknowledged.
        let last: usize =
            reader.get("same").unwrap().entries()[0].text.strip_prefix("round ").unwrap().parse().unwrap();
        assert!(last >= rounds, "{last} of {rounds}");
        for round in 0..=last {
            let there = reader.get(&format!("k{round}"));
            assert_eq!(there.is_ok(), round + 2 > last, "{round} of {last}");
        }
        index.check().unwrap();
        let encoder = index.encoder(model, id).unwrap();
        let mut writer = index.writer().unwrap();
        writer.upsert(&encoder, &[Document::new("after", "it goes on")]).unwrap();
        writer.commit().unwrap();
        assert!(index.reader().unwrap().get("after").is_ok());
        index.check().unwrap();
    }
}
