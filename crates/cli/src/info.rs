//! `trivec info`: shows the loaded model, and the kernels and threads that compute it.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use super::args::{InfoArgs, ModelArgs};
use super::exit::{Failure, Result};
use super::loading;
use super::style::{self, counted};
use trivec::escape::Escaped;
use trivec::{ModelInfo, instruction_sets};

pub(super) fn run(args: &InfoArgs, model_args: &ModelArgs) -> Result<()> {
    let model = loading::load(model_args)?;
    let mut out = anstream::stdout().lock();
    write(&mut out, model.info(), args.json).and_then(|()| out.flush()).map_err(|e| Failure::stdout(&e))
}

/// What `info --json` prints.
#[derive(Serialize)]
struct Json<'a> {
    version: &'static str,
    model: &'a str,
    layers: usize,
    hidden: usize,
    heads: usize,
    ffn: usize,
    vocabulary: usize,
    parameters: usize,
    weights: &'a str,
    max_length: usize,
    max_length_from: &'a str,
    prompts: &'a BTreeMap<String, String>,
    default_prompt: Option<&'a str>,
    similarity: Option<&'a str>,
    pooling: &'a str,
    normalized: bool,
    dense_dim: usize,
    colbert_dim: Option<usize>,
    modes: Vec<&'static str>,
    rerank: bool,
    isa: &'a str,
    isa_supported: Vec<&'static str>,
    threads: usize,
    reading: &'a str,
}

/// Writes what is known of the model, as JSON or as rows for a terminal.
fn write(out: &mut impl Write, info: &ModelInfo, json: bool) -> io::Result<()> {
    let modes = [("dense", info.modes.dense), ("sparse", info.modes.sparse), ("colbert", info.modes.colbert)];
    if json {
        let json = Json {
            version: env!("CARGO_PKG_VERSION"),
            model: &info.name,
            layers: info.layers,
            hidden: info.hidden,
            heads: info.heads,
            ffn: info.ffn,
            vocabulary: info.vocabulary,
            parameters: info.parameters,
            weights: &info.weights,
            max_length: info.max_length,
            max_length_from: &info.max_length_from,
            prompts: &info.prompts,
            default_prompt: info.default_prompt.as_deref(),
            similarity: info.similarity.as_deref(),
            pooling: &info.pooling,
            normalized: info.dense_normalized,
            dense_dim: info.dense_dim,
            colbert_dim: info.colbert_dim,
            modes: modes.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect(),
            rerank: info.rerank,
            isa: info.isa,
            isa_supported: instruction_sets(),
            threads: info.threads,
            reading: &info.reading,
        };
        return writeln!(out, "{}", style::json(&json)?);
    }
    let millions = info.parameters as f64 / 1e6;
    let unit = if info.dense_normalized { "normalised" } else { "not normalised" };
    let dense = format!("{} values, {} pooling, {unit}", info.dense_dim, info.pooling);
    let rows = [
        ("trivec", env!("CARGO_PKG_VERSION").to_owned()),
        ("model", info.name.clone()),
        (
            "encoder",
            format!(
                "{}, hidden {}, {}, ffn {}",
                counted(info.layers, "layer"),
                info.hidden,
                counted(info.heads, "head"),
                info.ffn
            ),
        ),
        ("vocabulary", info.vocabulary.to_string()),
        ("parameters", format!("{millions:.1} M, stored as {}", info.weights)),
        ("max length", format!("{} tokens, by {}", info.max_length, info.max_length_from)),
        ("prompts", prompts(info)),
        ("dense", if info.modes.dense { dense } else { "not available".to_owned() }),
        ("sparse", if info.modes.sparse { "one weight a token id".to_owned() } else { "not available".to_owned() }),
        ("colbert", info.colbert_dim.map_or("not available".to_owned(), |dim| format!("{dim} values a token"))),
        ("rerank", if info.rerank { "one score a pair of texts".to_owned() } else { "not available".to_owned() }),
        ("kernels", format!("{} (this CPU runs {})", info.isa, instruction_sets().join(", "))),
        ("threads", info.threads.to_string()),
        ("weights", info.reading.clone()),
    ];
    rows.iter().try_for_each(|(name, value)| writeln!(out, "{name:<12}{}", Escaped(value)))
}

/// Every prompt with its text; the default one is marked.
fn prompts(info: &ModelInfo) -> String {
    let shown = |(name, text): (&String, &String)| {
        let mark = if info.default_prompt.as_ref() == Some(name) { " (before every text)" } else { "" };
        format!("{} \"{}\"{mark}", name.escape_debug(), text.escape_debug())
    };
    let all: Vec<String> = info.prompts.iter().map(shown).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}
