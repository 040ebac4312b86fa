//! Speed and quality of planning at full size: `cargo bench -p persona-core --bench plan`.
//!
//! 100,000 nodes over 1,000 edges: from nothing, after an edge's death, its return, and a drain. The optimum is that of
//! a flow that may split subjects, so no plan of whole ones is below it. `PERSONA_BENCH_NODES` changes the number of nodes.

#[path = "../tests/plan_world/mod.rs"]
mod plan_world;

use std::hint::black_box;
use std::time::Instant;

use persona_core::plan::{Event, Outcome, Plan, Planner, Service};
use plan_world::optimum::optimum;
use plan_world::{Noise, regional_fleet};

const REGION_COUNT: usize = 125;
const ROUND_COUNT: usize = 5;

/// A clock that only goes on while this thread is on a processor, beside the one on the wall.
struct Clock {
    wall: Instant,
    cpu_ns: Option<u64>,
}

impl Clock {
    fn start() -> Self {
        Self { wall: Instant::now(), cpu_ns: cpu_ns() }
    }

    /// Milliseconds on the wall and on the processor; the former twice where the kernel does not tell.
    fn read(&self) -> (f64, f64) {
        let wall_ms = self.wall.elapsed().as_secs_f64() * 1e3;
        let cpu_ms = self.cpu_ns.zip(cpu_ns()).map(|(start, now)| (now - start) as f64 / 1e6);
        (wall_ms, cpu_ms.unwrap_or(wall_ms))
    }
}

fn cpu_ns() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok()
}

struct Row {
    what: &'static str,
    ms: Vec<(f64, f64)>,
    moved: usize,
    outcome: Outcome,
    optimum: f64,
}

/// The medians on the wall and on the processor, in milliseconds.
fn medians(values: &[(f64, f64)]) -> String {
    let median = |of: fn(&(f64, f64)) -> f64| {
        let mut values: Vec<f64> = values.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    format!("{:7.1} ms ({:6.1} on the processor)", median(|it| it.0), median(|it| it.1))
}

fn show(row: &Row) {
    println!(
        "  {:18} {}; {:6} moves, {:3} by choice of {:3}; fullest {:.2} %, optimum {:.2} %, +{:.2} %",
        row.what,
        medians(&row.ms),
        row.moved,
        row.outcome.moved_by_choice,
        row.outcome.budget,
        100.0 * row.outcome.fullest,
        100.0 * row.optimum,
        100.0 * (row.outcome.fullest / row.optimum - 1.0),
    );
}

/// Applies an event and plans, each round from the same plan.
fn timed(what: &'static str, planner: &Planner, event: &Event) -> (Row, Planner) {
    let (mut ms, mut last) = (Vec::new(), None);
    for _ in 0..ROUND_COUNT {
        let mut planner = planner.clone();
        let clock = Clock::start();
        planner.apply(event.clone()).expect("the event is about something that is there");
        let outcome = black_box(planner.replan());
        ms.push(clock.read());
        last = Some((outcome, planner));
    }
    let (outcome, planner) = last.expect("there is a round");
    let optimum = optimum(planner.fleet());
    (Row { what, ms, moved: outcome.moves.len(), outcome, optimum }, planner)
}

fn score_of(plan: &Plan) -> f64 {
    plan.subjects.values().map(|it| it.score).sum::<f64>() / plan.subjects.len() as f64
}

fn best_score_of(plan: &Plan) -> f64 {
    let best = |it: &persona_core::plan::Placement| it.next.first().map_or(it.score, |next| next.score.max(it.score));
    plan.subjects.values().map(best).sum::<f64>() / plan.subjects.len() as f64
}

fn main() {
    let count: usize = std::env::var("PERSONA_BENCH_NODES").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000);
    let fleet = regional_fleet(&mut Noise(42), count, REGION_COUNT);
    println!("{count} nodes, {} edges, 24 eligible edges a node, one core", fleet.edges.len());
    let (mut ms, mut read, mut last) = (Vec::new(), Vec::new(), None);
    for _ in 0..3 {
        let fleet = fleet.clone();
        let clock = Clock::start();
        let mut planner = Planner::new(fleet, &Plan::default()).expect("the fleet is right");
        read.push(clock.read());
        let outcome = black_box(planner.replan());
        ms.push(clock.read());
        last = Some((outcome, planner));
    }
    let (outcome, planner) = last.expect("there is a round");
    let best = optimum(&fleet);
    assert!(outcome.refusals.is_empty(), "there is room for all");
    show(&Row { what: "from nothing", ms, moved: outcome.moves.len(), outcome, optimum: best });
    println!("    of which reading the fleet and judging every pair  {}", medians(&read));
    let clock = Clock::start();
    let plan = planner.plan();
    println!("    the plan as it is kept, with runners-up, besides   {}", medians(&[clock.read()]));
    println!("    points a subject {:.2}, were there room everywhere {:.2}", score_of(&plan), best_score_of(&plan));

    let edge = fleet.edges[fleet.edges.len() / 2].name.clone();
    let share = plan.subjects.values().filter(|it| it.edge == edge).count();
    println!("edge {edge}, which has {share} subjects");
    let (row, dead) = timed("it dies", &planner, &Event::Service(edge.clone(), Service::Down));
    show(&row);
    let (row, _) = timed("it comes back", &dead, &Event::Service(edge.clone(), Service::Serving));
    show(&row);
    let (row, _) = timed("it drains instead", &planner, &Event::Service(edge, Service::Draining));
    show(&row);
    let node = plan_world::regional_node(&mut Noise(7), count, REGION_COUNT);
    let (row, _) = timed("a node joins", &planner, &Event::Node(Box::new(node)));
    show(&row);
}
