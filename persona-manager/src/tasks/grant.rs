//! Leases for a decision: those that the subject holds and may go on with, else new ones.

use std::sync::Arc;

use persona_core::assign::{Pick, PoolFacts};
use persona_core::document::{Assign, Kind, Network, PersonaDocument};
use persona_core::ids::{LeaseId, PoolName, SubjectId};
use persona_core::lease::{LeaseState, Need};
use persona_core::wire::desired::AddressFamily;
use serde_json::json;

use super::facts::Facts;
use super::recovery;
use super::wear::Personas;
use crate::store::{Claim, Draft, LeaseRecord, NetworkTarget, Snapshot, SubjectRecord};

/// The first pool of a persona of which the subject holds every lease that it needs.
pub(super) fn held_pool<'a>(
    snapshot: &Snapshot,
    facts: &'a Facts,
    subject: &SubjectId,
    persona: &PersonaDocument,
) -> Option<&'a PoolName> {
    let network = persona.spec.network.as_ref()?;
    let mut pools = network.egress.pools.iter().filter_map(|name| facts.pools.get_key_value(name));
    let is_held = |(name, known): &(&PoolName, &PoolFacts)| {
        let needs = known.needs(network).unwrap_or_default();
        let has = |need: &Need| reusable_lease(snapshot, facts, subject, persona, name, *need).is_some();
        !needs.is_empty() && needs.iter().all(has)
    };
    pools.find(is_held).map(|(name, _)| name)
}

/// A lease that the subject holds under a persona and that still is what the persona asks for.
fn reusable_lease<'a>(
    snapshot: &'a Snapshot,
    facts: &Facts,
    subject: &SubjectId,
    persona: &PersonaDocument,
    pool: &PoolName,
    need: Need,
) -> Option<&'a Arc<LeaseRecord>> {
    let network = persona.spec.network.as_ref()?;
    let (known, space) = (facts.pools.get(pool)?, facts.spaces.get(pool)?.space());
    let is_configured = network.assign() == Assign::Configure;
    let fits = |lease: &&Arc<LeaseRecord>| {
        lease.persona == persona.metadata.name
            && lease.state.is_usable()
            && lease.pool == *pool
            && network.group().is_none_or(|group| *group == lease.group)
            && lease.group == known.group
            && lease.configured == is_configured
            && lease.encrypted == network.encrypts()
            && need.is_met_by(&lease.space, space.block_bits)
            && space.holds(&lease.space)
    };
    // One that is in use goes before one that is being published, and that before one that ends.
    let order = |lease: &&Arc<LeaseRecord>| match lease.state {
        LeaseState::Active => 0,
        LeaseState::Publishing => 1,
        _ => 2,
    };
    snapshot.leases_of(subject).filter(fits).min_by_key(order)
}

/// The leases that a subject shall use under a persona that was picked for it.
pub(super) fn target(
    draft: &mut Draft,
    facts: &mut Facts,
    personas: &Personas<'_>,
    before: &SubjectRecord,
    pick: &Pick,
) -> Option<NetworkTarget> {
    let (version, persona) = personas.get(&pick.persona)?;
    let network = persona.spec.network.as_ref()?;
    let needs = facts.pools.get(&pick.pool)?.needs(network)?;
    let mut target = NetworkTarget { persona: pick.persona.clone(), version: *version, lease: None, lease6: None };
    for need in needs {
        let lease = lease_for(draft, facts, persona, before, pick, need);
        match need.family() {
            AddressFamily::Ipv4 => target.lease = lease,
            AddressFamily::Ipv6 => target.lease6 = lease,
        }
    }
    let has_lease = target.leases().next().is_some();
    has_lease.then_some(target)
}

fn lease_for(
    draft: &mut Draft,
    facts: &mut Facts,
    persona: &PersonaDocument,
    before: &SubjectRecord,
    pick: &Pick,
    need: Need,
) -> Option<LeaseId> {
    let subject = &before.subject;
    let network = persona.spec.network.as_ref()?;
    if let Some(lease) = reusable_lease(draft.state(), facts, subject, persona, &pick.pool, need).cloned() {
        let (mtu, grace_ms) = (network.mtu(), network.grace_ms());
        if (lease.mtu, lease.grace_ms) != (mtu, grace_ms) {
            draft.put(LeaseRecord { mtu, grace_ms, ..(*lease).clone() });
        }
        return Some(lease.id);
    }
    // A new version may ask for more than there is; then the subject goes on with what it has.
    let held = before.target.as_ref().filter(|target| target.persona == pick.persona);
    let held = held.and_then(|target| target.lease_of(need.family()));
    // What shall be encrypted never goes on in clear, nor the other way around.
    let is_as_asked = |lease: &Arc<LeaseRecord>| lease.state.is_usable() && lease.encrypted == network.encrypts();
    // Nor goes on what a policy forbids.
    let labels = facts.labels_of(draft.state(), subject);
    let may_stay = |lease: &Arc<LeaseRecord>| is_as_asked(lease) && !facts.forbids(&labels, &lease.group);
    let held = held.filter(|id| draft.state().leases.get(id).is_some_and(may_stay));
    let kept = held.filter(|_| pick.is_stopgap);
    kept.or_else(|| grant(draft, facts, subject, network, pick, need)).or(held)
}

fn grant(
    draft: &mut Draft,
    facts: &mut Facts,
    subject: &SubjectId,
    network: &Network,
    pick: &Pick,
    need: Need,
) -> Option<LeaseId> {
    // What only stays may ask for more leases than its edges can hold.
    if !recovery::is_open(draft.state(), &pick.group) || !facts.has_lease_room(&pick.group) {
        return None;
    }
    let vni = draft.state().document(Kind::Persona, pick.persona.as_str())?.vni?;
    let quarantine_ms = draft.state().pool(&pick.pool)?.spec.quarantine().0;
    // The decision saw enough room; nothing was granted in between.
    let space = facts.take(&pick.pool, need)?;
    let lease = LeaseRecord {
        id: draft.next_lease_id(),
        subject: subject.clone(),
        persona: pick.persona.clone(),
        vni,
        group: pick.group.clone(),
        pool: pick.pool.clone(),
        space,
        configured: network.assign() == Assign::Configure,
        encrypted: network.encrypts(),
        mtu: network.mtu(),
        grace_ms: network.grace_ms(),
        quarantine_ms,
        generation: draft.generation(),
        fullness: Default::default(),
        claim: Claim { incarnation: draft.state().incarnation, state: draft.generation() },
        state: LeaseState::Publishing,
    };
    let message = format!("{subject} leases {} of pool {}", lease.space, lease.pool);
    draft.event("lease.granted", format!("lease/{}", lease.id), "manager", message, json!({ "subject": subject }));
    facts.hold(&lease);
    let id = lease.id;
    draft.grant_lease(lease);
    Some(id)
}
