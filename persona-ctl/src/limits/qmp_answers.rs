//! What QEMU's monitor says, as values. Pure: whoever broke out of a guest speaks through its QEMU, and may say anything.

use persona_core::limit::Throttle;
use serde_json::Value;

/// Characters of what was said that go into an error.
const SHOWN_CHARS_MAX: usize = 200;

/// What a line says to a command.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Said {
    /// What it returns.
    Returned(Value),
    /// Why not.
    Refused(String),
    /// Nothing: it tells an event.
    Event,
}

/// Whether the first line is one of QMP.
pub(super) fn is_greeting(line: &Value) -> bool {
    line.get("QMP").is_some()
}

/// Reads a line that comes after a command.
pub(super) fn said(mut line: Value) -> Said {
    if let Some(error) = line.get("error") {
        return Said::Refused(cut(error.get("desc").and_then(Value::as_str).unwrap_or("refused")));
    }
    line.get_mut("return").map_or(Said::Event, |value| Said::Returned(value.take()))
}

/// The beginning of what was said.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).collect()
}

/// Bytes that the guest has, as `query-balloon` returns them.
pub(super) fn balloon_bytes(returned: &Value) -> Option<u64> {
    returned.get("actual")?.as_u64()
}

/// Block devices of `query-block` that can be throttled: name, and what it is held to.
pub(super) fn throttles(returned: &Value) -> impl Iterator<Item = (&str, Throttle)> {
    returned.as_array().into_iter().flatten().filter_map(|device| {
        let (_, name) = name_of(device)?;
        let inserted = device.get("inserted")?;
        Some((name, Throttle::read(|figure| inserted.get(figure).and_then(Value::as_u64))))
    })
}

/// By which argument the device of that name is told, if it is one of `query-block`.
pub(super) fn argument_of(returned: &Value, name: &str) -> Option<&'static str> {
    let names = returned.as_array().into_iter().flatten().filter_map(name_of);
    names.into_iter().find(|(_, known)| *known == name).map(|(argument, _)| argument)
}

/// By which argument a block device is named, and its name: old ones have a name, others a path.
fn name_of(device: &Value) -> Option<(&'static str, &str)> {
    let text = |key: &str| device.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    text("device").map(|name| ("device", name)).or_else(|| text("qdev").map(|name| ("id", name)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_refusal_of_any_length_is_shown_in_short() {
        let long = "x".repeat(4 << 20);
        let Said::Refused(why) = said(json!({ "error": { "desc": long } })) else { panic!("it refuses") };
        assert_eq!(why.len(), SHOWN_CHARS_MAX);
        assert_eq!(said(json!({ "error": 7 })), Said::Refused("refused".to_owned()));
        assert_eq!(said(json!({ "event": "RESET" })), Said::Event);
        assert_eq!(said(json!([])), Said::Event);
    }
}
