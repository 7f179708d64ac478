//! A histogram as SVG.

use plotters::prelude::*;

/// Bars of the histogram.
const BARS: usize = 40;

/// A histogram of `values`, which are cosines: from the least to 1.
pub(super) fn histogram(title: &str, values: &[f64]) -> Result<String, String> {
    let least = values.iter().copied().filter(|value| value.is_finite()).fold(1.0f64, f64::min);
    // All alike, or none: a range that can be drawn.
    let from = if 1.0 - least < 1e-9 { 1.0 - 1e-6 } else { least - (1.0 - least) * 0.02 };
    let width = (1.0 - from) / BARS as f64;
    let mut counts = [0u32; BARS];
    for value in values.iter().filter(|value| value.is_finite()) {
        let bar = ((value - from) / width).floor().clamp(0.0, BARS as f64 - 1.0) as usize;
        counts[bar] += 1;
    }
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let mut svg = String::new();
    draw(&mut svg, title, (from, width), &counts, most).map_err(|e| e.to_string())?;
    Ok(svg)
}

fn draw(
    svg: &mut String,
    title: &str,
    (from, width): (f64, f64),
    counts: &[u32],
    most: u32,
) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
    let area = SVGBackend::with_string(svg, (800, 420)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 16))
        .margin(16)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d(from..1.0, 0..most + most.div_ceil(20))?;
    chart.configure_mesh().disable_x_mesh().x_desc("cosine").y_desc("texts").x_labels(6).draw()?;
    let colour = RGBColor(0x2f, 0x6f, 0xb0);
    chart.draw_series(counts.iter().enumerate().map(|(bar, &count)| {
        let left = from + bar as f64 * width;
        Rectangle::new([(left, 0), (left + width * 0.92, count)], colour.filled())
    }))?;
    area.present()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_a_bar() {
        for values in [&[0.99, 0.995, 0.995, 1.0][..], &[1.0, 1.0], &[], &[f64::NAN, 0.5]] {
            let svg = histogram("a < b", values).unwrap();
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
            assert!(svg.contains("a &lt; b"), "the title is escaped");
        }
    }
}
