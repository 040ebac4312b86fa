//! Which events a webhook tells: a name, a family (`activation.*`), or all of them (`*`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest pattern, bytes.
const LENGTH_MAX: usize = 100;

/// A name of events, or the beginning of several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(value_type = String))]
#[serde(try_from = "String", into = "String")]
pub struct EventPattern(String);

/// A text that fits no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} fits no event: write a name such as edge.down, a family such as activation.*, or *")]
pub struct InvalidPattern(String);

impl EventPattern {
    /// Whether an event of this name is meant.
    pub fn fits(&self, event: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(family) => event.starts_with(family),
            None => event == self.0,
        }
    }
}

impl FromStr for EventPattern {
    type Err = InvalidPattern;
    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        let is_word = |word: &str| {
            !word.is_empty()
                && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        };
        let name = text.strip_suffix(".*").unwrap_or(text);
        let is_valid = text == "*" || text.len() <= LENGTH_MAX && name.split('.').all(is_word);
        if is_valid { Ok(Self(text.to_owned())) } else { Err(InvalidPattern(text.chars().take(LENGTH_MAX).collect())) }
    }
}

impl TryFrom<String> for EventPattern {
    type Error = InvalidPattern;
    fn try_from(text: String) -> Result<Self, InvalidPattern> {
        text.parse()
    }
}

impl From<EventPattern> for String {
    fn from(pattern: EventPattern) -> Self {
        pattern.0
    }
}

impl fmt::Display for EventPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_fits_a_name_a_family_or_everything() {
        for (pattern, event, expected) in [
            ("edge.down", "edge.down", true),
            ("edge.down", "edge.downs", false),
            ("activation.*", "activation.entered", true),
            ("activation.*", "activations", false),
            ("*", "lease.freed", true),
        ] {
            assert_eq!(pattern.parse::<EventPattern>().unwrap().fits(event), expected, "{pattern} {event}");
        }
        for text in ["", ".", "a.", "edge.*.x", "Edge.down", "edge down", "**", "edge*"] {
            assert!(text.parse::<EventPattern>().is_err(), "{text}");
        }
    }
}
