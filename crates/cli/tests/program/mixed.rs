//! Mixed precision: the file stays within its budget, the layers that get more bits are those that need them most, and the file loads like
//! any other.

use trivec_testing::program;

use std::path::Path;

use trivec::pack::{Calibration, PackOptions, Writing, pack, plan};
use trivec::{EncodeOptions, LoadOptions, Model, WeightFormat};

/// Packs a model in memory; returns the file and the format of each layer.
fn bytes(model: &Model, options: &PackOptions) -> trivec::Result<(Vec<u8>, Vec<WeightFormat>)> {
    let mut bytes = Vec::new();
    let report = pack(model, options, Path::new("out"), &mut bytes)?;
    assert_eq!(report.bytes, bytes.len() as u64);
    Ok((bytes, report.layers))
}

#[test]
fn a_budget_for_one_layer_goes_to_the_layer_that_loses_most() {
    let source = trivec_testing::data("models/f16-h128");
    let model = Model::load(&source).unwrap();
    let int4 = PackOptions::new(WeightFormat::Int4);
    let uniform = plan(&model, &int4, &|_, _, _| ()).unwrap();
    let low = bytes(&model, &int4).unwrap().0.len() as u64;
    let high = bytes(&model, &PackOptions::new(WeightFormat::Int8)).unwrap().0.len() as u64;
    let layers = model.info().layers as u64;
    // All layers in int4, what one layer in int8 takes more, and room for the header.
    let budget = low + (high - low) / layers + 1024;
    let mixed = PackOptions { mixed_budget: Some(budget), ..int4 };
    let (_, chosen) = bytes(&model, &mixed).unwrap();
    assert_eq!(chosen.iter().filter(|format| **format == WeightFormat::Int8).count(), 1, "{chosen:?}");

    // With any other layer in int8, by an edited plan, the vectors of the calibration's texts are no nearer to the original's.
    let texts: Vec<&str> = include_str!("../../../../src/pack/calibration.txt").lines().step_by(4).collect();
    let options = EncodeOptions { max_length: Some(64), ..EncodeOptions::default() };
    let expected = model.encode(&texts, &options).unwrap();
    let error_with = |better: usize| {
        let mut json = serde_json::to_value(&uniform).unwrap();
        json["layers"][better] = "int8".into();
        let plan = serde_json::from_value(json).unwrap();
        let mut bytes = Vec::new();
        let writing = Writing::new(&model, &mixed, &plan, &|_, _, _| ()).unwrap();
        writing.write(Path::new("out"), &mut bytes, 0, &|_, _| ()).unwrap();
        let rounded = Model::from_packed_bytes(&bytes, &LoadOptions::default()).unwrap();
        let found = rounded.encode(&texts, &options).unwrap();
        let distance = |(a, b): (&trivec::Embedding, &trivec::Embedding)| {
            let (a, b) = (a.dense.as_ref().unwrap(), b.dense.as_ref().unwrap());
            1.0 - a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>()
        };
        expected.iter().zip(&found).map(distance).sum::<f64>()
    };
    let errors: Vec<f64> = (0..layers as usize).map(error_with).collect();
    let best = chosen.iter().position(|format| *format == WeightFormat::Int8).unwrap();
    assert!(errors.iter().all(|&error| error >= errors[best]), "layer {best} of {errors:?}");
}

#[test]
fn a_mixed_file_stays_within_its_budget_and_loads() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let source = trivec_testing::data("models/f32-h64");
    let model = Model::load(&source).unwrap();
    let int4 = PackOptions::new(WeightFormat::Int4);
    let (low, _) = bytes(&model, &int4).unwrap();
    let (high, _) = bytes(&model, &PackOptions::new(WeightFormat::Int8)).unwrap();
    let between = (low.len() + high.len()) as u64 / 2 + 1024;

    let mixed = PackOptions { mixed_budget: Some(between), ..int4.clone() };
    let (found, layers) = bytes(&model, &mixed).unwrap();
    assert!(found.len() as u64 <= between, "{} of {between}", found.len());
    let better = layers.iter().filter(|format| **format == WeightFormat::Int8).count();
    assert_eq!((better, layers.len()), (1, 2), "{layers:?}");
    assert_eq!(found, bytes(&model, &mixed).unwrap().0, "the same bytes again");

    let loaded = Model::from_packed_bytes(&found, &LoadOptions::default()).unwrap();
    assert_eq!(loaded.info().weights, "int8 (1 layer), int4 (1 layer)");
    let texts = ["one text", "another, somewhat longer text"];
    let together = loaded.encode(&texts, &EncodeOptions::default()).unwrap();
    let alone = loaded.encode(&texts[1..], &EncodeOptions::default()).unwrap();
    assert_eq!(together[1], alone[0], "bits do not depend on neighbours");

    // With a large budget all layers are int8; a budget that is too small is refused with the size that is needed.
    let (_, all) = bytes(&model, &PackOptions { mixed_budget: Some(1 << 30), ..int4.clone() }).unwrap();
    assert!(all.iter().all(|format| *format == WeightFormat::Int8));
    let error = bytes(&model, &PackOptions { mixed_budget: Some(1000), ..int4 }).unwrap_err();
    assert!(error.to_string().contains("MB"), "{error}");
    let f32 = PackOptions { mixed_budget: Some(1 << 30), ..PackOptions::new(WeightFormat::F32) };
    assert!(bytes(&model, &f32).unwrap_err().to_string().contains("no mixed form"));

    // The command line does the same.
    let out = at.join("mixed.safetensors");
    let mut command = program::trivec();
    command.args(["pack", source.to_str().unwrap(), "--weights", "int4", "--mixed", "-q", "-o", out.to_str().unwrap()]);
    let done = command.args(["--budget-mb", &format!("{}", between as f64 / 1e6)]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(std::fs::metadata(&out).unwrap().len() <= between);
    let loaded = Model::load(&out).unwrap();
    assert_eq!(loaded.info().weights, "int8 (1 layer), int4 (1 layer)");
}

#[test]
fn lists_of_layers_that_do_not_fit_are_refused() {
    let source = trivec_testing::data("models/f32-h64");
    let model = Model::load(&source).unwrap();
    let options = PackOptions { calibration: Calibration::None, ..PackOptions::new(WeightFormat::Int8) };
    let (good, _) = bytes(&model, &options).unwrap();
    let header = u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    for (layers, what) in [("int8", "names 1 layers, expected 2"), ("int8,int9", "int9"), ("int8,int4", "shape")] {
        let mut json: serde_json::Value = serde_json::from_slice(&good[8..8 + header]).unwrap();
        json["__metadata__"]["trivec.layers"] = layers.into();
        let mut text = json.to_string().into_bytes();
        text.resize((8 + text.len()).next_multiple_of(64) - 8, b' ');
        let changed = [&(text.len() as u64).to_le_bytes()[..], &text, &good[8 + header..]].concat();
        let error = Model::from_packed_bytes(&changed, &LoadOptions::default()).unwrap_err().to_string();
        assert!(error.contains(what) || (what == "shape" && error.contains("expected U8")), "{layers}: {error}");
    }
}
