//! `persona-ctl explain packet`: what would happen to a packet, told by the real program.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Args;
use etherparse::PacketBuilder;
use persona_common::addr::octets6;
use persona_common::drop::DropReason;
use persona_common::flow::{ICMP, TCP, UDP};
use persona_common::node::{Lease, SUBJECT_HAS_NETWORK};
use persona_common::record::ICMPV6;
use persona_common::{BYPASS_MARK, PERSONA_MARK};
use persona_core::document::{Direction, FirewallAction};
use persona_core::firewall::{CompiledRules, Opening};
use serde::Serialize;

use super::Output;
use crate::agent::{cgroup, own_cgroup};
use crate::dataplane::device_name;
use crate::dataplane::rehearsal::{Played, Rehearsal};
use crate::monitor::{Summary, summary_of};

/// `TC_ACT_REDIRECT`.
const REDIRECTED: i32 = 7;
/// Bytes of Ethernet, IPv4 and TCP headers.
const HEADERS_LENGTH: usize = 54;

/// Run the node's program on a made-up packet of a workload, or of the host's own, and tell each decision.
///
/// Nothing in force changes: the program runs on copies of what it would write.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  persona-ctl explain packet 10.0.0.5:1234 tcp 93.184.216.34:443
  persona-ctl explain packet 10.0.0.5:1234 udp 1.1.1.1:53 --size 1450
  persona-ctl explain packet 192.0.2.5:1234 tcp 1.1.1.1:443 --cgroup /system.slice/mailer.service
  persona-ctl explain packet [fd00::5]:7 icmp [2001:db8::1]:0      the port is the echo's id")]
pub(super) struct ExplainPacketArgs {
    /// The workload's address and port.
    source: SocketAddr,
    /// The protocol.
    #[arg(value_enum)]
    protocol: PacketProtocol,
    /// The other side's address and port.
    destination: SocketAddr,
    /// Bytes of the IP packet.
    #[arg(long, value_name = "BYTES", default_value_t = 60)]
    size: usize,
    /// TCP: a packet in mid-stream instead of the one that opens the connection.
    #[arg(long)]
    mid_stream: bool,
    /// Time to live or hop limit.
    #[arg(long, default_value_t = 64)]
    ttl: u8,
    /// The workload's device on this host. Default: the one that the source address belongs to.
    #[arg(long)]
    device: Option<String>,
    /// A control group of this host whose process sends the packet, instead of a workload behind a device.
    #[arg(long, value_name = "PATH", conflicts_with = "device")]
    cgroup: Option<String>,
    /// Directory on a bpffs where maps are pinned.
    #[arg(long, env = "PERSONA_BPFFS", default_value = "/sys/fs/bpf/persona")]
    bpffs: PathBuf,
}

/// What a packet may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum PacketProtocol {
    Tcp,
    Udp,
    /// An echo request.
    Icmp,
}

/// The answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Explained {
    packet: Summary,
    steps: Vec<Step>,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leaves_as: Option<Summary>,
}

/// Who sends the packet, and through which program.
struct Sender {
    program: &'static str,
    ifindex: u32,
    subject_index: u32,
    /// For people.
    place: String,
}

/// One decision.
#[derive(Debug, Serialize)]
struct Step {
    what: &'static str,
    decision: String,
}

impl ExplainPacketArgs {
    pub(super) fn run(self, output: Output) -> anyhow::Result<()> {
        ensure!(
            self.source.is_ipv4() == self.destination.is_ipv4(),
            "{} and {} are of different families: a packet has one",
            self.source,
            self.destination
        );
        let mut rehearsal = Rehearsal::of_node(&self.bpffs)?;
        let sender = match &self.cgroup {
            None => self.find_device(&rehearsal)?,
            Some(path) => self.find_group(&mut rehearsal, path)?,
        };
        rehearsal.fill_slots(&self.bpffs, sender.subject_index)?;
        let frame = self.frame()?;
        let played = rehearsal.play(sender.program, sender.ifindex, &frame)?;
        let again = rehearsal.play(sender.program, sender.ifindex, &frame)?;
        let explained = self.explain(&rehearsal, &sender, &frame, &played, &again)?;
        output.show(&explained, tell)
    }

    /// The subject of the group, or of the nearest one above it. The packet leaves by a device that leads to an edge.
    fn find_group(&self, rehearsal: &mut Rehearsal, path: &str) -> anyhow::Result<Sender> {
        let groups = Rehearsal::cgroups(&self.bpffs)?;
        ensure!(
            !groups.is_empty(),
            "no control group of this host is a subject: see [host] and cgroup in the agent's file"
        );
        ensure!(cgroup::id_of(path).is_some(), "control group {path} is not there");
        let subject_of = |path: &Path| {
            let id = cgroup::id_of(path.to_str()?)?;
            groups.iter().find(|(group, _)| *group == id).map(|(_, subject_index)| *subject_index)
        };
        let found = Path::new(path).ancestors().find_map(subject_of);
        let subject_index = found.with_context(|| format!("neither {path} nor a group above it is a subject"))?;
        let own = own_cgroup().filter(|path| path != "/").and_then(|path| cgroup::id_of(&path)).context(
            "this process is in the root of the tree of control groups, where nobody is told from others: start it in a group, such as by systemd-run --scope",
        )?;
        rehearsal.send_as(own, subject_index)?;
        let edges = rehearsal.edges()?;
        let (_, edge, _) = edges.first().context("no edge is known, so no device leads to one")?;
        Ok(Sender { program: "from_host", ifindex: edge.ifindex, subject_index, place: format!("a process of {path}") })
    }

    fn find_device(&self, rehearsal: &Rehearsal) -> anyhow::Result<Sender> {
        let devices = rehearsal.devices()?;
        let is_named =
            |ifindex: u32| self.device.as_deref().is_some_and(|name| device_name(ifindex).as_deref() == Some(name));
        let has_source = |device: &persona_common::node::Device| match self.source.ip() {
            IpAddr::V4(address) => device.address == u32::from_ne_bytes(address.octets()),
            IpAddr::V6(address) => address.octets()[..8] == octets6(device.prefix)[..8],
        };
        let found = match self.device {
            Some(_) => devices.iter().find(|(ifindex, _)| is_named(*ifindex)),
            None => devices.iter().find(|(_, device)| has_source(device)),
        };
        let known = || devices.iter().map(|(ifindex, _)| device_name(*ifindex).unwrap_or_else(|| ifindex.to_string()));
        match found {
            Some((ifindex, device)) => {
                let name = device_name(*ifindex).unwrap_or_else(|| ifindex.to_string());
                let (subject_index, place) = (device.subject_index, format!("{name} ({ifindex})"));
                Ok(Sender { program: "from_workload", ifindex: *ifindex, subject_index, place })
            }
            None => bail!(
                "no workload device here has {}: give --device, one of {}",
                self.source.ip(),
                known().collect::<Vec<_>>().join(", ")
            ),
        }
    }

    fn frame(&self) -> anyhow::Result<Vec<u8>> {
        let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let builder = match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                ethernet.ipv4(source.octets(), destination.octets(), self.ttl)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                ethernet.ipv6(source.octets(), destination.octets(), self.ttl)
            }
            _ => bail!("a packet has one family"),
        };
        let (ip_length, l4_length) = match (self.source.is_ipv4(), self.protocol) {
            (is_ipv4, PacketProtocol::Tcp) => (if is_ipv4 { 20 } else { 40 }, 20),
            (is_ipv4, _) => (if is_ipv4 { 20 } else { 40 }, 8),
        };
        let payload = vec![0; self.size.saturating_sub(ip_length + l4_length)];
        let mut frame = Vec::with_capacity(HEADERS_LENGTH + payload.len());
        let (source_port, destination_port) = (self.source.port(), self.destination.port());
        match self.protocol {
            PacketProtocol::Udp => builder.udp(source_port, destination_port).write(&mut frame, &payload),
            PacketProtocol::Tcp if self.mid_stream => {
                builder.tcp(source_port, destination_port, 1, 65_535).ack(1).write(&mut frame, &payload)
            }
            PacketProtocol::Tcp => {
                builder.tcp(source_port, destination_port, 1, 65_535).syn().write(&mut frame, &payload)
            }
            PacketProtocol::Icmp if self.source.is_ipv4() => {
                builder.icmpv4_echo_request(source_port, 1).write(&mut frame, &payload)
            }
            PacketProtocol::Icmp => builder.icmpv6_echo_request(source_port, 1).write(&mut frame, &payload),
        }
        .context("the packet cannot be made")?;
        Ok(frame)
    }

    fn explain(
        &self,
        rehearsal: &Rehearsal,
        sender: &Sender,
        frame: &[u8],
        played: &Played,
        again: &Played,
    ) -> anyhow::Result<Explained> {
        let mut steps = Vec::new();
        let mut step = |what, decision: String| steps.push(Step { what, decision });
        let subject = rehearsal.subject(sender.subject_index)?;
        step("sender", format!("{} belongs to subject {}", sender.place, subject.number));
        if subject.flags & SUBJECT_HAS_NETWORK == 0 {
            step("persona", "the subject wears no network section".to_owned());
        }
        if let Some(rules) = rehearsal.firewall_of(sender.subject_index)? {
            step("firewall", self.tell_rule(&rules));
        }
        let leases = rehearsal.leases_of(sender.subject_index)?;
        for (index, lease) in &leases {
            let is_newest = index + 1 == subject.lease_index_plus_one || index + 1 == subject.lease6_index_plus_one;
            let use_of = if is_newest { "for new flows" } else { "for old flows only" };
            step("lease", format!("{} {use_of}: {}, VNI {}, MTU {}", lease.id, space(lease), lease.vni, lease.mtu));
        }
        let left = summary_of(&played.frame);
        let is_sent = played.verdict == REDIRECTED && played.mark == PERSONA_MARK;
        if let (true, Some(inner), Some(destination)) = (is_sent, &left.inner, left.destination) {
            self.tell_sent(rehearsal, inner, destination, played == again, &mut step)?;
        }
        let (outcome, reason) = match (played.reason, is_sent, played.mark == BYPASS_MARK) {
            (Some(reason), _, _) if played.verdict == REDIRECTED => ("answered", Some(reason)),
            (Some(reason), _, _) => ("dropped", Some(reason)),
            (None, true, _) => ("sent", None),
            (None, _, true) => ("bypassed", None),
            _ => ("passed", None),
        };
        if let Some(reason) = reason {
            step("reason", reason_text(reason));
        }
        if outcome == "bypassed" {
            step("bypass", "it passes by the persona, for where it goes or because it is of a connection from elsewhere or before: it goes its ordinary way".to_owned());
        }
        let leaves_as = is_sent.then_some(left);
        Ok(Explained { packet: summary_of(frame), steps, outcome, reason: reason.map(DropReason::name), leaves_as })
    }

    /// The rule that decides whether the packet may open its flow.
    fn tell_rule(&self, rules: &CompiledRules) -> String {
        let is_ipv4 = self.source.is_ipv4();
        let (protocol, port) = match self.protocol {
            PacketProtocol::Tcp => (TCP, self.destination.port()),
            PacketProtocol::Udp => (UDP, self.destination.port()),
            PacketProtocol::Icmp => (if is_ipv4 { ICMP } else { ICMPV6 }, 0),
        };
        let opening = Opening { direction: Direction::Egress, remote: self.destination.ip(), protocol, port };
        match rules.first(&opening).and_then(|index| Some((index, rules.rule(index)?))) {
            None => "no rule is about it: it may open its flow".to_owned(),
            Some((index, rule)) => {
                let may = if rule.action == FirewallAction::Allow { "may" } else { "may not" };
                format!("rule {index} ({rule}) decides: it {may} open its flow")
            }
        }
    }

    fn tell_sent(
        &self,
        rehearsal: &Rehearsal,
        inner: &Summary,
        destination: IpAddr,
        is_stable: bool,
        step: &mut impl FnMut(&'static str, String),
    ) -> anyhow::Result<()> {
        let port = inner.ports.map_or(String::new(), |(port, _)| format!(" port {port}"));
        let source = inner.source.map_or_else(String::new, |source| source.to_string());
        step("rewrite", format!("leaves as {source}{port}"));
        if !is_stable {
            step("flow", "a second packet of the flow would be treated differently".to_owned());
        }
        let edges = rehearsal.edges()?;
        let is_chosen = |address: [u32; 4]| std::net::Ipv6Addr::from(octets6(address)).to_canonical() == destination;
        for (number, edge, liveness) in edges {
            let state = if liveness.alive != 0 { "alive" } else { "silent" };
            let chosen = if is_chosen(edge.address) { "chosen" } else { "not chosen" };
            let address = std::net::Ipv6Addr::from(octets6(edge.address)).to_canonical();
            step(
                "edge",
                format!("{number} at {address}: {state}, lease table at generation {}, {chosen}", liveness.generation),
            );
        }
        Ok(())
    }
}

fn space(lease: &Lease) -> String {
    if lease.block_count == 0 && lease.address == 0 {
        let upper = [lease.prefix[0], lease.prefix[1], 0, 0];
        return format!("{}/64", std::net::Ipv6Addr::from(octets6(upper)));
    }
    let address = std::net::Ipv4Addr::from(lease.address.to_ne_bytes());
    let blocks = lease.blocks[..lease.block_count as usize]
        .iter()
        .map(|block| format!("{}-{}", block.first_port, block.first_port + (1 << lease.block_bits) - 1));
    let ports: Vec<String> = blocks.collect();
    if ports.is_empty() { address.to_string() } else { format!("{address} ports {}", ports.join(", ")) }
}

fn reason_text(reason: DropReason) -> String {
    format!("{}: {}", reason.name(), reason.description().trim())
}

fn tell(explained: &Explained) -> String {
    let mut lines = vec![explained.packet.to_string()];
    lines.extend(explained.steps.iter().map(|step| format!("  {:<8} {}", step.what, step.decision)));
    let reason = explained.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    lines.push(format!("  => {}{reason}", explained.outcome));
    lines.extend(explained.leaves_as.iter().map(|packet| format!("     {packet}")));
    lines.join("\n")
}
