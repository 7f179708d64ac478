//! Prompts: text that a model wants before its inputs, as `query: `.

use std::borrow::Cow;

use super::model::Model;
use super::options::{EncodeOptions, Prompt};
use crate::error::{Error, Result};
use crate::text::{SpecialTokens, TokenIds, Tokenizer};

/// How the texts of a call become tokens.
pub(super) struct Applied<'a> {
    pub tokenizer: &'a Tokenizer,
    prompt: &'a str,
    max_length: usize,
    special: SpecialTokens,
    /// Tokens at the start of each text that the dense vector leaves out.
    pub skipped: usize,
}

impl Applied<'_> {
    /// The token ids of the prompt and the text.
    pub(super) fn encode(&self, text: &str) -> TokenIds {
        self.tokenizer.encode(&before(self.prompt, text), self.max_length, self.special)
    }
}

/// The prompt followed by the text.
pub(super) fn before<'t>(prompt: &str, text: &'t str) -> Cow<'t, str> {
    if prompt.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(format!("{prompt}{text}")) }
}

impl Model {
    /// The text of a prompt: empty if there is none.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) if the model has no prompt of that name.
    pub fn prompt_text<'a>(&'a self, prompt: &'a Prompt) -> Result<&'a str> {
        let named = &self.prompts.named;
        match prompt {
            Prompt::Text(text) => Ok(text),
            Prompt::Default => {
                Ok(self.prompts.default.as_ref().and_then(|name| named.get(name)).map_or("", String::as_str))
            }
            Prompt::Name(name) => named.get(name).map(String::as_str).ok_or_else(|| {
                let names: Vec<String> = named.keys().map(|name| format!("`{}`", name.escape_debug())).collect();
                let there =
                    if names.is_empty() { "it has none".to_owned() } else { format!("only {}", names.join(", ")) };
                let what = format!("the model has no prompt `{}`, {there}", name.escape_debug());
                Error::Option { option: "prompt_name", what }
            }),
        }
    }

    /// How many tokens at the start of each text are the prompt's and are left out of its dense vector: 0, unless the model's pooling says
    /// `include_prompt: false`. Pass it as [`EncodeOptions::prompt_tokens`] when the ids of [`Model::token_ids`] go to
    /// [`Model::encode_ids`].
    ///
    /// # Errors
    /// As [`Model::token_ids`].
    pub fn prompt_tokens(&self, options: &EncodeOptions) -> Result<usize> {
        let max_length = self.check_ranges(options)?;
        Ok(self.applied(options, max_length)?.skipped)
    }

    /// How texts become tokens under `options`, whose maximum length is `max_length`.
    pub(super) fn applied<'a>(&'a self, options: &'a EncodeOptions, max_length: usize) -> Result<Applied<'a>> {
        let (tokenizer, prompt) = (self.tokenizer()?, self.prompt_text(&options.prompt)?);
        let special = options.special_tokens;
        // Source: sentence-transformers `Transformer._get_prompt_length`: the tokens of the prompt alone, without its `</s>`.
        let skipped = match prompt {
            "" => 0,
            _ if self.pipeline.pooling.include_prompt => 0,
            prompt => tokenizer.encode(prompt, max_length, special).ids.len() - 1,
        };
        Ok(Applied { tokenizer, prompt, max_length, special, skipped })
    }
}
