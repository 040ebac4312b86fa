//! An egress pool: IPv4 addresses to lease port blocks or whole addresses from, and IPv6 prefixes to cut leases from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::envelope::Metadata;
use super::network::Location;
use crate::ids::{GroupName, PoolName};
use crate::units::{Cidr, Span};

/// Ports in a block where a pool says nothing.
pub const BLOCK_SIZE_DEFAULT: u32 = 1_024;

/// How long a returned block rests where a pool says nothing: twice the maximum segment lifetime (RFC 9293 §3.4.1).
pub const QUARANTINE_DEFAULT: Span = Span(240_000);

/// An egress pool document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolDocument {
    /// Its name and labels.
    pub metadata: Metadata<PoolName>,
    /// What it says.
    pub spec: PoolSpec,
}

/// What an egress pool says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PoolSpec {
    /// IPv4 addresses and ranges, every address of which may be leased; IPv6 prefixes of 48 to 64 bits, out of which
    /// every lease takes a /64.
    pub addresses: Vec<Cidr>,
    /// Ports in a block: a power of two from 64 to 32,768.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_size: Option<u32>,
    /// The address that the outside routes the IPv6 prefixes to; an edge of the group answers for it. Needed with IPv6
    /// prefixes, meaningless without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_hop6: Option<Ipv6Addr>,
    /// The edge group that carries it.
    pub group: GroupName,
    /// Where its addresses are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// How long a returned block rests before it is leased again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<Span>,
}

impl PoolSpec {
    /// Ports in a block.
    pub fn block_size(&self) -> u32 {
        self.block_size.unwrap_or(BLOCK_SIZE_DEFAULT)
    }

    /// log2 of the ports in a block.
    pub fn block_bits(&self) -> u8 {
        self.block_size().trailing_zeros() as u8
    }

    /// How long a returned block rests.
    pub fn quarantine(&self) -> Span {
        self.quarantine.unwrap_or(QUARANTINE_DEFAULT)
    }

    /// Every IPv4 address, in the order written.
    pub fn addresses(&self) -> Vec<Ipv4Addr> {
        self.addresses.iter().flat_map(addresses_of).collect()
    }

    /// The IPv6 prefixes, in the order written.
    pub fn prefixes(&self) -> Vec<Cidr> {
        self.addresses.iter().filter(|range| range.address().is_ipv6()).copied().collect()
    }
}

/// How many IPv4 addresses a range holds.
pub(super) fn address_count(range: &Cidr) -> u64 {
    if range.address().is_ipv4() { 1 << (32 - range.prefix_length()) } else { 0 }
}

fn addresses_of(range: &Cidr) -> impl Iterator<Item = Ipv4Addr> + use<> {
    let first = match range.address() {
        IpAddr::V4(first) => first.to_bits(),
        IpAddr::V6(_) => 0,
    };
    (0..address_count(range)).map(move |offset| Ipv4Addr::from_bits(first + offset as u32))
}
