//! What nodes and edges last reported: health, acknowledgements, counters. In memory only.
//!
//! After a restart everybody reports again, and while they come back nobody counts as silent. Nothing here decides; whoever
//! changes what a decision rests on wakes the driver.

mod rates;
mod sessions;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use persona_core::ids::{EdgeName, Generation, LeaseId, SubjectId};
use persona_core::quota::{Asked, Quota};
use persona_core::units::Cidr;
use persona_core::wire::agent::{Counters, EdgeHealth, Holdings, LeaseUse, Rejection, Report};
use persona_core::wire::conditions::Conditions;
use persona_core::wire::desired::Item;
use persona_core::wire::limits::LimitReport;
use persona_core::wire::proof::StateProof;
use persona_core::wire::security::SecurityReport;
use persona_core::wire::software::SoftwareReport;
use persona_core::wire::tunnel::TunnelReport;
use tokio::sync::Notify;

use crate::activation::Activations;
use crate::clock::{Clock, StepWatch};
use crate::planning::Keeper;
use crate::rollouts::Watches;
use crate::store::{AgentId, SharedMap};
use crate::tasks::schedules::Timetables;
use crate::tasks::shares::Usage;
use crate::webhooks::Troubles;

pub(crate) use rates::Rates;
pub(crate) use sessions::{Session, Sessions};

/// Items that one agent may hold: more than its tables have room for.
const HELD_COUNT_MAX: usize = 4_000_000;

/// What one agent last reported.
#[derive(Debug, Clone)]
pub(crate) struct AgentLive {
    /// When, by the clock that never goes back, for silence, milliseconds.
    pub seen: u64,
    /// When, for people.
    pub seen_ms: u64,
    /// The generation in force there.
    pub applied: Generation,
    /// The generation it rejected, and why.
    pub rejected: Option<Rejection>,
    /// Leases that it reported as drained, and what was in force there then.
    pub drained: BTreeMap<LeaseId, Generation>,
    /// What its probes say, and since when they say so.
    pub edges: BTreeMap<EdgeName, (EdgeHealth, u64)>,
    /// Edges: whether the outside next hop answers.
    pub outside_alive: Option<bool>,
    /// Edges: addresses it answers ARP or ND for.
    pub owned: Vec<IpAddr>,
    /// Edges: ranges that routes to it are announced for.
    pub announced: Option<Vec<Cidr>>,
    /// What its data plane counted.
    pub counters: Counters,
    /// Traffic between the last two reports that had counters. 0: none for [`QUIET_MS`].
    pub bits_per_sec: u64,
    /// Packets and drops, and what each subject of a node sends and receives.
    pub rates: Rates,
    /// Nodes: how full leases are.
    pub leases: BTreeMap<LeaseId, LeaseUse>,
    /// Nodes: the least MTU of the ways to edges, bytes.
    pub underlay_mtu: Option<u32>,
    /// Nodes: what they measured when they last asked for an assignment.
    pub conditions: Option<Conditions>,
    /// Its encrypted tunnels.
    pub tunnel: TunnelReport,
    /// Nodes: the limits of workloads.
    pub limits: Vec<LimitReport>,
    /// Nodes: the software of whoever shall have some.
    pub software: Vec<SoftwareReport>,
    /// Nodes: the security settings of whoever shall have some.
    pub security: Vec<SecurityReport>,
    /// When counters last came, by the clock that never goes back, milliseconds.
    pub counted: u64,
    /// When they last said something new.
    moved: u64,
}

impl AgentLive {
    /// Whether it hears one of the edges that it probes.
    pub(crate) fn hears_any(&self) -> bool {
        self.edges.values().any(|(health, _)| health.alive)
    }

    /// Whether it probes edges and hears none.
    pub(crate) fn hears_none(&self) -> bool {
        !self.edges.is_empty() && !self.hears_any()
    }
}

/// Parts of what an agent holds that have come.
#[derive(Default)]
struct HeldParts {
    /// The store incarnation that asked.
    incarnation: u32,
    /// The part that is next.
    next: u32,
    items: Vec<Item>,
}

/// So long nothing must have moved before somebody counts as quiet, milliseconds: two reports may come close together.
const QUIET_MS: u64 = 3_000;

/// While agents come back to this manager, those who have not may be waiting for their turn: that explains so long a silence at
/// most, milliseconds.
const COMING_BACK_MS_MAX: u64 = 60_000;

/// Parts of reports that were left out are told at most this often of one agent, milliseconds.
const LEFT_OUT_INTERVAL_MS: u64 = 60_000;

/// What was left out of an agent's reports since that was last told, and when it was.
struct LeftOutSince {
    told: u64,
    count: usize,
}

/// What all agents last reported.
pub(crate) struct Live {
    agents: Mutex<SharedMap<AgentId, AgentLive>>,
    /// Who reported what is not its own.
    left_out: Mutex<BTreeMap<AgentId, LeftOutSince>>,
    /// When agents registered since this manager started: nobody was silent before that either.
    registered: Mutex<SharedMap<AgentId, u64>>,
    /// Streams of desired state that agents have open, or had lately.
    sessions: Mutex<SharedMap<AgentId, Sessions>>,
    /// Parts of what agents hold, until the last part comes.
    holdings: Mutex<BTreeMap<AgentId, HeldParts>>,
    /// When this manager started: nobody was silent before.
    started: AtomicU64,
    /// When an agent that was registered before last came back since.
    came_back: AtomicU64,
    /// What criteria are judged by.
    pub activations: Activations,
    /// Where the plan wants everybody.
    planning: Mutex<Keeper>,
    /// When personas are put on by themselves.
    timetables: Mutex<Timetables>,
    /// What wearers of totals over all nodes use.
    usage: Mutex<Usage>,
    /// Why webhooks do not get through.
    pub webhook_troubles: Troubles,
    /// What is seen of rollouts.
    rollouts: Mutex<Watches>,
    /// When applications of subjects asked lately.
    asked: Mutex<BTreeMap<SubjectId, Asked>>,
    /// What time it is.
    pub clock: Clock,
    /// Whether people's clock goes on as that one does.
    pub steps: StepWatch,
    /// Told when something changed that a decision rests on.
    pub wake: Notify,
    /// Whether the last pass put something off.
    pub comes_back_soon: AtomicBool,
}

impl Default for Live {
    fn default() -> Self {
        Self::at(Clock::default())
    }
}

impl Live {
    /// Nothing is reported yet.
    pub(crate) fn at(clock: Clock) -> Self {
        let (started, came_back) = (clock.monotonic_ms().into(), AtomicU64::default());
        let (agents, left_out, registered, sessions, holdings, activations) = Default::default();
        let (planning, timetables, usage, rollouts, asked, steps) = Default::default();
        let (wake, webhook_troubles) = (Notify::new(), Troubles::default());
        Self {
            agents,
            left_out,
            registered,
            sessions,
            holdings,
            activations,
            planning,
            timetables,
            usage,
            webhook_troubles,
            rollouts,
            asked,
            started,
            came_back,
            clock,
            steps,
            wake,
            comes_back_soon: AtomicBool::new(false),
        }
    }

    /// Since when the silence of agents says something that were registered before this manager started: they had their turn to
    /// come back. Milliseconds.
    pub(crate) fn awaited_since(&self) -> u64 {
        let started = self.started.load(Ordering::Relaxed);
        self.came_back.load(Ordering::Relaxed).clamp(started, started + COMING_BACK_MS_MAX)
    }

    /// Forgets everything: agents reported elsewhere until now, and decisions went by another clock.
    pub(crate) fn start_anew(&self) {
        *self.agents() = SharedMap::default();
        *self.registered.lock().unwrap_or_else(PoisonError::into_inner) = SharedMap::default();
        self.holdings.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.started.store(self.clock.monotonic_ms(), Ordering::Relaxed);
        self.steps.forget();
        self.activations.start_anew();
        *self.planning() = Keeper::default();
        *self.timetables() = Timetables::default();
        *self.usage() = Usage::default();
        *self.rollouts() = Watches::default();
    }

    /// Where the plan wants everybody.
    pub(crate) fn planning(&self) -> MutexGuard<'_, Keeper> {
        self.planning.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When personas are put on by themselves.
    pub(crate) fn timetables(&self) -> MutexGuard<'_, Timetables> {
        self.timetables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What wearers of totals over all nodes use.
    pub(crate) fn usage(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is seen of rollouts.
    pub(crate) fn rollouts(&self) -> MutexGuard<'_, Watches> {
        self.rollouts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that an application of a subject asks, or says how long it has to wait, milliseconds.
    pub(crate) fn take_ask(&self, subject: &SubjectId, quota: Quota) -> Result<(), u64> {
        let now = self.clock.monotonic_ms();
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.retain(|_, of| !of.is_over(quota, now));
        asked.entry(subject.clone()).or_default().take(quota, now)
    }

    /// What all agents last reported. Whoever looks for long takes a copy.
    pub(crate) fn agents(&self) -> MutexGuard<'_, SharedMap<AgentId, AgentLive>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that an agent is about to be registered: its silence counts from now.
    pub(crate) fn note_registration(&self, id: AgentId) {
        let mut registered = self.registered.lock().unwrap_or_else(PoisonError::into_inner);
        registered.insert(id, Arc::new(self.clock.monotonic_ms()));
    }

    /// When an agent's silence began at the latest, before its first report.
    pub(crate) fn registrations(&self) -> SharedMap<AgentId, u64> {
        self.registered.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets agents that were deleted.
    pub(crate) fn forget_agents(&self, is_registered: impl Fn(&AgentId) -> bool) {
        let mut agents = self.agents();
        if agents.keys().any(|id| !is_registered(id)) {
            agents.retain(|id, _| is_registered(id));
        }
        drop(agents);
        self.forget_sessions(&is_registered);
        self.left_out.lock().unwrap_or_else(PoisonError::into_inner).retain(|id, _| is_registered(id));
    }

    /// Counts parts of a report that were left out. Some: they are to be told now, and how many they are since the last time.
    pub(crate) fn note_left_out(&self, id: &AgentId, count: usize) -> Option<usize> {
        if count == 0 {
            return None;
        }
        let now = self.clock.monotonic_ms();
        let mut all = self.left_out.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get_mut(id) {
            Some(since) if now.saturating_sub(since.told) < LEFT_OUT_INTERVAL_MS => {
                since.count += count;
                None
            }
            known => {
                let before = known.map_or(0, |since| since.count);
                all.insert(id.clone(), LeftOutSince { told: now, count: 0 });
                Some(before + count)
            }
        }
    }

    /// Forgets what was said of leases that are over.
    pub(crate) fn forget_leases(&self, is_lease: impl Fn(&LeaseId) -> bool) {
        let is_over = |id: &LeaseId| !is_lease(id);
        let has_over = |live: &AgentLive| live.drained.keys().chain(live.leases.keys()).any(is_over);
        // Reports come meanwhile: whoever looks at all of them holds nobody up.
        let all = self.agents().clone();
        let behind = all.iter().filter(|(_, live)| has_over(live)).map(|(id, _)| id.clone()).collect();
        self.forget_leases_of(&behind, is_lease);
    }

    /// The same, of some agents only.
    pub(crate) fn forget_leases_of(&self, of: &BTreeSet<AgentId>, is_lease: impl Fn(&LeaseId) -> bool) {
        let is_over = |id: &LeaseId| !is_lease(id);
        let has_over = |live: &&Arc<AgentLive>| live.drained.keys().chain(live.leases.keys()).any(is_over);
        let mut agents = self.agents();
        for id in of {
            if let Some(live) = agents.get(id).filter(has_over) {
                let mut live = AgentLive::clone(live);
                live.drained.retain(|id, _| is_lease(id));
                live.leases.retain(|id, _| is_lease(id));
                agents.insert(id.clone(), Arc::new(live));
            }
        }
    }

    /// Takes a part of what an agent holds. Returns all of it with the last part; a part out of order starts anew with
    /// the next first one.
    pub(crate) fn take_holdings(&self, id: &AgentId, part: Holdings) -> Option<(Vec<Item>, Option<StateProof>)> {
        let mut all = self.holdings.lock().unwrap_or_else(PoisonError::into_inner);
        let mut held = match (part.part, all.remove(id)) {
            (0, _) => HeldParts { incarnation: part.incarnation, ..HeldParts::default() },
            (_, before) => before?,
        };
        if (part.incarnation, part.part) != (held.incarnation, held.next) || held.items.len() > HELD_COUNT_MAX {
            return None;
        }
        held.items.extend(part.items);
        held.next += 1;
        if part.is_last {
            return Some((held.items, part.proof));
        }
        all.insert(id.clone(), held);
        None
    }

    /// Takes a report in. Returns a rejection that was not known before.
    pub(crate) fn report(&self, id: &AgentId, report: &Report, now_ms: u64) -> Option<Rejection> {
        let mut agents = self.agents();
        let (before, now) = (agents.get(id).cloned(), self.clock.monotonic_ms());
        if before.is_none() && !self.registrations().contains_key(id) {
            self.came_back.store(now, Ordering::Relaxed);
        }
        let after = merged(before.as_deref(), report, now, now_ms);
        let is_decisive = before.as_deref().is_none_or(|before| differs(before, &after));
        let rejection =
            after.rejected.clone().filter(|new| before.is_none_or(|old| old.rejected.as_ref() != Some(new)));
        agents.insert(id.clone(), Arc::new(after));
        if is_decisive {
            self.wake.notify_one();
        }
        rejection
    }
}

fn merged(before: Option<&AgentLive>, report: &Report, now: u64, now_ms: u64) -> AgentLive {
    let kept = before.cloned();
    let mut drained = kept.as_ref().map(|kept| kept.drained.clone()).unwrap_or_default();
    drained.extend(report.drained.iter().map(|id| (*id, report.applied)));
    let old_edges = kept.as_ref().map(|kept| kept.edges.clone()).unwrap_or_default();
    let edges = match &report.edges {
        None => old_edges,
        Some(edges) => edges.iter().map(|health| (health.edge.clone(), since(&old_edges, health, now))).collect(),
    };
    let moved = moved(kept.as_ref(), report, now);
    AgentLive {
        seen: now,
        seen_ms: now_ms,
        applied: report.applied,
        rejected: report.rejected.clone(),
        drained,
        edges,
        outside_alive: report.outside_alive.or(kept.as_ref().and_then(|kept| kept.outside_alive)),
        owned: report.owned.clone().or(kept.as_ref().map(|kept| kept.owned.clone())).unwrap_or_default(),
        announced: report.announced.clone().or(kept.as_ref().and_then(|kept| kept.announced.clone())),
        leases: lease_uses(kept.as_ref(), report),
        underlay_mtu: report.underlay_mtu.or(kept.as_ref().and_then(|kept| kept.underlay_mtu)),
        conditions: report.conditions.clone().or(kept.as_ref().and_then(|kept| kept.conditions.clone())),
        tunnel: report.tunnel.clone().or(kept.as_ref().map(|kept| kept.tunnel.clone())).unwrap_or_default(),
        limits: report.limits.clone().or(kept.as_ref().map(|kept| kept.limits.clone())).unwrap_or_default(),
        software: report.software.clone().or(kept.as_ref().map(|kept| kept.software.clone())).unwrap_or_default(),
        security: report.security.clone().or(kept.as_ref().map(|kept| kept.security.clone())).unwrap_or_default(),
        bits_per_sec: rate(before, report, moved, now),
        rates: Rates::after(kept.as_ref().map(|kept| &kept.rates), report.counters.as_ref(), now),
        moved,
        counted: kept.as_ref().filter(|_| report.counters.is_none()).map_or(now, |kept| kept.counted),
        counters: report.counters.clone().or(kept.map(|kept| kept.counters)).unwrap_or_default(),
    }
}

/// Bits per second between two reports with counters; one without leaves the last rate, and so does a pause.
fn rate(before: Option<&AgentLive>, report: &Report, moved: u64, now: u64) -> u64 {
    match (before, &report.counters) {
        (None, _) => 0,
        (Some(before), None) => before.bits_per_sec,
        (Some(before), Some(_)) if moved < now && now - moved < QUIET_MS => before.bits_per_sec,
        (Some(before), Some(counters)) => {
            let elapsed_ms = now.saturating_sub(before.counted).max(1);
            // Counters that went back were attached anew.
            byte_count(counters).saturating_sub(byte_count(&before.counters)).saturating_mul(8_000) / elapsed_ms
        }
    }
}

/// When counters last said something new.
fn moved(before: Option<&AgentLive>, report: &Report, now: u64) -> u64 {
    let Some(before) = before else { return now };
    let is_same = |counters: &Counters| byte_count(counters) == byte_count(&before.counters);
    if report.counters.as_ref().is_none_or(is_same) { before.moved } else { now }
}

fn byte_count(counters: &Counters) -> u64 {
    counters.personas.values().map(|it| it.egress_bytes + it.ingress_bytes).sum()
}

fn since(old: &BTreeMap<EdgeName, (EdgeHealth, u64)>, health: &EdgeHealth, now: u64) -> (EdgeHealth, u64) {
    let unchanged = old.get(&health.edge).filter(|(before, _)| before.alive == health.alive);
    (health.clone(), unchanged.map_or(now, |(_, since)| *since))
}

/// How full leases are, with those that the report names as it says.
fn lease_uses(kept: Option<&AgentLive>, report: &Report) -> BTreeMap<LeaseId, LeaseUse> {
    let mut uses = kept.map(|kept| kept.leases.clone()).unwrap_or_default();
    uses.extend(report.leases.iter().map(|lease_use| (lease_use.lease, *lease_use)));
    uses
}

/// Whether anything changed that a decision rests on.
fn differs(before: &AgentLive, after: &AgentLive) -> bool {
    let alive = |live: &AgentLive| -> Vec<(EdgeName, bool)> {
        live.edges.iter().map(|(edge, (health, _))| (edge.clone(), health.alive)).collect()
    };
    before.applied != after.applied
        || before.rejected != after.rejected
        || before.drained != after.drained
        || before.outside_alive != after.outside_alive
        || before.conditions != after.conditions
        || alive(before) != alive(after)
}

#[cfg(test)]
mod tests {
    use persona_core::wire::agent::Traffic;

    use super::*;

    fn report(bytes: u64) -> Report {
        let traffic = Traffic { ingress_bytes: bytes, ..Traffic::default() };
        let counters = Counters { personas: [(1, traffic)].into(), ..Counters::default() };
        Report { counters: Some(counters), ..Report::default() }
    }

    #[test]
    fn a_rate_is_zero_only_after_a_pause() {
        let mut live: Option<AgentLive> = None;
        for (now, bytes, expected) in [
            (0, 0, 0),
            (1_000, 1_000, 8_000),
            (1_010, 1_000, 8_000),
            (2_000, 2_000, 8_080),
            (3_000, 2_000, 8_080),
            (4_999, 2_000, 8_080),
            (5_000, 2_000, 0),
            (6_000, 2_000, 0),
            (7_000, 2_500, 4_000),
        ] {
            let after = merged(live.as_ref(), &report(bytes), now, now);
            assert_eq!(after.bits_per_sec, expected, "at {now} ms");
            live = Some(after);
        }
    }
}
