//! Checks a chain from its oldest event to its newest, and says of each break what was done to which event.
//!
//! Texts pass through once; of each event only its links are kept. A text that does not match its hash is tried under
//! other numbers, so that what was moved is told from what was altered.

use std::collections::BTreeMap;

use super::compare::{Exported, compare};
use super::report::{AuditReport, Finding, FindingKind, events};
use super::{AuditEntry, AuditSeal, EventHash, SealPurpose, links, seals};

/// Texts that match no hash and are kept for a second look.
const SUSPECT_COUNT_MAX: usize = 1_000;

/// How many places away a text is tried at once.
const DISTANCE_MAX: u64 = 4;

/// What is kept of an event.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) number: u64,
    pub(super) time_ms: u64,
    pub(super) previous: Option<EventHash>,
    /// Its stored hash; for one without, the one it would have.
    pub(super) link: EventHash,
    pub(super) state: State,
    pub(super) role: Role,
}

/// How an event's text and its hash go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// As they should.
    Own,
    /// The hash is that of the same text under this number.
    Moved(u64),
    /// The hash is that of another text.
    Altered,
    /// There is no hash.
    Bare,
}

/// What an event is to the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// An event like others.
    Plain,
    /// A process begins to write, after so many events without a hash.
    Begun(u64),
    /// It signs what was before.
    Seal,
    /// The store went back to a backup.
    Restored,
}

/// A chain that is being checked.
pub struct Walk<C> {
    is_signed: C,
    stub: Option<AuditSeal>,
    rows: Vec<Row>,
    suspects: BTreeMap<u64, AuditEntry>,
    seals: Vec<(u64, Option<AuditSeal>)>,
}

impl<C: Fn(&AuditSeal, SealPurpose) -> bool> Walk<C> {
    /// A chain of which what is before `stub` was dropped; `is_signed` says whether a signature is by a trusted key.
    pub fn new(stub: Option<AuditSeal>, is_signed: C) -> Self {
        Self { is_signed, stub, rows: Vec::new(), suspects: BTreeMap::new(), seals: Vec::new() }
    }

    /// Takes the next event, by ascending number.
    pub fn take(&mut self, entry: &AuditEntry) {
        let before = self.rows.last().map_or_else(|| self.start().1, |row| row.link);
        let state = state_of(entry);
        if state == State::Altered && self.suspects.len() < SUSPECT_COUNT_MAX {
            self.suspects.insert(entry.number, entry.clone());
        }
        let role = role_of(entry);
        if role == Role::Seal {
            self.seals.push((entry.number, entry.seal()));
        }
        self.rows.push(Row {
            number: entry.number,
            time_ms: entry.time_ms,
            previous: entry.previous,
            link: entry.hash.unwrap_or_else(|| entry.hash_after(before)),
            state,
            role,
        });
    }

    /// What there is to say, with what was kept elsewhere of the same chain.
    pub fn finish(mut self, kept: &[Exported]) -> AuditReport {
        self.find_moved();
        let start = self.start();
        let (mut findings, unchained_count) = links::check(&self.rows, start);
        let mut notes = Vec::new();
        if let Some(stub) = &self.stub {
            if !(self.is_signed)(stub, SealPurpose::Stub) {
                let detail = "nothing that is trusted has signed that older events were dropped";
                findings.push(Finding::new(FindingKind::Signature, (stub.number, stub.number), detail));
            }
            notes.push(format!("events up to {} were dropped for their age, which is signed", stub.number));
        }
        if unchained_count > 0 {
            let first = self.rows.first().map_or(0, |row| row.number);
            let range = events((first, self.rows[unchained_count - 1].number));
            notes.push(format!("{range} were written before the chain began: nothing shows what they said then"));
        }
        let sealed = seals::check(&self.rows, &self.seals, start.0, &self.is_signed);
        findings.extend(sealed.findings);
        for kept in kept {
            compare(&self.rows, start.0, kept, &self.is_signed, &mut findings, &mut notes);
        }
        findings.sort_by_key(|finding| (finding.first, finding.kind, finding.last));
        AuditReport {
            entry_count: self.rows.len() as u64,
            first: self.rows.first().map(|row| row.number),
            last: self.rows.last().map(|row| row.number),
            unchained_count: unchained_count as u64,
            process_count: self.rows.iter().filter(|row| matches!(row.role, Role::Begun(_))).count() as u64,
            seal_count: sealed.count,
            sealed_to: sealed.to,
            pruned_to: self.stub.as_ref().map(|stub| stub.number),
            notes,
            findings,
        }
    }

    /// The last event before the oldest that is here, and its hash.
    fn start(&self) -> (u64, EventHash) {
        self.stub.as_ref().map_or((0, EventHash::GENESIS), |stub| (stub.number, stub.hash))
    }

    /// Tries texts that match no hash under the numbers of the others of their kind.
    fn find_moved(&mut self) {
        let numbers: Vec<u64> = self.suspects.keys().copied().collect();
        for row in self.rows.iter_mut().filter(|row| row.state == State::Altered) {
            let Some(entry) = self.suspects.get(&row.number) else { continue };
            if let Some(from) = numbers.iter().find(|number| is_hash_at(entry, **number)) {
                row.state = State::Moved(*from);
            }
        }
    }
}

fn state_of(entry: &AuditEntry) -> State {
    if entry.hash.is_none() {
        return State::Bare;
    }
    if is_hash_at(entry, entry.number) {
        return State::Own;
    }
    let nearby = (1..=DISTANCE_MAX).flat_map(|by| [entry.number.checked_sub(by), entry.number.checked_add(by)]);
    nearby.flatten().find(|number| is_hash_at(entry, *number)).map_or(State::Altered, State::Moved)
}

fn is_hash_at(entry: &AuditEntry, number: u64) -> bool {
    entry.previous.is_some_and(|previous| entry.hash == Some(entry.hash_at(number, previous)))
}

fn role_of(entry: &AuditEntry) -> Role {
    match entry.name.as_str() {
        super::SEALED_EVENT => Role::Seal,
        super::BEGUN_EVENT => Role::Begun(entry.begun().map_or(0, |begun| begun.unchained)),
        "recovery.begun" => Role::Restored,
        _ => Role::Plain,
    }
}
