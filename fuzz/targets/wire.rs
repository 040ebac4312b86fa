//! What agents, managers and people send each other as JSON, and credentials: what is read is written and read again as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use persona_core::wire::agent::{Register, Registered, Renew, Report};
use persona_core::wire::credential::Credential;
use persona_core::wire::desired::{DesiredState, Frame};
use persona_core::wire::planning::PlanSettings;
use persona_core::wire::reach::ReachSettings;
use serde::Serialize;
use serde::de::DeserializeOwned;

fuzz_target!(|data: &[u8]| {
    again::<Report>(data);
    again::<Register>(data);
    again::<Registered>(data);
    again::<Renew>(data);
    again::<PlanSettings>(data);
    again::<ReachSettings>(data);
    again::<Frame>(data);
    if let Ok(frame) = serde_json::from_slice::<Frame>(data)
        && let Ok(state) = DesiredState::default().after(frame)
    {
        let whole = DesiredState::default().after(state.to_snapshot());
        assert_eq!(whole.as_ref(), Ok(&state), "a snapshot is taken whole");
    }
    if let Some(credential) = std::str::from_utf8(data).ok().and_then(|text| text.parse::<Credential>().ok()) {
        let shown = format!("Credential({} @{})", credential.id, credential.managers.join(","));
        assert_eq!(format!("{credential:?}"), shown, "the secret is not shown");
        let printed = credential.to_string();
        assert!(printed.parse::<Credential>().is_ok_and(|same| same == credential), "{printed}");
    }
});

/// Reads it and, if it is one, writes and reads it again. Texts are compared: not all types can be.
fn again<T: Serialize + DeserializeOwned>(data: &[u8]) {
    let Ok(value) = serde_json::from_slice::<T>(data) else { return };
    let written = serde_json::to_string(&value).expect("what was read can be written");
    let read = serde_json::from_str::<T>(&written).unwrap_or_else(|error| panic!("{written}: {error}"));
    assert_eq!(written, serde_json::to_string(&read).expect("it can be written again"));
}
