//! Whether there is room for a persona before anybody wears it: ports, prefixes, classes, map sizes, the MTU budget.
//!
//! What can never work is refused, what goes wrong for some is a warning; each finding names the number that is missing.
//! Pure: how much there is and how much is taken are arguments.

mod node;

use crate::document::Network;
use crate::ids::PoolName;
use crate::lease::Need;

pub use node::{NodeRoom, check_node};

/// Sizes of the data plane's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Blocks of one lease.
    pub blocks_per_lease: u32,
    /// Subjects of a node.
    pub subjects_per_node: u32,
    /// Leases of a node, old ones included.
    pub leases_per_node: u32,
    /// Ports that a node can translate to, all its leases together.
    pub ports_per_node: u32,
    /// Subjects of a node that have a rate.
    pub classes_per_node: u32,
    /// Personas.
    pub personas: u32,
    /// Egress addresses of an edge group.
    pub addresses_per_group: u32,
    /// Port blocks and /64 of an edge group.
    pub cells_per_group: u32,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It works for some and not for others, or not yet.
    Warning,
    /// It can never work.
    Refusal,
}

/// Something for which there is no room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Where in the document.
    pub path: &'static str,
    /// What is missing, in numbers, and what would help.
    pub message: String,
}

impl Finding {
    fn refusal(path: &'static str, message: String) -> Self {
        Self { severity: Severity::Refusal, path, message }
    }

    fn warning(path: &'static str, message: String) -> Self {
        Self { severity: Severity::Warning, path, message }
    }
}

/// A pool that a persona names, as far as room matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolRoom {
    /// Which.
    pub name: PoolName,
    /// What a subject needs of it. None: it lacks the family.
    pub needs: Option<Vec<Need>>,
    /// Blocks that one of its addresses has.
    pub blocks_per_address: u32,
    /// Ports in a block.
    pub block_size: u32,
    /// How many more subjects it has room for.
    pub free_for: u32,
}

/// Findings about the pools that a persona names, for `fresh` wearers that need new leases.
pub fn check_pools(network: &Network, pools: &[PoolRoom], fresh: u32, limits: &Limits) -> Vec<Finding> {
    let names = || pools.iter().map(|pool| pool.name.as_str()).collect::<Vec<_>>().join(", ");
    let able: Vec<(&PoolRoom, &Vec<Need>)> = pools.iter().filter_map(|it| Some((it, it.needs.as_ref()?))).collect();
    // Pools that are missing altogether are told by name elsewhere.
    if able.is_empty() && pools.len() == network.egress.pools.len() {
        return vec![Finding::refusal(
            "spec.network.egress.family",
            format!(
                "none of its pools ({}) has that family: 0 {} where 1 is needed; add some to a pool or change family",
                names(),
                if network.family() == crate::document::Family::Ipv6 { "IPv6 prefixes" } else { "IPv4 addresses" }
            ),
        )];
    }
    let too_large: Vec<_> = able.iter().filter_map(|(pool, needs)| impossible_blocks(pool, needs, limits)).collect();
    if !able.is_empty() && too_large.len() == able.len() {
        return too_large;
    }
    let free: u32 = able.iter().map(|(pool, _)| pool.free_for).fold(0, u32::saturating_add);
    let mut findings: Vec<Finding> =
        too_large.into_iter().map(|finding| Finding { severity: Severity::Warning, ..finding }).collect();
    if fresh > free {
        let missing = fresh - free;
        findings.push(Finding::warning(
            "spec.network.egress.pools",
            format!(
                "{fresh} wearers need new leases, its pools ({}) have room for {free}: {missing} are missing and keep what they have or get nothing; add addresses, lower portsPerSubject, or wait for leases to end",
                names()
            ),
        ));
    }
    findings
}

fn impossible_blocks(pool: &PoolRoom, needs: &[Need], limits: &Limits) -> Option<Finding> {
    let count = needs.iter().find_map(|need| match need {
        Need::Blocks(count) => Some(*count),
        _ => None,
    })?;
    let most = limits.blocks_per_lease.min(pool.blocks_per_address);
    let message = format!(
        "{count} blocks of {} ports are needed of pool {}, a lease has at most {most}: {} are too many; lower portsPerSubject to {} or raise the pool's blockSize",
        pool.block_size,
        pool.name,
        count.saturating_sub(most),
        most * pool.block_size
    );
    (count > most).then(|| Finding::refusal("spec.network.egress.portsPerSubject", message))
}

/// Findings about the pools of one edge group: all its addresses, and the port blocks and /64 of them.
pub fn check_group(addresses: u32, cells: u64, limits: &Limits) -> Vec<Finding> {
    let mut findings = Vec::new();
    if addresses > limits.addresses_per_group {
        let (most, missing) = (limits.addresses_per_group, addresses - limits.addresses_per_group);
        let message =
            format!("the group's pools have {addresses} addresses, an edge carries {most}: {missing} are too many");
        findings.push(Finding::refusal("spec.addresses", message));
    }
    if cells > u64::from(limits.cells_per_group) {
        let missing = cells - u64::from(limits.cells_per_group);
        let message = format!(
            "the group's pools have {cells} port blocks and /64, an edge carries {}: {missing} are too many; raise blockSize or write longer prefixes",
            limits.cells_per_group
        );
        findings.push(Finding::refusal("spec.addresses", message));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Document, Format, parse_documents};

    pub(super) const LIMITS: Limits = Limits {
        blocks_per_lease: 64,
        subjects_per_node: 4_096,
        leases_per_node: 100,
        ports_per_node: 10_000,
        classes_per_node: 10,
        personas: 16,
        addresses_per_group: 4_096,
        cells_per_group: 262_144,
    };

    pub(super) fn network(text: &str) -> Network {
        let text =
            format!("{{apiVersion: persona/v1, kind: Persona, metadata: {{name: x}}, spec: {{network: {{{text}}}}}}}");
        match parse_documents(&text, Format::Yaml, "test").unwrap().remove(0) {
            Document::Persona(persona) => persona.spec.network.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn pool(needs: Option<Vec<Need>>, block_size: u32, free_for: u32) -> PoolRoom {
        let blocks_per_address = 64_512 / block_size;
        PoolRoom { name: "fra".parse().unwrap(), needs, blocks_per_address, block_size, free_for }
    }

    #[test]
    fn pools_without_the_family_or_the_blocks_are_refused_and_shortage_is_told() {
        use Severity::{Refusal, Warning};
        let plain = network("egress: {pools: [fra]}");
        let six = network("egress: {pools: [fra], family: ipv6}");
        let cases = [
            (&six, vec![pool(None, 1_024, 0)], 0, Some((Refusal, "0 IPv6 prefixes where 1 is needed"))),
            (
                &plain,
                vec![pool(Some(vec![Need::Blocks(65)]), 64, 9)],
                0,
                Some((
                    Refusal,
                    "65 blocks of 64 ports are needed of pool fra, a lease has at most 64: 1 are too many; lower portsPerSubject to 4096",
                )),
            ),
            (&plain, vec![pool(Some(vec![Need::Blocks(2)]), 32_768, 0)], 0, Some((Refusal, "a lease has at most 1"))),
            (
                &plain,
                vec![pool(Some(vec![Need::Blocks(2)]), 1_024, 7)],
                10,
                Some((Warning, "10 wearers need new leases, its pools (fra) have room for 7: 3 are missing")),
            ),
            (&plain, vec![pool(Some(vec![Need::Blocks(2)]), 1_024, 10)], 10, None),
            (&plain, vec![], 10, Some((Warning, "room for 0: 10 are missing"))),
        ];
        for (network, pools, fresh, expected) in cases {
            let findings = check_pools(network, &pools, fresh, &LIMITS);
            assert_eq!(findings.len(), usize::from(expected.is_some()), "{findings:?}");
            if let Some((severity, text)) = expected {
                assert_eq!(findings[0].severity, severity, "{findings:?}");
                assert!(findings[0].message.contains(text), "{findings:?}");
            }
        }
    }

    #[test]
    fn a_group_has_as_many_addresses_and_blocks_as_an_edge_carries() {
        assert!(check_group(4_096, 262_144, &LIMITS).is_empty());
        let findings = check_group(4_097, 262_200, &LIMITS);
        assert!(findings[0].message.contains("an edge carries 4096: 1 are too many"), "{findings:?}");
        assert!(findings[1].message.contains("56 are too many"), "{findings:?}");
    }
}
