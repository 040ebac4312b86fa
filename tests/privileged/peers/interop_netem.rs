//! A bad underlay: packets between node and edges are lost, late, repeated and out of order. TCP and UDP go on through
//! the tunnel, and what arrives is right. Only where the kernel has netem.

use anyhow::{Result, bail};
use persona_core::wire::api::EdgeView;
use persona_tests::findings::Findings;
use persona_tests::load::echo::EchoClient;
use persona_tests::peers::content;
use persona_tests::steps::{SUBJECT, view};
use persona_tests::world::{INTERNET_ADDRESS, NODE, World};

use super::{in_cluster, interop, output_of};

/// What each of the underlay's ports does to what it sends.
const IMPAIRMENT: &str = "netem delay 2ms 1ms loss 1% duplicate 2% reorder 20% 50%";

/// The ports: towards the node and towards both edges that carry its persona.
const PORTS: [&str; 3] = ["n1", "fra1", "fra2"];

/// What is then done to packets towards one edge, and how long the figures may take: loss is counted over 100 probes.
const WORSE: &str = "netem delay 60ms 15ms loss 20%";
const FIGURES_TIME: std::time::Duration = std::time::Duration::from_secs(30);

/// Bytes of the transfers.
const DOWN_BYTES: usize = 3 << 20;
const UP_BYTES: usize = 1 << 20;

/// Datagrams per second, and for how long.
const ECHO_PACKETS_PER_SEC: u32 = 200;
const ECHO_TIME: std::time::Duration = std::time::Duration::from_secs(2);

#[test]
fn interop_transfers_are_right_over_a_lossy_reordering_underlay() {
    if interop::lacks(interop::NETEM) {
        return;
    }
    in_cluster("netem", |world, findings| {
        for port in PORTS {
            interop::tc(&world.namespaces.underlay, &format!("qdisc add dev {port} root {IMPAIRMENT}"))?;
        }
        tcp(world, findings)?;
        udp(world, findings)?;
        for port in PORTS {
            note_impairment(world, port, findings)?;
        }
        figures(world, findings)
    });
}

/// What the node measures of an edge, and the manager tells, is what is done to the way there.
fn figures(world: &World, findings: &mut Findings) -> Result<()> {
    interop::tc(&world.namespaces.underlay, &format!("qdisc replace dev fra1 root {WORSE}"))?;
    let probe = |edge: &EdgeView| edge.probes.iter().find(|probe| probe.from == format!("node/{NODE}")).cloned();
    let is_like_that = |edge: &EdgeView| {
        let Some(health) = probe(edge).map(|probe| probe.health) else { return false };
        let within = |us: Option<u32>, ms: std::ops::Range<u32>| us.is_some_and(|us| ms.contains(&(us / 1_000)));
        within(health.rtt_us, 50..300) && within(health.jitter_us, 2..100) && (0.08..0.45).contains(&health.loss)
    };
    let (edge, _) = world.ctl.wait_for("the figures", &["edge", "get", "fra1"], FIGURES_TIME, is_like_that)?;
    let expected = format!("the manager tells what was done ({WORSE}): 60 ms, some jitter, a loss near 20 %");
    findings.note(expected, format!("{:?}", probe(&edge).map(|probe| probe.health)), true);
    Ok(())
}

/// A download and an upload, each whole, under the lease.
fn tcp(world: &World, findings: &mut Findings) -> Result<()> {
    let (down, up, copy) = (world.path("www/down"), world.path("up"), world.path("down.copy"));
    content::write(&down, DOWN_BYTES, 71)?;
    content::write(&up, UP_BYTES, 73)?;
    let mut curl = world.workload("w1").command("curl")?;
    curl.args(["--silent", "--show-error", "--fail", "--max-time", "90", "--output"]).arg(&copy);
    output_of(curl.arg(format!("http://{INTERNET_ADDRESS}/down")))?;
    let bytes = content::require_same(&down, &copy)?;
    findings.note("a download over TCP is whole", format!("{bytes} bytes"), true);
    let mut curl = world.workload("w1").command("curl")?;
    curl.args(["--silent", "--show-error", "--fail", "--max-time", "90", "--upload-file"]).arg(&up);
    output_of(curl.arg(format!("http://{INTERNET_ADDRESS}/put/up")))?;
    let bytes = content::require_same(&up, &world.path("www/put/up"))?;
    findings.note("an upload over TCP is whole", format!("{bytes} bytes"), true);
    let (client, lease) = (view::seen_by_server(world, "w1")?, view::lease_of(world, SUBJECT)?);
    findings.note("under the lease", format!("{client:?}"), view::is_inside(&lease, client));
    Ok(())
}

/// Two directions, each losing 1 %, leave about 98 of 100; what comes back has the number that was sent, each counted
/// once, however often it came.
fn udp(world: &World, findings: &mut Findings) -> Result<()> {
    let echo = EchoClient::start(world.workload("w1"), ECHO_PACKETS_PER_SEC)?;
    std::thread::sleep(ECHO_TIME);
    let count = echo.finish();
    let measured = format!("{} of {} came back", count.returned, count.sent);
    findings.note("UDP goes on, losing about what the underlay loses", measured, count.returned * 10 > count.sent * 8);
    Ok(())
}

/// That netem did something at all: packets were lost at the port, so TCP had to send some again.
fn note_impairment(world: &World, port: &str, findings: &mut Findings) -> Result<()> {
    let output = world.namespaces.underlay.command("tc")?.args(["-s", "-j", "qdisc", "show", "dev", port]).output()?;
    let queues: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let queue = queues.as_array().into_iter().flatten().find(|queue| queue["kind"] == "netem");
    let Some(queue) = queue else { bail!("{port} has no netem: {queues}") };
    let (packets, drops) = (queue["packets"].as_u64().unwrap_or(0), queue["drops"].as_u64().unwrap_or(0));
    // A port may have carried too little to lose any; the node's carries every download.
    let ok = port != "n1" || drops > 0;
    findings.note(format!("{port} lost packets"), format!("{drops}, and sent {packets}"), ok);
    Ok(())
}
