//! The encrypted tunnel on the wire: what an end says of itself, and what others are told of it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::agent::Role;

/// Characters of a WireGuard key: 32 bytes in Base64.
const KEY_LENGTH: usize = 44;

/// An end of encrypted tunnels. Its address is the underlay's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TunnelEnd {
    /// Its public key (WireGuard, X25519), Base64. The private one never leaves its host.
    pub public_key: String,
    /// The UDP port that it listens on.
    pub port: u16,
}

impl TunnelEnd {
    /// Whether the key can be one: 32 bytes in Base64.
    pub fn is_valid(&self) -> bool {
        let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
        let key = self.public_key.strip_suffix('=').unwrap_or_default();
        key.len() == KEY_LENGTH - 1 && key.bytes().all(is_base64) && self.port != 0
    }
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
#[serde(rename_all = "camelCase", deny_unknown_fields)]
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
            assert_eq!(TunnelEnd { public_key: key.to_owned(), port }.is_valid(), expected, "{key}:{port}");
        }
    }
}
