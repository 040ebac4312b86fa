//! Edges die, as by a power cut, under a hundred TCP connections and 10,000 packets a second: how long connections stand
//! still, how many of them break, and how many packets are lost.
//!
//! The whole system runs in namespaces of one machine; what its processors have no time for counts as a gap too. A hundred
//! kills take about twenty minutes, so a run of everything does one a round; named alone (`--only kills`), a hundred.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use persona_core::wire::api::EdgeView;

use super::measures::Run;
use super::row::{Better, Goal, Row};
use super::samples::Samples;
use crate::findings::Findings;
use crate::load::echo::{EchoClient, EchoCount};
use crate::load::talk::{Talk, TalkServer};
use crate::steps::{UNSHAPED, registration, view};
use crate::world::{Hook, INTERNET_ADDRESS, World};

/// Kills where this is what is measured.
const KILL_COUNT: u32 = 100;
/// Rounds that a run has unless it is asked for fewer, to try.
const USUAL_ROUNDS: u32 = 7;
/// Connections that are open.
const CONNECTION_COUNT: usize = 100;
/// Packets a second, each way.
const PACKETS_PER_SEC: u32 = 10_000;
/// Where the server of the connections listens.
const TALK_PORT: u16 = 7_008;
/// Packets are sent for so long before and after.
const STEADY_TIME: Duration = Duration::from_millis(500);
const AFTER_TIME: Duration = Duration::from_millis(1_500);
/// How long an edge may take to be up again, and heard by the node.
const RETURN_TIME: Duration = Duration::from_secs(60);
/// What a dead edge may cost: packets of 180 ms, and a gap of 250 ms.
const LOST_MAX: f64 = PACKETS_PER_SEC as f64 * 0.18;
const GAP_MAX_MS: f64 = 250.0;

/// What one kill did.
struct Kill {
    /// The longest time that any connection stood still, and the middle of all.
    worst_gap: Duration,
    median_gap: Duration,
    broken: usize,
    echo: EchoCount,
}

/// Kills edges by turns: the one that carries the way out, the one that carries the way back.
pub fn measure(run: &Run<'_>) -> Result<Vec<Row>> {
    let is_all = run.is_subset && run.rounds >= USUAL_ROUNDS;
    let count = if is_all { KILL_COUNT.max(run.rounds) } else { run.rounds };
    run.say("kills: the system is built");
    let mut world = World::build(run.ledger, Hook::Auto)?;
    let mut findings = Findings::default();
    registration::run(&mut world, &mut findings)?;
    ensure!(findings.all_ok(), "the system did not come up:\n{}", findings.table());
    // A hundred connections in a queue would say more of the queue.
    world.apply("unshaped.yaml", UNSHAPED)?;
    let place = SocketAddr::new(INTERNET_ADDRESS.parse()?, TALK_PORT);
    let server = TalkServer::start(&world.namespaces.internet, place)?;
    let mut samples: [Samples; 5] = Default::default();
    for number in 0..count {
        run.say(&format!("kills: {} of {count}", number + 1));
        let device = if number % 2 == 0 { "out0" } else { "in0" };
        let kill = kill_once(&mut world, device).with_context(|| format!("kill {}", number + 1))?;
        let values = [
            kill.worst_gap.as_secs_f64() * 1e3,
            kill.median_gap.as_secs_f64() * 1e3,
            kill.broken as f64,
            kill.echo.lost() as f64,
            kill.echo.worst_gap.as_secs_f64() * 1e3,
        ];
        samples.iter_mut().zip(values).for_each(|(samples, value)| samples.push(value));
        if number < run.rounds {
            run.step();
        }
    }
    drop(server);
    Ok(rows(count, samples))
}

fn rows(count: u32, [worst, median, broken, lost, silence]: [Samples; 5]) -> Vec<Row> {
    let name = |what: &str| format!("kills/{what}, {count} kills");
    let most = |samples: &Samples| Samples::from_iter([samples.values().iter().copied().fold(0.0, f64::max)]);
    vec![
        Row::new(name("worst gap of all"), "ms", Better::Less, most(&worst)).reach(Goal::AtMost(GAP_MAX_MS)),
        Row::new(name("worst gap of a kill"), "ms", Better::Less, worst).reach(Goal::AtMost(GAP_MAX_MS)),
        Row::new(name("median gap of a kill"), "ms", Better::Less, median),
        Row::new(name("connections broken"), "of all", Better::Less, most(&broken)).reach(Goal::AtMost(0.0)),
        Row::new(name("most packets lost"), "packets", Better::Less, most(&lost)).reach(Goal::AtMost(LOST_MAX)),
        Row::new(name("packets lost"), "packets", Better::Less, lost).reach(Goal::AtMost(LOST_MAX)),
        Row::new(name("packets' silence"), "ms", Better::Less, silence),
    ]
}

fn kill_once(world: &mut World, device: &str) -> Result<Kill> {
    let inside = world.workload("w1").clone();
    let server = SocketAddr::new(INTERNET_ADDRESS.parse()?, TALK_PORT);
    let talks = (0..CONNECTION_COUNT).map(|_| Talk::start(&inside, server)).collect::<Result<Vec<_>>>()?;
    let echo = EchoClient::start(&inside, PACKETS_PER_SEC)?;
    std::thread::sleep(STEADY_TIME);
    let victim = view::carrying_edge(world, device)?;
    talks.iter().for_each(Talk::mark);
    world.kill_edge(&victim)?;
    std::thread::sleep(AFTER_TIME);
    let mut gaps: Vec<Duration> = talks.iter().map(Talk::worst_gap).collect();
    gaps.sort();
    let echo = echo.finish();
    let broken = talks.into_iter().map(Talk::stop).filter(Result::is_err).count();
    revive(world, &victim)?;
    let (worst_gap, median_gap) = (gaps[gaps.len() - 1], gaps[gaps.len() / 2]);
    Ok(Kill { worst_gap, median_gap, broken, echo })
}

fn revive(world: &mut World, victim: &str) -> Result<()> {
    world.revive_edge(victim)?;
    let is_up = |edge: &EdgeView| edge.state == "up";
    world.ctl.wait_for("the edge to be up again", &["edge", "get", victim], RETURN_TIME, is_up)?;
    let heard = view::hears_frankfurt;
    world.ctl.wait_for("the node to hear it", &["node", "get", "n1"], RETURN_TIME, heard)?;
    world.check_processes()
}
