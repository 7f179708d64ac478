//! Mixed precision: the layers whose rounding hurts most keep more bits, within a limit on the file's size.
//!
//! The harm of each layer is measured: in a model with all layers rounded, one layer at a time is replaced by the original, and the
//! decrease of the output's error is that layer's harm.

use super::contents::writer;
use super::moments;
use super::options::{PackOptions, Stage, Step};
use super::plan::Plan;
use super::statistics::cosine;
use crate::embedding::{Embedding, Modes};
use crate::engine::{EncodeOptions, LoadOptions, Model};
use crate::error::{Error, Result};
use crate::weights::WeightFormat;

/// Texts on which the harm is measured, spread evenly over the calibration texts.
const TEXTS: usize = 32;

/// The most tokens of each of these texts.
const MAX_TOKENS: usize = 128;

/// The next better format, for layers that may be larger.
fn better(format: WeightFormat) -> Result<WeightFormat> {
    match format {
        WeightFormat::Int4 => Ok(WeightFormat::Int8),
        WeightFormat::Int8 => Ok(WeightFormat::F16),
        other => {
            let what = format!("{} has no mixed form: start from int4 or int8", other.name());
            Err(Error::Option { option: "mixed", what })
        }
    }
}

/// Chooses the layers of `plan` that get more bits, so that the file stays within `budget` bytes.
pub(super) fn choose(
    model: &Model,
    options: &PackOptions,
    plan: &mut Plan,
    texts: &[&str],
    budget: u64,
    step: Step<'_>,
) -> Result<()> {
    let better = better(options.weights)?;
    if plan.q4_0 {
        let what = "the model's own 4-bit blocks are taken as they are: there is nothing to choose".to_owned();
        return Err(Error::Option { option: "mixed", what });
    }
    let size = |plan: &Plan| -> Result<u64> { writer(model, options, plan, None)?.bytes() };
    let least = size(plan)?;
    if least > budget {
        let (least, budget) = (least as f64 / 1e6, budget as f64 / 1e6);
        let what = format!(
            "{budget:.1} MB are too few: with all layers in {} the file has {least:.1} MB",
            options.weights.name()
        );
        return Err(Error::Option { option: "budget_mb", what });
    }
    let harms = harms(model, options, plan, texts, step)?;
    let mut order: Vec<usize> = (0..harms.len()).collect();
    order.sort_by(|&a, &b| harms[b].total_cmp(&harms[a]).then(a.cmp(&b)));
    for layer in order {
        let before = std::mem::replace(&mut plan.layers[layer], better);
        if size(plan)? > budget {
            plan.layers[layer] = before;
            break;
        }
    }
    Ok(())
}

/// For each layer, how much closer the outputs come to the original's when this layer alone is not rounded.
fn harms(model: &Model, options: &PackOptions, plan: &Plan, texts: &[&str], step: Step<'_>) -> Result<Vec<f64>> {
    let texts: Vec<&str> = texts.iter().step_by(texts.len().div_ceil(TEXTS).max(1)).copied().collect();
    let encode = EncodeOptions {
        modes: Modes { sparse: false, ..model.info().modes },
        max_length: Some(model.info().max_length.min(MAX_TOKENS)),
        ..EncodeOptions::default()
    };
    let mut rounded = {
        let mut bytes = Vec::new();
        // The weights are rounded as they will be in the file, because the way of rounding changes which layer hurts most.
        let rounding = moments::rounding(plan, model, options, step)?;
        writer(model, options, plan, rounding.as_ref())?.write(
            model.team(),
            std::path::Path::new("memory"),
            &mut bytes,
            0,
            &|_, _| (),
        )?;
        let load = LoadOptions {
            threads: Some(model.info().threads),
            isa: Some(model.info().isa.to_owned()),
            ..LoadOptions::default()
        };
        Model::from_packed_bytes(&bytes, &load)?
    };
    let expected = model.encode(&texts, &encode)?;
    let all = error(&expected, &rounded.encode(&texts, &encode)?);
    let layers = plan.layers.len();
    let mut harms = Vec::new();
    for layer in 0..layers {
        step(Stage::Layers, layer, layers);
        let own = rounded.exchange_layer(layer, model);
        harms.push(all - error(&expected, &rounded.encode(&texts, &encode)?));
        rounded.put_layer(layer, own);
    }
    step(Stage::Layers, layers, layers);
    Ok(harms)
}

/// The mean of `1 - cos` over the texts' dense vectors and, if there are any, the means over each text's ColBERT rows.
fn error(expected: &[Embedding], found: &[Embedding]) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for (a, b) in expected.iter().zip(found) {
        if let (Some(a), Some(b)) = (&a.dense, &b.dense) {
            sum += 1.0 - cosine(a, b);
            count += 1.0;
        }
        if let (Some(a), Some(b)) = (&a.colbert, &b.colbert)
            && a.rows() > 0
        {
            let rows: f64 = a.iter().zip(b.iter()).map(|(a, b)| 1.0 - cosine(a, b)).sum();
            sum += rows / a.rows() as f64;
            count += 1.0;
        }
    }
    sum / f64::max(count, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_means_over_texts() {
        let of = |dense: [f32; 2]| Embedding {
            dense: Some(dense.to_vec()),
            lexical: None,
            colbert: None,
            tokens: 2,
            truncated: false,
        };
        let (a, b) = (of([1.0, 0.0]), of([0.0, 1.0]));
        assert_eq!(error(&[a.clone(), a.clone()], &[a.clone(), b]), 0.5);
        assert_eq!(error(&[], &[]), 0.0);
        assert!(better(WeightFormat::F32).is_err());
    }
}
