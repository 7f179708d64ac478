//! Compares every setting in the files around a model's weights with sentence-transformers: it is obeyed, has no effect, or is refused by name.
//!
//! `tests/data/settings/cases.jsonl` is the table of cases; `tools/settings.py golden` computed the expected values with the reference.
//! `docs/model-files.md` describes the same settings for people.

use trivec_testing as common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::{close, data, report};
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;
use trivec::pack::{Calibration, PackOptions, pack};
use trivec::{EncodeOptions, ErrorKind, Model, Prompt, RerankOptions, WeightFormat};

/// The bound on the error of vectors with a norm of 1 or less. For vectors that are longer it grows with the norm.
const TOLERANCE: f32 = common::DENSE;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default)]
    base: Base,
    /// The files that are changed, by name; `None` removes a file.
    #[serde(default)]
    files: BTreeMap<String, Option<Changes>>,
    prompt: Option<CasePrompt>,
    /// Whether the setting has no effect: the reference gives the values of the unchanged base.
    #[serde(default)]
    harmless: bool,
    /// A part of the message with which loading fails; `None` if the model loads.
    refused: Option<String>,
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Base {
    #[default]
    Model,
    Reranker,
}

/// How a JSON file is changed: replaced by `whole`, if there is one, then values are set and removed at JSON pointers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Changes {
    whole: Option<Value>,
    #[serde(default)]
    set: BTreeMap<String, Value>,
    #[serde(default)]
    unset: Vec<String>,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "lowercase")]
enum CasePrompt {
    Name(String),
    Text(String),
}

impl From<CasePrompt> for Prompt {
    fn from(prompt: CasePrompt) -> Prompt {
        match prompt {
            CasePrompt::Name(name) => Prompt::Name(name),
            CasePrompt::Text(text) => Prompt::Text(text),
        }
    }
}

#[derive(Deserialize)]
struct Golden {
    texts: Vec<String>,
    pairs: Vec<(String, String)>,
    #[serde(flatten)]
    cases: BTreeMap<String, Value>,
}

fn cases() -> Vec<Case> {
    let file = fs::read_to_string(data("settings/cases.jsonl")).unwrap();
    file.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))).collect()
}

fn golden() -> Golden {
    serde_json::from_slice(&fs::read(data("golden/settings.json")).unwrap()).unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() { copy(&entry.path(), &to) } else { fs::copy(entry.path(), to).map(drop).unwrap() }
    }
}

impl Changes {
    /// Changes the file, or creates it from `whole`.
    fn apply(&self, path: &Path) {
        let mut value = match &self.whole {
            Some(whole) => whole.clone(),
            None => serde_json::from_slice(&fs::read(path).unwrap()).unwrap(),
        };
        for (pointer, new) in &self.set {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            match value.pointer_mut(parent).unwrap() {
                Value::Array(list) if list.len() == key.parse::<usize>().unwrap() => list.push(new.clone()),
                Value::Array(list) => list[key.parse::<usize>().unwrap()] = new.clone(),
                Value::Object(fields) => drop(fields.insert(key.to_owned(), new.clone())),
                other => panic!("{pointer} in {other}"),
            }
        }
        for pointer in &self.unset {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            match value.pointer_mut(parent).unwrap() {
                Value::Array(list) => drop(list.remove(key.parse().unwrap())),
                Value::Object(fields) => drop(fields.remove(key).unwrap()),
                other => panic!("{pointer} in {other}"),
            }
        }
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, serde_json::to_vec(&value).unwrap()).unwrap();
    }
}

impl Case {
    /// A copy of the base model's directory with the changes of this case.
    fn directory(&self) -> TempDir {
        let directory = TempDir::new().unwrap();
        let base = match self.base {
            Base::Model => "settings/model",
            Base::Reranker => "rerankers/reranker-h48",
        };
        copy(&data(base), directory.path());
        for (name, changes) in &self.files {
            let path = directory.path().join(name);
            match changes {
                None => fs::remove_file(path).unwrap(),
                Some(changes) => changes.apply(&path),
            }
        }
        directory
    }

    /// Everything in which a model differs from the reference.
    fn check(&self, model: &Model, golden: &Golden) -> Vec<String> {
        let name = if self.harmless { "as it is" } else { self.name.as_str() };
        let expected = golden.cases.get(name).unwrap_or_else(|| panic!("{name} has no golden values"));
        let prompt = self.prompt.clone().map_or(Prompt::Default, Prompt::from);
        let found: Vec<Vec<f32>> = match self.base {
            Base::Model => {
                let options = EncodeOptions { prompt, ..Default::default() };
                let texts = model.encode(&golden.texts, &options).unwrap();
                texts.into_iter().map(|text| text.dense.unwrap()).collect()
            }
            Base::Reranker => {
                let options = RerankOptions { prompt, ..Default::default() };
                let scores = model.rerank_pairs(&golden.pairs, &options).unwrap();
                vec![scores.iter().map(|pair| pair.score).collect()]
            }
        };
        let expected: Vec<Vec<f32>> = match self.base {
            Base::Model => serde_json::from_value(expected.clone()).unwrap(),
            Base::Reranker => vec![serde_json::from_value(expected.clone()).unwrap()],
        };
        assert_eq!(found.len(), expected.len());
        let compare = |(at, (found, expected)): (usize, (&Vec<f32>, &Vec<f32>))| {
            // Scores of a reranker may be logits of up to 4, whose bound is 2e-5 (tests/data/README.md).
            let bound = if self.base == Base::Reranker { 2e-5 } else { TOLERANCE * common::norm(expected).max(1.0) };
            close(found, expected, bound).err().map(|what| format!("{}: text {at}: {what}", self.name))
        };
        found.iter().zip(&expected).enumerate().filter_map(compare).collect()
    }
}

#[test]
fn every_setting_is_obeyed_or_refused_by_name() {
    let (golden, mut failures) = (golden(), Vec::new());
    for case in cases() {
        let directory = case.directory();
        match (Model::load(directory.path()), &case.refused) {
            (Ok(model), None) => failures.extend(case.check(&model, &golden)),
            (Ok(_), Some(expected)) => failures.push(format!("{}: loaded, expected: {expected}", case.name)),
            (Err(error), None) => failures.push(format!("{}: {error}", case.name)),
            (Err(error), Some(expected)) => {
                let message = error.to_string();
                if error.kind() != ErrorKind::Model || !message.contains(expected) {
                    failures.push(format!("{}: {message}, expected: {expected}", case.name));
                }
            }
        }
    }
    report(failures);
}

/// Packs a model in f32, so that its values are the checkpoint's, and returns the file's path.
fn packed(model: &Model, directory: &Path) -> PathBuf {
    let path = directory.join("packed.safetensors");
    let options = PackOptions { calibration: Calibration::None, ..PackOptions::new(WeightFormat::F32) };
    pack(model, &options, &path, &mut fs::File::create(&path).unwrap()).unwrap();
    path
}

#[test]
fn a_packed_file_carries_the_settings() {
    let (golden, mut failures) = (golden(), Vec::new());
    for case in cases().into_iter().filter(|case| case.refused.is_none()) {
        let directory = case.directory();
        let source = Model::load(directory.path()).unwrap();
        let model = Model::load(packed(&source, directory.path())).unwrap();
        failures.extend(case.check(&model, &golden).into_iter().map(|what| format!("packed: {what}")));
        let of = |model: &Model| {
            let info = model.info();
            let length = (info.max_length, info.dense_dim, info.dense_normalized, info.pooling.clone());
            (length, info.prompts.clone(), info.default_prompt.clone(), info.similarity.clone())
        };
        if of(&source) != of(&model) {
            failures.push(format!("{}: {:?}, packed {:?}", case.name, of(&source), of(&model)));
        }
    }
    report(failures);
}

#[test]
fn the_table_and_the_golden_values_name_the_same_cases() {
    let golden = golden();
    let cases = cases();
    let asked: Vec<&str> = cases
        .iter()
        .filter(|case| case.refused.is_none() && (!case.harmless || case.name == "as it is"))
        .map(|case| case.name.as_str())
        .collect();
    let unused: Vec<&String> =
        golden.cases.keys().filter(|name| *name != "origin" && !asked.contains(&name.as_str())).collect();
    assert!(unused.is_empty(), "{unused:?}");
    assert!(asked.iter().all(|name| golden.cases.contains_key(*name)));
    // A case that is not obeyed would be seen, because every case that is not harmless has other values than the base.
    let base = &golden.cases["as it is"];
    let model_cases = cases.iter().filter(|case| case.base == Base::Model && !case.harmless && case.refused.is_none());
    assert!(model_cases.clone().all(|case| golden.cases[&case.name] != *base));
    assert!(model_cases.count() > 40);
}

#[test]
fn info_says_what_sets_the_length_and_which_prompts_there_are() {
    let load = |name: &str| {
        let case = cases().into_iter().find(|case| case.name == name).unwrap();
        let directory = case.directory();
        Model::load(directory.path()).unwrap().info().clone()
    };
    let from = |name: &str| (load(name).max_length, load(name).max_length_from);
    assert_eq!(from("model_max_length"), (16, "model_max_length of tokenizer_config.json".to_owned()));
    assert_eq!(
        from("sentence_xlm-roberta_config.json"),
        (16, "max_seq_length of sentence_xlm-roberta_config.json".to_owned())
    );
    assert_eq!(from("model_max_length null"), (128, "max_position_embeddings of config.json".to_owned()));
    let info = load("default_prompt_name");
    assert_eq!((info.prompts["query"].as_str(), info.default_prompt.as_deref()), ("QUERY: ", Some("query")));
    assert_eq!(load("similarity_fn_name").similarity.as_deref(), Some("dot"));
    let info = load("truncate_dim");
    assert_eq!((info.dense_dim, info.dense_normalized), (4, false));
}

#[test]
fn an_unknown_prompt_is_refused_and_the_known_ones_are_named() {
    let case = cases().into_iter().find(|case| case.name == "default_prompt_name").unwrap();
    let directory = case.directory();
    let model = Model::load(directory.path()).unwrap();
    let options = EncodeOptions { prompt: Prompt::Name("passage".into()), ..Default::default() };
    let error = model.encode(&["x"], &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("no prompt `passage`, only `document`, `query`"), "{error}");
    assert!(model.prompt_text(&Prompt::Default).unwrap() == "QUERY: ");
}

#[test]
fn ids_with_prompt_tokens_give_the_dense_vector_of_the_text() {
    for name in
        ["include_prompt false, mean", "include_prompt false, cls", "default_prompt_name", "include_prompt false, cut"]
    {
        let case = cases().into_iter().find(|case| case.name == name).unwrap();
        let directory = case.directory();
        let model = Model::load(directory.path()).unwrap();
        let options = EncodeOptions::default();
        let (ids, _) = model.token_ids("hello world", &options).unwrap();
        let prompt_tokens = model.prompt_tokens(&options).unwrap();
        assert_eq!(prompt_tokens > 0, name.starts_with("include"), "{name}");
        let of_ids = EncodeOptions { prompt_tokens, ..options.clone() };
        let of_ids = model.encode_ids(&[ids], &of_ids).unwrap();
        let of_text = model.encode(&["hello world"], &options).unwrap();
        assert_eq!(of_ids[0].dense, of_text[0].dense, "{name}");
    }
}
