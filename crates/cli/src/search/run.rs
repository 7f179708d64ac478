//! `trivec search`: one question, a file of them, or questions as they are typed.

use std::io::{self, IsTerminal};
use std::path::Path;

use trivec::Model;
use trivec_search::MAX_TOP;
use trivec_search::analyze::is_blank;

use super::common::Opened;
use super::live;
use super::query::{Search, SearchArgs, check_fits, show};
use crate::args::ModelArgs;
use crate::exit::{Failure, Result};
use crate::loading;
use crate::pending::refuse_model_file;
use crate::sources::Sources;
use crate::style::grouped;

pub(crate) fn run(args: &SearchArgs, model_args: &ModelArgs, sources: &Sources) -> Result<()> {
    if args.reranker.is_some() && !(1..=MAX_TOP).contains(&args.reranker_top) {
        let what = format!("found {}, expected 1 to {}", grouped(args.reranker_top), grouped(MAX_TOP));
        return Err(Failure::option("reranker-top", what));
    }
    if args.query.as_deref().is_some_and(is_blank) {
        return Err(Failure::usage("the question is empty: there is nothing to search for"));
    }
    args.query(args.query.as_deref().unwrap_or_default(), None).check_options()?;
    let opened = Opened::new(&args.directory, model_args)?;
    let reader = opened.index.reader()?;
    check_fits(&opened.index, args.rerank, sources)?;
    // A wrong `--lang` is an error before any question is read.
    args.lang.as_deref().map(|code| reader.check_lang(code)).transpose()?;
    let reranker = args.reranker.as_ref().map(|model| load_reranker(model, model_args)).transpose()?;
    if let Some(run) = args.run_file() {
        opened.refuse_output(run, "run", &args.directory)?;
        reranker.as_ref().map(|model| refuse_model_file(run, "run", model)).transpose()?;
    }
    let quiet = model_args.quiet;
    let search = Search { args, reader, encoder: opened.encoder()?, reranker, quiet };
    match (&args.query, &args.queries) {
        (Some(text), _) => show(&search.one(text)?, args, None),
        (None, Some(_)) => search.file(model_args),
        (None, None)
            if io::stdin().is_terminal() && io::stderr().is_terminal() && io::stdout().is_terminal() && !args.json =>
        {
            live::run(&search)
        }
        (None, None) => search.converse(),
    }
}

/// Loads the cross-encoder of `--reranker`; fails if the model is none.
fn load_reranker(model: &Path, model_args: &ModelArgs) -> Result<Model> {
    let model = loading::load(&ModelArgs { model: Some(model.to_path_buf()), ..model_args.clone() })?;
    match model.info().rerank {
        true => Ok(model),
        false => {
            let name = model.info().name.escape_debug().to_string();
            Err(Failure::model(format!(
                "--reranker: {name} has no reranking head: give a cross-encoder, as bge-reranker-v2-m3"
            )))
        }
    }
}
