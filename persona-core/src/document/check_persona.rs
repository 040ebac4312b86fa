//! What no type can say about a persona: see [`super::check`].

use super::check::{DECIMALS_ADVICE, Problems, is_short_decimal};
use super::check_impair::impair_hints;
use super::check_qos::qos_hints;
use super::network::{Assign, EdgeChoice, Family, MTU_DEFAULT, Network, Normalise, PathNeeds, Privacy};
use super::persona::PersonaSpec;
use super::protocol::Protocol;
use super::sections::{
    ActivationRule, Cpu, Direction, Firewall, Io, Memory, MonitoringRule, Resources, Security, SoftwarePackage,
};
use crate::activate::Criterion;
use crate::content::ContentSource;
use crate::firewall::CompiledRules;
use crate::security::{is_capability, sysctl_fault, sysctl_value_fault};
use crate::software::{Requirement, is_package_name};
use crate::units::{Cidr, Span};
use crate::wire::firewall::FirewallRule;

/// Ports of an address that can be leased: all from 1,024 up.
pub const PORTS_PER_SUBJECT_MAX: u32 = 64_512;

/// Largest and smallest inner packet that a persona may ask for, bytes (RFC 791 §3.2: every host takes 576).
const MTU_RANGE: std::ops::RangeInclusive<u16> = 576..=9_000;

/// Smallest MTU of a link that carries IPv6 (RFC 8200 §5), bytes.
const MTU_MIN_IPV6: u16 = 1_280;

/// Ranges that one persona's bypass list may have.
const BYPASS_COUNT_MAX: usize = 64;

/// Packages of one persona.
const PACKAGE_COUNT_MAX: usize = 256;

/// Most kernel parameters of one persona.
const SYSCTL_COUNT_MAX: usize = 64;

/// Alerts of one persona.
const ALERT_COUNT_MAX: usize = 32;

/// Longest name of an alert, bytes.
const ALERT_NAME_LENGTH_MAX: usize = 100;

/// Longest round trip and jitter that a path may be asked to keep to.
const PATH_SPAN_MAX: Span = Span(60_000);

/// Longest time in a rule of activation or monitoring.
const RULE_SPAN_MAX: Span = Span(30 * 86_400_000);

/// Things worth knowing about a valid persona.
pub(super) fn persona_hints(spec: &PersonaSpec) -> Vec<String> {
    spec.network.iter().flat_map(network_hints).chain(spec.qos.iter().flat_map(qos_hints)).collect()
}

fn network_hints(network: &Network) -> Vec<String> {
    let protocols = network.protocols();
    let icmp = (!protocols.contains(&Protocol::ICMP)).then(|| {
        "spec.network.protocols has no icmp: ping does not work; errors that belong to permitted flows still pass"
            .to_owned()
    });
    let portless = protocols.iter().find(|protocol| !protocol.has_ports()).map(|protocol| {
        format!("spec.network.protocols has {protocol}: protocols without ports are told from others, not from each other; one lets all of them pass")
    });
    let hops = network.normalise().contains(&Normalise::Ttl).then(|| {
        "spec.network.privacy.normalise has ttl: a traceroute shows the node and then the destination, nothing between"
            .to_owned()
    });
    let impaired = network.impair.iter().flat_map(impair_hints);
    icmp.into_iter().chain(portless).chain(hops).chain(impaired).collect()
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
        firewall.clone().enumerate().for_each(|(index, rule)| self.firewall(index, rule));
        self.firewall_size(&firewall.map(FirewallRule::from).collect::<Vec<_>>());
        spec.security.iter().for_each(|security| self.settings(security));
        spec.software.iter().for_each(|packages| self.software(packages));
        spec.monitoring.iter().flatten().enumerate().for_each(|(index, rule)| self.monitoring(index, rule));
        spec.monitoring.iter().for_each(|rules| self.alert_names(rules));
        spec.activation.iter().flatten().enumerate().for_each(|(index, rule)| self.activation(index, rule));
    }

    fn network(&mut self, network: &Network) {
        let egress = &network.egress;
        self.refuse_if(egress.pools.is_empty(), "spec.network.egress.pools", "name at least one egress pool");
        self.no_duplicates("spec.network.egress.pools", &egress.pools);
        self.ports(network);
        self.mtu(network);
        self.bypass(network);
        if let Some(location) = &network.location {
            self.location("spec.network.location", location);
        }
        if let Some(protocols) = &network.protocols {
            self.protocols(network, protocols);
        }
        network.edges.iter().for_each(|edges| self.edges(edges));
        network.privacy.iter().for_each(|privacy| self.privacy(privacy));
        network.impair.iter().for_each(|impair| self.impair(impair));
    }

    fn ports(&mut self, network: &Network) {
        let Some(ports) = network.egress.ports_per_subject else { return };
        let path = "spec.network.egress.portsPerSubject";
        let range = 1..=PORTS_PER_SUBJECT_MAX;
        self.refuse_if(
            !range.contains(&ports),
            path,
            format!("{ports} is impossible: an address has 1 to {PORTS_PER_SUBJECT_MAX} ports to lease"),
        );
        let all = match (network.assign(), network.family()) {
            (_, Family::Ipv6) => Some("a prefix (family: ipv6)"),
            (Assign::Configure, _) => Some("a whole address (assign: configure)"),
            _ => None,
        };
        if let Some(what) = all {
            self.refuse_if(true, path, format!("{what} has every port: leave portsPerSubject out"));
        }
    }

    fn mtu(&mut self, network: &Network) {
        let mtu = network.mtu();
        let path = "spec.network.mtu";
        self.refuse_if(!MTU_RANGE.contains(&mtu), path, format!("{mtu} is impossible: write 576 to 9000 bytes"));
        let is_short = network.family() != Family::Ipv4 && MTU_RANGE.contains(&mtu) && mtu < MTU_MIN_IPV6;
        self.refuse_if(
            is_short,
            path,
            format!("{mtu} is too little for IPv6, which needs {MTU_MIN_IPV6} (RFC 8200 §5): write {MTU_MIN_IPV6} to 9000, or family: ipv4"),
        );
    }

    fn bypass(&mut self, network: &Network) {
        let path = "spec.network.bypass";
        let count = network.bypass.len();
        self.refuse_if(
            count > BYPASS_COUNT_MAX,
            path,
            format!("{count} ranges are too many: at most {BYPASS_COUNT_MAX} of a persona can be told apart"),
        );
        for (index, range) in network.bypass.iter().enumerate() {
            let path = format!("{path}[{index}]");
            self.refuse_if(
                range.prefix_length() == 0,
                &path,
                format!(
                    "{range} is everything: nothing would leave as this persona; leave the network section out instead"
                ),
            );
            if let Some(earlier) = network.bypass[..index].iter().find(|earlier| earlier.overlaps(range)) {
                self.refuse_if(true, &path, format!("{range} overlaps {earlier}: keep the larger one"));
            }
        }
    }

    fn protocols(&mut self, network: &Network, protocols: &[Protocol]) {
        let path = "spec.network.protocols";
        let none = protocols.is_empty();
        self.refuse_if(none, path, "nothing could pass: name at least one of tcp, udp, icmp");
        self.no_duplicates(path, protocols);
        let is_whole = network.assign() == Assign::Configure || network.family() == Family::Ipv6;
        for (index, protocol) in protocols.iter().enumerate() {
            self.refuse_if(
                !protocol.has_ports() && !is_whole,
                format!("{path}[{index}]"),
                format!(
                    "{protocol} has no ports, so it fits into no port block: it needs a whole address (assign: configure) or a prefix (family: ipv6)"
                ),
            );
        }
    }

    fn edges(&mut self, edges: &EdgeChoice) {
        self.refuse_if(edges.spread == Some(0), "spec.network.edges.spread", "0 edges carry nothing: write at least 1");
        self.no_duplicates("spec.network.edges.requires", &edges.requires);
        self.no_duplicates("spec.network.edges.prefers", &edges.prefers);
        for (index, capability) in edges.prefers.iter().enumerate() {
            let message = format!("{capability} is required already: leave it out of one of the two");
            self.refuse_if(
                edges.requires.contains(capability),
                format!("spec.network.edges.prefers[{index}]"),
                message,
            );
        }
        if let Some((key, fault)) = edges.content.as_ref().and_then(ContentSource::fault) {
            self.refuse_if(true, format!("spec.network.edges.content.{key}"), fault);
        }
        if let Some(ContentSource::Place(place)) = &edges.content {
            for (key, value) in [("latitude", place.latitude), ("longitude", place.longitude)] {
                let path = format!("spec.network.edges.content.place.{key}");
                self.refuse_if(!is_short_decimal(Some(value)), path, DECIMALS_ADVICE);
            }
        }
        let Some(path) = edges.path else { return };
        let is_nothing = path == PathNeeds::default();
        let message = "no limit is set: write latency, loss or jitter, such as latency: 30ms, or leave path out";
        self.refuse_if(is_nothing, "spec.network.edges.path", message);
        for (key, span) in [("latency", path.latency), ("jitter", path.jitter)] {
            let is_wrong = span.is_some_and(|span| span.0 == 0 || span > PATH_SPAN_MAX);
            let message = format!("no path keeps to {}: write 1ms to {PATH_SPAN_MAX}", span.unwrap_or_default());
            self.refuse_if(is_wrong, format!("spec.network.edges.path.{key}"), message);
        }
    }

    fn privacy(&mut self, privacy: &Privacy) {
        let path = "spec.network.privacy.normalise";
        self.no_duplicates(path, &privacy.normalise);
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
        let portless = !rule.ports.is_empty() && !matches!(rule.protocol, Some(Protocol::TCP | Protocol::UDP));
        self.refuse_if(portless, format!("{path}.ports"), "ports need protocol: tcp or udp");
        self.refuse_if(rule.ports.contains(&0), format!("{path}.ports"), "port 0 does not exist: write 1 to 65535");
        // They share one space in the programs' maps, and no packet on a wire has such an address.
        let mapped: Cidr = "::ffff:0:0/96".parse().expect("a range");
        for (key, range) in [("to", rule.to), ("from", rule.from)] {
            let is_mapped = range.is_some_and(|range| mapped.contains(range.address()) && range.prefix_length() >= 96);
            self.refuse_if(is_mapped, format!("{path}.{key}"), "it is IPv4 in the clothes of IPv6: write it as IPv4");
        }
    }

    fn firewall_size(&mut self, rules: &[FirewallRule]) {
        if let Err(too_large) = CompiledRules::of(rules) {
            self.refuse_if(true, "spec.security.firewall", too_large.to_string());
        }
    }

    fn settings(&mut self, security: &Security) {
        let path = "spec.security";
        let count = security.sysctl.len();
        let message = format!("{count} kernel parameters are too many for one persona: at most {SYSCTL_COUNT_MAX}");
        self.refuse_if(count > SYSCTL_COUNT_MAX, format!("{path}.sysctl"), message);
        for (name, value) in &security.sysctl {
            let fault = sysctl_fault(name).or_else(|| sysctl_value_fault(&value.0));
            fault.into_iter().for_each(|fault| self.refuse_if(true, format!("{path}.sysctl.{name}"), fault));
        }
        for (index, name) in security.capabilities.iter().flatten().enumerate() {
            let message = format!("{name:?} is no Linux capability: write one such as NET_BIND_SERVICE");
            self.refuse_if(!is_capability(name), format!("{path}.capabilities[{index}]"), message);
        }
        let is_profile =
            |name: &String| (1..=200).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
        let message = "write the name of a profile, such as docker-default";
        self.refuse_if(
            security.apparmor.as_ref().is_some_and(|name| !is_profile(name)),
            format!("{path}.apparmor"),
            message,
        );
    }

    fn software(&mut self, packages: &[SoftwarePackage]) {
        let (path, count) = ("spec.software", packages.len());
        let message = format!("{count} packages are too many for one persona: at most {PACKAGE_COUNT_MAX}");
        self.refuse_if(count > PACKAGE_COUNT_MAX, path, message);
        for (index, SoftwarePackage { package, version }) in packages.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let message = format!("{package:?} is no package: write a name such as nginx, or libc6:amd64");
            self.refuse_if(!is_package_name(package), format!("{path}.package"), message);
            let is_known = packages[..index].iter().any(|earlier| earlier.package == *package);
            self.refuse_if(is_known, format!("{path}.package"), format!("{package} is there twice"));
            let wrong = version.as_ref().and_then(|version| version.parse::<Requirement>().err());
            wrong.into_iter().for_each(|wrong| self.refuse_if(true, format!("{path}.version"), wrong.to_string()));
        }
    }

    fn monitoring(&mut self, index: usize, rule: &MonitoringRule) {
        let path = format!("spec.monitoring[{index}]");
        self.criterion(format!("{path}.when"), &rule.when);
        rule.clear.iter().for_each(|clear| self.criterion(format!("{path}.clear"), clear));
        self.span(&path, "for", rule.hold);
        self.span(&path, "clearFor", rule.clear_hold);
        let (name, path) = (&rule.raise, format!("{path}.raise"));
        self.refuse_if(name.trim().is_empty(), &path, "write the alert's name");
        let is_name = name.len() <= ALERT_NAME_LENGTH_MAX && !name.contains(char::is_control);
        let message = format!("an alert's name is one line of at most {ALERT_NAME_LENGTH_MAX} bytes");
        self.refuse_if(!is_name, path, message);
    }

    fn alert_names(&mut self, rules: &[MonitoringRule]) {
        let (path, count) = ("spec.monitoring", rules.len());
        let message = format!("{count} alerts are too many for one persona: at most {ALERT_COUNT_MAX}");
        self.refuse_if(count > ALERT_COUNT_MAX, path, message);
        for (index, rule) in rules.iter().enumerate() {
            let is_known = rules[..index].iter().any(|earlier| earlier.raise == rule.raise);
            let message = format!("{} is there twice: join the criteria with ||, or name them apart", rule.raise);
            self.refuse_if(is_known, format!("{path}[{index}].raise"), message);
        }
    }

    fn activation(&mut self, index: usize, rule: &ActivationRule) {
        let path = format!("spec.activation[{index}]");
        self.criterion(format!("{path}.when"), &rule.when);
        rule.leave.iter().for_each(|leave| self.criterion(format!("{path}.leave"), leave));
        let spans = [
            ("for", rule.hold),
            ("leaveFor", rule.leave_hold),
            ("cooldown", rule.cooldown),
            ("dwell", rule.dwell),
            ("staleAfter", rule.stale_after),
        ];
        spans.into_iter().for_each(|(key, span)| self.span(&path, key, span));
    }

    fn span(&mut self, path: &str, key: &str, span: Option<Span>) {
        let Some(span) = span else { return };
        let message = format!("{span} is longer than anything waits for: write at most {RULE_SPAN_MAX}");
        self.refuse_if(span > RULE_SPAN_MAX, format!("{path}.{key}"), message);
    }

    fn criterion(&mut self, path: String, text: &str) {
        if let Err(wrong) = Criterion::parse(text) {
            self.refuse_if(true, path, wrong.to_string());
        }
    }
}
