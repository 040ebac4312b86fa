//! What a node's program costs per packet of an established flow.
//!
//! A socket buffer can be put into a tunnel only once, so repeated runs on one are no way to measure this. Live frames go
//! into the workload's device, and the kernel's own statistics say how long the program took; of an empty program in its
//! place they say the same, and that is the harness. Beside it the whole cost per packet, all of the kernel's included.

use anyhow::{Context, Result, ensure};
use aya::programs::tc::SchedClassifierLinkId;
use aya::programs::{ProgramInfo, SchedClassifier, TcAttachType};
use aya::sys::{Stats, enable_stats};
use persona_common::bench::INNER_AT_VXLAN;
use persona_ctl::dataplane::NodeDataplane;

use super::crowd::Crowd;
use super::feed::{Feed, Form};
use super::kernel_way::{self, add_vxlan, workload};
use super::measures::Run;
use super::node_tables::{EDGE, EDGE_MAC, LIVENESS, NODE, WHOLE_LEASE, Worker, flow, tables};
use super::packets::{Datagram, Macs, check_geneve};
use super::place::Place;
use super::row::{Better, Goal, Row};
use super::samples::Samples;
use super::tap::Sink;
use crate::sys::pin_to_cpu;

/// Flows of the cases.
const CASES: [u32; 4] = [1, 1 << 10, 1 << 14, 1 << 16];
/// Frames of a sample, at least …
const FRAME_COUNT_MIN: u32 = 1 << 18;
/// … and so many of each flow: what it is about is established flows, and the first packet that one sends for some time costs more.
const FRAMES_PER_FLOW_MIN: u32 = 16;
/// What the table of goals asks for, nanoseconds.
const COST_MAX_NS: f64 = 200.0;
/// Where a workload's packets come from, in hardware.
const WORKLOAD_MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];
/// Frames of the sink's queue that are looked at.
const CHECKED_COUNT: usize = 100;

/// Nobody beside the one whose packets are measured.
const NOBODY: Crowd = Crowd { count: 0 };

/// Nanoseconds of the program, and of everything.
pub(super) struct Cost {
    program: f64,
    pub(super) whole: f64,
}

/// Measures ours, an empty program and the kernel's own way.
pub fn measure(run: &Run<'_>) -> Result<Vec<Row>> {
    run.say("node-out: ours and the kernel's own way are set up");
    let (mut ours, mut empty, mut kernel) =
        (Ours::build(run, NOBODY)?, Empty::build(run)?, Kernel::build(run, NOBODY)?);
    ours.check()?;
    kernel.check()?;
    let _stats = enable_stats(Stats::RunTime).context("the kernel keeps no statistics of programs")?;
    let mut net = vec![Samples::default(); CASES.len()];
    let (mut whole, mut kernels, mut harness) = (net.clone(), net.clone(), Samples::default());
    for round in 0..run.rounds {
        run.say(&format!("node-out: round {} of {}", round + 1, run.rounds));
        for (index, flow_count) in CASES.into_iter().enumerate() {
            let nothing = empty.sample(flow_count)?;
            let cost = ours.sample(flow_count)?;
            net[index].push(cost.program - nothing.program);
            harness.push(nothing.program);
            whole[index].push(cost.whole);
            kernels[index].push(kernel.sample(flow_count)?);
        }
        run.step();
    }
    let mut rows = Vec::new();
    for (flow_count, samples) in CASES.iter().zip(net) {
        let name = format!("node-out/program/flows-{flow_count}");
        rows.push(Row::new(name, "ns", Better::Less, samples).reach(Goal::AtMost(COST_MAX_NS)));
    }
    for ((flow_count, samples), kernel) in CASES.iter().zip(whole).zip(kernels) {
        let row = Row::new(format!("node-out/whole/flows-{flow_count}"), "ns", Better::Less, samples);
        rows.push(row.beside("rule + nftables SNAT + vxlan", kernel));
    }
    rows.push(Row::new("node-out/harness", "ns", Better::Less, harness));
    Ok(rows)
}

/// A node of ours with one workload, whose packets go into a tunnel.
pub(super) struct Ours {
    place: Place,
    feed: Feed,
    sink: Sink,
    node: NodeDataplane,
    inlet: u32,
}

impl Ours {
    /// Beside the workload there is a crowd behind another device, each of it under a persona of its own.
    pub(super) fn build(run: &Run<'_>, crowd: Crowd) -> Result<Self> {
        let mut place = Place::new(run, &format!("node{}", crowd.count))?;
        let (mac, _) = (place.inlet("w0")?, place.inlet("w1")?);
        let sink = place.outlet("u0", &format!("{NODE}/24"), EDGE, EDGE_MAC)?;
        let (inlet, others, uplink) = (place.ifindex("w0")?, place.ifindex("w1")?, place.ifindex("u0")?);
        let mut node = place.node_at("node", uplink)?;
        let devices = if crowd.count == 0 { vec![inlet] } else { vec![inlet, others] };
        let mut tables = tables(&devices, WHOLE_LEASE, uplink)?;
        crowd.join_node(&mut tables, others, |_| 0);
        place.namespace.run_inside(|| node.apply(&tables))??;
        node.set_edge_liveness(LIVENESS.0, true, LIVENESS.1)?;
        Ok(Self { feed: feed(mac, |number| flow(Worker(0), number))?, place, sink, node, inlet })
    }

    /// Opens all flows; what comes out is right.
    pub(super) fn check(&mut self) -> Result<()> {
        self.sample(CASES[CASES.len() - 1])?;
        self.sink.frames();
        self.sample(CASES[CASES.len() - 1])?;
        let frames = self.sink.frames();
        let frames: Vec<_> = frames.iter().filter(|frame| frame.get(..6) == Some(&EDGE_MAC[..])).collect();
        ensure!(frames.len() >= CHECKED_COUNT, "only {} frames came out: {:?}", frames.len(), self.node.counters()?);
        for (number, frame) in frames.into_iter().take(CHECKED_COUNT).enumerate() {
            let inner = flow(Worker(0), number as u32);
            let port = u16::from_be_bytes([frame[70], frame[71]]);
            ensure!((1024..1024 * 33).contains(&port), "flow {number} leaves under port {port}");
            let expected = Datagram { source: (Worker(0).egress(), port), ..inner };
            check_geneve(frame, &expected, &Worker(0).tunnel())?;
        }
        let counters = self.node.counters()?;
        ensure!(counters.drops.is_empty(), "packets were dropped: {:?}", counters.drops);
        Ok(())
    }

    pub(super) fn sample(&mut self, flow_count: u32) -> Result<Cost> {
        let program: &SchedClassifier =
            self.node.programs().program("from_workload").context("no program")?.try_into()?;
        let (before, whole) = (program.info()?, inject(&mut self.feed, &self.place, self.inlet, flow_count)?);
        Ok(Cost { program: per_run(&before, &program.info()?), whole })
    }
}

/// The same device with a program that drops everything.
struct Empty {
    place: Place,
    feed: Feed,
    inlet: u32,
    _link: SchedClassifierLinkId,
}

impl Empty {
    fn build(run: &Run<'_>) -> Result<Self> {
        let place = Place::new(run, "node-empty")?;
        let mac = place.inlet("w0")?;
        let inlet = place.ifindex("w0")?;
        let mut feed = feed(mac, |number| flow(Worker(0), number))?;
        let program = feed.drop_packet()?;
        let link = place.namespace.run_inside(|| program.attach("w0", TcAttachType::Ingress))??;
        Ok(Self { place, feed, inlet, _link: link })
    }

    fn sample(&mut self, flow_count: u32) -> Result<Cost> {
        let before = self.feed.drop_packet()?.info()?;
        let whole = inject(&mut self.feed, &self.place, self.inlet, flow_count)?;
        Ok(Cost { program: per_run(&before, &self.feed.drop_packet()?.info()?), whole })
    }
}

/// The kernel's own way: a rule leads to a table whose default route is a VXLAN device, behind source translation.
pub(super) struct Kernel {
    place: Place,
    feed: Feed,
    sink: Sink,
    inlet: u32,
}

impl Kernel {
    /// Each of a crowd has a rule that is asked before the workload's.
    pub(super) fn build(run: &Run<'_>, crowd: Crowd) -> Result<Self> {
        let place = Place::new(run, &format!("kernel{}", crowd.count))?;
        let mac = place.inlet("w0")?;
        let sink = place.outlet("u0", &format!("{NODE}/24"), EDGE, EDGE_MAC)?;
        add_vxlan(&place, NODE, EDGE)?;
        place.namespace.add_address("vx0", "172.31.0.1/24")?;
        place.namespace.ip("neigh replace 172.31.0.2 lladdr 02:00:00:00:00:0a dev vx0 nud permanent")?;
        place.namespace.ip("route add default via 172.31.0.2 dev vx0 table 100")?;
        place.namespace.ip(&format!("rule add from {}/32 table 100", workload(0)))?;
        let rules = place.path("rules");
        std::fs::write(&rules, crowd.policy_rules())?;
        place.namespace.ip(&format!("-batch {}", rules.display()))?;
        kernel_way::add_translation(&place, "vx0")?;
        Ok(Self { feed: feed(mac, |number| flow(Worker(0), number))?, inlet: place.ifindex("w0")?, place, sink })
    }

    /// What comes out is VXLAN with another source inside.
    pub(super) fn check(&mut self) -> Result<()> {
        self.sample(CASES[CASES.len() - 1])?;
        let frames = self.sink.frames();
        // The kernel has something of its own to say there too.
        let length = flow(Worker(0), 0).packet().len() + INNER_AT_VXLAN;
        let frame = frames.iter().find(|frame| frame.len() == length).context("nothing came out")?;
        let source = &frame[INNER_AT_VXLAN + 12..][..4];
        ensure!(source == kernel_way::egress(0).octets(), "not translated: {frame:02x?}");
        Ok(())
    }

    pub(super) fn sample(&mut self, flow_count: u32) -> Result<f64> {
        inject(&mut self.feed, &self.place, self.inlet, flow_count)
    }
}

/// Bare packets of flows, to a device.
fn feed(mac: [u8; 6], flow: impl Fn(u32) -> Datagram) -> Result<Feed> {
    let macs = Macs { destination: mac, source: WORKLOAD_MAC };
    let mut feed = Feed::load(Form::Bare, &flow(0).bare(macs))?;
    feed.put_flows((0..CASES[CASES.len() - 1]).map(|number| flow(number).flow(None)))?;
    Ok(feed)
}

/// Nanoseconds per packet of live frames.
fn inject(feed: &mut Feed, place: &Place, inlet: u32, flow_count: u32) -> Result<f64> {
    feed.aim(None)?;
    feed.begin(flow_count)?;
    let (feed, frame_count) = (&*feed, FRAME_COUNT_MIN.max(flow_count * FRAMES_PER_FLOW_MIN));
    let time = place.inside(|| {
        pin_to_cpu(0)?;
        feed.inject(inlet, frame_count)
    })?;
    Ok(time.as_nanos() as f64 / f64::from(frame_count))
}

/// Nanoseconds of a run between two looks at the kernel's statistics.
fn per_run(before: &ProgramInfo, after: &ProgramInfo) -> f64 {
    let time = after.run_time() - before.run_time();
    time.as_nanos() as f64 / (after.run_count() - before.run_count()) as f64
}
