//! An application asks its node's agent over a socket, as the workload that it is in and as no other: it is switched without a
//! loss, and has back what it had when its time is over.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use persona_core::wire::api::{AssignmentView, Explanation};
use persona_tests::findings::Findings;
use persona_tests::load::echo::EchoClient;
use persona_tests::netns::Namespace;
use persona_tests::steps::{FRANKFURT, FRANKFURT_LOW_LATENCY};
use persona_tests::world::{Hook, World, persona_ctl};

use super::{check, start};

/// How long a change may take to be in force.
const FORCE_TIME: Duration = Duration::from_secs(20);

/// The exit code of a refusal, as persona-ctl documents it.
const REFUSED: i32 = 3;

/// How long the application asks for.
const ASKED_SECS: u64 = 6;

#[test]
fn an_application_asks_for_its_own_workload_and_for_no_other() {
    check(Hook::Auto, |world, findings| {
        let socket = world.path("requests.sock");
        world.extra_agent_config = format!("[requests]\nsocket = \"{}\"\n", socket.display());
        start(world, findings);
        if findings.all_ok() {
            findings.run("requests", |findings| run(world, findings, &socket));
        }
    });
}

fn run(world: &World, findings: &mut Findings, socket: &Path) -> Result<()> {
    let inside = world.workload("w2");
    let shown = as_application(inside, socket, &[])?;
    findings.note("w2 is told who it is", shown.subject.to_string(), shown.subject.to_string() == "workload/n1/w2");

    let echo = EchoClient::start(inside, 200)?;
    let duration = format!("{ASKED_SECS}s");
    let asked = as_application(inside, socket, &["--capability", "low-latency", "--for", &duration])?;
    findings.note("it is switched", worn(&asked), worn(&asked) == FRANKFURT_LOW_LATENCY && asked.changed);
    let until_ms = asked.sections.get("network").and_then(|section| section.until_ms);
    findings.note("for a while", format!("{until_ms:?}"), until_ms.is_some());
    wait_for(world, "workload/n1/w2", FRANKFURT_LOW_LATENCY)?;
    let other: Explanation = world.ctl.json(&["explain", "workload/n1/w1"])?;
    findings.note("w1 wears what it wore", worn(&other.assignment), worn(&other.assignment) == FRANKFURT);
    wait_for(world, "workload/n1/w2", FRANKFURT)?;
    let count = echo.finish();
    findings.note("and back, nothing is lost", format!("{} of {}", count.lost(), count.sent), count.lost() == 0);

    let refusal = refused(inside, socket, &["--capability", "quantum-link", "--for", "1m"])?;
    findings.note("what nobody has is refused, per persona", &refusal, refusal.contains(FRANKFURT));
    let refusal = refused(&world.namespaces.node, socket, &[])?;
    findings.note("a process of no workload is nobody", &refusal, refusal.contains("belongs to no workload"));
    world.ctl.text(&["request", "workload/n1/w2", "--capability", "european", "--for", "1h"])?;
    let refusal = refused(inside, socket, &["--release"])?;
    findings.note("an operator's request stands above it", &refusal, refusal.contains("is in force"));
    Ok(())
}

/// What the command line answers as an application inside a namespace.
fn as_application(inside: &Namespace, socket: &Path, arguments: &[&str]) -> Result<AssignmentView> {
    let output = ask(inside, socket, arguments)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "request --local ended with {}: {said}", output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Why the command line is refused.
fn refused(inside: &Namespace, socket: &Path, arguments: &[&str]) -> Result<String> {
    let output = ask(inside, socket, arguments)?;
    let said = String::from_utf8_lossy(&output.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(output.status.code() == Some(REFUSED), "it ended with {}: {said}", output.status);
    Ok(said)
}

fn ask(inside: &Namespace, socket: &Path, arguments: &[&str]) -> Result<Output> {
    let mut command = inside.command(&persona_ctl()?.display().to_string())?;
    command.args(["request", "--local", "--output", "json", "--socket"]).arg(socket).args(arguments);
    command.output().context("persona-ctl does not start")
}

fn worn(assignment: &AssignmentView) -> String {
    assignment.sections.get("network").map(|section| section.persona.to_string()).unwrap_or_default()
}

fn wait_for(world: &World, subject: &str, persona: &str) -> Result<()> {
    let is_worn = |answer: &Explanation| answer.assignment.in_force && worn(&answer.assignment) == persona;
    world.ctl.wait_for(persona, &["explain", subject], FORCE_TIME, is_worn).map(drop)
}
