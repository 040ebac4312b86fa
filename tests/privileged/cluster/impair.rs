//! `network.impair` from the document to the wire: all is lost, then all is delayed where the kernel has netem; where it
//! has not, the node rejects that and stays as it is. Then all is as before.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use persona_core::wire::api::{NodeView, Status};
use persona_tests::findings::Findings;
use persona_tests::steps::view;
use persona_tests::world::{Hook, INTERNET_ADDRESS, NODE, World};

use super::{PERSONA, check, start, wait_for};
use crate::peers::interop;

/// Beyond what the worlds' own detours take.
const DELAY_MS: f64 = 150.0;

/// How long a persona's new version may take to be in force.
const FORCE_TIME: Duration = Duration::from_secs(20);

#[test]
fn a_persona_makes_the_network_worse_or_the_node_says_why_not() {
    check(Hook::Auto, |world, findings| {
        start(world, findings);
        if findings.all_ok() {
            findings.run("impair", |findings| run(world, findings));
        }
    });
}

fn run(world: &World, findings: &mut Findings) -> Result<()> {
    let has_netem = !interop::lacks(interop::NETEM);
    apply(world, "loss: 100%")?;
    wait_for(FORCE_TIME, || Ok(ping(world, 1)?.is_empty()))?;
    let times = ping(world, 10)?;
    findings.note("of 100 % loss nothing comes back", format!("{} of 10", times.len()), times.is_empty());
    let counted = |node: &NodeView| node.counters.drops.get("impaired").is_some_and(|count| *count >= 10);
    let (node, _) = world.ctl.wait_for("the drops", &["node", "get", NODE], FORCE_TIME, counted)?;
    findings.note("they are counted as impaired", format!("{:?}", node.counters.drops), true);

    apply(world, &format!("delay: {DELAY_MS}ms"))?;
    if has_netem {
        delayed(world, findings)?;
    } else {
        rejected(world, findings)?;
    }

    world.apply("impair.yaml", PERSONA)?;
    wait_for(FORCE_TIME, || Ok(!ping(world, 1)?.is_empty()))?;
    let is_over = |status: &Status| status.rejected.is_empty() && status.behind.is_empty();
    world.ctl.wait_for("the end of it", &["status"], FORCE_TIME, is_over)?;
    wait_for(FORCE_TIME, || Ok(queues(world)?.is_empty()))?;
    findings.note("a persona without it leaves no queue", "none", true);
    Ok(())
}

fn delayed(world: &World, findings: &mut Findings) -> Result<()> {
    wait_for(FORCE_TIME, || Ok(!ping(world, 1)?.is_empty()))?;
    let times = ping(world, 5)?;
    let is_late = times.len() == 5 && times.iter().all(|ms| *ms >= 2.0 * DELAY_MS);
    findings.note(
        format!("with {DELAY_MS} ms each way a ping takes at least twice that"),
        format!("{times:?}"),
        is_late,
    );
    let client = view::seen_by_server(world, "w1")?;
    findings.note("TCP goes on", format!("{}:{}", client.0, client.1), true);
    let queues = queues(world)?;
    findings.note("queues on the uplink and on both devices", queues.join(", "), queues.len() == 3);
    Ok(())
}

fn rejected(world: &World, findings: &mut Findings) -> Result<()> {
    let node = format!("node/{NODE}");
    let names_it = |status: &Status| status.rejected.get(&node).is_some_and(|reason| reason.contains("netem"));
    let (status, _) = world.ctl.wait_for("the rejection", &["status"], FORCE_TIME, names_it)?;
    findings.note("a node without netem rejects a delay, with what to do", &status.rejected[&node], true);
    let (times, queues) = (ping(world, 3)?, queues(world)?);
    let measured = format!("{} of 3 come back, {} queues", times.len(), queues.len());
    findings.note("and stays as it was: all is lost, no queue", measured, times.is_empty() && queues.is_empty());
    Ok(())
}

fn apply(world: &World, impair: &str) -> Result<()> {
    world.apply("impair.yaml", &format!("{PERSONA}    impair: {{ {impair} }}\n"))
}

/// The round trips of those of so many pings that came back, milliseconds.
fn ping(world: &World, count: u32) -> Result<Vec<f64>> {
    let mut command = world.workload("w1").command("ping")?;
    command.args(["-c", &count.to_string(), "-i", "0.2", "-W", "3", INTERNET_ADDRESS]).stderr(Stdio::null());
    let text = String::from_utf8_lossy(&command.output().context("ping does not start")?.stdout).into_owned();
    let times = text.lines().filter_map(|line| line.split_once("time=")?.1.split(' ').next()?.parse().ok());
    Ok(times.collect())
}

/// Our root queues in the node's namespace.
fn queues(world: &World) -> Result<Vec<String>> {
    let output = world.namespaces.node.command("tc")?.args(["qdisc", "show"]).output().context("tc does not start")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().filter(|line| line.contains("htb 7e50:")).map(str::to_owned).collect())
}
