//! Whether each event follows the one before it, and if not, what was done to which.

use std::collections::BTreeSet;

use super::report::{Finding, FindingKind};
use super::walk::{Role, Row, State};
use super::{EventHash, seals};

/// Findings that are told; a chain that is broken in more places is broken as a whole.
const FINDING_COUNT_MAX: usize = 1_000;

/// Checks the links between rows after event `start`. Returns what is wrong, and how many rows were written before the
/// chain began.
pub(super) fn check(rows: &[Row], start: (u64, EventHash)) -> (Vec<Finding>, usize) {
    let mut chain = Chain::new(rows, start);
    let unchained = chain.pass_unchained();
    while chain.index < rows.len() && chain.findings.len() < FINDING_COUNT_MAX {
        chain.step();
    }
    (chain.findings, unchained)
}

/// How far back an event is looked for that another follows.
const LOOK_BACK_MAX: usize = 1_000;

struct Chain<'a> {
    rows: &'a [Row],
    index: usize,
    /// The number and the hash of the last event that was passed.
    at: (u64, EventHash),
    /// The hash before the moved events that were passed last.
    held: Option<EventHash>,
    /// What was before says nothing of what comes next.
    is_open: bool,
    /// Numbers under which moved events belong, and their hashes.
    homes: BTreeSet<u64>,
    moved: BTreeSet<EventHash>,
    findings: Vec<Finding>,
}

impl<'a> Chain<'a> {
    fn new(rows: &'a [Row], at: (u64, EventHash)) -> Self {
        let home = |row: &'a Row| match row.state {
            State::Moved(from) => Some((from, row.link)),
            _ => None,
        };
        let (homes, moved) = rows.iter().filter_map(home).unzip();
        Self { rows, index: 0, at, held: None, is_open: false, homes, moved, findings: Vec::new() }
    }

    /// Passes events from before the chain began, which the first process linked to as a whole.
    fn pass_unchained(&mut self) -> usize {
        let count = self.rows.iter().take_while(|row| row.state == State::Bare).count();
        let Some(last) = count.checked_sub(1).map(|index| self.rows[index]) else { return 0 };
        let range = (self.rows[0].number, last.number);
        if let Some(begun) = self.rows.get(count) {
            if !matches!(begun.role, Role::Begun(unchained) if unchained >= count as u64) {
                return 0;
            }
            if begun.previous != Some(last.link) {
                let detail = "from before the chain began, and no longer what it began after";
                self.find(FindingKind::Altered, range, detail);
                self.is_open = true;
            }
        }
        (self.index, self.at) = (count, (last.number, last.link));
        count
    }

    /// Passes the next event, or several that belong together.
    fn step(&mut self) {
        let row = self.rows[self.index];
        if row.state == State::Bare {
            return self.pass_bare();
        }
        if let State::Moved(from) = row.state
            && seals::find(self.rows, from).is_some_and(|it| it.state == State::Own && it.link == row.link)
        {
            self.index += 1;
            return self.find(
                FindingKind::Inserted,
                (row.number, row.number),
                format!("put in: a copy of event {from}"),
            );
        }
        let fits = self.fits(row);
        let is_moved = matches!(row.state, State::Moved(_));
        if !fits
            && !is_moved
            && let Some(end) = self.inserted_until()
        {
            let range = (row.number, self.rows[end - 1].number);
            self.index = end;
            return self.find(FindingKind::Inserted, range, "put in: the next event follows the one before");
        }
        let home = if let State::Moved(from) = row.state { from } else { row.number };
        if !fits {
            self.find_break(row, home);
        }
        match row.state {
            State::Altered => {
                self.find(FindingKind::Altered, (row.number, row.number), "not the text that its hash was made of");
            }
            State::Moved(from) => {
                self.find_moved(row.number, from);
                self.held = self.held.or(Some(self.at.1));
            }
            _ => {}
        }
        if !is_moved {
            self.held = None;
        }
        (self.at, self.is_open) = ((home, row.link), false);
        self.index += 1;
    }

    /// Whether an event follows the one before, or what may have stood there.
    fn fits(&self, row: Row) -> bool {
        let may_follow =
            |previous| previous == self.at.1 || self.held == Some(previous) || self.moved.contains(&previous);
        self.is_open || row.previous.is_some_and(may_follow)
    }

    /// Events without a hash in the middle of the chain.
    fn pass_bare(&mut self) {
        let count = self.rows[self.index..].iter().take_while(|row| row.state == State::Bare).count();
        let (first, last) = (self.rows[self.index], self.rows[self.index + count - 1]);
        let detail = "without a hash: written by an older release, or the hash was taken out";
        self.find(FindingKind::Bare, (first.number, last.number), detail);
        self.index += count;
        (self.at, self.is_open) = ((last.number, last.link), true);
    }

    /// Where the chain goes on after what was put in here, if something was.
    fn inserted_until(&self) -> Option<usize> {
        let goes_on = |row: &Row| row.previous == Some(self.at.1) && row.state != State::Altered;
        let offset = self.rows[self.index + 1..].iter().position(goes_on)?;
        Some(self.index + 1 + offset)
    }

    /// Where what was put in just before begins, if something was: an earlier event is the one that this one follows.
    fn inserted_since(&self, row: Row) -> Option<u64> {
        let before = self.rows[..self.index].iter().rev().take(LOOK_BACK_MAX);
        let between: Vec<&Row> = before.take_while(|it| Some(it.link) != row.previous).collect();
        let is_found = between.len() < self.index.min(LOOK_BACK_MAX);
        let are_put_in = between.iter().all(|it| it.state == State::Own);
        between.last().filter(|_| is_found && are_put_in).map(|first| first.number)
    }

    /// An event that follows something else than what is before it.
    fn find_break(&mut self, row: Row, home: u64) {
        let last = self.index.checked_sub(1).map(|index| self.rows[index]);
        let before = last.map_or(row.number, |last| last.number);
        if let Some(first) = self.inserted_since(row) {
            return self.find(FindingKind::Inserted, (first, before), "put in: the next event follows one before");
        }
        let missing = (self.at.0.saturating_add(1), home.saturating_sub(1));
        let is_gap = missing.0 <= missing.1 && self.homes.range(missing.0..=missing.1).next().is_none();
        if is_gap {
            return self.find(FindingKind::Removed, missing, "taken out: the next event follows one that is not here");
        }
        // What is said of one that is moved or altered says enough.
        if row.state == State::Own && last.is_none_or(|last| last.state == State::Own) {
            self.find(FindingKind::Rewritten, (before, before), "text and hash were changed together");
        }
    }

    /// Moved as far as the one before: one finding.
    fn find_moved(&mut self, number: u64, from: u64) {
        let (places, direction) = (from.abs_diff(number), if from > number { "later" } else { "earlier" });
        let detail = format!("stands here, and was written {places} {direction}");
        let goes_on = |it: &&mut Finding| it.kind == FindingKind::Moved && it.last + 1 == number && it.detail == detail;
        match self.findings.last_mut().filter(goes_on) {
            Some(run) => run.last = number,
            None => self.find(FindingKind::Moved, (number, number), detail),
        }
    }

    fn find(&mut self, kind: FindingKind, range: (u64, u64), detail: impl Into<String>) {
        self.findings.push(Finding::new(kind, range, detail));
    }
}
