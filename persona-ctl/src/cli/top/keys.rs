//! What keys do.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use persona_core::ids::SubjectId;
use persona_core::wire::api::EdgeView;

use super::Known;
use super::table::{Row, Tab, rows};
use crate::cli::node::micros;

/// Rows that a Page key moves by.
const PAGE_LENGTH: usize = 10;

/// What is shown, and how.
#[derive(Debug)]
pub(super) struct State {
    pub(super) tab: Tab,
    /// The column that each list is sorted by, and whether the order is turned.
    sorts: [(usize, bool); 4],
    /// Only rows with this text are shown.
    pub(super) filter: String,
    /// Whether keys are taken for the filter.
    pub(super) is_typing: bool,
    pub(super) is_paused: bool,
    /// Which row is marked, by its key.
    selected: Option<String>,
    /// The marked row's place among those that are shown.
    pub(super) place: usize,
    /// What is looked at closer, with the first line that is shown.
    pub(super) detail: Option<Detail>,
    /// The rows as they are shown.
    pub(super) rows: Vec<Row>,
}

/// What is looked at closer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Detail {
    pub(super) title: String,
    pub(super) text: String,
    /// The first line that is shown.
    pub(super) first: u16,
}

/// What a key asks for that the state alone cannot do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    End,
    Explain(SubjectId),
}

impl Default for State {
    fn default() -> Self {
        Self {
            tab: Tab::Nodes,
            sorts: [(0, false); 4],
            filter: String::new(),
            is_typing: false,
            is_paused: false,
            selected: None,
            place: 0,
            detail: None,
            rows: Vec::new(),
        }
    }
}

impl State {
    /// The column that the list is sorted by, and whether the order is turned.
    pub(super) fn sort(&self) -> (usize, bool) {
        self.sorts[self.tab as usize]
    }

    /// Puts the rows in order; the marked one stays marked where it goes.
    pub(super) fn settle(&mut self, known: &Known) {
        let (column, is_turned) = self.sort();
        self.rows = rows(self.tab, known, &self.filter, column, is_turned);
        let place = self.rows.iter().position(|row| Some(&row.key) == self.selected.as_ref());
        self.place = place.unwrap_or(self.place).min(self.rows.len().saturating_sub(1));
        self.selected = self.rows.get(self.place).map(|row| row.key.clone());
    }

    /// Looks closer at something.
    pub(super) fn show(&mut self, title: &str, text: String) {
        self.detail = Some(Detail { title: title.to_owned(), text, first: 0 });
    }

    /// Does what a key says.
    pub(super) fn press(&mut self, key: KeyEvent, known: &Known) -> Option<Action> {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return matches!(key.code, KeyCode::Char('c' | 'd')).then_some(Action::End);
        }
        match (key.code, self.is_typing) {
            (code, true) => self.type_in(code),
            (KeyCode::Char('q'), _) => return Some(Action::End),
            (code, _) if self.detail.is_some() => self.read_on(code),
            (KeyCode::Enter, _) => return self.look_closer(known),
            (code, _) => self.steer(code),
        }
        None
    }

    fn type_in(&mut self, code: KeyCode) {
        match code {
            KeyCode::Char(letter) => self.filter.push(letter),
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Esc => (self.filter, self.is_typing) = (String::new(), false),
            KeyCode::Enter => self.is_typing = false,
            _ => {}
        }
    }

    fn read_on(&mut self, code: KeyCode) {
        let Some(detail) = &mut self.detail else { return };
        let last = u16::try_from(detail.text.lines().count().saturating_sub(1)).unwrap_or(u16::MAX);
        match code {
            KeyCode::Esc | KeyCode::Enter | KeyCode::Backspace => self.detail = None,
            KeyCode::Up => detail.first = detail.first.saturating_sub(1),
            KeyCode::Down => detail.first = (detail.first + 1).min(last),
            KeyCode::PageUp => detail.first = detail.first.saturating_sub(PAGE_LENGTH as u16),
            KeyCode::PageDown => detail.first = detail.first.saturating_add(PAGE_LENGTH as u16).min(last),
            _ => {}
        }
    }

    fn steer(&mut self, code: KeyCode) {
        let number = self.tab as usize;
        let (column, is_turned) = &mut self.sorts[number];
        match code {
            KeyCode::Tab | KeyCode::Right => self.turn_to(Tab::ALL[(number + 1) % 4]),
            KeyCode::BackTab | KeyCode::Left => self.turn_to(Tab::ALL[(number + 3) % 4]),
            KeyCode::Char(digit @ '1'..='4') => self.turn_to(Tab::ALL[digit as usize - '1' as usize]),
            KeyCode::Char('s') => *column = (*column + 1) % self.tab.header().len(),
            KeyCode::Char('r') => *is_turned = !*is_turned,
            KeyCode::Char('p') => self.is_paused = !self.is_paused,
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Up => self.mark(self.place.saturating_sub(1)),
            KeyCode::Down => self.mark(self.place + 1),
            KeyCode::PageUp => self.mark(self.place.saturating_sub(PAGE_LENGTH)),
            KeyCode::PageDown => self.mark(self.place + PAGE_LENGTH),
            KeyCode::Home => self.mark(0),
            KeyCode::End => self.mark(usize::MAX),
            _ => {}
        }
    }

    fn mark(&mut self, place: usize) {
        self.place = place.min(self.rows.len().saturating_sub(1));
        self.selected = self.rows.get(self.place).map(|row| row.key.clone());
    }

    fn turn_to(&mut self, tab: Tab) {
        (self.tab, self.place, self.selected) = (tab, 0, None);
        self.filter.clear();
    }

    fn look_closer(&mut self, known: &Known) -> Option<Action> {
        let key = self.rows.get(self.place)?.key.clone();
        match self.tab {
            Tab::Nodes => {
                self.turn_to(Tab::Subjects);
                self.filter = format!("/{key}/");
            }
            Tab::Personas => {
                self.turn_to(Tab::Subjects);
                self.filter = format!("{key}@");
            }
            Tab::Edges => {
                let edge = known.now.edges.iter().find(|edge| edge.name.as_str() == key)?;
                self.show(&key, told(edge));
            }
            Tab::Subjects => return key.parse().ok().map(Action::Explain),
        }
        None
    }
}

/// An edge: how it is, and who hears it how well.
fn told(edge: &EdgeView) -> String {
    let mut lines = vec![format!("{}: {}", edge.state, edge.reason)];
    lines.extend(edge.flags.iter().map(|flag| format!("flagged: {flag}")));
    lines.extend(edge.unfenced.iter().map(|why| format!("not fenced: {why}")));
    lines.extend(edge.rejected.iter().map(|it| format!("rejects generation {}: {}", it.generation, it.reason)));
    lines.push(String::new());
    lines.extend(edge.probes.iter().map(|probe| {
        let health = &probe.health;
        let state = if health.alive { "hears it" } else { "does not hear it" };
        let (rtt, jitter) = (micros(health.rtt_us), micros(health.jitter_us));
        format!("{:<24} {state}, {rtt} ± {jitter}, {:.1}% lost", probe.from, health.loss * 100.0)
    }));
    let drops = edge.counters.drops.iter().filter(|(_, count)| **count > 0);
    lines.push(String::new());
    lines.extend(drops.map(|(reason, count)| format!("{count:>12} dropped: {reason}")));
    lines.join("\n")
}
