//! What is drawn.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph, Row as Drawn, Table, TableState};

use super::Known;
use super::keys::{Detail, State};
use super::table::{Cell, Look, Tab};
use crate::cli::print::utc;

/// Lines for the newest events, with their title.
const EVENT_LINE_COUNT: u16 = 7;

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, known: &Known, state: &State) {
    let areas = Layout::vertical([
        Constraint::Length(2),
        Constraint::Min(3),
        Constraint::Length(EVENT_LINE_COUNT),
        Constraint::Length(1),
    ]);
    let [head, middle, events, foot] = areas.areas(frame.area());
    frame.render_widget(Paragraph::new(vec![summary(known, state), tabs(state)]), head);
    match &state.detail {
        Some(detail) => draw_detail(frame, middle, detail),
        None => draw_table(frame, middle, state),
    }
    draw_events(frame, events, known);
    frame.render_widget(Paragraph::new(foot_line(state)).style(Style::new().add_modifier(Modifier::DIM)), foot);
}

fn summary(known: &Known, state: &State) -> Line<'static> {
    let mut parts = Vec::new();
    if let Some(status) = &known.now.status {
        let of = |(up, all): (u32, u32)| format!("{up} of {all}");
        parts.push(Span::raw(format!(
            "persona {}   nodes {} up   edges {} up   workloads {}   revision {}",
            status.version,
            of(status.nodes),
            of(status.edges),
            status.workloads,
            status.revision
        )));
        let wrong = [
            (status.unassigned.len(), "without a persona"),
            (status.rejected.len(), "reject"),
            (status.behind.len(), "behind"),
        ];
        for (count, what) in wrong.into_iter().filter(|(count, _)| *count > 0) {
            parts.push(Span::styled(format!("   {count} {what}"), style_of(Look::Wrong)));
        }
    }
    if state.is_paused {
        parts.push(Span::styled("   paused", style_of(Look::Passing)));
    }
    if let Some(failure) = &known.failure {
        parts.push(Span::styled(format!("   {failure}"), style_of(Look::Wrong)));
    }
    Line::from(parts)
}

fn tabs(state: &State) -> Line<'static> {
    let tab = |(number, tab): (usize, Tab)| {
        let style = if tab == state.tab { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
        [Span::styled(format!(" {} {} ", number + 1, tab.title()), style), Span::raw(" ")]
    };
    let mut parts: Vec<Span<'_>> = Tab::ALL.into_iter().enumerate().flat_map(tab).collect();
    if state.is_typing || !state.filter.is_empty() {
        let cursor = if state.is_typing { "_" } else { "" };
        parts.push(Span::styled(format!(" filter: {}{cursor}", state.filter), style_of(Look::Passing)));
    }
    Line::from(parts)
}

fn draw_table(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let (column, is_turned) = state.sort();
    let header = state.tab.header().iter().enumerate().map(|(number, name)| match (number == column, is_turned) {
        (true, false) => format!("{name} v"),
        (true, true) => format!("{name} ^"),
        (false, _) => (*name).to_owned(),
    });
    let header: Vec<String> = header.collect();
    let width = |number: usize| {
        let cells = state.rows.iter().map(|row| row.cells[number].text.chars().count());
        cells.chain([header[number].len()]).max().unwrap_or(0)
    };
    let widths: Vec<Constraint> =
        (0..header.len()).map(|number| Constraint::Length(u16::try_from(width(number)).unwrap_or(u16::MAX))).collect();
    let rows = state.rows.iter().map(|row| Drawn::new(row.cells.iter().map(drawn)));
    let table = Table::new(rows, widths)
        .column_spacing(2)
        .header(Drawn::new(header.clone()).style(Style::new().add_modifier(Modifier::BOLD)))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut place = TableState::default().with_selected(Some(state.place));
    frame.render_stateful_widget(table, area, &mut place);
}

fn drawn(cell: &Cell) -> Span<'_> {
    Span::styled(cell.text.as_str(), style_of(cell.look))
}

fn draw_detail(frame: &mut Frame<'_>, area: Rect, detail: &Detail) {
    let block = Block::bordered().title(format!(" {} ", detail.title));
    frame.render_widget(Paragraph::new(detail.text.as_str()).block(block).scroll((detail.first, 0)), area);
}

fn draw_events(frame: &mut Frame<'_>, area: Rect, known: &Known) {
    let shown = usize::from(area.height.saturating_sub(1));
    let newest = known.events.iter().skip(known.events.len().saturating_sub(shown));
    let mut lines = vec![Line::styled("Events", Style::new().add_modifier(Modifier::BOLD))];
    lines.extend(newest.map(|event| {
        let time = utc(event.time_ms);
        let time = time.get(11..19).unwrap_or_default().to_owned();
        Line::raw(format!("{time}  {:<22} {}", event.name, event.message))
    }));
    frame.render_widget(Paragraph::new(lines), area);
}

fn foot_line(state: &State) -> &'static str {
    match (state.is_typing, &state.detail) {
        (true, _) => "Enter keeps the filter, Esc takes it away",
        (false, Some(_)) => "arrows read on, Esc goes back, q ends",
        (false, None) => "Tab lists  arrows move  s sorts  r turns  / filters  Enter looks closer  p pauses  q ends",
    }
}

fn style_of(look: Look) -> Style {
    match look {
        Look::Plain => Style::new(),
        Look::Wrong if has_colours() => Style::new().fg(Color::Red),
        Look::Passing if has_colours() => Style::new().fg(Color::Yellow),
        Look::Wrong | Look::Passing => Style::new().add_modifier(Modifier::BOLD),
    }
}

/// Whether nobody asked for none (<https://no-color.org>).
fn has_colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
