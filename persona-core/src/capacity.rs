//! Whether there is room for a persona before anybody wears it: ports, prefixes, classes, map sizes, the MTU budget.
//!
//! What can never work is refused, what goes wrong for some is a warning; each finding names the number that is missing.
//! Pure: how much there is and how much is taken are arguments.

use crate::document::Network;
use crate::ids::{NodeName, PoolName};
use crate::lease::Need;

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

/// A node whose subjects wear a persona or may, as far as room matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRoom {
    /// Which.
    pub name: NodeName,
    /// The least MTU of its ways to edges, bytes. None: it did not say.
    pub underlay_mtu: Option<u32>,
    /// What encapsulation adds there, bytes: 36 over IPv4, 56 over IPv6.
    pub encapsulation: u32,
    /// Ports that its subjects' leases take.
    pub ports: u32,
    /// Leases of its subjects, old ones included.
    pub leases: u32,
    /// Its subjects that have a rate.
    pub classes: u32,
    /// Its subjects that wear the persona.
    pub wearers: u32,
    /// Those of them that need new leases.
    pub fresh: u32,
    /// Those of them that had no rate and get one.
    pub newly_rated: u32,
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

/// Findings about one node.
pub fn check_node(
    network: &Network,
    ports_each: u32,
    leases_each: u32,
    node: &NodeRoom,
    limits: &Limits,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(mtu_finding(network, node));
    let name = &node.name;
    let mut over = |path, what: &str, wanted: u32, most: u32, help: &str| {
        if wanted > most {
            let missing = wanted - most;
            let message = format!(
                "node {name} would have {wanted} {what}, it has room for {most}: {missing} are missing; {help}"
            );
            findings.push(Finding::warning(path, message));
        }
    };
    let ports = node.ports.saturating_add(node.fresh.saturating_mul(ports_each));
    over(
        "spec.network.egress.portsPerSubject",
        "leased ports",
        ports,
        limits.ports_per_node,
        "lower portsPerSubject or spread the subjects over nodes",
    );
    let leases = node.leases.saturating_add(node.fresh.saturating_mul(leases_each));
    over("spec.network.egress", "leases", leases, limits.leases_per_node, "spread the subjects over nodes");
    let classes = node.classes.saturating_add(node.newly_rated);
    over(
        "spec.qos",
        "subjects with a rate",
        classes,
        limits.classes_per_node,
        "leave the rates out or spread the subjects over nodes",
    );
    findings
}

/// Whether packets of the persona's MTU fit into the node's ways to edges. Refused where somebody wears it already.
fn mtu_finding(network: &Network, node: &NodeRoom) -> Option<Finding> {
    let (underlay, mtu) = (node.underlay_mtu?, u32::from(network.mtu()));
    let wanted = mtu + node.encapsulation;
    let message = format!(
        "node {} carries {underlay} bytes to its edges, mtu {mtu} and {} of encapsulation need {wanted}: {} are missing; lower mtu to {} or raise the underlay's",
        node.name,
        node.encapsulation,
        wanted.saturating_sub(underlay),
        underlay.saturating_sub(node.encapsulation)
    );
    let severity = if node.wearers > 0 { Severity::Refusal } else { Severity::Warning };
    (wanted > underlay).then_some(Finding { severity, path: "spec.network.mtu", message })
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

    const LIMITS: Limits = Limits {
        blocks_per_lease: 64,
        subjects_per_node: 4_096,
        leases_per_node: 100,
        ports_per_node: 10_000,
        classes_per_node: 10,
        personas: 16,
        addresses_per_group: 4_096,
        cells_per_group: 262_144,
    };

    fn network(text: &str) -> Network {
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
    fn a_node_is_told_what_it_lacks() {
        let network = network("egress: {pools: [fra]}, mtu: 1465");
        let node = NodeRoom {
            name: "n1".parse().unwrap(),
            underlay_mtu: Some(1_500),
            encapsulation: 36,
            ports: 9_000,
            leases: 99,
            classes: 9,
            wearers: 2,
            fresh: 2,
            newly_rated: 2,
        };
        let findings = check_node(&network, 1_024, 1, &node, &LIMITS);
        let texts = [
            "mtu 1465 and 36 of encapsulation need 1501: 1 are missing; lower mtu to 1464",
            "11048 leased ports, it has room for 10000: 1048 are missing",
            "101 leases, it has room for 100: 1 are missing",
            "11 subjects with a rate, it has room for 10: 1 are missing",
        ];
        assert_eq!(findings.len(), texts.len(), "{findings:#?}");
        findings.iter().zip(texts).for_each(|(it, text)| assert!(it.message.contains(text), "{it:?}"));
        assert_eq!(findings[0].severity, Severity::Refusal);
        let elsewhere =
            NodeRoom { wearers: 0, underlay_mtu: Some(1_400), ports: 0, leases: 0, classes: 0, ..node.clone() };
        assert_eq!(check_node(&network, 0, 0, &elsewhere, &LIMITS)[0].severity, Severity::Warning);
        let unknown =
            NodeRoom { underlay_mtu: None, fresh: 0, newly_rated: 0, ports: 0, leases: 0, classes: 0, ..node };
        assert!(check_node(&network, 0, 0, &unknown, &LIMITS).is_empty());
    }

    #[test]
    fn a_group_has_as_many_addresses_and_blocks_as_an_edge_carries() {
        assert!(check_group(4_096, 262_144, &LIMITS).is_empty());
        let findings = check_group(4_097, 262_200, &LIMITS);
        assert!(findings[0].message.contains("an edge carries 4096: 1 are too many"), "{findings:?}");
        assert!(findings[1].message.contains("56 are too many"), "{findings:?}");
    }
}
