//! `trivec tokens`: the tokens of a text, as the model reads them.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::args::{ModelArgs, TokensArgs};
use super::exit::{Failure, Result};
use super::input::whole_text;
use super::loading;
use super::style::{self, DIM};
use trivec::Tokens;
use trivec::escape::Escaped;

pub(super) fn run(args: &TokensArgs, model_args: &ModelArgs) -> Result<()> {
    let text = match &args.text {
        Some(text) => text.clone(),
        None if io::stdin().is_terminal() => return Err(Failure::usage("give a text, or pipe one in")),
        None => read_stdin()?,
    };
    let model = loading::load(model_args)?;
    let tokens = model.tokenize(&text, &args.options.options(&model)?)?;
    let mut out = anstream::stdout().lock();
    write(&mut out, &tokens, args.json).and_then(|()| out.flush()).map_err(|e| Failure::stdout(&e))
}

/// All of standard input, without the end of its last line.
fn read_stdin() -> Result<String> {
    let mut text = whole_text(io::stdin().lock(), "standard input")?;
    if text.ends_with('\n') {
        text.pop();
    }
    if text.ends_with('\r') {
        text.pop();
    }
    Ok(text)
}

/// Writes the tokens as JSON, or as a table with index, id and piece.
fn write(out: &mut impl Write, tokens: &Tokens, json: bool) -> io::Result<()> {
    #[derive(Serialize)]
    struct Json<'a> {
        ids: Vec<u32>,
        pieces: Vec<&'a str>,
        special: Vec<bool>,
        truncated: bool,
    }
    if json {
        let json = Json {
            ids: tokens.tokens.iter().map(|token| token.id).collect(),
            pieces: tokens.tokens.iter().map(|token| token.piece.as_str()).collect(),
            special: tokens.tokens.iter().map(|token| token.special).collect(),
            truncated: tokens.truncated,
        };
        return writeln!(out, "{}", style::json(&json)?);
    }
    for (index, token) in tokens.tokens.iter().enumerate() {
        // The piece is escaped but keeps its ▁, because this command shows pieces as the model has them.
        writeln!(out, "{DIM}{index:>5}{DIM:#}  {:>6}  {}", token.id, Escaped(&token.piece))?;
    }
    if tokens.truncated {
        writeln!(out, "{DIM}cut: the text has more tokens{DIM:#}")?;
    }
    Ok(())
}
