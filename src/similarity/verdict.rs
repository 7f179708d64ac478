//! The verdict on a dense cosine, in a word, and the thresholds that it depends on.

use std::fmt;

/// What a dense cosine says, in a word. A cosine has to be above or below a threshold, not on it, and is compared unrounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Above the upper threshold (85 %): the same text or a paraphrase of it.
    NearIdentical,
    /// Above the middle threshold (60 %), and not above the upper one.
    Related,
    /// From the lower to the middle threshold, both included; or not a number.
    Unclear,
    /// Below the lower threshold (30 %).
    Unrelated,
}

impl Verdict {
    /// The verdict's name: `near-identical`, `related`, `unclear` or `unrelated`.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::NearIdentical => "near-identical",
            Verdict::Related => "related",
            Verdict::Unclear => "unclear",
            Verdict::Unrelated => "unrelated",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The cosines at which the verdict changes. Absolute cosines differ between models, so choose the thresholds on your own data.
///
/// ```
/// use trivec::similarity::{Thresholds, Verdict};
///
/// assert_eq!(Thresholds::default().verdict(0.7), Verdict::Related);
/// assert_eq!(Thresholds::new(0.9, 0.8, 0.5)?.verdict(0.7), Verdict::Unclear);
/// assert!(Thresholds::new(0.5, 0.8, 0.9).is_err());
/// # Ok::<(), trivec::similarity::ThresholdsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    near_identical: f32,
    related: f32,
    unrelated: f32,
}

/// The error for three numbers that are not thresholds: they must descend and lie between 1 and -1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ThresholdsError {
    found: [f32; 3],
}

impl fmt::Display for ThresholdsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [near_identical, related, unrelated] = self.found;
        write!(
            f,
            "expected cosines with 1 >= near-identical >= related >= unrelated >= -1, found {near_identical}, {related}, {unrelated}"
        )
    }
}

impl std::error::Error for ThresholdsError {}

impl Thresholds {
    /// Checks the three thresholds: `1 >= near_identical >= related >= unrelated >= -1`.
    ///
    /// # Errors
    /// [`ThresholdsError`] if they are not in this order.
    pub fn new(near_identical: f32, related: f32, unrelated: f32) -> Result<Self, ThresholdsError> {
        let descending = [1.0, near_identical, related, unrelated, -1.0].windows(2).all(|pair| pair[0] >= pair[1]);
        if descending {
            Ok(Thresholds { near_identical, related, unrelated })
        } else {
            Err(ThresholdsError { found: [near_identical, related, unrelated] })
        }
    }

    /// The verdict on a cosine.
    pub fn verdict(&self, cosine: f32) -> Verdict {
        if cosine > self.near_identical {
            Verdict::NearIdentical
        } else if cosine > self.related {
            Verdict::Related
        } else if cosine < self.unrelated {
            Verdict::Unrelated
        } else {
            Verdict::Unclear
        }
    }
}

impl Default for Thresholds {
    /// 85 %, 60 %, 30 %.
    fn default() -> Self {
        Thresholds { near_identical: 0.85, related: 0.60, unrelated: 0.30 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_strict_and_use_the_unrounded_value() {
        let thresholds = Thresholds::default();
        for (cosine, verdict) in [
            (0.85001, Verdict::NearIdentical),
            (0.85, Verdict::Related),
            (0.8499, Verdict::Related),
            (0.60, Verdict::Unclear),
            (0.30, Verdict::Unclear),
            (0.2999, Verdict::Unrelated),
            (-0.2, Verdict::Unrelated),
            (f32::NAN, Verdict::Unclear),
        ] {
            assert_eq!(thresholds.verdict(cosine), verdict, "{cosine}");
        }
    }

    #[test]
    fn thresholds_must_descend() {
        assert!(Thresholds::new(0.5, 0.6, 0.3).is_err());
        assert!(Thresholds::new(f32::NAN, 0.6, 0.3).is_err());
        assert!(Thresholds::new(1.1, 0.6, 0.3).is_err());
        assert!(Thresholds::new(0.9, 0.5, -0.1).is_ok());
    }
}
