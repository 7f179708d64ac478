//! A reranker's pairs against the `tokenizers` library.

use std::fs;

/// Random pairs, cut by the `tokenizers` library as FlagReranker cuts them: each text by itself first, then the document alone.
#[test]
fn random_pairs_are_cut_as_the_tokenizers_library_does() {
    use tokenizers::{Tokenizer, TruncationDirection, TruncationParams, TruncationStrategy};
    let path = trivec_testing::data("rerankers/reranker-h48").join("tokenizer.json");
    let ours = trivec::text::Tokenizer::from_json(&fs::read(&path).unwrap(), &path).unwrap();
    let mut library = Tokenizer::from_file(&path).unwrap();
    let mut state = 88_172_645_463_325_252u64;
    let mut random = move |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % n
    };
    let pieces = ["cat", " ", "  ", "a", "the", "天", "気", "</s>", "<mask>", "<pad>", "☃", ".", "ер", "\n", "q"];
    let (mut cut_queries, mut cut_documents) = (0, 0);
    for _ in 0..3000 {
        let mut text = || {
            let most = [3, 12, 40][random(3)];
            (0..random(most)).map(|_| pieces[random(pieces.len())]).collect::<String>()
        };
        let (query, document) = (text(), text());
        let max_length = 17 + random(40);
        let found = ours.encode_pair(&query, &document, max_length, trivec::SpecialTokens::Parse);

        library.with_truncation(None).unwrap();
        let encode = |text: &str, most: usize| {
            let mut encoding = library.encode(text, false).unwrap();
            let len = encoding.len();
            encoding.truncate(most, 0, TruncationDirection::Right);
            (encoding, len)
        };
        let (q, query_len) = encode(&query, max_length * 3 / 4);
        let (d, document_len) = encode(&document, max_length);
        cut_queries += usize::from(query_len > q.len());
        let whole = query_len + document_len + 4;
        let params = TruncationParams { max_length, strategy: TruncationStrategy::OnlySecond, ..Default::default() };
        library.with_truncation(Some(params)).unwrap();
        let expected = library.post_process(q, Some(d), true).unwrap();
        assert_eq!(found.ids, expected.get_ids(), "{query:?}, {document:?}, {max_length}");
        assert_eq!(found.truncated, found.ids.len() < whole, "{query:?}, {document:?}, {max_length}");
        cut_documents += usize::from(found.truncated && query_len <= max_length * 3 / 4);
    }
    assert!(cut_queries > 100 && cut_documents > 100, "{cut_queries}, {cut_documents}");
}
