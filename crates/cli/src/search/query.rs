//! The options of `trivec search`, its searches (a question, a file of questions, questions from standard input), and how hits are printed.

use std::collections::BTreeSet;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use trivec::escape::Escaped;
use trivec::{Model, RerankOptions};
use trivec_search::analyze::is_blank;
use trivec_search::eval::{Question, read_queries, run_line};
use trivec_search::{
    Arms, ColbertBits, Encoder, Explanation, Filter, Fusion, Hit, Hits, Index, Mark, Query, Ranked, Reader,
};

use super::common::{bar, parse_filter, print, print_json};
use crate::args::ModelArgs;
use crate::exit::{Failure, Result, refuse_idle};
use crate::pending::{create_beside, move_into_place, refuse_input};
use crate::sources::Sources;
use crate::style::{BOLD, DIM, counted, isolation, one_line, readable};

const EXAMPLES: &str = "\
Examples:
  trivec search notes/ \"苹果公司发布新手机\" --explain
  trivec search notes/ \"red shoes\" --filter 'lang = \"en\" and year >= 2020 and not tag in (\"sold\")'
  trivec search notes/ \"red shoes\" --arms dense --rerank 0 --json
  trivec search notes/ --queries queries.jsonl --run out.trec --top 100
  trivec search notes/                         # as you type; without a terminal, a question a line

Three lists (dense vectors, words by BM25, lexical weights) become one: `share` adds to the dense score what BM25 gives a document, as a part \
of the most that a document could get, `share=W` with another weight than 1; `rrf` is reciprocal rank fusion, which leaves the words' list out where it found next \
to nothing, `rrf-textbook` does not; `weighted` is the mix of the model's own scores. The best are put in the order of their ColBERT \
scores, to which `share` adds 0.3 of the words' share. The list of lexical weights is made for `rrf`, `weighted` and --explain. Queries are JSONL with `id` and `text`, or a name, a tab and the text a line; a run is in TREC's format, where a document in chunks stands once.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SearchArgs {
    /// Directory of the index
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// The question [default: what is typed, or a question a line of standard input]
    #[arg(value_name = "QUERY")]
    pub query: Option<String>,
    /// File of questions
    #[arg(long, value_name = "FILE", env = "TRIVEC_QUERIES")]
    pub queries: Option<PathBuf>,
    /// File to write what --queries find to, in TREC's format, - for standard output [default: standard output]
    #[arg(long, value_name = "FILE", env = "TRIVEC_RUN")]
    pub run: Option<PathBuf>,
    /// Documents to find
    #[arg(long, short = 'k', value_name = "N", env = "TRIVEC_TOP", default_value = "10")]
    pub top: usize,
    /// Lists to make: dense, bm25, sparse, comma-separated, or all
    #[arg(long, value_name = "LIST", env = "TRIVEC_ARMS", default_value = "all", value_parser = parse_arms)]
    pub arms: Arms,
    /// How the lists become one: share, share=W, rrf, rrf-textbook or weighted [default: share; weighted for `--arms dense,sparse`]
    #[arg(long, value_name = "HOW", env = "TRIVEC_FUSION", value_parser = parse_fusion)]
    pub fusion: Option<Fusion>,
    /// How many of the best are reordered by their ColBERT scores; 0 for none
    #[arg(long, value_name = "N", env = "TRIVEC_RERANK", default_value = "200")]
    pub rerank: usize,
    /// Cross-encoder that reorders the very best in the end: a model as --model takes it [default: none]
    #[arg(long, value_name = "MODEL", env = "TRIVEC_RERANKER")]
    pub reranker: Option<PathBuf>,
    /// How many the cross-encoder reads
    #[arg(long, value_name = "N", env = "TRIVEC_RERANKER_TOP", default_value = "20")]
    pub reranker_top: usize,
    /// Which documents may be found
    #[arg(long, value_name = "FILTER", env = "TRIVEC_FILTER", value_parser = parse_filter)]
    pub filter: Option<Filter>,
    /// Language of the question, such as `de` [default: detected]
    #[arg(long, value_name = "CODE", env = "TRIVEC_LANG")]
    pub lang: Option<String>,
    /// Say why each hit was found
    #[arg(long, env = "TRIVEC_EXPLAIN")]
    pub explain: bool,
    /// Show the sentence that carried each hit, with what matched in it marked (--explain does too)
    #[arg(long, env = "TRIVEC_SNIPPETS")]
    pub snippets: bool,
    /// Print JSON, a line a question
    #[arg(long, env = "TRIVEC_JSON")]
    pub json: bool,
}

fn parse_arms(text: &str) -> std::result::Result<Arms, String> {
    text.parse().map_err(|e: trivec_search::Error| e.to_string())
}

fn parse_fusion(text: &str) -> std::result::Result<Fusion, String> {
    text.parse().map_err(|e: trivec_search::Error| e.to_string())
}

impl SearchArgs {
    /// The file of `--run`, unless it is standard output.
    pub(super) fn run_file(&self) -> Option<&Path> {
        self.run.as_deref().filter(|path| path.as_os_str() != "-")
    }

    /// The query for a question, with these options.
    pub(super) fn query(&self, text: &str, lang: Option<String>) -> Query {
        Query {
            lang: lang.or_else(|| self.lang.clone()),
            filter: self.filter.clone(),
            // The cross-encoder reads `--reranker-top` hits, which may be more than `--top` asks for.
            top: if self.reranker.is_some() { self.top.max(self.reranker_top) } else { self.top },
            arms: self.arms,
            fusion: self.fusion.unwrap_or_else(|| Fusion::usual(self.arms)),
            rerank: self.rerank,
            explain: self.explain,
            snippets: self.snippets,
            ..Query::new(text)
        }
    }
}

/// Fails if the command line has `--rerank` but the index has no ColBERT vectors to rerank by.
pub(super) fn check_fits(index: &Index, rerank: usize, sources: &Sources) -> Result<()> {
    match rerank > 0 && index.colbert() == ColbertBits::Off {
        true => refuse_idle(sources, "rerank", "with an index that has no ColBERT vectors"),
        false => Ok(()),
    }
}

/// An index that is searched, and the models that it is searched with.
pub(super) struct Search<'a> {
    pub args: &'a SearchArgs,
    pub reader: Reader,
    pub encoder: Encoder<'a>,
    pub reranker: Option<Model>,
    pub quiet: bool,
}

/// How many questions of a file are searched for together.
const TOGETHER: usize = 16;

impl Search<'_> {
    /// Searches for one question. A note on stderr says if it was cut.
    pub(super) fn one(&self, text: &str) -> Result<Hits> {
        let hits = self.ask(&self.args.query(text, None))?;
        if hits.query_truncated && !self.quiet {
            say!("trivec: {CUT}");
        }
        Ok(hits)
    }

    /// Searches, and reranks the hits with the cross-encoder if there is one.
    pub fn ask(&self, query: &Query) -> Result<Hits> {
        let mut hits = self.reader.search(&self.encoder, query)?;
        self.reranked(&mut hits, &query.text)?;
        Ok(hits)
    }

    /// If there is a cross-encoder, puts the hits in its order and keeps the best `--top`.
    fn reranked(&self, hits: &mut Hits, text: &str) -> Result<()> {
        if let Some(reranker) = &self.reranker {
            hits.rerank_with(reranker, text, self.args.reranker_top, &RerankOptions::default())?;
            hits.hits.truncate(self.args.top);
        }
        Ok(())
    }

    /// Searches for the questions of the file `--queries`, and writes the hits as a run in TREC's format or as JSON.
    pub(super) fn file(&self, model_args: &ModelArgs) -> Result<()> {
        let args = self.args;
        let Some(path) = &args.queries else { return Ok(()) };
        if let Some(run) = args.run_file() {
            refuse_input(run, "run", [(path.as_path(), "the file of --queries")])?;
        }
        let questions = read_queries(path)?;
        check_questions(path, &questions, &self.reader)?;
        let mut cut = 0;
        let bar =
            bar(model_args.quiet, questions.len() as u64, "{bar:30} {human_pos}/{human_len} questions · {eta} left");
        let mut file = args.run_file().map(|path| create_beside(path, "--run")).transpose()?;
        for part in questions.chunks(TOGETHER) {
            let queries: Vec<Query> = part.iter().map(|q| args.query(&q.text, q.lang.clone())).collect();
            let found = self.reader.search_all(&self.encoder, &queries)?;
            for (question, mut hits) in part.iter().zip(found) {
                self.reranked(&mut hits, &question.text)?;
                cut += usize::from(hits.query_truncated);
                if args.json {
                    show(&hits, args, Some(&question.id))?;
                    continue;
                }
                // A run lists documents, as judgements do: one that is cut into chunks stands once, where its best chunk does.
                let mut seen = BTreeSet::new();
                let once = hits.hits.iter().filter(|hit| seen.insert(hit.document.group()));
                // Programs that read runs sort by score. Hits behind the reranked ones have scores on another scale, which are lowered if
                // they would not fall from rank to rank.
                let mut above = f32::INFINITY;
                let mut lines = String::new();
                for (rank, hit) in (1..).zip(once) {
                    above = hit.score.min(above.next_down());
                    lines += &(run_line(&question.id, hit.document.group(), rank, above, "trivec") + "\n");
                }
                match &mut file {
                    Some((path, file)) => file.write_all(lines.as_bytes()).map_err(|e| Failure::io_path(path, &e))?,
                    None if io::stdout().is_terminal() => {
                        lines.lines().try_for_each(|line| print(&Escaped(line).to_string()))?;
                    }
                    None => io::stdout().write_all(lines.as_bytes()).map_err(|e| Failure::stdout(&e))?,
                }
            }
            bar.inc(part.len() as u64);
        }
        bar.finish_and_clear();
        if cut > 0 && !self.quiet {
            say!("trivec: {}: {CUT}", counted(cut, "question"));
        }
        match file {
            Some((path, file)) => move_into_place(&path, file),
            None => Ok(()),
        }
    }

    /// Takes each line of standard input as a question, and prints its hits at once.
    pub(super) fn converse(&self) -> Result<()> {
        for line in io::stdin().lock().lines() {
            let line = line.map_err(|e| Failure::io("standard input", &e))?;
            if !is_blank(&line) {
                show(&self.one(&line)?, self.args, None)?;
            }
        }
        Ok(())
    }
}

/// The note on a question that was cut.
pub(super) const CUT: &str = "longer than the maximum length of the index: its vectors are of its beginning alone";

/// Prints the hits of a question, as JSON or for a terminal. `id` is the question's, if it has one.
pub(super) fn show(hits: &Hits, args: &SearchArgs, id: Option<&str>) -> Result<()> {
    if args.json {
        return match id {
            Some(id) => print_json(&serde_json::json!({"id": id, "found": hits})),
            None => print_json(hits),
        };
    }
    let mut out = anstream::stdout().lock();
    write_hits(&mut out, hits).and_then(|()| out.flush()).map_err(|e| Failure::stdout(&e))
}

/// Terminal columns of the text of a hit that is not explained.
const EXCERPT: usize = 100;

/// Writes the hits for a terminal, and a line about the search.
fn write_hits(out: &mut impl Write, hits: &Hits) -> io::Result<()> {
    for hit in &hits.hits {
        let title = hit.document.title.as_deref().map(|title| format!("  {}", readable(title))).unwrap_or_default();
        writeln!(
            out,
            "{BOLD}{:>3}  {}{BOLD:#}{title}  {DIM}{:.3}  {}{DIM:#}",
            hit.rank,
            readable(&hit.document.key),
            hit.score,
            arms(hit)
        )?;
        match &hit.explanation {
            Some(why) => write_explanation(out, why)?,
            None => writeln!(out, "     {}", excerpt_of(hit))?,
        }
    }
    let timings = &hits.timings;
    let found = hits.words.iter().filter(|word| word.found).count();
    let words = match hits.words.len() {
        0 => String::new(),
        all => format!("; they have {found} of the query's {}", counted(all, "word")),
    };
    writeln!(
        out,
        "{DIM}{} of {} in {:.1} ms (query {:.1}, rerank {:.1}){words}{DIM:#}",
        hits.hits.len(),
        counted(hits.searched, word_of_entries(hits)),
        timings.total_ms,
        timings.encode_ms,
        timings.rerank_ms
    )
}

/// What the entries that were searched are called: documents, unless some were cut into chunks.
pub(super) fn word_of_entries(hits: &Hits) -> &'static str {
    if hits.in_chunks { "entry" } else { "document" }
}

/// The beginning of a hit's text.
pub(super) fn excerpt_of(hit: &Hit) -> String {
    crate::style::excerpt(&hit.document.text, EXCERPT)
}

/// A hit's rank in each list, and its word share.
pub(super) fn arms(hit: &Hit) -> String {
    let place = |name: &str, ranked: &Option<Ranked>| {
        let ranked = ranked.as_ref()?;
        let rank = ranked.rank.map_or_else(|| "–".to_owned(), |rank| format!("#{rank}"));
        Some(format!("{name} {rank}"))
    };
    let arms = &hit.arms;
    let places = [
        place("dense", &arms.dense),
        place("bm25", &arms.bm25),
        place("sparse", &arms.sparse),
        place("colbert", &arms.colbert),
        place("reranker", &arms.reranker),
    ];
    places.into_iter().flatten().chain([format!("word share {:.2}", arms.share)]).collect::<Vec<_>>().join(" · ")
}

/// How many shared pieces, and how many pairs of nearest tokens, an explanation shows at most.
const SHOWN: usize = 8;

/// Writes why a hit was found: its snippet with marks, the words and pieces that it shares with the question, and the nearest tokens.
pub(super) fn write_explanation(out: &mut impl Write, why: &Explanation) -> io::Result<()> {
    // The parts are isolated together: marked words of right-to-left script keep their order among the others.
    let whole: String = why.snippet.iter().map(|part| part.text.as_str()).collect();
    let [begin, end] = isolation(&whole);
    write!(out, "     {}{begin}", if why.more_before { "… " } else { "" })?;
    let mut ends_blank = false;
    for part in &why.snippet {
        // Parts touch: white space at the end of one and the beginning of the next is one space too.
        let line = one_line(&part.text);
        let line = if ends_blank { line.trim_start_matches(' ') } else { line.as_str() };
        ends_blank = line.ends_with(' ') || ends_blank && line.is_empty();
        let text = Escaped(line);
        match part.mark {
            Some(Mark::Word) => write!(out, "{BOLD}{text}{BOLD:#}")?,
            Some(Mark::Meaning) => {
                let underlined = anstyle::Style::new().underline();
                write!(out, "{underlined}{text}{underlined:#}")?;
            }
            None => write!(out, "{text}")?,
        }
    }
    writeln!(out, "{end}{}", if why.more_after { " …" } else { "" })?;
    let words: Vec<String> = why.words.iter().filter(|word| word.found).map(|word| readable(&word.word)).collect();
    if !words.is_empty() {
        writeln!(out, "     {DIM}words:{DIM:#} {}", words.join(", "))?;
    }
    let pieces: Vec<String> =
        why.pieces.iter().take(SHOWN).map(|piece| format!("{} {:.3}", readable(&piece.piece), piece.product)).collect();
    if !pieces.is_empty() {
        writeln!(out, "     {DIM}pieces:{DIM:#} {}", pieces.join(", "))?;
    }
    let mut nearest: Vec<_> = why.alignment.iter().filter(|pair| pair.sentence.is_some()).collect();
    nearest.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
    let nearest: Vec<String> = nearest
        .iter()
        .take(SHOWN)
        .map(|pair| format!("{} → {} {:.2}", readable(&pair.query), readable(&pair.document), pair.similarity))
        .collect();
    if !nearest.is_empty() {
        writeln!(out, "     {DIM}nearest:{DIM:#} {}", nearest.join(", "))?;
    }
    Ok(())
}

/// Refuses a file in which a question gives a `lang` that is no language's code and that no document of the index has. Questions without a
/// `lang` are accepted. The error names the file and the question's id.
pub(super) fn check_questions(path: &Path, questions: &[Question], reader: &Reader) -> Result<()> {
    for question in questions {
        let Some(code) = &question.lang else { continue };
        match reader.check_lang(code) {
            Err(trivec_search::Error::Option { what, .. }) => {
                let place = path.display();
                return Err(Failure::input(format!("{place}: the language of the question `{}`: {what}", question.id)));
            }
            other => other?,
        }
    }
    Ok(())
}
