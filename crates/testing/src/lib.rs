//! What the tests of all crates share: where the fixtures are, how to read them, and comparisons with them; the program as a child process
//! ([`program`], [`http`]), model hubs on loopback ([`hub`], [`world`]), waiting, and random texts and models.

pub mod closed_port;
pub mod http;
pub mod hub;
pub mod outliers;
pub mod program;
pub mod random;
pub mod wait;
pub mod world;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use trivec::{Embedding, LexicalWeights, Model, TokenVectors};

/// Largest allowed |difference| of a value from the fp32 PyTorch reference. tests/data/README.md has the reasons.
pub const DENSE: f32 = 2e-6;
/// As [`DENSE`], of a lexical weight.
pub const LEXICAL: f32 = 1e-5;
/// As [`DENSE`], of a value of a ColBERT vector.
pub const COLBERT: f32 = 2e-5;
/// A lexical weight below this may be present or missing: rounding decides on which side of 0 it falls.
pub const LEXICAL_EDGE: f32 = 1e-5;

/// A path below tests/data.
pub fn data(path: &str) -> PathBuf {
    root("tests/data").join(path)
}

/// A path in the repository.
pub fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// The checkpoint that the starter inside the binary was packed from, computed in f32.
pub fn starter_checkpoint() -> Model {
    Model::load(root("models/starter")).unwrap()
}

/// A text of tests/data/texts.jsonl.
#[derive(serde::Deserialize)]
pub struct Text {
    pub id: String,
    pub text: String,
}

/// All of tests/data/texts.jsonl.
pub fn texts() -> Vec<Text> {
    let file = std::fs::read_to_string(data("texts.jsonl")).unwrap();
    file.split_terminator('\n').map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The reference's results for some texts (cases), from a file of tensors called `<case>.<name>`.
pub struct Golden {
    ints: BTreeMap<String, Vec<u32>>,
    floats: BTreeMap<String, Vec<f32>>,
}

impl Golden {
    /// Reads tests/data/golden/`name`.safetensors.
    pub fn read(name: &str) -> Golden {
        let path = data(&format!("golden/{name}.safetensors"));
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut golden = Golden { ints: BTreeMap::new(), floats: BTreeMap::new() };
        for (name, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
            let data = view.data();
            if view.dtype() == Dtype::I64 {
                let ints = data.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()));
                golden.ints.insert(name, ints.map(|id| u32::try_from(id).unwrap()).collect());
            } else {
                assert_eq!(view.dtype(), Dtype::F32, "{name}");
                let floats = data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
                golden.floats.insert(name, floats.collect());
            }
        }
        golden
    }

    /// The names of the cases.
    pub fn cases(&self) -> impl Iterator<Item = &str> {
        self.ints.keys().filter_map(|name| name.strip_suffix(".ids"))
    }

    /// The token ids of the case's text.
    pub fn ids(&self, case: &str) -> &[u32] {
        &self.ints[&format!("{case}.ids")]
    }

    /// Whether the text was longer than the model allows.
    pub fn truncated(&self, case: &str) -> bool {
        self.ints.get(&format!("{case}.truncated")).is_some_and(|flag| flag[0] == 1)
    }

    pub fn dense(&self, case: &str) -> &[f32] {
        &self.floats[&format!("{case}.dense")]
    }

    /// The first half of the dense vector, normalised again.
    pub fn dense_sliced(&self, case: &str) -> &[f32] {
        &self.floats[&format!("{case}.dense_sliced")]
    }

    /// Token ids and lexical weights; `None` if the model lacks the head.
    pub fn sparse(&self, case: &str) -> Option<(&[u32], &[f32])> {
        let ids = self.ints.get(&format!("{case}.sparse_ids"))?;
        Some((ids, &self.floats[&format!("{case}.sparse_weights")]))
    }

    /// Which rows of the ColBERT vectors the file has, and their values; `None` if the model lacks the head.
    pub fn colbert(&self, case: &str) -> Option<(Vec<usize>, &[f32])> {
        let values = self.floats.get(&format!("{case}.colbert"))?;
        let rows = match self.ints.get(&format!("{case}.colbert_rows")) {
            Some(rows) => rows.iter().map(|&row| row as usize).collect(),
            None => (0..self.ids(case).len() - 1).collect(),
        };
        Some((rows, values))
    }
}

/// Everything in which `found` differs from the golden values of `case`. `dense_scale` widens the dense bound.
pub fn check(found: &Embedding, golden: &Golden, case: &str, dense_scale: f32) -> Vec<String> {
    let ids = golden.ids(case);
    let mut parts =
        vec![("dense", close(found.dense.as_deref().unwrap_or(&[]), golden.dense(case), DENSE * dense_scale))];
    parts.push(("lexical", optional(&found.lexical, golden.sparse(case), |f, (ids, w)| lexical(f, ids, w, LEXICAL))));
    parts.push((
        "colbert",
        optional(&found.colbert, golden.colbert(case), |f, (rows, values)| {
            token_rows(f, ids.len() - 1, &rows, values, COLBERT)
        }),
    ));
    let (found_tokens, tokens) = ((found.tokens, found.truncated), (ids.len(), golden.truncated(case)));
    if found_tokens != tokens {
        parts.push(("tokens, cut", Err(format!("{found_tokens:?}, expected {tokens:?}"))));
    }
    let failed = parts.into_iter().filter_map(|(part, result)| Some((part, result.err()?)));
    failed.map(|(part, what)| format!("{case}: {part}: {what}")).collect()
}

/// Compares what may be missing. It must be missing in both or in neither.
fn optional<F, E>(
    found: &Option<F>,
    expected: Option<E>,
    compare: impl Fn(&F, E) -> Result<(), String>,
) -> Result<(), String> {
    match (found, expected) {
        (Some(found), Some(expected)) => compare(found, expected),
        (None, None) => Ok(()),
        (Some(_), None) => Err("found, but the reference has none".into()),
        (None, Some(_)) => Err("missing".into()),
    }
}

/// Panics if there are failures, and lists them all.
pub fn report(failures: Vec<String>) {
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// Checks that each value is within `tolerance` of the expected one; the error names the worst. NaN is never within.
pub fn close(found: &[f32], expected: &[f32], tolerance: f32) -> Result<(), String> {
    if found.len() != expected.len() {
        return Err(format!("{} values, expected {}", found.len(), expected.len()));
    }
    // total_cmp orders NaN above all numbers, so a NaN is the worst value, and it is within no tolerance.
    let Some((at, worst)) =
        (0..found.len()).map(|at| (at, off(found[at], expected[at]))).max_by(|a, b| a.1.total_cmp(&b.1))
    else {
        return Ok(());
    };
    let within = worst <= f64::from(tolerance);
    if within {
        return Ok(());
    }
    let (found, expected) = (found[at], expected[at]);
    Err(format!("value {at} is {found}, expected {expected}: off by {worst:.3e}, allowed {tolerance:.1e}"))
}

fn off(found: f32, expected: f32) -> f64 {
    (f64::from(found) - f64::from(expected)).abs()
}

/// The Euclidean length of a vector.
pub fn norm(values: &[f32]) -> f32 {
    values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt() as f32
}

/// Checks that lexical weights have the expected ids (but see [`LEXICAL_EDGE`]) and weights within `tolerance` of the expected ones.
pub fn lexical(found: &LexicalWeights, ids: &[u32], weights: &[f32], tolerance: f32) -> Result<(), String> {
    let expected: BTreeMap<u32, f32> = ids.iter().copied().zip(weights.iter().copied()).collect();
    if expected.len() != weights.len() || ids.len() != weights.len() {
        return Err("the expected ids are not unique, or not as many as the weights".into());
    }
    if !found.ids().is_sorted_by(|a, b| a < b) {
        return Err("ids are not ascending and unique".into());
    }
    for (id, weight) in found.iter() {
        match expected.get(&id) {
            Some(&e) => close(&[weight], &[e], tolerance).map_err(|what| format!("id {id}: {what}"))?,
            None if weight < LEXICAL_EDGE => {}
            None => return Err(format!("id {id} has weight {weight}, the reference has none")),
        }
    }
    for (id, weight) in expected {
        let may_be_missing = weight < LEXICAL_EDGE;
        if !found.ids().contains(&id) && !may_be_missing {
            return Err(format!("id {id} is missing, expected weight {weight}"));
        }
    }
    Ok(())
}

/// Checks that there are `total` ColBERT vectors, and that those in `rows` are within `tolerance` of `expected`.
pub fn token_rows(
    found: &TokenVectors,
    total: usize,
    rows: &[usize],
    expected: &[f32],
    tolerance: f32,
) -> Result<(), String> {
    if found.rows() != total || rows.len() * found.dim() != expected.len() {
        let dim = expected.len() / rows.len().max(1);
        return Err(format!("{} rows of {}, expected {total} of {dim}", found.rows(), found.dim()));
    }
    for (&row, expected) in rows.iter().zip(expected.chunks_exact(found.dim())) {
        close(found.row(row), expected, tolerance).map_err(|what| format!("row {row}: {what}"))?;
    }
    Ok(())
}

/// Checks that two embeddings are equal to the bit; the error names the parts that are not.
pub fn same_bits(found: &Embedding, expected: &Embedding) -> Result<(), String> {
    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|value| value.to_bits()).collect()
    }
    type Parts = (usize, bool, Option<Vec<u32>>, Option<(Vec<u32>, Vec<u32>)>, Option<(usize, Vec<u32>)>);
    fn parts(e: &Embedding) -> Parts {
        let dense = e.dense.as_deref().map(bits);
        let lexical = e.lexical.as_ref().map(|l| (l.ids().to_vec(), bits(l.weights())));
        (e.tokens, e.truncated, dense, lexical, e.colbert.as_ref().map(|c| (c.dim(), bits(c.as_slice()))))
    }
    let (found, expected) = (parts(found), parts(expected));
    let same = [
        ("tokens", (found.0, found.1) == (expected.0, expected.1)),
        ("dense", found.2 == expected.2),
        ("lexical", found.3 == expected.3),
        ("colbert", found.4 == expected.4),
    ];
    let differ: Vec<_> = same.iter().filter(|(_, same)| !same).map(|(part, _)| *part).collect();
    if differ.is_empty() { Ok(()) } else { Err(format!("other bits in {}", differ.join(", "))) }
}

/// The full tokenizer.json of XLM-RoBERTa, with 250,002 pieces.
pub fn full_tokenizer() -> Vec<u8> {
    use std::io::Read;
    let packed = std::fs::File::open(data("xlmr-tokenizer.json.gz")).unwrap();
    let mut json = Vec::new();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut json).unwrap();
    json
}
