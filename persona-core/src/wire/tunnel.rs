//! The encrypted tunnel on the wire: what an end says of itself, and what others are told of it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::agent::Role;

/// Characters of a WireGuard key: 32 bytes in Base64.
const KEY_LENGTH: usize = 44;

/// An end of encrypted tunnels. Its address is the underlay's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct TunnelEnd {
    /// Its public key (WireGuard, X25519), Base64. The private one never leaves its host.
    pub public_key: String,
    /// The UDP port that it listens on.
    pub port: u16,
    /// The public key that is about to take its place: far ends accept both. Absent: no change is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_key: Option<String>,
}

impl TunnelEnd {
    /// Whether the keys can be some: 32 bytes in Base64, and two that differ.
    pub fn is_valid(&self) -> bool {
        let is_next = |key: &String| is_key(key) && *key != self.public_key;
        is_key(&self.public_key) && self.next_key.as_ref().is_none_or(is_next) && self.port != 0
    }
}

fn is_key(text: &str) -> bool {
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    let key = text.strip_suffix('=').unwrap_or_default();
    key.len() == KEY_LENGTH - 1 && key.bytes().all(is_base64)
}

/// An end of encrypted tunnels, as those need to know it that it talks to: a node knows edges, an edge knows nodes and the
/// edges of its group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct TunnelItem {
    /// What it is.
    pub role: Role,
    /// Its name.
    pub name: String,
    /// Its address on the underlay.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub address: IpAddr,
    /// Key and port.
    #[serde(flatten)]
    pub end: TunnelEnd,
}

/// What a node or an edge says of its encrypted tunnels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct TunnelReport {
    /// Its own end. Absent: it has none, and encrypted personas are not carried there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<TunnelEnd>,
    /// What encrypts: `kernel` or `userspace`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub implementation: Option<String>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How old its key is, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_age_secs: Option<u64>,
    /// The far ends that it knows.
    #[serde(default)]
    pub far_ends: Vec<FarEndReport>,
}

/// What is known of a far end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FarEndReport {
    /// Its address on the underlay.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub address: IpAddr,
    /// How long ago keys were last agreed upon, seconds. Absent: not yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshake_age_secs: Option<u64>,
}

/// Far ends that one report may name: more than an edge may have nodes.
pub const FAR_END_COUNT_MAX: usize = 20_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_32_bytes_in_base64() {
        let cases = [
            ("oDPtc8hkUkYyXFWFGKs0cNPSMMR8Bn5p6VYcNbL4/Ws=", 51_820, true),
            ("oDPtc8hkUkYyXFWFGKs0cNPSMMR8Bn5p6VYcNbL4/Ws=", 0, false),
            ("oDPtc8hkUkYyXFWFGKs0cNPSMMR8Bn5p6VYcNbL4/Ws", 51_820, false),
            ("oDPtc8hkUkYyXFWFGKs0cNPSMMR8Bn5p6VYcNbL4 Ws=", 51_820, false),
            ("", 51_820, false),
        ];
        for (key, port, expected) in cases {
            let end = TunnelEnd { public_key: key.to_owned(), port, next_key: None };
            assert_eq!(end.is_valid(), expected, "{key}:{port}");
        }
    }

    #[test]
    fn a_next_key_is_a_key_and_another_one() {
        let public_key = "oDPtc8hkUkYyXFWFGKs0cNPSMMR8Bn5p6VYcNbL4/Ws=".to_owned();
        let other = format!("{}=", "A".repeat(43));
        for (next, expected) in [(&other, true), (&public_key, false), (&"short".to_owned(), false)] {
            let end = TunnelEnd { public_key: public_key.clone(), port: 1, next_key: Some(next.clone()) };
            assert_eq!(end.is_valid(), expected, "{next}");
            assert_eq!(serde_json::from_value::<TunnelEnd>(serde_json::to_value(&end).unwrap()).unwrap(), end);
        }
    }
}
