//! Sources of content: which of them an edge shall measure the way to, and what it measured.
//!
//! What edges measured stands in their records, and changes there only when it is clearly another value: decisions rest on it, also
//! those right after a start of the manager.

use std::collections::{BTreeMap, BTreeSet};

use persona_core::content::{CONTENT_COUNT_MAX, ContentSource, kept};
use persona_core::ids::{GroupName, PersonaName, PoolName};
use persona_core::wire::contents::{ContentRtts, Contents};

use crate::context::Context;
use crate::error::Refusal;
use crate::rollouts;
use crate::store::{AgentDetails, AgentId, AgentRecord, Draft, EdgeDetails, Snapshot};

/// What an edge shall measure the way to. Places are left out: they are judged by distance.
pub(crate) fn for_edge(snapshot: &Snapshot, edge: &AgentId) -> Contents {
    let Some(details) = snapshot.agents.get(edge).and_then(|agent| agent.edge()) else { return Contents::default() };
    let mut contents: Vec<ContentSource> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut add = |source: &ContentSource| {
        if source.is_measured() && seen.insert(source.to_string()) {
            contents.push(source.clone());
        }
    };
    // Somebody waits for what a request names; both in an order that stays.
    snapshot.subjects.values().filter_map(|record| record.wanted_content()).for_each(&mut add);
    of_personas(snapshot, &details.group).values().for_each(|source| add(source));
    let left_out_count = contents.len().saturating_sub(CONTENT_COUNT_MAX) as u32;
    contents.truncate(CONTENT_COUNT_MAX);
    Contents { contents, left_out_count }
}

/// The contents of personas that somebody may wear and that a group may carry, by persona and version.
fn of_personas<'a>(snapshot: &'a Snapshot, group: &GroupName) -> BTreeMap<(&'a PersonaName, u32), &'a ContentSource> {
    let named: BTreeSet<&PersonaName> = snapshot.bindings().flat_map(|binding| binding.spec.named_personas()).collect();
    let pools: BTreeSet<&PoolName> =
        snapshot.pools().filter(|pool| pool.spec.group == *group).map(|pool| &pool.metadata.name).collect();
    let in_force = snapshot.personas().map(|entry| (entry.version, entry.document));
    let coming = rollouts::candidates(snapshot).map(|(step, document)| (step.to, document));
    let mut contents = BTreeMap::new();
    for (version, document) in in_force.chain(coming) {
        let Some(network) = &document.spec.network else { continue };
        let is_carried = network.egress.pools.iter().any(|pool| pools.contains(pool));
        if let Some(source) = network.content().filter(|_| is_carried && named.contains(&document.metadata.name)) {
            contents.insert((&document.metadata.name, version), source);
        }
    }
    contents
}

/// Notes what an edge measured, if that is clearly something else than what stands in its record. What it was not to measure is left
/// out without words: it may not know yet.
pub(crate) async fn note(context: &Context, id: &AgentId, measured: &ContentRtts) -> Result<(), Refusal> {
    let snapshot = context.store.snapshot();
    let Some(edge) = snapshot.agents.get(id).and_then(|agent| agent.edge()) else { return Ok(()) };
    if measured.is_empty() && edge.content_rtt_us.is_empty() {
        return Ok(());
    }
    let asked: BTreeSet<String> = for_edge(&snapshot, id).contents.iter().map(ContentSource::to_string).collect();
    let measured = measured.iter().filter(|(source, _)| asked.contains(*source));
    let measured: ContentRtts = measured.map(|(source, us)| (source.clone(), *us)).collect();
    if kept(&edge.content_rtt_us, &measured).is_none() {
        return Ok(());
    }
    let id = id.clone();
    let note = move |draft: &mut Draft| {
        let Some(agent) = draft.state().agents.get(&id).cloned() else { return Ok(()) };
        let Some(edge) = agent.edge() else { return Ok(()) };
        if let Some(content_rtt_us) = kept(&edge.content_rtt_us, &measured) {
            let details = AgentDetails::Edge(EdgeDetails { content_rtt_us, ..edge.clone() });
            draft.put(AgentRecord { details, ..(*agent).clone() });
        }
        Ok(())
    };
    context.store.change(note).await
}
