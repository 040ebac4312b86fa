//! The picture of a run: signal and threshold, the persona worn, and the limits that the kernel held, over time.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use super::record::Look;

/// Pixels.
const SIZE: (u32, u32) = (1000, 700);
const MARGIN: u32 = 16;

/// The thresholds of `high-traffic-web-server` (see `fixtures/instances.yaml`).
const ENTER_AT: f64 = 0.2;
const LEAVE_AT: f64 = 0.05;

/// The top of the scales: what one process can use, and beyond every limit of the personas.
const USAGE_MAX: f64 = 1.2;
const PROCESSORS_MAX: f64 = 2.4;
const MEMORY_MAX_MIB: f64 = 640.0;

/// Shorter times bear no name.
const LABELLED_SECS_MIN: f64 = 5.0;

/// Personas and the colours of their times.
const COLOURS: [(&str, RGBColor); 3] = [
    ("high-traffic-web-server", RGBColor(255, 224, 178)),
    ("nightly-backup-processor", RGBColor(197, 202, 233)),
    ("ai-training-node", RGBColor(200, 230, 201)),
];

/// Draws it.
pub(super) fn draw(path: &Path, looks: &[Look]) -> Result<()> {
    let folder = path.parent().context("a picture lies in a folder")?;
    std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    try_draw(&area, looks).map_err(|error| anyhow!("{} cannot be drawn: {error}", path.display()))
}

type Drawn = Result<(), Box<dyn std::error::Error>>;

fn try_draw(area: &DrawingArea<SVGBackend<'_>, Shift>, looks: &[Look]) -> Drawn {
    area.fill(&WHITE)?;
    let panels = area.split_evenly((3, 1));
    let usage = looks.iter().filter_map(|look| Some((look.seconds, look.cpu_usage?))).collect();
    let thresholds = [(ENTER_AT, "worn above 0.2"), (LEAVE_AT, "taken off below 0.05")];
    panel(&panels[0], "cpu.usage of the container, processors", looks, USAGE_MAX, usage, &thresholds)?;
    let limits = steps(looks, PROCESSORS_MAX, |look| look.cpu_limit);
    panel(&panels[1], "processors that the kernel allows (top: all)", looks, PROCESSORS_MAX, limits, &[])?;
    let limits = steps(looks, MEMORY_MAX_MIB, |look| look.memory_limit_mib.map(|mib| mib as f64));
    panel(&panels[2], "memory that the kernel allows, MiB (top: all)", looks, MEMORY_MAX_MIB, limits, &[])?;
    area.present()?;
    Ok(())
}

/// A line that changes at the looks and not between them; no limit is the top.
fn steps(looks: &[Look], top: f64, limit: impl Fn(&Look) -> Option<f64>) -> Vec<(f64, f64)> {
    let values: Vec<(f64, f64)> = looks.iter().map(|look| (look.seconds, limit(look).unwrap_or(top))).collect();
    let corners = values.windows(2).flat_map(|pair| [pair[0], (pair[1].0, pair[0].1)]);
    corners.chain(values.last().copied()).collect()
}

fn panel(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    title: &str,
    looks: &[Look],
    top: f64,
    line: Vec<(f64, f64)>,
    thresholds: &[(f64, &'static str)],
) -> Drawn {
    let end = looks.last().map_or(1.0, |look| look.seconds.max(1.0));
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 16))
        .margin(MARGIN)
        .x_label_area_size(24)
        .y_label_area_size(44)
        .build_cartesian_2d(0.0..end, 0.0..top)?;
    chart.configure_mesh().light_line_style(TRANSPARENT).x_desc("seconds").draw()?;
    for (from, to, persona) in worn(looks) {
        let Some((_, colour)) = COLOURS.iter().find(|(name, _)| *name == persona) else { continue };
        chart.draw_series([Rectangle::new([(from, 0.0), (to, top)], colour.filled())])?;
        if to - from > LABELLED_SECS_MIN {
            chart.draw_series([Text::new(persona, (from, top * 0.97), ("sans-serif", 12))])?;
        }
    }
    for (at, text) in thresholds {
        chart.draw_series([PathElement::new(vec![(0.0, *at), (end, *at)], RED.stroke_width(1))])?;
        chart.draw_series([Text::new(
            *text,
            (end * 0.85, at + top * 0.11),
            ("sans-serif", 12).into_font().color(&RED),
        )])?;
    }
    chart.draw_series([PathElement::new(line, BLUE.stroke_width(2))])?;
    Ok(())
}

/// From when to when which persona was worn.
fn worn(looks: &[Look]) -> Vec<(f64, f64, String)> {
    let mut times: Vec<(f64, f64, String)> = Vec::new();
    for pair in looks.windows(2) {
        let Some(name) = pair[0].persona.as_deref().and_then(|worn| worn.split('@').next()) else { continue };
        match times.last_mut() {
            Some((_, to, last)) if last == name && *to >= pair[0].seconds => *to = pair[1].seconds,
            _ => times.push((pair[0].seconds, pair[1].seconds, name.to_owned())),
        }
    }
    times
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(seconds: f64, persona: Option<&str>, cpu_limit: Option<f64>) -> Look {
        let persona = persona.map(str::to_owned);
        Look { seconds, cpu_usage: Some(0.3), cpu_limit, memory_limit_mib: None, persona }
    }

    #[test]
    fn times_of_one_persona_are_one_and_a_limit_holds_until_the_next_look() {
        let looks = [
            look(0.0, None, None),
            look(1.0, Some("a@1"), Some(0.5)),
            look(2.0, Some("a@2"), Some(0.5)),
            look(3.0, Some("b@1"), Some(1.0)),
            look(4.0, None, None),
        ];
        assert_eq!(worn(&looks), [(1.0, 3.0, "a".to_owned()), (3.0, 4.0, "b".to_owned())]);
        let line = steps(&looks[..3], 2.0, |look| look.cpu_limit);
        assert_eq!(line, [(0.0, 2.0), (1.0, 2.0), (1.0, 0.5), (2.0, 0.5), (2.0, 0.5)]);
    }

    #[test]
    fn a_run_becomes_a_picture_with_its_personas() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/run.svg");
        draw(&path, &[look(0.0, Some("ai-training-node@1"), Some(2.0)), look(9.0, None, None)]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("ai-training-node") && text.contains("worn above"), "{text}");
    }
}
