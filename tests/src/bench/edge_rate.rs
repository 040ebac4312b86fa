//! How many packets a second an edge forwards on one pinned core, live: ours at both hooks, and the kernel's chain of VXLAN,
//! nftables and HTB, all into the same kind of sink.

use anyhow::{Context, Result, ensure};
use aya::programs::ProgramFd;
use persona_ctl::dataplane::{EdgeDataplane, Hook};

use super::edge_tables::{EDGE, NODE_MAC, OWN_MAC, ROUTER, ROUTER_MAC, flow, tables};
use super::feed::{Feed, Form, target};
use super::kernel_way::{self, VNI, VXLAN_MAC, egress, workload};
use super::measures::Run;
use super::packets::{Datagram, Macs, Tunnel, check_bare, packet_of};
use super::place::Place;
use super::row::{Better, Goal, Row};
use super::samples::Samples;
use super::tap::Sink;
use crate::model::wire::{complement, sum};
use crate::sys::pin_to_cpu;

/// Frames of a sample.
const FRAME_COUNT: u32 = 1 << 18;
/// Flows that they are of.
const FLOW_COUNT: u32 = 1 << 14;
/// Leases of ours; the kernel has as many personas.
const LEASE_COUNT: u32 = kernel_way::PERSONA_COUNT;
/// Frames of the sink's queue that are looked at.
const CHECKED_COUNT: usize = 100;
/// Of a hundred frames that go in, so many must come out.
const ARRIVED_PERCENT_MIN: u64 = 99;

/// The kernel's node.
const NODE: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 0, 0, 1);

/// An edge of either kind.
struct Subject {
    name: &'static str,
    place: Place,
    feed: Feed,
    target: Option<ProgramFd>,
    inlet: u32,
    sink: Sink,
    edge: Option<EdgeDataplane>,
}

/// Measures all three.
pub fn measure(run: &Run<'_>) -> Result<Vec<Row>> {
    run.say("edge-rate: ours and the kernel's chain are set up");
    let mut subjects = [Subject::ours(run, Hook::Xdp)?, Subject::ours(run, Hook::Tc)?, Subject::kernel(run)?];
    for subject in &mut subjects {
        subject.check().with_context(|| subject.name)?;
    }
    let mut rates: [Samples; 3] = Default::default();
    for round in 0..run.rounds {
        for (subject, rates) in subjects.iter_mut().zip(&mut rates) {
            run.say(&format!("edge-rate: {}, round {} of {}", subject.name, round + 1, run.rounds));
            rates.push(subject.sample()?);
        }
        run.step();
    }
    let [xdp, tc, kernel] = rates;
    let row = |name: &str, ours: Samples| {
        let row = Row::new(format!("edge-rate/{name}"), "million packets/s", Better::More, ours);
        row.beside("vxlan + nftables SNAT + HTB", kernel.clone())
    };
    Ok(vec![row("xdp", xdp).reach(Goal::TimesPeer(5.0)), row("tc", tc)])
}

impl Subject {
    fn ours(run: &Run<'_>, hook: Hook) -> Result<Self> {
        let name = if hook == Hook::Xdp { "rate-xdp" } else { "rate-tc" };
        let mut place = Place::new(run, name)?;
        let mac = place.inlet("in0")?;
        let sink = place.outlet("sink0", "192.0.2.2/24", ROUTER, ROUTER_MAC)?;
        let (inlet, outlet) = (place.ifindex("in0")?, place.ifindex("sink0")?);
        // The XDP program is called by the one that makes the packets, on their way in.
        let mut edge = match hook {
            Hook::Xdp => place.edge("edge")?,
            _ => place.edge_at("edge", (inlet, outlet), Hook::Tc)?,
        };
        edge.apply(&tables(LEASE_COUNT, outlet))?;
        let target = if hook == Hook::Xdp { Some(target(edge.programs(), "xdp_inside")?) } else { None };
        let (lease, first) = flow(0, LEASE_COUNT);
        let macs = Macs { destination: mac, source: NODE_MAC };
        let mut feed = Feed::load(Form::Geneve, &first.in_geneve(macs, &lease.tunnel_out()))?;
        feed.put_flows((0..FLOW_COUNT).map(|number| {
            let (lease, datagram) = flow(number, LEASE_COUNT);
            datagram.flow(Some(&lease.tunnel_out()))
        }))?;
        Ok(Self { name, place, feed, target, inlet, sink, edge: Some(edge) })
    }

    fn kernel(run: &Run<'_>) -> Result<Self> {
        let place = Place::new(run, "rate-kernel")?;
        let mac = place.inlet("in0")?;
        place.namespace.add_address("in0", &format!("{EDGE}/24"))?;
        let sink = place.outlet("sink0", "192.0.2.2/24", ROUTER, ROUTER_MAC)?;
        kernel_way::add_vxlan(&place, EDGE, NODE)?;
        place.namespace.ip(&format!("route add 198.18.0.0/15 via {ROUTER} dev sink0"))?;
        kernel_way::add_translation(&place, "sink0")?;
        kernel_way::add_queue(&place, "sink0")?;
        let tunnel = Tunnel { source: NODE, destination: EDGE, vni: VNI };
        let (outer, inner) =
            (Macs { destination: mac, source: NODE_MAC }, Macs { destination: VXLAN_MAC, source: OWN_MAC });
        let frame = kernel_flow(0).in_vxlan(outer, inner, &tunnel);
        let checksum = u16::from_ne_bytes([frame[24], frame[25]]);
        let mut feed = Feed::load(Form::Vxlan, &frame)?;
        feed.put_flows((0..FLOW_COUNT).map(|number| {
            let flow = kernel_flow(number).flow(Some(&tunnel));
            persona_common::bench::Flow { outer_checksum: checksum, ..flow }
        }))?;
        let inlet = place.ifindex("in0")?;
        Ok(Self { name: "rate-kernel", place, feed, target: None, inlet, sink, edge: None })
    }

    /// All frames come out, and right; once, before anything is timed.
    fn check(&mut self) -> Result<()> {
        let before = self.carried()?;
        self.sample()?;
        let arrived = self.carried()? - before;
        let wanted = u64::from(FRAME_COUNT) * ARRIVED_PERCENT_MIN / 100;
        ensure!(arrived >= wanted, "{arrived} of {FRAME_COUNT} frames came out");
        let frames = self.sink.frames();
        let frames = frames.iter().filter(|frame| frame.get(12..14) == Some(&[8, 0]));
        let mut count = 0;
        for (number, frame) in frames.take(CHECKED_COUNT).enumerate() {
            match self.edge {
                Some(_) => check_bare(frame, &flow(number as u32, LEASE_COUNT).1, ROUTER_MAC)?,
                None => check_kernels(frame, number as u32)?,
            }
            count += 1;
        }
        ensure!(count == CHECKED_COUNT, "only {count} frames are in the sink");
        Ok(())
    }

    /// Packets that were carried: by our own count, which no drop is in, or by the sink's. A sink counts one frame of
    /// sixteen that it has no room for where they come from XDP.
    fn carried(&self) -> Result<u64> {
        let Some(edge) = &self.edge else { return self.place.arrived("sink0") };
        let counters = edge.counters()?;
        ensure!(counters.drops.is_empty(), "packets were dropped: {:?}", counters.drops);
        Ok(counters.personas.values().map(|traffic| traffic.egress_packets).sum())
    }

    /// Millions of packets a second.
    fn sample(&mut self) -> Result<f64> {
        self.feed.aim(self.target.as_ref())?;
        self.feed.begin(FLOW_COUNT)?;
        let (feed, inlet) = (&self.feed, self.inlet);
        let time = self.place.inside(|| {
            pin_to_cpu(0)?;
            feed.inject(inlet, FRAME_COUNT)
        })?;
        Ok(f64::from(FRAME_COUNT) / time.as_secs_f64() / 1e6)
    }
}

/// A flow of one of the kernel's workloads.
fn kernel_flow(number: u32) -> Datagram {
    let (_, datagram) = flow(number, LEASE_COUNT);
    let source = workload(number.wrapping_mul(0x9e37_79b1) % kernel_way::PERSONA_COUNT);
    Datagram { source: (source, datagram.source.1), ..datagram }
}

/// What the kernel must make of a flow's packet: its ports may be others.
fn check_kernels(frame: &[u8], number: u32) -> Result<()> {
    let packet = packet_of(frame);
    let datagram = kernel_flow(number);
    let persona = datagram.source.0.to_bits() - workload(0).to_bits();
    ensure!(packet.len() == datagram.packet().len(), "{} bytes: {frame:02x?}", packet.len());
    ensure!(packet[12..16] == egress(persona).octets(), "not translated: {frame:02x?}");
    ensure!(packet[16..20] == datagram.destination.0.octets(), "to somebody else: {frame:02x?}");
    ensure!(complement(sum(&packet[..20], 0)) == 0 && packet[8] == 63, "not one hop on: {frame:02x?}");
    Ok(())
}
