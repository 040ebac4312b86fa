//! Rules as rows of bits: bit *i* is rule *i*. Who is on the other side gives the rules that may be meant, protocol and port give
//! such rules too, and the lowest bit of both is the first rule that matches.
//!
//! Each row holds the bits of every wider row of its kind, so that the narrowest one that there is says all.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use super::decide::Opening;
use crate::document::{Direction, FirewallAction};
use crate::units::Cidr;
use crate::wire::firewall::FirewallRule;

/// Rules of one persona.
pub const RULE_COUNT_MAX: usize = 64;

/// Different protocols, and ports of them, that the rules of one persona may name.
pub const SERVICE_COUNT_MAX: usize = 1_024;

/// Rules for which there is no room.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    /// More rules than bits.
    #[error("{0} rules are too many for one persona: at most {RULE_COUNT_MAX}")]
    Rules(usize),
    /// More protocols and ports than rows.
    #[error("{0} different protocols and ports are too many for one persona: at most {SERVICE_COUNT_MAX}")]
    Services(usize),
}

/// Rules as rows of bits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CompiledRules {
    /// Rules that let pass; the others deny.
    pub allow: u64,
    /// Rules about what the subject opens; the others are about what is opened towards it.
    pub egress: u64,
    /// Rules about anybody.
    pub any_remote: u64,
    /// Rules about every protocol.
    pub any_protocol: u64,
    /// The other side → rules about it. Where IPv6 is named as a whole, so is IPv4: they share one space in the maps.
    pub remotes: BTreeMap<Cidr, u64>,
    /// Protocol and destination port → rules about it. Port 0: every port that has no row.
    pub services: BTreeMap<(u8, u16), u64>,
}

impl CompiledRules {
    /// The rows of rules.
    pub fn of(rules: &[FirewallRule]) -> Result<Self, TooLarge> {
        if rules.len() > RULE_COUNT_MAX {
            return Err(TooLarge::Rules(rules.len()));
        }
        let bits = |wanted: &dyn Fn(&FirewallRule) -> bool| {
            let set = rules.iter().enumerate().filter(|(_, rule)| wanted(rule));
            set.fold(0, |bits, (index, _)| bits | 1 << index)
        };
        let services = services_of(rules);
        if services.len() > SERVICE_COUNT_MAX {
            return Err(TooLarge::Services(services.len()));
        }
        let about_remote = |range: &Cidr| bits(&|rule| rule.remote.is_none_or(|remote| holds(&remote, range)));
        let about_service = |(protocol, port): &(u8, u16)| {
            bits(&|rule| {
                let is_protocol = rule.protocols.is_empty() || rule.protocols.contains(protocol);
                is_protocol && (rule.ports.is_empty() || (*port != 0 && rule.ports.contains(port)))
            })
        };
        Ok(Self {
            allow: bits(&|rule| rule.action == FirewallAction::Allow),
            egress: bits(&|rule| rule.direction == Direction::Egress),
            any_remote: bits(&|rule| rule.remote.is_none()),
            any_protocol: bits(&|rule| rule.protocols.is_empty()),
            remotes: remotes_of(rules).into_iter().map(|range| (range, about_remote(&range))).collect(),
            services: services.into_iter().map(|service| (service, about_service(&service))).collect(),
        })
    }

    /// The rule at a place, read back from the rows. None: there is none.
    pub fn rule(&self, index: usize) -> Option<FirewallRule> {
        let bit = 1_u64.checked_shl(u32::try_from(index).ok()?)?;
        let services = || self.services.iter().filter(|(_, bits)| **bits & bit != 0).map(|(service, _)| *service);
        let ranges = self.remotes.iter().filter(|(_, bits)| **bits & bit != 0).map(|(range, _)| *range);
        // Its own is the widest of those that it is in.
        let remote = ranges.min_by_key(Cidr::prefix_length).filter(|_| self.any_remote & bit == 0);
        if remote.is_none() && self.any_remote & bit == 0 {
            return None;
        }
        let is_of_all = self.any_protocol & bit != 0;
        let protocols: BTreeSet<u8> = services().filter(|_| !is_of_all).map(|(protocol, _)| protocol).collect();
        let has_ports = !is_of_all && services().all(|(_, port)| port != 0);
        let ports: BTreeSet<u16> = services().filter(|_| has_ports).map(|(_, port)| port).collect();
        Some(FirewallRule {
            action: if self.allow & bit != 0 { FirewallAction::Allow } else { FirewallAction::Deny },
            direction: if self.egress & bit != 0 { Direction::Egress } else { Direction::Ingress },
            remote,
            protocols: protocols.into_iter().collect(),
            ports: ports.into_iter().collect(),
        })
    }

    /// A number by which the rows of the same rules are found again: the first eight bytes of a SHA-256, never 0.
    pub fn key(rules: &[FirewallRule]) -> u64 {
        let text = serde_json::to_vec(rules).expect("rules have string keys and finite numbers");
        let first = Sha256::digest(text).first_chunk::<8>().copied().expect("32 bytes");
        u64::from_be_bytes(first).max(1)
    }

    /// The first rule that matches, by its place.
    pub fn first(&self, opening: &Opening) -> Option<usize> {
        let ranges = self.remotes.iter().filter(|(range, _)| range.contains(opening.remote));
        let narrowest = ranges.max_by_key(|(range, _)| range.prefix_length());
        let about_remote = narrowest.map_or(self.any_remote, |(_, bits)| *bits);
        let service = |port| self.services.get(&(opening.protocol, port));
        let about_service = service(opening.port).or_else(|| service(0)).copied().unwrap_or(self.any_protocol);
        let direction = if opening.direction == Direction::Egress { self.egress } else { !self.egress };
        let matching = about_remote & about_service & direction;
        (matching != 0).then(|| matching.trailing_zeros() as usize)
    }
}

/// Whether all of `range` lies in `outer`.
fn holds(outer: &Cidr, range: &Cidr) -> bool {
    outer.prefix_length() <= range.prefix_length() && outer.contains(range.address())
}

/// A prefix of IPv6 that holds ::ffff:0:0/96 would be asked for IPv4 too, where no row of IPv4 is.
fn remotes_of(rules: &[FirewallRule]) -> BTreeSet<Cidr> {
    let mut ranges: BTreeSet<Cidr> = rules.iter().filter_map(|rule| rule.remote).collect();
    let mapped = Cidr::new("::ffff:0:0".parse().expect("an address"), 96).expect("its host bits are zero");
    if ranges.iter().any(|range| holds(range, &mapped)) {
        ranges.insert(Cidr::new([0, 0, 0, 0].into(), 0).expect("all of it"));
    }
    ranges
}

fn services_of(rules: &[FirewallRule]) -> BTreeSet<(u8, u16)> {
    let named = |rule: &FirewallRule| {
        let ports: Vec<u16> = rule.ports.iter().copied().chain([0]).collect();
        let pairs = rule.protocols.iter().flat_map(|protocol| ports.iter().map(move |port| (*protocol, *port)));
        pairs.collect::<Vec<_>>()
    };
    rules.iter().flat_map(named).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;
    use crate::firewall::decide;

    fn remote() -> impl Strategy<Value = IpAddr> {
        // Few bits, so that ranges and addresses meet.
        let v4 = (0_u32..64).prop_map(|low| IpAddr::V4(Ipv4Addr::from_bits(low << 26 | low)));
        let v6 = (0_u128..64).prop_map(|low| IpAddr::V6(Ipv6Addr::from_bits(low << 122 | low)));
        prop_oneof![v4, v6]
    }

    fn range() -> impl Strategy<Value = Cidr> {
        (remote(), 0_u8..=8, any::<bool>()).prop_map(|(address, short, is_whole)| {
            let length = match address {
                _ if is_whole => return Cidr::of(address),
                IpAddr::V4(_) => short,
                IpAddr::V6(_) => short,
            };
            let mut range = Cidr::of(address);
            while range.prefix_length() > length {
                range = range.parent().unwrap();
            }
            range
        })
    }

    fn rule() -> impl Strategy<Value = FirewallRule> {
        let action = prop_oneof![Just(FirewallAction::Allow), Just(FirewallAction::Deny)];
        let direction = prop_oneof![Just(Direction::Egress), Just(Direction::Ingress)];
        let protocols = prop_oneof![Just(vec![]), Just(vec![6]), Just(vec![17]), Just(vec![1, 58]), Just(vec![47])];
        let ports = prop::collection::vec(1_u16..6, 0..3);
        let parts = (action, direction, prop::option::of(range()), protocols, ports);
        parts.prop_map(|(action, direction, remote, protocols, ports)| {
            let has_ports = matches!(protocols[..], [6 | 17]);
            let ports: BTreeSet<u16> = ports.into_iter().filter(|_| has_ports).collect();
            FirewallRule { action, direction, remote, protocols, ports: ports.into_iter().collect() }
        })
    }

    fn opening() -> impl Strategy<Value = Opening> {
        let direction = prop_oneof![Just(Direction::Egress), Just(Direction::Ingress)];
        let protocol = prop_oneof![Just(6_u8), Just(17), Just(1), Just(58), Just(47), Just(50)];
        (direction, remote(), protocol, 1_u16..7).prop_map(|(direction, remote, protocol, port)| {
            let port = if matches!(protocol, 6 | 17) { port } else { 0 };
            Opening { direction, remote, protocol, port }
        })
    }

    proptest! {
        #[test]
        fn rows_decide_what_rules_decide(
            rules in prop::collection::vec(rule(), 0..RULE_COUNT_MAX),
            openings in prop::collection::vec(opening(), 1..40),
        ) {
            let compiled = CompiledRules::of(&rules).unwrap();
            for opening in openings {
                let verdict = decide(&rules, &opening);
                prop_assert_eq!(compiled.first(&opening), verdict.rule, "{:?} of {:#?}", opening, rules);
                if let Some(index) = verdict.rule {
                    prop_assert_eq!(compiled.allow >> index & 1 == 1, verdict.action == FirewallAction::Allow);
                }
            }
            let read_back: Vec<_> = (0..=rules.len()).map_while(|index| compiled.rule(index)).collect();
            prop_assert_eq!(read_back, rules);
        }
    }

    #[test]
    fn all_of_ipv6_is_nothing_of_ipv4() {
        let deny = |remote: &str| FirewallRule {
            action: FirewallAction::Deny,
            direction: Direction::Egress,
            remote: Some(remote.parse().unwrap()),
            protocols: vec![],
            ports: vec![],
        };
        let compiled = CompiledRules::of(&[deny("::/0")]).unwrap();
        let row = |range: &str| compiled.remotes.get(&range.parse::<Cidr>().unwrap()).copied();
        assert_eq!((row("::/0"), row("0.0.0.0/0")), (Some(1), Some(0)), "maps have one space for both");
        assert_eq!(CompiledRules::of(&[deny("2001:db8::/32")]).unwrap().remotes.len(), 1);
    }

    #[test]
    fn what_has_no_room_is_refused_by_its_number() {
        let rule = FirewallRule {
            action: FirewallAction::Deny,
            direction: Direction::Egress,
            remote: None,
            protocols: vec![6],
            ports: (1..=1_024).collect(),
        };
        assert_eq!(CompiledRules::of(&vec![rule.clone(); 65]), Err(TooLarge::Rules(65)));
        assert_eq!(CompiledRules::of(&[rule]), Err(TooLarge::Services(1_025)));
    }
}
