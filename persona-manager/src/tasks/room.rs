//! Room for what people are about to commit, gathered from a draft and the reports for [`persona_core::capacity`].

use std::collections::{BTreeMap, BTreeSet};

use persona_common::maps;
use persona_core::capacity::{Finding, Limits, NodeRoom, PoolRoom, Severity, check_group, check_node, check_pools};
use persona_core::document::{Document, Network, PersonaDocument};
use persona_core::ids::{GroupName, NodeName, SubjectId};
use persona_core::lease::Need;
use persona_core::wire::agent::Role;

use super::facts::{Facts, space_of};
use super::grant::held_pool;
use super::reports::Reports;
use crate::store::{AgentId, LeaseRecord, Snapshot, SubjectRecord};

/// What IPv4 or IPv6, UDP and Geneve add to an inner packet, bytes (RFC 8926 §3.4).
const ENCAPSULATION: [u32; 2] = [36, 56];
/// What WireGuard adds (outer IP and UDP headers, its own header and tag), likewise.
const ENCRYPTION: [u32; 2] = [60, 80];

/// Classes that an HTB qdisc has for subjects: its minors without the root's and the default's.
const CLASS_COUNT_MAX: u32 = 0xfffe;

/// Sizes of the data plane's tables.
const LIMITS: Limits = Limits {
    blocks_per_lease: maps::BLOCKS_PER_LEASE_MAX as u32,
    subjects_per_node: maps::SUBJECT_COUNT_MAX,
    leases_per_node: maps::LEASE_COUNT_MAX,
    // A slot per port and protocol.
    ports_per_node: maps::SLOT_COUNT_DEFAULT / 3,
    // A queue has more minors than a node has subjects.
    classes_per_node: if CLASS_COUNT_MAX < maps::SUBJECT_COUNT_MAX { CLASS_COUNT_MAX } else { maps::SUBJECT_COUNT_MAX },
    personas: maps::PERSONA_COUNT_MAX,
    addresses_per_group: maps::ADDRESS_COUNT_MAX,
    cells_per_group: maps::EDGE_BLOCK_COUNT_MAX,
};

/// What there is no room for, if `document` (already in the draft) is committed.
pub(crate) fn findings(snapshot: &Snapshot, reports: &Reports, document: &Document) -> Vec<Finding> {
    match document {
        Document::Persona(persona) => of_persona(snapshot, reports, persona),
        Document::EgressPool(pool) => of_group(snapshot, &pool.spec.group),
        Document::Binding(_) => Vec::new(),
    }
}

/// What there is no room for on a subject's node, if it wears `persona` from now on.
pub(crate) fn findings_for(
    snapshot: &Snapshot,
    reports: &Reports,
    persona: &PersonaDocument,
    subject: &SubjectId,
) -> Vec<Finding> {
    let Some(network) = &persona.spec.network else { return Vec::new() };
    let wearers = Wearers { count: 1, ..Wearers::default() };
    let node = node_room(snapshot, reports, subject.node(), (network, has_ipv6_carriers(snapshot, network)), wearers);
    // Its leases are in the draft already and counted.
    check_node(network, 0, 0, &node, &LIMITS)
}

fn of_persona(snapshot: &Snapshot, reports: &Reports, persona: &PersonaDocument) -> Vec<Finding> {
    let Some(network) = &persona.spec.network else { return Vec::new() };
    let facts = Facts::of(snapshot, reports);
    let name = &persona.metadata.name;
    let wears = |record: &&SubjectRecord| record.target.as_ref().is_some_and(|target| target.persona == *name);
    let mut wearers: BTreeMap<NodeName, Wearers> = BTreeMap::new();
    for record in snapshot.subjects.values().map(|record| &**record).filter(wears) {
        let of_node = wearers.entry(record.subject.node().clone()).or_default();
        of_node.count += 1;
        of_node.fresh += u32::from(held_pool(snapshot, &facts, &record.subject, persona).is_none());
        let has_class = record.item.as_ref().is_some_and(|item| item.needs_class());
        let is_rated = persona.spec.qos.as_ref().is_some_and(|qos| qos.egress_rate.is_some());
        let gets_class = is_rated || network.impair.as_ref().is_some_and(|it| it.rate.is_some() || it.needs_netem());
        of_node.newly_rated += u32::from(gets_class && !has_class);
    }
    let pools = pool_rooms(&facts, network);
    let fresh = wearers.values().map(|of_node| of_node.fresh).sum();
    let mut findings = check_pools(network, &pools, fresh, &LIMITS);
    let needs = pools.iter().find_map(|pool| Some((pool, pool.needs.as_ref()?)));
    let leases_each = needs.map_or(0, |(_, needs)| needs.len() as u32);
    let ports_each = needs.map_or(0, |(pool, needs)| ports_of(pool, needs));
    let has_ipv6_carriers = has_ipv6_carriers(snapshot, network);
    for node in snapshot.agents.keys().filter(|id| id.role == Role::Node) {
        let Ok(node) = node.name.parse::<NodeName>() else { continue };
        let of_node = wearers.get(&node).copied().unwrap_or_default();
        let room = node_room(snapshot, reports, &node, (network, has_ipv6_carriers), of_node);
        findings.extend(check_node(network, ports_each, leases_each, &room, &LIMITS));
    }
    let count = snapshot.personas().count() as u32;
    if count > LIMITS.personas {
        let (most, missing) = (LIMITS.personas, count - LIMITS.personas);
        let message = format!("there would be {count} personas, traffic is counted for {most}: {missing} are too many");
        findings.push(Finding { severity: Severity::Warning, path: "metadata.name", message });
    }
    findings
}

#[derive(Default, Clone, Copy)]
struct Wearers {
    count: u32,
    fresh: u32,
    newly_rated: u32,
}

fn ports_of(pool: &PoolRoom, needs: &[Need]) -> u32 {
    let ports = needs.iter().map(|need| match need {
        Need::Blocks(count) => count * pool.block_size,
        // Nothing is translated, so no slot is taken.
        Need::Address | Need::Prefix => 0,
    });
    ports.sum()
}

fn pool_rooms(facts: &Facts, network: &Network) -> Vec<PoolRoom> {
    let known =
        network.egress.pools.iter().filter_map(|name| Some((name, facts.pools.get(name)?, facts.spaces.get(name)?)));
    let room = |(name, pool, space): (
        &persona_core::ids::PoolName,
        &persona_core::assign::PoolFacts,
        &persona_core::lease::FreeSpace,
    )| {
        let space = space.space();
        let needs = pool.needs(network);
        let free_for = needs.iter().flatten().map(|need| match need {
            Need::Blocks(count) => space.free_lease_count(*count, &facts.occupancy),
            Need::Address => pool.free_addresses,
            Need::Prefix => pool.free_prefixes,
        });
        PoolRoom {
            name: name.clone(),
            blocks_per_address: space.blocks_per_address(),
            block_size: 1 << space.block_bits,
            free_for: free_for.min().unwrap_or(0),
            needs,
        }
    };
    known.map(room).collect()
}

fn node_room(
    snapshot: &Snapshot,
    reports: &Reports,
    name: &NodeName,
    (network, has_ipv6_carriers): (&Network, bool),
    wearers: Wearers,
) -> NodeRoom {
    let id = AgentId::node(name);
    let held: Vec<&LeaseRecord> =
        snapshot.leases_on(name).filter(|it| it.state.is_at_edges()).map(|it| &**it).collect();
    let ports = held.iter().filter(|lease| !lease.configured).flat_map(|lease| lease.space.port_ranges());
    let rated = snapshot.subjects_on(name).filter(|it| it.item.as_ref().is_some_and(|item| item.needs_class()));
    NodeRoom {
        name: name.clone(),
        underlay_mtu: reports.get(&id).and_then(|live| live.underlay_mtu),
        encapsulation: encapsulation(snapshot, &id, (network, has_ipv6_carriers)),
        ports: ports.map(|(first, last)| u32::from(last - first) + 1).sum(),
        leases: held.len() as u32,
        subjects: snapshot.subjects_on(name).filter(|it| it.target.is_some()).count() as u32,
        classes: rated.count() as u32,
        wearers: wearers.count,
        fresh: wearers.fresh,
        newly_rated: wearers.newly_rated,
    }
}

/// Whether an edge that carries the persona is reached over IPv6.
fn has_ipv6_carriers(snapshot: &Snapshot, network: &Network) -> bool {
    let groups: BTreeSet<&GroupName> = snapshot
        .pools()
        .filter(|pool| network.egress.pools.contains(&pool.metadata.name))
        .map(|pool| &pool.spec.group)
        .collect();
    let carriers = snapshot.edges().filter(|agent| agent.edge().is_some_and(|edge| groups.contains(&edge.group)));
    carriers.into_iter().any(|agent| agent.address.is_ipv6())
}

/// What the outer headers take: those of IPv6 where the node or an edge that carries the persona is reached over it.
fn encapsulation(snapshot: &Snapshot, node: &AgentId, (network, has_ipv6_carriers): (&Network, bool)) -> u32 {
    let is_reached_so = snapshot.agents.get(node).is_some_and(|agent| agent.address.is_ipv6());
    let is_ipv6 = usize::from(is_reached_so || has_ipv6_carriers);
    ENCAPSULATION[is_ipv6] + if network.encrypts() { ENCRYPTION[is_ipv6] } else { 0 }
}

fn of_group(snapshot: &Snapshot, group: &GroupName) -> Vec<Finding> {
    let spaces: Vec<_> =
        snapshot.pools().filter(|pool| pool.spec.group == *group).map(|pool| space_of(&pool.spec)).collect();
    let addresses = spaces.iter().map(|space| space.addresses.len() as u32).sum();
    let cells = |space: &persona_core::lease::PoolSpace| {
        space.addresses.len() as u64 * (65_536 >> space.block_bits) + u64::from(space.prefix_count())
    };
    check_group(addresses, spaces.iter().map(cells).sum(), &LIMITS)
}
