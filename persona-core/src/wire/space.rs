//! What a lease consists of, in either family: ports of an IPv4 address, or an IPv6 prefix.
//!
//! Flattened into the items and views that carry it, told apart by `family`. A record of an earlier release has no
//! `family` and is IPv4.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::lease::port_ranges;

/// Block bits of a lease that is a whole IPv4 address: its one block, number 0, holds all 65,536 ports.
pub const WHOLE_ADDRESS_BITS: u8 = 16;

/// Bits of a leased IPv6 prefix.
pub const PREFIX_LENGTH: u8 = 64;

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub enum AddressFamily {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl fmt::Display for AddressFamily {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        })
    }
}

/// What a lease consists of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "family", try_from = "SpaceFields")]
pub enum LeaseSpace {
    /// Ports of an IPv4 address.
    #[serde(rename = "ipv4", rename_all = "camelCase")]
    Ports {
        /// The egress address.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        address: Ipv4Addr,
        /// log2 of the ports in a block; block `b` is ports `b << block_bits` and up. 16: the whole address.
        block_bits: u8,
        /// The blocks held, ascending, none below port 1,024; `[0]` for a whole address.
        blocks: Vec<u16>,
    },
    /// An IPv6 prefix of 64 bits.
    #[serde(rename = "ipv6")]
    Prefix {
        /// Its first address; the low 64 bits are zero.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        prefix: Ipv6Addr,
    },
}

impl LeaseSpace {
    /// All ports of an address.
    pub fn whole_address(address: Ipv4Addr) -> Self {
        Self::Ports { address, block_bits: WHOLE_ADDRESS_BITS, blocks: vec![0] }
    }

    /// Which family it is of.
    pub fn family(&self) -> AddressFamily {
        match self {
            Self::Ports { .. } => AddressFamily::Ipv4,
            Self::Prefix { .. } => AddressFamily::Ipv6,
        }
    }

    /// The IPv4 address, of a lease that is of that family.
    pub fn address(&self) -> Option<Ipv4Addr> {
        match self {
            Self::Ports { address, .. } => Some(*address),
            Self::Prefix { .. } => None,
        }
    }

    /// The IPv6 prefix's first address, of a lease that is of that family.
    pub fn prefix(&self) -> Option<Ipv6Addr> {
        match self {
            Self::Ports { .. } => None,
            Self::Prefix { prefix } => Some(*prefix),
        }
    }

    /// Whether it is a whole IPv4 address.
    pub fn is_whole_address(&self) -> bool {
        matches!(self, Self::Ports { block_bits: WHOLE_ADDRESS_BITS, .. })
    }

    /// First and last port of each block, ascending. A prefix has every port: no range is listed.
    pub fn port_ranges(&self) -> Vec<(u16, u16)> {
        match self {
            Self::Ports { block_bits, blocks, .. } => port_ranges(*block_bits, blocks),
            Self::Prefix { .. } => Vec::new(),
        }
    }
}

impl fmt::Display for LeaseSpace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix { prefix } => write!(formatter, "{prefix}/{PREFIX_LENGTH}"),
            Self::Ports { address, .. } if self.is_whole_address() => write!(formatter, "all of {address}"),
            Self::Ports { address, .. } => {
                let ports: Vec<String> =
                    self.port_ranges().iter().map(|(first, last)| format!("{first}-{last}")).collect();
                write!(formatter, "{address} ports {}", ports.join(", "))
            }
        }
    }
}

/// The fields as they arrive, also from an earlier release.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpaceFields {
    family: Option<AddressFamily>,
    address: Option<Ipv4Addr>,
    #[serde(alias = "block_bits")]
    block_bits: Option<u8>,
    blocks: Option<Vec<u16>>,
    prefix: Option<Ipv6Addr>,
}

/// A lease whose fields do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum InvalidSpace {
    /// IPv4 without one of its fields.
    #[error("an IPv4 lease needs address, blockBits (0 to 16) and blocks")]
    Ports,
    /// IPv6 without a prefix, or with one that is none.
    #[error("an IPv6 lease needs prefix, an address whose low 64 bits are zero")]
    Prefix,
}

impl TryFrom<SpaceFields> for LeaseSpace {
    type Error = InvalidSpace;
    fn try_from(fields: SpaceFields) -> Result<Self, InvalidSpace> {
        match (fields.family.unwrap_or(AddressFamily::Ipv4), fields) {
            (
                AddressFamily::Ipv4,
                SpaceFields { address: Some(address), block_bits: Some(block_bits), blocks: Some(blocks), .. },
            ) if block_bits <= WHOLE_ADDRESS_BITS => Ok(Self::Ports { address, block_bits, blocks }),
            (AddressFamily::Ipv6, SpaceFields { prefix: Some(prefix), .. }) if prefix.to_bits() as u64 == 0 => {
                Ok(Self::Prefix { prefix })
            }
            (AddressFamily::Ipv4, _) => Err(InvalidSpace::Ports),
            (AddressFamily::Ipv6, _) => Err(InvalidSpace::Prefix),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Holder {
        id: u64,
        #[serde(flatten)]
        space: LeaseSpace,
    }

    #[test]
    fn a_space_is_flat_and_reads_back() {
        let spaces = [
            LeaseSpace::Ports { address: [203, 0, 113, 1].into(), block_bits: 10, blocks: vec![1, 2] },
            LeaseSpace::whole_address([203, 0, 113, 1].into()),
            LeaseSpace::Prefix { prefix: "2001:db8:1::".parse().unwrap() },
        ];
        for space in spaces {
            let holder = Holder { id: 7, space };
            let text = serde_json::to_string(&holder).unwrap();
            assert_eq!(serde_json::from_str::<Holder>(&text).unwrap(), holder, "{text}");
        }
    }

    #[test]
    fn a_record_of_an_earlier_release_is_ipv4() {
        for key in ["blockBits", "block_bits"] {
            let text = format!(r#"{{"id":1,"address":"203.0.113.1","{key}":10,"blocks":[1]}}"#);
            let holder: Holder = serde_json::from_str(&text).unwrap();
            assert_eq!(holder.space.port_ranges(), [(1_024, 2_047)]);
        }
    }

    #[test]
    fn what_does_not_fit_together_is_refused_with_what_would() {
        let cases = [
            (r#"{"id":1,"family":"ipv6","prefix":"2001:db8::1"}"#, "low 64 bits"),
            (r#"{"id":1,"family":"ipv6","address":"203.0.113.1","blockBits":10,"blocks":[1]}"#, "needs prefix"),
            (r#"{"id":1,"family":"ipv4","address":"203.0.113.1","blockBits":17,"blocks":[0]}"#, "0 to 16"),
        ];
        for (text, expected) in cases {
            let error = serde_json::from_str::<Holder>(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
