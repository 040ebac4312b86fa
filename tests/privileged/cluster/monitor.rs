//! The command `persona-ctl monitor` on a node whose agent runs: flows by a filter, drops by their reason, and a file of
//! packets before and after the rewriting, which tcpdump reads.

use std::net::UdpSocket;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use persona_core::wire::api::LeaseView;
use persona_tests::findings::Findings;
use persona_tests::netns::run;
use persona_tests::steps::{SUBJECT, view};
use persona_tests::world::{ECHO_PORT, INTERNET_ADDRESS, NODE, World};
use serde_json::Value;

/// How long the command watches, and how long it may take before it does.
const WATCH_TIME: &str = "4s";
const START_TIME: Duration = Duration::from_millis(1_500);

/// The workload's own address, and one that is not its.
const OWN: &str = "10.10.1.2";
const FOREIGN: &str = "10.10.1.99";

/// Datagrams of a step.
const DATAGRAM_COUNT: usize = 5;

/// A monitor that runs.
struct Monitor(Child);

impl Monitor {
    /// Starts one on the node, and waits until it watches.
    fn start(world: &World, arguments: &[&str]) -> Result<Self> {
        let mut command = world.namespaces.node.command(&world.ctl.program)?;
        command.args(["monitor", "--output", "json", "--for", WATCH_TIME, "--bpffs"]).arg(world.bpffs(NODE));
        let child = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        std::thread::sleep(START_TIME);
        Ok(Self(child))
    }

    /// Waits for its end; gives a value per line.
    fn finish(self) -> Result<Vec<Value>> {
        let output = self.0.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() || !said.is_empty() {
            bail!("the monitor ended with {}: {said}", output.status);
        }
        let lines = String::from_utf8(output.stdout)?;
        lines.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }
}

/// The filter takes the page's connection, by its address before or after, and no datagram.
pub(super) fn flows_are_filtered(world: &World, findings: &mut Findings) -> Result<()> {
    let lease = view::lease_of(world, SUBJECT)?;
    let leased = lease.space.address().context("an IPv4 lease")?.to_string();
    let filter = ["tcp", "port", "80", "and", "host", &leased];
    let monitor = Monitor::start(world, &[&["--flows"], &filter[..]].concat())?;
    send(world, OWN)?;
    view::seen_by_server(world, "w1")?;
    let lines = monitor.finish()?;
    for kind in ["opened", "closed"] {
        let flows: Vec<&Value> = lines.iter().filter(|line| line["kind"] == kind).map(|line| &line["flow"]).collect();
        let is_whole = flows.iter().any(|flow| {
            flow["inner"] == OWN
                && flow["remote"] == INTERNET_ADDRESS
                && flow["outer"] == leased.as_str()
                && is_leased(&lease, flow)
        });
        findings.note(
            format!("a page: a flow {kind}, with addresses before and after"),
            format!("{flows:?}"),
            is_whole,
        );
    }
    let others = lines.iter().filter(|line| line["flow"]["protocol"] != 6 || line["flow"]["remotePort"] != 80).count();
    findings.note("nothing else passes the filter", format!("{others} of {} lines", lines.len()), others == 0);
    Ok(())
}

fn is_leased(lease: &LeaseView, flow: &Value) -> bool {
    let port = flow["outerPort"].as_u64().unwrap_or(0) as u16;
    lease.ports.iter().any(|(first, last)| (*first..=*last).contains(&port))
}

/// Two kinds of drops happen, one is asked for.
pub(super) fn drops_are_told_by_reason(world: &World, findings: &mut Findings) -> Result<()> {
    let w1 = world.workload("w1");
    let monitor = Monitor::start(world, &["--drops", "--reason", "source-address"])?;
    let dying = w1.run_inside(|| UdpSocket::bind((OWN, 0)))??;
    dying.set_ttl(1)?;
    dying.send_to(b"dying", (INTERNET_ADDRESS, ECHO_PORT))?;
    w1.ip(&format!("address add {FOREIGN}/32 dev lo"))?;
    let sent = send(world, FOREIGN);
    w1.ip(&format!("address del {FOREIGN}/32 dev lo"))?;
    sent?;
    let lines = monitor.finish()?;
    let told = lines.iter().filter(|line| {
        line["kind"] == "drop"
            && line["reason"] == "source-address"
            && line["packet"]["source"] == FOREIGN
            && line["device"] == "w1"
    });
    let (told, all) = (told.count(), lines.len());
    let measured = format!("{told} of {all} lines");
    findings.note(
        format!("{DATAGRAM_COUNT} drops with their reason, and no others"),
        measured,
        told == DATAGRAM_COUNT && all == told,
    );
    Ok(())
}

/// What is written has each datagram twice: as the workload sent it, and as it left.
pub(super) fn packets_are_written_before_and_after(world: &World, findings: &mut Findings) -> Result<()> {
    let lease = view::lease_of(world, SUBJECT)?;
    let leased = lease.space.address().context("an IPv4 lease")?.to_string();
    let file = world.path("both.pcapng").display().to_string();
    let port = ECHO_PORT.to_string();
    let monitor = Monitor::start(world, &["--write", &file, "udp", "port", &port])?;
    send(world, OWN)?;
    monitor.finish()?;
    let text = run("tcpdump", &["-nn", "-r", &file, "udp"])?;
    let to_server = format!("> {INTERNET_ADDRESS}.{ECHO_PORT}");
    let count = |source: &str, is_tunnelled: bool| {
        let from = format!("IP {source}.");
        let lines = text.lines().filter(|line| line.contains(&to_server) && line.contains("Geneve") == is_tunnelled);
        lines.filter(|line| line.contains(&from)).count()
    };
    let (before, after) = (count(OWN, false), count(&leased, true));
    findings.note("tcpdump reads each datagram as it came", before.to_string(), before == DATAGRAM_COUNT);
    findings.note("and as it left, in its tunnel under the lease", after.to_string(), after == DATAGRAM_COUNT);
    let bare = text.lines().filter(|line| line.contains("Geneve") && line.contains(&format!("IP {OWN}."))).count();
    findings.note("none left as it came", bare.to_string(), bare == 0);
    Ok(())
}

/// Sends a few datagrams of the first workload to the echo.
fn send(world: &World, source: &str) -> Result<()> {
    let socket = world.workload("w1").run_inside(|| UdpSocket::bind((source, 0)))??;
    for _datagram in 0..DATAGRAM_COUNT {
        socket.send_to(b"told", (INTERNET_ADDRESS, ECHO_PORT))?;
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
