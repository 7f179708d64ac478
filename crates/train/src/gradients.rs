//! Tests that compare losses and gradients with PyTorch's autograd and with finite differences.

use std::collections::BTreeMap;

use safetensors::{Dtype, SafeTensors};

use crate::arms::{Arm, Effective, Tokens, colbert, dense};
use crate::batch::{Assembled, Scored, StepOptions, step};
use crate::heads::Heads;
use crate::loss::{LossOptions, Losses, teacher_row};
use crate::math::closed::Map;

/// Inputs and expected values: computed by PyTorch 2.15.0 in f64 (`tools/train_fixtures.py`), and rounded to f32.
const FIXTURE: &[u8] = include_bytes!("../tests/data/losses.safetensors");

const CASES: [&str; 5] = ["m3", "recipe", "base", "odd", "outside"];

/// The largest allowed difference: of a gradient relative to the largest value of its tensor, of a loss relative to itself (or to 1 if it is
/// smaller).
const TOLERANCE: f64 = 1e-5;

/// What a step gives, with the gradients of the parameters.
struct Found {
    losses: Losses,
    gradients: Vec<Vec<f32>>,
    scores: [Option<Vec<f32>>; 3],
}

/// The tensors of one case of the fixture: their shapes and values, by name.
struct Case(BTreeMap<String, (Vec<usize>, Vec<f64>)>);

impl Case {
    /// Reads a case from the fixture.
    fn read(name: &str) -> Case {
        let file = SafeTensors::deserialize(FIXTURE).unwrap();
        let of = |(full, view): (String, safetensors::tensor::TensorView<'_>)| {
            let key = full.strip_prefix(&format!("{name}."))?.to_owned();
            let data = view.data();
            let values = match view.dtype() {
                Dtype::F32 => data.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
                Dtype::I64 => data.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
                Dtype::U8 => data.iter().map(|b| f64::from(*b)).collect(),
                other => panic!("{other:?}"),
            };
            Some((key, (view.shape().to_vec(), values)))
        };
        Case(file.tensors().into_iter().filter_map(of).collect())
    }

    fn values(&self, name: &str) -> &[f64] {
        &self.0[name].1
    }

    fn f32(&self, name: &str) -> Vec<f32> {
        self.values(name).iter().map(|&x| x as f32).collect()
    }

    /// The arm of this name, with the base and the trained part that the fixture has.
    fn arm(&self, name: &str) -> Arm {
        let shape = &self.0[&format!("{name}.w0")].0;
        let base = Map {
            weight: self.values(&format!("{name}.w0")).to_vec(),
            bias: self.values(&format!("{name}.b0")).to_vec(),
            outputs: shape[0],
            inputs: shape[1],
        };
        Arm::new(base, self.f32(&format!("{name}.a")), self.f32(&format!("{name}.bias")))
    }

    fn heads(&self) -> Heads {
        let arms = ["dense", "sparse", "colbert"].map(|name| Some(self.arm(name)));
        Heads { arms, trained: [true; 3] }
    }

    /// The batch's texts: queries, then passages.
    fn tokens(&self) -> [Tokens; 2] {
        let hidden = self.0["states"].0[1];
        let (ids, states) = (self.values("ids"), self.f32("states"));
        let mut at = 0;
        ["queries", "passages"].map(|side| {
            let first = at;
            let mut starts = vec![0];
            for &count in self.values(side) {
                at += count as usize;
                starts.push(at - first);
            }
            Tokens {
                states: states[first * hidden..at * hidden].to_vec(),
                starts,
                ids: ids[first..at].iter().map(|&id| id as u32).collect(),
                hidden,
            }
        })
    }

    fn batch(&self) -> Assembled {
        let queries = self.0["queries"].0[0];
        let options = self.values("options");
        // The rows for which the script has a teacher, with the teacher's scores there.
        let judged = |row: usize| match row {
            0 => Some(teacher_row(&[(0, 2.0), (queries, -1.0)])),
            3 => Some(teacher_row(&[(3, 0.5), (queries + 3, 0.25)])),
            _ => None,
        };
        Assembled {
            queries: (0..queries).collect(),
            passages: (0..self.0["passages"].0[0]).collect(),
            positives: (0..queries).collect(),
            masked: self.values("mask").iter().map(|&x| x != 0.0).collect(),
            sharing: self.values("sharing").iter().map(|&x| x != 0.0).collect(),
            teacher: (options[9] != 0.0).then(|| (0..queries).map(judged).collect()),
        }
    }

    /// The step's options, which the fixture has as a list of numbers.
    fn options(&self) -> StepOptions {
        let all = self.f32("options");
        let loss =
            LossOptions { temperature: all[0], weights: [all[1], all[2], all[3]], lambda: [all[4], all[5], all[6]] };
        StepOptions { loss, distill: all[7] != 0.0, only_sharing: all[8] != 0.0 }
    }

    /// Computes a step over the case's batch with these heads.
    fn step(&self, heads: &Heads) -> Found {
        let maps = heads.effective();
        let tokens = self.tokens();
        let pooled = [0, 1].map(|side| mean(&tokens[side]));
        let scored = Scored {
            dense: maps[0].as_ref().map(|map| dense::forward(map, &pooled[0], &pooled[1])),
            colbert: maps[2].as_ref().map(|map: &Effective| colbert::forward(map, &tokens[0], &tokens[1])),
            tokens,
            pooled,
        };
        let stepped = step(&self.batch(), &scored, &maps, [true; 3], &self.options());
        Found { losses: stepped.losses, gradients: heads.gradients(stepped.gradients), scores: stepped.scores }
    }
}

/// Pooled states of the texts: the mean of each text's token states.
fn mean(tokens: &Tokens) -> Vec<f32> {
    let of = |text: usize| {
        let range = tokens.range(text);
        let mut sum = vec![0.0f64; tokens.hidden];
        for token in range.clone() {
            let row = &tokens.states[token * tokens.hidden..][..tokens.hidden];
            sum.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x) / range.len() as f64);
        }
        sum.into_iter().map(|x| x as f32).collect::<Vec<f32>>()
    };
    (0..tokens.texts()).flat_map(of).collect()
}

/// Panics unless all values are within [`TOLERANCE`] of the expected ones, relative to the largest of those.
fn assert_near(found: &[f32], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let most = expected.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    assert!(most > 0.0, "{what}: all zeros show nothing");
    for (at, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let off = (f64::from(found) - expected).abs() / most;
        assert!(off <= TOLERANCE, "{what}[{at}]: {found}, expected {expected} ({off:.1e} of the largest)");
    }
}

#[test]
fn losses_and_gradients_are_pytorchs() {
    for name in CASES {
        let case = Case::read(name);
        let Found { losses, gradients, scores } = case.step(&case.heads());
        let found = [&[losses.total, losses.ensemble][..], &losses.arms, &losses.distilled].concat();
        for (at, (found, expected)) in found.iter().zip(case.values("loss")).enumerate() {
            assert!(
                (found - expected).abs() <= TOLERANCE * expected.abs().max(1.0),
                "{name}: loss {at} is {found}, expected {expected}"
            );
        }
        for (arm, arm_name) in ["dense", "sparse", "colbert"].into_iter().enumerate() {
            assert_near(
                scores[arm].as_ref().unwrap(),
                case.values(&format!("{arm_name}.scores")),
                &format!("{name}: {arm_name} scores"),
            );
            for (part, key) in ["grad_a", "grad_bias"].into_iter().enumerate() {
                let expected = case.values(&format!("{arm_name}.{key}"));
                assert_near(&gradients[2 * arm + part], expected, &format!("{name}: {arm_name} {key}"));
            }
        }
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    // A case without distillation: its teacher is a constant for the gradient, but would move with the parameters here.
    let case = Case::read("base");
    let heads = case.heads();
    let gradients = case.step(&heads).gradients;
    for (list, gradient) in gradients.iter().enumerate() {
        let most = gradient.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        for at in (0..gradient.len()).step_by(gradient.len().div_ceil(8)) {
            let loss_at = |by: f32| {
                let mut moved = heads.clone();
                moved.parameters_mut()[list][at] += by;
                case.step(&moved).losses.total
            };
            // Central differences divide the error that f32 scores make in a loss, some 1e-6, by 2e-3; hence the bound of 2e-2 below.
            let by = 1e-3;
            let found = (loss_at(by) - loss_at(-by)) / f64::from(2.0 * by);
            let off = (found - f64::from(gradient[at])).abs() / f64::from(most);
            assert!(off < 2e-2, "parameter {list}[{at}]: {found}, the gradient is {}", gradient[at]);
        }
    }
}

#[test]
fn a_wrong_gradient_is_seen() {
    let case = Case::read("m3");
    let mut gradients = case.step(&case.heads()).gradients;
    gradients[0][0] += 1e-3 * gradients[0].iter().fold(0.0f32, |most, x| most.max(x.abs()));
    let seen = std::panic::catch_unwind(|| assert_near(&gradients[0], case.values("dense.grad_a"), "dense"));
    assert!(seen.is_err());
}
