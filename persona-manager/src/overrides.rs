//! Switches by hand and requests: written with what follows from them, or refused with the reasons per persona.

use persona_core::capacity::Finding;
use persona_core::content::ContentSource;
use persona_core::document::Kind as DocumentKind;
use persona_core::ids::{Capability, PersonaName, SubjectId};
use persona_core::wire::api::ProblemPart;
use serde_json::{Value, json};

use crate::documents::no_room;
use crate::error::{Kind, Refusal};
use crate::schedules;
use crate::store::{AgentId, Draft, Override, Snapshot, SubjectRecord};
use crate::tasks::assignment::Assigner;
use crate::tasks::cut;
use crate::tasks::room::findings_for;
use crate::tasks::wear::Outfit;

/// What a request asks for.
pub(crate) struct Wanted {
    /// What the persona must have.
    pub(crate) capabilities: Vec<Capability>,
    /// What its edge should be close to.
    pub(crate) content: Option<ContentSource>,
}

/// Puts a persona on a subject, and bounds what its old flows may take. Returns whether that changed what it wears.
pub(crate) fn switch(
    draft: &mut Draft,
    assigner: &Assigner,
    subject: &SubjectId,
    manual: Override<PersonaName>,
    cut_after_ms: Option<u64>,
) -> Result<bool, Refusal> {
    let before = known(draft, assigner, subject)?;
    let persona = manual.value.clone();
    if draft.state().document(DocumentKind::Persona, persona.as_str()).is_none() {
        return Err(Refusal::not_found(format!("there is no persona {persona}: apply it first")));
    }
    let details = json!({ "persona": persona, "untilMs": manual.until_ms, "cutAfterMs": cut_after_ms });
    draft.put(SubjectRecord { manual: Some(manual), ..before.clone() });
    let outfit = assigner.assign(draft, subject);
    check_allowed(&outfit, subject, &persona)?;
    let refused = outfit.decision.considered.iter().find(|it| it.persona == persona && !it.chosen);
    let has_network = draft
        .state()
        .personas()
        .any(|entry| entry.document.metadata.name == persona && entry.document.spec.network.is_some());
    let is_stopgap = outfit.decision.pick.as_ref().is_some_and(|pick| pick.is_stopgap);
    if has_network && (refused.is_some() || is_stopgap) {
        return Err(no_persona_fits(&outfit, format!("{subject} cannot wear {persona} now")));
    }
    check_room(draft, assigner, subject, &outfit)?;
    draft.event("switch.made", subject, draft.actor(), format!("{subject} was switched to {persona} by hand"), details);
    if let Some(grace_ms) = cut_after_ms {
        cut::bound(draft, subject, grace_ms);
    }
    Ok(is_changed(draft, subject, &before))
}

/// Chooses a persona with the capabilities; `by` says which application asked, if one did. Returns whether that changed what the
/// subject wears.
pub(crate) fn request(
    draft: &mut Draft,
    assigner: &Assigner,
    subject: &SubjectId,
    request: Override<Wanted>,
    by: Option<String>,
) -> Result<bool, Refusal> {
    let before = known(draft, assigner, subject)?;
    let Override { value: Wanted { capabilities, content: request_content }, until_ms } = request;
    check_content(request_content.as_ref())?;
    let names = capabilities.iter().map(Capability::as_str).collect::<Vec<_>>().join(", ");
    let closeness = request_content.as_ref().map(|content| format!(", close to {content}")).unwrap_or_default();
    let details = json!({ "capabilities": capabilities, "content": request_content, "untilMs": until_ms, "by": by });
    let requested_by = Some(draft.actor().to_string());
    let request = Some(Override { value: capabilities, until_ms });
    draft.put(SubjectRecord { request, requested_by, request_content, ..before.clone() });
    let outfit = assigner.assign(draft, subject);
    if outfit.decision.pick.as_ref().is_none_or(|pick| pick.is_stopgap) {
        return Err(no_persona_fits(
            &outfit,
            format!("no persona that {subject} may wear has {names} and can be worn now"),
        ));
    }
    check_room(draft, assigner, subject, &outfit)?;
    let changed = is_changed(draft, subject, &before);
    let effect = if changed { "is met by a switch" } else { "is met by what is worn" };
    draft.event(
        "request.made",
        subject,
        draft.actor(),
        format!(
            "the request of {subject} for {names}{closeness}{} {effect}",
            by.map(|by| format!(" by {by}")).unwrap_or_default()
        ),
        details,
    );
    Ok(changed)
}

/// Puts a persona on in the layer of activation, whatever its criteria say. Returns whether that changed what is worn.
pub(crate) fn trigger(
    draft: &mut Draft,
    assigner: &Assigner,
    subject: &SubjectId,
    triggered: Override<PersonaName>,
) -> Result<bool, Refusal> {
    let before = known(draft, assigner, subject)?;
    let persona = triggered.value.clone();
    if draft.state().document(DocumentKind::Persona, persona.as_str()).is_none() {
        return Err(Refusal::not_found(format!("there is no persona {persona}: apply it first")));
    }
    let details = json!({ "persona": persona, "untilMs": triggered.until_ms });
    draft.put(SubjectRecord { triggered: Some(triggered), triggered_by: None, ..before.clone() });
    let outfit = assigner.assign(draft, subject);
    check_allowed(&outfit, subject, &persona)?;
    check_room(draft, assigner, subject, &outfit)?;
    let message = format!("the activation of {persona} was triggered for {subject}");
    draft.event("activation.triggered", subject, draft.actor(), message, details);
    Ok(is_changed(draft, subject, &before))
}

/// Takes a triggered activation back. Windows of its schedule that are open by now are not used any more.
pub(crate) fn release(draft: &mut Draft, assigner: &Assigner, subject: &SubjectId) -> Result<bool, Refusal> {
    let schedule = draft.state().subjects.get(subject).and_then(|record| record.triggered_by.clone());
    if let Some(schedule) = &schedule {
        schedules::skip(draft, subject, &schedule.name);
    }
    end(draft, assigner, subject, "activation", None, |record| {
        record.triggered_by = None;
        let details =
            |ended: Override<PersonaName>| json!({ "persona": ended.value, "schedule": schedule.map(|by| by.name) });
        record.triggered.take().map(details)
    })
}

/// Takes a switch or a request back; `take` empties its field and says what it was. Bounds old flows like [`switch`].
pub(crate) fn end(
    draft: &mut Draft,
    assigner: &Assigner,
    subject: &SubjectId,
    what: &str,
    cut_after_ms: Option<u64>,
    take: impl FnOnce(&mut SubjectRecord) -> Option<Value>,
) -> Result<bool, Refusal> {
    let before = known(draft, assigner, subject)?;
    let mut after = before.clone();
    let Some(details) = take(&mut after) else {
        return Err(Refusal::not_found(format!("{subject} has no {what} to take back")));
    };
    draft.put(after);
    assigner.assign(draft, subject);
    draft.event(
        &format!("{what}.taken-back"),
        subject,
        draft.actor(),
        format!("the {what} of {subject} was taken back"),
        details,
    );
    if let Some(grace_ms) = cut_after_ms {
        cut::bound(draft, subject, grace_ms);
    }
    Ok(is_changed(draft, subject, &before))
}

/// Refuses a subject that does not exist.
pub(crate) fn check_exists(snapshot: &Snapshot, subject: &SubjectId) -> Result<(), Refusal> {
    let exists = match subject {
        SubjectId::Node(node) => snapshot.agents.contains_key(&AgentId::node(node)),
        SubjectId::Workload(..) => snapshot.workloads.contains_key(subject),
    };
    match exists {
        true => Ok(()),
        false => {
            Err(Refusal::not_found(format!("there is no {subject}: nodes register, workloads are reported by them")))
        }
    }
}

/// Refuses a source of content that no edge can be close to.
fn check_content(content: Option<&ContentSource>) -> Result<(), Refusal> {
    match content.and_then(ContentSource::fault) {
        None => Ok(()),
        Some((key, fault)) => Err(Refusal::invalid(format!("content.{key}: {fault}"))),
    }
}

fn known(draft: &mut Draft, assigner: &Assigner, subject: &SubjectId) -> Result<SubjectRecord, Refusal> {
    check_exists(draft.state(), subject)?;
    if !draft.state().subjects.contains_key(subject) {
        assigner.assign(draft, subject);
    }
    let record = draft.state().subjects.get(subject).map(|record| (**record).clone());
    record.ok_or_else(|| {
        let detail = format!("no binding selects {subject}: apply one whose selector matches it");
        Refusal::new(Kind::NoPersonaFits, detail)
    })
}

/// Refuses what the subject's node has no room for: the MTU budget and the sizes of its tables.
fn check_room(draft: &Draft, assigner: &Assigner, subject: &SubjectId, outfit: &Outfit) -> Result<(), Refusal> {
    let Some(pick) = &outfit.decision.pick else { return Ok(()) };
    let Some(persona) = draft.state().personas().find(|entry| entry.document.metadata.name == pick.persona) else {
        return Ok(());
    };
    let findings = findings_for(draft.state(), &assigner.reports(), persona.document, subject);
    let Some(first) = findings.first() else { return Ok(()) };
    let detail = format!("{subject} cannot wear {}: {}", pick.persona, first.message);
    let part = |finding: &Finding| ProblemPart::new(finding.path, finding.message.clone());
    Err(no_room(detail, findings.iter().map(part).collect()))
}

fn check_allowed(outfit: &Outfit, subject: &SubjectId, persona: &PersonaName) -> Result<(), Refusal> {
    if outfit.allowed.contains(persona) {
        return Ok(());
    }
    let detail = match outfit.bindings.is_empty() {
        true => format!("no binding selects {subject}: apply one that does and names {persona}"),
        false => format!(
            "{subject} may not wear {persona}: add it to spec.personas of binding {}",
            outfit.bindings.join(" or ")
        ),
    };
    Err(Refusal::new(Kind::NoPersonaFits, detail))
}

fn no_persona_fits(outfit: &Outfit, detail: String) -> Refusal {
    let parts = outfit.decision.considered.iter().filter(|it| !it.refusals.is_empty()).map(|it| {
        let hint = it.hint.as_ref().map(|hint| format!("; to change that: {hint}")).unwrap_or_default();
        ProblemPart::new(it.persona.to_string(), format!("{}{hint}", it.refusals.join("; ")))
    });
    Refusal::new(Kind::NoPersonaFits, detail).with_parts(parts.collect())
}

fn is_changed(draft: &Draft, subject: &SubjectId, before: &SubjectRecord) -> bool {
    let worn = |record: &SubjectRecord| -> Vec<_> {
        record.sections.iter().map(|(name, it)| (name.clone(), it.persona.clone(), it.version)).collect()
    };
    draft.state().subjects.get(subject).is_some_and(|after| worn(after) != worn(before))
}
