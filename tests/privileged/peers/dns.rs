//! Knot DNS and kdig: answers over UDP and TCP, a truncated one that comes whole over TCP, a burst of queries, and the
//! address that the server saw, before and after a switch.

use std::collections::BTreeSet;

use anyhow::Result;
use persona_tests::findings::Findings;
use persona_tests::peers::knot;
use persona_tests::steps::switch::switch_to;
use persona_tests::steps::{SUBJECT, TOKYO, view};
use persona_tests::world::{INTERNET_ADDRESS, World};

use super::{in_cluster, output_of};

/// Queries in a burst, each from a port of its own.
const BURST_COUNT: usize = 200;

#[test]
fn dns_answers_come_over_udp_and_tcp_under_the_lease() {
    in_cluster("DNS", |world, findings| {
        let _knot = knot::start(&world.ledger, &world.namespaces.internet, &world.folder)?;
        answers(world, findings)?;
        note_whoami(world, findings)?;
        burst(world, findings)?;
        switch_to(world, SUBJECT, TOKYO)?;
        note_whoami(world, findings)
    });
}

fn ask(world: &World, arguments: &[&str]) -> Result<String> {
    let text = output_of(knot::kdig(world.workload("w1"), INTERNET_ADDRESS)?.args(arguments))?;
    Ok(text.trim().to_owned())
}

fn answers(world: &World, findings: &mut Findings) -> Result<()> {
    let large = knot::large_text();
    for (what, arguments, wanted) in [
        ("over UDP", &["+short", "+notcp", "www.example.net", "A"][..], "192.0.2.80"),
        ("over UDP, AAAA", &["+short", "+notcp", "www.example.net", "AAAA"], "2001:db8::80"),
        ("over TCP", &["+short", "+tcp", "www.example.net", "A"], "192.0.2.80"),
        ("large, over TCP", &["+short", "+tcp", "large.example.net", "TXT"], &large),
    ] {
        let answer = ask(world, arguments)?;
        let measured = if answer.len() > 80 { format!("{} characters", answer.len()) } else { answer.clone() };
        findings.note(format!("an answer {what}"), measured, answer == wanted);
    }
    // The first answer, over UDP, says that it is truncated; kdig asks again over TCP and prints what comes then.
    let answer = ask(world, &["+bufsize=1232", "large.example.net", "TXT"])?;
    let is_whole = answer.contains(&large) && answer.contains("(TCP)");
    findings.note("a truncated answer comes whole over TCP", last_line(&answer), is_whole);
    Ok(())
}

fn note_whoami(world: &World, findings: &mut Findings) -> Result<()> {
    let lease = view::lease_of(world, SUBJECT)?;
    let mut seen = BTreeSet::new();
    for transport in ["+notcp", "+tcp"] {
        seen.insert(ask(world, &["+short", transport, "whoami.example.net", "A"])?);
    }
    let expected = format!("over UDP and TCP the server sees {}", lease.space);
    findings.note(
        expected,
        format!("{seen:?}"),
        seen == BTreeSet::from_iter(lease.space.address().map(|it| it.to_string())),
    );
    Ok(())
}

/// One kdig asks from as many ports as it has queries.
fn burst(world: &World, findings: &mut Findings) -> Result<()> {
    let mut command = knot::kdig(world.workload("w1"), INTERNET_ADDRESS)?;
    command.args(["+short", "+notcp"]);
    for _ in 0..BURST_COUNT {
        command.args(["www.example.net", "A"]);
    }
    let text = output_of(&mut command)?;
    let count = text.lines().filter(|line| *line == "192.0.2.80").count();
    findings.note(format!("{BURST_COUNT} queries are answered"), count.to_string(), count == BURST_COUNT);
    Ok(())
}

fn last_line(text: &str) -> &str {
    text.lines().rfind(|line| line.contains("From ")).unwrap_or(text)
}
