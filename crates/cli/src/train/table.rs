//! The report of a training run as text.

use trivec::escape::Escaped;
use trivec_train::{AblationRow, Compared, DataReport, FEW_JUDGED, Report, Sample, SparseScale};

use crate::style::{counted, pad, percent, readable, signed_percent};

/// The report of a run. `recipe`: whether the losses have their default weights, about which a note is then added.
pub(super) fn report(report: &Report, recipe: bool) -> String {
    let mut text = String::new();
    for compared in report.dev.iter().chain(&report.evals) {
        text.push_str(&set(compared));
    }
    text.push_str(&match report.kept {
        0 => "kept      the heads of the start: no epoch was better on the dev set".to_owned(),
        kept => format!("kept      epoch {kept}, the best mean of the trained heads on the dev set"),
    });
    match report.kept {
        _ if report.data.dev_groups < FEW_JUDGED => text.push_str(&format!("; {}\n", few_judged(&report.data))),
        0 => text.push_str(", training did not help\n"),
        _ => text.push('\n'),
    }
    if let Some(after) = &report.sparse.1 {
        text.push_str(&scale(report.sparse.0.as_ref(), after));
    }
    text.extend(large_scale(report).map(|warning| format!("          {warning}\n")));
    if !report.samples.is_empty() {
        text.push_str("\nthe heaviest pieces of dev queries, before and after\n");
        report.samples.iter().for_each(|one| text.push_str(&sample(one)));
    }
    let took = report.states.seconds + report.seconds;
    text.push_str(&format!(
        "\n{}, {:.0} k tokens/s; {took:.0} s in all, {:.0} s of them for the states\n",
        counted(report.steps.0, "step"),
        report.tokens_per_second / 1e3,
        report.states.seconds
    ));
    if recipe {
        text.push_str(
            "\nWith heads of their own on an encoder that stays, most of what the sparse head gains comes from the weight of its loss, less from \
             the distillation: --ablation shows both on this data.\n",
        );
    }
    text
}

/// The warning that a dev set is too small to say whether training helped.
pub(super) fn few_judged(data: &DataReport) -> String {
    format!(
        "{} of pairs in the dev set: too few to judge by ({FEW_JUDGED} at least are needed), so whether training helped is not known",
        counted(data.dev_groups, "group")
    )
}

/// The table of a dev or evaluation set, before and after training.
fn set(compared: &Compared) -> String {
    let mut text = format!(
        "{} ({}, {})",
        Escaped(&compared.name),
        counted(compared.queries, "query"),
        counted(compared.passages, "passage")
    );
    if compared.overlap > 0 {
        text.push_str(&format!("; {} of its pairs have a text that was trained on", compared.overlap));
    }
    text.push_str(&format!(
        "\n{:<14} {:>7} {:>7} {:>22} {:>15} {:>15}\n",
        "nDCG@10", "before", "after", "difference, 95 %", "R@100", "first right"
    ));
    for change in &compared.changes {
        let before = |x: Option<f64>| x.map_or("-".to_owned(), percent);
        let difference = change.difference.map_or(String::new(), |d| {
            format!("{} ({} to {})", signed_percent(d.mean), signed_percent(d.low), signed_percent(d.high))
        });
        let pair = |(a, b): (Option<f64>, f64)| format!("{} → {}", before(a), percent(b));
        text.push_str(&format!(
            "{:<14} {:>7} {:>7} {:>22} {:>15} {:>15}\n",
            change.way,
            before(change.before),
            percent(change.after),
            difference,
            pair(change.recall100),
            pair(change.first)
        ));
    }
    text.push('\n');
    text
}

/// The line about the size of the sparse head's scores and weights, before and after.
fn scale(before: Option<&SparseScale>, after: &SparseScale) -> String {
    let of = |scale: Option<&SparseScale>, shown: fn(&SparseScale) -> String| scale.map_or("-".to_owned(), shown);
    let own = |scale: &SparseScale| format!("{:.2}", scale.self_score);
    let weights = |scale: &SparseScale| format!("{:.3}/{:.3}/{:.3}", scale.words, scale.common, scale.punctuation);
    format!(
        "sparse    score of a query with itself {} → {}; weights of words/frequent pieces/punctuation {} → {}\n",
        of(before, own),
        own(after),
        of(before, weights),
        weights(after)
    )
}

/// A query's sparse score with itself, divided by its tokens, above which there is a warning. Measured values are 0.013 to 0.019 with the
/// starter, 0.03 to 0.044 after training it, and 0.045 to 0.083 after training it with a temperature of 0.05.
const LARGE_A_TOKEN: f64 = 0.05;

/// The warning that sparse scores have become so large that they count for more in sums with other scores than their weight says.
fn large_scale(report: &Report) -> Option<String> {
    let after = report.sparse.1.as_ref()?;
    let is_raised = report.sparse.0.as_ref().is_none_or(|before| after.self_score > before.self_score);
    let a_token = after.self_score / after.tokens.max(1.0);
    (a_token > LARGE_A_TOKEN && is_raised).then(|| {
        format!(
            "warning: a query's score with itself is {a_token:.3} a token, more than {LARGE_A_TOKEN}: in sums with the dense score, whose weights were chosen \
             at a smaller scale, words count for more; a lower --temperature makes sparse scores smaller"
        )
    })
}

/// All warnings about a run.
pub(super) fn warnings(report: &Report) -> Vec<String> {
    let few = (report.data.dev_groups < FEW_JUDGED).then(|| few_judged(&report.data));
    few.into_iter().chain(large_scale(report)).collect()
}

/// A dev query, with its heaviest pieces before and after training.
fn sample(sample: &Sample) -> String {
    let pieces = |all: &[(String, f32)]| {
        let one = |(piece, weight): &(String, f32)| format!("{} {weight:.2}", readable(piece));
        if all.is_empty() { "-".to_owned() } else { all.iter().map(one).collect::<Vec<_>>().join("  ") }
    };
    let text: String = sample.text.chars().take(100).collect();
    format!("  {}\n    {}\n    {}\n", Escaped(text), pieces(&sample.before), pieces(&sample.after))
}

/// The table of an ablation.
pub(super) fn ablation(rows: &[AblationRow]) -> String {
    let mut text = format!(
        "the sparse head alone, dense and ColBERT as trained; nDCG@10 on the dev set and the sets of --eval\n\n{}",
        pad("start, losses", 44)
    );
    for (name, _) in rows.first().iter().flat_map(|row| &row.ndcg10) {
        text.push_str(&format!(" {:>12}", Escaped(name)));
    }
    text.push_str(&format!(" {:>8}\n", "nonzero"));
    for row in rows {
        text.push_str(&pad(&row.name(), 44));
        for (_, figure) in &row.ndcg10 {
            text.push_str(&format!(" {:>12}", percent(*figure)));
        }
        text.push_str(&format!(" {:>8.0}\n", row.pieces));
    }
    text.push_str(
        "\nnonzero: pieces of a dev passage with a weight. λ is the weight of the sparse head's own losses. The heads share no numbers, so that a \
         weight of 0.1 lets the ensemble's loss win, which teaches the sparse head to keep out of the way: there the distillation makes up for it.\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparse_head_that_became_large_is_warned_of() {
        let with = |before: Option<f64>, after: f64| {
            let scale = |self_score| SparseScale { self_score, tokens: 10.0, ..SparseScale::default() };
            let data = DataReport { dev_groups: FEW_JUDGED, ..DataReport::default() };
            Report { data, sparse: (before.map(scale), Some(scale(after))), ..Report::default() }
        };
        for (before, after, expected) in [
            (Some(0.1), 0.6, true),
            (None, 0.6, true),
            (Some(0.1), 0.45, false),
            // Above the limit, but it was larger before training.
            (Some(0.7), 0.6, false),
        ] {
            let found = with(before, after);
            assert_eq!(warnings(&found).len(), usize::from(expected), "{before:?} {after}");
            assert_eq!(
                report(&found, false).contains("warning: a query's score with itself is 0.060 a token"),
                expected
            );
        }
        assert!(report(&with(None, 0.3), false).contains("with itself - → 0.30"));
        let few =
            Report { data: DataReport { dev_groups: FEW_JUDGED - 1, ..DataReport::default() }, ..Report::default() };
        assert!(warnings(&few)[0].contains("too few to judge by") && report(&few, false).contains(&warnings(&few)[0]));
    }
}
