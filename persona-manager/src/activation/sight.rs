//! What is known of one subject: what was measured of it and its host, and what was pushed about it.

use std::collections::BTreeMap;
use std::sync::Arc;

use persona_core::activate::Moment;
use persona_core::ids::SubjectId;
use persona_core::signal::{Board, Input, Pushed, STALE_AFTER_DEFAULT_MS, SignalName};

use super::activations::Key;
use super::samples::{Measured, of_host};
use crate::store::SignalRecord;

/// The signals of one subject, as far as somebody reads them.
#[derive(Debug)]
pub(super) struct Sight {
    /// What is known.
    pub(super) board: Board,
    /// What was pushed and is on the board.
    pushed: BTreeMap<SignalName, Arc<SignalRecord>>,
}

impl Sight {
    /// Nothing is known yet of what these inputs read.
    pub(super) fn new<'a>(inputs: impl IntoIterator<Item = &'a Input>) -> Self {
        Self { board: Board::new(inputs, STALE_AFTER_DEFAULT_MS), pushed: BTreeMap::new() }
    }

    /// Puts on the board what is pushed now, and takes off what no longer is. Returns whether anything changed.
    pub(super) fn take_pushed(&mut self, records: &[&Arc<SignalRecord>], now: Moment) -> bool {
        let mut current = BTreeMap::new();
        for record in records {
            // Names were checked when they were pushed; one that only another release knows is read by no rule here.
            let Ok(name) = record.name.parse::<SignalName>() else { continue };
            current.insert(name, Arc::clone(record));
        }
        let is_known = |(name, record): &(&SignalName, &Arc<SignalRecord>)| self.pushed.get(*name) == Some(*record);
        let new: Vec<_> = current.iter().filter(|pair| !is_known(pair)).collect();
        let gone: Vec<_> = self.pushed.keys().filter(|name| !current.contains_key(*name)).cloned().collect();
        let is_changed = !new.is_empty() || !gone.is_empty();
        for (name, record) in new {
            let until_ms = now.steady_ms.saturating_add(record.until_ms.saturating_sub(now.wall_ms));
            self.board.put_pushed(name, now.steady_ms, Pushed { value: record.value, until_ms });
        }
        gone.iter().for_each(|name| self.board.withdraw(name));
        self.pushed = current;
        is_changed
    }

    /// Takes in what was measured last of a subject and its host.
    pub(super) fn record_latest(&mut self, measured: &BTreeMap<Key, Measured>, key: &Key) {
        let host = measured.get(&(key.0.clone(), SubjectId::Node(key.0.clone())));
        host.map(of_host).iter().chain(measured.get(key)).for_each(|measured| self.record(measured));
    }

    /// Takes in what was measured.
    pub(super) fn record(&mut self, measured: &Measured) {
        for (name, value) in &measured.values {
            self.board.record(name, measured.at_ms, *value);
        }
    }
}
