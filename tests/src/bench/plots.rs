//! The report's plots, one SVG file each: costs of the programs, and how ours stands beside its peers.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use serde_json::Value;

use super::measures::Subject;

/// Pixels.
const WIDTH: u32 = 1100;
const BAR_HEIGHT: u32 = 26;
const MARGIN: u32 = 24;
const HEAD_HEIGHT: u32 = 80;
const LABEL_WIDTH: u32 = 430;

/// Ratios are drawn between these; what lies beyond has its number beside a bar that ends here.
const RATIO_MIN: f64 = 0.1;
const RATIO_MAX: f64 = 100.0;

/// Colours of bars: the goal is reached, it is not, there is none.
const MET: RGBColor = RGBColor(46, 125, 50);
const MISSED: RGBColor = RGBColor(198, 40, 40);
const NO_GOAL: RGBColor = RGBColor(69, 90, 100);

/// What a length on the plot means.
#[derive(Debug, Clone, Copy)]
enum Scale {
    /// The value.
    Linear,
    /// Its logarithm, from a line where both sides are the same.
    Ratio,
}

impl Scale {
    /// How far to the right a value lies.
    fn place(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Ratio => value.clamp(RATIO_MIN, RATIO_MAX).log10(),
        }
    }

    /// What lies there.
    fn value(self, place: f64) -> f64 {
        match self {
            Self::Linear => place,
            Self::Ratio => 10_f64.powf(place),
        }
    }

    /// From where to where the plot goes, with room for a number behind the longest bar.
    fn range(self, bars: &[Bar]) -> std::ops::Range<f64> {
        match self {
            Self::Linear => 0.0..bars.iter().map(|bar| bar.value).fold(0.0, f64::max) * 1.15,
            Self::Ratio => self.place(RATIO_MIN)..self.place(RATIO_MAX) + 0.3,
        }
    }
}

/// A bar.
struct Bar {
    name: String,
    value: f64,
    colour: RGBColor,
}

/// Draws all plots into a folder, from rows as they stand in the report.
pub fn draw(folder: &Path, subject: Subject, rows: &[Value]) -> Result<()> {
    let name = subject.name();
    let is_cost = |row: &&Value| row["unit"] == "ns" && row["peer"].is_null();
    let costs: Vec<Bar> = rows.iter().filter(is_cost).filter_map(|row| bar(row, &row["ours"], "")).collect();
    draw_bars(
        &folder.join(format!("{name}-cost.svg")),
        "Programs: nanoseconds per packet (less is better)",
        &costs,
        Scale::Linear,
    )?;
    let ratios: Vec<Bar> = rows.iter().filter_map(|row| bar(row, &row["ratio"], &peer_of(row))).collect();
    let title = "Times as good as the peer (more is better; the line is the peer)";
    draw_bars(&folder.join(format!("{name}-peers.svg")), title, &ratios, Scale::Ratio)
}

fn peer_of(row: &Value) -> String {
    row["peer_name"].as_str().map(|peer| format!(" : {peer}")).unwrap_or_default()
}

fn bar(row: &Value, value: &Value, suffix: &str) -> Option<Bar> {
    let colour = match row["met"].as_bool() {
        Some(true) => MET,
        Some(false) => MISSED,
        None => NO_GOAL,
    };
    Some(Bar { name: format!("{}{suffix}", row["name"].as_str()?), value: value.as_f64()?, colour })
}

fn draw_bars(path: &Path, title: &str, bars: &[Bar], scale: Scale) -> Result<()> {
    if bars.is_empty() {
        return Ok(());
    }
    let height = HEAD_HEIGHT + MARGIN * 2 + BAR_HEIGHT * bars.len() as u32;
    let area = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    try_draw(&area, title, bars, scale).map_err(|error| anyhow!("{} cannot be drawn: {error}", path.display()))
}

fn try_draw(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    title: &str,
    bars: &[Bar],
    scale: Scale,
) -> Result<(), Box<dyn std::error::Error>> {
    area.fill(&WHITE)?;
    let (range, count) = (scale.range(bars), bars.len() as f64);
    let gap = (range.end - range.start) * 0.005;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 20))
        .margin(MARGIN)
        .x_label_area_size(30)
        .y_label_area_size(LABEL_WIDTH)
        .build_cartesian_2d(range.clone(), count..0.0)?;
    let number = |place: &f64| format!("{:.1}", scale.value(*place));
    let mut mesh = chart.configure_mesh();
    mesh.disable_y_mesh().disable_y_axis().x_label_style(("sans-serif", 13)).x_label_formatter(&number).draw()?;
    for (index, bar) in bars.iter().enumerate() {
        let (top, bottom) = (index as f64 + 0.15, index as f64 + 0.85);
        let end = scale.place(bar.value);
        chart.draw_series([Rectangle::new([(0.0, top), (end, bottom)], bar.colour.filled())])?;
        let text = format!("{:.*}", if bar.value < 1.0 { 2 } else { 1 }, bar.value);
        chart.draw_series([Text::new(text, (end.max(0.0) + gap, top), ("sans-serif", 14))])?;
        let y = chart.backend_coord(&(range.start, top)).1;
        area.draw(&Text::new(bar.name.as_str(), (MARGIN as i32, y), ("sans-serif", 13)))?;
    }
    chart.draw_series([PathElement::new(vec![(0.0, 0.0), (0.0, count)], BLACK.stroke_width(2))])?;
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ratios_lie_on_both_sides_of_the_line_and_end_with_the_plot() {
        for (ratio, place) in [(1.0, 0.0), (10.0, 1.0), (0.1, -1.0), (20_000.0, 2.0), (0.0, -1.0)] {
            assert_eq!(Scale::Ratio.place(ratio), place, "{ratio}");
        }
        assert_eq!(Scale::Ratio.value(2.0), 100.0);
        assert_eq!(Scale::Linear.value(Scale::Linear.place(57.3)), 57.3);
    }

    #[test]
    fn every_row_with_a_peer_is_in_the_plot_of_peers() {
        let folder = tempfile::tempdir().unwrap();
        let row = |name: &str, peer: Value| {
            let ratio = if peer.is_null() { Value::Null } else { json!(2.5) };
            json!({ "name": name, "unit": "ns", "ours": 20.0, "peer": peer, "peer_name": null, "ratio": ratio, "met": true })
        };
        draw(folder.path(), Subject::Dataplane, &[row("alone", Value::Null), row("beside", json!(50.0))]).unwrap();
        let text = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        let (costs, peers) = (text("dataplane-cost.svg"), text("dataplane-peers.svg"));
        assert!(costs.contains("alone") && !costs.contains("beside"), "{costs}");
        assert!(peers.contains("beside") && !peers.contains("alone"), "{peers}");
    }
}
