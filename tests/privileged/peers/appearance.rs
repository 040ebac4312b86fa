//! p0f and tcpdump at the edges' next hop: what a persona shows of a host that is easily told, and what one hides of it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use persona_tests::ctl::patient;
use persona_tests::findings::Findings;
use persona_tests::load::capture::Capture;
use persona_tests::peers::p0f::{self, Signature, Watch};
use persona_tests::steps::switch::switch_to;
use persona_tests::steps::{SUBJECT, view};
use persona_tests::world::{INTERNET_ADDRESS, World};

use super::{in_cluster, output_of};

/// A persona that hides all that can be hidden.
const HIDING_DOCUMENTS: &str = "
apiVersion: persona/v1
kind: Persona
metadata: { name: frankfurt-private }
spec:
  network:
    egress: { pools: [frankfurt], portsPerSubject: 1024 }
    mtu: 1400
    edges: { group: frankfurt }
    privacy: { normalise: [ttl, ip-id, dscp, tcp-timestamps, tcp-options] }
---
apiVersion: persona/v1
kind: Binding
metadata: { name: workloads }
spec:
  selector: { kind: workload }
  personas: [frankfurt-standard, frankfurt-low-latency, tokyo-standard, frankfurt-private]
  default: frankfurt-standard
";

/// What the workload's packets begin with, unlike any other host's here. The node and an edge count a hop each.
const OWN_TTL: &str = "128";

/// The router's device towards the edges.
const DEVICE: &str = "seg0";

/// How long p0f may take to write down what it saw.
const WATCH_TIME: Duration = Duration::from_secs(10);

#[test]
fn p0f_and_tcpdump_see_what_the_persona_shows() {
    in_cluster("what others see", |world, findings| {
        world.workload("w1").write_sysctl("net/ipv4/ip_default_ttl", OWN_TTL)?;
        let router = &world.namespaces.router;
        let watch = p0f::watch(&world.ledger, router, &world.folder, DEVICE)?;
        let shown = seen(world, &watch)?;
        let known = shown.system.clone().unwrap_or_default();
        findings.note("a plain persona shows which system it is", &known, known.contains("Linux"));
        let betrayed = (shown.ttl, shown.distance) == (126, Some(2)) && shown.options.contains(&"ts".to_owned());
        findings.note("a plain persona shows the host's TTL and clock", &shown.raw, betrayed);

        world.apply("private.yaml", HIDING_DOCUMENTS)?;
        switch_to(world, SUBJECT, "frankfurt-private")?;
        let lease = view::lease_of(world, SUBJECT)?;
        let address = lease.space.address().context("the lease has an address")?;
        let capture = Capture::start(world, "appearance", router, DEVICE, &format!("ip and src host {address}"))?;
        let hidden = seen(world, &watch)?;
        findings.note("p0f sees 64 hops and no distance", &hidden.raw, (hidden.ttl, hidden.distance) == (64, Some(0)));
        let has_clock = hidden.options.contains(&"ts".to_owned());
        let system = format!("{:?}, by {}", hidden.system, hidden.options.join(","));
        findings.note("p0f no longer says which system it is", system, hidden.system.is_none());
        findings.note("p0f sees no timestamps", hidden.options.join(","), !has_clock);
        let order = hidden.options.iter().filter(|option| *option != "nop").cloned().collect::<Vec<_>>().join(",");
        findings.note("p0f sees the one order", &order, order == "mss,ws,sok");
        let marks = ["id+", "id-"];
        let is_marked = hidden.quirks.iter().any(|quirk| marks.contains(&quirk.as_str()));
        findings.note("p0f sees no odd id", hidden.quirks.join(","), !is_marked);
        output_of(world.workload("w1").command("ping")?.args([
            "-c",
            "3",
            "-i",
            "0.2",
            "-Q",
            "0x20",
            INTERNET_ADDRESS,
        ]))?;
        judge_packets(findings, &capture.finish()?)
    });
}

/// What p0f says of a new connection of the workload's.
fn seen(world: &World, watch: &Watch) -> Result<Signature> {
    let (_, port) = view::seen_by_server(world, "w1")?;
    let start = Instant::now();
    loop {
        if let Some(signature) = watch.of_client(port)? {
            return Ok(signature);
        }
        if start.elapsed() > patient(WATCH_TIME) {
            bail!("p0f said nothing of port {port}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Every packet that tcpdump saw, with TTL, id and marks.
fn judge_packets(findings: &mut Findings, packets: &[String]) -> Result<()> {
    let odd = |is_right: &dyn Fn(&str) -> bool| packets.iter().filter(|packet| !is_right(packet)).count();
    let measured = format!("{} packets", packets.len());
    findings.note("tcpdump sees the connection and three echoes", &measured, packets.len() >= 6);
    let (hops, marks) = (odd(&|packet| packet.contains("ttl 64,")), odd(&|packet| packet.contains("tos 0x0,")));
    findings.note(
        "each with 64 hops and no mark",
        format!("{hops} and {marks} of {measured} are odd"),
        hops + marks == 0,
    );
    // Without DF an id is of the lease's block, which the programs' tests look at.
    let ids = odd(&|packet| !packet.contains("flags [DF]") || packet.contains("id 0,"));
    let clocks = packets.iter().filter(|packet| packet.contains("TS val")).count();
    let measured = format!("{ids} and {clocks} of {measured} are odd; {}", packets.first().map_or("", String::as_str));
    findings.note("none with an id that it needn't have, or timestamps", measured, ids + clocks == 0);
    Ok(())
}
