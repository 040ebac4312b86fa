//! Protocols over IP, by name or by number.

use std::fmt;

use schemars::JsonSchema;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Names of protocols and their IANA numbers. ICMP stands for ICMP (1) and ICMPv6 (58).
const NAMES: [(&str, Protocol); 6] = [
    ("tcp", Protocol::TCP),
    ("udp", Protocol::UDP),
    ("icmp", Protocol::ICMP),
    ("gre", Protocol::GRE),
    ("esp", Protocol::ESP),
    ("sctp", Protocol::SCTP),
];

/// ICMPv6 in an IP header; a document's `icmp` means it too.
const ICMPV6: u8 = 58;

/// What a document may say.
const VALID: &str = "tcp, udp, icmp, gre, esp, sctp, or an IANA protocol number from 1 to 252";

/// A protocol over IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Protocol(u8);

impl Protocol {
    /// Internet Control Message Protocol, of either family: echo, and errors of permitted flows.
    pub const ICMP: Self = Self(1);
    /// Transmission Control Protocol.
    pub const TCP: Self = Self(6);
    /// User Datagram Protocol.
    pub const UDP: Self = Self(17);
    /// Generic Routing Encapsulation.
    pub const GRE: Self = Self(47);
    /// IP Encapsulating Security Payload.
    pub const ESP: Self = Self(50);
    /// Stream Control Transmission Protocol.
    pub const SCTP: Self = Self(132);

    /// A protocol by its number. None: reserved, or an extension header of IPv6, which is stepped over and never what is
    /// permitted (RFC 7045 §4).
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            0 | 43 | 44 | 51 | 59 | 60 | 135 | 139 | 140 | 253..=255 => None,
            ICMPV6 => Some(Self::ICMP),
            number => Some(Self(number)),
        }
    }

    /// Its numbers in IP headers.
    pub fn numbers(self) -> &'static [u8] {
        /// Every number, so that any one is a slice of it.
        static ALL: [u8; 256] = {
            let mut all = [0; 256];
            let mut number = 0;
            while number < 256 {
                all[number] = number as u8;
                number += 1;
            }
            all
        };
        if self == Self::ICMP { &[1, ICMPV6] } else { &ALL[usize::from(self.0)..=usize::from(self.0)] }
    }

    /// Whether its flows are told apart by ports (or ICMP's query id), so that they fit into port blocks.
    pub fn has_ports(self) -> bool {
        matches!(self, Self::TCP | Self::UDP | Self::ICMP)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, protocol)| protocol == self) {
            Some((name, _)) => formatter.pad(name),
            None => formatter.pad(&self.0.to_string()),
        }
    }
}

impl Serialize for Protocol {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match NAMES.iter().find(|(_, protocol)| protocol == self) {
            Some((name, _)) => serializer.serialize_str(name),
            None => serializer.serialize_u8(self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Protocol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Wanted;
        impl Visitor<'_> for Wanted {
            type Value = Protocol;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "a protocol: {VALID}")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Protocol, E> {
                let found = NAMES.iter().find(|(name, _)| *name == text);
                let refused = || E::custom(format!("{text:?} is no protocol: write {VALID}"));
                found.map(|(_, protocol)| *protocol).ok_or_else(refused)
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Protocol, E> {
                let found = u8::try_from(number).ok().and_then(Protocol::from_number);
                found.ok_or_else(|| {
                    E::custom(format!(
                        "{number} is no protocol but reserved or an IPv6 extension header, which is stepped over: write {VALID}"
                    ))
                })
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Protocol, E> {
                let number = u64::try_from(number);
                number
                    .map_err(|_| E::custom(format!("a negative number is no protocol: write {VALID}")))
                    .and_then(|number| self.visit_u64(number))
            }
        }
        deserializer.deserialize_any(Wanted)
    }
}

impl JsonSchema for Protocol {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Protocol".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let names = NAMES.map(|(name, _)| name);
        schemars::json_schema!({
            "description": format!("a protocol over IP: {VALID}"),
            "oneOf": [{ "enum": names }, { "type": "integer", "minimum": 1, "maximum": 252 }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_has_one_canonical_form() {
        for (given, canonical) in [("\"gre\"", "\"gre\""), ("47", "\"gre\""), ("58", "\"icmp\""), ("136", "136")] {
            let protocol: Protocol = serde_json::from_str(given).unwrap();
            assert_eq!(serde_json::to_string(&protocol).unwrap(), canonical, "{given}");
        }
        assert_eq!(Protocol::ICMP.numbers(), [1, 58]);
        assert_eq!(Protocol::SCTP.numbers(), [132]);
    }

    #[test]
    fn what_is_no_protocol_is_refused() {
        for given in ["\"tpc\"", "0", "44", "255", "256", "-1"] {
            let error = serde_json::from_str::<Protocol>(given).unwrap_err().to_string();
            assert!(error.contains("sctp"), "{given}: {error}");
        }
    }
}
