//! How many new flows a second one core opens: each from a port of its own, to a remote that nobody has spoken to. Beside it
//! nftables' source translation, which has the kernel's connection tracking make an entry for each.

use anyhow::{Context, Result, ensure};
use persona_ctl::dataplane::NodeDataplane;

use super::clock::Clock;
use super::feed::{Feed, Form};
use super::measures::Run;
use super::node_tables::{EDGE, EDGE_MAC, LIVENESS, NODE, WHOLE_LEASE, Worker, flow, tables};
use super::packets::{Datagram, Macs};
use super::place::Place;
use super::row::{Better, Goal, Row};
use super::samples::Samples;
use super::tap::Sink;
use crate::sys::pin_to_cpu;

/// Flows that a sample opens: as many as the lease has ports.
const FLOW_COUNT: u32 = (WHOLE_LEASE as u32) << 10;
/// What the table of goals asks for.
const RATE_MIN: f64 = 500_000.0;
/// Longer than an unanswered mapping lives.
const PAUSE_SECS: u32 = 400;
const WORKLOAD_MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

/// Measures both.
pub fn measure(run: &Run<'_>) -> Result<Vec<Row>> {
    run.say("new-flows: ours and the kernel's are set up");
    let (mut ours, mut kernel) = (Ours::build(run)?, Kernel::build(run)?);
    let (mut rates, mut kernels) = (Samples::default(), Samples::default());
    for round in 0..=run.rounds {
        run.say(&format!("new-flows: round {round} of {}", run.rounds));
        let (rate, kernels_rate) = (ours.sample(round)?, kernel.sample(round)?);
        // The first makes memory hot.
        if round != 0 {
            rates.push(rate);
            kernels.push(kernels_rate);
            run.step();
        }
    }
    let row = Row::new("new-flows/leases-1", "flows/s", Better::More, rates);
    Ok(vec![row.beside("nftables SNAT", kernels).reach(Goal::AtLeast(RATE_MIN))])
}

struct Ours {
    place: Place,
    node: NodeDataplane,
    clock: Clock,
    inlet: u32,
    mac: [u8; 6],
    _sink: Sink,
}

impl Ours {
    fn build(run: &Run<'_>) -> Result<Self> {
        let mut place = Place::new(run, "flows")?;
        let mac = place.inlet("w0")?;
        let sink = place.outlet("u0", &format!("{NODE}/24"), EDGE, EDGE_MAC)?;
        let (inlet, uplink) = (place.ifindex("w0")?, place.ifindex("u0")?);
        let mut node = place.node_at("node", uplink)?;
        let tables = tables(&[inlet], WHOLE_LEASE, uplink)?;
        place.namespace.run_inside(|| node.apply(&tables))??;
        node.set_edge_liveness(LIVENESS.0, true, LIVENESS.1)?;
        let clock = Clock::open(&place.path("node"))?;
        Ok(Self { place, node, clock, inlet, mac, _sink: sink })
    }

    /// Flows opened per second; all of them were, each under a port of its own.
    fn sample(&mut self, round: u32) -> Result<f64> {
        self.clock.advance(PAUSE_SECS)?;
        self.node.sweep()?;
        let rate = open_flows(&self.place, self.inlet, self.mac, round)?;
        let uses = self.node.lease_use()?;
        let live = uses.first().context("no lease is there")?.live_slot_count;
        ensure!(live == FLOW_COUNT, "{live} of {FLOW_COUNT} ports are in use");
        let drops = self.node.counters()?.drops;
        ensure!(drops.is_empty(), "packets were dropped: {drops:?}");
        Ok(rate)
    }
}

/// The kernel's translation in front of the same sink.
struct Kernel {
    place: Place,
    inlet: u32,
    mac: [u8; 6],
    _sink: Sink,
}

impl Kernel {
    fn build(run: &Run<'_>) -> Result<Self> {
        let place = Place::new(run, "flows-kernel")?;
        let mac = place.inlet("w0")?;
        let sink = place.outlet("u0", &format!("{NODE}/24"), EDGE, EDGE_MAC)?;
        place.namespace.ip(&format!("route add default via {EDGE} dev u0"))?;
        super::kernel_way::add_translation(&place, "u0")?;
        Ok(Self { inlet: place.ifindex("w0")?, place, mac, _sink: sink })
    }

    fn sample(&mut self, round: u32) -> Result<f64> {
        let rate = open_flows(&self.place, self.inlet, self.mac, round)?;
        let path = "/proc/sys/net/netfilter/nf_conntrack_count";
        let count = self.place.inside(|| Ok(std::fs::read_to_string(path)?))?;
        let count: u64 = count.trim().parse()?;
        ensure!(count >= u64::from(FLOW_COUNT), "connection tracking has {count} entries only");
        Ok(rate)
    }
}

/// Opens a round's flows, which no other round has, and says how fast.
fn open_flows(place: &Place, inlet: u32, mac: [u8; 6], round: u32) -> Result<f64> {
    let of_round = |number: u32| -> Datagram { flow(Worker(0), round * FLOW_COUNT + number) };
    let macs = Macs { destination: mac, source: WORKLOAD_MAC };
    let mut feed = Feed::load(Form::Bare, &of_round(0).bare(macs))?;
    feed.put_flows((0..FLOW_COUNT).map(|number| of_round(number).flow(None)))?;
    feed.aim(None)?;
    feed.begin(FLOW_COUNT)?;
    let time = place.inside(|| {
        pin_to_cpu(0)?;
        feed.inject(inlet, FLOW_COUNT)
    })?;
    Ok(f64::from(FLOW_COUNT) / time.as_secs_f64())
}
