//! Charts of a training run as SVG: curves by step and epoch, and bars before and after.

use plotters::prelude::*;
use trivec_train::{ARMS, Report, WAYS};

const COLOURS: [RGBColor; 5] = [
    RGBColor(0x2f, 0x6f, 0xb0),
    RGBColor(0xc0, 0x50, 0x20),
    RGBColor(0x3a, 0x8a, 0x4a),
    RGBColor(0x80, 0x50, 0xa0),
    RGBColor(0x60, 0x60, 0x60),
];

/// A line of a chart: its name and its points.
type Line = (String, Vec<(f64, f64)>);

/// The names of the files of all charts of a run with `sets` sets that the model is measured on.
pub(super) fn names(sets: usize) -> impl Iterator<Item = String> {
    ["losses.svg", "dev.svg"].into_iter().map(str::to_owned).chain((0..sets).map(of_set))
}

/// The name of the file with the chart of a set. The user's name for the set may be no valid name of a file, so files are numbered.
fn of_set(at: usize) -> String {
    format!("set-{at}.svg")
}

/// All charts of a run: the name of each file, and its SVG.
pub(super) fn all(report: &Report) -> Result<Vec<(String, String)>, String> {
    let point = |step: usize, y: f64| (step as f64, y);
    let mut losses: Vec<Line> =
        vec![("ensemble".to_owned(), report.curve.iter().map(|at| point(at.step, at.losses.ensemble)).collect())];
    for (arm, name) in ARMS.iter().enumerate() {
        let of_arm: Vec<_> = report.curve.iter().map(|at| point(at.step, at.losses.arms[arm])).collect();
        if of_arm.iter().any(|(_, y)| *y != 0.0) {
            losses.push(((*name).to_owned(), of_arm));
        }
    }
    let epoch = |way: usize| -> Vec<(f64, f64)> {
        report.epochs.iter().filter_map(|at| Some((at.epoch as f64, at.ndcg10[way]? * 100.0))).collect()
    };
    let dev: Vec<Line> = WAYS.iter().enumerate().map(|(way, name)| ((*name).to_owned(), epoch(way))).collect();
    let mut plots = vec![
        ("losses.svg".to_owned(), lines("cross-entropies", "step", "loss", &losses)?),
        ("dev.svg".to_owned(), lines("dev set by epoch", "epoch", "nDCG@10", &dev)?),
    ];
    for (at, compared) in report.dev.iter().chain(&report.evals).enumerate() {
        let bars: Vec<(String, f64, f64)> = compared
            .changes
            .iter()
            .map(|change| (change.way.clone(), change.before.unwrap_or(0.0) * 100.0, change.after * 100.0))
            .collect();
        plots.push((of_set(at), before_after(&format!("{}: before and after", compared.name), &bars)?));
    }
    Ok(plots)
}

/// A chart with lines, as SVG.
fn lines(title: &str, x: &str, y: &str, lines: &[Line]) -> Result<String, String> {
    let mut svg = String::new();
    draw_lines(&mut svg, title, [x, y], lines).map_err(|e| e.to_string())?;
    Ok(svg)
}

/// The range from the least to the greatest finite number, with some room; never empty, so that it can be drawn.
fn range(values: impl Iterator<Item = f64>) -> std::ops::Range<f64> {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    values.filter(|x| x.is_finite()).for_each(|x| (low, high) = (low.min(x), high.max(x)));
    if low > high {
        return 0.0..1.0;
    }
    let room = ((high - low) * 0.05).max(0.01);
    low - room..high + room
}

/// Draws the chart of [`lines`].
fn draw_lines(
    svg: &mut String,
    title: &str,
    [x, y]: [&str; 2],
    lines: &[Line],
) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
    let area = SVGBackend::with_string(svg, (800, 420)).into_drawing_area();
    area.fill(&WHITE)?;
    let all = || lines.iter().flat_map(|(_, points)| points.iter());
    let (across, up) = (range(all().map(|point| point.0)), range(all().map(|point| point.1)));
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 16))
        .margin(16)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d(across, up)?;
    chart.configure_mesh().disable_x_mesh().x_desc(x).y_desc(y).draw()?;
    for ((name, points), colour) in lines.iter().zip(COLOURS) {
        let points = points.iter().copied().filter(|point| point.1.is_finite());
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    chart.configure_series_labels().border_style(BLACK).background_style(WHITE).draw()?;
    area.present()
}

/// A chart with two bars a name, for values before and after training, as SVG.
fn before_after(title: &str, bars: &[(String, f64, f64)]) -> Result<String, String> {
    let mut svg = String::new();
    draw_bars(&mut svg, title, bars).map_err(|e| e.to_string())?;
    Ok(svg)
}

/// Draws the chart of [`before_after`].
fn draw_bars(
    svg: &mut String,
    title: &str,
    bars: &[(String, f64, f64)],
) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
    let area = SVGBackend::with_string(svg, (800, 420)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 16))
        .margin(16)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..bars.len().max(1) as f64, 0.0..100.0)?;
    let name = |x: &f64| {
        // The label of a pair of bars is at its middle; a pair is one unit wide.
        let at = (x - 0.5).round();
        let is_middle = (x - 0.5 - at).abs() < 1e-6 && at >= 0.0;
        bars.get(at as usize).filter(|_| is_middle).map_or(String::new(), |(name, ..)| name.clone())
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(2 * bars.len() + 1)
        .x_label_formatter(&name)
        .y_desc("nDCG@10")
        .draw()?;
    for (side, colour, label) in [(0.1, COLOURS[4], "before"), (0.5, COLOURS[0], "after")] {
        let value = |bar: &(String, f64, f64)| if side < 0.3 { bar.1 } else { bar.2 };
        chart
            .draw_series(bars.iter().enumerate().map(|(at, bar)| {
                Rectangle::new([(at as f64 + side, 0.0), (at as f64 + side + 0.38, value(bar))], colour.filled())
            }))?
            .label(label)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.filled()));
    }
    chart.configure_series_labels().border_style(BLACK).background_style(WHITE).draw()?;
    area.present()
}

#[cfg(test)]
mod tests {
    use super::*;
    use trivec_train::{Change, Compared, CurvePoint, EpochPoint, Losses};

    #[test]
    fn every_report_can_be_drawn() {
        let curve = [1, 2].map(|step| CurvePoint {
            step,
            losses: Losses { ensemble: f64::NAN, arms: [1.0, 0.0, 2.0], ..Losses::default() },
        });
        let epochs = [EpochPoint { epoch: 0, ndcg10: [Some(0.5), None, Some(0.6), None, None], mean: 0.55 }];
        let change = Change {
            way: "dense".to_owned(),
            before: None,
            after: 0.5,
            difference: None,
            recall100: (None, 1.0),
            first: (None, 0.2),
        };
        let set = Compared { name: "a < b".to_owned(), queries: 1, passages: 2, overlap: 0, changes: vec![change] };
        let full = Report {
            curve: curve.to_vec(),
            epochs: epochs.to_vec(),
            dev: Some(set.clone()),
            evals: vec![set],
            ..Report::default()
        };
        for report in [Report::default(), full] {
            for (name, svg) in all(&report).unwrap() {
                assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{name}: {svg}");
                assert!(!svg.contains("a < b"), "the name is escaped");
            }
        }
    }
}
