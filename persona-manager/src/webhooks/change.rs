//! What people change of webhooks.

use std::collections::BTreeMap;
use std::sync::Arc;

use persona_core::webhook::{PATTERN_COUNT_MAX, WEBHOOK_COUNT_MAX};
use persona_core::wire::api::{DeadLetterView, NewWebhook, WebhookView};
use serde_json::json;

use crate::error::Refusal;
use crate::store::{DeadLetterRecord, Draft, SealedKey, Snapshot, WebhookRecord};
use crate::versions::value_tag;

/// The longest name.
const NAME_LENGTH_MAX: usize = 63;

/// Stores a new webhook, which tells what happens from now on.
pub(crate) fn create(draft: &mut Draft, new: NewWebhook, secret: SealedKey) -> Result<(), Refusal> {
    let NewWebhook { name, url, events } = new;
    check(&name, events.len())?;
    if draft.state().webhooks.contains_key(&name) {
        return Err(Refusal::conflict(format!("there is a webhook {name}: delete it, or take another name")));
    }
    if draft.state().webhooks.len() >= WEBHOOK_COUNT_MAX {
        return Err(Refusal::conflict(format!(
            "there are {WEBHOOK_COUNT_MAX} webhooks, and no more may be: delete one"
        )));
    }
    let details = json!({ "url": url, "events": events });
    draft.event("webhook.created", about(&name), draft.actor(), format!("events are sent to {url}"), details);
    let (created_ms, created_by, done) = (draft.now_ms(), draft.actor().to_string(), draft.state().event_last);
    draft.put(WebhookRecord { name, url, events, secret, created_ms, created_by, done });
    Ok(())
}

/// Removes a webhook with its dead letters.
pub(crate) fn delete(draft: &mut Draft, name: &str) -> Result<(), Refusal> {
    let record = found(draft.state(), name)?;
    let letters: Vec<_> = letters_of(draft.state(), name).map(|letter| (name.to_owned(), letter.event)).collect();
    letters.iter().for_each(|key| draft.delete::<DeadLetterRecord>(key));
    draft.delete::<WebhookRecord>(&name.to_owned());
    let details = json!({ "url": record.url, "deadLetterCount": letters.len() });
    let message = format!("events are no longer sent to {}", record.url);
    draft.event("webhook.deleted", about(name), draft.actor(), message, details);
    Ok(())
}

/// Has dead letters tried again. Returns how many.
pub(crate) fn retry(draft: &mut Draft, name: &str, event: Option<u64>) -> Result<u64, Refusal> {
    found(draft.state(), name)?;
    let meant = letters_of(draft.state(), name).filter(|letter| event.is_none_or(|event| event == letter.event));
    let meant: Vec<Arc<DeadLetterRecord>> = meant.cloned().collect();
    if let (Some(event), true) = (event, meant.is_empty()) {
        return Err(Refusal::not_found(format!("webhook {name} has no dead letter of event {event}")));
    }
    for letter in meant.iter().filter(|letter| !letter.is_retried) {
        draft.put(DeadLetterRecord { is_retried: true, ..(**letter).clone() });
    }
    Ok(meant.len() as u64)
}

/// A webhook that there is.
pub(crate) fn found(snapshot: &Snapshot, name: &str) -> Result<Arc<WebhookRecord>, Refusal> {
    let record = snapshot.webhooks.get(name).cloned();
    record.ok_or_else(|| Refusal::not_found(format!("there is no webhook {name}")))
}

/// What an event about a webhook is about.
pub(super) fn about(name: &str) -> String {
    format!("webhook/{name}")
}

/// The dead letters of a webhook, the oldest first.
pub(super) fn letters_of<'a>(snapshot: &'a Snapshot, name: &'a str) -> impl Iterator<Item = &'a Arc<DeadLetterRecord>> {
    let range = (name.to_owned(), 0)..=(name.to_owned(), u64::MAX);
    snapshot.dead_letters.range(range).map(|(_, letter)| letter)
}

/// The tag of a webhook: it never changes, but another may have its name.
pub(crate) fn tag(record: &WebhookRecord) -> String {
    value_tag(&json!([record.name, record.url, record.created_ms]))
}

/// A webhook as people see it.
pub(crate) fn view(snapshot: &Snapshot, record: &WebhookRecord, troubles: &BTreeMap<String, String>) -> WebhookView {
    WebhookView {
        name: record.name.clone(),
        url: record.url.clone(),
        events: record.events.clone(),
        created_by: record.created_by.clone(),
        created_ms: record.created_ms,
        done_event: record.done,
        dead_letter_count: letters_of(snapshot, &record.name).count() as u64,
        trouble: troubles.get(&record.name).cloned(),
    }
}

/// Dead letters as people see them.
pub(crate) fn dead_letters(snapshot: &Snapshot, name: &str) -> Vec<DeadLetterView> {
    let view = |letter: &Arc<DeadLetterRecord>| DeadLetterView {
        event: letter.event,
        name: letter.name.clone(),
        about: letter.about.clone(),
        time_ms: letter.time_ms,
        failed_ms: letter.failed_ms,
        attempt_count: letter.attempt_count,
        reason: letter.reason.clone(),
        is_retried: letter.is_retried,
    };
    letters_of(snapshot, name).map(view).collect()
}

fn check(name: &str, pattern_count: usize) -> Result<(), Refusal> {
    let is_letter = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '-';
    if !(1..=NAME_LENGTH_MAX).contains(&name.len()) || !name.chars().all(is_letter) {
        let given: String = name.chars().take(NAME_LENGTH_MAX).collect();
        return Err(Refusal::invalid(format!(
            "name is {given:?}; use 1 to {NAME_LENGTH_MAX} lower-case letters, digits and `-`"
        )));
    }
    if !(1..=PATTERN_COUNT_MAX).contains(&pattern_count) {
        return Err(Refusal::invalid(format!("events has {pattern_count} entries; use 1 to {PATTERN_COUNT_MAX}")));
    }
    Ok(())
}
