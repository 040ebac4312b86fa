//! What is seen of a rollout since its wave began. In memory: another manager, or the same after a restart, begins to watch
//! anew, and the wave soaks from its start.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use persona_core::ids::{NodeName, RolloutName};
use persona_core::rollout::{Evidence, Health, MovedSigns, NodeErrors, Phase};

use super::sample::Sample;
use super::trouble::trouble_of;
use crate::store::{AgentId, MovedRecord, RolloutMemberRecord, RolloutRecord, Snapshot};
use crate::tasks::in_force::is_in_force;
use crate::tasks::reports::Reports;

/// Passes come several times a second; rollouts are looked at this often, milliseconds.
const LOOK_INTERVAL_MS: u64 = 250;

/// What is watched, by rollout.
#[derive(Debug, Default)]
pub(crate) struct Watches(BTreeMap<RolloutName, Watch>);

/// A rollout that is watched.
#[derive(Debug)]
struct Watch {
    /// Since when, by the clock that never goes back.
    began: u64,
    looked: u64,
    /// What it was at then: its phase, its wave, and how many were moved.
    stage: (Phase, u32, u32),
    start: Sample,
    seen: Option<Seen>,
}

/// What people are shown of what is watched.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    /// How long, milliseconds.
    pub(crate) watched_ms: u64,
    /// Who was moved and does not have it in force yet.
    pub(crate) behind_count: u32,
    /// The evidence in numbers.
    pub(crate) health: Health,
}

/// One look at a rollout.
pub(super) struct Sight {
    /// How long it has been watched, milliseconds.
    pub(super) watched_ms: u64,
    /// Who was moved and does not have it in force yet.
    pub(super) behind_count: u32,
    /// What speaks for or against it.
    pub(super) evidence: Evidence,
    /// Counters when watching began, and now.
    pub(super) start: Sample,
    pub(super) now: Sample,
}

impl Watches {
    /// What is shown of a rollout.
    pub(crate) fn seen(&self, rollout: &RolloutName) -> Option<Seen> {
        self.0.get(rollout).and_then(|watch| watch.seen)
    }

    /// Forgets those that are not running.
    pub(super) fn keep(&mut self, is_running: impl Fn(&RolloutName) -> bool) {
        self.0.retain(|name, _| is_running(name));
    }

    /// Looks at a rollout if it is time to. Whoever sees it for the first time in a stage begins to watch.
    pub(super) fn look(
        &mut self,
        snapshot: &Snapshot,
        reports: &Reports,
        rollout: &RolloutRecord,
        members: &[Arc<RolloutMemberRecord>],
    ) -> Option<Sight> {
        let (now, stage) = (reports.now(), (rollout.progress.phase, rollout.progress.wave, rollout.moved_count));
        let Some(watch) = self.0.get_mut(&rollout.name).filter(|watch| watch.stage == stage) else {
            let start = Sample::of(snapshot, reports, members);
            let watch = Watch { began: now, looked: now, stage, start, seen: None };
            self.0.insert(rollout.name.clone(), watch);
            return None;
        };
        if now < watch.looked + LOOK_INTERVAL_MS {
            return None;
        }
        watch.looked = now;
        let sample = Sample::of(snapshot, reports, members);
        let (evidence, behind_count) = evidence(snapshot, reports, rollout, members, (&watch.start, &sample));
        let watched_ms = now - watch.began;
        watch.seen = Some(Seen { watched_ms, behind_count, health: evidence.health() });
        Some(Sight { watched_ms, behind_count, evidence, start: watch.start.clone(), now: sample })
    }
}

/// What is known of everybody, and how many of those moved do not have it in force.
fn evidence(
    snapshot: &Snapshot,
    reports: &Reports,
    rollout: &RolloutRecord,
    members: &[Arc<RolloutMemberRecord>],
    (start, now): (&Sample, &Sample),
) -> (Evidence, u32) {
    let (mut evidence, mut behind_count) = (Evidence::default(), 0);
    let mut nodes: BTreeMap<&NodeName, &MovedRecord> = BTreeMap::new();
    for (member, moved) in members.iter().filter_map(|member| Some((member, member.moved.as_ref()?))) {
        let Some(subject) = snapshot.subjects.get(&member.subject) else { continue };
        let is_there = snapshot.workloads.contains_key(&member.subject) || is_node(snapshot, member);
        if !is_there || !moved.heard {
            continue; // It is gone, or its node was down already: that says nothing.
        }
        let first = nodes.entry(member.subject.node()).or_insert(moved);
        if moved.at_ms < first.at_ms {
            *first = moved;
        }
        let node = reports.get(&AgentId::node(member.subject.node()));
        let is_silent = reports.is_silent(&AgentId::node(member.subject.node()));
        behind_count += u32::from(is_silent || !is_in_force(snapshot, &member.subject, node));
        evidence.moved.push(MovedSigns {
            subject: member.subject.clone(),
            trouble: trouble_of(snapshot, rollout, moved, subject, node),
            before: moved.signs,
            now: now.subject_since(start, &member.subject),
        });
    }
    for (node, moved) in &nodes {
        evidence.nodes_before.add(&moved.node);
        evidence.nodes_now.add(&now.node_since(start, node).unwrap_or_default());
        evidence.rejections.extend(rejection(reports, node, moved).map(|reason| ((*node).clone(), reason)));
    }
    let others: BTreeSet<&NodeName> =
        members.iter().map(|it| it.subject.node()).filter(|node| !nodes.contains_key(node)).collect();
    for errors in others.iter().filter_map(|node| now.node_since(start, node)) {
        evidence.others_now.get_or_insert_with(NodeErrors::default).add(&errors);
    }
    evidence.others_loss = others_loss(members, now);
    (evidence, behind_count)
}

fn is_node(snapshot: &Snapshot, member: &RolloutMemberRecord) -> bool {
    let node = member.subject.node();
    member.subject == persona_core::ids::SubjectId::Node(node.clone())
        && snapshot.agents.contains_key(&AgentId::node(node))
}

/// Why a node rejects the state that moved somebody there, if it does.
fn rejection(reports: &Reports, node: &NodeName, moved: &MovedRecord) -> Option<String> {
    let live = reports.get(&AgentId::node(node))?;
    let rejected = live.rejected.as_ref()?;
    let is_of_this = rejected.generation >= moved.generation && live.applied < rejected.generation;
    is_of_this.then(|| rejected.reason.clone())
}

fn others_loss(members: &[Arc<RolloutMemberRecord>], now: &Sample) -> Option<f32> {
    let others = members.iter().filter(|member| member.moved.is_none());
    let losses: Vec<f32> = others.filter_map(|it| now.subjects.get(&it.subject)?.loss).collect();
    (!losses.is_empty()).then(|| losses.iter().sum::<f32>() / losses.len() as f32)
}
