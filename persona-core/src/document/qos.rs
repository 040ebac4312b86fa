//! A persona's qos section: rates, burst and DSCP.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{BitRate, ByteCount};

/// Rates and marks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Qos {
    /// The service class, which gives the DSCP where none is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<QosClass>,
    /// Upwards, inner IP bytes, per subject over all its leases. Absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_rate: Option<BitRate>,
    /// Downwards, inner IP bytes, per subject over all its leases. Absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_rate: Option<BitRate>,
    /// Upwards, inner IP bytes: what each subject has of the shared total even when all want more. Needs `shared.egressRate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guaranteed_rate: Option<BitRate>,
    /// How much may pass at once above the rate; at least one packet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<ByteCount>,
    /// Mark on inner and outer headers: 0 to 63, or a name such as ef, af41, cs1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dscp: Option<Dscp>,
    /// A total for all wearers, on a node or on all nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<SharedRates>,
    /// Where the rates are held. Absent: at the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforce_at: Option<EnforceAt>,
}

impl Qos {
    /// The DSCP to set: the written one, else the class's. None: copy what the subject set.
    pub fn effective_dscp(&self) -> Option<Dscp> {
        self.dscp.or_else(|| self.class.and_then(QosClass::dscp))
    }
}

/// A service class of RFC 4594 §2.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum QosClass {
    /// Voice: EF.
    Telephony,
    /// Games and remote control: CS4.
    RealTimeInteractive,
    /// Conferences: AF41.
    MultimediaConferencing,
    /// Video on demand: AF31.
    MultimediaStreaming,
    /// Transactions and APIs: AF21.
    LowLatency,
    /// Transfers: AF11.
    HighThroughput,
    /// Everything else: the subject's own marks are kept.
    Standard,
    /// Whatever may wait: CS1.
    LowPriority,
}

impl QosClass {
    /// The DSCP that RFC 4594 gives the class; the low-drop one where there are three.
    pub fn dscp(self) -> Option<Dscp> {
        let value = match self {
            Self::Telephony => 46,
            Self::RealTimeInteractive => 32,
            Self::MultimediaConferencing => 34,
            Self::MultimediaStreaming => 26,
            Self::LowLatency => 18,
            Self::HighThroughput => 10,
            Self::LowPriority => 8,
            Self::Standard => return None,
        };
        Some(Dscp(value))
    }
}

/// Where rates are held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum EnforceAt {
    /// By the node's queues; edges drop what is far beyond.
    #[default]
    Node,
    /// By the edges: by queues where their programs hang at TC, by dropping what is beyond where they hang at XDP. For nodes
    /// that aren't trusted.
    Edge,
    /// By the node's queues, and by the edges as well.
    Both,
}

impl EnforceAt {
    /// Whether only the node holds them.
    pub fn is_node(&self) -> bool {
        *self == Self::Node
    }
}

/// A total for all wearers of a persona.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SharedRates {
    /// Whose total it is. Absent: each node's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<SharedScope>,
    /// Upwards, inner IP bytes. Absent: no limit but each subject's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_rate: Option<BitRate>,
    /// Downwards, inner IP bytes, among subjects that have a device of their own. Absent: no limit but each subject's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_rate: Option<BitRate>,
}

/// Whose total it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum SharedScope {
    /// Each node's, by itself: on three nodes wearers have it three times.
    #[default]
    Node,
    /// All nodes' together: the manager divides it among them by what their wearers use.
    Fleet,
}

impl SharedScope {
    /// Whether each node has it by itself.
    pub fn is_node(&self) -> bool {
        *self == Self::Node
    }
}

/// A differentiated services code point (RFC 2474), 0 to 63.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dscp(u8);

/// Names and values, RFC 4594 §1.5.3 and RFC 8622 (le).
const DSCP_NAMES: [(&str, u8); 24] = [
    ("df", 0),
    ("cs0", 0),
    ("le", 1),
    ("cs1", 8),
    ("af11", 10),
    ("af12", 12),
    ("af13", 14),
    ("cs2", 16),
    ("af21", 18),
    ("af22", 20),
    ("af23", 22),
    ("cs3", 24),
    ("af31", 26),
    ("af32", 28),
    ("af33", 30),
    ("cs4", 32),
    ("af41", 34),
    ("af42", 36),
    ("af43", 38),
    ("cs5", 40),
    ("va", 44),
    ("ef", 46),
    ("cs6", 48),
    ("cs7", 56),
];

/// What would be a valid DSCP.
const DSCP_VALID: &str = "a DSCP: a number from 0 to 63, or one of df, le, cs0 to cs7, af11 to af43, va, ef";

impl Dscp {
    /// Its value, 0 to 63.
    pub fn value(self) -> u8 {
        self.0
    }

    /// The code point with that value, if there is one.
    pub fn from_value(value: u64) -> Option<Self> {
        u8::try_from(value).ok().filter(|value| *value < 64).map(Self)
    }
}

impl FromStr for Dscp {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let named = DSCP_NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, value)| Self(*value));
        let number = || text.parse().ok().and_then(Self::from_value);
        named.or_else(number).ok_or_else(|| format!("{text:?} is not {DSCP_VALID}"))
    }
}

impl fmt::Display for Dscp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DSCP_NAMES.iter().find(|(_, value)| *value == self.0) {
            Some((name, _)) => formatter.pad(name),
            None => formatter.pad(&self.0.to_string()),
        }
    }
}

impl Serialize for Dscp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match DSCP_NAMES.iter().find(|(_, value)| *value == self.0) {
            Some((name, _)) => serializer.serialize_str(name),
            None => serializer.serialize_u8(self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Dscp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrName;
        impl serde::de::Visitor<'_> for NumberOrName {
            type Value = Dscp;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(DSCP_VALID)
            }
            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Dscp, E> {
                Dscp::from_value(value).ok_or_else(|| E::custom(format!("{value} is not {DSCP_VALID}")))
            }
            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Dscp, E> {
                let known = u64::try_from(value).ok().and_then(Dscp::from_value);
                known.ok_or_else(|| E::custom(format!("{value} is not {DSCP_VALID}")))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Dscp, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(NumberOrName)
    }
}

impl JsonSchema for Dscp {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Dscp".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let names: Vec<_> = DSCP_NAMES.iter().map(|(name, _)| *name).collect();
        schemars::json_schema!({
            "description": DSCP_VALID,
            "oneOf": [{ "type": "integer", "minimum": 0, "maximum": 63 }, { "type": "string", "enum": names }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_points_have_numbers_and_names() {
        let cases = [("ef", 46), ("af41", 34), ("CS1", 8), ("46", 46), ("63", 63), ("cs0", 0)];
        cases.iter().for_each(|(text, value)| assert_eq!(text.parse::<Dscp>().unwrap().value(), *value, "{text}"));
        for bad in ["64", "-1", "af44", "cs8", ""] {
            assert!(bad.parse::<Dscp>().unwrap_err().contains("0 to 63"), "{bad}");
        }
        assert!((0..64).all(|value| Dscp(value).to_string().parse() == Ok(Dscp(value))));
    }
}
