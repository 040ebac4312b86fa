//! Who wears what: for one subject, the decision, its lease, and what follows for every section.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use persona_core::assign::{Activated, Candidate, Decision, GroupFacts, Pick, Question, choose};
use persona_core::compose::{Effective, Labels, Layer, LayeredPersona, compose, selector_matches, unbound_labels};
use persona_core::document::{BindingDocument, PersonaDocument, PersonaSpec, Section};
use persona_core::ids::{Capability, GroupName, LeaseId, PersonaName, SubjectId};
use persona_core::wire::agent::WorkloadKind;
use persona_core::wire::conditions::Conditions;

use super::cut;
use super::facts::Facts;
use super::grant::{held_pool, target};
use super::reports::Reports;
use super::standing::seat;
use super::tell::{note_change, sections, why_nothing};
use crate::rollouts::moved_to;
use crate::store::{AgentId, Draft, Snapshot, SubjectRecord};

/// Why a persona is worn whose activation was triggered.
const TRIGGERED: &str = "its activation was triggered";

/// A decision about one subject, with what it was made from.
pub(crate) struct Outfit {
    /// How the network section was decided.
    pub(crate) decision: Decision,
    /// What it wears, all layers together.
    pub(crate) effective: Arc<Composed>,
    /// Which bindings select it.
    pub(crate) bindings: Vec<String>,
    /// Every persona that it may wear.
    pub(crate) allowed: Vec<PersonaName>,
    /// What its node measured when it asked, of the path to the group that was picked.
    pub(crate) measured: Option<String>,
    /// Whether a policy forbids the group that carries it now.
    pub(super) is_evicted: bool,
}

/// What layers come to, with its digest.
#[derive(Debug, PartialEq)]
pub(crate) struct Composed {
    pub(crate) effective: Effective,
    pub(crate) digest: String,
}

/// What layers came to before: most subjects wear what others do. Versions never change, so what was made of them stays true.
#[derive(Debug, Default)]
pub(super) struct ComposedBefore(RefCell<BTreeMap<Vec<WornLayer>, Arc<Composed>>>);

/// A layer: who decided, the only section, the persona and its version.
type WornLayer = (Layer, Option<Section>, PersonaName, u32);

/// So many are remembered.
const COMPOSED_COUNT_MAX: usize = 4_096;

impl ComposedBefore {
    fn of(&self, layers: &[LayeredPersona<'_>]) -> Arc<Composed> {
        let layer = |it: &LayeredPersona<'_>| (it.layer, it.only, it.persona.clone(), it.version);
        let key: Vec<WornLayer> = layers.iter().map(layer).collect();
        let mut known = self.0.borrow_mut();
        if let Some(composed) = known.get(&key) {
            return Arc::clone(composed);
        }
        if known.len() >= COMPOSED_COUNT_MAX {
            known.clear();
        }
        let effective = compose(layers);
        let digest = effective.digest();
        let composed = Arc::new(Composed { effective, digest });
        known.insert(key, Arc::clone(&composed));
        composed
    }
}

/// The personas by name, each in one version.
pub(crate) type Personas<'a> = BTreeMap<&'a PersonaName, (u32, &'a PersonaDocument)>;

/// The personas of a snapshot in the versions in force.
pub(crate) fn personas_of(snapshot: &Snapshot) -> Personas<'_> {
    snapshot.personas().map(|entry| (&entry.document.metadata.name, (entry.version, entry.document))).collect()
}

/// The personas in the versions that a subject wears: those that a rollout has moved it to, else those in force.
pub(super) fn personas_for<'a, 'b>(
    snapshot: &'a Snapshot,
    in_force: &'b Personas<'a>,
    subject: &SubjectId,
) -> Cow<'b, Personas<'a>> {
    let mut personas = Cow::Borrowed(in_force);
    for (step, document) in moved_to(snapshot, subject) {
        personas.to_mut().insert(&document.metadata.name, (step.to, document));
    }
    personas
}

/// Decides what a subject wears. Changes nothing.
pub(super) fn decide(
    snapshot: &Snapshot,
    personas: &Personas<'_>,
    facts: &Facts,
    (groups, conditions): (&BTreeMap<GroupName, GroupFacts>, Option<&Conditions>),
    subject: &SubjectId,
    record: Option<&SubjectRecord>,
) -> Outfit {
    let bindings = bindings_of(snapshot, subject);
    let node_persona = node_persona(snapshot, subject);
    let mut candidates = candidates(snapshot, personas, facts, subject, &bindings, node_persona.as_ref());
    if is_draining(snapshot, subject) && record.is_none_or(|record| record.target.is_none()) {
        // Who has nothing gets nothing there; who wears something goes on until it leaves.
        candidates.clear();
    }
    let no_capabilities = Vec::new();
    let node = snapshot.agents.get(&AgentId::node(subject.node()));
    let manual = record.and_then(|record| record.manual.as_ref()).map(|manual| &manual.value);
    let activated = record.map(|record| activated(personas, record)).unwrap_or_default();
    let labels = facts.labels_of(snapshot, subject);
    let decision = choose(&Question {
        subject,
        labels: &labels,
        candidates: &candidates,
        groups,
        pools: &facts.pools,
        ledger: &facts.ledger,
        worn: record.and_then(|record| record.target.as_ref()).map(|target| &target.persona),
        // A persona without a network section leaves this one to the layers below.
        manual: manual.filter(|name| personas.get(name).is_some_and(|(_, it)| it.spec.network.is_some())),
        activated: activated.get(&Section::Network).copied(),
        requested: record.and_then(|record| record.request.as_ref()).map_or(&no_capabilities, |request| &request.value),
        content: record.and_then(SubjectRecord::wanted_content),
        wants: node.map_or(&no_capabilities, |node| &node.capabilities),
        uplink_bps: conditions.and_then(Conditions::uplink_bps),
        keeps_network: keeps_network(snapshot, subject),
    });
    let allowed: Vec<PersonaName> = candidates.iter().map(|candidate| candidate.persona.clone()).collect();
    let chosen = Chosen {
        pick: decision.pick.as_ref(),
        manual: manual.filter(|name| allowed.contains(name)),
        activated: activated
            .iter()
            .map(|(section, it)| (*section, it.persona))
            .filter(|(_, persona)| allowed.contains(persona))
            .collect(),
    };
    let layers = layers(personas, &bindings, &chosen);
    let measured = conditions.zip(decision.pick.as_ref()).map(|(conditions, pick)| conditions.told(&pick.group));
    let in_use = record.and_then(|record| record.item.as_ref()?.network.as_ref());
    Outfit {
        measured,
        is_evicted: in_use.is_some_and(|network| facts.forbids(&labels, &network.group)),
        effective: facts.composed.of(&layers),
        decision,
        bindings: bindings.iter().map(|binding| binding.metadata.name.to_string()).collect(),
        allowed,
    }
}

/// The bindings that select a subject, by name.
pub(crate) fn bindings_of<'a>(snapshot: &'a Snapshot, subject: &SubjectId) -> Vec<&'a BindingDocument> {
    let labels = labels_of(snapshot, subject);
    snapshot.bindings().filter(|binding| selector_matches(&binding.spec.selector, subject, &labels)).collect()
}

/// Why what was triggered is worn.
pub(super) fn triggered_by(record: &SubjectRecord) -> &str {
    record.triggered_by.as_ref().map_or(TRIGGERED, |by| &by.reason)
}

/// What a subject wears by activation: what was triggered, and for the other sections what criteria decided.
fn activated<'a>(personas: &Personas<'a>, record: &'a SubjectRecord) -> BTreeMap<Section, Activated<'a>> {
    let decided = record.activation.iter().flat_map(|it| {
        it.sections.iter().map(|(section, persona)| (*section, Activated { persona, reason: it.reason_of(persona) }))
    });
    let triggered = record.triggered.iter().flat_map(|it| {
        let sections = personas.get(&it.value).into_iter().flat_map(|(_, document)| document.spec.sections());
        sections.map(|section| (section, Activated { persona: &it.value, reason: triggered_by(record) }))
    });
    // What comes later in the chain replaces what came before.
    decided.chain(triggered.filter(|(section, _)| *section != Section::Activation)).collect()
}

/// Whether a workload's node knows its instance alone, and nothing of its packets.
fn keeps_network(snapshot: &Snapshot, subject: &SubjectId) -> bool {
    snapshot.workloads.get(subject).is_some_and(|workload| workload.report.kind == WorkloadKind::Instance)
}

/// Whether a subject's node is being emptied.
pub(super) fn is_draining(snapshot: &Snapshot, subject: &SubjectId) -> bool {
    let node = snapshot.agents.get(&AgentId::node(subject.node()));
    node.and_then(|agent| agent.node()).is_some_and(|node| node.draining)
}

/// The labels that selectors match. What is bound to a node is bound to its workloads too, below what is bound to them.
pub(crate) fn labels_of(snapshot: &Snapshot, subject: &SubjectId) -> Labels {
    let node = snapshot.agents.get(&AgentId::node(subject.node()));
    let mut bound = node.map(|node| node.bound_labels.clone()).unwrap_or_default();
    let claimed = match subject {
        SubjectId::Node(_) => node.map(|node| node.labels.clone()),
        SubjectId::Workload(_, name) => {
            let own = node.and_then(|node| node.node()?.workload_labels.get(name));
            bound.extend(own.cloned().unwrap_or_default());
            snapshot.workloads.get(subject).map(|workload| workload.report.labels.clone())
        }
    };
    Labels { bound, claimed: claimed.unwrap_or_default() }
}

/// Which binding would select a subject that none selects, if what its node says of it were bound; and how that is done.
pub(crate) fn nearest(snapshot: &Snapshot, subject: &SubjectId) -> Option<String> {
    let labels = labels_of(snapshot, subject);
    let near = |binding: &BindingDocument| {
        let unbound = unbound_labels(&binding.spec.selector, subject, &labels)?;
        let unbound: Vec<String> = unbound.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
        let (command, name) = match subject {
            SubjectId::Node(name) => ("node", name.to_string()),
            SubjectId::Workload(..) => ("workload", subject.to_string()),
        };
        Some(format!(
            "binding {} would, but {} is only its node's word: persona-ctl {command} label {name} {} binds it, claimedLabels in the selector takes the word",
            binding.metadata.name,
            unbound.join(", "),
            unbound.join(" ")
        ))
    };
    snapshot.bindings().find_map(near)
}

/// What a workload's node wears in its network section.
fn node_persona(snapshot: &Snapshot, subject: &SubjectId) -> Option<PersonaName> {
    let SubjectId::Workload(node, _) = subject else { return None };
    let record = snapshot.subjects.get(&SubjectId::Node(node.clone()))?;
    record.target.as_ref().map(|target| target.persona.clone())
}

fn candidates<'a>(
    snapshot: &'a Snapshot,
    personas: &Personas<'a>,
    facts: &'a Facts,
    subject: &SubjectId,
    bindings: &[&'a BindingDocument],
    node_persona: Option<&PersonaName>,
) -> Vec<Candidate<'a>> {
    let mut candidates: Vec<Candidate<'a>> = Vec::new();
    let mut add = |name: &'a PersonaName, layer, required: &'a [Capability], preferred: &'a [Capability]| {
        if candidates.iter().any(|candidate| candidate.persona == name) {
            return;
        }
        let known = personas.get(name);
        let held = known.and_then(|(_, persona)| held_pool(snapshot, facts, subject, persona));
        let has_rules = known.is_some_and(|(_, persona)| persona.spec.has_rules());
        let is_default = bindings.iter().any(|binding| binding.spec.default_for(Section::Network) == Some(name));
        candidates.push(Candidate {
            persona: name,
            version: known.map_or(0, |(version, _)| *version),
            spec: known.map(|(_, persona)| &persona.spec),
            layer,
            position: candidates.len(),
            required,
            preferred,
            is_conditional: has_rules && !is_default,
            held,
        });
    };
    for binding in bindings {
        let spec = &binding.spec;
        let first = spec.default_for(Section::Network);
        for name in first.into_iter().chain(spec.named_personas()) {
            add(name, Layer::Binding, &spec.requires, &spec.prefers);
        }
    }
    // The weakest layer: what the node wears, where nothing is said about the workload itself.
    let from_node = node_persona.filter(|_| bindings.is_empty());
    if let Some((name, _)) = from_node.and_then(|name| personas.get_key_value(name)) {
        add(name, Layer::NodeDefault, &[], &[]);
    }
    candidates
}

/// What was chosen for a subject above its bindings' defaults.
struct Chosen<'a> {
    /// By the decision about the network section.
    pick: Option<&'a Pick>,
    /// By a person.
    manual: Option<&'a PersonaName>,
    /// By criteria or a trigger, per section.
    activated: Vec<(Section, &'a PersonaName)>,
}

fn layers<'a>(
    personas: &Personas<'a>,
    bindings: &[&'a BindingDocument],
    chosen: &Chosen<'_>,
) -> Vec<LayeredPersona<'a>> {
    let layer = |layer, only, name: &PersonaName| {
        let (version, document) = personas.get(name)?;
        let spec: &'a PersonaSpec = &document.spec;
        Some(LayeredPersona { layer, only, persona: name.clone(), version: *version, spec })
    };
    let mut layers = Vec::new();
    if let Some(manual) = chosen.manual.and_then(|name| layer(Layer::Manual, None, name)) {
        let is_picked = chosen.pick.is_some_and(|pick| pick.persona == manual.persona);
        layers.extend(if is_picked { vec![manual] } else { without_network(&manual) });
    }
    let activated = chosen.activated.iter().filter(|(section, _)| *section != Section::Network);
    layers.extend(activated.filter_map(|(section, name)| layer(Layer::Activation, Some(*section), name)));
    let per_section = bindings.iter().flat_map(|binding| &binding.spec.defaults);
    let others = per_section.filter(|(section, _)| **section != Section::Network);
    layers.extend(others.filter_map(|(section, name)| layer(Layer::Binding, Some(*section), name)));
    // Criteria choose per section: only the network section follows from this choice.
    let only = |pick: &Pick| (pick.layer == Layer::Activation).then_some(Section::Network);
    layers.extend(chosen.pick.and_then(|pick| layer(pick.layer, only(pick), &pick.persona)));
    let defaults = bindings.iter().filter_map(|binding| binding.spec.default.as_ref());
    let below = defaults.filter_map(|name| layer(Layer::Binding, None, name));
    layers.extend(below.flat_map(|layered| without_network(&layered)));
    layers
}

/// Every section of a persona but the network, which is the decision's alone: what was refused must not come back.
fn without_network<'a>(layered: &LayeredPersona<'a>) -> Vec<LayeredPersona<'a>> {
    let sections = layered.spec.sections().filter(|section| *section != Section::Network);
    sections.map(|section| LayeredPersona { only: Some(section), ..layered.clone() }).collect()
}

/// Writes a decision into the draft: the subject's record, a lease if it needs one, an event if something changed.
///
/// `documents` is the draft's state as far as documents and rollouts go. A copy of all of it would have every change of a
/// subject copy all subjects.
pub(super) fn write(
    draft: &mut Draft,
    facts: &mut Facts,
    reports: &Reports,
    (documents, in_force): (&Snapshot, &Personas<'_>),
    subject: &SubjectId,
) -> Outfit {
    let known = draft.state().subjects.get(subject).cloned();
    let personas = personas_for(documents, in_force, subject);
    let groups = facts.groups_from(subject.node(), reports);
    let paths = (&*groups, reports.conditions(subject.node()));
    let outfit = decide(draft.state(), &personas, facts, paths, subject, known.as_deref());
    if known.is_none() && outfit.bindings.is_empty() && matches!(subject, SubjectId::Node(_)) {
        return outfit;
    }
    drop(groups); // what is granted now changes what they say
    let is_known = known.is_some();
    let before = known.unwrap_or_else(|| Arc::new(new_subject(draft, subject)));
    let target = outfit.decision.pick.as_ref().and_then(|pick| target(draft, facts, &personas, &before, pick));
    let labels = facts.labels_of(draft.state(), subject);
    facts.ledger.seat(subject, &labels, target.as_ref().and_then(|target| seat(draft.state(), &personas, target)));
    let unassigned = match is_draining(draft.state(), subject) {
        // It lacks nothing, unless somebody means to give it a network.
        _ if keeps_network(draft.state(), subject) && !wants_network(&personas, &outfit) => None,
        true if outfit.decision.pick.is_none() => Some(format!(
            "node {} is being drained and takes nobody new: persona-ctl node undrain ends that",
            subject.node()
        )),
        _ => outfit.decision.pick.is_none().then(|| why_nothing(draft.state(), subject, &outfit)),
    };
    let sections = sections(&before, &outfit);
    // Most decisions change nothing, and a record is much to copy.
    let is_same = (&sections, &target, &unassigned) == (&before.sections, &before.target, &before.unassigned);
    if !(is_known && is_same) {
        let after = SubjectRecord { sections, target, unassigned, ..(*before).clone() };
        note_change(draft, &before, &after, &outfit);
        draft.put(after);
    }
    leave_forbidden(draft, facts, subject, &labels);
    outfit
}

/// Ends at once what a subject holds in groups that policies forbid to it: not even old flows go on there.
fn leave_forbidden(draft: &mut Draft, facts: &Facts, subject: &SubjectId, labels: &BTreeMap<String, String>) {
    if !facts.ledger.may_forbid(labels) {
        return;
    }
    let held = draft.state().leases_of(subject);
    let there: Vec<LeaseId> = held.filter(|it| facts.forbids(labels, &it.group)).map(|it| it.id).collect();
    if !there.is_empty() {
        cut::bound_those(draft, subject, 0, |lease| there.contains(&lease.id));
    }
}

/// Whether a persona that the subject may wear has a network section.
fn wants_network(personas: &Personas<'_>, outfit: &Outfit) -> bool {
    let has_network = |name: &PersonaName| personas.get(name).is_some_and(|(_, it)| it.spec.network.is_some());
    outfit.allowed.iter().any(has_network)
}

pub(super) fn new_subject(draft: &mut Draft, subject: &SubjectId) -> SubjectRecord {
    SubjectRecord {
        subject: subject.clone(),
        number: draft.next_subject_number(),
        manual: None,
        request: None,
        requested_by: None,
        request_content: None,
        triggered: None,
        triggered_by: None,
        activation: None,
        alerts: BTreeMap::new(),
        sections: BTreeMap::new(),
        target: None,
        unassigned: None,
        planned: None,
        item: None,
    }
}
