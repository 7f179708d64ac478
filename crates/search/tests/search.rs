//! Tests of searching, from documents to explained hits, with the starter model.

mod common;

use common::{documents, indexed, model};
use trivec_search::{Arms, ColbertBits, Document, Error, ErrorKind, Fusion, Index, IndexOptions, Mark, Query, Reader};
use unicode_segmentation::UnicodeSegmentation;

fn keys(reader: &Reader, index: &Index, query: &Query) -> Vec<String> {
    let (model, id) = model();
    let encoder = index.encoder(model, id).unwrap();
    reader.search(&encoder, query).unwrap().hits.into_iter().map(|hit| hit.document.key).collect()
}

#[test]
fn questions_find_their_answers_in_every_language() {
    let directory = tempfile::tempdir().unwrap();
    let index = indexed(directory.path(), &IndexOptions::default());
    let reader = index.reader().unwrap();
    let mut found = 0;
    let mut asked = 0;
    for lang in ["en", "zh", "de", "ru"] {
        let of_lang: Vec<Document> =
            documents().into_iter().filter(|document| document.lang.as_deref() == Some(lang)).collect();
        for document in of_lang {
            let topic = document.metadata["topic"].as_str().unwrap();
            // The four best should be the sentence itself and the same sentence in the three other languages.
            let top = keys(&reader, &index, &Query { top: 4, ..Query::new(document.text.clone()) });
            assert_eq!(top[0], document.key);
            found += top.iter().filter(|key| key.starts_with(topic)).count();
            asked += 4;
        }
    }
    assert!(found * 10 >= asked * 9, "{found} of {asked}");
}

#[test]
fn arms_fusions_and_reranks_agree_on_what_is_clear() {
    let directory = tempfile::tempdir().unwrap();
    let index = indexed(directory.path(), &IndexOptions::default());
    let reader = index.reader().unwrap();
    let base = Query { top: 3, ..Query::new("Der Zug nach Berlin") };
    let fusions = [Fusion::default(), Fusion::RRF, Fusion::WEIGHTED];
    let arms = [
        Arms::ALL,
        Arms { dense: true, bm25: false, sparse: false },
        Arms { dense: false, bm25: true, sparse: false },
        Arms { dense: false, bm25: false, sparse: true },
    ];
    for fusion in fusions {
        for arms in arms {
            for rerank in [0, 200] {
                let query = Query { fusion, arms, rerank, ..base.clone() };
                // The fusion `weighted` does not use BM25: alone, its hits would all have the score 0.
                if matches!(fusion, Fusion::Weighted { .. }) && !arms.dense && !arms.sparse {
                    assert!(matches!(query.check(), Err(Error::Option { option: "fusion", .. })), "{query:?}");
                    continue;
                }
                let top = keys(&reader, &index, &query);
                assert_eq!(top[0], "train-de", "{query:?}");
            }
        }
    }
}

#[test]
fn hits_say_why() {
    let directory = tempfile::tempdir().unwrap();
    let index = indexed(directory.path(), &IndexOptions::default());
    let (model, id) = model();
    let encoder = index.encoder(model, id).unwrap();
    let reader = index.reader().unwrap();
    let query = Query { explain: true, ..Query::new("new phones and cameras") };
    let hits = reader.search(&encoder, &query).unwrap();
    let hit = hits.hits.iter().find(|hit| hit.document.key == "phone-en").unwrap();
    let explanation = hit.explanation.as_ref().unwrap();
    let found: Vec<(&str, bool)> = explanation.words.iter().map(|word| (word.word.as_str(), word.found)).collect();
    assert_eq!(found, [("new", true), ("phones", true), ("and", false), ("cameras", true)]);
    assert!(hit.arms.dense.is_some() && hit.arms.bm25.is_some() && hit.arms.colbert.is_some());
    assert!(hit.arms.share > 0.3 && hit.arms.share <= 1.0 && hits.best_share >= hit.arms.share);
    // The products add up to the lexical score, and the mean of the similarities is the ColBERT score.
    let sum: f32 = explanation.pieces.iter().map(|piece| piece.product).sum();
    assert!((sum - hit.arms.sparse.unwrap().score).abs() < 1e-4, "{sum} {:?}", hit.arms.sparse);
    let mean =
        explanation.alignment.iter().map(|token| token.similarity).sum::<f32>() / explanation.alignment.len() as f32;
    assert!((mean - hit.arms.colbert.unwrap().score).abs() < 1e-4);
    let snippet: String = explanation.snippet.iter().map(|part| part.text.as_str()).collect();
    assert_eq!(snippet, hit.document.text);
    let marked: Vec<&str> =
        explanation.snippet.iter().filter(|part| part.mark.is_some()).map(|part| part.text.as_str()).collect();
    assert!(marked.contains(&"phone") && marked.contains(&"camera"), "{marked:?}");
    // Hits can be written as JSON and read again.
    let json = serde_json::to_string(&hits).unwrap();
    assert_eq!(serde_json::from_str::<trivec_search::Hits>(&json).unwrap().hits.len(), hits.hits.len());
}

#[test]
fn the_sentence_that_carried_the_hit_is_shown() {
    let directory = tempfile::tempdir().unwrap();
    let (model, id) = model();
    let index = Index::create(directory.path(), id, &IndexOptions::default()).unwrap();
    let encoder = index.encoder(model, id).unwrap();
    let mut writer = index.writer().unwrap();
    let text = "The museum opens at nine. Tickets cost twelve euros. Dogs are not allowed inside the building. The café is on the second floor.";
    writer.upsert(&encoder, &[Document::new("museum", text)]).unwrap();
    writer.commit().unwrap();
    let reader = index.reader().unwrap();
    for question in ["Are dogs allowed inside?", "Sind Hunde erlaubt?"] {
        let hits = reader.search(&encoder, &Query { explain: true, ..Query::new(question) }).unwrap();
        let explanation = hits.hits[0].explanation.as_ref().unwrap();
        let snippet: String = explanation.snippet.iter().map(|part| part.text.as_str()).collect();
        assert_eq!(snippet, "Dogs are not allowed inside the building.", "{question}: {explanation:?}");
        assert!(explanation.more_before && explanation.more_after);
    }
}

#[test]
fn the_snippet_of_a_text_longer_than_the_maximum_length_has_the_words() {
    let directory = tempfile::tempdir().unwrap();
    let (model, id) = model();
    let options = IndexOptions { max_length: Some(32), ..IndexOptions::default() };
    let index = Index::create(directory.path(), id, &options).unwrap();
    let encoder = index.encoder(model, id).unwrap();
    let mut writer = index.writer().unwrap();
    let lead: String = (0..8).map(|n| format!("Chapter {n} is about animals of the sea and of the ice. ")).collect();
    let text = format!("{lead}The penguin colony of Halley was abandoned in winter. {lead}");
    writer.upsert(&encoder, &[Document::new("long", text).with_lang("en")]).unwrap();
    writer.upsert(&encoder, &documents()).unwrap();
    writer.commit().unwrap();
    let reader = index.reader().unwrap();
    let query = Query { snippets: true, ..Query::new("abandoned colony of penguins") };
    let hits = reader.search(&encoder, &query).unwrap();
    let hit = hits.hits.iter().find(|hit| hit.document.key == "long").unwrap();
    let explanation = hit.explanation.as_ref().unwrap();
    let snippet: String = explanation.snippet.iter().map(|part| part.text.as_str()).collect();
    assert_eq!(snippet, "The penguin colony of Halley was abandoned in winter.");
    assert!(explanation.more_before && explanation.more_after);
}

#[test]
fn filters_are_applied_in_every_arm_before_its_list_is_cut() {
    let directory = tempfile::tempdir().unwrap();
    let index = indexed(directory.path(), &IndexOptions::default());
    let reader = index.reader().unwrap();
    let all = documents();
    type Holds<'a> = &'a dyn Fn(&Document) -> bool;
    let holds: [(&str, Holds<'_>); 13] = [
        (r#"lang = "de""#, &|d| d.lang.as_deref() == Some("de")),
        (r#"lang != "de""#, &|d| d.lang.as_deref() != Some("de")),
        (r#"topic in ("rain", "soup")"#, &|d| ["rain", "soup"].contains(&d.metadata["topic"].as_str().unwrap())),
        (r#"tags = "soup" and not tags = "zh""#, &|d| d.key.starts_with("soup") && !d.key.ends_with("zh")),
        ("year >= 2010 and year < 2015.5", &|d| (2010..=2015).contains(&d.metadata["year"].as_i64().unwrap())),
        ("score > 6.9", &|d| d.metadata["score"].as_f64().unwrap() > 6.9),
        ("score = 1", &|d| d.metadata["score"].as_f64() == Some(1.0)),
        ("even = true", &|d| d.metadata["even"] == true),
        (r#"topic >= "soup""#, &|d| d.metadata["topic"].as_str().unwrap() >= "soup"),
        (r#"topic < "sounds""#, &|d| d.metadata["topic"].as_str().unwrap() < "sounds"),
        (r#"key in ("rain-de", "nothing")"#, &|d| d.key == "rain-de"),
        ("exists(topic) and not exists(nothing)", &|_| true),
        ("nothing = 1 or nothing != 1 or exists(nothing)", &|_| true),
    ];
    for (text, holds) in holds {
        let filter = text.parse().unwrap();
        let mut expected: Vec<String> = all.iter().filter(|d| holds(d)).map(|d| d.key.clone()).collect();
        assert_eq!(reader.count(&filter).unwrap(), expected.len(), "{text}");
        let query = Query {
            filter: Some(filter.clone()),
            top: 100,
            rerank: 0,
            ..Query::new("Der Zug nach Berlin fährt um sieben Uhr")
        };
        let mut found = keys(&reader, &index, &query);
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{text}");
        if !expected.is_empty() {
            // With one candidate per arm, a filter that was applied after the list was cut would mostly leave none.
            for arm in [Arms { dense: true, bm25: false, sparse: false }, Arms::ALL] {
                let one = Query { top: 1, candidates: 1, arms: arm, ..query.clone() };
                assert_eq!(keys(&reader, &index, &one).len(), 1, "{text}");
            }
        }
    }
}

/// Thai has no spaces between words, and by the rules of Unicode each line is one sentence.
#[test]
fn the_snippet_of_lines_without_spaces_is_the_one_with_the_words() {
    let (model, id) = model();
    let lines = [
        "รายงานประจำปีของบริษัทเกี่ยวกับการขายสินค้าและการตลาดในต่างประเทศทั้งหมด",
        "ฉันดื่มกาแฟร้อนทุกเช้าก่อนไปทำงาน",
        "นักเรียนอ่านหนังสือในห้องสมุดของโรงเรียนทุกวันหลังเลิกเรียนจนถึงเย็น",
    ];
    for colbert in [ColbertBits::Off, ColbertBits::Four] {
        for before in 0..3 {
            let directory = tempfile::tempdir().unwrap();
            let index =
                Index::create(directory.path(), id, &IndexOptions { colbert, ..IndexOptions::default() }).unwrap();
            let encoder = index.encoder(model, id).unwrap();
            let mut writer = index.writer().unwrap();
            // The line with the words first, in the middle, last.
            let mut order = lines.to_vec();
            order.swap(1, before);
            let others =
                (0..20).map(|n| Document::new(format!("{n}"), lines[if n % 2 == 0 { 0 } else { 2 }]).with_lang("th"));
            let documents: Vec<Document> =
                others.chain([Document::new("all", order.join("\n")).with_lang("th")]).collect();
            writer.upsert(&encoder, &documents).unwrap();
            writer.commit().unwrap();
            for query in ["กาแฟร้อนทุกเช้า", "กาแฟ", "ดื่มกาแฟ"] {
                let query = Query { explain: true, filter: Some("key = 'all'".parse().unwrap()), ..Query::new(query) };
                let hits = index.reader().unwrap().search(&encoder, &query).unwrap();
                let why = hits.hits[0].explanation.as_ref().unwrap();
                let snippet: String = why.snippet.iter().map(|part| part.text.as_str()).collect();
                assert_eq!(snippet, lines[1], "{colbert:?}, {before}: {}", query.text);
                let marked = why.snippet.iter().filter(|part| part.mark == Some(Mark::Word));
                assert!(marked.map(|part| part.text.as_str()).any(|text| text.contains("กาแฟ")), "{:?}", why.snippet);
                // Every part begins between grapheme clusters: no vowel sign is cut off its letter.
                let borders: Vec<usize> = snippet.grapheme_indices(true).map(|(at, _)| at).collect();
                let mut at = 0;
                for part in &why.snippet {
                    assert!(borders.contains(&at), "{:?}", why.snippet);
                    at += part.text.len();
                }
            }
        }
    }
}

#[test]
fn words_count_as_found_only_if_a_document_that_was_searched_has_them() {
    let directory = tempfile::tempdir().unwrap();
    let index = indexed(directory.path(), &IndexOptions::default());
    let (model, id) = model();
    let encoder = index.encoder(model, id).unwrap();
    let found = |filter: Option<&str>| -> Vec<bool> {
        let filter = filter.map(|text| text.parse().unwrap());
        let query = Query { filter, lang: Some("en".to_owned()), ..Query::new("carrots mountains submarine") };
        let hits = index.reader().unwrap().search(&encoder, &query).unwrap();
        hits.words.iter().map(|word| word.found).collect()
    };
    assert_eq!(found(None), [true, true, false]);
    assert_eq!(found(Some("topic = 'soup'")), [true, false, false]);
    assert_eq!(found(Some("lang = 'th'")), [false; 3]);
    let mut writer = index.writer().unwrap();
    writer.delete("soup-en").unwrap();
    writer.commit().unwrap();
    assert_eq!(found(None), [false, true, false], "the one with carrots is deleted");
}

#[test]
fn the_best_hit_is_right_with_every_precision_and_off_has_no_rerank() {
    for bits in [ColbertBits::Eight, ColbertBits::Four, ColbertBits::Two, ColbertBits::One, ColbertBits::Off] {
        let directory = tempfile::tempdir().unwrap();
        let index = indexed(directory.path(), &IndexOptions { colbert: bits, ..IndexOptions::default() });
        let (model, id) = model();
        let encoder = index.encoder(model, id).unwrap();
        let reader = index.reader().unwrap();
        for (question, expected) in
            [("Wann fährt der Zug?", "train"), ("vegetable soup recipe", "soup"), ("天气预报：下雨", "rain")]
        {
            let hits = reader.search(&encoder, &Query::new(question)).unwrap();
            assert!(hits.hits[0].document.key.starts_with(expected), "{bits:?}: {question} {:?}", hits.hits[0]);
            assert_eq!(hits.hits[0].arms.colbert.is_some(), bits != ColbertBits::Off);
        }
        assert_eq!(index.check().unwrap().documents, 30);
    }
}

#[test]
fn a_query_has_the_same_hits_alone_and_together_with_others() {
    let directory = tempfile::tempdir().unwrap();
    let index = indexed(directory.path(), &IndexOptions::default());
    let (model, id) = model();
    let encoder = index.encoder(model, id).unwrap();
    let reader = index.reader().unwrap();
    let filter: trivec_search::Filter = "year > 2005".parse().unwrap();
    let queries: Vec<Query> = documents()
        .iter()
        .enumerate()
        .map(|(i, d)| Query { filter: (i % 5 == 0).then(|| filter.clone()), ..Query::new(d.text.clone()) })
        .collect();
    let together = reader.search_all(&encoder, &queries).unwrap();
    for (query, together) in queries.iter().zip(together) {
        let alone = reader.search(&encoder, query).unwrap();
        assert_eq!(alone.hits, together.hits);
    }
}

#[test]
fn every_way_to_search_says_how_long_it_took() {
    let directory = tempfile::tempdir().unwrap();
    let index = indexed(directory.path(), &IndexOptions::default());
    let (model, id) = model();
    let encoder = index.encoder(model, id).unwrap();
    let reader = index.reader().unwrap();
    // More than are multiplied with the dense vectors together, one with a filter and one without the dense arm.
    let mut queries: Vec<Query> = (0..10).map(|n| Query::new(format!("soup {n}"))).collect();
    queries[2].filter = Some("year > 2005".parse().unwrap());
    queries[4].arms.dense = false;
    let texts: Vec<&str> = queries.iter().map(|query| query.text.as_str()).collect();
    let embeddings = encoder.queries(&texts).unwrap();
    let begin = std::time::Instant::now();
    let mut ways = vec![
        (true, reader.search_all(&encoder, &queries).unwrap()),
        (false, reader.search_all_vectors(&queries, &embeddings).unwrap()),
    ];
    for (query, embedding) in queries.iter().zip(&embeddings) {
        ways.push((true, vec![reader.search(&encoder, query).unwrap()]));
        ways.push((false, vec![reader.search_embedded(&encoder, query, embedding).unwrap()]));
        ways.push((false, vec![reader.search_vectors(query, embedding).unwrap()]));
    }
    let took = begin.elapsed().as_secs_f64() * 1e3;
    for (embeds, all) in &ways {
        for hits in all {
            let t = &hits.timings;
            assert_eq!(t.encode_ms > 0.0, *embeds, "{t:?}");
            // The dense arm may run beside the other two.
            let least = t.encode_ms + t.filter_ms + t.fusion_ms + t.rerank_ms + t.documents_ms;
            assert!(t.total_ms > 0.0 && t.total_ms + 1e-6 >= least + t.dense_ms.max(t.bm25_ms + t.sparse_ms), "{t:?}");
        }
    }
    // A part that several queries shared counts once.
    let sum: f64 = ways.iter().flat_map(|(_, all)| all).map(|hits| hits.timings.total_ms).sum();
    assert!(sum <= took, "{sum} of {took} ms");
    assert!(reader.search_all(&encoder, &[]).unwrap().is_empty());
    for (query, hits) in queries.iter().zip(&ways[1].1) {
        assert_eq!(hits.timings.dense_ms > 0.0, query.arms.dense, "{:?}", hits.timings);
    }
}

#[test]
fn numbers_out_of_range_are_refused_and_odd_texts_are_searched() {
    let directory = tempfile::tempdir().unwrap();
    let index = indexed(directory.path(), &IndexOptions::default());
    let (model, id) = model();
    let encoder = index.encoder(model, id).unwrap();
    let reader = index.reader().unwrap();
    for query in [
        Query { top: 1_000_000_000, ..Query::new("x") },
        Query { rerank: 20_000, ..Query::new("x") },
        Query { fusion: Fusion::Share { weight: f32::NAN }, ..Query::new("x") },
        Query { arms: Arms { dense: false, bm25: false, sparse: false }, ..Query::new("x") },
    ] {
        assert_eq!(reader.search(&encoder, &query).unwrap_err().kind(), ErrorKind::Usage);
    }
    assert!(reader.search(&encoder, &Query { top: 0, ..Query::new("x") }).unwrap().hits.is_empty());
    for text in ["!?", "\u{0}\u{feff}.", "AND OR NOT (title:x)^2 \"", &"very ".repeat(9_000), "a:b~2 [x TO y] *"] {
        let hits = reader.search(&encoder, &Query { explain: true, ..Query::new(text) }).unwrap();
        assert_eq!(hits.hits.len(), 10, "{text:?}");
        assert!(hits.hits.iter().all(|hit| (0.0..=1.0).contains(&hit.score)), "{text:?}");
    }
    let words: String = (0..2_000).map(|i| format!("word{i} ")).collect();
    let hits = reader.search(&encoder, &Query::new(format!("{words} Berlin"))).unwrap();
    assert_eq!(hits.words.len(), 2_001);
}

/// In an index that is mostly English, `de` and `la` are rare, but all of its Spanish documents have them.
#[test]
fn words_that_stand_everywhere_in_the_querys_language_count_for_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (model, id) = model();
    let index = Index::create(directory.path(), id, &IndexOptions::default()).unwrap();
    let encoder = index.encoder(model, id).unwrap();
    let english = (0..120).map(|n| Document::new(format!("en-{n}"), format!("The number {n} is written here.")));
    let animals = ["gato", "perro", "caballo", "pato", "lobo", "oso"];
    let spanish = (0..54).map(|n| {
        let animal = animals[n % 6];
        Document::new(format!("{animal}-{n}"), format!("El {animal} de la casa {n}")).with_lang("es")
    });
    let documents: Vec<Document> = english.map(|document| document.with_lang("en")).chain(spanish).collect();
    let mut writer = index.writer().unwrap();
    writer.upsert(&encoder, &documents).unwrap();
    writer.commit().unwrap();
    let reader = index.reader().unwrap();
    let ask = |text: &str, lang: Option<&str>| {
        let query = Query { lang: lang.map(str::to_owned), top: 100, ..Query::new(text) };
        reader.search(&encoder, &query).unwrap()
    };
    let idf = |hits: &trivec_search::Hits, word: &str| hits.words.iter().find(|info| info.word == word).unwrap().idf;
    for _ in 0..2 {
        let hits = ask("historia de la gata, el gato", Some("es"));
        assert_eq!(["de", "la", "el"].map(|word| idf(&hits, word)), [0.0; 3]);
        assert!(idf(&hits, "gata") > 2.0 && idf(&hits, "historia") > 4.0);
        // Of the Spanish documents only those about the cat have a word of the question that counts.
        let with_words: Vec<&str> = hits
            .hits
            .iter()
            .filter(|hit| hit.arms.share > 0.0)
            .map(|hit| hit.document.key.split('-').next().unwrap())
            .collect();
        assert!(with_words.len() >= 9 && with_words.iter().all(|animal| *animal == "gato"), "{with_words:?}");
    }
    // If the language is that of most documents, or has too few documents, the frequencies in the whole index count.
    assert!(idf(&ask("the number of the house", Some("en")), "the") > 0.0);
    assert!(idf(&ask("la 7", Some("fr")), "la") > 1.0);
}

#[test]
fn a_query_without_a_visible_character_and_an_unknown_language_are_refused_by_every_method() {
    let directory = tempfile::tempdir().unwrap();
    let index = indexed(directory.path(), &IndexOptions::default());
    let (model, id) = model();
    let encoder = index.encoder(model, id).unwrap();
    let reader = index.reader().unwrap();
    let embedding = encoder.query("soup").unwrap();
    let refused = |error: Error, expected: &str| {
        let Error::Option { option, what } = error else { panic!("{error}") };
        assert_eq!(option, expected, "{what}");
    };
    for empty in ["", " \t\n", "\u{0}\u{1b}", "\u{feff}\u{200b}\u{3164}"] {
        let query = Query::new(empty);
        refused(reader.search(&encoder, &query).unwrap_err(), "query");
        refused(reader.search_all(&encoder, &[Query::new("soup"), query.clone()]).unwrap_err(), "query");
        refused(reader.search_embedded(&encoder, &query, &embedding).unwrap_err(), "query");
        refused(reader.best(&query, &embedding).unwrap_err(), "query");
        refused(reader.search_vectors(&query, &embedding).unwrap_err(), "query");
        // Arms that search by vectors alone need no text.
        let vectors =
            Query { arms: Arms { dense: true, bm25: false, sparse: true }, fusion: Fusion::WEIGHTED, ..query };
        assert!(!reader.search_vectors(&vectors, &embedding).unwrap().hits.is_empty());
        refused(reader.search_embedded(&encoder, &vectors, &embedding).unwrap_err(), "query");
    }
    for code in ["xx", "german", "", "zxx"] {
        let query = Query { lang: Some(code.to_owned()), ..Query::new("soup") };
        refused(reader.search(&encoder, &query).unwrap_err(), "lang");
        refused(reader.search_all(&encoder, std::slice::from_ref(&query)).unwrap_err(), "lang");
        refused(
            reader.search_all_vectors(std::slice::from_ref(&query), std::slice::from_ref(&embedding)).unwrap_err(),
            "lang",
        );
        refused(reader.best(&query, &embedding).unwrap_err(), "lang");
    }
    let told = reader.check_lang("xx").unwrap_err().to_string();
    assert!(told.contains("found `xx`") && told.contains("ar, de, en, ru, th, zh"), "{told}");
    for code in ["en", "de-AT", "lo", "cmn", "ceb"] {
        reader.search(&encoder, &Query { lang: Some(code.to_owned()), ..Query::new("soup") }).unwrap();
    }
}

#[test]
fn hits_say_whether_the_query_was_longer_than_the_maximum_length() {
    let directory = tempfile::tempdir().unwrap();
    let index = indexed(directory.path(), &IndexOptions { max_length: Some(8), ..IndexOptions::default() });
    let (model, id) = model();
    let encoder = index.encoder(model, id).unwrap();
    let reader = index.reader().unwrap();
    let long = "This soup is cooked with carrots, onions and potatoes, and with much else.";
    let queries = [Query::new("soup"), Query::new(long)];
    let one_by_one: Vec<bool> =
        queries.iter().map(|query| reader.search(&encoder, query).unwrap().query_truncated).collect();
    let together: Vec<bool> =
        reader.search_all(&encoder, &queries).unwrap().iter().map(|hits| hits.query_truncated).collect();
    assert_eq!((one_by_one.as_slice(), together.as_slice()), (&[false, true][..], &[false, true][..]));
}

#[test]
fn a_search_ends_wherever_its_flag_is_looked_at() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use trivec::Cancel;

    let directory = tempfile::tempdir().unwrap();
    let index = indexed(directory.path(), &IndexOptions::default());
    let (model, id) = model();
    let encoder = index.encoder(model, id).unwrap();
    let reader = index.reader().unwrap();
    let only = |dense, bm25, sparse| Arms { dense, bm25, sparse };
    let base = Query { threads: 1, top: 5, ..Query::new("Der Zug nach Berlin") };
    let filter = Some("year >= 2000".parse().unwrap());
    // `least`: how often a search must look at its flag, which is before each of the 30 documents that it reranks, before each of the 30
    // whose missing scores `weighted` computes, before each of the hits that it reads, and once in the arm if only one searches.
    for (query, least) in [
        (Query { explain: true, filter, ..base.clone() }, 5 + 30),
        (Query { arms: only(true, false, false), rerank: 0, ..base.clone() }, 5 + 1),
        (Query { arms: only(false, true, false), rerank: 0, top: 1, ..base.clone() }, 1 + 1),
        (Query { arms: only(false, false, true), rerank: 0, top: 1, ..base.clone() }, 1 + 1),
        (Query { fusion: Fusion::WEIGHTED, ..base.clone() }, 5 + 30 + 30),
    ] {
        let plain = reader.search(&encoder, &query).unwrap();
        let embedding = encoder.query(&query.text).unwrap();
        let mut looks = 0;
        loop {
            // A flag that is not set the first `looks` times that it is looked at, and then sets itself.
            let left = Arc::new(AtomicUsize::new(looks));
            let ask = move || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_err();
            let query = Query { cancel: Some(Cancel::asking(ask)), ..query.clone() };
            match reader.search_embedded(&encoder, &query, &embedding) {
                Err(error) => assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}"),
                Ok(hits) => {
                    assert_eq!(hits.hits, plain.hits);
                    break;
                }
            }
            looks += 1;
        }
        assert!(looks >= least, "{looks} of {least}: {query:?}");
    }
    // A flag that is set before the search ends it on several threads, and in the forward pass.
    let cancel = Cancel::new();
    cancel.cancel();
    let query = Query { threads: 3, cancel: Some(cancel), ..base };
    assert_eq!(reader.search(&encoder, &query).unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(reader.search_all(&encoder, &[Query::new("soup"), query]).unwrap_err().kind(), ErrorKind::Cancelled);
}
