//! Step 2: the server sees the persona's address inside the leased ports, and the underlay carries Geneve with its VNI.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{SUBJECT, view};
use crate::findings::Findings;
use crate::netns::run as run_tool;
use crate::process::Running;
use crate::world::World;

/// How long tcpdump may take to listen, and to have seen its packets.
const CAPTURE_TIME: Duration = Duration::from_secs(5);

/// Asks the server while tcpdump listens on the node's port of the underlay.
pub fn run(world: &mut World, findings: &mut Findings) -> Result<()> {
    let lease = view::lease_of(world, SUBJECT)?;
    let file = world.folder.join("underlay.pcap");
    let mut capture = start_capture(world, &file)?;
    let client = view::seen_by_server(world, "w1")?;
    capture.wait(CAPTURE_TIME)?;
    let expected = format!("the server sees {}", view::describe(&lease));
    findings.note(expected, format!("{}:{}", client.0, client.1), view::is_inside(&lease, client));

    let text = run_tool("tcpdump", &["-nn", "-v", "-r", &file.display().to_string()])?;
    let vni = format!("vni 0x{:x}", lease.vni.0);
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("Geneve") && line.contains(&vni)).collect();
    let measured = lines.first().map_or("no such packet", |line| line.trim()).to_owned();
    findings.note(format!("the underlay carries Geneve, {vni}"), measured, !lines.is_empty());
    ping(world, findings)
}

fn start_capture(world: &World, file: &std::path::Path) -> Result<Running> {
    let mut tcpdump = world.namespaces.underlay.command("tcpdump")?;
    // Not control packets: the probes between node and edges have VNI 0.
    tcpdump.args(["-i", "n1", "-nn", "-U", "--immediate-mode", "-c", "4", "-Z", "root", "-w"]).arg(file);
    tcpdump.arg("udp port 6081 and udp[9] & 0x80 = 0");
    let log = world.folder.join("tcpdump.log");
    let capture = Running::start(&world.ledger, "tcpdump", &log, tcpdump)?;
    for _ in 0..100 {
        if std::fs::read_to_string(&log).is_ok_and(|text| text.contains("listening on")) {
            return Ok(capture);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    bail!("tcpdump does not listen: {}", capture.log_tail())
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
