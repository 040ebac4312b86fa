//! Values that other systems push: held to their bounds, kept until their time is over.

use persona_core::ids::SubjectId;
use persona_core::signal::{PUSHED_COUNT_MAX, PushError, Pushed, SignalName};
use persona_core::units::Span;
use persona_core::wire::api::PushSignal;
use serde_json::json;

use crate::error::Refusal;
use crate::overrides::check_exists;
use crate::store::{Draft, SignalRecord, Snapshot};

/// Takes a value in. It is an event when the signal was unknown before; a value in place of another is not.
pub(crate) fn push(draft: &mut Draft, request: PushSignal) -> Result<(), Refusal> {
    let PushSignal { subject, name, value, for_ms } = request;
    check_exists(draft.state(), &subject)?;
    let now_ms = draft.now_ms();
    let signal: SignalName = name.parse().map_err(|error| invalid(PushError::Name(error)))?;
    let pushed = Pushed::new(&signal, value, for_ms, now_ms).map_err(invalid)?;
    let known = draft.state().signals.get(&(subject.clone(), name.clone())).filter(|it| it.until_ms > now_ms);
    if known.is_none() {
        if alive_count(draft.state(), &subject, now_ms) >= PUSHED_COUNT_MAX {
            return Err(invalid(PushError::TooMany(signal)));
        }
        let message = format!("{name} of {subject} is {value} for {}", Span(for_ms));
        let details = json!({ "name": name, "value": value, "untilMs": pushed.until_ms });
        draft.event("signal.pushed", &subject, draft.actor(), message, details);
    }
    let by = draft.actor().to_string();
    draft.put(SignalRecord { subject, name, value, pushed_ms: now_ms, until_ms: pushed.until_ms, by });
    Ok(())
}

/// Takes a pushed value back.
pub(crate) fn withdraw(draft: &mut Draft, subject: &SubjectId, name: &SignalName) -> Result<(), Refusal> {
    check_exists(draft.state(), subject)?;
    let key = (subject.clone(), name.to_string());
    let Some(record) = draft.state().signals.get(&key).cloned() else {
        return Err(Refusal::not_found(format!(
            "nobody pushed {name} of {subject}: GET /v1/signals/{subject} lists all"
        )));
    };
    draft.delete::<SignalRecord>(&key);
    let message = format!("{name} of {subject} was taken back: it is unknown from now on");
    draft.event(
        "signal.withdrawn",
        subject,
        draft.actor(),
        message,
        json!({ "name": name.as_str(), "value": record.value }),
    );
    Ok(())
}

fn alive_count(snapshot: &Snapshot, subject: &SubjectId, now_ms: u64) -> usize {
    snapshot.signals_of(subject).filter(|record| record.until_ms > now_ms).count()
}

fn invalid(error: PushError) -> Refusal {
    Refusal::invalid(error.to_string())
}
