//! Prefixes of tensor names: models that contain the encoder, and the wrappers of training scripts, put their own names before the names of
//! its tensors. `roberta.` is the prefix of `XLMRobertaForSequenceClassification`, `module.` that of `DataParallel`, `_orig_mod.` that of
//! `torch.compile`, `0.auto_model.` that of a `SentenceTransformer`. They can be nested in any order, so the prefix is found by a tensor
//! that every encoder has.

use std::collections::BTreeSet;

/// The tensor that every encoder has, by which the prefix is found.
const MARK: &str = "embeddings.word_embeddings.weight";

/// How the names of the encoder's own tensors begin after the prefix.
const OF_ENCODER: [&str; 3] = ["embeddings.", "encoder.", "pooler."];
/// How the names of the heads' tensors begin. They belong to a model around the encoder, so they come after a shorter prefix.
const AROUND_ENCODER: [&str; 3] = ["classifier.", "sparse_linear.", "colbert_linear."];

/// Names that wrappers give to what they contain.
const WRAPPERS: [&str; 9] =
    ["module", "_orig_mod", "_fsdp_wrapped_module", "roberta", "xlm_roberta", "auto_model", "model", "encoder", "0"];

/// The prefix of the encoder's tensor names, which is "" or ends with a dot, found among the `names` of all tensors. An error if several
/// prefixes are possible.
pub(super) fn of_encoder<'n>(names: impl Iterator<Item = &'n str>) -> Result<String, String> {
    let prefixes: BTreeSet<&str> = names
        .filter_map(|name| name.strip_suffix(MARK))
        .filter(|prefix| prefix.is_empty() || prefix.ends_with('.'))
        .collect();
    // If none is found, "" is returned, and reading the weights fails because the word table is missing. "" sorts before all others.
    let first = prefixes.first().copied().unwrap_or_default();
    if prefixes.len() <= 1 || first.is_empty() {
        return Ok(first.to_owned());
    }
    let is_wrapper = |prefix: &&&str| prefix.split_terminator('.').all(|part| WRAPPERS.contains(&part));
    let wrapped: Vec<&&str> = prefixes.iter().filter(is_wrapper).collect();
    if let [only] = wrapped[..] {
        return Ok((*only).to_owned());
    }
    let shown: Vec<String> = prefixes.iter().take(4).map(|prefix| format!("`{}`", prefix.escape_debug())).collect();
    Err(format!(
        "there are several encoders in it, with names that begin with {}: save the state_dict() of the one that is to be used",
        shown.join(", ")
    ))
}

/// `prefix`, then `prefix` without its last part, and so on to "": the prefixes of the models around the encoder.
pub(super) fn around(prefix: &str) -> impl Iterator<Item = &str> {
    let shorter = |prefix: &&'_ str| -> Option<usize> {
        let inner = prefix.strip_suffix('.')?;
        Some(inner.rfind('.').map_or(0, |dot| dot + 1))
    };
    std::iter::successors(Some(prefix), move |prefix| shorter(prefix).map(|len| &prefix[..len]))
}

/// `name` without `prefix`, or without the shorter prefix of a model around the encoder if it is a head's tensor; any other name is
/// unchanged. TensorFlow's names of layer norms become PyTorch's.
pub(super) fn without(name: &str, prefix: &str) -> String {
    let begins = |bare: &str, parts: &[&str]| parts.iter().any(|part| bare.starts_with(part));
    if let Some(bare) = name.strip_prefix(prefix).filter(|bare| begins(bare, &OF_ENCODER)) {
        let renamed = OF_TENSORFLOW.iter().find_map(|(old, new)| Some(format!("{}{new}", bare.strip_suffix(old)?)));
        return renamed.unwrap_or_else(|| bare.to_owned());
    }
    let mut bare = around(prefix).filter_map(|prefix| name.strip_prefix(prefix));
    bare.find(|bare| begins(bare, &AROUND_ENCODER)).unwrap_or(name).to_owned()
}

/// The names of a layer norm's tensors: TensorFlow's, which old checkpoints have, and PyTorch's.
const OF_TENSORFLOW: [(&str, &str); 2] =
    [("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")];

/// TensorFlow's name of a layer norm's tensor, from PyTorch's; `None` for other tensors.
pub(super) fn of_tensorflow(name: &str) -> Option<String> {
    OF_TENSORFLOW.iter().find_map(|(old, new)| Some(format!("{}{old}", name.strip_suffix(new)?)))
}

/// `name`, of a tensor in a head's own file, without the prefixes of `DataParallel` and `torch.compile`.
pub(super) fn without_wrappers(mut name: &str) -> &str {
    while let Some(bare) = ["module.", "_orig_mod."].iter().find_map(|wrapper| name.strip_prefix(wrapper)) {
        name = bare;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(names: &[&str]) -> Result<String, String> {
        let names: Vec<String> = names.iter().map(|name| format!("{name}embeddings.word_embeddings.weight")).collect();
        of_encoder(names.iter().map(String::as_str))
    }

    #[test]
    fn the_encoder_is_found_by_its_table_whatever_contains_it() {
        for one in ["", "roberta.", "module._orig_mod.0.auto_model.", "student.backbone.", "encoder.model."] {
            assert_eq!(prefix(&[one]).unwrap(), one);
        }
        assert_eq!(prefix(&[]).unwrap(), "");
        assert_eq!(prefix(&["teacher.", ""]).unwrap(), "", "a bare name is the encoder's own");
        assert_eq!(prefix(&["teacher.", "module.roberta."]).unwrap(), "module.roberta.");
        let two = prefix(&["query.", "document."]).unwrap_err();
        assert!(two.contains("`document.`, `query.`") && two.contains("save the state_dict()"), "{two}");
        // Another table of that name is not the encoder's.
        assert_eq!(of_encoder(["my_embeddings.word_embeddings.weight"].into_iter()).unwrap(), "");
    }

    #[test]
    fn heads_are_looked_for_in_every_model_around_the_encoder() {
        assert_eq!(
            around("module.0.auto_model.").collect::<Vec<_>>(),
            ["module.0.auto_model.", "module.0.", "module.", ""]
        );
        assert_eq!(around("").collect::<Vec<_>>(), [""]);
        let bare = |name| without(name, "module.roberta.");
        assert_eq!(bare("module.roberta.embeddings.LayerNorm.gamma"), "embeddings.LayerNorm.weight");
        assert_eq!(of_tensorflow("embeddings.LayerNorm.bias").unwrap(), "embeddings.LayerNorm.beta");
        assert_eq!(bare("module.roberta.encoder.layer.0.output.dense.bias"), "encoder.layer.0.output.dense.bias");
        assert_eq!(bare("module.classifier.dense.weight"), "classifier.dense.weight");
        assert_eq!(bare("module.lm_head.bias"), "module.lm_head.bias");
        assert_eq!(bare("roberta.encoder.x"), "roberta.encoder.x");
        assert_eq!(without_wrappers("module._orig_mod.weight"), "weight");
    }
}
