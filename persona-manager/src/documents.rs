//! Stores documents as immutable versions, and refuses what contradicts the others or is in use.

use std::collections::BTreeSet;

use persona_core::activate::RuleSet;
use persona_core::capacity::Severity;
use persona_core::document::{Document, Kind, PoolDocument};
use persona_core::label_selector::LabelSelector;
use persona_core::wire::api::{Applied, AppliedDocument, ProblemPart};
use serde_json::json;

use crate::error::{Kind as RefusalKind, Refusal};
use crate::rollouts;
use crate::store::{DocumentRecord, Draft, Snapshot, VersionRecord};
use crate::tasks::assignment::Assigner;
use crate::tasks::reports::Reports;
use crate::tasks::room::findings;
use crate::tasks::wear::personas_of;
use crate::versions::{self, Expected};

/// What becomes of documents that were changed since they were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conflicts {
    /// They are refused.
    Refuse,
    /// They go over what is there.
    Override,
}

/// Stores documents; each that is what it was stays as it is.
pub(crate) fn apply(
    draft: &mut Draft,
    reports: &Reports,
    documents: &[Document],
    conflicts: Conflicts,
) -> Result<Applied, Refusal> {
    let mut seen = BTreeSet::new();
    for document in documents {
        if !seen.insert((document.kind(), document.name())) {
            let detail = format!("{} {} is given twice in one call", document.kind(), document.name());
            return Err(Refusal::invalid(detail));
        }
    }
    if conflicts == Conflicts::Refuse {
        documents.iter().try_for_each(|document| versions::check_applied(draft.state(), document))?;
    }
    let mut results = Vec::new();
    for document in documents {
        results.push(store(draft, document)?);
    }
    let state = draft.state().clone();
    check_pools(&state)?;
    check_rules(&state)?;
    let mut refusals = Vec::new();
    for (document, result) in documents.iter().zip(&mut results) {
        result.warnings.extend(dangling(&state, document));
        // What is stored already was let in; only what changes is checked.
        let findings = if result.outcome == "unchanged" { Vec::new() } else { findings(&state, reports, document) };
        for finding in findings {
            match finding.severity {
                Severity::Warning => result.warnings.push(format!("{}: {}", finding.path, finding.message)),
                Severity::Refusal => {
                    let path = format!("{} {}: {}", document.kind(), document.name(), finding.path);
                    refusals.push(ProblemPart::new(path, finding.message));
                }
            }
        }
    }
    match refusals.first() {
        None => Ok(Applied { results }),
        Some(first) => Err(no_room(format!("there is no room for that: {}: {}", first.path, first.detail), refusals)),
    }
}

/// What a call deletes beside what it stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pruning {
    /// Documents with these labels that are not among those of the call.
    pub selector: LabelSelector,
    /// How many the author has seen that these are. None: only say how many.
    pub count: Option<usize>,
}

/// Deletes what has the labels and is not among `kept`: what names others first, so that nothing is in use when its turn comes.
pub(crate) fn prune(
    draft: &mut Draft,
    assigner: &Assigner,
    kept: &[Document],
    pruning: &Pruning,
) -> Result<Vec<AppliedDocument>, Refusal> {
    let is_kept = |kind, name: &str| kept.iter().any(|document| (document.kind(), document.name()) == (kind, name));
    let order = [Kind::Binding, Kind::Persona, Kind::EgressPool];
    let selected = order.into_iter().flat_map(|kind| {
        let live = draft.state().latest(kind).filter(|version| pruning.selector.matches(&version.labels()));
        let gone = live.filter(move |version| !is_kept(kind, &version.name));
        gone.map(move |version| (kind, version.name.clone(), version.version)).collect::<Vec<_>>()
    });
    let selected: Vec<(Kind, String, u32)> = selected.collect();
    if pruning.count.is_some_and(|count| count != selected.len()) {
        let names: Vec<String> = selected.iter().map(|(kind, name, _)| format!("{kind} {name}")).collect();
        let detail = format!(
            "{} documents would be deleted and not {}: {}; look at them with dryRun first",
            selected.len(),
            pruning.count.unwrap_or_default(),
            names.join(", ")
        );
        return Err(Refusal::conflict(detail));
    }
    let (mut results, mut last) = (Vec::new(), Kind::Binding);
    for (kind, name, version) in selected {
        if kind != last {
            // Who wore something by what is gone wears it no more. Documents of one kind do not name each other.
            assigner.dress(draft);
            last = kind;
        }
        delete(draft, kind, &name, &Expected::Any)?;
        let (outcome, resource_version, warnings) = ("deleted".to_owned(), String::new(), Vec::new());
        results.push(AppliedDocument { kind: kind.to_string(), name, outcome, version, resource_version, warnings });
    }
    Ok(results)
}

/// There is no room for what was asked for.
pub(crate) fn no_room(detail: String, parts: Vec<ProblemPart>) -> Refusal {
    Refusal::new(RefusalKind::NoRoom, detail).with_parts(parts)
}

/// Makes an older version's content a new version. Returns the version in force.
pub(crate) fn roll_back(
    draft: &mut Draft,
    (kind, name): (Kind, &str),
    to: Option<u32>,
    expected: &Expected,
) -> Result<u32, Refusal> {
    let record = existing(draft.state(), kind, name)?;
    expected.check(draft.state(), kind, name)?;
    let latest = record.latest;
    let to = match to {
        Some(to) => to,
        // A number may be of a version that was rolled out and taken back: that was never in force for everybody.
        None if latest > 1 => record.before.unwrap_or(latest - 1),
        None => return Err(Refusal::conflict(format!("{kind} {name} has one version only, there is none before it"))),
    };
    let Some(version) = draft.state().version(kind, name, to).cloned() else {
        return Err(Refusal::not_found(format!("{kind} {name} has no version {to}; it has 1 to {latest}")));
    };
    let Some(document) = version.parsed() else {
        let detail = format!("version {to} of {kind} {name} is not valid in this release: apply it with changes");
        return Err(Refusal::conflict(detail));
    };
    let stored = store(draft, document)?;
    check_pools(draft.state())?;
    check_rules(draft.state())?;
    Ok(stored.version)
}

/// Deletes a document that nothing needs. Its versions stay as history.
pub(crate) fn delete(draft: &mut Draft, kind: Kind, name: &str, expected: &Expected) -> Result<(), Refusal> {
    let record = existing(draft.state(), kind, name)?;
    expected.check(draft.state(), kind, name)?;
    rollouts::check_free(draft.state(), kind, name)?;
    let users = users(draft.state(), kind, name);
    if !users.is_empty() {
        let detail = format!("{kind} {name} is in use: {}; change that first", users.join("; "));
        return Err(Refusal::new(RefusalKind::InUse, detail));
    }
    draft.put(DocumentRecord { deleted: true, ..record.clone() });
    let message = format!("{kind} {name} was deleted at version {}", record.latest);
    let before = draft.state().version(kind, name, record.latest).map(|version| version.digest.clone());
    let details = json!({ "version": record.latest, "before": before, "after": null });
    draft.event("document.deleted", about(kind, name), draft.actor(), message, details);
    Ok(())
}

/// A document that is not deleted, or the refusal.
pub(crate) fn existing(snapshot: &Snapshot, kind: Kind, name: &str) -> Result<DocumentRecord, Refusal> {
    let found = snapshot.document(kind, name).cloned();
    found.ok_or_else(|| Refusal::not_found(format!("there is no {kind} named {name}")))
}

fn about(kind: Kind, name: &str) -> String {
    match kind {
        Kind::Persona => format!("persona/{name}"),
        Kind::Binding => format!("binding/{name}"),
        Kind::EgressPool => format!("egress-pool/{name}"),
    }
}

fn store(draft: &mut Draft, document: &Document) -> Result<AppliedDocument, Refusal> {
    let (kind, name, digest) = (document.kind(), document.name().to_owned(), document.digest());
    let before = draft.state().documents.get(&(kind, name.clone())).cloned();
    let live = before.as_ref().filter(|record| !record.deleted);
    let current = live.and_then(|record| draft.state().version(kind, &name, record.latest)).cloned();
    let outcome = match &current {
        Some(current) if current.digest == digest => "unchanged",
        Some(_) => "updated",
        None => "created",
    };
    let mut version = before.as_ref().map_or(0, |record| record.latest);
    if outcome != "unchanged" {
        rollouts::check_free(draft.state(), kind, &name)?;
        version = before.as_ref().map_or(0, |record| record.latest.max(record.given)) + 1;
        let vni = vni_of(draft, kind, before.as_deref())?;
        let message = format!("{kind} {name} version {version} was {outcome}");
        let old = current.as_ref().map(|current| &current.digest);
        let details = json!({ "version": version, "digest": digest, "before": old, "after": digest });
        draft.event(&format!("document.{outcome}"), about(kind, &name), draft.actor(), message, details);
        let in_force = before.as_ref().map(|record| record.latest).filter(|latest| *latest > 0);
        draft.put(DocumentRecord {
            kind,
            name: name.clone(),
            latest: version,
            given: version,
            before: in_force,
            deleted: false,
            vni,
        });
        draft.put(VersionRecord {
            kind,
            name: name.clone(),
            version,
            digest,
            created_ms: draft.now_ms(),
            document: document.to_json(),
            parsed: Default::default(),
        });
    }
    let resource_version = versions::current(draft.state(), kind, &name).unwrap_or_default();
    let (outcome, warnings) = (outcome.to_owned(), document.warnings());
    Ok(AppliedDocument { kind: kind.to_string(), name, outcome, version, resource_version, warnings })
}

fn vni_of(
    draft: &mut Draft,
    kind: Kind,
    before: Option<&DocumentRecord>,
) -> Result<Option<persona_core::ids::Vni>, Refusal> {
    match (kind, before.and_then(|record| record.vni)) {
        (Kind::Persona, None) => draft.next_vni().map(Some).map_err(|error| Refusal::conflict(error.to_string())),
        (_, known) => Ok(known),
    }
}

/// An address must be in one pool only, and be no node's or edge's own.
fn check_pools(snapshot: &Snapshot) -> Result<(), Refusal> {
    let pools: Vec<&PoolDocument> = snapshot.pools().collect();
    for (index, pool) in pools.iter().enumerate() {
        let name = &pool.metadata.name;
        for range in &pool.spec.addresses {
            let overlaps = |other: &&&PoolDocument| other.spec.addresses.iter().any(|it| it.overlaps(range));
            if let Some(other) = pools[..index].iter().find(overlaps) {
                let detail = format!(
                    "pools {} and {name} overlap in {range}: an egress address belongs to one pool",
                    other.metadata.name
                );
                return Err(Refusal::conflict(detail));
            }
            if let Some(agent) = snapshot.agents.values().find(|agent| range.contains(agent.address)) {
                let detail = format!(
                    "pool {name} holds {}, which is the underlay address of {}: an egress address must not be configured anywhere",
                    agent.address, agent.id
                );
                return Err(Refusal::conflict(detail));
            }
        }
        check_next_hop6(snapshot, pool, &pools[..index])?;
    }
    Ok(())
}

/// An IPv6 next hop is answered for by one group and is nobody's own.
fn check_next_hop6(snapshot: &Snapshot, pool: &PoolDocument, earlier: &[&PoolDocument]) -> Result<(), Refusal> {
    let Some(next_hop) = pool.spec.next_hop6 else { return Ok(()) };
    let name = &pool.metadata.name;
    let is_shared = |other: &&&PoolDocument| {
        other.spec.next_hop6 == Some(next_hop)
            && other.spec.group != pool.spec.group
            && !next_hop.is_unicast_link_local()
    };
    if let Some(other) = earlier.iter().find(is_shared) {
        return Err(Refusal::conflict(format!(
            "pools {} and {name} have the same nextHop6 {next_hop} and different edge groups: one group answers for it",
            other.metadata.name
        )));
    }
    match snapshot.agents.values().find(|agent| agent.address == next_hop) {
        None => Ok(()),
        Some(agent) => Err(Refusal::conflict(format!(
            "nextHop6 {next_hop} of pool {name} is the underlay address of {}: write one that is nobody's own",
            agent.id
        ))),
    }
}

/// The rules of a binding's personas are judged together: there is a bound to how much they may compare.
fn check_rules(snapshot: &Snapshot) -> Result<(), Refusal> {
    let personas = personas_of(snapshot);
    for binding in snapshot.bindings() {
        let named = binding.spec.named_personas().into_iter().filter_map(|name| {
            let (version, document) = personas.get(name)?;
            Some((name.clone(), *version, &document.spec))
        });
        if let Err(error) = RuleSet::new(named) {
            return Err(Refusal::invalid(format!("binding {}: {error}", binding.metadata.name)));
        }
    }
    Ok(())
}

/// Names that a document mentions and that do not exist.
fn dangling(snapshot: &Snapshot, document: &Document) -> Vec<String> {
    let missing = |kind, name: &str| snapshot.document(kind, name).is_none();
    match document {
        Document::Persona(persona) => {
            let pools = persona.spec.network.iter().flat_map(|network| &network.egress.pools);
            let missing = pools.filter(|pool| missing(Kind::EgressPool, pool.as_str()));
            missing.map(|pool| format!("egress pool {pool} does not exist yet; nothing is leased from it")).collect()
        }
        Document::Binding(binding) => {
            let named = binding.spec.named_personas().into_iter();
            let missing = named.filter(|persona| missing(Kind::Persona, persona.as_str()));
            missing.map(|persona| format!("persona {persona} does not exist yet; nobody wears it")).collect()
        }
        Document::EgressPool(_) => Vec::new(),
    }
}

/// Who needs a document.
fn users(snapshot: &Snapshot, kind: Kind, name: &str) -> Vec<String> {
    match kind {
        Kind::Binding => Vec::new(),
        Kind::Persona => {
            let names = |it: &&persona_core::document::BindingDocument| {
                it.spec.named_personas().iter().any(|persona| persona.as_str() == name)
            };
            let bindings = snapshot.bindings().filter(names);
            let bindings = bindings.map(|binding| format!("binding {} names it", binding.metadata.name));
            let wears = |record: &crate::store::SubjectRecord| {
                record.sections.values().any(|section| section.persona.as_str() == name)
                    || record.manual.as_ref().is_some_and(|manual| manual.value.as_str() == name)
                    || record.triggered.as_ref().is_some_and(|triggered| triggered.value.as_str() == name)
            };
            let wearers = snapshot.subjects.values().filter(|record| wears(record));
            let switching =
                rollouts::switching_to(snapshot, name).map(|rollout| format!("rollout {rollout} switches to it"));
            let scheduled = snapshot.schedules.values().filter(|record| record.persona.as_str() == name);
            let scheduled =
                scheduled.map(|record| format!("schedule {} of {} puts it on", record.name, record.subject));
            bindings
                .chain(switching)
                .chain(scheduled)
                .chain(wearers.map(|record| format!("{} wears it", record.subject)))
                .collect()
        }
        Kind::EgressPool => {
            let names = |spec: &persona_core::document::PersonaSpec| {
                spec.network.iter().any(|network| network.egress.pools.iter().any(|pool| pool.as_str() == name))
            };
            let personas = snapshot.personas().filter(|entry| names(&entry.document.spec));
            let personas = personas.map(|entry| format!("persona {} names it", entry.document.metadata.name));
            let coming = rollouts::candidates(snapshot).filter(|(_, document)| names(&document.spec));
            let coming = coming.map(|(step, _)| format!("persona {} version {} names it", step.persona, step.to));
            let leases = snapshot.leases.values().filter(|lease| lease.pool.as_str() == name);
            personas
                .chain(coming)
                .chain(leases.map(|lease| format!("lease {} of {} is from it", lease.id, lease.subject)))
                .collect()
        }
    }
}
