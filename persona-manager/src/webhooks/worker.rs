//! A worker per webhook, where the manager leads: sends what is not done with, in order, and stores how far it has come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use persona_core::webhook::{Answer, DEAD_LETTER_COUNT_MAX, Next, after, tells};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::change::{about, letters_of};
use super::sender::{Outcome, Sender};
use crate::access::MANAGER;
use crate::api::event_view;
use crate::clock::now_ms;
use crate::context::Context;
use crate::error::Refusal;
use crate::store::{DeadLetterRecord, Draft, EventRecord, Snapshot, WebhookRecord};

/// Events that are read at a time.
const BATCH_COUNT: u32 = 200;

/// How far a worker may have come beyond what is stored, where nothing was sent in between.
const UNSTORED_COUNT_MAX: u64 = 500;

/// Who leads is looked at this often.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// What the store did not take is tried again after this time.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// Webhook → why its last attempt failed. Only where the manager leads.
#[derive(Debug, Default)]
pub(crate) struct Troubles(Mutex<BTreeMap<String, String>>);

impl Troubles {
    /// All of them.
    pub(crate) fn all(&self) -> BTreeMap<String, String> {
        self.lock().clone()
    }

    fn set(&self, name: &str, trouble: Option<String>) {
        match trouble {
            Some(trouble) => self.lock().insert(name.to_owned(), trouble),
            None => self.lock().remove(name),
        };
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which webhook, and when it was made: another may have its name.
type Key = (String, u64);

/// Keeps a worker for every webhook, until the manager stops.
pub(crate) async fn run(context: Context) {
    let mut snapshots = context.store.watch();
    let mut workers: BTreeMap<Key, DropGuard> = BTreeMap::new();
    let mut sender = None;
    loop {
        let snapshot = snapshots.borrow_and_update().clone();
        let leads = context.store.standing().leads();
        if leads {
            seal_anew(&context, &snapshot).await;
        }
        let wanted: BTreeSet<Key> = match leads {
            true => snapshot.webhooks.values().map(|it| (it.name.clone(), it.created_ms)).collect(),
            false => BTreeSet::new(),
        };
        workers.retain(|key, _| wanted.contains(key));
        for key in wanted {
            if workers.contains_key(&key) {
                continue;
            }
            if sender.is_none() {
                sender = Sender::new(&context.config.webhook_allow)
                    .inspect_err(|error| tracing::error!(%error, "webhooks cannot be sent"))
                    .ok();
            }
            let Some(sender) = sender.clone() else { break };
            let (stop, worker) =
                (CancellationToken::new(), Worker { context: context.clone(), sender, key: key.clone() });
            tokio::spawn(stop.clone().run_until_cancelled_owned(worker.run()));
            workers.insert(key, stop.drop_guard());
        }
        tokio::select! {
            changed = snapshots.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            () = context.stop.cancelled() => return,
        }
    }
}

/// Secrets that another root's key opens than that of the root which signs are sealed with that one: the other goes some day.
async fn seal_anew(context: &Context, snapshot: &Snapshot) {
    let signing = context.authority.signing().id.clone();
    for record in snapshot.webhooks.values().filter(|record| record.secret.by != signing) {
        let (about, authority) = (about(&record.name), &context.authority);
        let opened = authority.open_secret(&about, &record.secret, snapshot);
        let Ok(secret) = opened.and_then(|secret| authority.seal_secret(&about, &secret)) else { continue };
        let (name, before) = (record.name.clone(), record.secret.clone());
        let change = move |draft: &mut Draft| {
            let now = draft.state().webhooks.get(&name).filter(|now| now.secret == before).cloned();
            if let Some(now) = now {
                draft.put(WebhookRecord { secret, ..(*now).clone() });
            }
            Ok(())
        };
        // What the store did not take is tried with the next look.
        _ = context.store.change(change).await;
    }
}

struct Worker {
    context: Context,
    sender: Sender,
    key: Key,
}

impl Worker {
    async fn run(self) {
        let mut snapshots = self.context.store.watch();
        let mut done = 0;
        loop {
            let snapshot = snapshots.borrow_and_update().clone();
            let Some(record) = self.record(&snapshot) else { return };
            done = record.done.max(done);
            if let Err(refusal) = self.turn(&snapshot, &record, &mut done, &mut snapshots).await {
                tracing::warn!(webhook.name = record.name, reason = refusal.detail(), "a webhook waits for the store");
                tokio::time::sleep(STORE_PAUSE).await;
            }
        }
    }

    fn record(&self, snapshot: &Snapshot) -> Option<Arc<WebhookRecord>> {
        let (name, created_ms) = &self.key;
        snapshot.webhooks.get(name).filter(|record| record.created_ms == *created_ms).cloned()
    }

    /// Tries dead letters that are to be, then sends what is next; without any it waits.
    async fn turn(
        &self,
        snapshot: &Snapshot,
        record: &WebhookRecord,
        done: &mut u64,
        snapshots: &mut watch::Receiver<Arc<Snapshot>>,
    ) -> Result<(), Refusal> {
        let retried = letters_of(snapshot, &record.name).find(|letter| letter.is_retried).cloned();
        if let Some(letter) = retried {
            return self.retry(record, &letter).await;
        }
        let events = match snapshot.event_last > *done {
            true => self.context.store.events_after(*done, BATCH_COUNT).await?,
            false => Vec::new(),
        };
        if events.is_empty() {
            // Whoever drops the sender stops the manager, and this worker with it.
            return snapshots.changed().await.map_err(Refusal::internal_from);
        }
        self.tell_missed(snapshot, record, *done).await?;
        for event in &events {
            let is_meant = tells(&record.events, &event.name);
            let letter = if is_meant { self.deliver(record, event).await } else { None };
            *done = event.number;
            if is_meant || event.number - record.done >= UNSTORED_COUNT_MAX && event.number == last_of(&events) {
                self.store(*done, letter).await?;
            }
        }
        Ok(())
    }

    /// Sends an event until it is taken or given up. Returns the dead letter.
    async fn deliver(&self, record: &WebhookRecord, event: &EventRecord) -> Option<DeadLetterRecord> {
        for attempt_count in 1.. {
            let Outcome { answer, reason } = self.send(record, event).await;
            match after(answer, attempt_count) {
                Next::Delivered => return None,
                Next::Again(pause_ms) => tokio::time::sleep(Duration::from_millis(pause_ms)).await,
                Next::DeadLetter => return Some(letter_of(record, event, attempt_count, reason)),
            }
        }
        unreachable!("attempts are bounded")
    }

    async fn send(&self, record: &WebhookRecord, event: &EventRecord) -> Outcome {
        let snapshot = self.context.store.snapshot();
        let place = (record.name.as_str(), record.url.as_str());
        let outcome = match self.context.authority.open_secret(&about(&record.name), &record.secret, &snapshot) {
            Ok(secret) => self.sender.send(place, &secret, &event_view(event.clone()), now_ms() / 1_000).await,
            Err(error) => Outcome { answer: Answer::Later, reason: format!("its secret cannot be opened: {error}") },
        };
        let trouble = (outcome.answer != Answer::Taken).then(|| outcome.reason.clone());
        self.context.live.webhook_troubles.set(&record.name, trouble);
        outcome
    }

    /// One more attempt at a dead letter.
    async fn retry(&self, record: &WebhookRecord, letter: &DeadLetterRecord) -> Result<(), Refusal> {
        let found = self.context.store.events_after(letter.event - 1, 1).await?;
        let event = found.into_iter().find(|event| event.number == letter.event);
        let outcome = match &event {
            Some(event) => self.send(record, event).await,
            None => {
                Outcome { answer: Answer::Never, reason: "the event is so old that it is no longer kept".to_owned() }
            }
        };
        let is_taken = outcome.answer == Answer::Taken;
        let after = DeadLetterRecord {
            failed_ms: now_ms(),
            attempt_count: letter.attempt_count + 1,
            reason: outcome.reason,
            is_retried: false,
            ..letter.clone()
        };
        let change = move |draft: &mut Draft| {
            let key = (after.webhook.clone(), after.event);
            match (draft.state().dead_letters.contains_key(&key), is_taken) {
                (true, true) => draft.delete::<DeadLetterRecord>(&key),
                (true, false) => draft.put(after),
                (false, _) => {}
            }
            Ok(())
        };
        self.context.store.change(change).await
    }

    /// Stores how far this has come, and what was given up.
    async fn store(&self, done: u64, letter: Option<DeadLetterRecord>) -> Result<(), Refusal> {
        let (name, created_ms) = self.key.clone();
        let change = move |draft: &mut Draft| {
            let record = draft.state().webhooks.get(&name).filter(|record| record.created_ms == created_ms).cloned();
            let Some(record) = record else { return Ok(()) };
            if let Some(letter) = letter {
                put_letter(draft, letter);
            }
            draft.put(WebhookRecord { done, ..(*record).clone() });
            Ok(())
        };
        self.context.store.change(change).await
    }

    /// Events may have been dropped for their age before they were sent: that is told.
    async fn tell_missed(&self, snapshot: &Snapshot, record: &WebhookRecord, done: u64) -> Result<(), Refusal> {
        let dropped = snapshot.audit_stub.values().map(|stub| stub.seal.number).max().unwrap_or_default();
        if dropped <= done {
            return Ok(());
        }
        let name = record.name.clone();
        let change = move |draft: &mut Draft| {
            let message = format!("events up to {dropped} were dropped for their age before they could be sent");
            draft.event("webhook.missed", about(&name), MANAGER, message, json!({ "doneEvent": done }));
            Ok(())
        };
        self.context.store.change(change).await
    }
}

fn last_of(events: &[EventRecord]) -> u64 {
    events.last().map_or(0, |event| event.number)
}

fn letter_of(record: &WebhookRecord, event: &EventRecord, attempt_count: u32, reason: String) -> DeadLetterRecord {
    DeadLetterRecord {
        webhook: record.name.clone(),
        event: event.number,
        name: event.name.clone(),
        about: event.about.clone(),
        time_ms: event.time_ms,
        failed_ms: now_ms(),
        attempt_count,
        reason,
        is_retried: false,
    }
}

/// The first dead letter is an event; the oldest gives way to one that is too many.
fn put_letter(draft: &mut Draft, letter: DeadLetterRecord) {
    let name = letter.webhook.clone();
    let events: Vec<u64> = letters_of(draft.state(), &name).map(|letter| letter.event).collect();
    if events.is_empty() {
        let message = format!("{} is not taken and becomes a dead letter: {}", letter.name, letter.reason);
        draft.event("webhook.failing", about(&name), MANAGER, message, json!({ "event": letter.event }));
    }
    if let Some(oldest) = events.first().filter(|_| events.len() >= DEAD_LETTER_COUNT_MAX) {
        let message = format!("the dead letter of event {oldest} gives way to that of event {}", letter.event);
        draft.event("webhook.letter-dropped", about(&name), MANAGER, message, json!({ "event": oldest }));
        draft.delete::<DeadLetterRecord>(&(name, *oldest));
    }
    draft.put(letter);
}
