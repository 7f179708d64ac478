//! Reads sentence-transformers' `modules.json` and the folders that it names: the steps from the encoder's states to the dense vector.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::json::{parse_json, torch_class};
use crate::error::{Error, Result};

/// A way to make one vector of the token states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PoolingMode {
    /// The first token's state.
    Cls,
    /// For each dimension the largest value of all tokens.
    Max,
    Mean,
    /// The sum of the states divided by the square root of the number of tokens.
    MeanSqrtLen,
    /// The mean in which the token at position 1, 2, 3, … has the weight 1, 2, 3, …
    WeightedMean,
    /// The last token's state.
    LastToken,
}

impl PoolingMode {
    /// Every mode, with the field that switches it on in older files and with sentence-transformers' name for it. If older files switch
    /// several on, their vectors are joined in this order.
    const ALL: [(PoolingMode, &str, &str); 6] = [
        (PoolingMode::Cls, "pooling_mode_cls_token", "cls"),
        (PoolingMode::Max, "pooling_mode_max_tokens", "max"),
        (PoolingMode::Mean, "pooling_mode_mean_tokens", "mean"),
        (PoolingMode::MeanSqrtLen, "pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens"),
        (PoolingMode::WeightedMean, "pooling_mode_weightedmean_tokens", "weightedmean"),
        (PoolingMode::LastToken, "pooling_mode_lasttoken", "lasttoken"),
    ];

    fn by_name(name: &str) -> Option<PoolingMode> {
        Self::ALL.into_iter().find(|(_, _, known)| *known == name).map(|(mode, ..)| mode)
    }

    fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(mode, ..)| *mode == self).map_or("", |(_, _, name)| name)
    }
}

/// sentence-transformers' `Pooling` module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pooling {
    /// One mode or more; the vectors of several are joined in this order.
    pub modes: Vec<PoolingMode>,
    /// Whether the tokens of a prompt are pooled with the others.
    pub include_prompt: bool,
}

impl Default for Pooling {
    fn default() -> Self {
        Pooling { modes: vec![PoolingMode::Cls], include_prompt: true }
    }
}

impl Pooling {
    /// The modes' names, joined, as users see them and packed files store them: `cls`, `mean`, `cls+mean`.
    pub(crate) fn name(&self) -> String {
        self.modes.iter().map(|mode| mode.name()).collect::<Vec<_>>().join("+")
    }

    /// The modes from a name as [`Pooling::name`] gives it; `None` if one is not known.
    pub(crate) fn modes_of(name: &str) -> Option<Vec<PoolingMode>> {
        name.split('+').map(PoolingMode::by_name).collect()
    }

    /// Whether pooling reads only the first token's state.
    pub(crate) fn is_first_token(&self) -> bool {
        self.modes == [PoolingMode::Cls] && self.include_prompt
    }

    /// Reads the `config.json` of a `Pooling` module; an error if it has a field or a mode that is not known.
    fn from_json(bytes: &[u8], path: &Path) -> Result<Pooling> {
        let raw: serde_json::Map<String, Value> = parse_json(bytes, path)?;
        let refuse = |what: String| Err(Error::format(path, what));
        for key in raw.keys() {
            let known = ["embedding_dimension", "word_embedding_dimension", "pooling_mode", "include_prompt"];
            if !known.contains(&key.as_str()) && !PoolingMode::ALL.iter().any(|(_, switch, _)| switch == key) {
                return refuse(format!("there is no field `{key}` of a Pooling module"));
            }
        }
        let include_prompt = match raw.get("include_prompt") {
            None => true,
            Some(Value::Bool(include)) => *include,
            Some(other) => return refuse(format!("`include_prompt` is {other}, expected true or false")),
        };
        let named = |value: &Value| value.as_str().and_then(PoolingMode::by_name);
        let modes = match raw.get("pooling_mode") {
            Some(Value::Array(names)) => names.iter().map(named).collect::<Option<Vec<_>>>(),
            Some(name) => named(name).map(|mode| vec![mode]),
            None => {
                let is_on = |switch: &str| raw.get(switch).is_some_and(|value| *value == Value::Bool(true));
                let mut modes: Vec<_> = PoolingMode::ALL
                    .into_iter()
                    .filter(|(_, switch, _)| is_on(switch))
                    .map(|(mode, ..)| mode)
                    .collect();
                // If no switch is on, sentence-transformers uses the mean.
                if modes.is_empty() {
                    modes.push(PoolingMode::Mean);
                }
                Some(modes)
            }
        };
        match modes {
            Some(modes) if !modes.is_empty() => Ok(Pooling { modes, include_prompt }),
            _ => {
                let known: Vec<_> = PoolingMode::ALL.iter().map(|(_, _, name)| *name).collect();
                let found = raw.get("pooling_mode").map_or_else(String::new, Value::to_string);
                refuse(format!("`pooling_mode` is {found}, expected one or more of {}", known.join(", ")))
            }
        }
    }
}

/// The function that a `Dense` module applies to each value of its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Activation {
    #[default]
    Identity,
    Tanh,
    Sigmoid,
    Relu,
}

impl Activation {
    /// Every activation with the name of its class in `torch.nn`.
    const ALL: [(Activation, &str); 4] = [
        (Activation::Identity, "Identity"),
        (Activation::Tanh, "Tanh"),
        (Activation::Sigmoid, "Sigmoid"),
        (Activation::Relu, "ReLU"),
    ];

    pub(crate) fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(activation, _)| *activation == self).map_or("", |(_, name)| name)
    }

    pub(crate) fn by_name(name: &str) -> Option<Activation> {
        Self::ALL.into_iter().find(|(_, known)| *known == name).map(|(activation, _)| activation)
    }
}

/// A `Dense` module of the pipeline: where its weights are, and its activation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DenseModule {
    /// Its folder, or its name in a packed file.
    pub folder: String,
    pub activation: Activation,
}

/// The most `Dense` modules that a model may have, as a checkpoint or packed: more than any known model has.
pub(crate) const MAX_DENSE_MODULES: usize = 16;

/// The steps from the encoder's states to the dense vector: pooling, `Dense` modules, L2 normalisation, cutting.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct DensePipeline {
    pub pooling: Pooling,
    /// `Dense` modules, in order.
    pub dense: Vec<DenseModule>,
    pub normalize: bool,
    /// How many of the finished vector's first values are kept, without normalising it again; `None`: all.
    pub truncate_dim: Option<usize>,
}

/// An entry of `modules.json`.
#[derive(Deserialize)]
struct RawModule {
    path: String,
    #[serde(rename = "type")]
    class: String,
}

impl RawModule {
    /// The bare name of the module's class; an error if the class is not one of sentence-transformers' own.
    fn kind(&self, path: &Path) -> Result<&str> {
        match self.class.rsplit_once('.') {
            Some((package, kind))
                if package == "sentence_transformers" || package.starts_with("sentence_transformers.") =>
            {
                Ok(kind)
            }
            _ => {
                let what = format!(
                    "module type `{}` is not one of sentence-transformers' own: its code is not run",
                    self.class
                );
                Err(Error::format(path, what))
            }
        }
    }
}

/// The `config.json` of a `Dense` module.
#[derive(Debug)]
pub(crate) struct DenseModuleConfig {
    pub in_features: usize,
    pub out_features: usize,
    pub bias: bool,
    pub activation: Activation,
}

/// The `config.json` of a `Dense` module as it is written.
#[derive(Deserialize)]
struct RawDense {
    in_features: usize,
    out_features: usize,
    #[serde(default = "default_true")]
    bias: bool,
    // The default is `Tanh`.
    activation_function: Option<String>,
    module_input_name: Option<String>,
    module_output_name: Option<String>,
    use_residual: Option<bool>,
}

fn default_true() -> bool {
    true
}

/// sentence-transformers' name for the vector of a text. The modules after pooling must read it and write it.
const VECTOR: &str = "sentence_embedding";

impl DenseModuleConfig {
    /// Reads and checks the file. `path` names it in errors.
    pub(crate) fn from_json(bytes: &[u8], path: &Path) -> Result<DenseModuleConfig> {
        let raw: RawDense = parse_json(bytes, path)?;
        check_vector([&raw.module_input_name, &raw.module_output_name], path)?;
        if raw.use_residual == Some(true) {
            return Err(Error::format(path, "`use_residual` is true, which is not supported"));
        }
        let class = raw.activation_function.as_deref().unwrap_or("torch.nn.modules.activation.Tanh");
        let activation = torch_class(class).and_then(Activation::by_name).ok_or_else(|| {
            let known: Vec<_> = Activation::ALL.iter().map(|(_, name)| *name).collect();
            let what = format!("`activation_function` is \"{class}\", expected one of torch.nn's {}", known.join(", "));
            Error::format(path, what)
        })?;
        let RawDense { in_features, out_features, bias, .. } = raw;
        Ok(DenseModuleConfig { in_features, out_features, bias, activation })
    }
}

/// Whether `path`, which a model's file names, is a relative path to something inside the model's directory: without `..`, `\` or a root.
pub fn is_plain_relative(path: &str) -> bool {
    !path.is_empty()
        && !path.contains('\\')
        && Path::new(path).components().all(|part| matches!(part, std::path::Component::Normal(_)))
}

/// Checks that a reranker's `modules.json` names the encoder and no other module.
pub(crate) fn only_transformer(bytes: &[u8], path: &Path) -> Result<()> {
    for module in parse_json::<Vec<RawModule>>(bytes, path)? {
        let kind = module.kind(path)?;
        if kind != "Transformer" || !module.path.is_empty() {
            return Err(Error::format(path, format!("module `{kind}` of a reranker, expected its Transformer alone")));
        }
    }
    Ok(())
}

impl DensePipeline {
    /// The pipeline of BGE-M3, for a directory without `modules.json`: CLS pooling, then L2 normalisation.
    pub(crate) fn of_bge_m3() -> DensePipeline {
        DensePipeline { normalize: true, ..DensePipeline::default() }
    }

    /// The number of values in the pooled vector, for states of `hidden` values.
    pub(crate) fn pooled(&self, hidden: usize) -> usize {
        self.pooling.modes.len() * hidden
    }

    /// Reads `modules.json`. `read` is called with the relative path of a module's file, and returns its bytes or `None` if there is no
    /// such file.
    pub(crate) fn from_modules(
        bytes: &[u8],
        path: &Path,
        read: impl Fn(&str) -> Result<Option<Box<[u8]>>>,
    ) -> Result<DensePipeline> {
        let modules: Vec<RawModule> = parse_json(bytes, path)?;
        let mut pipeline = DensePipeline::default();
        let require =
            |file: &str| read(file)?.ok_or_else(|| Error::format(&path.with_file_name(file), "the file is missing"));
        // The order is fixed: Transformer, Pooling, any number of Dense, at most one Normalize at the end. `stage` is the last of these
        // four steps that was read. Dropout does nothing outside training, so it is passed over after Pooling.
        let mut stage = 0;
        for module in modules {
            let kind = module.kind(path)?;
            let next = match kind {
                "Dropout" if stage >= 2 => continue,
                "Transformer" => 1,
                "Pooling" => 2,
                "Dense" => 3,
                "Normalize" => 4,
                other => return Err(Error::format(path, format!("module type `{other}` is not supported"))),
            };
            if next < stage || (next == stage && kind != "Dense") || next > stage + 1 && stage < 2 {
                return Err(Error::format(
                    path,
                    format!(
                        "module `{kind}` is out of order, expected Transformer, Pooling, any number of Dense, then at most one Normalize"
                    ),
                ));
            }
            stage = next;
            if next > 1 && next < 4 && !is_plain_relative(&module.path) {
                return Err(Error::format(
                    path,
                    format!("module path `{}` is not a folder inside the model's directory", module.path),
                ));
            }
            let file = format!("{}/config.json", module.path);
            let file_path = path.with_file_name(&file);
            match kind {
                "Transformer" if !module.path.is_empty() => {
                    let what = format!(
                        "the encoder lies in the folder `{}`: move its files beside modules.json and make its `path` empty",
                        module.path
                    );
                    return Err(Error::format(path, what));
                }
                "Pooling" => pipeline.pooling = Pooling::from_json(&require(&file)?, &file_path)?,
                "Dense" if pipeline.dense.len() == MAX_DENSE_MODULES => {
                    let what =
                        format!("more than {MAX_DENSE_MODULES} Dense modules, expected at most {MAX_DENSE_MODULES}");
                    return Err(Error::format(path, what));
                }
                "Dense" => {
                    let activation = DenseModuleConfig::from_json(&require(&file)?, &file_path)?.activation;
                    pipeline.dense.push(DenseModule { folder: module.path, activation });
                }
                "Normalize" => {
                    if is_plain_relative(&module.path)
                        && let Some(bytes) = read(&file)?
                    {
                        check_normalize(&bytes, &file_path)?;
                    }
                    pipeline.normalize = true;
                }
                _ => {}
            }
        }
        if stage < 2 {
            return Err(Error::format(path, "there is no Pooling module"));
        }
        Ok(pipeline)
    }
}

/// Checks the `config.json` of a `Normalize` module, which need not have one.
fn check_normalize(bytes: &[u8], path: &Path) -> Result<()> {
    #[derive(Deserialize)]
    struct Raw {
        module_input_name: Option<String>,
        module_output_name: Option<String>,
    }
    let raw: Raw = parse_json(bytes, path)?;
    check_vector([&raw.module_input_name, &raw.module_output_name], path)
}

/// Checks that a module reads and writes the vector of a text: `names` are its input's and its output's name, which may be absent.
fn check_vector(names: [&Option<String>; 2], path: &Path) -> Result<()> {
    for (field, name) in ["module_input_name", "module_output_name"].into_iter().zip(names) {
        if let Some(name) = name.as_ref().filter(|name| *name != VECTOR) {
            return Err(Error::format(path, format!("`{field}` is \"{name}\", expected \"{VECTOR}\"")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipeline(modules: &str, pooling: &str) -> Result<DensePipeline> {
        DensePipeline::from_modules(modules.as_bytes(), Path::new("modules.json"), |file| {
            let dense =
                r#"{"in_features":64,"out_features":32,"activation_function":"torch.nn.modules.linear.Identity"}"#;
            match file {
                "1_Pooling/config.json" => Ok(Some(pooling.as_bytes().into())),
                "2_Dense/config.json" => Ok(Some(dense.as_bytes().into())),
                _ => Ok(None),
            }
        })
    }

    fn module(path: &str, kind: &str) -> String {
        format!(r#"{{"idx":0,"name":"","path":"{path}","type":"{kind}"}}"#)
    }

    #[test]
    fn reads_sentence_transformers_modules() {
        let list = |modules: &[String]| format!("[{}]", modules.join(","));
        let transformer = module("", "sentence_transformers.models.Transformer");
        let pool = module("1_Pooling", "sentence_transformers.sentence_transformer.modules.pooling.Pooling");
        let dropout = module("2_Dropout", "sentence_transformers.models.Dropout");
        let dense = module("2_Dense", "sentence_transformers.models.Dense");
        let norm = module("3_Normalize", "sentence_transformers.models.Normalize");
        let mean = r#"{"word_embedding_dimension":64,"pooling_mode_cls_token":false,"pooling_mode_mean_tokens":true}"#;
        let all = list(&[transformer.clone(), pool.clone(), dropout, dense.clone(), norm.clone()]);
        let expected = DensePipeline {
            pooling: Pooling { modes: vec![PoolingMode::Mean], include_prompt: true },
            dense: vec![DenseModule { folder: "2_Dense".into(), activation: Activation::Identity }],
            normalize: true,
            truncate_dim: None,
        };
        assert_eq!(pipeline(&all, mean).unwrap(), expected);
        let short = list(&[transformer.clone(), pool.clone()]);
        assert!(!pipeline(&short, r#"{"pooling_mode":"cls"}"#).unwrap().normalize);

        let message = |modules: &[String]| pipeline(&list(modules), mean).unwrap_err().to_string();
        assert!(message(&[transformer.clone(), norm, pool.clone()]).contains("is out of order"));
        assert!(message(std::slice::from_ref(&transformer)).contains("no Pooling"));
        for folder in ["../x", ""] {
            let message = message(&[transformer.clone(), module(folder, "sentence_transformers.models.Pooling")]);
            assert!(message.contains(&format!("`{folder}` is not a folder inside")), "{message}");
        }
        assert!(message(&[transformer.clone(), module("1", "sentence_transformers.models.LSTM")]).contains("LSTM"));
        assert!(message(&[transformer.clone(), module("1", "custom.Pooling")]).contains("its code is not run"));
        let older = module("0_Transformer", "sentence_transformers.models.Transformer");
        assert!(message(&[older, pool]).contains("move its files"));
    }

    /// A packed file of more `Dense` modules than this is refused when it is opened, so a checkpoint with them is refused before it is packed.
    #[test]
    fn a_checkpoint_has_as_many_dense_modules_as_a_packed_file_may_have() {
        let with = |dense: usize| {
            let mut modules = vec![
                module("", "sentence_transformers.models.Transformer"),
                module("1_Pooling", "sentence_transformers.models.Pooling"),
            ];
            modules.extend((0..dense).map(|_| module("2_Dense", "sentence_transformers.models.Dense")));
            pipeline(&format!("[{}]", modules.join(",")), "{}")
        };
        assert_eq!(with(MAX_DENSE_MODULES).unwrap().dense.len(), MAX_DENSE_MODULES);
        for more in [1, 2, 100] {
            let refused = with(MAX_DENSE_MODULES + more).unwrap_err().to_string();
            assert!(refused.contains("modules.json") && refused.contains("at most 16"), "{refused}");
        }
    }

    #[test]
    fn pooling_modes_are_named_in_both_ways_and_joined() {
        let modes = |json: &str| Pooling::from_json(json.as_bytes(), Path::new("config.json")).map(|p| p.name());
        for (json, name) in [
            ("{}", "mean"),
            (r#"{"pooling_mode_mean_tokens":false}"#, "mean"),
            (r#"{"pooling_mode_mean_tokens":true,"pooling_mode_cls_token":true}"#, "cls+mean"),
            (r#"{"pooling_mode":["mean","cls"],"pooling_mode_max_tokens":true}"#, "mean+cls"),
            (r#"{"pooling_mode":["lasttoken"]}"#, "lasttoken"),
        ] {
            assert_eq!(modes(json).unwrap(), name, "{json}");
            assert_eq!(Pooling::modes_of(name).unwrap().len(), name.split('+').count());
        }
        for json in [
            r#"{"pooling_mode":"attention"}"#,
            r#"{"pooling_mode":[]}"#,
            r#"{"pooling_mode":null}"#,
            r#"{"pooling_mode":"cls","include_prompt":1}"#,
            r#"{"pooling_mode_attention":true}"#,
        ] {
            assert!(modes(json).is_err(), "{json}");
        }
    }
}
