//! Who owns an egress address: rendezvous hashing over the alive edges of a group.
//!
//! Every machine computes the same answer from the same list, in any order of it. When an edge comes or goes, only the
//! addresses that it wins or held change hands.

use std::net::IpAddr;

use crate::ids::EdgeNumber;

/// The edge that answers ARP or ND for `address`, if any is alive.
pub fn owner(address: IpAddr, alive: &[EdgeNumber]) -> Option<EdgeNumber> {
    alive.iter().copied().max_by_key(|edge| (score(address, *edge), *edge))
}

/// Mixes address and edge; the constants are those of SplitMix64, a bijection with full avalanche.
fn score(address: IpAddr, edge: EdgeNumber) -> u64 {
    match address {
        IpAddr::V4(address) => crate::maglev::mix((u64::from(address.to_bits()) << 16) | u64::from(edge.0)),
        IpAddr::V6(address) => {
            let high = crate::maglev::mix((address.to_bits() >> 64) as u64);
            crate::maglev::mix(crate::maglev::mix(high ^ address.to_bits() as u64) ^ u64::from(edge.0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn addresses() -> impl Iterator<Item = IpAddr> {
        (0..10_000).map(|offset| match offset % 2 {
            0 => Ipv4Addr::from_bits(0xc633_6400 + offset).into(),
            _ => Ipv6Addr::from_bits((0x2001_0db8 << 96) + u128::from(offset)).into(),
        })
    }

    #[test]
    fn every_machine_gives_the_same_answer_in_any_order() {
        let edges = [EdgeNumber(3), EdgeNumber(1), EdgeNumber(2)];
        let sorted = [EdgeNumber(1), EdgeNumber(2), EdgeNumber(3)];
        assert!(addresses().all(|address| owner(address, &edges) == owner(address, &sorted)));
        assert_eq!(owner(Ipv4Addr::LOCALHOST.into(), &[]), None);
    }

    #[test]
    fn only_the_addresses_of_a_lost_edge_change_hands() {
        let all: Vec<EdgeNumber> = (1..=10).map(EdgeNumber).collect();
        let rest = &all[1..];
        for address in addresses() {
            let before = owner(address, &all);
            if before != Some(all[0]) {
                assert_eq!(owner(address, rest), before);
            }
        }
    }

    #[test]
    fn addresses_are_spread_evenly() {
        let edges: Vec<EdgeNumber> = (1..=10).map(EdgeNumber).collect();
        for edge in &edges {
            let count = addresses().filter(|address| owner(*address, &edges) == Some(*edge)).count();
            assert!((880..=1_120).contains(&count), "edge {edge} owns {count} of 10,000");
        }
    }
}
