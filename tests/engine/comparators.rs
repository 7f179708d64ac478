//! Tests of the comparators that other tests use: each must refuse wrong results, or the golden tests prove nothing.

use trivec_testing as common;

use common::{check, close, lexical, same_bits, token_rows};
use trivec::{Embedding, LexicalWeights, TokenVectors};

fn weights(pairs: &[(u32, f32)]) -> LexicalWeights {
    LexicalWeights::from_pairs(pairs.to_vec())
}

#[test]
fn close_accepts_what_is_close() {
    assert!(close(&[1.0, -2.0], &[1.0, -2.0], 0.0).is_ok());
    assert!(close(&[1.0 + 1e-6], &[1.0], 2e-6).is_ok());
    assert!(close(&[], &[], 0.0).is_ok());
}

#[test]
fn close_refuses_what_is_wrong() {
    for (found, expected) in [
        (vec![1.0, f32::NAN], vec![1.0, 2.0]),
        (vec![-f32::NAN, 1.0], vec![1.0, 1.0]),
        (vec![1.0], vec![f32::NAN]),
        (vec![f32::NAN], vec![f32::NAN]),
        (vec![f32::INFINITY], vec![1.0]),
        (vec![f32::INFINITY], vec![f32::INFINITY]),
        (vec![-1.0], vec![1.0]),
        (vec![1.0, 2.0], vec![1.0]),
        (vec![], vec![1.0]),
        (vec![0.0], vec![3e-6]),
        (vec![0.0], vec![-3e-6]),
    ] {
        assert!(close(&found, &expected, 2e-6).is_err(), "{found:?} passed for {expected:?}");
    }
    let what = close(&[1.0, 5.0, 3.0], &[1.0, 2.0, 3.5], 0.1).unwrap_err();
    assert!(what.contains("value 1 is 5, expected 2"), "{what}");
}

#[test]
fn lexical_accepts_missing_and_extra_ids_with_weights_below_the_bound() {
    let found = weights(&[(7, 0.5), (9, 5e-6)]);
    assert!(lexical(&found, &[7, 9], &[0.5, 5e-6], 1e-5).is_ok());
    assert!(lexical(&found, &[7], &[0.5], 1e-5).is_ok());
    assert!(lexical(&found, &[7, 8, 9], &[0.5, 3e-6, 5e-6], 1e-5).is_ok());
}

#[test]
fn lexical_refuses_what_is_wrong() {
    let found = weights(&[(7, 0.5), (9, 0.25)]);
    for (ids, expected) in [
        (&[7][..], &[0.5][..]),               // an id too many
        (&[7, 8, 9], &[0.5, 0.1, 0.25]),      // an id too few
        (&[7, 10], &[0.5, 0.25]),             // another id
        (&[7, 9], &[0.5, 0.2501]),            // another weight
        (&[7, 9], &[0.5, -0.25]),             // sign
        (&[7, 9], &[0.5, f32::NAN]),          // NaN
        (&[7, 8, 9], &[0.5, f32::NAN, 0.25]), // NaN where nothing was found
        (&[7, 9, 11], &[0.5, 0.25]),          // lengths
        (&[7, 7], &[0.5, 0.5]),               // repeated id
    ] {
        assert!(lexical(&found, ids, expected, 1e-5).is_err(), "{ids:?} {expected:?} passed");
    }
}

#[test]
fn token_rows_refuses_what_is_wrong() {
    let found = TokenVectors::new(vec![1.0, 0.0, 0.0, 1.0, 0.6, 0.8], 2);
    assert!(token_rows(&found, 3, &[0, 2], &[1.0, 0.0, 0.6, 0.8], 1e-6).is_ok());
    assert!(token_rows(&found, 4, &[0, 2], &[1.0, 0.0, 0.6, 0.8], 1e-6).is_err(), "row count");
    assert!(token_rows(&found, 3, &[0, 2], &[1.0, 0.0, 0.6], 1e-6).is_err(), "dimension");
    assert!(token_rows(&found, 3, &[0, 1], &[1.0, 0.0, 0.6, 0.8], 1e-6).is_err(), "row order");
    assert!(token_rows(&found, 3, &[0, 2], &[1.0, 0.0, 0.6, -0.8], 1e-6).is_err(), "sign");
}

fn embedding() -> Embedding {
    Embedding {
        dense: Some(vec![0.6, 0.8, 0.0]),
        lexical: Some(weights(&[(7, 0.5)])),
        colbert: Some(TokenVectors::new(vec![1.0, 0.0], 2)),
        tokens: 2,
        truncated: false,
    }
}

#[test]
fn same_bits_sees_every_part() {
    let one = embedding();
    assert!(same_bits(&one, &embedding()).is_ok());
    let others = [
        Embedding { dense: Some(vec![0.6, 0.8, -0.0]), ..embedding() },
        Embedding { dense: Some(vec![0.6, f32::from_bits(0.8f32.to_bits() + 1), 0.0]), ..embedding() },
        Embedding { dense: None, ..embedding() },
        Embedding { lexical: Some(weights(&[(8, 0.5)])), ..embedding() },
        Embedding { lexical: Some(weights(&[(7, f32::from_bits(0.5f32.to_bits() + 1))])), ..embedding() },
        Embedding { colbert: Some(TokenVectors::new(vec![1.0, 0.0], 1)), ..embedding() },
        Embedding { colbert: Some(TokenVectors::new(vec![1.0, -0.0], 2)), ..embedding() },
        Embedding { colbert: None, ..embedding() },
        Embedding { tokens: 3, ..embedding() },
        Embedding { truncated: true, ..embedding() },
    ];
    for other in others {
        assert!(same_bits(&one, &other).is_err(), "{other:?} passed");
    }
}

#[test]
fn golden_values_agree_with_themselves() {
    let golden = common::Golden::read("f32-h64");
    for case in golden.cases() {
        let (ids, weights) = golden.sparse(case).unwrap();
        let (rows, values) = golden.colbert(case).unwrap();
        let found = Embedding {
            dense: Some(golden.dense(case).to_vec()),
            lexical: Some(LexicalWeights::from_pairs(ids.iter().copied().zip(weights.iter().copied()).collect())),
            colbert: Some(TokenVectors::new(values.to_vec(), values.len() / rows.len())),
            tokens: golden.ids(case).len(),
            truncated: false,
        };
        common::report(check(&found, &golden, case, 1.0));
    }
}

#[test]
fn check_sees_missing_and_unexpected_parts() {
    let golden = common::Golden::read("noheads-h64");
    let mut found = Embedding {
        dense: Some(golden.dense("n3").to_vec()),
        lexical: None,
        colbert: None,
        tokens: 3,
        truncated: false,
    };
    assert!(check(&found, &golden, "n3", 1.0).is_empty());
    found.lexical = Some(weights(&[(7, 0.5)]));
    found.tokens = 4;
    found.dense = None;
    assert_eq!(check(&found, &golden, "n3", 1.0).len(), 3);
    assert_eq!(check(&found, &common::Golden::read("f32-h64"), "n17", 1.0).len(), 4);
}
