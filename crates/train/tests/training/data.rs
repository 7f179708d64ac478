//! Tests of reading pairs: every form of file, the errors of wrong ones, and the split into training and dev set.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;
use trivec_train::{Error, FEW_JUDGED, PairSet, RawPair, RawPairs, Split, TrainOptions, read_documents, read_pairs};

use crate::{inputs, options, pair, run, set, starter};

fn file(directory: &TempDir, name: &str, content: &str) -> PathBuf {
    let path = directory.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    path
}

fn read(content: &str) -> Result<RawPairs, Error> {
    let directory = tempfile::tempdir().unwrap();
    read_pairs(&file(&directory, "pairs.jsonl", content), Split::Train)
}

#[test]
fn lines_in_this_crates_and_in_flagembeddings_form_are_read() {
    let raw = read(
        "\u{feff}{\"query\": \"q\", \"passage\": \"p\", \"negatives\": [\"n\"], \"group\": 7, \"score\": 0.5, \"negative_scores\": [-1]}\n\n\
         {\"query\": \"fq\", \"pos\": [\"p1\", \"p2\"], \"neg\": [\"n1\"], \"pos_scores\": [1, 2], \"neg_scores\": [0]}\n\
         {\"query\": \"plain\", \"passage\": \"only\", \"negatives\": null}\n",
    )
    .unwrap();
    assert_eq!(raw.pairs.len(), 4);
    let first = &raw.pairs[0];
    assert_eq!(
        (first.group.as_deref(), first.score, first.negative_scores.as_slice()),
        (Some("7"), Some(0.5), &[-1.0][..])
    );
    assert_eq!(
        (raw.pairs[2].passage.as_str(), raw.pairs[2].score, raw.pairs[2].negatives.as_slice()),
        ("p2", Some(2.0), &["n1".to_owned()][..])
    );
    assert_eq!(raw.digest.len(), 64);
    let set = PairSet::new(raw).unwrap();
    // The two pairs of one query are one group.
    assert_eq!((set.pairs.len(), set.groups, set.queries.len(), set.passages.len()), (4, 3, 3, 6));
}

#[test]
fn beir_directories_are_read() {
    let directory = tempfile::tempdir().unwrap();
    file(
        &directory,
        "corpus.jsonl",
        "{\"_id\": \"d1\", \"title\": \"T\", \"text\": \"one\"}\n{\"_id\": 2, \"text\": \"two\"}\n",
    );
    file(&directory, "queries.jsonl", "{\"_id\": \"q1\", \"text\": \"which\"}\n");
    file(&directory, "qrels/test.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\t2\t0\n");
    let raw = read_pairs(directory.path(), Split::Dev).unwrap();
    assert_eq!(raw.pairs, [pair("which", "T one")]);
    assert_eq!(raw.others, ["two"]);
    let set = PairSet::new(raw).unwrap();
    assert_eq!((set.passages.len(), set.passage_groups.clone()), (2, vec![Some(0), None]));
    for names in
        ["query_id corpus_id score", "topic\titer\tdoc\trel", "Frage\tDokument\tWert", "\nquery-id\tcorpus-id\tscore"]
    {
        file(&directory, "qrels/test.tsv", &format!("{names}\nq1\td1\t1\nq1\t2\t0\n"));
        assert_eq!(read_pairs(directory.path(), Split::Dev).unwrap().pairs, [pair("which", "T one")], "{names}");
    }
    let error = read_pairs(directory.path(), Split::Train).unwrap_err();
    assert!(matches!(&error, Error::Io { path, .. } if path.ends_with("train.tsv")), "{error}");
    for (content, expected) in [
        ("q1\tunheard\t1\n", "there is no document with the id `unheard`"),
        ("head\n", "fields: found 1, expected query, document and gain"),
        ("a\tb\tc\nq1\td1\tx\n", "the gain is `x`"),
        // A first line with the id of a query or a document is a judgement, not the names of the columns.
        ("q1\td1\thigh\nq1\td1\t1\n", "line 1: the gain is `high`, expected a finite number"),
        ("q1 0 other x\nq1 0 d1 1\n", "line 1: the gain is `x`"),
        ("q7 0 d1 1,5\nq1 0 d1 1\n", "line 1: the gain is `1,5`"),
        ("a\tb\tc\nd\te\tf\n", "line 2: the gain is `f`"),
        ("q1\td1\tNaN\n", "line 1: the gain is `NaN`, expected a finite number"),
        ("a\tb\tc\nq1\td1\tinf\n", "line 2: the gain is `inf`, expected a finite number"),
        ("q1 d1\td1\t1\n", "there is no query with the id `q1 d1`"),
    ] {
        file(&directory, "qrels/test.tsv", content);
        let error = read_pairs(directory.path(), Split::Test).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn ids_with_spaces_and_titles_that_are_null_are_read() {
    let directory = tempfile::tempdir().unwrap();
    file(
        &directory,
        "corpus.jsonl",
        "{\"_id\": \"d 1\", \"title\": null, \"text\": \"one\"}\n{\"_id\": \"d\", \"text\": \"two\"}\n",
    );
    file(
        &directory,
        "queries.jsonl",
        "{\"_id\": \"q 1\", \"text\": \"which\"}\n{\"_id\": \"q\", \"text\": \"that\"}\n",
    );
    file(&directory, "qrels/dev.tsv", "query-id\tcorpus-id\tscore\nq 1\td 1\t1\n");
    assert_eq!(read_pairs(directory.path(), Split::Dev).unwrap().pairs, [pair("which", "one")]);
    // TREC's form: four fields separated by spaces.
    file(&directory, "qrels/dev.tsv", "q 0 d 1\n");
    assert_eq!(read_pairs(directory.path(), Split::Dev).unwrap().pairs, [pair("that", "two")]);
}

#[test]
fn documents_give_pairs_of_their_title_or_first_sentence_and_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let lines = "{\"title\": \"A title\", \"text\": \"A text that is long enough to be asked for.\"}\n\
                 The first sentence. And then what follows it in the text.\n";
    let raw = read_documents(&file(&directory, "docs.jsonl", lines)).unwrap();
    assert_eq!(raw.unlabelled, 2);
    assert_eq!(raw.pairs[1], pair("The first sentence.", "And then what follows it in the text."));
    let error = read_documents(&file(&directory, "bad.jsonl", "{\"title\": \"x\"}")).unwrap_err();
    assert!(error.to_string().contains("line 1: it has no `text`"), "{error}");
    for (line, expected) in [
        ("{\"text\": 5}", "line 1: `text` is a number, expected a text"),
        ("{\"text\": \"a\", \"text\": \"b\"}", "the field `text` is there twice"),
        ("{\"title\": [\"a\"], \"text\": \"b\"}", "line 1: `title` is a list, expected a text"),
    ] {
        let error = read_documents(&file(&directory, "bad.jsonl", line)).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn lines_that_are_wrong_are_named() {
    for (content, expected) in [
        ("{\"query\": \"q\", \"passage\": \"p\"}\nnonsense", "line 2: expected a JSON object"),
        ("[1]", "line 1: expected a JSON object"),
        (
            "{\"query\": \"q\", \"passage\": \"p\", \"query\": \"r\"}",
            "line 1: expected a JSON object: at character 38: the field `query` is there twice",
        ),
        ("{\"passage\": \"p\"}", "it has no `query`"),
        ("{\"query\": \"q\"}", "neither a `passage` nor"),
        ("{\"query\": 5, \"passage\": \"p\"}", "`query` is a number, expected a text"),
        ("{\"query\": \"q\", \"passage\": \"p\", \"negatives\": [\"p\"]}", "its passage is among its negatives"),
        ("{\"query\": \"q\", \"passage\": \"p\", \"negatives\": \"n\"}", "`negatives` is a text"),
        ("{\"query\": \"q\", \"passage\": \"p\", \"score\": \"high\"}", "`score` is a text, expected a finite number"),
        ("{\"query\": \"q\", \"passage\": \"p\", \"score\": 1e300}", "expected a finite number"),
        ("{\"query\": \"q\", \"pos\": [], \"neg\": []}", "`pos` is empty"),
        ("{\"query\": \"q\", \"pos\": [\"a\"], \"neg\": [\"a\"]}", "a text is in `pos` and in `neg`"),
        ("{\"query\": \"q\", \"pos\": [\"a\"], \"pos_scores\": [1, 2]}", "`pos_scores` has 2 numbers, expected 1"),
    ] {
        let error = read(content).unwrap_err().to_string();
        assert!(error.contains(expected), "{content}: {error}");
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("latin1.jsonl");
    fs::write(&path, b"{\"query\": \"\xe4\", \"passage\": \"p\"}").unwrap();
    assert!(read_pairs(&path, Split::Train).unwrap_err().to_string().contains("not UTF-8"));
    assert!(matches!(read_pairs(&directory.path().join("nowhere"), Split::Train).unwrap_err(), Error::Io { .. }));
}

#[test]
fn the_check_says_why_data_cannot_be_trained_on() {
    let said = |set: PairSet| set.check().unwrap_err().to_string();
    assert_eq!(said(set([])), "there are no pairs to train on");
    let empty = set([pair("", ""), pair("q", " "), pair("", "p")]);
    assert_eq!(empty.left_out.empty, 3);
    assert_eq!(said(empty), "there are no pairs to train on (3 were left out, as a side of them has no text)");
    assert!(said(set([pair("q", "p")])).contains("all 1 pairs belong to one group"));
    // Pairs are joined by the passage x, by the query b, and by y, which is a passage and a query.
    let joined = set([pair("a", "x"), pair("b", "x"), pair("b", "y"), pair("y", "z")]);
    assert_eq!((joined.groups, joined.groups_before), (1, 4));
    assert!(said(joined).contains("belong to one group"));
    set([pair("a", "x"), pair("b", "y")]).check().unwrap();
}

#[test]
fn a_hundred_thousand_duplicates_are_one_pair() {
    let mut pairs = vec![pair("the same", "again and again"); 100_000];
    pairs.push(pair("another", "one"));
    let set = set(pairs);
    assert_eq!((set.pairs.len(), set.left_out.duplicates), (2, 99_999));
}

#[test]
fn negatives_that_another_line_calls_right_are_dropped() {
    let mut first = pair("q", "right");
    first.negatives = vec!["also right".to_owned(), "wrong".to_owned()];
    first.negative_scores = vec![0.9, 0.1];
    let set = set([first, pair("q", "also right"), pair("other", "passage")]);
    assert_eq!(set.left_out.contradictions, 1);
    let pair = &set.pairs[0];
    assert_eq!((pair.negatives.len(), pair.negative_scores.as_slice()), (1, &[0.1][..]));
    assert_eq!(set.passages[pair.negatives[0] as usize], "wrong");
}

#[test]
fn a_dev_set_that_overlaps_the_training_data_is_refused_unless_allowed() {
    let directory = tempfile::tempdir().unwrap();
    let mut data = inputs();
    data.dev = Some(set([pair("a cat", "Something else that is said of it."), pair("new", "A passage of its own.")]));
    let error = run(&starter(1), data.clone(), &options(), directory.path(), None).unwrap_err();
    let Error::Overlap { count: 1, example } = &error else { panic!("{error}") };
    assert_eq!(example, "a cat");
    run(&starter(1), data, &TrainOptions { allow_overlap: true, ..options() }, directory.path(), None).unwrap();
}

#[test]
fn without_a_dev_set_one_is_split_off_the_training_data() {
    let directory = tempfile::tempdir().unwrap();
    let mut data = inputs();
    data.dev = None;
    let trained = run(&starter(1), data, &options(), directory.path(), None).unwrap();
    let report = trained.report.data;
    assert!(report.dev_split && report.dev_pairs == FEW_JUDGED && report.pairs + report.dev_pairs == 20, "{report:?}");
}

#[test]
fn too_few_pairs_to_judge_by_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut data = inputs();
    data.train = set(crate::THINGS[..19].iter().map(|(query, passage)| pair(query, passage)));
    data.dev = None;
    let error = run(&starter(1), data.clone(), &options(), directory.path(), None).unwrap_err();
    assert!(matches!(&error, Error::Data { what } if what.contains("19 pairs in 19 groups are too few")), "{error}");
    // A dev set, or a set to be measured, on which every ranking is right, or that has no pairs.
    let alone = set([pair("new", "A passage of its own.")]);
    data.dev = Some(alone.clone());
    let error = run(&starter(1), data.clone(), &options(), directory.path(), None).unwrap_err();
    assert!(error.to_string().starts_with("the dev set judges nothing"), "{error}");
    (data.dev, data.evals) = (inputs().dev, vec![("faq".to_owned(), set([]))]);
    let error = run(&starter(1), data.clone(), &options(), directory.path(), None).unwrap_err();
    assert_eq!(error.to_string(), "there are no pairs in the set `faq`");
    // With another passage, which is no right answer, the same pair can be measured.
    let raw = RawPairs {
        pairs: vec![pair("new", "A passage of its own.")],
        others: vec!["Another.".to_owned()],
        ..RawPairs::default()
    };
    data.evals = vec![("faq".to_owned(), PairSet::new(raw).unwrap())];
    run(&starter(1), data, &options(), directory.path(), None).unwrap();
}

#[test]
fn of_many_groups_six_percent_are_put_aside_and_of_few_never_more_than_half() {
    for (count, dev) in [(20, 10..=10), (21, 10..=10), (150, 10..=20), (2_000, 80..=160)] {
        let all = set((0..count).map(|at| pair(&format!("question {at}"), &format!("passage {at}"))));
        let (train, aside) = all.split_dev(6).unwrap();
        assert!(dev.contains(&aside.pairs.len()), "{count}: {}", aside.pairs.len());
        assert_eq!(train.pairs.len() + aside.pairs.len(), count);
        assert_eq!(train.overlap(&aside), None);
    }
}

#[test]
fn a_first_sentence_that_does_not_end_is_cut_to_two_hundred_characters() {
    let directory = tempfile::tempdir().unwrap();
    let pairs = |text: &str| read_documents(&file(&directory, "docs.txt", text)).unwrap().pairs;
    let spaced = |first: usize| format!("{} {}", "w".repeat(first), "x".repeat(250));
    for (text, query) in [
        ("字".repeat(250), "字".repeat(200)),
        // Cut at the last space, also at one after the two hundredth character, but not at a later one.
        ("word ".repeat(100), "word ".repeat(40).trim().to_owned()),
        (spaced(150), "w".repeat(150)),
        (spaced(200), "w".repeat(200)),
        (spaced(201), "w".repeat(200)),
        // An end of a sentence that is the two hundredth character, and one that is the next.
        (format!("{}。{}", "字".repeat(199), "后".repeat(30)), format!("{}。", "字".repeat(199))),
        (format!("{}。{}", "字".repeat(200), "后".repeat(30)), "字".repeat(200)),
    ] {
        let found = pairs(&text);
        assert_eq!(found.len(), 1, "{text}");
        assert_eq!(found[0].query, query, "{text}");
        assert_eq!(found[0].passage, text.trim()[query.len()..].trim(), "nothing is lost");
    }
    assert!(pairs(&"字".repeat(200)).is_empty(), "nothing is left for a passage");
}

#[test]
fn passages_of_no_pair_are_on_both_sides_of_a_split() {
    let directory = tempfile::tempdir().unwrap();
    let lines = |of: &str, count: usize| -> String {
        (0..count).map(|at| format!("{{\"_id\": \"{of}{at}\", \"text\": \"{of} number {at}\"}}\n")).collect()
    };
    file(&directory, "corpus.jsonl", &lines("passage", 50));
    file(&directory, "queries.jsonl", &lines("query", 30));
    let judged: String = (0..30).map(|at| format!("query{at}\tpassage{at}\t1\n")).collect();
    file(&directory, "qrels/train.tsv", &judged);
    let mut raw = read_pairs(directory.path(), Split::Train).unwrap();
    // A passage that is a negative of one pair stays on the side of this pair.
    raw.pairs[0].negatives = vec!["passage number 30".to_owned()];
    let all = PairSet::new(raw).unwrap();
    let (train, dev) = all.split_dev(6).unwrap();
    assert_eq!(train.pairs.len() + dev.pairs.len(), 30);
    for set in [&train, &dev] {
        let own = |pair: &trivec_train::Pair| pair.passage;
        let mut expected: Vec<String> = set.pairs.iter().map(|pair| set.passages[own(pair) as usize].clone()).collect();
        expected.extend((31..50).map(|at| format!("passage number {at}")));
        expected
            .extend(set.pairs.iter().any(|pair| !pair.negatives.is_empty()).then(|| "passage number 30".to_owned()));
        let mut found = set.passages.clone();
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
        assert_eq!(set.passage_groups.iter().filter(|group| group.is_some()).count(), set.pairs.len());
    }
    assert_eq!(train.overlap(&dev), None);
}

#[test]
fn pairs_without_a_digest_get_one_that_tells_them_apart() {
    let digest = |raw: RawPairs| PairSet::new(raw).unwrap().digest;
    let of = |pairs: &[RawPair], others: &[&str]| RawPairs {
        pairs: pairs.to_vec(),
        others: others.iter().map(|text| (*text).to_owned()).collect(),
        ..RawPairs::default()
    };
    let with = |change: &dyn Fn(&mut RawPair)| {
        let mut pair = pair("a query", "a passage");
        change(&mut pair);
        of(&[pair], &[])
    };
    let mut all = vec![
        with(&|_| {}),
        with(&|pair| pair.query = "another".to_owned()),
        with(&|pair| pair.passage = "another".to_owned()),
        with(&|pair| (pair.query, pair.passage) = ("a query a".to_owned(), "passage".to_owned())),
        with(&|pair| pair.negatives = vec!["no".to_owned()]),
        with(&|pair| pair.negatives = vec!["n".to_owned(), "o".to_owned()]),
        with(&|pair| pair.group = Some("no".to_owned())),
        with(&|pair| pair.group = Some(String::new())),
        with(&|pair| pair.score = Some(0.0)),
        with(&|pair| pair.score = Some(1.0)),
        with(&|pair| (pair.negatives, pair.negative_scores) = (vec!["no".to_owned()], vec![0.5])),
        of(&[pair("a query", "a passage")], &["another"]),
        of(&[pair("a query", "a passage"), pair("b", "c")], &[]),
        of(&[pair("b", "c"), pair("a query", "a passage")], &[]),
    ];
    // Joined lists: with a digest on one side, on the other, and on none.
    let known = |digest: &str| RawPairs { digest: digest.to_owned(), ..with(&|_| {}) };
    for (one, other) in [("", "known"), ("known", ""), ("", "")] {
        for text in ["x", "y"] {
            let mut joined = known(one);
            let mut more = known(other);
            let own = if one.is_empty() { &mut joined } else { &mut more };
            own.pairs[0].query = text.to_owned();
            joined.extend(more);
            all.push(joined);
        }
    }
    let found: Vec<String> = all.iter().cloned().map(digest).collect();
    assert!(found.iter().all(|digest| digest.len() == 64), "{found:?}");
    let different: std::collections::BTreeSet<&String> = found.iter().collect();
    assert_eq!(different.len(), found.len(), "{found:?}");
    assert_eq!(all.into_iter().map(digest).collect::<Vec<_>>(), found, "the same pairs have the same digest");
    // A given digest stays, also where one side of a join is empty.
    assert_eq!(digest(known("given")), "given");
    let mut joined = RawPairs::default();
    joined.extend(known("given"));
    joined.extend(RawPairs::default());
    assert_eq!(digest(joined), "given");
    assert_eq!(digest(RawPairs::default()), "");
}

#[test]
fn long_texts_are_cut_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    let mut data = inputs();
    let long = "a very long text about everything ".repeat(200);
    data.train = set([pair("short", &long), pair(&long, "short passage"), pair("a", "b"), pair("c", "d")]);
    let options = TrainOptions { batch: 4, ..options() };
    let trained = run(&starter(1), data, &options, directory.path(), None).unwrap();
    assert_eq!(trained.report.data.cut, 2);
    // One query is cut to 48 tokens and one passage to 96; the other texts, fewer than 40, have at most 12 tokens on average.
    let most = trained.report.states.tokens;
    assert!(most <= 48 + 96 + 40 * 12, "{most}");
}

#[test]
fn scores_of_another_model_are_used() {
    let directory = tempfile::tempdir().unwrap();
    let judged = |query: &str, passage: &str, scores: [f32; 2]| {
        let mut pair = pair(query, passage);
        pair.negatives = vec![format!("not about {query}")];
        pair.score = Some(scores[0]);
        pair.negative_scores = vec![scores[1]];
        pair
    };
    let with = |gap: f32| {
        let mut data = inputs();
        data.train = set(crate::THINGS[..20].iter().map(|(query, passage)| judged(query, passage, [gap, 0.0])));
        let name = format!("{gap}");
        run(&starter(1), data, &options(), &directory.path().join(name), None).unwrap().report.curve[0].losses.total
    };
    assert!((with(10.0) - with(0.0)).abs() > 1e-3);
}
