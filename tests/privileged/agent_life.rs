//! Interfaces come, go, change their names, their size and their place while an agent runs; flows that can go on do.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use persona_core::wire::api::{EventView, WorkloadView};
use persona_tests::ctl::patient;
use persona_tests::findings::Findings;
use persona_tests::load::echo::EchoClient;
use persona_tests::steps as demo;
use persona_tests::world::{Hook, NODE, WORKLOADS, World};

use crate::cluster::check;

/// Echo packets per second.
const ECHO_PACKETS_PER_SEC: u32 = 200;

/// How long the agent and the manager may take to notice and to tell.
const NOTICE_TIME: Duration = Duration::from_secs(30);

/// Long enough for traffic to show whether it goes on.
const LOOK_TIME: Duration = Duration::from_millis(1_500);

#[test]
fn an_agent_follows_its_interfaces() {
    check(Hook::Auto, |world, findings| {
        findings.run("registration", |findings| demo::registration::run(world, findings));
        if !findings.all_ok() {
            return; // nothing that follows could say anything
        }
        findings.run("a device is renamed", |findings| device_is_renamed(world, findings));
        findings.run("a device goes to another namespace", |findings| device_moves(world, findings));
        findings.run("a device vanishes", |findings| device_vanishes(world, findings));
        findings.run("the uplink shrinks and flaps", |findings| uplink_changes(world, findings));
        findings.run("the uplink is another device", |findings| uplink_is_replaced(world, findings));
        findings.run("the agent", |_| world.check_processes());
    });
}

fn device_is_renamed(world: &World, findings: &mut Findings) -> Result<()> {
    let node = &world.namespaces.node;
    let echo = start_echo(world, "w1")?;
    node.ip("link set w1 down")?;
    node.ip("link set w1 name other1")?;
    node.ip("link set other1 up")?;
    tell(world, findings, "workload.renamed", "other1")?;
    let workload: WorkloadView = world.ctl.json(&["workload", "get", "workload/n1/w1"])?;
    findings.note("it stays attached", workload.attached.to_string(), workload.attached);
    echo.finish();
    note_traffic(world, findings, "its traffic goes on under the new name")?;
    node.ip("link set other1 down")?;
    node.ip("link set other1 name w1")?;
    node.ip("link set w1 up").map(drop)
}

fn device_moves(world: &World, findings: &mut Findings) -> Result<()> {
    let (node, other) = (&world.namespaces.node, &world.namespaces.outside);
    node.ip(&format!("link set w1 netns {}", other.name))?;
    tell(world, findings, "workload.vanished", "another network namespace")?;
    let elsewhere = other.ip("link show w1 type veth")?;
    let is_free = !elsewhere.contains("prog/");
    findings.note("no program of ours went with it", "checked by ip link", is_free);
    other.ip(&format!("link set w1 netns {}", node.name))?;
    node.ip("link set w1 up")?;
    node.add_address("w1", "10.10.1.1/24")?;
    let is_back = |workload: &WorkloadView| workload.attached;
    world.ctl.wait_for("w1 to be attached", &["workload", "get", "workload/n1/w1"], NOTICE_TIME, is_back)?;
    wait_for_traffic(world)?;
    note_traffic(world, findings, "back again it has its way out")
}

/// Pins do not outlive their device, whether an agent sees it go or not.
fn device_vanishes(world: &mut World, findings: &mut Findings) -> Result<()> {
    for is_seen in [true, false] {
        let node = world.namespaces.node.clone();
        let pins = pins_on(world, "w2")?;
        findings.note("pins of a workload's device", pins.join(", "), pins.len() == 2);
        if !is_seen {
            world.agent.as_mut().context("no agent runs")?.kill()?;
        }
        node.ip("link del w2")?;
        if !is_seen {
            let left = remaining(world, &pins)?;
            findings.note("they stay while nobody looks", left.join(", "), left == pins);
            world.start_agent()?;
        }
        wait_until("the pins to go", || Ok(remaining(world, &pins)?.is_empty()))?;
        let left = remaining(world, &pins)?;
        let how = if is_seen { "seen by the agent" } else { "found at its start" };
        findings.note(format!("a device's end, {how}, takes its pins"), left.join(", "), left.is_empty());
        world.attach(&WORKLOADS[1], world.workload("w2"))?;
        let is_back = |workload: &WorkloadView| workload.attached;
        world.ctl.wait_for("w2 to be attached", &["workload", "get", "workload/n1/w2"], NOTICE_TIME, is_back)?;
        wait_until("the pins of its successor", || Ok(pins_on(world, "w2")?.len() == 2))?;
    }
    note_traffic(world, findings, "other workloads' traffic goes on")
}

/// The node's pins that hang on a device, by name.
fn pins_on(world: &World, device: &str) -> Result<Vec<String>> {
    let shown: serde_json::Value =
        serde_json::from_str(&world.namespaces.node.ip(&format!("-j link show dev {device}"))?)?;
    let suffix = format!("-{}", shown[0]["ifindex"]);
    Ok(all_pins(world)?.into_iter().filter(|name| name.ends_with(&suffix)).collect())
}

fn remaining(world: &World, pins: &[String]) -> Result<Vec<String>> {
    Ok(all_pins(world)?.into_iter().filter(|name| pins.contains(name)).collect())
}

fn all_pins(world: &World) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(world.bpffs(NODE).join("node/links"))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn uplink_changes(world: &World, findings: &mut Findings) -> Result<()> {
    let node = &world.namespaces.node;
    node.ip("link set up0 mtu 1380")?;
    tell(world, findings, "mtu.lowered", "1344")?;
    note_traffic(world, findings, "smaller packets go on")?;
    node.ip("link set up0 mtu 1500")?;
    // The manager is behind the uplink too: it is told afterwards.
    node.ip("link set up0 down")?;
    wait_for_log(world, "uplink up0 is down")?;
    std::thread::sleep(LOOK_TIME);
    node.ip("link set up0 up")?;
    tell(world, findings, "uplink.down", "up0")?;
    tell(world, findings, "uplink.up", "up0")?;
    wait_for_traffic(world)?;
    note_traffic(world, findings, "after the flap traffic is back")
}

fn uplink_is_replaced(world: &World, findings: &mut Findings) -> Result<()> {
    let node = &world.namespaces.node;
    node.ip("link del up0")?;
    wait_for_log(world, "uplink up0 is not there")?;
    std::thread::sleep(LOOK_TIME);
    node.link("up0", &world.namespaces.underlay, "n1")?;
    world.namespaces.underlay.ip("link set n1 master br0")?;
    node.add_address("up0", "192.168.77.11/24")?;
    tell(world, findings, "apply.failing", "uplink up0 is not there")?;
    tell(world, findings, "uplink.replaced", "another device")?;
    wait_for_traffic(world)?;
    note_traffic(world, findings, "through the new one traffic is back")
}

/// Waits for an event with a word in its message: a pass that was under way may fail for reasons of its own before.
fn tell(world: &World, findings: &mut Findings, name: &str, word: &str) -> Result<()> {
    let is_meant = |event: &&EventView| event.name == name && event.message.contains(word);
    let is_told = |events: &Vec<EventView>| events.iter().any(|event| is_meant(&event));
    let what = format!("event {name} with {word:?}");
    let (events, _) = world.ctl.wait_for(&what, &["events"], NOTICE_TIME, is_told)?;
    let message = events.iter().find(is_meant).map(|event| event.message.clone()).unwrap_or_default();
    findings.note(&what, message, true);
    Ok(())
}

/// Waits until the agent has written a line with this text. Whoever cuts the way to the manager cannot be told by it.
fn wait_for_log(world: &World, text: &str) -> Result<()> {
    let log = &world.agent.as_ref().context("no agent runs")?.log;
    wait_until(text, || Ok(std::fs::read_to_string(log)?.contains(text)))
}

/// Waits for the first answer after a break.
fn wait_for_traffic(world: &World) -> Result<()> {
    let echo = EchoClient::start(world.workload("w1"), ECHO_PACKETS_PER_SEC)?;
    let outcome = wait_until("an answer", || Ok(echo.returned() > 0));
    echo.finish();
    outcome
}

fn wait_until(what: &str, is_so: impl Fn() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !is_so()? {
        ensure!(start.elapsed() < patient(NOTICE_TIME), "waited {NOTICE_TIME:?} for: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn note_traffic(world: &World, findings: &mut Findings, expected: &str) -> Result<()> {
    let echo = start_echo(world, "w1")?;
    std::thread::sleep(LOOK_TIME);
    let count = echo.finish();
    let measured = format!("{} of {} returned", count.returned, count.sent);
    findings.note(expected, measured, count.returned * 10 > count.sent * 9);
    Ok(())
}

fn start_echo(world: &World, workload: &str) -> Result<EchoClient> {
    let echo = EchoClient::start(world.workload(workload), ECHO_PACKETS_PER_SEC)?;
    std::thread::sleep(Duration::from_millis(300));
    Ok(echo)
}
