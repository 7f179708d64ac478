//! `--prompt` and its like: the name of one of the model's prompts, or a text.

use clap::Args;

use super::exit::{Failure, Result};
use trivec::{EncodeOptions, Model, Prompt};

/// Prompts of the two sides of a comparison.
#[derive(Args, Debug)]
pub(super) struct SideArgs {
    /// What is put before the first text (the query), as --prompt [default: --prompt]
    #[arg(long, value_name = "NAME|TEXT", env = "TRIVEC_QUERY_PROMPT")]
    pub query_prompt: Option<String>,
    /// What is put before the second text (the document), as --prompt [default: --prompt]
    #[arg(long, value_name = "NAME|TEXT", env = "TRIVEC_DOCUMENT_PROMPT")]
    pub document_prompt: Option<String>,
}

impl SideArgs {
    /// The options of each side: `options`, with the side's own prompt if one was given.
    pub(super) fn options(&self, options: EncodeOptions, model: &Model) -> Result<[EncodeOptions; 2]> {
        let side = |given: &Option<String>, option: &str| -> Result<EncodeOptions> {
            let prompt = given.as_ref().map(|given| parse(given, option, model)).transpose()?;
            let own = options.prompt.clone();
            Ok(EncodeOptions { prompt: prompt.unwrap_or(own), ..options.clone() })
        };
        Ok([side(&self.query_prompt, "--query-prompt")?, side(&self.document_prompt, "--document-prompt")?])
    }
}

/// The prompt that `given` means: the model's prompt of that name, else the text itself. A text of letters, digits, `_`, `-` and `.` alone is
/// taken for a mistyped name, and is an error.
pub(super) fn parse(given: &str, option: &str, model: &Model) -> Result<Prompt> {
    let prompts = &model.info().prompts;
    if prompts.contains_key(given) {
        return Ok(Prompt::Name(given.to_owned()));
    }
    let is_name = !given.is_empty() && given.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
    if !is_name {
        return Ok(Prompt::Text(given.to_owned()));
    }
    let names: Vec<String> = prompts.keys().map(|name| format!("`{}`", name.escape_debug())).collect();
    let there = match names.len() {
        0 => "it has none".to_owned(),
        _ => format!("only {}", names.join(", ")),
    };
    let what = format!(
        "{option}: the model has no prompt `{given}`, {there}; a text ends with a space or a colon, as \"{given}: \""
    );
    Err(Failure::usage(what))
}
