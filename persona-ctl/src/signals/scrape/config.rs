//! The `[workload.metrics]` section of an agent's file.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::str::FromStr;

use persona_core::signal::SignalName;
use serde::{Deserialize, Serialize};

use super::exposition::Selection;

/// Most signals that one workload's page may make.
pub(super) const SIGNAL_COUNT_MAX: usize = 16;

/// How often a page is asked for, and how long that may take, milliseconds.
const EVERY_MS: u32 = 1_000;
const TIMEOUT_MS: u32 = 500;

/// A workload's own page of metrics, and what of it becomes signals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsConfig {
    /// Where it is: `http://ADDRESS:PORT/PATH`. Names are not looked up.
    pub url: MetricsUrl,
    /// Whether that is an address in the workload's own network namespace: that of `netns` or `pid`, else of the first process
    /// of its control group.
    #[serde(default)]
    pub inside: bool,
    /// How often it is asked for, milliseconds.
    #[serde(default = "every_ms")]
    pub every_ms: u32,
    /// How long an answer may take, milliseconds.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u32,
    /// Signal, after `metric.` → the series that it is.
    pub signals: BTreeMap<String, Selection>,
}

const fn every_ms() -> u32 {
    EVERY_MS
}

const fn timeout_ms() -> u32 {
    TIMEOUT_MS
}

impl MetricsConfig {
    /// What is wrong with it, and what would be valid.
    pub fn mistake(&self) -> Option<String> {
        if !(1_000..=60_000).contains(&self.every_ms) {
            return Some("metrics.every_ms is 1000 to 60000".to_owned());
        }
        if !(10..=self.every_ms).contains(&self.timeout_ms) {
            return Some("metrics.timeout_ms is 10 to every_ms".to_owned());
        }
        if self.signals.is_empty() || self.signals.len() > SIGNAL_COUNT_MAX {
            return Some(format!("metrics.signals has 1 to {SIGNAL_COUNT_MAX} signals"));
        }
        let invalid = |name: &String| format!("metric.{name}").parse::<SignalName>().err();
        self.signals.keys().find_map(invalid).map(|error| format!("metrics.signals: {error}"))
    }
}

/// Where a page is: an address and a path, in plain HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MetricsUrl {
    /// Who is asked.
    pub address: SocketAddr,
    /// For what, with the slash that it begins with.
    pub path: String,
}

/// A URL that cannot be asked for metrics.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no URL of metrics: write http://ADDRESS:PORT/PATH with an IP address, such as http://127.0.0.1:9100/metrics"
)]
pub struct InvalidUrl(String);

impl FromStr for MetricsUrl {
    type Err = InvalidUrl;
    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let parts = text.strip_prefix("http://").map(|rest| rest.split_at(rest.find('/').unwrap_or(rest.len())));
        let read = parts.and_then(|(address, path)| {
            let is_plain = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
            let path = if path.is_empty() { "/".to_owned() } else { path.to_owned() };
            is_plain.then_some(Self { address: address.parse().ok()?, path })
        });
        read.ok_or_else(|| InvalidUrl(text.to_owned()))
    }
}

impl TryFrom<String> for MetricsUrl {
    type Error = InvalidUrl;
    fn try_from(text: String) -> Result<Self, InvalidUrl> {
        text.parse()
    }
}

impl From<MetricsUrl> for String {
    fn from(url: MetricsUrl) -> Self {
        url.to_string()
    }
}

impl std::fmt::Display for MetricsUrl {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "http://{}{}", self.address, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_are_asked() {
        for text in ["http://127.0.0.1:9100/metrics", "http://[fd00::1]:80/a?b=c"] {
            assert_eq!(text.parse::<MetricsUrl>().unwrap().to_string(), text);
        }
        assert_eq!("http://10.0.0.1:1".parse::<MetricsUrl>().unwrap().path, "/");
        for text in [
            "https://127.0.0.1:9100/metrics",
            "http://localhost:9100/metrics",
            "http://127.0.0.1/metrics",
            "http://user@127.0.0.1:80/",
            "http://127.0.0.1:80/a b",
            "http://127.0.0.1:80/#top",
            "127.0.0.1:80",
        ] {
            assert!(text.parse::<MetricsUrl>().unwrap_err().to_string().contains("IP address"), "{text}");
        }
    }

    #[test]
    fn a_section_is_read_with_its_defaults_and_judged() {
        let read = |text: &str| toml::from_str::<MetricsConfig>(text).unwrap();
        let url = "url = 'http://127.0.0.1:9100/metrics'";
        let plain = read(&format!("{url}\nsignals = {{ requests = 'rate(http_requests_total)' }}"));
        assert_eq!((plain.every_ms, plain.timeout_ms, plain.inside, plain.mistake()), (1_000, 500, false, None));
        for (rest, expected) in [
            ("every_ms = 10\nsignals = { a = 'a' }", "every_ms is 1000"),
            ("timeout_ms = 2000\nsignals = { a = 'a' }", "timeout_ms is 10"),
            ("signals = {}", "1 to 16"),
            ("signals = { Requests = 'a' }", "a-z"),
        ] {
            let mistake = read(&format!("{url}\n{rest}")).mistake().unwrap();
            assert!(mistake.contains(expected), "{mistake}");
        }
    }
}
