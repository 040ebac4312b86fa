//! Random and mutated frames through every program, held against the model in `persona_tests::model`.
//!
//! A frame of a workload goes through `from_workload`; what leaves goes, whole or broken, through an edge's
//! `edge_inside` at TC and XDP; what reaches a server is answered, and the answer comes back through `edge_outside` and
//! `from_edge`. `PERSONA_TEST_FRAMES` says how many frames go in at the workload (default 200,000 over each underlay), `PERSONA_TEST_SEED` which.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use persona_common::drop::DropReason;
use persona_common::event::WANT_DROPS;
use persona_core::ids::{EdgeNumber, Generation, GroupName, LeaseId, SubjectNumber, Vni};
use persona_ctl::dataplane::tables::*;
use persona_ctl::dataplane::watch::{Ring, Watch, Watched};
use persona_ctl::dataplane::{EdgeDataplane, NodeDataplane, monotonic_now};
use persona_ctl::monitor::Record;
use persona_tests::model::edge::Edge;
use persona_tests::model::generate::{Places, Random, frame, mutate, packet, reply};
use persona_tests::model::node::Node;
use persona_tests::model::{Seen, Verdict, tunnel};

use super::namespace::Namespace;
use super::run::{Facts, Outcome, TC_DROP, TC_NEXT, TC_REDIRECT, XDP_DROP, XDP_PASS, XDP_REDIRECT, run_tc, run_xdp};
use super::world::{LOOPBACK, World, is_privileged};

const FRAME_COUNT_DEFAULT: u64 = 200_000;
/// The same where the processor is emulated.
const FRAME_COUNT_EMULATED: u64 = 2_000;
const MAC_OUTSIDE: [u8; 6] = [2, 0, 0, 0, 0, 0xe];
const MAC_PEER: [u8; 6] = [2, 0, 0, 0, 0, 0xf];
const WORKLOAD: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
const EGRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);
const VNI: u32 = 42;
const MTU: u16 = 1_400;
const BLOCK_BITS: u8 = 6;

fn ipv6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// The underlay's addresses: node and edge.
struct Underlay {
    node: IpAddr,
    edge: IpAddr,
}

fn underlays() -> [Underlay; 2] {
    [
        Underlay { node: Ipv4Addr::new(10, 0, 0, 1).into(), edge: Ipv4Addr::new(10, 0, 0, 2).into() },
        Underlay { node: ipv6("fd00::1").into(), edge: ipv6("fd00::2").into() },
    ]
}

fn spaces() -> [LeaseSpace; 2] {
    [
        LeaseSpace::Ports { address: EGRESS, block_bits: BLOCK_BITS, blocks: vec![80, 83] },
        LeaseSpace::Prefix { prefix: ipv6("2001:db8:1:5::") },
    ]
}

fn node_tables(underlay: &Underlay) -> NodeTables {
    let subject = SubjectNumber(7);
    let group: GroupName = "frankfurt".parse().unwrap();
    let lease = |id: u64, space: LeaseSpace| LeaseEntry {
        id: LeaseId(id),
        subject,
        vni: Vni(VNI),
        space,
        group: group.clone(),
        mtu: MTU,
        generation: Generation(3),
        configured: false,
    };
    let egress = SubjectEgress {
        vni: Vni(VNI),
        mtu: MTU,
        allow: AllowedProtocols { tcp: true, udp: true, icmp: true, other: true },
        dscp: None,
        egress_class: 0,
        lease: Some(LeaseId(9)),
        lease6: Some(LeaseId(10)),
        filtering: Filtering::EndpointIndependent,
        bypass: vec![],
    };
    let [ports, prefix] = spaces();
    NodeTables {
        underlay_address: Some(underlay.node),
        subjects: vec![SubjectEntry { number: subject, network: Some(egress) }],
        devices: vec![DeviceEntry {
            ifindex: LOOPBACK,
            subject: Some(subject),
            address: Some(WORKLOAD),
            prefix6: Some((ipv6("fd01:0:0:1::"), 64)),
            vlan: None,
        }],
        leases: vec![lease(9, ports), lease(10, prefix)],
        edges: vec![EdgeEntry {
            number: EdgeNumber(1),
            address: underlay.edge,
            ifindex: LOOPBACK,
            next_hop: underlay.edge,
        }],
        groups: vec![GroupTable { group: group.clone(), rows: vec![(EdgeNumber(1), EdgeNumber(0)); 65_537] }],
        bypass: vec![(Ipv4Addr::new(10, 1, 0, 0).into(), 24), (ipv6("fd01:0:0:1::").into(), 64)],
        ..NodeTables::default()
    }
}

fn edge_tables(underlay: &Underlay) -> EdgeTables {
    let hop = |address: IpAddr| NextHopEntry {
        ifindex: LOOPBACK,
        address,
        source_mac: MAC_OUTSIDE,
        destination_mac: Some(MAC_PEER),
    };
    let lease = |space| EdgeLeaseEntry { space, node: underlay.node, vni: Vni(VNI), mtu: MTU };
    EdgeTables {
        number: EdgeNumber(1),
        underlay_address: Some(underlay.edge),
        generation: Generation(3),
        addresses: vec![EgressAddressEntry { address: EGRESS, block_bits: BLOCK_BITS }],
        prefixes: vec![(ipv6("2001:db8:1::"), 56)],
        leases: spaces().map(lease).to_vec(),
        nodes: vec![NodeEntry { address: underlay.node, next_hop: hop(underlay.node) }],
        outside: Some(hop(Ipv4Addr::new(198, 51, 100, 1).into())),
        outside6: Some(hop(ipv6("2001:db8:ffff::1").into())),
        ..EdgeTables::default()
    }
}

fn places() -> Places {
    Places {
        sources: vec![
            WORKLOAD.into(),
            WORKLOAD.into(),
            WORKLOAD.into(),
            ipv6("fd01:0:0:1::2").into(),
            ipv6("fd01:0:0:1:ffff::3").into(),
            ipv6("fd01:0:0:2::3").into(),
            Ipv4Addr::new(10, 1, 0, 3).into(),
        ],
        destinations: vec![
            Ipv4Addr::new(203, 0, 113, 5).into(),
            Ipv4Addr::new(203, 0, 113, 6).into(),
            Ipv4Addr::new(203, 0, 113, 6).into(),
            Ipv4Addr::new(10, 1, 0, 9).into(),
            Ipv4Addr::new(224, 0, 0, 251).into(),
            ipv6("2001:db8:aaaa::5").into(),
            ipv6("2001:db8:aaaa::6").into(),
            ipv6("fd01:0:0:1::9").into(),
            ipv6("ff02::1").into(),
        ],
        port_count: 200,
    }
}

/// The programs, their model, and what was counted.
struct Chain {
    node: NodeDataplane,
    edge: EdgeDataplane,
    node_model: Node,
    edge_model: Edge,
    node_watch: Watch,
    edge_watch: Watch,
    random: Random,
    counts: BTreeMap<&'static str, [u64; 3]>,
    last: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Program {
    FromWorkload,
    EdgeInside,
    XdpInside,
    EdgeOutside,
    XdpOutside,
    FromEdge,
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::FromWorkload => "from_workload",
            Self::EdgeInside => "edge_inside",
            Self::XdpInside => "xdp_inside",
            Self::EdgeOutside => "edge_outside",
            Self::XdpOutside => "xdp_outside",
            Self::FromEdge => "from_edge",
        }
    }

    fn is_node(self) -> bool {
        matches!(self, Self::FromWorkload | Self::FromEdge)
    }

    fn is_xdp(self) -> bool {
        matches!(self, Self::XdpInside | Self::XdpOutside)
    }
}

impl Chain {
    /// Runs a frame through a program and holds what it did against the model. Gives the frame that left, if one did.
    fn step(&mut self, program: Program, frame: &[u8]) -> Option<Vec<u8>> {
        let ebpf = if program.is_node() { self.node.programs() } else { self.edge.programs() };
        let outcome = if program.is_xdp() {
            run_xdp(ebpf, program.name(), frame)
        } else {
            run_tc(ebpf, program.name(), frame, Facts::default())
        };
        let seen = seen(program, &outcome);
        self.node_model.now_secs = monotonic_now().as_secs() as u32;
        let verdict = match program {
            Program::FromWorkload => self.node_model.from_workload(LOOPBACK, frame, &seen),
            Program::FromEdge => self.node_model.from_edge(frame, &seen),
            Program::EdgeInside | Program::XdpInside => self.edge_model.inside(frame, &seen),
            Program::EdgeOutside | Program::XdpOutside => self.edge_model.outside(frame, &seen),
        };
        let reason = self.told_reason(program);
        let counts = self.counts.entry(program.name()).or_default();
        counts[match &seen {
            Seen::Redirected { .. } => 0,
            Seen::Passed { .. } => 1,
            Seen::Dropped => 2,
        }] += 1;
        self.judge(program, frame, &verdict, reason);
        match seen {
            Seen::Redirected { frame } => Some(frame),
            _ => None,
        }
    }

    fn judge(&mut self, program: Program, frame: &[u8], verdict: &Verdict, reason: Option<DropReason>) {
        let trouble = match (verdict, reason) {
            (Verdict::Disagreed(text), reason) => Some(format!("{text} (told: {reason:?})")),
            (Verdict::Drop(reasons), Some(reason)) if !reasons.contains(&reason) => {
                Some(format!("dropped as {reason:?}, not as one of {reasons:?}"))
            }
            (Verdict::Drop(reasons), None) => Some(format!("a drop was not told: {reasons:?}")),
            _ => None,
        };
        if let Some(trouble) = trouble {
            let name = program.name();
            self.last.push(format!("{name}: {trouble}\n  frame {frame:02x?}"));
        }
    }

    /// The reason of the drop that was just told. A ring tells everything once.
    fn told_reason(&mut self, program: Program) -> Option<DropReason> {
        let watch = if program.is_node() { &mut self.node_watch } else { &mut self.edge_watch };
        let bytes = watch.next_record()?;
        match Record::read(&bytes) {
            Some(Record::Drop { reason, .. }) => Some(reason),
            _ => None,
        }
    }

    /// One frame of a workload, and all that follows from it.
    fn turn(&mut self, places: &Places) {
        let mut out = frame(&packet(&mut self.random, places), [2; 6], [4; 6]);
        if self.random.chance(30) {
            mutate(&mut self.random, &mut out);
        }
        let Some(mut tunnelled) = self.step(Program::FromWorkload, &out) else { return };
        if tunnel::read(&tunnelled).is_err() {
            return;
        }
        let is_broken = self.random.chance(25);
        if is_broken {
            mutate(&mut self.random, &mut tunnelled);
        }
        let left = self.step(Program::EdgeInside, &tunnelled);
        let left_by_xdp = self.step(Program::XdpInside, &tunnelled);
        if let (Some(by_tc), Some(by_xdp)) = (&left, &left_by_xdp)
            && by_tc[14..] != by_xdp[14..]
        {
            self.last.push(format!("TC and XDP differ at the inside\n  {by_tc:02x?}\n  {by_xdp:02x?}"));
        }
        let Some(left) = left.filter(|_| !is_broken) else { return };
        let Some(answer) = reply(&mut self.random, &left[14..]) else { return };
        let mut answer = frame(&answer, MAC_OUTSIDE, MAC_PEER);
        if self.random.chance(25) {
            mutate(&mut self.random, &mut answer);
        }
        let entered = self.step(Program::EdgeOutside, &answer);
        let entered_by_xdp = self.step(Program::XdpOutside, &answer);
        if let (Some(by_tc), Some(by_xdp)) = (&entered, &entered_by_xdp)
            && by_tc[14..] != by_xdp[14..]
        {
            self.last.push(format!("TC and XDP differ at the outside\n  {by_tc:02x?}\n  {by_xdp:02x?}"));
        }
        let Some(mut entered) = entered else { return };
        if self.random.chance(25) {
            mutate(&mut self.random, &mut entered);
        }
        self.step(Program::FromEdge, &entered);
    }
}

fn seen(program: Program, outcome: &Outcome) -> Seen {
    let redirected = Seen::Redirected { frame: outcome.bytes.clone() };
    match (program.is_xdp(), outcome.verdict) {
        (false, TC_REDIRECT) | (true, XDP_REDIRECT) => redirected,
        (false, TC_NEXT) | (true, XDP_PASS) => Seen::Passed { mark: outcome.mark },
        (false, TC_DROP) | (true, XDP_DROP) => Seen::Dropped,
        // The whole packet goes up the stack of this host.
        (false, 0) => Seen::Passed { mark: outcome.mark },
        (_, verdict) => panic!("{} gave {verdict}", program.name()),
    }
}

fn frame_count() -> u64 {
    let is_emulated = std::env::var_os("PERSONA_TEST_EMULATED").is_some();
    let default = if is_emulated { FRAME_COUNT_EMULATED } else { FRAME_COUNT_DEFAULT };
    std::env::var("PERSONA_TEST_FRAMES").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Runs one underlay's chain; gives what was counted.
fn run(underlay: &Underlay, seed: u64) {
    let world = World::new();
    let namespace = Namespace::new("fuzz");
    namespace.enter(|| {
        let mut node = world.node();
        node.apply(&node_tables(underlay)).unwrap();
        node.set_edge_liveness(EdgeNumber(1), true, Generation(3)).unwrap();
        let mut edge = world.edge();
        edge.apply(&edge_tables(underlay)).unwrap();
        let watch = |watched| Watch::open(&world.bpffs(), watched, Ring::Events { wanted: WANT_DROPS }).unwrap();
        let mut chain = Chain {
            node,
            edge,
            node_model: Node::new(node_tables(underlay), [EdgeNumber(1)]),
            edge_model: Edge::new(edge_tables(underlay)),
            node_watch: watch(Watched::Node),
            edge_watch: watch(Watched::Edge),
            random: Random::new(seed),
            counts: BTreeMap::new(),
            last: Vec::new(),
        };
        let (began, places) = (Instant::now(), places());
        for turn in 0..frame_count() {
            chain.turn(&places);
            assert!(chain.last.is_empty(), "seed {seed}, turn {turn}:\n{}", chain.last.join("\n"));
            if turn % 1_000 == 0 {
                chain.node_watch.renew().unwrap();
                chain.edge_watch.renew().unwrap();
            }
        }
        for (program, [sent, passed, dropped]) in &chain.counts {
            println!("{program:<14} {sent:>9} sent {passed:>9} passed {dropped:>9} dropped");
            assert!(*sent > 0 && *dropped > 0, "{program}: the frames are of one kind only");
        }
        println!("{} frames over {} in {:.0?}", frame_count(), underlay.node, began.elapsed());
    });
}

#[test]
fn programs_and_model_agree_on_random_and_hostile_frames() {
    if !is_privileged() {
        return;
    }
    let first_seed = std::env::var("PERSONA_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    for (offset, underlay) in underlays().iter().enumerate() {
        run(underlay, first_seed + offset as u64);
    }
}
