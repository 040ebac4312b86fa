//! Room on one node: the MTU budget, ports, leases, classes of rates.

use super::{Finding, Limits, Severity};
use crate::document::Network;
use crate::ids::NodeName;

/// A node whose subjects wear a persona or may, as far as room matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRoom {
    /// Which.
    pub name: NodeName,
    /// The least MTU of its ways to edges, bytes. None: it did not say.
    pub underlay_mtu: Option<u32>,
    /// What encapsulation adds there, bytes: 36 over IPv4, 56 over IPv6, and 60 or 80 where it is encrypted.
    pub encapsulation: u32,
    /// Ports that its subjects' leases take.
    pub ports: u32,
    /// Leases of its subjects, old ones included.
    pub leases: u32,
    /// Its subjects that wear something.
    pub subjects: u32,
    /// Its subjects that have a rate.
    pub classes: u32,
    /// Its subjects that wear the persona.
    pub wearers: u32,
    /// Those of them that need new leases.
    pub fresh: u32,
    /// Those of them that had no rate and get one.
    pub newly_rated: u32,
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
    over(
        "spec.network",
        "subjects with a persona",
        node.subjects,
        limits.subjects_per_node,
        "spread the workloads over nodes",
    );
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

#[cfg(test)]
mod tests {
    use super::super::tests::{LIMITS, network};
    use super::*;

    #[test]
    fn a_node_is_told_what_it_lacks() {
        let network = network("egress: {pools: [fra]}, mtu: 1465");
        let node = NodeRoom {
            name: "n1".parse().unwrap(),
            underlay_mtu: Some(1_500),
            encapsulation: 36,
            ports: 9_000,
            leases: 99,
            subjects: 4_097,
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
            "4097 subjects with a persona, it has room for 4096: 1 are missing",
            "11 subjects with a rate, it has room for 10: 1 are missing",
        ];
        assert_eq!(findings.len(), texts.len(), "{findings:#?}");
        findings.iter().zip(texts).for_each(|(it, text)| assert!(it.message.contains(text), "{it:?}"));
        assert_eq!(findings[0].severity, Severity::Refusal);
        let elsewhere = NodeRoom {
            wearers: 0,
            underlay_mtu: Some(1_400),
            ports: 0,
            leases: 0,
            classes: 0,
            subjects: 0,
            ..node.clone()
        };
        assert_eq!(check_node(&network, 0, 0, &elsewhere, &LIMITS)[0].severity, Severity::Warning);
        let unknown = NodeRoom {
            underlay_mtu: None,
            fresh: 0,
            newly_rated: 0,
            ports: 0,
            leases: 0,
            classes: 0,
            subjects: 0,
            ..node
        };
        assert!(check_node(&network, 0, 0, &unknown, &LIMITS).is_empty());
    }
}
