//! What an edge's program costs per packet, both ways: repeated runs, minus the same runs with a target that does nothing.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use anyhow::{Context, Result, ensure};
use aya::programs::ProgramFd;
use persona_ctl::dataplane::EdgeDataplane;

use super::edge_tables::{EDGE, Leased, NODE_MAC, OWN_MAC, ROUTER_MAC, answer, flow, policed, tables};
use super::feed::{Feed, Form, target};
use super::measures::Run;
use super::packets::{Datagram, Macs, check_bare, check_geneve};
use super::place::{LOOPBACK, Place};
use super::row::{Better, Goal, Row};
use super::samples::Samples;
use crate::sys::pin_to_cpu;

/// Runs per sample. A round of all cases takes about two seconds.
const REPEAT: u32 = 1 << 20;

/// Leases and flows of the cases, without policing and with it.
const CASES: [(Leases, u32); 8] = [
    (Leases::of(1), 1),
    (Leases::of(1), 1 << 20),
    (Leases::of(1_000), 1 << 16),
    (Leases::of(100_000), 1 << 16),
    (Leases::of(100_000), 1 << 20),
    (Leases::of(1).policed(), 1),
    (Leases::of(1_000).policed(), 1 << 16),
    (Leases::of(100_000).policed(), 1 << 20),
];

/// What the table of goals asks for, nanoseconds, and how far the cases without policing may lie apart.
const COST_MAX_NS: f64 = 35.0;
const POLICED_COST_MAX_NS: f64 = 60.0;
const FLATNESS_MAX: f64 = 1.25;

/// `XDP_REDIRECT`.
const REDIRECT: u32 = 4;

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Out,
    In,
}

/// The leases that an edge carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Leases {
    count: u32,
    are_policed: bool,
}

impl Leases {
    const fn of(count: u32) -> Self {
        Self { count, are_policed: false }
    }

    const fn policed(self) -> Self {
        Self { are_policed: true, ..self }
    }

    /// As rows and pins are called.
    fn name(self) -> String {
        format!("leases-{}{}", self.count, if self.are_policed { "-policed" } else { "" })
    }
}

/// From the inside to the outside: check, decapsulate, forward.
pub fn outward(run: &Run<'_>) -> Result<Vec<Row>> {
    measure(run, Way::Out)
}

/// From the outside to the inside: look up, encapsulate, forward.
pub fn inward(run: &Run<'_>) -> Result<Vec<Row>> {
    measure(run, Way::In)
}

/// An edge with such leases, and the packets for it.
struct Case {
    leases: Leases,
    feed: Feed,
    target: ProgramFd,
    edge: EdgeDataplane,
}

fn measure(run: &Run<'_>, way: Way) -> Result<Vec<Row>> {
    let mut place = Place::new(run, way.name())?;
    let mut cases = BTreeMap::new();
    for leases in CASES.map(|(leases, _)| leases) {
        if let Entry::Vacant(case) = cases.entry(leases) {
            run.say(&format!("{}: tables of {}", way.name(), leases.name()));
            case.insert(Case::build(&mut place, way, leases)?);
        }
    }
    let mut gross = vec![Samples::default(); CASES.len()];
    let (mut harness, mut least) = (gross.clone(), Samples::default());
    for round in 0..run.rounds {
        run.say(&format!("{}: round {} of {}", way.name(), round + 1, run.rounds));
        for (index, (leases, flow_count)) in CASES.iter().enumerate() {
            let case = cases.get_mut(leases).expect("it was built above");
            let [with, without, helpers] = place.namespace.run_inside(|| case.sample(*flow_count))??;
            gross[index].push(with);
            harness[index].push(without);
            if index == 0 {
                least.push(helpers - without);
            }
        }
        run.step();
    }
    cases.values().try_for_each(|case| case.check_counters(way))?;
    let net: Vec<Samples> = gross.iter().zip(&harness).map(|(with, without)| with.minus(without)).collect();
    let mut rows = rows(way, &net, &harness);
    rows.push(Row::new(format!("{}/least", way.name()), "ns", Better::Less, least));
    Ok(rows)
}

fn rows(way: Way, net: &[Samples], harness: &[Samples]) -> Vec<Row> {
    let mut rows = Vec::new();
    for ((leases, flow_count), samples) in CASES.iter().zip(net) {
        let name = format!("{}/{}/flows-{flow_count}", way.name(), leases.name());
        let most_ns = if leases.are_policed { POLICED_COST_MAX_NS } else { COST_MAX_NS };
        rows.push(Row::new(name, "ns", Better::Less, samples.clone()).reach(Goal::AtMost(most_ns)));
    }
    let unpoliced = CASES.iter().zip(net).filter(|((leases, _), _)| !leases.are_policed);
    let medians: Vec<f64> = unpoliced.map(|(_, samples)| samples.median()).collect();
    let (least, most) = (medians.iter().copied().fold(f64::MAX, f64::min), medians.iter().copied().fold(0.0, f64::max));
    let flatness = Samples::from_iter([most / least]);
    let name = format!("{}/flatness", way.name());
    rows.push(Row::new(name, "largest / smallest", Better::Less, flatness).reach(Goal::AtMost(FLATNESS_MAX)));
    let name = format!("{}/harness", way.name());
    rows.push(Row::new(name, "ns", Better::Less, harness[0].clone()));
    rows
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Out => "edge-out",
            Self::In => "edge-in",
        }
    }

    /// The frame of a flow as the edge gets it.
    fn frame(self, lease: Leased, datagram: &Datagram) -> Vec<u8> {
        let macs = Macs { destination: OWN_MAC, source: NODE_MAC };
        match self {
            Self::Out => datagram.in_geneve(macs, &lease.tunnel_out()),
            Self::In => answer(datagram).bare(macs),
        }
    }

    /// Fails unless the frame is right as the edge hands it on.
    fn check(self, frame: &[u8], lease: Leased, datagram: &Datagram) -> Result<()> {
        match self {
            Self::Out => check_bare(frame, datagram, ROUTER_MAC),
            Self::In => check_geneve(frame, &answer(datagram), &lease.tunnel_in()),
        }
    }
}

impl Case {
    fn build(place: &mut Place, way: Way, leases: Leases) -> Result<Self> {
        let mut edge = place.edge(&format!("{}-{}", way.name(), leases.name()))?;
        let tables = tables(leases.count, LOOPBACK);
        edge.apply(&if leases.are_policed { policed(tables) } else { tables })?;
        let (lease, first) = flow(0, leases.count);
        let (form, program) = match way {
            Way::Out => (Form::Geneve, "xdp_inside"),
            Way::In => (Form::Bare, "xdp_outside"),
        };
        let mut feed = Feed::load(form, &way.frame(lease, &first))?;
        let most = CASES.iter().filter(|case| case.0 == leases).map(|case| case.1).max().unwrap_or(1);
        feed.put_flows((0..most).map(|number| {
            let (lease, datagram) = flow(number, leases.count);
            match way {
                Way::Out => datagram.flow(Some(&lease.tunnel_out())),
                Way::In => answer(&datagram).flow(None),
            }
        }))?;
        let target = target(edge.programs(), program)?;
        let mut case = Self { leases, feed, target, edge };
        place.namespace.run_inside(|| case.check(way, most))??;
        Ok(case)
    }

    /// Every kind of packet that will be timed comes out right: the first thousand flows, one by one.
    fn check(&mut self, way: Way, flow_count: u32) -> Result<()> {
        pin_to_cpu(0)?;
        self.feed.begin(flow_count)?;
        self.feed.aim(Some(&self.target))?;
        for number in 0..flow_count.min(1000) {
            let (lease, datagram) = flow(number, self.leases.count);
            let (verdict, frame) = self.feed.once()?;
            let context = || format!("{} {EDGE}: flow {number} of {}", way.name(), self.leases.name());
            ensure!(verdict == REDIRECT, "{}: verdict {verdict}", context());
            way.check(&frame, lease, &datagram).with_context(context)?;
        }
        Ok(())
    }

    /// Nanoseconds per packet with the program, with nothing in its place, and with the least that a tunnel takes.
    fn sample(&mut self, flow_count: u32) -> Result<[f64; 3]> {
        pin_to_cpu(0)?;
        let (nothing, least) = (self.feed.nothing()?, self.feed.least()?);
        let mut costs = [0.0; 3];
        for (cost, target) in costs.iter_mut().zip([&self.target, &nothing, &least]) {
            self.feed.aim(Some(target))?;
            // Once before it counts: caches, and the branches that the packets take.
            self.feed.begin(flow_count)?;
            self.feed.cost(REPEAT / 8)?;
            self.feed.begin(flow_count)?;
            *cost = self.feed.cost(REPEAT)?;
        }
        Ok(costs)
    }

    /// No packet was dropped, and every one was counted.
    fn check_counters(&self, way: Way) -> Result<()> {
        let counters = self.edge.counters()?;
        ensure!(counters.drops.is_empty(), "{}: packets were dropped: {:?}", way.name(), counters.drops);
        let counted: u64 =
            counters.personas.values().map(|traffic| traffic.egress_packets + traffic.ingress_packets).sum();
        ensure!(counted > u64::from(REPEAT), "{}: only {counted} packets were counted", way.name());
        Ok(())
    }
}
