//! Totals of personas over all nodes: what each node has of them, by what its wearers have used, as
//! [`persona_core::fleet_share`] divides it. Shares stand in the nodes' records, so that they outlive this process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use persona_core::divide::Demand;
use persona_core::fleet_share::{Part, Share, Standing, divide_fleet};
use persona_core::ids::{NodeName, PersonaName, SubjectId};
use persona_core::units::BitRate;
use persona_core::wire::agent::Counters;
use serde_json::json;

use super::reports::Reports;
use crate::store::{AgentDetails, AgentId, AgentRecord, Draft, NodeDetails, NodeShare, Snapshot};

/// A node that was silent for longer counts as gone: others get what it had.
const GIVEN_UP_MS: u64 = 60_000;

/// The shortest time that what wearers use is measured over, milliseconds.
const WINDOW_MS: u64 = 1_000;

/// What the wearers of each persona use on each node. In memory only.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    measured: BTreeMap<(PersonaName, NodeName), Measured>,
    /// Totals that are less than what they guarantee.
    overbooked: BTreeSet<PersonaName>,
}

/// Both directions, upwards first.
#[derive(Debug, Clone, Copy)]
struct Measured {
    /// Inner bytes at the window's start, and when that was.
    start: [u64; 2],
    since: u64,
    demand: [Demand; 2],
}

/// A persona's total and who has a share of it.
#[derive(Debug, Default)]
struct Total {
    egress_bps: Option<u64>,
    ingress_bps: Option<u64>,
    nodes: BTreeMap<NodeName, Wearers>,
}

#[derive(Debug, Default)]
struct Wearers {
    subjects: BTreeSet<SubjectId>,
    guaranteed_bps: u64,
}

/// Divides every total anew.
pub(super) fn divide(draft: &mut Draft, reports: &Reports, usage: &mut Usage) {
    let totals = totals(draft.state());
    usage.forget(&totals);
    if totals.is_empty() {
        return; // nor has any node a share
    }
    let nodes = nodes(draft.state());
    let mut shares: BTreeMap<&NodeName, BTreeMap<PersonaName, NodeShare>> = BTreeMap::new();
    for (persona, total) in &totals {
        usage.judge(draft, persona, total);
        let holders: Vec<(&NodeName, NodeShare)> = nodes
            .iter()
            .map(|(name, _, node)| (name, node.shares.get(persona).copied()))
            .filter_map(|(name, share)| {
                Some((name, share.or_else(|| total.nodes.get(name).map(|_| NodeShare::default()))?))
            })
            .collect();
        for (name, share) in divide_one(draft.state(), reports, usage, (persona, total), &holders) {
            if share != NodeShare::default() || total.nodes.contains_key(name) {
                shares.entry(name).or_default().insert(persona.clone(), share);
            }
        }
    }
    for (name, agent, node) in &nodes {
        let shares = shares.remove(name).unwrap_or_default();
        if node.shares != shares {
            let details = AgentDetails::Node(NodeDetails { shares, ..node.clone() });
            draft.put(AgentRecord { details, ..(**agent).clone() });
        }
    }
}

/// What each of these nodes has of one total now.
fn divide_one<'a>(
    snapshot: &Snapshot,
    reports: &Reports,
    usage: &mut Usage,
    (persona, total): (&PersonaName, &Total),
    holders: &[(&'a NodeName, NodeShare)],
) -> Vec<(&'a NodeName, NodeShare)> {
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for (name, share) in holders {
        let standing = standing(snapshot, reports, &AgentId::node(name));
        let wearers = total.nodes.get(*name);
        let demand = wearers.map(|wearers| usage.demand(reports, (persona, name), wearers, share));
        let [egress, ingress] = demand.unwrap_or([Demand::About(0); 2]);
        let part = |share: Share, demand, floor, total: Option<u64>| Part {
            share,
            standing,
            demand,
            floor,
            is_present: wearers.is_some() && total.is_some(),
        };
        let guaranteed_bps = wearers.map_or(0, |wearers| wearers.guaranteed_bps);
        up.push(part(share.egress, egress, guaranteed_bps, total.egress_bps));
        down.push(part(share.ingress, ingress, 0, total.ingress_bps));
    }
    let egress = divide_fleet(total.egress_bps.unwrap_or(0), &up);
    let ingress = divide_fleet(total.ingress_bps.unwrap_or(0), &down);
    let shares = egress.into_iter().zip(ingress).map(|(egress, ingress)| NodeShare { egress, ingress });
    holders.iter().map(|(name, _)| *name).zip(shares).collect()
}

/// Whether what a node was told last is in force there.
fn standing(snapshot: &Snapshot, reports: &Reports, id: &AgentId) -> Standing {
    if reports.silent_ms(id) > GIVEN_UP_MS {
        return Standing::GivenUp;
    }
    let published = snapshot.publications.get(id).map(|publication| publication.generation);
    match (reports.get(id), published) {
        (Some(live), Some(published)) if live.applied >= published => Standing::Acknowledged,
        _ => Standing::Waiting,
    }
}

impl Usage {
    fn forget(&mut self, totals: &BTreeMap<PersonaName, Total>) {
        let is_there = |persona: &PersonaName, node: &NodeName| {
            totals.get(persona).is_some_and(|total| total.nodes.contains_key(node))
        };
        self.measured.retain(|(persona, node), _| is_there(persona, node));
        self.overbooked.retain(|persona| totals.contains_key(persona));
    }

    /// What the wearers of a node want of a total.
    fn demand(
        &mut self,
        reports: &Reports,
        (persona, node): (&PersonaName, &NodeName),
        wearers: &Wearers,
        share: &NodeShare,
    ) -> [Demand; 2] {
        let key = (persona.clone(), node.clone());
        let known = self.measured.get(&key).copied();
        let told = [share.egress.told, share.ingress.told];
        let demand = known.map_or(told.map(unmeasured), |known| known.demand);
        let Some(live) = reports.get(&AgentId::node(node)) else { return demand };
        let elapsed_ms = known.map(|known| live.counted.saturating_sub(known.since));
        if elapsed_ms.is_some_and(|elapsed_ms| elapsed_ms < WINDOW_MS) {
            return demand;
        }
        let now = used_bytes(&live.counters, &wearers.subjects);
        let demand = match known.zip(elapsed_ms) {
            None => demand,
            Some((known, elapsed_ms)) => [0, 1].map(|way| {
                // Counters that went back, or wearers that came, tell nothing until the next window.
                let bytes = now[way].saturating_sub(known.start[way]);
                Demand::of_use(bytes.saturating_mul(8_000) / elapsed_ms, told[way])
            }),
        };
        self.measured.insert(key, Measured { start: now, since: live.counted, demand });
        demand
    }

    /// Tells once of a total that is less than what it guarantees.
    fn judge(&mut self, draft: &mut Draft, persona: &PersonaName, total: &Total) {
        let guaranteed_bps: u64 = total.nodes.values().map(|wearers| wearers.guaranteed_bps).sum();
        let Some(total_bps) = total.egress_bps.filter(|total_bps| guaranteed_bps > *total_bps) else {
            self.overbooked.remove(persona);
            return;
        };
        if !self.overbooked.insert(persona.clone()) {
            return;
        }
        let count: usize = total.nodes.values().map(|wearers| wearers.subjects.len()).sum();
        let message = format!(
            "{count} wearers of {persona} are guaranteed {} together, of a total of {} over all nodes: each has less; raise shared.egressRate or lower guaranteedRate",
            BitRate(guaranteed_bps),
            BitRate(total_bps)
        );
        let details = json!({ "guaranteedBps": guaranteed_bps, "totalBps": total_bps, "wearerCount": count });
        draft.event("qos.overbooked", format!("persona/{persona}"), "manager", message, details);
    }
}

/// What a node wants of which nothing is measured yet: what it has, with what [`divide_fleet`] gives beside what is used.
fn unmeasured(told: u64) -> Demand {
    if told == 0 { Demand::Everything } else { Demand::About(told / 3 * 2) }
}

/// Inner bytes of these subjects up and down.
fn used_bytes(counters: &Counters, subjects: &BTreeSet<SubjectId>) -> [u64; 2] {
    let of_wearers = counters.subjects.iter().filter(|it| subjects.contains(&it.subject));
    of_wearers.fold([0, 0], |[up, down], it| [up + it.traffic.egress_bytes, down + it.traffic.ingress_bytes])
}

/// Every total over all nodes that somebody wears, or that a node still has a share of. While versions of a persona differ, the
/// lowest total counts.
fn totals(snapshot: &Snapshot) -> BTreeMap<PersonaName, Total> {
    let mut totals: BTreeMap<PersonaName, Total> = BTreeMap::new();
    for item in snapshot.sharing().filter_map(|record| record.item.as_ref()) {
        let Some(shared) = item.qos.shared.as_ref().filter(|shared| !shared.scope.is_node()) else { continue };
        let total = totals.entry(shared.persona.clone()).or_default();
        let lower = |known: Option<u64>, new: Option<u64>| known.into_iter().chain(new).min();
        total.egress_bps = lower(total.egress_bps, shared.egress_bps);
        total.ingress_bps = lower(total.ingress_bps, shared.ingress_bps);
        let wearers = total.nodes.entry(item.subject.node().clone()).or_default();
        wearers.subjects.insert(item.subject.clone());
        wearers.guaranteed_bps += shared.guaranteed_bps.unwrap_or(0);
    }
    for node in snapshot.dividing().filter_map(|agent| agent.node()) {
        for persona in node.shares.keys() {
            totals.entry(persona.clone()).or_default();
        }
    }
    totals
}

fn nodes(snapshot: &Snapshot) -> Vec<(NodeName, Arc<AgentRecord>, NodeDetails)> {
    let nodes = snapshot
        .agents
        .values()
        .filter_map(|agent| Some((agent.id.name.parse().ok()?, Arc::clone(agent), agent.node()?.clone())));
    nodes.collect()
}
