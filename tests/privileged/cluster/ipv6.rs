//! IPv6 from end to end: a workload with a unique local address, a persona of both families, a server that sees the
//! leased prefix; large packets, a switch and an edge's death under traffic, and an underlay that has no IPv4.

use std::net::{IpAddr, Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use persona_core::wire::api::{Explanation, LeaseView};
use persona_tests::ctl::patient;
use persona_tests::findings::Findings;
use persona_tests::load::capture::Capture;
use persona_tests::load::download::Download;
use persona_tests::steps::{FRANKFURT, SUBJECT, TOKYO, switch, view};
use persona_tests::world::{ECHO_PORT, Families, Hook, INTERNET_ADDRESS, INTERNET_ADDRESS6, World};

use super::{check_with, start};

/// How long what a step waits for may take.
const STEP_TIME: Duration = Duration::from_secs(60);

/// The personas' MTU; the devices' is 1,500.
const MTU: &str = "mtu 1400";

/// Bytes of an echo request's payload that fit the workload's device, but not the persona.
const LARGE_PING_BYTES: &str = "1440";

/// Bytes by which a download shows that it runs: more than any buffer on the way holds.
const MORE_BYTES: u64 = 8 << 20;

/// Bytes of a datagram that takes three fragments.
const LARGE_DATAGRAM_BYTES: usize = 3_000;

#[test]
fn ipv6_is_carried_over_an_ipv4_underlay() {
    check_with(Hook::Auto, Families::BothOverIpv4, |world, findings| {
        start(world, findings);
        if !findings.all_ok() {
            return; // nothing that follows could say anything
        }
        findings.run("a page", |findings| page_shows_prefix(world, findings));
        findings.run("large packets", |findings| large_packets_find_their_size(world, findings));
        findings.run("fragments", |findings| fragments_come_back(world, findings));
        findings.run("a switch", |findings| download_outlives_switch(world, findings));
        findings.run("an edge's death", |findings| download_outlives_edge(world, findings));
        findings.run("the processes", |_| world.check_processes());
    });
}

#[test]
fn both_families_are_carried_over_an_ipv6_underlay() {
    check_with(Hook::Auto, Families::BothOverIpv6, |world, findings| {
        start(world, findings);
        if !findings.all_ok() {
            return; // nothing that follows could say anything
        }
        findings.run("a page by IPv6", |findings| page_shows_prefix(world, findings));
        findings.run("a page by IPv4", |findings| page_shows_address(world, findings));
        findings.run("large packets", |findings| large_packets_find_their_size(world, findings));
        findings.run("fragments", |findings| fragments_come_back(world, findings));
        findings.run("an edge's death", |findings| download_outlives_edge(world, findings));
        findings.run("the processes", |_| world.check_processes());
    });
}

fn page_shows_prefix(world: &World, findings: &mut Findings) -> Result<()> {
    let lease = lease6_of(world)?;
    let capture = Capture::start(world, "underlay", &world.namespaces.underlay, "n1", "udp port 6081")?;
    let client = wait_for_page(world, "w1", INTERNET_ADDRESS6)?;
    findings.note(format!("the server sees {}", view::describe(&lease)), client.to_string(), holds(&lease, client));
    let vni = format!("vni 0x{:x}", lease.vni.0);
    let is_tunnelled =
        |line: &String| line.contains("Geneve") && line.contains(&vni) && line.contains(INTERNET_ADDRESS6);
    let line = capture.finish()?.into_iter().find(is_tunnelled);
    findings.note("the underlay carries it in Geneve", line.as_deref().unwrap_or("no such packet"), line.is_some());
    Ok(())
}

fn page_shows_address(world: &World, findings: &mut Findings) -> Result<()> {
    let lease = view::lease_of(world, SUBJECT)?;
    let client = wait_for_page(world, "w1", INTERNET_ADDRESS)?;
    let is_leased = lease.space.address().map(IpAddr::V4) == Some(client);
    findings.note(format!("the server sees {}", view::describe(&lease)), client.to_string(), is_leased);
    Ok(())
}

/// Packet too big comes from the node for what goes out, and from the edge for the answers.
fn large_packets_find_their_size(world: &World, findings: &mut Findings) -> Result<()> {
    let w1 = world.workload("w1");
    let deadline = Instant::now() + patient(STEP_TIME);
    let mut said = Vec::new();
    loop {
        let mut ping = w1.command("ping")?;
        ping.args(["-6", "-n", "-c", "3", "-i", "0.2", "-W", "2", "-s", LARGE_PING_BYTES, INTERNET_ADDRESS6]);
        let output = ping.output().context("ping does not start")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        said.extend(text.lines().find(|line| line.contains("Packet too big: mtu=1400")).map(str::to_owned));
        let answer = text.lines().find(|line| line.contains("bytes from")).map(str::to_owned);
        if let (Some(answer), Some(too_big)) = (answer, said.first()) {
            findings.note("packet too big, then an answer", format!("{too_big}; {answer}"), true);
            break;
        }
        if Instant::now() > deadline {
            bail!("ping with {LARGE_PING_BYTES} bytes says {text}");
        }
    }
    let route = w1.ip(&format!("-6 route get {INTERNET_ADDRESS6}"))?;
    findings.note("the workload has learned the size", route.trim(), route.contains(MTU));
    let client = wait_for_page(world, "w1", INTERNET_ADDRESS6)?;
    let lease = lease6_of(world)?;
    findings.note("its prefix is still the leased one", client.to_string(), holds(&lease, client));
    let route = world.namespaces.internet.ip(&format!("-6 route get {client}"))?;
    findings.note("the server has learned it too", route.trim(), route.contains(MTU));
    Ok(())
}

fn fragments_come_back(world: &World, findings: &mut Findings) -> Result<()> {
    let w2 = world.workload("w2");
    let socket = w2.run_inside(|| UdpSocket::bind("[::]:0"))??;
    let server: Ipv6Addr = INTERNET_ADDRESS6.parse()?;
    w2.run_inside(|| socket.connect((server, ECHO_PORT)))??;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    let payload: Vec<u8> = (0..LARGE_DATAGRAM_BYTES).map(|byte| byte as u8).collect();
    let mut buffer = vec![0; 2 * LARGE_DATAGRAM_BYTES];
    let deadline = Instant::now() + patient(STEP_TIME);
    // The first are refused for their size, at the node and on the way back at the edge.
    for attempt in 1.. {
        socket.send(&payload).ok(); // an error that came back for the last one; the next one follows
        if let Ok(length) = socket.recv(&mut buffer) {
            let is_whole = buffer[..length] == payload;
            findings.note("3,000 bytes of UDP come back whole", format!("{length} at attempt {attempt}"), is_whole);
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("none of {attempt} datagrams came back");
        }
    }
    Ok(())
}

fn download_outlives_switch(world: &World, findings: &mut Findings) -> Result<()> {
    let old = lease6_of(world)?;
    let download = start_download(world)?;
    switch::switch_to(world, SUBJECT, TOKYO)?;
    let new = lease6_of(world)?;
    let client = wait_for_page(world, "w1", INTERNET_ADDRESS6)?;
    findings.note(
        format!("a new connection shows {}, not {}", view::describe(&new), view::describe(&old)),
        client.to_string(),
        holds(&new, client) && !holds(&old, client),
    );
    let after = download.bytes();
    download.wait_for_bytes(after + MORE_BYTES, patient(STEP_TIME)).context("after the switch")?;
    note_download(findings, &old, download)?;
    switch::switch_to(world, SUBJECT, FRANKFURT).map(drop)
}

fn download_outlives_edge(world: &mut World, findings: &mut Findings) -> Result<()> {
    let lease = lease6_of(world)?;
    let download = start_download(world)?;
    let victim = view::carrying_edge(world, "in0")?;
    world.kill_edge(&victim)?;
    let after = download.bytes();
    download.wait_for_bytes(after + MORE_BYTES, patient(STEP_TIME)).with_context(|| format!("without {victim}"))?;
    note_download(findings, &lease, download)?;
    let client = wait_for_page(world, "w1", INTERNET_ADDRESS6)?;
    let expected = format!("without {victim} a new connection shows {}", view::describe(&lease));
    findings.note(expected, client.to_string(), holds(&lease, client));
    Ok(())
}

fn start_download(world: &World) -> Result<Download> {
    let download = Download::start_from(INTERNET_ADDRESS6.parse()?, world.workload("w1"), "/endless")?;
    download.wait_for_bytes(MORE_BYTES, patient(STEP_TIME))?;
    Ok(download)
}

/// The server has named the client when the download began; a connection cannot change its addresses and live.
fn note_download(findings: &mut Findings, lease: &LeaseView, download: Download) -> Result<()> {
    let client = download.client().as_deref().and_then(address_of).context("the server named no client")?;
    let bytes = download.stop()?;
    let expected = format!("the download goes on under {}", view::describe(lease));
    findings.note(expected, format!("{} MiB to {client}", bytes >> 20), holds(lease, client));
    Ok(())
}

/// Asks by curl who the server sees, again until there is an answer.
fn wait_for_page(world: &World, workload: &str, server: &str) -> Result<IpAddr> {
    let host = match server.parse::<IpAddr>()? {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    let deadline = Instant::now() + patient(STEP_TIME);
    loop {
        let mut curl = world.workload(workload).command("curl")?;
        curl.args(["--silent", "--show-error", "--fail", "--max-time", "5", &format!("http://{host}/whoami")]);
        let output = curl.output().context("curl does not start")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if let Some(client) = address_of(&text) {
            return Ok(client);
        }
        if Instant::now() > deadline {
            bail!("{workload} gets {text:?} of {server}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
    }
}

/// The address in the server's `ADDRESS PORT`.
fn address_of(text: &str) -> Option<IpAddr> {
    text.split_whitespace().next()?.parse().ok()
}

fn lease6_of(world: &World) -> Result<LeaseView> {
    let has_one = |answer: &Explanation| answer.assignment.in_force && answer.lease6.is_some();
    let (answer, _) = world.ctl.wait_for("an IPv6 lease", &["explain", SUBJECT], STEP_TIME, has_one)?;
    answer.lease6.context("waited for it")
}

/// Whether an address lies in the lease's /64.
fn holds(lease: &LeaseView, client: IpAddr) -> bool {
    let IpAddr::V6(client) = client else { return false };
    lease.space.prefix().is_some_and(|prefix| prefix.segments()[..4] == client.segments()[..4])
}
