//! The heads of a run: the values that they begin with, which of their numbers are trained, and the optimiser.

use serde::{Deserialize, Serialize};
use trivec::Model;
use trivec::internal::HeadMap;

use crate::arms::{Arm, Effective, Gradient};
use crate::corpus::Corpus;
use crate::error::{Error, Result};
use crate::math::closed::{self, Map};
use crate::math::f64 as algebra;
use crate::random::Random;

/// The values that heads begin with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// The model's own heads. Where it has none, dense begins as the identity, and sparse and ColBERT begin in closed form.
    #[default]
    Current,
    /// In closed form, fitted on the training texts: a whitening map for dense and ColBERT; for sparse a regression from token states to how rare
    /// their pieces are.
    Closed,
    /// As `Current`, but the part that is trained begins with random numbers, which shows what training alone achieves.
    Random,
}

impl std::str::FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Start, String> {
        match text {
            "current" => Ok(Start::Current),
            "closed" => Ok(Start::Closed),
            "random" => Ok(Start::Random),
            _ => Err("expected current, closed or random".to_owned()),
        }
    }
}

/// The three arms of a model, in the order dense, sparse, ColBERT; `None` if the model lacks one, or if its dense head is more than a linear map.
#[derive(Debug, Clone)]
pub(crate) struct Heads {
    pub arms: [Option<Arm>; 3],
    /// Which of them are trained.
    pub trained: [bool; 3],
}

/// About how many token states the closed forms of sparse and ColBERT are fitted on.
const SAMPLE: usize = 20_000;
/// The most pooled states that the closed form of dense is fitted on.
const POOLED_SAMPLE: usize = 20_000;

impl Heads {
    /// The heads that a run begins with. `texts` are the training texts' indices in the corpus.
    ///
    /// # Errors
    /// [`Error::Option`] if the dense head is to be trained but is more than a linear map.
    pub(crate) fn begin(
        model: &Model,
        corpus: &Corpus,
        texts: &[usize],
        trained: [bool; 3],
        start: Start,
        seed: u64,
    ) -> Result<Heads> {
        let maps = model.head_maps();
        if let Some(what) = maps.dense_is_more.as_ref().filter(|_| trained[0]) {
            return Err(Error::option("heads", format!("the dense head cannot be trained: {what}")));
        }
        let own = |map: &Option<HeadMap>| map.as_ref().map(Map::of);
        // Heads that are not trained stay as they are.
        let closed = |arm: usize, has: bool| trained[arm] && (start == Start::Closed || !has);
        let needs_sample = closed(2, maps.colbert.is_some()) || trained[1];
        let (rows, ids) = if needs_sample { corpus.sample(texts, SAMPLE) } else { (Vec::new(), Vec::new()) };
        let hidden = corpus.states.hidden();
        let dense = if closed(0, true) {
            let step = texts.len().div_ceil(POOLED_SAMPLE).max(1);
            let some: Vec<usize> = texts.iter().copied().step_by(step).collect();
            Some(closed::whitening(&corpus.pooled(&some), corpus.pooled_dim))
        } else if maps.dense_is_more.is_some() {
            None
        } else {
            // Without a Dense module the pooled state itself is the vector.
            Some(own(&maps.dense).unwrap_or_else(|| Map::identity(corpus.pooled_dim)))
        };
        let whitened = (closed(2, maps.colbert.is_some())).then(|| closed::whitening(&rows, hidden));
        let colbert = whitened.clone().or_else(|| own(&maps.colbert));
        let sparse = if closed(1, maps.sparse.is_some()) {
            let rarity = closed::rarity(texts.iter().map(|&text| corpus.ids[text].as_slice()));
            let word = |id: u32| {
                let piece = model.piece(id).unwrap_or_default();
                !crate::arms::lexical::UNUSED.contains(&id) && piece.chars().any(char::is_alphanumeric)
            };
            Some(closed::lexical(&rows, &ids, hidden, &rarity, word))
        } else {
            own(&maps.sparse)
        };
        let basis = |colbert: &Option<Map>| {
            let square = colbert.clone().filter(|map| map.outputs == hidden);
            square.unwrap_or_else(|| closed::whitening(&rows, hidden))
        };
        let sparse = sparse.map(|map| match trained[1] {
            true => behind_basis(&map, basis(&colbert)).unwrap_or_else(|| raw(&map)),
            false => raw(&map),
        });
        let mut heads = Heads { arms: [dense.map(Arm::identity), sparse, colbert.map(Arm::identity)], trained };
        if start == Start::Random {
            heads.randomize(seed);
        }
        Ok(heads)
    }

    /// Gives random values to the trained numbers of all arms that are trained.
    fn randomize(&mut self, seed: u64) {
        for (arm, place) in self.arms.iter_mut().zip(0..3).filter(|(_, place)| self.trained[*place]) {
            let Some(arm) = arm else { continue };
            let mut random = Random::new(seed, 100 + place as u64);
            // The range that torch.nn.Linear draws its initial values from.
            let width = 1.0 / ((arm.a.len() / arm.a_bias.len().max(1)).max(1) as f32).sqrt();
            arm.a.iter_mut().chain(&mut arm.a_bias).for_each(|x| *x = random.signed() * width);
        }
    }

    /// The map of each arm as it is now.
    pub(crate) fn effective(&self) -> [Option<Effective>; 3] {
        [0, 1, 2].map(|arm| self.arms[arm].as_ref().map(Arm::effective))
    }

    /// The parameters that are trained, in a fixed order: `A`, then `a`, of each trained arm.
    pub(crate) fn parameters(&self) -> Vec<&Vec<f32>> {
        self.trained_arms().flat_map(|(_, arm)| [&arm.a, &arm.a_bias]).collect()
    }

    /// The same parameters in the same order, to be changed.
    pub(crate) fn parameters_mut(&mut self) -> Vec<&mut Vec<f32>> {
        let trained = self.trained;
        let arms = self.arms.iter_mut().zip(trained).filter(|(_, trained)| *trained);
        arms.filter_map(|(arm, _)| arm.as_mut()).flat_map(|arm| [&mut arm.a, &mut arm.a_bias]).collect()
    }

    /// The trained arms with their indices: 0 dense, 1 sparse, 2 ColBERT.
    pub(crate) fn trained_arms(&self) -> impl Iterator<Item = (usize, &Arm)> {
        let arms = self.arms.iter().enumerate().filter(|(place, _)| self.trained[*place]);
        arms.filter_map(|(place, arm)| Some((place, arm.as_ref()?)))
    }

    /// Gradients of [`Heads::parameters`] from those of the effective maps.
    pub(crate) fn gradients(&self, mut effective: [Option<Gradient>; 3]) -> Vec<Vec<f32>> {
        let mut all = Vec::new();
        for (place, arm) in self.trained_arms() {
            if let Some(gradient) = effective[place].take() {
                let gradient = arm.gradient(gradient);
                all.extend([gradient.weight, gradient.bias]);
            }
        }
        all
    }
}

/// Rewrites a sparse head `w·h + b` as `v·(B h + b₀) + c`, of which `v` and `c` are trained: the directions of the basis `B h + b₀` are meant
/// to be about equally wide, so that Adam's steps mean the same in each. `None` if the basis has no inverse.
fn behind_basis(map: &Map, basis: Map) -> Option<Arm> {
    let v = algebra::solve(&algebra::transposed(&basis.weight, basis.inputs), &map.weight, basis.outputs)?;
    let along: f64 = v.iter().zip(&basis.bias).map(|(v, b)| v * b).sum();
    let narrow = v.iter().map(|&x| x as f32).collect();
    Some(Arm::new(basis, narrow, vec![(map.bias[0] - along) as f32]))
}

/// A sparse head without a change of basis: its map is the base of the arm.
fn raw(map: &Map) -> Arm {
    Arm::identity(map.clone())
}

/// AdamW's β₁, β₂ and ε: PyTorch's defaults.
const BETAS: [f32; 2] = [0.9, 0.999];
const EPSILON: f32 = 1e-8;

/// AdamW (Loshchilov and Hutter): the first and second moments of every parameter.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Adam {
    pub first: Vec<Vec<f32>>,
    pub second: Vec<Vec<f32>>,
}

impl Adam {
    /// Moments of 0 for these parameter tensors.
    pub(crate) fn new(parameters: &[&Vec<f32>]) -> Adam {
        let zeros = || parameters.iter().map(|values| vec![0.0; values.len()]).collect();
        Adam { first: zeros(), second: zeros() }
    }

    /// Updates the parameters in step number `step` (from 1 on); each parameter tensor has a gradient and a learning rate.
    pub(crate) fn step(
        &mut self,
        parameters: Vec<&mut Vec<f32>>,
        gradients: &[Vec<f32>],
        rates: &[f32],
        decay: f32,
        step: usize,
    ) {
        let correction = BETAS.map(|beta| 1.0 - f64::from(beta).powi(step as i32));
        for (at, values) in parameters.into_iter().enumerate() {
            let size = (f64::from(rates[at]) / correction[0]) as f32;
            let root = (1.0 / correction[1].sqrt()) as f32;
            update(
                values,
                &gradients[at],
                (&mut self.first[at], &mut self.second[at]),
                [size, root, 1.0 - rates[at] * decay],
            );
        }
    }
}

/// Updates one parameter tensor `x` and its moments: `m = β₁ m + (1 - β₁) g`, `v = β₂ v + (1 - β₂) g²`, `x = x·keep - size · m / (√v·root + ε)`.
fn update(
    values: &mut [f32],
    gradient: &[f32],
    (first, second): (&mut [f32], &mut [f32]),
    [size, root, keep]: [f32; 3],
) {
    use wide::f32x8;
    let one = |x: f32, g: f32, m: f32, v: f32| {
        let m = BETAS[0] * m + (1.0 - BETAS[0]) * g;
        let v = BETAS[1] * v + (1.0 - BETAS[1]) * g * g;
        (x * keep - size * m / (v.sqrt() * root + EPSILON), m, v)
    };
    let (parts, rest) = values.as_chunks_mut::<8>();
    let (gradients, gradient_rest) = gradient.as_chunks::<8>();
    let (firsts, first_rest) = first.as_chunks_mut::<8>();
    let (seconds, second_rest) = second.as_chunks_mut::<8>();
    for (((x, g), m), v) in parts.iter_mut().zip(gradients).zip(firsts).zip(seconds) {
        let g = f32x8::new(*g);
        let new_m = f32x8::splat(BETAS[0]) * f32x8::new(*m) + f32x8::splat(1.0 - BETAS[0]) * g;
        let new_v = f32x8::splat(BETAS[1]) * f32x8::new(*v) + f32x8::splat(1.0 - BETAS[1]) * g * g;
        let down = f32x8::splat(size) * new_m / (new_v.sqrt() * f32x8::splat(root) + f32x8::splat(EPSILON));
        *x = (f32x8::new(*x) * f32x8::splat(keep) - down).to_array();
        (*m, *v) = (new_m.to_array(), new_v.to_array());
    }
    for (((x, g), m), v) in rest.iter_mut().zip(gradient_rest).zip(first_rest).zip(second_rest) {
        (*x, *m, *v) = one(*x, *g, *m, *v);
    }
}

/// The factor of the learning rate at a step (from 0 on): it rises to 1 over the first `warm_up` part of all steps, then falls linearly to 0.
pub(crate) fn schedule(step: usize, total: usize, warm_up: f64) -> f32 {
    let warm = (total as f64 * warm_up).ceil();
    let (step, total) = (step as f64, total as f64);
    let part = if step < warm { (step + 1.0) / warm } else { (total - step) / (total - warm).max(1.0) };
    part.clamp(0.0, 1.0) as f32
}
