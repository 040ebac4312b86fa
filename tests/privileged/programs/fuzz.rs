//! Random and mutated frames through every program, held against the model in `persona_tests::model`.
//!
//! A frame of a workload goes through `from_workload`, one of the host's own processes through `from_host`; what leaves
//! goes, whole or broken, through an edge's `edge_inside` at TC and XDP; what reaches a server is answered, and the answer
//! comes back through `edge_outside` and `from_edge`. Workloads speak to each other's egress addresses too; edges die and
//! return, pass packets on to a peer, and hand over to the slow path (`Scene`). Others open connections through
//! `to_workload`; `guard` sees
//! everything. `PERSONA_TEST_FRAMES` says how many frames every program sees at least, in each scene and over each underlay;
//! `PERSONA_TEST_SEED` says which.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use persona_common::drop::DropReason;
use persona_common::encapsulation::RELAY;
use persona_common::event::WANT_DROPS;
use persona_common::{BYPASS_MARK, PERSONA_MARK};
use persona_core::ids::Generation;
use persona_ctl::dataplane::tables::{NodeTables, VlanTag};
use persona_ctl::dataplane::watch::{Ring, Watch, Watched};
use persona_ctl::dataplane::{EdgeDataplane, NodeDataplane, OwnershipWriter, monotonic_now};
use persona_ctl::monitor::Record;
use persona_tests::model::edge::Edge;
use persona_tests::model::generate::{Places, Random, frame, mutate, packet, reply, turned_around};
use persona_tests::model::guard::{Beside, guard};
use persona_tests::model::node::Node;
use persona_tests::model::{Seen, Verdict, tunnel};

use super::fuzz_world::{
    EDGE, MAC_OUTSIDE, MAC_PEER, OTHER_EDGE, STALE_EDGE, Scene, Underlay, edge_tables, host_places, node_tables,
    underlays, workload_places,
};
use super::namespace::Namespace;
use super::own_group::OwnGroup;
use super::run::{Facts, Outcome, TC_DROP, TC_NEXT, TC_REDIRECT, XDP_DROP, XDP_PASS, XDP_REDIRECT, run_tc, run_xdp};
use super::world::{LOOPBACK, World, is_privileged};

/// The generation of the leases.
const LEASED: Generation = Generation(3);
const FRAME_COUNT_DEFAULT: u64 = 20_000;
/// The same where the processor is emulated.
const FRAME_COUNT_EMULATED: u64 = 100;
/// The programs, their model, and what was counted.
struct Chain {
    node: NodeDataplane,
    edge: EdgeDataplane,
    node_model: Node,
    edge_model: Edge,
    node_watch: Watch,
    edge_watch: Watch,
    node_tables: NodeTables,
    edge_address: IpAddr,
    peer_address: IpAddr,
    vlan: Option<VlanTag>,
    ownership: OwnershipWriter,
    random: Random,
    counts: BTreeMap<Program, [u64; 3]>,
    /// What came through lately, as it came.
    recent: BTreeMap<Program, Vec<Vec<u8>>>,
    last: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Program {
    FromWorkload,
    FromHost,
    ToWorkload,
    Guard,
    EdgeInside,
    XdpInside,
    EdgeOutside,
    XdpOutside,
    FromEdge,
}

/// `xdp_inside` and `xdp_outside` are `edge_inside` and `edge_outside` at the other hook.
const PROGRAMS: [Program; 9] = [
    Program::FromWorkload,
    Program::FromHost,
    Program::ToWorkload,
    Program::Guard,
    Program::EdgeInside,
    Program::XdpInside,
    Program::EdgeOutside,
    Program::XdpOutside,
    Program::FromEdge,
];

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::FromWorkload => "from_workload",
            Self::FromHost => "from_host",
            Self::ToWorkload => "to_workload",
            Self::Guard => "guard",
            Self::EdgeInside => "edge_inside",
            Self::XdpInside => "xdp_inside",
            Self::EdgeOutside => "edge_outside",
            Self::XdpOutside => "xdp_outside",
            Self::FromEdge => "from_edge",
        }
    }

    fn is_node(self) -> bool {
        matches!(self, Self::FromWorkload | Self::FromHost | Self::ToWorkload | Self::Guard | Self::FromEdge)
    }

    fn is_xdp(self) -> bool {
        matches!(self, Self::XdpInside | Self::XdpOutside)
    }
}

impl Chain {
    /// Runs a frame through a program and holds what it did against the model. Gives the frame that left, if one did.
    fn step(&mut self, program: Program, frame: &[u8]) -> Option<Vec<u8>> {
        self.step_beside(program, frame, Beside::default())
    }

    fn step_beside(&mut self, program: Program, frame: &[u8], beside: Beside) -> Option<Vec<u8>> {
        let ebpf = if program.is_node() { self.node.programs() } else { self.edge.programs() };
        let outcome = if program.is_xdp() {
            run_xdp(ebpf, program.name(), frame)
        } else {
            let facts = Facts { mark: beside.mark, ingress_ifindex: beside.ingress_ifindex, ..Facts::default() };
            run_tc(ebpf, program.name(), frame, facts)
        };
        let seen = seen(program, &outcome);
        self.node_model.now_secs = monotonic_now().as_secs() as u32;
        let verdict = match program {
            Program::FromWorkload => self.node_model.from_workload(LOOPBACK, frame, &seen),
            Program::FromHost => self.node_model.from_host(frame, beside, &seen),
            Program::ToWorkload => self.node_model.to_workload(frame, beside, &seen),
            Program::Guard => guard(&self.node_tables, frame, beside, &seen),
            Program::FromEdge => self.node_model.from_edge(frame, &seen),
            Program::EdgeInside | Program::XdpInside => self.edge_model.inside(frame, &seen),
            Program::EdgeOutside | Program::XdpOutside => self.edge_model.outside(frame, &seen),
        };
        let reason = self.told_reason(program);
        self.counts.entry(program).or_default()[match &seen {
            Seen::Redirected { .. } => 0,
            Seen::Passed { .. } => 1,
            Seen::Dropped => 2,
        }] += 1;
        self.judge(program, frame, &verdict, reason);
        match seen {
            Seen::Redirected { frame } => Some(frame),
            Seen::Passed { .. }
                if matches!(program, Program::ToWorkload | Program::Guard) && outcome.bytes != frame =>
            {
                self.last.push(format!("{} changed a frame", program.name()));
                None
            }
            _ => None,
        }
    }

    /// Frames that the program has seen which saw fewest.
    fn least_count(&self) -> u64 {
        self.counts.values().map(|count| count.iter().sum()).min().unwrap_or(0)
    }

    /// Prints one line of JSON per program, which `cargo xtask soak` keeps.
    fn report(&self, scene: Scene, underlay: &Underlay, seed: u64, took: Duration) {
        for (program, [sent, passed, dropped]) in &self.counts {
            let (name, leases, underlay, secs) = (program.name(), scene.name(), underlay.node, took.as_secs());
            println!(
                r#"frames: {{"program":"{name}","leases":"{leases}","underlay":"{underlay}","seed":{seed},"sent":{sent},"passed":{passed},"dropped":{dropped},"seconds":{secs}}}"#
            );
            let must_drop = *program != Program::ToWorkload;
            assert!(!must_drop || *dropped > 0, "{name}: none was refused");
            let must_go_on = sent + passed;
            assert!(must_go_on > 0, "{name}: all were refused");
        }
    }

    fn judge(&mut self, program: Program, frame: &[u8], verdict: &Verdict, reason: Option<DropReason>) {
        let trouble = match (verdict, reason) {
            (Verdict::Disagreed(text), reason) => Some(format!("{text} (told: {reason:?})")),
            // Faster than the sender may be told.
            (Verdict::Drop(reasons), Some(DropReason::IcmpRate)) if is_answerable(reasons) => None,
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

    /// The other edge dies, or lives again.
    fn flip_other_edge(&mut self) {
        let is_alive = self.random.chance(50);
        self.node.set_edge_liveness(OTHER_EDGE, is_alive, LEASED).unwrap();
        self.node_model.set_alive(OTHER_EDGE, is_alive);
    }

    /// The edge's peer stops answering, or the edge doesn't hear the node; both may be over.
    fn flip_surroundings(&mut self) {
        let (is_alive, is_silent) = (self.random.chance(60), self.random.chance(20));
        self.ownership.set_peer_alive(OTHER_EDGE, is_alive).unwrap();
        assert!(self.ownership.set_node_heard(self.node_tables.underlay_address.unwrap(), !is_silent).unwrap());
        self.edge_model.are_peers_alive = is_alive;
        self.edge_model.is_node_silent = is_silent;
    }

    /// One frame of somebody and all that follows from it, or another one for the program that has seen fewest.
    fn turn(&mut self, workload: &Places, host: &Places) {
        if self.random.chance(1) {
            self.flip_other_edge();
            self.flip_surroundings();
        }
        if self.random.chance(30) {
            return self.round_trip(Program::FromWorkload, workload);
        }
        let least = self.counts.iter().min_by_key(|(_, count)| count.iter().sum::<u64>());
        match *least.expect("there are programs").0 {
            Program::Guard => self.guarded(workload),
            Program::ToWorkload => self.opened_from_outside(workload),
            Program::FromHost => self.round_trip(Program::FromHost, host),
            program => self.replayed(program, workload),
        }
    }

    /// A frame that the program has seen lately, as it was or broken: replayed, duplicated, forged.
    fn replayed(&mut self, program: Program, places: &Places) {
        let recent = self.recent.get(&program).map_or(&[][..], Vec::as_slice);
        if recent.is_empty() {
            return self.round_trip(Program::FromWorkload, places);
        }
        let mut frame = recent[self.random.below(recent.len())].clone();
        if self.random.chance(60) {
            mutate(&mut self.random, &mut frame);
        }
        self.step(program, &frame);
    }

    /// Keeps a frame for later, in the place of a random one once there are enough.
    fn remember(&mut self, program: Program, frame: &[u8]) {
        let recent = self.recent.entry(program).or_default();
        if recent.len() < RECENT_COUNT_MAX {
            recent.push(frame.to_vec());
        } else {
            let place = self.random.below(RECENT_COUNT_MAX);
            recent[place] = frame.to_vec();
        }
    }

    /// Somebody's frame on its way out of the uplink.
    fn guarded(&mut self, places: &Places) {
        let mut out = self.frame_of(places);
        if self.random.chance(10) {
            out.splice(12..12, [0x81, 0, 0, self.random.below(9) as u8]);
        }
        let beside = self.beside();
        self.step_beside(Program::Guard, &out, beside);
    }

    /// Somebody's frame towards the workload, past the persona.
    fn opened_from_outside(&mut self, places: &Places) {
        let out = turned_around(&self.frame_of(places));
        let mark = if self.random.chance(20) { PERSONA_MARK } else { 0 };
        self.step_beside(Program::ToWorkload, &out, Beside { ingress_ifindex: 0, mark });
    }

    fn beside(&mut self) -> Beside {
        Beside {
            ingress_ifindex: self.random.pick(&[0, LOOPBACK, 77, 77, 77]),
            mark: self.random.pick(&[0, 0, 0, 0, PERSONA_MARK, BYPASS_MARK, 5]),
        }
    }

    fn frame_of(&mut self, places: &Places) -> Vec<u8> {
        let mut out = frame(&packet(&mut self.random, places), [2; 6], [4; 6]);
        if self.random.chance(30) {
            mutate(&mut self.random, &mut out);
        }
        out
    }

    /// A workload's frame as its device carries it: with the tag, but for a few, or with one that it shouldn't have.
    fn tagged(&mut self, mut frame: Vec<u8>) -> Vec<u8> {
        let tag = match (self.vlan, self.random.below(20)) {
            (Some(vlan), 0..17) => vlan.id | (self.random.below(8) as u16) << 13,
            (_, 19) => self.random.pick(&[0, 0xe000, 6]),
            _ => return frame,
        };
        let kind = self.random.pick(&[0x8100u16, 0x88a8, 0x88a8, 0x88a8, 0x88a8, 0x88a8]);
        frame.splice(12..12, [kind.to_be_bytes(), tag.to_be_bytes()].concat());
        frame
    }

    /// A frame out through a node and an edge, and its answer back.
    fn round_trip(&mut self, program: Program, places: &Places) {
        let mut out = self.frame_of(places);
        if program == Program::FromWorkload {
            out = self.tagged(out);
        }
        let beside =
            if program == Program::FromHost && self.random.chance(10) { self.beside() } else { Beside::default() };
        let Some(mut tunnelled) = self.step_beside(program, &out, beside) else { return };
        let Ok(found) = tunnel::read(&tunnelled) else { return };
        if found.is_control {
            return;
        }
        if found.destination != self.edge_address {
            // None of this edge's business; its twin would do the same.
            self.step(Program::EdgeInside, &tunnelled);
            tunnelled = tunnel::readdressed(&tunnelled, found.source, self.edge_address);
        }
        let is_broken = self.random.chance(25);
        if is_broken {
            mutate(&mut self.random, &mut tunnelled);
        }
        for program in [Program::EdgeInside, Program::XdpInside] {
            self.remember(program, &tunnelled);
        }
        let left = self.step(Program::EdgeInside, &tunnelled);
        let left_by_xdp = self.step(Program::XdpInside, &tunnelled);
        if let (Some(by_tc), Some(by_xdp)) = (&left, &left_by_xdp)
            && by_tc[14..] != by_xdp[14..]
        {
            self.last.push(format!("TC and XDP differ at the inside\n  {by_tc:02x?}\n  {by_xdp:02x?}"));
        }
        let Some(left) = left.filter(|_| !is_broken) else { return };
        if tunnel::read(&left).is_ok_and(|turned| turned.source == self.edge_address) {
            return self.deliver(left);
        }
        let Some(answer) = reply(&mut self.random, &left[14..]) else { return };
        let mut answer = frame(&answer, MAC_OUTSIDE, MAC_PEER);
        if self.random.chance(25) {
            mutate(&mut self.random, &mut answer);
        }
        for program in [Program::EdgeOutside, Program::XdpOutside] {
            self.remember(program, &answer);
        }
        let entered = self.step(Program::EdgeOutside, &answer);
        let entered_by_xdp = self.step(Program::XdpOutside, &answer);
        if let (Some(by_tc), Some(by_xdp)) = (&entered, &entered_by_xdp)
            && by_tc[14..] != by_xdp[14..]
        {
            self.last.push(format!("TC and XDP differ at the outside\n  {by_tc:02x?}\n  {by_xdp:02x?}"));
        }
        if let Some(entered) = entered {
            self.deliver(entered);
        }
    }

    /// A tunnel frame of the edge's reaches the node, whole or broken; by way of a peer, if that is where it goes.
    fn deliver(&mut self, mut entered: Vec<u8>) {
        let Ok(found) = tunnel::read(&entered) else { return };
        if found.is_control {
            // It waits for the slow path.
            return;
        }
        if found.marker == RELAY {
            let passed_on = tunnel::readdressed(&entered, self.peer_address, self.edge_address);
            for program in [Program::EdgeInside, Program::XdpInside] {
                self.remember(program, &passed_on);
            }
            self.step(Program::XdpInside, &passed_on);
            let Some(turned) = self.step(Program::EdgeInside, &passed_on) else { return };
            entered = turned;
        }
        self.remember(Program::FromEdge, &entered);
        if self.random.chance(25) {
            mutate(&mut self.random, &mut entered);
        }
        self.step(Program::FromEdge, &entered);
    }
}

/// Whether a packet that is dropped for these reasons is one whose sender is told.
fn is_answerable(reasons: &[DropReason]) -> bool {
    reasons.contains(&DropReason::TtlExpired) || reasons.contains(&DropReason::TooBig)
}

fn seen(program: Program, outcome: &Outcome) -> Seen {
    let redirected = Seen::Redirected { frame: outcome.bytes.clone() };
    match (program.is_xdp(), outcome.verdict) {
        // Decapsulated, for a process of this host.
        (false, TC_NEXT | 0) if program == Program::FromEdge && outcome.mark == PERSONA_MARK => redirected,
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

/// Frames kept per program, to be played again.
const RECENT_COUNT_MAX: usize = 256;
/// How often a long run says how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(30);

/// Runs one underlay's chain until every program has seen enough frames, and prints what was counted.
fn run(scene: Scene, underlay: &Underlay, seed: u64, group: &OwnGroup) {
    let world = World::new();
    let namespace = Namespace::new("fuzz");
    let node_tables = node_tables(scene, underlay, group.id());
    namespace.enter(|| {
        let mut node = world.node();
        node.load_host_program().unwrap();
        node.apply(&node_tables).unwrap();
        for (edge, generation) in [(EDGE, LEASED), (OTHER_EDGE, LEASED), (STALE_EDGE, Generation(LEASED.0 - 1))] {
            node.set_edge_liveness(edge, true, generation).unwrap();
        }
        let mut edge = world.edge();
        edge.apply(&edge_tables(scene, underlay)).unwrap();
        let ownership = edge.ownership_writer().unwrap();
        let watch = |watched| Watch::open(&world.bpffs(), watched, Ring::Events { wanted: WANT_DROPS }).unwrap();
        let mut chain = Chain {
            node,
            edge,
            node_model: Node::new(node_tables.clone(), [EDGE, OTHER_EDGE]),
            edge_model: Edge::new(edge_tables(scene, underlay)),
            node_watch: watch(Watched::Node),
            edge_watch: watch(Watched::Edge),
            node_tables,
            edge_address: underlay.edges[0],
            peer_address: underlay.edges[1],
            vlan: scene.vlan(),
            ownership,
            random: Random::new(seed),
            counts: PROGRAMS.map(|program| (program, [0; 3])).into(),
            recent: BTreeMap::new(),
            last: Vec::new(),
        };
        let (workload, host) = (workload_places(), host_places());
        let began = Instant::now();
        let (mut turn, mut told) = (0u64, began);
        while chain.least_count() < frame_count() {
            chain.turn(&workload, &host);
            assert!(chain.last.is_empty(), "seed {seed}, turn {turn}:\n{}", chain.last.join("\n"));
            turn += 1;
            if turn % 1_000 == 0 {
                chain.node_watch.renew().unwrap();
                chain.edge_watch.renew().unwrap();
            }
            if told.elapsed() > PROGRESS_INTERVAL {
                told = Instant::now();
                println!(
                    "over {}, leases {}: {} of {} frames through every program",
                    underlay.node,
                    scene.name(),
                    chain.least_count(),
                    frame_count()
                );
            }
        }
        chain.report(scene, underlay, seed, began.elapsed());
    });
}

#[test]
fn programs_and_model_agree_on_random_and_hostile_frames() {
    if !is_privileged() {
        return;
    }
    let group = OwnGroup::new("persona-fuzz");
    let first_seed = std::env::var("PERSONA_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    for (offset, underlay) in underlays().iter().enumerate() {
        for scene in [Scene::Rewritten, Scene::Configured] {
            run(scene, underlay, first_seed + offset as u64, &group);
        }
    }
}
