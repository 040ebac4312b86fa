//! `network.privacy.encrypt` from the document to the wire: WireGuard comes up on demand between the node and its edges, what a
//! wearer says is seen outside and not on the underlay, and goes back into the clear only when the document says so.

use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use persona_core::wire::api::{EdgeView, LeaseView, NodeView};
use persona_tests::findings::Findings;
use persona_tests::netns::Namespace;
use persona_tests::steps::{SUBJECT, view};
use persona_tests::world::{Hook, INTERNET_ADDRESS, NODE, World};

use super::{PERSONA, check, start, wait_for};

/// What pings carry, again and again.
const PATTERN: [u8; 8] = [0xde, 0xad, 0xbe, 0xef, 0xca, 0xfe, 0xf0, 0x0d];

/// Bytes of pings: one packet, and one that its sender and whoever answers must cut, so that edges pass fragments on to each
/// other.
const SIZES: [u32; 2] = [56, 4_000];

/// How long a persona's new version may take to be in force.
const FORCE_TIME: Duration = Duration::from_secs(30);

#[test]
fn an_encrypted_persona_is_seen_outside_and_not_on_the_underlay() {
    for hook in [Hook::Auto, Hook::Xdp] {
        check(hook, |world, findings| {
            start(world, findings);
            if findings.all_ok() {
                findings.run("encrypt", |findings| run(world, findings));
            }
        });
    }
}

fn run(world: &World, findings: &mut Findings) -> Result<()> {
    let plain = captured(world)?;
    findings.note("in clear the underlay shows it", format!("{plain:?}"), plain == (true, true));

    world.apply("encrypted.yaml", &format!("{PERSONA}    privacy: {{ encrypt: true }}\n"))?;
    let is_encrypted = |leases: &Vec<LeaseView>| current(leases).is_some_and(|lease| lease.encrypted);
    world.ctl.wait_for("an encrypted lease", &["lease", "list"], FORCE_TIME, is_encrypted)?;
    wait_for(FORCE_TIME, || Ok(pings(world, 1, SIZES[0])?.status.success()))?;
    let client = view::seen_by_server(world, "w1")?;
    findings.note("TCP goes out encrypted", format!("{}:{}", client.0, client.1), true);
    let encrypted = captured(world)?;
    findings.note("seen outside, not on the underlay", format!("{encrypted:?}"), encrypted == (false, true));
    let cut = pings(world, 3, SIZES[1])?;
    let text = String::from_utf8_lossy(&cut.stdout).lines().rev().nth(1).unwrap_or_default().to_owned();
    findings.note("fragments come through", text, cut.status.success());

    let agreed = |node: &NodeView| {
        node.tunnel.implementation.is_some() && node.tunnel.far_ends.iter().any(|end| end.handshake_age_secs.is_some())
    };
    let (node, _) = world.ctl.wait_for("the node's tunnels", &["node", "get", NODE], FORCE_TIME, agreed)?;
    findings.note("the node shows its tunnels", format!("{:?}", node.tunnel.far_ends), true);
    let knows_node = |edge: &EdgeView| !edge.tunnel.far_ends.is_empty();
    let (edge, _) = world.ctl.wait_for("an edge's tunnels", &["edge", "get", "fra1"], FORCE_TIME, knows_node)?;
    findings.note("an edge shows its own", format!("{:?}", edge.tunnel.far_ends), true);

    world.apply("encrypted.yaml", PERSONA)?;
    let is_plain = |leases: &Vec<LeaseView>| current(leases).is_some_and(|lease| !lease.encrypted);
    world.ctl.wait_for("a lease in clear", &["lease", "list"], FORCE_TIME, is_plain)?;
    wait_for(FORCE_TIME, || Ok(captured(world)? == (true, true)))?;
    findings.note("and back", "in clear", true);
    Ok(())
}

/// The subject's lease that is in use, or about to be.
fn current(leases: &[LeaseView]) -> Option<&LeaseView> {
    leases.iter().find(|lease| lease.subject.to_string() == SUBJECT && lease.state == "active")
}

/// Whether what pings carry is seen on the underlay, and outside.
fn captured(world: &World) -> Result<(bool, bool)> {
    let underlay = Capture::start(&world.namespaces.node, "up0")?;
    let outside = Capture::start(&world.namespaces.internet, "any")?;
    for size in SIZES {
        pings(world, 5, size)?;
    }
    Ok((underlay.holds_pattern()?, outside.holds_pattern()?))
}

fn pings(world: &World, count: u32, size: u32) -> Result<std::process::Output> {
    let pattern: String = PATTERN.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut command = world.workload("w1").command("ping")?;
    command.args([
        "-c",
        &count.to_string(),
        "-i",
        "0.2",
        "-W",
        "2",
        "-s",
        &size.to_string(),
        "-p",
        &pattern,
        INTERNET_ADDRESS,
    ]);
    command.stderr(Stdio::null()).output().context("ping does not start")
}

/// tcpdump, writing to a file.
struct Capture {
    process: Child,
    file: tempfile::NamedTempFile,
}

impl Capture {
    fn start(namespace: &Namespace, device: &str) -> Result<Self> {
        let file = tempfile::NamedTempFile::new()?;
        let mut command = namespace.command("tcpdump")?;
        command.args(["-Z", "root", "-U", "-s", "0", "-i", device, "-w"]).arg(file.path());
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("tcpdump does not start")?;
        let capture = Self { process, file };
        wait_for(FORCE_TIME, || Ok(capture.file.as_file().metadata()?.len() >= 24))?;
        Ok(capture)
    }

    fn holds_pattern(mut self) -> Result<bool> {
        std::thread::sleep(Duration::from_millis(300));
        self.process.kill()?;
        self.process.wait()?;
        let bytes = std::fs::read(self.file.path())?;
        Ok(bytes.windows(PATTERN.len()).any(|window| window == PATTERN))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // It may have been ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
