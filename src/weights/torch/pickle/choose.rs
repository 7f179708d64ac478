//! Finds the dictionary in a pickle that holds the weights.

use std::collections::BTreeMap;

use super::values::{Tensor, Value};
use super::{Machine, Step};

/// The keys under which training scripts save a state dict beside other data.
const WRAPPERS: [&str; 4] = ["state_dict", "model_state_dict", "model", "module"];

/// How many such dictionaries may be nested.
const MAX_WRAPPERS: usize = 4;

impl<'a> Machine<'a> {
    /// The tensors of the pickle's value, which is a state dict, or a dict that has one under a key of [`WRAPPERS`] (perhaps nested).
    pub(super) fn state_dict(self, value: Value<'a>) -> Step<BTreeMap<String, Tensor<'a>>> {
        let Value::Dict(outermost) = value else {
            return Err(format!("the pickle holds {}, expected a dict of tensors (a state_dict)", value.kind()));
        };
        let chosen = self.choose(outermost, MAX_WRAPPERS)?.unwrap_or(outermost);
        let dict = &self.dicts[chosen];
        if let Some(kind) = dict.odd_key {
            return Err(format!("a tensor's name is {kind}, expected a string"));
        }
        let mut tensors = BTreeMap::new();
        for &(name, tensor) in &dict.tensors {
            if tensors.insert(name.to_owned(), self.tensors[tensor].clone()).is_some() {
                return Err(format!("the tensor `{}` comes twice", name.escape_debug()));
            }
        }
        if tensors.is_empty() && dict.others > 0 {
            let what = "the pickle's dict has no tensors, nor a dict of tensors under `state_dict`, `model_state_dict`, `model` or \
                        `module`: save the model's state_dict() alone";
            return Err(what.to_owned());
        }
        Ok(tensors)
    }

    /// The dictionary with tensors to which the keys of [`WRAPPERS`] lead from `dict`, in at most `depth` steps. If none of them leads to
    /// one, `dict` itself if it has tensors. An error if several keys of one dictionary lead to one.
    fn choose(&self, dict: usize, depth: usize) -> Step<Option<usize>> {
        if depth > 0 {
            let mut found = Vec::new();
            // If a key comes twice, its last value counts, as in Python. So each dictionary leads to four others at most, and the search
            // ends soon even in a dictionary that contains itself.
            for wrapper in WRAPPERS {
                let inner = self.dicts[dict].dicts.iter().rev().find(|(name, _)| *name == wrapper);
                if let Some(&(name, inner)) = inner
                    && let Some(chosen) = self.choose(inner, depth - 1)?
                {
                    found.push((name, chosen));
                }
            }
            match found[..] {
                [] => {}
                [(_, chosen)] => return Ok(Some(chosen)),
                [(first, _), (second, _), ..] => {
                    return Err(format!(
                        "the pickle's dict has tensors under `{first}` and under `{second}`: save the model's state_dict() alone"
                    ));
                }
            }
        }
        Ok((!self.dicts[dict].tensors.is_empty()).then_some(dict))
    }
}
