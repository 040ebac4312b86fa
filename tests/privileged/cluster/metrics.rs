//! What a scraper sees of a cluster under traffic: counters per persona, subject, edge and drop reason, at every role.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use persona_core::wire::api::SignalsView;
use persona_tests::findings::Findings;
use persona_tests::netns::Namespace;
use persona_tests::steps::{SUBJECT, view};
use persona_tests::world::{EDGES, Hook, INTERNET_ADDRESS, METRICS_ADDRESS, World};

use super::{check, monitoring, start};

/// Longer than a pass and a report together.
const TELL_TIME: Duration = Duration::from_secs(30);

/// Longer than an agent takes to read its counters again.
const COUNT_TIME: Duration = Duration::from_secs(3);

/// Requests, each over a connection of its own.
const REQUEST_COUNT: usize = 10;

/// Datagrams that nobody may send from there.
const SPOOFED_COUNT: u64 = 5;

#[test]
fn every_role_counts_per_persona_subject_edge_and_drop_reason() {
    check(Hook::Auto, |world, findings| {
        start(world, findings);
        if findings.all_ok() {
            findings.run("metrics", |findings| counters(world, findings));
            findings.run("monitoring", |findings| monitoring::judge(world, findings));
            findings.run("a silent node", |findings| silence(world, findings));
        }
    });
}

fn counters(world: &World, findings: &mut Findings) -> Result<()> {
    let lease = view::lease_of(world, SUBJECT)?;
    let opened = || -> Result<f64> {
        let text = scrape(&world.namespaces.node)?;
        sample(&text, "persona_subject_flows_opened_total", &[("subject", SUBJECT)]).context("no flows are counted")
    };
    // What was opened until now is counted by then.
    std::thread::sleep(COUNT_TIME);
    let before = wait(opened, |_| true)?;
    for _request in 0..REQUEST_COUNT {
        view::seen_by_server(world, "w1")?;
    }
    let expected = before + REQUEST_COUNT as f64;
    let after = wait(opened, |after| *after >= expected)?;
    let what = format!("{REQUEST_COUNT} requests are as many flows of the subject more");
    findings.note(what, format!("{before} before, {after} after"), after == expected);
    send_spoofed(world)?;
    let vni = lease.vni.0.to_string();
    let node = &world.namespaces.node;
    for (what, name, labels) in [
        ("subject", "persona_subject_packets_total", vec![("subject", SUBJECT), ("direction", "egress")]),
        ("persona", "persona_persona_packets_total", vec![("vni", &vni), ("direction", "ingress")]),
        ("edge", "persona_edge_alive", vec![("edge", "fra1")]),
        ("lease", "persona_lease_ports", vec![("lease", &lease.id.0.to_string())]),
    ] {
        note_above(findings, &format!("the agent tells of the {what}"), node, name, &labels, 0.0)?;
    }
    let source = [("reason", "source-address")];
    let count = SPOOFED_COUNT as f64 - 1.0;
    note_above(findings, "the agent tells why it dropped", node, "persona_drops_total", &source, count)?;
    let of_subject = [("subject", SUBJECT)];
    note_above(findings, "and whose packets", node, "persona_subject_drops_total", &of_subject, count)?;
    signals(world, findings)?;

    let sent = sample(&scrape(node)?, "persona_persona_packets_total", &[("vni", &vni), ("direction", "egress")]);
    let carried = || -> Result<f64> {
        let of = |name: &str| {
            let labels = [("edge", name), ("direction", "egress")];
            let text = scrape(&world.namespaces.edges[name])?;
            let own = sample(&text, "persona_edge_packets_total", &labels);
            let by_persona = sample(&text, "persona_persona_packets_total", &[("vni", &vni), labels[1]]);
            Ok::<_, anyhow::Error>((own.context("an edge counts nothing")?, by_persona.unwrap_or_default()))
        };
        let (one, other) = (of("fra1")?, of("fra2")?);
        Ok((one.0 + other.0).min(one.1 + other.1))
    };
    let expected = sent.context("the agent has no counter of the persona")?;
    let measured = wait(carried, |carried| *carried >= expected)?;
    findings.note(format!("the edges carried all {expected} packets"), measured.to_string(), measured >= expected);
    for (name, above) in [("persona_leases", 0.0), ("persona_nodes", 0.0), ("persona_outside_alive", 0.0)] {
        let labels: &[(&str, &str)] = if name == "persona_nodes" { &[("state", "heard")] } else { &[] };
        note_above(findings, &format!("an edge tells {name}"), &world.namespaces.edges["fra1"], name, labels, above)?;
    }
    let owned = wait(|| owned_count(world), |owned| *owned > 0.0)?;
    findings.note("the edges tell how many addresses they own", owned.to_string(), owned > 0.0);
    Ok(())
}

/// Criteria read the same: while packets are dropped, and flows open, the subject's signals say so.
fn signals(world: &World, findings: &mut Findings) -> Result<()> {
    for name in ["network.connections", "network.drops"] {
        let rate = || -> Result<f64> {
            view::seen_by_server(world, "w1")?;
            send_spoofed(world)?;
            let told: SignalsView = world.ctl.json(&["signal", "list", SUBJECT])?;
            Ok(told.signals.iter().find(|signal| signal.name == name).map_or(0.0, |signal| signal.value))
        };
        let rate = wait(rate, |rate| *rate > 0.0)?;
        findings.note(format!("{name} of the subject is more than 0 per second"), rate.to_string(), rate > 0.0);
    }
    Ok(())
}

/// An agent that is gone stops its probes: its edges tell that they hear no node.
fn silence(world: &mut World, findings: &mut Findings) -> Result<()> {
    world.agent.as_mut().context("no agent runs")?.kill()?;
    let edge = &world.namespaces.edges["fra1"].clone();
    note_above(findings, "the edge misses the node", edge, "persona_nodes", &[("state", "silent")], 0.0)?;
    world.start_agent()?;
    note_above(findings, "and hears it again", edge, "persona_nodes", &[("state", "heard")], 0.0)
}

/// Sends from an address that is not the workload's.
fn send_spoofed(world: &World) -> Result<()> {
    let w1 = world.workload("w1");
    let foreign = Ipv4Addr::new(10, 10, 1, 99);
    w1.ip(&format!("address add {foreign}/32 dev lo"))?;
    let socket = w1.run_inside(|| std::net::UdpSocket::bind((foreign, 0)))??;
    for _packet in 0..SPOOFED_COUNT {
        socket.send_to(b"spoofed", (INTERNET_ADDRESS, 9))?;
    }
    w1.ip(&format!("address del {foreign}/32 dev lo")).map(drop)
}

fn owned_count(world: &World) -> Result<f64> {
    let mut sum = 0.0;
    for place in EDGES {
        let text = scrape(&world.namespaces.edges[place.name])?;
        sum += sample(&text, "persona_owned_addresses", &[]).context("an edge does not tell what it owns")?;
    }
    Ok(sum)
}

/// Notes whether a sample comes to be more than a number.
fn note_above(
    findings: &mut Findings,
    what: &str,
    role: &Namespace,
    name: &str,
    labels: &[(&str, &str)],
    above: f64,
) -> Result<()> {
    let value = wait(|| Ok(sample(&scrape(role)?, name, labels)), |value| value.is_some_and(|value| value > above))?;
    let measured = value.map_or("none".to_owned(), |value| value.to_string());
    findings.note(format!("{what}: {name} is more than {above}"), measured, value.is_some_and(|value| value > above));
    Ok(())
}

fn wait<T>(ask: impl Fn() -> Result<T>, is_enough: impl Fn(&T) -> bool) -> Result<T> {
    let start = Instant::now();
    loop {
        let answer = ask();
        match answer {
            Ok(answer) if is_enough(&answer) || start.elapsed() > TELL_TIME => return Ok(answer),
            Err(error) if start.elapsed() > TELL_TIME => return Err(error),
            _ => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}

/// What a scraper inside a role's namespace gets.
fn scrape(role: &Namespace) -> Result<String> {
    let mut curl = role.command("curl")?;
    let url = format!("http://{METRICS_ADDRESS}/metrics");
    let output = curl.args(["--silent", "--show-error", "--fail", "--max-time", "5", &url]).output()?;
    if !output.status.success() {
        bail!("{url} in {}: {}", role.name, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The value of the sample with this name and these labels.
fn sample(text: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
    let head = if labels.is_empty() { format!("{name} ") } else { format!("{name}{{{}}} ", labels.join(",")) };
    text.lines().find_map(|line| line.strip_prefix(&head)?.trim().parse().ok())
}
