//! Charts as SVG: a histogram, and bars with intervals.

use plotters::prelude::*;

/// The number of bars of the histogram.
const BARS: usize = 40;

/// A histogram of cosines as SVG, from the least of them to 1. Values that are not finite are left out.
pub(super) fn histogram(title: &str, values: &[f64]) -> Result<String, String> {
    let least = values.iter().copied().filter(|value| value.is_finite()).fold(1.0f64, f64::min);
    // If all values are 1, or there are none, the range is still wide enough to be drawn.
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

/// Draws a histogram whose first bar begins at `from`. Each bar is `width` wide, and the highest has a count of `most`.
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

/// A bar of [`bars`]: its name, its value, and the ends of its interval.
#[cfg(feature = "search")]
pub(super) type Bar<'a> = (&'a str, f64, f64, f64);

/// Horizontal bars of values from 0 to 100, the first at the top, each with its interval.
#[cfg(feature = "search")]
pub(super) fn bars(title: &str, axis: &str, bars: &[Bar<'_>]) -> Result<String, String> {
    let mut svg = String::new();
    draw_bars(&mut svg, title, axis, bars).map_err(|e| e.to_string())?;
    Ok(svg)
}

/// Draws the chart of [`bars`].
#[cfg(feature = "search")]
fn draw_bars(
    svg: &mut String,
    title: &str,
    axis: &str,
    bars: &[Bar<'_>],
) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
    let (count, height) = (bars.len().max(1), 28 * bars.len().max(1) as u32 + 110);
    let area = SVGBackend::with_string(svg, (800, height)).into_drawing_area();
    area.fill(&WHITE)?;
    let most = bars.iter().map(|bar| bar.3).fold(10.0, f64::max) * 1.08;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 16))
        .margin(16)
        .x_label_area_size(36)
        .y_label_area_size(130)
        .build_cartesian_2d(0.0..most, 0.0..count as f64)?;
    let name = |y: &f64| {
        // The label of a bar is at its middle; the first bar is at the top.
        let place = count as f64 - 0.5 - y;
        let whole = place >= -0.01 && (place - place.round()).abs() < 0.01;
        bars.get(place.round() as usize).filter(|_| whole).map_or(String::new(), |bar| bar.0.to_owned())
    };
    let mut mesh = chart.configure_mesh();
    mesh.disable_y_mesh().x_desc(axis).x_labels(6).y_labels(2 * count + 1).y_label_formatter(&name).draw()?;
    let middle = |place: usize| count as f64 - 0.5 - place as f64;
    let colour = RGBColor(0x2f, 0x6f, 0xb0);
    chart.draw_series(bars.iter().enumerate().map(|(place, bar)| {
        Rectangle::new([(0.0, middle(place) - 0.32), (bar.1.max(0.0), middle(place) + 0.32)], colour.filled())
    }))?;
    chart.draw_series(bars.iter().enumerate().map(|(place, bar)| {
        PathElement::new([(bar.2, middle(place)), (bar.3, middle(place))], BLACK.stroke_width(2))
    }))?;
    let style = ("sans-serif", 12).into_text_style(&area);
    chart.draw_series(bars.iter().enumerate().map(|(place, bar)| {
        Text::new(format!("{:.1}", bar.1), (bar.3 + most * 0.01, middle(place) + 0.15), style.clone())
    }))?;
    area.present()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "search")]
    #[test]
    fn every_bar_has_its_name_and_value() {
        let list = [("dense", 61.26, 58.0, 64.5), ("bm25", 3.0, 1.0, 5.5), ("share<1", 61.5, 58.2, 64.9)];
        let svg = bars("notes & more", "nDCG@10", &list).unwrap();
        for text in ["dense", "bm25", "share&lt;1", "61.3", "3.0", "notes &amp; more", "nDCG@10"] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        assert!(bars("", "", &[]).is_ok());
    }

    #[test]
    fn any_values_give_a_histogram_with_an_escaped_title() {
        for values in [&[0.99, 0.995, 0.995, 1.0][..], &[1.0, 1.0], &[], &[f64::NAN, 0.5]] {
            let svg = histogram("a < b", values).unwrap();
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
            assert!(svg.contains("a &lt; b"), "the title is escaped");
        }
    }
}
