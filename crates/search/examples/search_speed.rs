//! How fast an index of synthetic vectors is searched: `cargo run --release -p trivec-search --example search_speed -- DIR [documents] [dim] [tokens]`.
//! The index is made once, and is there for the next run. The medians of a number of queries are printed, part by part. A document has 60 words
//! and 60 lexical weights, a query 8 words and 12 weights.

use std::time::Instant;

use trivec::{Embedding, LexicalWeights, TokenVectors};
use trivec_search::{Arms, ColbertBits, Document, Fusion, Index, IndexOptions, ModelId, Query, Timings};

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn row(&mut self, dim: usize) -> Vec<f32> {
        let mut row: Vec<f32> = (0..dim).map(|_| (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0).collect();
        let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        row.iter_mut().for_each(|x| *x /= norm);
        row
    }

    /// A word of a vocabulary in which frequent ones are frequent, as in texts.
    fn word(&mut self) -> u64 {
        let uniform = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        (50_000f64.powf(uniform)) as u64
    }

    fn words(&mut self, count: usize) -> String {
        (0..count).map(|_| format!("w{} ", self.word())).collect()
    }

    fn embedding(&mut self, dim: usize, tokens: usize, pieces: usize) -> Embedding {
        let dense = self.row(dim);
        let lexical = LexicalWeights::from_pairs((0..pieces).map(|_| (self.word() as u32 + 10, 0.2)).collect());
        // One row over and over: their values do not matter to the time.
        let colbert = TokenVectors::new(dense.iter().copied().cycle().take(dim * tokens).collect(), dim);
        Embedding { dense: Some(dense), lexical: Some(lexical), colbert: Some(colbert), tokens, truncated: false }
    }
}

/// How long two threads take to read so many bytes from memory: what no scan of them can beat.
fn limit_ms(bytes: usize) -> f64 {
    let memory: Vec<u64> = (0..bytes as u64 / 8).collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(2);
    let part = memory.len().div_ceil(threads);
    let mut times: Vec<f64> = (0..7)
        .map(|_| {
            let begin = Instant::now();
            std::thread::scope(|scope| {
                for part in memory.chunks(part) {
                    scope.spawn(|| {
                        // Many sums, so that additions do not wait for each other.
                        let mut sums = [0u64; 64];
                        for values in part.chunks_exact(64) {
                            sums.iter_mut().zip(values).for_each(|(sum, value)| *sum = sum.wrapping_add(*value));
                        }
                        std::hint::black_box(sums);
                    });
                }
            });
            begin.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().ok_or("expected a directory")?;
    let documents: u64 = arguments.next().map_or(Ok(100_000), |n| n.parse())?;
    let dim: usize = arguments.next().map_or(Ok(1024), |n| n.parse())?;
    // Token rows of every document.
    let tokens: usize = arguments.next().map_or(Ok(1), |n| n.parse())?;
    let model = ModelId {
        name: "synthetic".into(),
        digest: "0".repeat(64),
        dense_dim: dim,
        colbert_dim: Some(dim),
        lexical: true,
    };
    let mut random = Random(0x1234_5678_9ABC_DEF1);
    let options = IndexOptions { colbert: ColbertBits::Four, language: Some("und".into()), ..IndexOptions::default() };
    let index = Index::open_or_create(&directory, &model, &options)?;
    let begin = Instant::now();
    let mut writer = index.writer()?;
    let there = index.reader()?.len() as u64;
    for number in there..documents {
        let text = random.words(60);
        writer.upsert_embedded(&Document::new(format!("d{number}"), text), &random.embedding(dim, tokens, 60))?;
        if writer.pending() == 50_000 {
            writer.commit()?;
            println!("{} documents, {:.0} s", number + 1, begin.elapsed().as_secs_f64());
        }
    }
    if writer.pending() > 0 {
        writer.commit()?;
    }
    drop(writer);
    let begin = Instant::now();
    let reader = index.reader()?;
    println!("{} documents of {dim} values, opened in {:.0} ms", reader.len(), begin.elapsed().as_secs_f64() * 1e3);

    let queries: Vec<(Query, Embedding)> = (0..21)
        .map(|_| {
            let query = Query { arms: Arms::ALL, fusion: Fusion::WEIGHTED, ..Query::new(random.words(8)) };
            (query, random.embedding(dim, 16, 12))
        })
        .collect();
    for rerank in [0, 200] {
        let mut all: Vec<Timings> = Vec::new();
        for (query, embedding) in &queries {
            let query = Query { rerank, ..query.clone() };
            all.push(reader.search_vectors(&query, embedding)?.timings);
        }
        // The first query reads and checks every file.
        let first = all.remove(0);
        let median = |of: fn(&Timings) -> f64| {
            let mut list: Vec<f64> = all.iter().map(of).collect();
            list.sort_by(f64::total_cmp);
            list[list.len() / 2]
        };
        println!(
            "rerank {rerank}: dense {:.2} words {:.2} lexical {:.2} fusion {:.2} rerank {:.2} documents {:.2} whole {:.2} ms (first query {:.1})",
            median(|t| t.dense_ms),
            median(|t| t.bm25_ms),
            median(|t| t.sparse_ms),
            median(|t| t.fusion_ms),
            median(|t| t.rerank_ms),
            median(|t| t.documents_ms),
            median(|t| t.total_ms),
            first.total_ms,
        );
    }
    // The arms alone, so that they do not share the cores.
    for (name, arms) in [
        ("dense", Arms { dense: true, bm25: false, sparse: false }),
        ("words", Arms { dense: false, bm25: true, sparse: false }),
        ("lexical", Arms { dense: false, bm25: false, sparse: true }),
    ] {
        let mut times: Vec<f64> = Vec::new();
        for (query, embedding) in &queries {
            let query = Query { arms, rerank: 0, top: 10, fusion: Fusion::default(), ..query.clone() };
            let timings = reader.search_vectors(&query, embedding)?.timings;
            times.push(timings.dense_ms.max(timings.bm25_ms).max(timings.sparse_ms));
        }
        times.sort_by(f64::total_cmp);
        println!("{name} alone: median {:.2} ms, slowest {:.2} ms", times[times.len() / 2], times[times.len() - 1]);
    }
    let together: Vec<Query> = queries
        .iter()
        .map(|(query, _)| Query {
            arms: Arms { dense: true, bm25: false, sparse: false },
            rerank: 0,
            fusion: Fusion::default(),
            ..query.clone()
        })
        .take(8)
        .collect();
    let embeddings: Vec<Embedding> = queries.iter().map(|(_, embedding)| embedding.clone()).take(8).collect();
    let mut times = Vec::new();
    for _ in 0..5 {
        let begin = Instant::now();
        reader.search_all_vectors(&together, &embeddings)?;
        times.push(begin.elapsed().as_secs_f64() * 1e3 / 8.0);
    }
    times.sort_by(f64::total_cmp);
    println!("dense, 8 queries together: median {:.2} ms each", times[times.len() / 2]);
    let bytes = reader.len() * dim;
    let (limit, gb) = (limit_ms(bytes), bytes as f64 / 1e9);
    println!("limit: {gb:.2} GB are read from memory in {limit:.2} ms ({:.1} GB/s)", gb / limit * 1e3);
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        status
            .lines()
            .filter(|line| line.starts_with("RssAnon") || line.starts_with("VmHWM"))
            .for_each(|line| println!("{line}"));
    }
    Ok(())
}
