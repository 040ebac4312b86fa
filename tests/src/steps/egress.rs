//! Step 2: the server sees the persona's address inside the leased ports, and the underlay carries Geneve with its VNI.

use std::process::Stdio;

use anyhow::{Context, Result};

use super::{SUBJECT, view};
use crate::findings::Findings;
use crate::load::capture::Capture;
use crate::world::World;

/// Asks the server while tcpdump listens on the node's port of the underlay.
pub fn run(world: &mut World, findings: &mut Findings) -> Result<()> {
    let lease = view::lease_of(world, SUBJECT)?;
    // Not control packets: the probes between node and edges have VNI 0.
    let filter = "udp port 6081 and udp[9] & 0x80 = 0";
    let capture = Capture::start(world, "underlay", &world.namespaces.underlay, "n1", filter)?;
    let client = view::seen_by_server(world, "w1")?;
    let expected = format!("the server sees {}", view::describe(&lease));
    findings.note(expected, format!("{}:{}", client.0, client.1), view::is_inside(&lease, client));

    let vni = format!("vni 0x{:x}", lease.vni.0);
    let is_geneve = |line: &String| line.contains("Geneve") && line.contains(&vni);
    let lines: Vec<String> = capture.finish()?.into_iter().filter(is_geneve).collect();
    let measured = lines.first().map_or("no such packet", |line| line.trim()).to_owned();
    findings.note(format!("the underlay carries Geneve, {vni}"), measured, !lines.is_empty());
    ping(world, findings)
}

fn ping(world: &World, findings: &mut Findings) -> Result<()> {
    let (Some(w1), address) = (world.namespaces.workloads.get("w1"), crate::world::INTERNET_ADDRESS) else {
        return Ok(());
    };
    let mut command = w1.command("ping")?;
    let output = command.args(["-c", "3", "-i", "0.2", "-W", "2", address]).stderr(Stdio::null()).output();
    let text = String::from_utf8_lossy(&output.context("ping does not start")?.stdout).into_owned();
    let summary = text.lines().find(|line| line.contains("packet loss")).unwrap_or("no answer").to_owned();
    findings.note("ping through the persona, none lost", &summary, summary.contains(" 0% packet loss"));
    Ok(())
}
