//! What a subject needs of a pool, by what its persona says and by what the pool has.

use super::block::block_count_for;
use crate::document::{Assign, Family, Network};
use crate::wire::desired::{AddressFamily, LeaseSpace};

/// What one lease of a subject consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Need {
    /// That many port blocks of one IPv4 address.
    Blocks(u32),
    /// A whole IPv4 address.
    Address,
    /// An IPv6 /64.
    Prefix,
}

impl Need {
    /// Of which family the lease is.
    pub fn family(self) -> AddressFamily {
        match self {
            Self::Blocks(_) | Self::Address => AddressFamily::Ipv4,
            Self::Prefix => AddressFamily::Ipv6,
        }
    }

    /// Whether a lease from a pool that cuts addresses into blocks of `pool_block_bits` is what is needed.
    pub fn is_met_by(self, space: &LeaseSpace, pool_block_bits: u8) -> bool {
        match (self, space) {
            (Self::Blocks(count), LeaseSpace::Ports { block_bits, blocks, .. }) => {
                *block_bits == pool_block_bits && blocks.len() as u32 == count
            }
            (Self::Address, space) => space.is_whole_address(),
            (Self::Prefix, space) => space.prefix().is_some(),
            (Self::Blocks(_), LeaseSpace::Prefix { .. }) => false,
        }
    }
}

/// Which families a pool has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolFamilies {
    /// It has IPv4 addresses.
    pub ipv4: bool,
    /// It has IPv6 prefixes.
    pub ipv6: bool,
}

/// The leases that a subject needs of a pool, one per family at most. None: the pool lacks the family that is asked for.
pub fn needs(network: &Network, pool: PoolFamilies, block_bits: u8) -> Option<Vec<Need>> {
    let ipv4 = match network.assign() {
        Assign::Configure => Need::Address,
        Assign::Rewrite => Need::Blocks(block_count_for(network.ports_per_subject(), block_bits)),
    };
    let needs: Vec<Need> = match network.family() {
        Family::Ipv4 => pool.ipv4.then_some(ipv4).into_iter().collect(),
        Family::Ipv6 => pool.ipv6.then_some(Need::Prefix).into_iter().collect(),
        Family::PreferIpv6 => {
            let ipv6 = pool.ipv6.then_some(Need::Prefix);
            pool.ipv4.then_some(ipv4).into_iter().chain(ipv6).collect()
        }
    };
    (!needs.is_empty()).then_some(needs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Egress;

    /// Family, assignment, whether the pool has IPv4 and IPv6 → needs.
    type Case<'a> = (Family, Assign, (bool, bool), Option<&'a [Need]>);

    fn network(family: Family, assign: Assign) -> Network {
        Network {
            egress: Egress {
                pools: vec!["p".parse().unwrap()],
                family: Some(family),
                assign: Some(assign),
                filtering: None,
                ports_per_subject: None,
                grace: None,
            },
            location: None,
            mtu: None,
            protocols: None,
            bypass: Vec::new(),
            edges: None,
            privacy: None,
            impair: None,
        }
    }

    #[test]
    fn a_subject_needs_what_family_and_assignment_say_and_the_pool_has() {
        use Assign::{Configure, Rewrite};
        use Family::{Ipv4, Ipv6, PreferIpv6};
        use Need::{Address, Blocks, Prefix};
        let (v4, v6, both) = ((true, false), (false, true), (true, true));
        let cases: &[Case<'_>] = &[
            (Ipv4, Rewrite, both, Some(&[Blocks(1)])),
            (Ipv4, Configure, v4, Some(&[Address])),
            (Ipv4, Rewrite, v6, None),
            (Ipv6, Rewrite, both, Some(&[Prefix])),
            (Ipv6, Configure, v4, None),
            (PreferIpv6, Rewrite, both, Some(&[Blocks(1), Prefix])),
            (PreferIpv6, Configure, both, Some(&[Address, Prefix])),
            (PreferIpv6, Rewrite, v4, Some(&[Blocks(1)])),
            (PreferIpv6, Configure, v6, Some(&[Prefix])),
            (PreferIpv6, Configure, (false, false), None),
        ];
        for (family, assign, (ipv4, ipv6), expected) in cases {
            let found = needs(&network(*family, *assign), PoolFamilies { ipv4: *ipv4, ipv6: *ipv6 }, 10);
            assert_eq!(found.as_deref(), *expected, "{family:?} {assign:?} {ipv4} {ipv6}");
        }
    }
}
