//! A day of churn in simulated time: the real pass, the real store, agents that do what they are told when they can.
//!
//! `fleet` are nodes and edges that die, return and are cut off; `ledger` watches what is really in use, whatever the
//! manager believes, and fails when something is in use under a new lease before it rested. Nothing here reads a clock.

mod fleet;
mod jumps;
mod ledger;
mod spills;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use persona_core::document::Document;
use persona_core::ids::SubjectId;
use serde_json::{Value, json};

use crate::clock::{Clock, SimulatedClock};
use crate::config::Config;
use crate::documents;
use crate::error::Refusal;
use crate::live::Live;
use crate::overrides;
use crate::store::{Backend, Draft, Override, Pass, Snapshot, SqliteBackend};
use crate::tasks::assignment::Assigner;
use fleet::Fleet;
use ledger::Ledger;

/// What people's clocks say at first, milliseconds.
const EPOCH_MS: u64 = 1_800_000_000_000;

/// How long what was given back rests in these simulations, milliseconds.
const QUARANTINE_MS: u64 = 240_000;

/// Passes after which nothing is left to follow from one change.
const PASS_COUNT_MAX: u32 = 10;

/// Pseudorandom numbers of a seed (SplitMix64).
pub(super) struct Dice(u64);

impl Dice {
    /// A number below `bound`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        persona_core::maglev::mix(self.0) % bound
    }

    /// Whether something that happens once in `times` happens now.
    pub(super) fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// A manager without sockets and threads.
struct Manager {
    directory: tempfile::TempDir,
    backend: Option<SqliteBackend>,
    snapshot: Snapshot,
    clock: Arc<SimulatedClock>,
    live: Arc<Live>,
    assigner: Assigner,
    pass: Pass,
    /// What a pass may take. None: what passes of managers may.
    budget: Option<usize>,
}

impl Manager {
    fn new() -> Self {
        Self::of(None)
    }

    fn with_budget(budget: usize) -> Self {
        Self::of(Some(budget))
    }

    fn of(budget: Option<usize>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(SimulatedClock { elapsed_ms: 1_000_000.into(), now_ms: EPOCH_MS.into() });
        let (live, assigner, pass) = brain(&clock);
        let (backend, snapshot) = (None, Snapshot::default());
        let mut manager = Self { directory, backend, snapshot, clock, live, assigner, pass, budget };
        manager.start();
        manager
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("manager.sqlite")
    }

    /// What people's clocks say.
    fn now_ms(&self) -> u64 {
        self.clock.now_ms.load(Ordering::Relaxed)
    }

    /// What has really passed.
    fn elapsed_ms(&self) -> u64 {
        self.clock.elapsed_ms.load(Ordering::Relaxed)
    }

    /// Lets time pass.
    fn advance(&self, ms: u64) {
        self.clock.elapsed_ms.fetch_add(ms, Ordering::Relaxed);
        self.clock.now_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// Sets people's clocks.
    fn set_clock(&self, by_ms: i64) {
        self.clock.now_ms.fetch_add(by_ms as u64, Ordering::Relaxed);
    }

    /// Starts from what is stored; what was reported is forgotten.
    fn start(&mut self) {
        self.backend = None;
        let mut backend = SqliteBackend::open(&self.path()).unwrap();
        self.snapshot = backend.load().unwrap();
        self.backend = Some(backend);
        (self.live, self.assigner, self.pass) = brain(&self.clock);
        self.budget.into_iter().for_each(|budget| self.assigner.set_budget(budget));
        self.change(|_| Ok(())).unwrap();
    }

    /// What the store's writer does with one job.
    fn change<T>(&mut self, job: impl FnOnce(&mut Draft) -> Result<T, Refusal>) -> Result<T, Refusal> {
        let mut draft = Draft::new(&self.snapshot, self.now_ms());
        let outcome = job(&mut draft)?;
        (self.pass)(&mut draft);
        let (snapshot, writes, events) = draft.finish();
        if !(writes.is_empty() && events.is_empty()) {
            self.backend.as_mut().unwrap().commit(snapshot.revision, &writes, &events).unwrap();
        }
        self.snapshot = snapshot;
        Ok(outcome)
    }

    /// Has passes run until none changes anything, at one moment. Then deciding and publishing everything anew must change nothing
    /// either, although each pass looked at some only.
    fn settle(&mut self) {
        let mut pass_count = 0;
        while pass_count < PASS_COUNT_MAX {
            let revision = self.snapshot.revision;
            self.change(|_| Ok(())).unwrap();
            if !self.assigner.has_decided_all() {
                continue; // as the writer does
            }
            pass_count += 1;
            if self.snapshot.revision == revision {
                let others = self.assigner.differs_anew(&self.snapshot, self.now_ms());
                assert!(others.is_empty(), "revision {revision}: passes left out what follows: {others:#?}");
                assert!(self.snapshot.has_true_index(), "revision {revision}: the index is not that of the records");
                return;
            }
        }
        panic!("passes do not come to an end");
    }

    fn switch(&mut self, subject: &SubjectId, persona: &str) -> bool {
        let assigner = self.assigner.clone();
        let manual = Override { value: persona.parse().unwrap(), until_ms: None };
        self.change(|draft| overrides::switch(draft, &assigner, subject, manual, None)).is_ok()
    }

    /// Rows of the store that hold ports or prefixes.
    fn held_rows(&self) -> u32 {
        let connection = rusqlite::Connection::open(self.path()).unwrap();
        connection.query_row("SELECT count(*) FROM lease_blocks", [], |row| row.get(0)).unwrap()
    }
}

fn brain(clock: &Arc<SimulatedClock>) -> (Arc<Live>, Assigner, Pass) {
    let live = Arc::new(Live::at(Clock::Simulated(clock.clone())));
    let assigner = Assigner::new(Arc::new(Config::default()), live.clone());
    let pass = assigner.clone().into_pass();
    (live, assigner, pass)
}

fn documents() -> Vec<Document> {
    let pool = |name: &str, v4: &str, v6: &str, next_hop: &str| {
        json!({ "apiVersion": "persona/v1", "kind": "EgressPool", "metadata": { "name": name }, "spec": {
            "addresses": [v4, v6], "nextHop6": next_hop, "group": name, "quarantine": format!("{QUARANTINE_MS}ms") } })
    };
    let persona = |name: &str, network: Value| json!({ "apiVersion": "persona/v1", "kind": "Persona", "metadata": { "name": name }, "spec": { "network": network } });
    let all = [
        pool("fra", "198.51.100.0/30", "2001:db8:1::/59", "2001:db8::1"),
        pool("tyo", "203.0.113.0/29", "2001:db8:2::/59", "2001:db8::2"),
        persona("frankfurt", json!({ "egress": { "pools": ["fra"], "portsPerSubject": 2048 } })),
        persona("tokyo", json!({ "egress": { "pools": ["tyo"], "family": "prefer-ipv6", "portsPerSubject": 4096 } })),
        persona("six", json!({ "egress": { "pools": ["fra", "tyo"], "family": "ipv6" } })),
        persona("whole", json!({ "egress": { "pools": ["tyo"], "assign": "configure" } })),
        json!({ "apiVersion": "persona/v1", "kind": "Binding", "metadata": { "name": "all" },
            "spec": { "selector": { "kind": "workload" }, "personas": ["frankfurt", "tokyo", "six", "whole"] } }),
    ];
    all.into_iter().map(|document| Document::from_json(document).unwrap()).collect()
}

#[test]
fn a_day_of_churn_leaks_nothing_and_leases_nothing_twice() {
    const DAY_MS: u64 = 24 * 3_600_000;
    const PERSONAS: [&str; 4] = ["frankfurt", "tokyo", "six", "whole"];
    // A pass takes a few changes only, so that much of the day is seen while somebody has still to be decided.
    let mut manager = Manager::with_budget(40);
    let reports = manager.assigner.reports();
    manager.change(|draft| documents::apply(draft, &reports, &documents(), documents::Conflicts::Refuse)).unwrap();
    let (mut dice, mut ledger) = (Dice(20_260_101), Ledger::default());
    let mut fleet = Fleet::join(&mut manager, 4, 3);
    let (start_ms, mut step_count, mut restart_count, mut switch_count) = (manager.elapsed_ms(), 0, 0, 0);
    let mut jump_count = 0;
    while manager.elapsed_ms() < start_ms + DAY_MS {
        // Mostly bursts of small steps, sometimes a pause in which everything settles or is missed.
        let step_ms = if dice.once_in(2) { 5_000 + dice.below(170_000) } else { 50 + dice.below(3_000) };
        manager.advance(step_ms);
        if dice.once_in(60) {
            // Up to an hour forward or back, also just before a restart.
            manager.set_clock(dice.below(7_200_000) as i64 - 3_600_000);
            jump_count += 1;
        }
        fleet.suffer(&mut dice);
        fleet.talk(&mut manager, &mut dice);
        if dice.once_in(2)
            && let Some(subject) = fleet.any_subject(&mut dice)
        {
            switch_count += u32::from(manager.switch(&subject, PERSONAS[dice.below(4) as usize]));
        }
        if dice.once_in(150) {
            let before: Vec<_> = manager.snapshot.leases.values().map(|lease| (lease.id, lease.state)).collect();
            let revision = manager.snapshot.revision;
            manager.start();
            let after: Vec<_> = manager.snapshot.leases.values().map(|lease| (lease.id, lease.state)).collect();
            assert!(before == after || manager.snapshot.revision > revision, "a restart loses nothing");
            restart_count += 1;
        }
        ledger.watch(&fleet, &manager.snapshot, manager.elapsed_ms());
        if step_count % 8 == 0 {
            manager.settle();
        }
        step_count += 1;
    }
    let held = manager.snapshot.leases.len();
    fleet.heal_and_empty();
    for _ in 0..100 {
        manager.advance(30_000);
        fleet.talk(&mut manager, &mut dice);
        ledger.watch(&fleet, &manager.snapshot, manager.elapsed_ms());
    }
    println!(
        "24 simulated hours: {step_count} steps, {} leases granted, {} came back, {held} were held at the end; {switch_count} switches, {restart_count} restarts of the manager, its clock set {jump_count} times, {} deaths, {} cut-offs",
        ledger.seen_count(),
        ledger.seen_count() - manager.snapshot.leases.len(),
        fleet.death_count,
        fleet.cut_count
    );
    assert!(ledger.seen_count() > 1_000, "the day was too quiet to prove anything");
    let left: Vec<_> = manager.snapshot.leases.values().collect();
    assert!(left.is_empty(), "leases that nobody wants are still there: {left:#?}");
    assert_eq!(manager.held_rows(), 0, "the store holds ports that no lease has");
}
