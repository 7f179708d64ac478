//! Damaged, incomplete and foreign model directories: each is refused with a typed error that names the file, the tensor, what was
//! found and what was expected. `row_N` in a test's name is the number of the fault in the list from which these tests were made.

use trivec_testing as common;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use tempfile::TempDir;
use trivec::{EncodeOptions, Error, ErrorKind, LoadOptions, Model, Modes};

const WEIGHTS: &str = "model.safetensors";
const QUERY: &str = "encoder.layer.0.attention.self.query.weight";

/// A copy of a fixture model that a test may damage.
fn copy_of(model: &str) -> TempDir {
    let from = common::data("models").join(model);
    let copy = TempDir::new().unwrap();
    for entry in fs::read_dir(&from).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_file() {
            fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
    }
    copy
}

/// The kind and the message of the error with which loading must fail.
fn refusal(directory: &Path) -> (ErrorKind, String) {
    match Model::load(directory) {
        Ok(_) => panic!("{} was loaded", directory.display()),
        Err(e) => (e.kind(), e.to_string()),
    }
}

/// Tensors that a test may change, by name: the type, shape and bytes of each.
type Tensors = HashMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// Rewrites the weights of `directory` through `change`.
fn rewrite(directory: &Path, change: impl FnOnce(&mut Tensors)) {
    let path = directory.join(WEIGHTS);
    let bytes = fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Tensors = file
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec())))
        .collect();
    change(&mut tensors);
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, data))| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    let bytes = safetensors::serialize(views, None).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_cut_file_names_both_lengths() {
    let model = copy_of("f32-h64");
    let path = model.path().join(WEIGHTS);
    let whole = fs::read(&path).unwrap();
    for cut in [0, 1, 7, 8, 9, 100, 5000, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..cut]).unwrap();
        match Model::load(model.path()).unwrap_err() {
            Error::FileLength { actual, expected, .. } => {
                assert_eq!(actual, cut as u64);
                assert!(expected > actual && expected <= whole.len() as u64, "cut at {cut}: {expected}");
            }
            other => panic!("cut at {cut}: {other}"),
        }
    }
}

#[test]
fn bad_headers_are_model_errors() {
    let model = copy_of("f32-h64");
    let path = model.path().join(WEIGHTS);
    let whole = fs::read(&path).unwrap();
    for length in [0u64, 7, 1 << 63, 100_000_001, u64::MAX] {
        let mut bytes = whole.clone();
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        fs::write(&path, bytes).unwrap();
        let (kind, message) = refusal(model.path());
        assert!(kind == ErrorKind::Model && message.contains(WEIGHTS), "{length}: {message}");
    }
    let mut bytes = whole.clone();
    bytes[40] = 0xff;
    fs::write(&path, bytes).unwrap();
    assert_eq!(refusal(model.path()).0, ErrorKind::Model);
}

#[test]
fn missing_and_misshapen_tensors_are_named_and_extras_are_allowed() {
    let model = copy_of("f32-h64");
    rewrite(model.path(), |tensors| {
        tensors.insert("another.model.weight".into(), (Dtype::F64, vec![1], vec![0; 8]));
    });
    Model::load(model.path()).unwrap();

    rewrite(model.path(), |tensors| {
        tensors.remove(QUERY).unwrap();
    });
    let (kind, message) = refusal(model.path());
    assert!(kind == ErrorKind::Model && message.contains(QUERY) && message.contains("missing"), "{message}");

    let model = copy_of("f32-h64");
    let words = "embeddings.word_embeddings.weight";
    rewrite(model.path(), |tensors| {
        let (_, shape, data) = tensors.get_mut(words).unwrap();
        shape[0] -= 1;
        data.truncate(shape[0] * shape[1] * 4);
    });
    let message = refusal(model.path()).1;
    assert!(
        message.contains(words) && message.contains("its shape is [") && message.contains("expected ["),
        "{message}"
    );
}

#[test]
fn other_types_are_refused() {
    for dtype in [Dtype::I64, Dtype::I8, Dtype::BOOL, Dtype::U8] {
        let model = copy_of("f32-h64");
        rewrite(model.path(), |tensors| {
            let (found, shape, data) = tensors.get_mut(QUERY).unwrap();
            *found = dtype;
            let bytes = if dtype == Dtype::I64 { 8 } else { 1 };
            *data = vec![0; shape.iter().product::<usize>() * bytes];
        });
        let message = refusal(model.path()).1;
        assert!(message.contains(QUERY) && message.contains(&format!("{dtype:?}")), "{message}");
    }
}

/// Models have such weights after PyTorch's `.double()`, or if they were made from NumPy's arrays. `transformers` loads them too.
#[test]
fn weights_of_64_bits_are_rounded_to_f32() {
    let wide = |values: &[u8]| -> Vec<u8> {
        let floats = values.as_chunks::<4>().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes)));
        floats.flat_map(|value| value.to_le_bytes()).collect()
    };
    let model = copy_of("f32-h64");
    let options = EncodeOptions { modes: Modes::ALL, ..Default::default() };
    let expected = Model::load(model.path()).unwrap().encode(&["some text", ""], &options).unwrap();
    rewrite(model.path(), |tensors| {
        for (dtype, _, data) in tensors.values_mut().filter(|(dtype, ..)| *dtype == Dtype::F32) {
            (*dtype, *data) = (Dtype::F64, wide(data));
        }
    });
    let loaded = Model::load(model.path()).unwrap();
    let found = loaded.encode(&["some text", ""], &options).unwrap();
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!((&found.dense, &found.lexical), (&expected.dense, &expected.lexical));
    }
    assert!(loaded.info().weights.contains("F64"), "{}", loaded.info().weights);
    rewrite(model.path(), |tensors| tensors.get_mut(QUERY).unwrap().2[8..16].copy_from_slice(&1e39f64.to_le_bytes()));
    let message = refusal(model.path()).1;
    assert!(message.contains(QUERY) && message.contains("its value at 1 (row 0, column 1)"), "{message}");
}

#[test]
fn a_value_that_is_not_finite_is_found_unless_the_scan_is_off() {
    for (at, bad) in [(0, f32::NAN), (70, f32::INFINITY), (4095, f32::NEG_INFINITY)] {
        let model = copy_of("f32-h64");
        rewrite(model.path(), |tensors| {
            tensors.get_mut(QUERY).unwrap().2[at * 4..][..4].copy_from_slice(&bad.to_le_bytes());
        });
        let message = refusal(model.path()).1;
        let place = format!("its value at {at} (row {}, column {})", at / 64, at % 64);
        assert!(message.contains(QUERY) && message.contains(&place), "{message}");
        Model::load_with(model.path(), &LoadOptions { check_finite: false, ..Default::default() }).unwrap();
    }
}

#[test]
fn a_model_without_heads_gives_dense_and_says_what_is_missing() {
    let model = Model::load(common::data("models/noheads-h64")).unwrap();
    assert_eq!(model.info().modes, Modes::DENSE);
    assert!(model.encode_ids(&[[0, 5, 2]], &EncodeOptions::default()).unwrap()[0].dense.is_some());
    for (modes, head) in
        [(Modes::SPARSE, "sparse_linear"), (Modes::COLBERT, "colbert_linear"), (Modes::ALL, "sparse_linear")]
    {
        let error = model.encode_ids(&[[0, 5, 2]], &EncodeOptions { modes, ..Default::default() }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ModeUnavailable);
        assert!(error.to_string().starts_with("mode unavailable") && error.to_string().contains(head), "{error}");
    }
}

#[test]
fn a_head_without_bias_or_of_wrong_width_is_refused() {
    let model = copy_of("f16-h128");
    let write = |tensors: &[(&str, &[usize])]| {
        let zeros = vec![0u8; 4 * 128 * 128];
        let views = tensors.iter().map(|(name, shape)| {
            let len = shape.iter().product::<usize>() * 4;
            (*name, TensorView::new(Dtype::F32, shape.to_vec(), &zeros[..len]).unwrap())
        });
        fs::write(model.path().join("sparse_linear.safetensors"), safetensors::serialize(views, None).unwrap())
            .unwrap();
    };
    write(&[("weight", &[1, 128]), ("bias", &[1])]);
    assert!(Model::load(model.path()).unwrap().info().modes.sparse, "bare names in a head's own file are read");
    // One output may be written in any shape, and a training script may have wrapped the layer.
    for (weight, bias, names) in [
        (&[128][..], &[][..], ["weight", "bias"]),
        (&[128, 1], &[1, 1], ["module.weight", "module.bias"]),
        (&[1, 128], &[1], ["_orig_mod.sparse_linear.weight", "_orig_mod.sparse_linear.bias"]),
    ] {
        write(&[(names[0], weight), (names[1], bias)]);
        assert!(Model::load(model.path()).unwrap().info().modes.sparse, "{names:?}");
    }
    write(&[("weight", &[1, 128])]);
    assert!(refusal(model.path()).1.contains("sparse_linear.bias"));
    write(&[("weight", &[1, 127]), ("bias", &[1])]);
    assert!(refusal(model.path()).1.contains("[1, 128]"));
    write(&[("weight", &[2, 128]), ("bias", &[2])]);
    assert!(refusal(model.path()).1.contains("[1, 128]"));
    write(&[]);
    assert!(refusal(model.path()).1.contains("sparse_linear.weight"));
}

#[test]
fn a_corrupt_tokenizer_is_refused_at_load() {
    let model = copy_of("f32-h64");
    let path = model.path().join("tokenizer.json");
    let whole = fs::read_to_string(&path).unwrap();
    let vocabulary = whole.find("\"vocab\"").unwrap();
    for (what, bytes) in [
        ("cut", whole[..whole.len() / 2].to_owned()),
        ("empty", String::new()),
        ("deep", "[".repeat(100_000)),
        ("another model", whole.replace("\"Unigram\"", "\"BPE\"")),
        (
            "a piece without score",
            format!("{}{}", &whole[..vocabulary], whole[vocabulary..].replacen("[[", "[[\"x\"],[", 1)),
        ),
    ] {
        fs::write(&path, bytes).unwrap();
        let (kind, message) = refusal(model.path());
        assert!(kind == ErrorKind::Model && message.contains("tokenizer.json"), "{what}: {message}");
    }
}

/// The dense vector of some ids.
fn dense(directory: &Path) -> Vec<f32> {
    let model = Model::load(directory).unwrap_or_else(|error| panic!("{error}"));
    model.encode_ids(&[[0, 5, 9, 2]], &EncodeOptions::default()).unwrap().remove(0).dense.unwrap()
}

#[test]
fn an_encoder_is_found_under_any_prefix_unless_there_are_several() {
    let expected = dense(&common::data("models/f32-h64"));
    for prefix in [
        "roberta.",
        "module.",
        "_orig_mod.",
        "0.auto_model.",
        "auto_model.",
        "model.",
        "encoder.model.",
        "module._orig_mod.model.roberta.",
        "student.backbone.",
    ] {
        let model = copy_of("f32-h64");
        rewrite(model.path(), |tensors| {
            let renamed = tensors.drain().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)).collect();
            *tensors = renamed;
            // Tensors that no model needs.
            for extra in ["lm_head.bias", "optimizer.step", "pooler.dense.weight", "embeddings.position_ids"] {
                tensors.insert(format!("{prefix}{extra}x"), (Dtype::I64, vec![1], vec![0; 8]));
            }
        });
        assert_eq!(dense(model.path()), expected, "{prefix}");
        // Heads are part of the model that contains the encoder.
        assert_eq!(Model::load(model.path()).unwrap().info().modes, Modes::ALL, "{prefix}");
    }
    let model = copy_of("f32-h64");
    rewrite(model.path(), |tensors| {
        let renamed = tensors.drain().flat_map(|(name, tensor)| {
            [(format!("query.{name}"), tensor.clone()), (format!("document.{name}"), tensor)]
        });
        *tensors = renamed.collect();
    });
    let message = refusal(model.path()).1;
    assert!(message.contains("several encoders") && message.contains("`document.`, `query.`"), "{message}");
}

#[test]
fn layer_norms_may_have_tensorflow_s_names() {
    let model = copy_of("f32-h64");
    rewrite(model.path(), |tensors| {
        let old = |name: String| {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        };
        let renamed = tensors.drain().map(|(name, tensor)| (old(name), tensor)).collect();
        *tensors = renamed;
    });
    assert_eq!(dense(model.path()), dense(&common::data("models/f32-h64")));
}

#[test]
fn a_table_may_have_more_rows_than_there_are_ids() {
    let model = copy_of("f32-h64");
    let words = "embeddings.word_embeddings.weight";
    rewrite(model.path(), |tensors| {
        let (_, shape, data) = tensors.get_mut(words).unwrap();
        shape[0] += 64;
        data.resize(shape[0] * shape[1] * 4, 0);
    });
    let path = model.path().join("config.json");
    let config = fs::read_to_string(&path).unwrap();
    // The table must have the size that config.json says.
    assert!(refusal(model.path()).1.contains("its shape is [364, 64], expected [300, 64]"));
    fs::write(&path, config.replace("\"vocab_size\": 300", "\"vocab_size\": 364")).unwrap();
    assert_eq!(dense(model.path()), dense(&common::data("models/f32-h64")));
    let loaded = Model::load(model.path()).unwrap();
    assert_eq!(loaded.info().vocabulary, 364);
    assert_eq!(loaded.encode(&["a text"], &EncodeOptions::default()).unwrap().len(), 1);
    // The packed model has as many rows.
    let packed = model.path().join("packed.safetensors");
    let options = trivec::pack::PackOptions {
        calibration: trivec::pack::Calibration::None,
        ..trivec::pack::PackOptions::new(trivec::WeightFormat::Int8)
    };
    trivec::pack::pack(&loaded, &options, &packed, &mut fs::File::create(&packed).unwrap()).unwrap();
    assert_eq!(Model::load(&packed).unwrap().info().vocabulary, 364);
}

#[test]
fn a_tokenizer_of_another_vocabulary_is_refused() {
    let model = copy_of("f16-h128");
    let other = common::data("models/f32-h64/tokenizer.json");
    fs::copy(other, model.path().join("tokenizer.json")).unwrap();
    let message = refusal(model.path()).1;
    assert!(message.contains("the tokenizer has") && message.contains("rows"), "{message}");
}

#[test]
fn without_a_tokenizer_only_ids_are_encoded() {
    let model = copy_of("f32-h64");
    fs::remove_file(model.path().join("tokenizer.json")).unwrap();
    let model = Model::load(model.path()).unwrap();
    assert!(model.encode_ids(&[[0, 5, 2]], &EncodeOptions::default()).is_ok());
    let error = model.encode(&["text"], &EncodeOptions::default()).unwrap_err();
    assert!(error.kind() == ErrorKind::Model && error.to_string().contains("tokenizer.json"), "{error}");
}

#[test]
fn paths_that_are_no_models_are_refused() {
    let empty = TempDir::new().unwrap();
    assert!(refusal(empty.path()).1.contains("config.json"));
    let (kind, message) = refusal(&empty.path().join("nowhere"));
    assert!(kind == ErrorKind::Model && message.contains("no such model file or directory"), "{message}");
    let file = empty.path().join("file");
    fs::write(&file, "x").unwrap();
    // A file is read as a packed model.
    assert!(refusal(&file).1.contains("its header describes"));

    let model = copy_of("f32-h64");
    fs::remove_file(model.path().join(WEIGHTS)).unwrap();
    assert!(refusal(model.path()).1.contains("neither"));
    let model = copy_of("f32-h64");
    let config = fs::read_to_string(model.path().join("config.json")).unwrap();
    fs::write(model.path().join("config.json"), config.replace("xlm-roberta", "bert")).unwrap();
    assert!(refusal(model.path()).1.contains("expected \"xlm-roberta\""));
}

#[test]
fn shards_are_plain_names_and_hold_what_the_index_says() {
    let model = copy_of("sharded-h96");
    let index_path = model.path().join("model.safetensors.index.json");
    let index = fs::read_to_string(&index_path).unwrap();
    let shards: Vec<_> = fs::read_dir(model.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("model-"))
        .collect();
    assert_eq!(shards.len(), 2);
    for outside in ["../x.safetensors", "/etc/passwd", "sub/x.safetensors", ""] {
        fs::write(&index_path, index.replace(&shards[0], outside)).unwrap();
        assert!(refusal(model.path()).1.contains("is not a file name"), "{outside}");
    }
    fs::write(&index_path, index.replacen(&shards[0], &shards[1], 1)).unwrap();
    assert!(refusal(model.path()).1.contains("puts it here"));
    fs::write(&index_path, &index).unwrap();
    Model::load(model.path()).unwrap();
    fs::remove_file(model.path().join(&shards[0])).unwrap();
    assert!(refusal(model.path()).1.contains("the shard is missing"));
}

#[test]
fn options_and_inputs_out_of_range_are_named() {
    let model = Model::load(common::data("models/f32-h64")).unwrap();
    let max = model.info().max_length;
    for (options, name) in [
        (EncodeOptions { max_length: Some(1), ..Default::default() }, "max_length"),
        (EncodeOptions { max_length: Some(max + 1), ..Default::default() }, "max_length"),
        (EncodeOptions { dimensions: Some(0), ..Default::default() }, "dimensions"),
        (EncodeOptions { dimensions: Some(65), ..Default::default() }, "dimensions"),
    ] {
        let error = model.encode::<&str>(&[], &options).unwrap_err();
        assert!(error.kind() == ErrorKind::Usage && error.to_string().contains(name), "{error}");
    }
    assert!(model.encode::<&str>(&[], &EncodeOptions::default()).unwrap().is_empty());
    for (ids, what) in [(vec![], "no token ids"), (vec![0, 1_000_000], "1000000"), (vec![5; max + 1], "at most")] {
        let error = model.encode_ids(&[vec![0, 2], ids], &EncodeOptions::default()).unwrap_err();
        assert!(
            error.kind() == ErrorKind::Input
                && error.to_string().contains("input 1")
                && error.to_string().contains(what),
            "{error}"
        );
    }
    for threads in [0, 1025] {
        let options = LoadOptions { threads: Some(threads), ..Default::default() };
        let error = Model::load_with(common::data("models/f32-h64"), &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
    }
    let options = LoadOptions { isa: Some("mmx".into()), ..Default::default() };
    let error = Model::load_with(common::data("models/f32-h64"), &options).unwrap_err();
    assert!(error.kind() == ErrorKind::Usage && error.to_string().contains("`mmx`"), "{error}");
}
