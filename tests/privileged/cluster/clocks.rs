//! Agents and edges whose clocks are set while they run, both ways, by Debian's libfaketime: traffic notices nothing, a certificate
//! counts for as long as it was given, and who cannot tell a manager by its clock goes on with what it has until it can.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use persona_core::wire::api::{EventView, Explanation, Status};
use persona_tests::findings::Findings;
use persona_tests::load::echo::EchoClient;
use persona_tests::peers::faketime::FakeClock;
use persona_tests::steps::view;
use persona_tests::world::{EDGES, Hook, NODE, World};

use super::{check, start, wait_for};

/// Echo packets per second.
const ECHO_PACKETS_PER_SEC: u32 = 200;

/// How long whatever a clock leads to may take.
const STEP_TIME: Duration = Duration::from_secs(30);

/// In this time somebody who registers again and again has done so several times.
const LOOK_TIME: Duration = Duration::from_secs(4);

/// The workload that is switched, to see who listens.
const SUBJECT: &str = "workload/n1/w2";

#[test]
fn clocks_of_agents_and_edges_are_set_and_nothing_breaks() {
    check(Hook::Auto, |world, findings| {
        let clock = FakeClock::new(&world.folder).unwrap();
        world.role_variables = clock.variables();
        start(world, findings);
        if !findings.all_ok() {
            return; // nothing that follows could say anything
        }
        let echo = EchoClient::start(world.workload("w1"), ECHO_PACKETS_PER_SEC).unwrap();
        findings.run("two days ahead", |findings| two_days_ahead(world, &clock, findings));
        findings.run("three hours behind", |findings| three_hours_behind(world, &clock, findings));
        let count = echo.finish();
        let measured = format!("{} of {} lost", count.lost(), count.sent);
        findings.note("traffic loses nothing all along", measured, count.lost() == 0 && count.sent > 0);
        findings.run("the processes", |_| world.check_processes());
    });
}

/// Certificates last a day: by their hosts' clocks all have ended, and the new ones too.
fn two_days_ahead(world: &World, clock: &FakeClock, findings: &mut Findings) -> Result<()> {
    clock.set("+2d")?;
    wait_for(STEP_TIME, || Ok(registrations(world)? > EDGES.len()))?;
    std::thread::sleep(LOOK_TIME);
    let count = registrations(world)?;
    findings.note("each comes again with its key, once", format!("{count} times"), count == EDGES.len() + 1);
    let status: Status = world.ctl.json(&["status"])?;
    let measured =
        format!("{} of {} nodes, {} of {} edges", status.nodes.0, status.nodes.1, status.edges.0, status.edges.1);
    findings.note("all are up", measured, status.nodes == (1, 1) && status.edges == (3, 3));
    note_switch(world, findings, &["switch", SUBJECT, "tokyo-standard"])
}

/// Managers date their certificates back by an hour.
fn three_hours_behind(world: &mut World, clock: &FakeClock, findings: &mut Findings) -> Result<()> {
    clock.set("-3h")?;
    std::thread::sleep(LOOK_TIME);
    note_switch(world, findings, &["switch", SUBJECT, "--release"])?;
    world.manager.as_mut().context("no manager runs")?.kill()?;
    world.start_manager()?;
    let told = "certificate not valid yet";
    wait_for(STEP_TIME, || Ok(logs(world)?.iter().all(|log| log.contains(told))))?;
    findings.note("after the manager's restart their logs say what is wrong", told, true);
    let client = view::seen_by_server(world, "w1")?;
    findings.note(
        "new connections leave by the persona",
        client.0.to_string(),
        client.0.octets()[..3] == [203, 0, 113],
    );
    clock.set("+0")?;
    let all_up = |status: &Status| status.nodes == (1, 1) && status.edges == (3, 3);
    let (_, time) = world.ctl.wait_for("all to be back", &["status"], STEP_TIME, all_up)?;
    findings.note("set right, they are back by themselves", view::ms(time), true);
    note_switch(world, findings, &["switch", SUBJECT, "tokyo-standard"])
}

/// How often somebody registered who had before.
fn registrations(world: &World) -> Result<usize> {
    let events: Vec<EventView> = world.ctl.json(&["events"])?;
    Ok(events.iter().filter(|event| event.name == "agent.registered-again").count())
}

fn logs(world: &World) -> Result<Vec<String>> {
    let names = EDGES.iter().map(|edge| edge.name).chain([NODE]);
    names.map(|name| Ok(std::fs::read_to_string(world.path(&format!("{name}.log")))?)).collect()
}

/// A switch comes into force: the manager is listened to.
fn note_switch(world: &World, findings: &mut Findings, arguments: &[&str]) -> Result<()> {
    let before: Explanation = world.ctl.json(&["explain", SUBJECT])?;
    world.ctl.text(arguments)?;
    let lease_of = |answer: &Explanation| answer.lease.as_ref().map(|lease| lease.id);
    let is_over = |answer: &Explanation| answer.assignment.in_force && lease_of(answer) != lease_of(&before);
    let (answer, time) = world.ctl.wait_for("the switch to be in force", &["explain", SUBJECT], STEP_TIME, is_over)?;
    ensure!(answer.lease.is_some(), "{SUBJECT} has no lease");
    findings.note("a switch comes into force", view::ms(time), true);
    Ok(())
}
