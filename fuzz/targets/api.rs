//! What people, programs and applications send as bodies: whatever the text, it is refused or is written and read again as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use persona_core::audit::{AuditEntry, AuditSeal};
use persona_core::document::Document;
use persona_core::wire::api::{
    Apply, CapabilityRequest, EdgeWeight, LogIn, MaintenanceOrder, NewAccessToken, NewJoinToken, NewWebLink,
    NewWebhook, PushSignal, Retire, RetryDeadLetters, Revoke, Rollback, Rotate, SetLabels, Switch, Trigger,
};
use persona_core::wire::ask::{AgentAsk, Ask, Told};
use persona_core::wire::proof::StateProof;
use persona_core::wire::rollouts::{RolloutOrder, StartRollout};
use serde::Serialize;
use serde::de::DeserializeOwned;

fuzz_target!(|data: &[u8]| {
    // What the first byte chooses: one at a time, or most of the work would be refusing.
    let Some((choice, data)) = data.split_first() else { return };
    match choice % 24 {
        0 => apply(data),
        1 => again::<CapabilityRequest>(data),
        2 => again::<EdgeWeight>(data),
        3 => again::<LogIn>(data),
        4 => again::<MaintenanceOrder>(data),
        5 => again::<NewAccessToken>(data),
        6 => again::<NewJoinToken>(data),
        7 => again::<NewWebLink>(data),
        8 => again::<NewWebhook>(data),
        9 => again::<PushSignal>(data),
        10 => again::<Retire>(data),
        11 => again::<RetryDeadLetters>(data),
        12 => again::<Revoke>(data),
        13 => again::<Rollback>(data),
        14 => again::<Rotate>(data),
        15 => again::<SetLabels>(data),
        16 => again::<Switch>(data),
        17 => again::<Trigger>(data),
        18 => again::<Ask>(data),
        19 => again::<AgentAsk>(data),
        20 => again::<Told>(data),
        21 => again::<AuditEntry>(data),
        22 => {
            again::<AuditSeal>(data);
            again::<StateProof>(data);
        }
        _ => {
            again::<RolloutOrder>(data);
            again::<StartRollout>(data);
        }
    }
});

/// Documents are read one by one, and each tells its mistakes.
fn apply(data: &[u8]) {
    again::<Apply>(data);
    let Ok(apply) = serde_json::from_slice::<Apply>(data) else { return };
    for document in apply.documents {
        match Document::from_json(document) {
            Ok(document) => assert!(Document::from_json(document.to_json()).is_ok()),
            Err(errors) => assert!(!errors.is_empty() && errors.iter().all(|error| !error.message.is_empty())),
        }
    }
}

/// Reads it and, if it is one, writes and reads it again. Texts are compared: not all types can be.
fn again<T: Serialize + DeserializeOwned>(data: &[u8]) {
    let Ok(value) = serde_json::from_slice::<T>(data) else { return };
    let written = serde_json::to_string(&value).expect("what was read can be written");
    let read = serde_json::from_str::<T>(&written).unwrap_or_else(|error| panic!("{written}: {error}"));
    assert_eq!(written, serde_json::to_string(&read).expect("it can be written again"));
}
