//! What no type can say about a persona: see [`super::check`].

use super::check::{DECIMALS_ADVICE, Problems, is_short_decimal};
use super::persona::{Assign, Family, Impair, MTU_DEFAULT, Network, PersonaSpec, Privacy, Protocol};
use super::qos::{EnforceAt, Qos};
use super::sections::{ActivationRule, Cpu, Direction, Firewall, Io, Memory, MonitoringRule, Resources};
use crate::units::BitRate;

/// Ports of an address that can be leased: all from 1,024 up.
pub const PORTS_PER_SUBJECT_MAX: u32 = 64_512;

/// Largest and smallest inner packet that a persona may ask for, bytes (RFC 791 §3.2: every host takes 576).
const MTU_RANGE: std::ops::RangeInclusive<u16> = 576..=9_000;

/// Smallest rate that a queue can keep: below, one full packet takes longer than a second.
const RATE_MIN: BitRate = BitRate(64_000);

/// Things worth knowing about a valid persona.
pub(super) fn persona_hints(spec: &PersonaSpec) -> Vec<String> {
    let without_icmp = spec.network.as_ref().is_some_and(|network| !network.protocols().contains(&Protocol::Icmp));
    let icmp = without_icmp.then(|| {
        "spec.network.protocols has no icmp: ping does not work; errors that belong to permitted flows still pass"
            .to_owned()
    });
    icmp.into_iter().collect()
}

impl Problems {
    pub(super) fn persona(&mut self, spec: &PersonaSpec) {
        let empty = spec.sections().next().is_none();
        self.refuse_if(
            empty,
            "spec",
            "a persona needs a section: network, qos, resources, security, software, monitoring or activation",
        );
        self.no_duplicates("spec.capabilities", &spec.capabilities);
        if let Some(network) = &spec.network {
            self.network(network);
        }
        if let Some(qos) = &spec.qos {
            let mtu = spec.network.as_ref().map_or(MTU_DEFAULT, Network::mtu);
            self.qos(qos, mtu);
        }
        if let Some(resources) = &spec.resources {
            self.resources(resources);
        }
        let firewall = spec.security.iter().flat_map(|security| &security.firewall);
        firewall.enumerate().for_each(|(index, rule)| self.firewall(index, rule));
        for (index, package) in spec.software.iter().flatten().enumerate() {
            let path = format!("spec.software[{index}].package");
            self.refuse_if(package.package.trim().is_empty(), path, "write the package's name");
        }
        spec.monitoring.iter().flatten().enumerate().for_each(|(index, rule)| self.monitoring(index, rule));
        spec.activation.iter().flatten().enumerate().for_each(|(index, rule)| self.activation(index, rule));
    }

    fn network(&mut self, network: &Network) {
        let egress = &network.egress;
        self.refuse_if(egress.pools.is_empty(), "spec.network.egress.pools", "name at least one egress pool");
        self.no_duplicates("spec.network.egress.pools", &egress.pools);
        let other_family = matches!(egress.family, Some(Family::Ipv6 | Family::PreferIpv6));
        self.refuse_unenforced(other_family, "spec.network.egress.family", "IPv6 egress", "write ipv4");
        let configure = egress.assign == Some(Assign::Configure);
        self.refuse_unenforced(configure, "spec.network.egress.assign", "configure", "write rewrite");
        let ports = network.ports_per_subject();
        let path = "spec.network.egress.portsPerSubject";
        self.refuse_if(
            !(1..=PORTS_PER_SUBJECT_MAX).contains(&ports),
            path,
            format!("{ports} is impossible: an address has 1 to {PORTS_PER_SUBJECT_MAX} ports to lease"),
        );
        let mtu = network.mtu();
        self.refuse_if(
            !MTU_RANGE.contains(&mtu),
            "spec.network.mtu",
            format!("{mtu} is impossible: write 576 to 9000 bytes"),
        );
        if let Some(location) = &network.location {
            self.location("spec.network.location", location);
        }
        if let Some(protocols) = &network.protocols {
            self.refuse_if(
                protocols.is_empty(),
                "spec.network.protocols",
                "nothing could pass: name at least one of tcp, udp, icmp",
            );
            self.no_duplicates("spec.network.protocols", &protocols.iter().map(|p| p.number()).collect::<Vec<_>>());
        }
        let spread = network.edges.as_ref().and_then(|edges| edges.spread);
        self.refuse_if(spread == Some(0), "spec.network.edges.spread", "0 edges carry nothing: write at least 1");
        network.privacy.iter().for_each(|privacy| self.privacy(privacy));
        network.impair.iter().for_each(|impair| self.impair(impair));
    }

    fn privacy(&mut self, privacy: &Privacy) {
        self.refuse_unenforced(
            privacy.encrypt,
            "spec.network.privacy.encrypt",
            "encryption of tunnels",
            "write false or leave it out",
        );
        let normalise = !privacy.normalise.is_empty();
        self.refuse_unenforced(normalise, "spec.network.privacy.normalise", "normalising headers", "leave it out");
    }

    fn impair(&mut self, _: &Impair) {
        self.refuse_unenforced(true, "spec.network.impair", "impair", "leave it out");
    }

    fn qos(&mut self, qos: &Qos, mtu: u16) {
        let rates = [("egressRate", qos.egress_rate), ("ingressRate", qos.ingress_rate)];
        for (key, rate) in rates.into_iter().filter_map(|(key, rate)| Some((key, rate?))) {
            let path = format!("spec.qos.{key}");
            self.refuse_if(
                rate < RATE_MIN,
                path,
                format!("{rate} is too low to queue for: write at least {RATE_MIN}, or leave it out for no limit"),
            );
        }
        if let Some(burst) = qos.burst {
            let too_small = burst.0 < u64::from(mtu);
            self.refuse_if(
                too_small,
                "spec.qos.burst",
                format!("{burst} is less than one packet of {mtu} bytes: write at least {mtu}B"),
            );
            self.refuse_if(burst.0 > u64::from(u32::MAX), "spec.qos.burst", "write less than 4GiB");
            let unused = qos.egress_rate.is_none() && qos.ingress_rate.is_none();
            self.refuse_if(
                unused,
                "spec.qos.burst",
                "a burst without a rate means nothing: write egressRate or ingressRate too",
            );
        }
        self.refuse_unenforced(qos.shared.is_some(), "spec.qos.shared", "a total for all wearers", "leave it out");
        let elsewhere = matches!(qos.enforce_at, Some(EnforceAt::Edge | EnforceAt::Both));
        self.refuse_unenforced(elsewhere, "spec.qos.enforceAt", "shaping at the edge", "write node");
    }

    fn resources(&mut self, resources: &Resources) {
        let cpu = resources.cpu.clone().unwrap_or_default();
        let Cpu { limit, weight } = cpu;
        self.refuse_if(
            limit.is_some_and(|limit| limit.is_nan() || limit <= 0.0),
            "spec.resources.cpu.limit",
            "write more than 0 processors",
        );
        self.refuse_if(!is_short_decimal(limit), "spec.resources.cpu.limit", DECIMALS_ADVICE);
        self.weight("spec.resources.cpu.weight", weight);
        let Memory { max, high } = resources.memory.clone().unwrap_or_default();
        self.refuse_if(max.is_some_and(|max| max.0 == 0), "spec.resources.memory.max", "0 bytes hold nothing");
        let above = matches!((high, max), (Some(high), Some(max)) if high > max);
        self.refuse_if(above, "spec.resources.memory.high", "high is above max and would never act: write at most max");
        let Io { weight, read_bps, write_bps, read_iops, write_iops } = resources.io.clone().unwrap_or_default();
        self.weight("spec.resources.io.weight", weight);
        let zero = [
            ("readBps", read_bps.map(|bytes| bytes.0)),
            ("writeBps", write_bps.map(|bytes| bytes.0)),
            ("readIops", read_iops.map(u64::from)),
            ("writeIops", write_iops.map(u64::from)),
        ];
        for (key, value) in zero {
            self.refuse_if(
                value == Some(0),
                format!("spec.resources.io.{key}"),
                "0 stops all of it: leave it out for no limit",
            );
        }
        self.refuse_if(resources.pids == Some(0), "spec.resources.pids", "0 processes cannot run");
    }

    fn weight(&mut self, path: &str, weight: Option<u32>) {
        self.refuse_if(weight.is_some_and(|weight| !(1..=10_000).contains(&weight)), path, "write 1 to 10000");
    }

    fn firewall(&mut self, index: usize, rule: &Firewall) {
        let path = format!("spec.security.firewall[{index}]");
        let to_wrong = rule.to.is_some() && rule.direction == Direction::Ingress;
        self.refuse_if(to_wrong, format!("{path}.to"), "an ingress rule has from, not to");
        let from_wrong = rule.from.is_some() && rule.direction == Direction::Egress;
        self.refuse_if(from_wrong, format!("{path}.from"), "an egress rule has to, not from");
        let portless = !rule.ports.is_empty() && !matches!(rule.protocol, Some(Protocol::Tcp | Protocol::Udp));
        self.refuse_if(portless, format!("{path}.ports"), "ports need protocol: tcp or udp");
        self.refuse_if(rule.ports.contains(&0), format!("{path}.ports"), "port 0 does not exist: write 1 to 65535");
    }

    fn monitoring(&mut self, index: usize, rule: &MonitoringRule) {
        let path = format!("spec.monitoring[{index}]");
        self.criterion(&path, &rule.when);
        self.refuse_if(rule.raise.trim().is_empty(), format!("{path}.raise"), "write the alert's name");
    }

    fn activation(&mut self, index: usize, rule: &ActivationRule) {
        self.criterion(&format!("spec.activation[{index}]"), &rule.when);
    }

    fn criterion(&mut self, path: &str, when: &str) {
        self.refuse_if(
            when.trim().is_empty(),
            format!("{path}.when"),
            "write a criterion such as 'cpu.utilisation > 0.8'",
        );
    }
}
