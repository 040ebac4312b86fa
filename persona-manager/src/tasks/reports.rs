//! What everybody last reported, as one pass sees it, and what that says about edges.

use std::sync::Arc;

use persona_core::health::{EdgeState, Fence, Says, Testimony, WitnessKind, fence};
use persona_core::ids::{EdgeName, Generation, NodeName};
use persona_core::wire::agent::Role;
use persona_core::wire::conditions::Conditions;
use persona_core::wire::desired::ProbeItem;

use crate::live::{AgentLive, Live, Sessions};
use crate::store::{AgentId, AgentRecord, SharedMap, Snapshot};

/// A probed edge that never answered counts as dead only after this time; before, the probing may just have begun. And who is not
/// heard for longer is out of a node's reach; until then it may be a blink. Milliseconds.
pub(crate) const UNHEARD_MS_MAX: u64 = 2_000;

/// What an edge may take to act on its loneliness beyond noticing it, milliseconds.
const NOTICE_SLACK_MS: u64 = 1_000;

/// So many reports that were due must be missing of who has its stream open.
const MISSED_COUNT: u64 = 2;

/// What agents reported, as a pass saw it.
pub(super) type Seen = SharedMap<AgentId, AgentLive>;

/// What everybody last reported.
pub(crate) struct Reports {
    agents: SharedMap<AgentId, AgentLive>,
    awaited_since: u64,
    registered: SharedMap<AgentId, u64>,
    sessions: SharedMap<AgentId, Sessions>,
    now: u64,
    /// Who did not report for longer is silent, milliseconds.
    pub(super) silent_after_ms: u64,
    /// The longest time that an edge which comes and goes is held back, milliseconds.
    pub(super) hold_max_ms: u64,
}

impl Reports {
    /// Takes a copy of what is known now.
    pub(crate) fn of(live: &Live, silent_after_ms: u32, hold_max_ms: u32) -> Self {
        Self {
            agents: live.agents().clone(),
            awaited_since: live.awaited_since(),
            registered: live.registrations(),
            sessions: live.sessions(),
            now: live.clock.monotonic_ms(),
            silent_after_ms: silent_after_ms.into(),
            hold_max_ms: hold_max_ms.into(),
        }
    }

    /// When this was taken, by the clock that never goes back, milliseconds.
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// Whether everybody has had the time to come back since this manager started.
    pub(crate) fn is_settled(&self) -> bool {
        self.now.saturating_sub(self.awaited_since) > self.silent_after_ms
    }

    /// What all agents last reported.
    pub(crate) fn all(&self) -> &SharedMap<AgentId, AgentLive> {
        &self.agents
    }

    /// What those last reported who did since `seen`, if that is known; else everybody.
    pub(super) fn told_since<'a>(&'a self, seen: Option<&'a Seen>) -> Vec<(&'a AgentId, &'a Arc<AgentLive>)> {
        let Some(seen) = seen else { return self.agents.iter().collect() };
        let changes = self.agents.changes_since(seen).into_iter();
        changes.filter_map(|change| Some((change.key, change.after?))).collect()
    }

    /// What an agent last reported.
    pub(crate) fn get(&self, id: &AgentId) -> Option<&AgentLive> {
        self.agents.get(id).map(Arc::as_ref)
    }

    /// What a node measured when it last asked for an assignment by itself.
    pub(super) fn conditions(&self, node: &NodeName) -> Option<&Conditions> {
        self.agents.get(&AgentId::node(node))?.conditions.as_ref()
    }

    /// Whether an agent did not report for too long.
    pub(crate) fn is_silent(&self, id: &AgentId) -> bool {
        self.silent_ms(id) > self.silent_after_ms
    }

    /// How long nothing was heard of an agent, milliseconds: no report, nor had it its stream open. Who has it open, and was
    /// told to report rarely, has missed two reports before it counts as silent.
    pub(super) fn silent_ms(&self, id: &AgentId) -> u64 {
        let joined = self.registered.get(id).map(|at| **at).unwrap_or(self.awaited_since);
        let seen = self.get(id).map_or(joined, |live| live.seen);
        self.silent_since(seen, self.sessions.get(id).map(AsRef::as_ref))
    }

    fn silent_since(&self, seen: u64, sessions: Option<&Sessions>) -> u64 {
        let unreported_ms = self.now.saturating_sub(seen);
        let told = sessions.and_then(|sessions| Some((sessions, sessions.interval_ms?)));
        match told {
            None => unreported_ms,
            Some((sessions, interval_ms)) if sessions.open > 0 => {
                unreported_ms.saturating_sub(MISSED_COUNT * u64::from(interval_ms))
            }
            Some((sessions, _)) => unreported_ms.min(self.now.saturating_sub(sessions.ended)),
        }
    }

    /// Nodes that may be up, down or cut off otherwise than their records say. The others have reported lately, are up and hear
    /// an edge.
    pub(super) fn doubtful<'a>(&'a self, snapshot: &'a Snapshot) -> Vec<&'a Arc<AgentRecord>> {
        // All are in the order of names.
        let (mut told, mut open) = (self.agents.iter().peekable(), self.sessions.iter().peekable());
        let is_doubtful = |agent: &&Arc<AgentRecord>| {
            while told.next_if(|(id, _)| **id < agent.id).is_some() {}
            while open.next_if(|(id, _)| **id < agent.id).is_some() {}
            let live = told.peek().filter(|(id, _)| **id == agent.id).map(|(_, live)| live);
            let (seen, hears_none) = (live.map(|live| live.seen), live.is_some_and(|live| live.hears_none()));
            let sessions = open.peek().filter(|(id, _)| **id == agent.id).map(|(_, sessions)| &***sessions);
            let is_well = agent.node().is_some_and(|node| node.up && node.cut_off == hears_none);
            !(is_well && seen.is_some_and(|seen| self.silent_since(seen, sessions) <= self.silent_after_ms))
        };
        snapshot.agents.values().take_while(|agent| agent.id.role == Role::Node).filter(is_doubtful).collect()
    }

    /// What everybody says who is told of an edge, or was before his last acknowledgement. Looked for as far as it is taken.
    fn testimonies<'a>(
        &'a self,
        snapshot: &'a Snapshot,
        edge: &'a AgentRecord,
        name: &'a EdgeName,
    ) -> impl Iterator<Item = Testimony> + 'a {
        let key = format!("edge/{name}");
        let is_witness = move |witness: &&AgentId| **witness != edge.id && self.may_know(snapshot, witness, &key, edge);
        snapshot.agents.keys().filter(is_witness).map(|witness| self.testimony(witness, name))
    }

    /// As `testimonies`, of those that say something about the edge.
    pub(super) fn spoken_testimonies(&self, snapshot: &Snapshot, edge: &AgentRecord) -> Vec<Testimony> {
        let Ok(name) = edge.id.name.parse::<EdgeName>() else { return Vec::new() };
        let key = format!("edge/{name}");
        let speaking =
            self.agents.iter().filter(|(_, live)| live.edges.contains_key(&name)).map(|(witness, _)| witness);
        let is_witness = |witness: &&AgentId| {
            **witness != edge.id
                && snapshot.agents.contains_key(*witness)
                && self.may_know(snapshot, witness, &key, edge)
        };
        speaking.filter(is_witness).map(|witness| self.testimony(witness, &name)).collect()
    }

    /// Whether an agent's state in force may name an edge.
    fn may_know(&self, snapshot: &Snapshot, witness: &AgentId, key: &str, edge: &AgentRecord) -> bool {
        if witness.role == Role::Edge {
            let group = snapshot.agents.get(witness).and_then(|peer| peer.edge()).map(|peer| &peer.group);
            return group == edge.edge().map(|edge| &edge.group);
        }
        let Some(published) = snapshot.desired.get(witness) else { return true };
        let applied = self.get(witness).map_or(Generation::default(), |live| live.applied);
        published.items.contains_key(key) || applied < published.generation
    }

    fn testimony(&self, witness: &AgentId, edge: &EdgeName) -> Testimony {
        let kind = if witness.role == Role::Node { WitnessKind::Node } else { WitnessKind::Peer };
        let live = self.get(witness).filter(|_| !self.is_silent(witness));
        let says = live.and_then(|live| live.edges.get(edge)).map_or(Says::Nothing, |(health, since)| {
            let for_ms = self.now.saturating_sub(*since);
            match (health.alive, health.rtt_us.is_some() || for_ms > UNHEARD_MS_MAX) {
                (true, _) => Says::Alive,
                (false, true) => Says::Dead { for_ms },
                (false, false) => Says::Nothing,
            }
        });
        let hears_any = live.is_some_and(|live| live.hears_any());
        Testimony { who: witness.to_string(), kind, says, hears_any }
    }

    /// Whether an edge can no longer do harm with an old lease table.
    pub(crate) fn fence(&self, snapshot: &Snapshot, edge: &AgentRecord, probe: ProbeItem) -> Fence {
        let state = edge.edge().map_or(EdgeState::New, |edge| edge.state);
        if state != EdgeState::Down {
            return fence(state, [], 0);
        }
        // It must miss `multiplier` probes and one more, and act on it; twice that is safe.
        let notice_ms = 2 * u64::from(probe.interval_ms) * (u64::from(probe.multiplier) + 1) + NOTICE_SLACK_MS;
        match edge.id.name.parse::<EdgeName>() {
            Ok(name) => fence(state, self.testimonies(snapshot, edge, &name), notice_ms),
            Err(_) => fence(state, [], notice_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use persona_core::wire::agent::Report;

    use super::*;
    use crate::clock::{Clock, SimulatedClock};

    #[test]
    fn who_was_told_to_report_rarely_is_heard_while_its_stream_is_open() {
        let clock = Arc::new(SimulatedClock { elapsed_ms: 1_000_000.into(), now_ms: 1_800_000_000_000.into() });
        let live = Arc::new(Live::at(Clock::Simulated(clock.clone())));
        let advance = |ms: u64| _ = clock.elapsed_ms.fetch_add(ms, std::sync::atomic::Ordering::Relaxed);
        let silent = |live: &Live, id: &AgentId| Reports::of(live, 5_000, 1_000).is_silent(id);
        let [paced, plain] = ["n1", "n2"].map(|name| AgentId::node(&name.parse().unwrap()));
        let streams = [&paced, &plain].map(|id| live.open_session(id));
        for id in [&paced, &plain] {
            live.report(id, &Report::default(), 0);
        }
        assert_eq!((live.pace(&paced, Some(36_000)), live.pace(&plain, None)), (Some(36_000), None));
        advance(6_000);
        assert_eq!((silent(&live, &paced), silent(&live, &plain)), (false, true));
        advance(70_000);
        assert!(!silent(&live, &paced), "one report was missed, the next is late");
        advance(2_000);
        assert!(silent(&live, &paced), "two were missed: its stream alone does not keep it alive");
        live.report(&paced, &Report::default(), 0);
        assert!(!silent(&live, &paced));
        advance(20_000);
        drop(streams);
        assert!(!silent(&live, &paced), "it was heard until now");
        advance(5_001);
        assert!(silent(&live, &paced));
        assert_eq!(live.pace(&paced, Some(36_000)), None, "who has no stream open here is told nothing");
    }

    #[test]
    fn nobody_is_silent_while_others_come_back_unless_that_takes_long() {
        let clock = Arc::new(SimulatedClock { elapsed_ms: 1_000_000.into(), now_ms: 1_800_000_000_000.into() });
        let live = Live::at(Clock::Simulated(clock.clone()));
        let advance = |ms: u64| _ = clock.elapsed_ms.fetch_add(ms, std::sync::atomic::Ordering::Relaxed);
        let nodes: Vec<_> = (0..20).map(|number| AgentId::node(&format!("n{number}").parse().unwrap())).collect();
        let missing = AgentId::node(&"missing".parse().unwrap());
        let seen = || {
            let reports = Reports::of(&live, 5_000, 1_000);
            (reports.is_silent(&missing), reports.is_settled())
        };
        live.report(&nodes[0], &Report::default(), 0);
        advance(4_000);
        live.report(&nodes[1], &Report::default(), 0);
        advance(4_000);
        live.report(&nodes[0], &Report::default(), 0);
        assert_eq!(seen(), (false, false), "somebody came back four seconds ago");
        advance(1_001);
        assert_eq!(seen(), (true, true), "who reports again is not coming back, and others had their turn");
        for node in &nodes[2..15] {
            advance(4_000);
            live.report(node, &Report::default(), 0);
        }
        assert_eq!(seen(), (false, false), "61 seconds after the start");
        advance(4_001);
        live.report(&nodes[15], &Report::default(), 0);
        assert_eq!(seen(), (true, true), "five seconds after the minute that coming back may take");
        live.note_registration(nodes[16].clone());
        let before = live.awaited_since();
        live.report(&nodes[16], &Report::default(), 0);
        assert_eq!(live.awaited_since(), before, "a newcomer does not come back");
    }
}
