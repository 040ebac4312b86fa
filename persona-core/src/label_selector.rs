//! Which things a question is about, by their labels, written as for kubectl: `tier=gold,zone!=b,team,!old`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Requirements that one selector may have.
const REQUIREMENT_COUNT_MAX: usize = 32;

/// A selector that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "label selector {given:?} is not valid: write KEY=VALUE, KEY!=VALUE, KEY or !KEY, with commas between them, {REQUIREMENT_COUNT_MAX} at most"
)]
pub struct InvalidLabelSelector {
    /// What was given.
    pub given: String,
}

/// All that labels must be. Without a requirement it selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSelector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    Is(String, String),
    IsNot(String, String),
    Has(String),
    HasNot(String),
}

impl LabelSelector {
    /// Whether labels are as required.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| match requirement {
            Requirement::Is(key, value) => labels.get(key) == Some(value),
            Requirement::IsNot(key, value) => labels.get(key) != Some(value),
            Requirement::Has(key) => labels.contains_key(key),
            Requirement::HasNot(key) => !labels.contains_key(key),
        })
    }

    /// Whether it selects only what has some label with some value: what nobody labelled is never among it.
    pub fn is_scope(&self) -> bool {
        self.0.iter().any(|requirement| matches!(requirement, Requirement::Is(..)))
    }
}

impl FromStr for LabelSelector {
    type Err = InvalidLabelSelector;
    fn from_str(text: &str) -> Result<Self, InvalidLabelSelector> {
        let invalid = || InvalidLabelSelector { given: text.to_owned() };
        let requirements: Option<Vec<Requirement>> = text.split(',').map(|part| requirement(part.trim())).collect();
        let requirements = requirements.filter(|all| all.len() <= REQUIREMENT_COUNT_MAX);
        requirements.map(Self).ok_or_else(invalid)
    }
}

fn requirement(text: &str) -> Option<Requirement> {
    let key = |key: &str| Some(key.trim().to_owned()).filter(|key| !key.is_empty() && !key.contains(['!', '=', ' ']));
    let value = |value: &str| Some(value.trim().to_owned()).filter(|value| !value.contains('='));
    if let Some((name, wanted)) = text.split_once("!=") {
        return Some(Requirement::IsNot(key(name)?, value(wanted)?));
    }
    if let Some((name, wanted)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Some(Requirement::Is(key(name)?, value(wanted)?));
    }
    match text.strip_prefix('!') {
        Some(name) => key(name).map(Requirement::HasNot),
        None => key(text).map(Requirement::Has),
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        formatter.write_str(&parts.join(","))
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(key, value) => write!(formatter, "{key}={value}"),
            Self::IsNot(key, value) => write!(formatter, "{key}!={value}"),
            Self::Has(key) => formatter.write_str(key),
            Self::HasNot(key) => write!(formatter, "!{key}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_selected_as_kubectl_does_it() {
        let labels: BTreeMap<String, String> = [("tier", "gold"), ("zone", "a"), ("empty", "")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        for (text, expected, is_scope) in [
            ("tier=gold", true, true),
            ("tier==gold", true, true),
            (" tier = gold , zone!=b ", true, true),
            ("tier=silver", false, true),
            ("tier!=gold", false, false),
            ("other!=x", true, false),
            ("tier", true, false),
            ("other", false, false),
            ("!other", true, false),
            ("!tier", false, false),
            ("empty=", true, true),
            ("tier=gold,!tier", false, true),
        ] {
            let selector: LabelSelector = text.parse().unwrap();
            assert_eq!((selector.matches(&labels), selector.is_scope()), (expected, is_scope), "{text}");
            assert_eq!(selector.to_string().parse(), Ok(selector), "{text}");
        }
        assert!(LabelSelector::default().matches(&labels) && !LabelSelector::default().is_scope());
        let long = vec!["a"; 33].join(",");
        for text in ["", "=", "=x", "a=b=c", "a,,b", "!", "a b", "!a=b", "!!a", long.as_str()] {
            assert!(text.parse::<LabelSelector>().is_err(), "{text}");
        }
    }
}
