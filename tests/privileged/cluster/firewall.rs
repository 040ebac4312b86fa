//! `security.firewall` from the document to the wire: what a workload opens, what a neighbour opens towards it, and rules that
//! become tighter under a connection and looser again.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use persona_core::wire::api::NodeView;
use persona_tests::findings::Findings;
use persona_tests::netns::Namespace;
use persona_tests::world::{Hook, INTERNET_ADDRESS, NODE, World, persona_ctl};

use super::{PERSONA, check, start};

/// How long rules may take to be in force, and a connection that goes on again to come back from its pause.
const FORCE_TIME: Duration = Duration::from_secs(20);
const CONNECT_TIME: Duration = Duration::from_secs(1);

/// The workload, and ports on which it listens.
const WORKLOAD: &str = "10.10.1.2";
const OPEN_PORT: u16 = 9_000;
const CLOSED_PORT: u16 = 9_001;

#[test]
fn a_firewall_judges_what_opens_and_cuts_what_it_no_longer_lets() {
    check(Hook::Auto, |world, findings| {
        start(world, findings);
        if findings.all_ok() {
            findings.run("firewall", |findings| firewall(world, findings));
        }
    });
}

fn wear(world: &World, name: &str, rules: &str) -> Result<()> {
    world.apply(name, &format!("{PERSONA}  security: {{ firewall: [{rules}] }}\n"))
}

fn firewall(world: &World, findings: &mut Findings) -> Result<()> {
    let (w1, node) = (world.workload("w1"), &world.namespaces.node);
    let web: SocketAddr = (INTERNET_ADDRESS.parse::<IpAddr>()?, 80).into();
    let other: SocketAddr = (web.ip(), 81).into();
    let listen = |port: u16| w1.run_inside(move || TcpListener::bind(("0.0.0.0", port)));
    let (_open, _closed) = (listen(OPEN_PORT)??, listen(CLOSED_PORT)??);
    let mut stream = w1.run_inside(|| TcpStream::connect_timeout(&web, FORCE_TIME))??;
    findings.note("without rules a connection answers", "asked", ask(&mut stream, CONNECT_TIME));

    let ingress = format!(
        "{{ action: allow, direction: ingress, protocol: tcp, ports: [{OPEN_PORT}] }}, {{ action: deny, direction: ingress }}"
    );
    wear(
        world,
        "tight.yaml",
        &format!("{{ action: deny, direction: egress, protocol: tcp, ports: [80] }}, {ingress}"),
    )?;
    let took = until(|| Ok(!can_connect(w1, web)?))?;
    findings.note("what is denied cannot be opened", format!("after {took:?}"), true);
    findings.note("what no rule is about can", other.to_string(), can_connect(w1, other)?);
    findings.note("what was established is cut", "asked again", !ask(&mut stream, CONNECT_TIME));
    let near = |port: u16| -> Result<SocketAddr> { Ok((WORKLOAD.parse::<IpAddr>()?, port).into()) };
    findings.note("a neighbour may open one port", OPEN_PORT.to_string(), can_connect(node, near(OPEN_PORT)?)?);
    findings.note("and not another", CLOSED_PORT.to_string(), !can_connect(node, near(CLOSED_PORT)?)?);
    let counted = |node: &NodeView| node.counters.drops.get("firewall").is_some_and(|count| *count >= 3);
    let (view, _) = world.ctl.wait_for("the drops", &["node", "get", NODE], FORCE_TIME, counted)?;
    findings.note("they are counted as firewall", format!("{:?}", view.counters.drops), true);
    let told = explained(world, &format!("{WORKLOAD}:5000"), &web.to_string())?;
    let names_rule = told.contains("rule 0 (deny egress tcp 80) decides") && told.contains("dropped (firewall)");
    findings.note("explain packet names the rule", told.lines().last().unwrap_or_default(), names_rule);

    wear(world, "loose.yaml", &ingress)?;
    let took = until(|| can_connect(w1, web))?;
    findings.note("looser rules let it be opened again", format!("after {took:?}"), true);
    findings.note("and what was cut goes on", "asked again", ask(&mut stream, FORCE_TIME));
    Ok(())
}

fn until(mut is_so: impl FnMut() -> Result<bool>) -> Result<Duration> {
    let start = Instant::now();
    while !is_so()? {
        anyhow::ensure!(start.elapsed() < FORCE_TIME, "not within {FORCE_TIME:?}");
    }
    Ok(start.elapsed())
}

fn can_connect(from: &Namespace, address: SocketAddr) -> Result<bool> {
    from.run_inside(|| TcpStream::connect_timeout(&address, CONNECT_TIME).is_ok())
}

/// Whether a request on an open connection is answered in time. An answer that comes late is read by the next one.
fn ask(stream: &mut TcpStream, patience: Duration) -> bool {
    let request = format!("GET /whoami HTTP/1.1\r\nHost: {INTERNET_ADDRESS}\r\n\r\n");
    let mut answer = [0; 4_096];
    let asked = stream.set_read_timeout(Some(patience)).and_then(|()| stream.write_all(request.as_bytes()));
    asked.and_then(|()| stream.read(&mut answer)).is_ok_and(|count| answer[..count].starts_with(b"HTTP/1.1 200"))
}

/// What the command line says of the packet that opens a connection.
fn explained(world: &World, from: &str, to: &str) -> Result<String> {
    let mut command = world.namespaces.node.command(&persona_ctl()?.display().to_string())?;
    command.args(["explain", "packet", from, "tcp", to, "--bpffs"]).arg(world.path(&format!("{NODE}.bpf")));
    let output = command.output().context("persona-ctl does not start")?;
    Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}
