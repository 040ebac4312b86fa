//! A plan that steers: the planned edge carries its workload's packets and no other does, a move from an edge that drains
//! loses none of them, and the others carry on where it dies.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use persona_core::wire::planning::{PlanView, PlannedSubject};
use persona_tests::findings::Findings;
use persona_tests::steps::SUBJECT;
use persona_tests::world::{Hook, World};

use super::drain::{Load, percent, share_of, wait_until_applied};
use super::half_dead::{EDGES, describe, wait_until_whole};
use super::{check, start};

/// How long what a step waits for may take.
const STEP_TIME: Duration = Duration::from_secs(30);

/// All flows of the workload, beside which probes go to either edge.
const MOST: f64 = 0.97;

/// In this time every wave has come that is to come: one a second.
const SETTLING_TIME: Duration = Duration::from_secs(3);

#[test]
fn a_planned_edge_carries_its_workload_and_a_move_loses_nothing() {
    check(Hook::Auto, |world, findings| {
        start(world, findings);
        if !findings.all_ok() {
            return; // nothing that follows could say anything
        }
        findings.run("steer", |findings| planned_edge_carries_all(world, findings));
        findings.run("drain", |findings| drained_edge_is_left_without_loss(world, findings));
        findings.run("death", |findings| others_carry_on_where_it_dies(world, findings));
        findings.run("advise", |findings| weights_are_back(world, findings));
        findings.run("processes", |_| world.check_processes());
    });
}

/// Where the plan has the workload, once it is as wanted and its node has it in force.
fn planned(world: &World, what: &str, is_wanted: impl Fn(&PlannedSubject) -> bool) -> Result<String> {
    let of = |plan: &PlanView| plan.subjects.iter().find(|it| it.subject.to_string() == SUBJECT).cloned();
    let is_so = |plan: &PlanView| of(plan).is_some_and(|subject| subject.edge.is_some() && is_wanted(&subject));
    let (plan, _) = world.ctl.wait_for(what, &["plan", "show"], STEP_TIME, is_so)?;
    wait_until_applied(world)?;
    let edge = of(&plan).and_then(|subject| subject.edge).context("a planned edge")?;
    Ok(edge.to_string())
}

/// Where the plan has the workload once it moves it no more: an edge that comes back is given its share.
fn settled(world: &World) -> Result<String> {
    let start = Instant::now();
    let mut before = planned(world, "the workload's edge", |_| true)?;
    loop {
        std::thread::sleep(SETTLING_TIME);
        let now = planned(world, "the workload's edge", |_| true)?;
        if now == before {
            return Ok(now);
        }
        ensure!(start.elapsed() < STEP_TIME, "the plan does not settle: {before}, then {now}");
        before = now;
    }
}

fn planned_edge_carries_all(world: &World, findings: &mut Findings) -> Result<()> {
    wait_until_whole(world)?;
    world.ctl.text(&["plan", "set", "--mode", "steer"])?;
    let edge = planned(world, "the plan to place the workload", |subject| subject.since_ms.is_some())?;
    let share = share_of(world, &edge)?;
    findings.note(format!("all flows leave through {edge}"), percent(share), share > MOST);
    Ok(())
}

fn drained_edge_is_left_without_loss(world: &World, findings: &mut Findings) -> Result<()> {
    let load = Load::start(world)?;
    let victim = planned(world, "the workload's edge", |_| true)?;
    world.ctl.text(&["edge", "drain", &victim, "--wait"])?;
    let other = planned(world, "the move", |subject| subject.reason.contains("draining"))?;
    load.finish(findings, "a move by plan loses nothing")?;
    let share = share_of(world, &other)?;
    findings.note(format!("all flows leave through {other}, none through {victim}"), percent(share), share > MOST);
    world.ctl.text(&["edge", "undrain", &victim])?;
    wait_until_applied(world)?;
    wait_until_whole(world)
}

/// The data path takes the second choice by itself; the plan follows, and then there is nothing left to fail over from.
fn others_carry_on_where_it_dies(world: &mut World, findings: &mut Findings) -> Result<()> {
    let victim = settled(world)?;
    let load = Load::start(world)?;
    world.kill_edge(&victim)?;
    let other = planned(world, "the plan to leave the dead edge", |subject| subject.reason.contains("down"))?;
    let (echo, mebibytes) = load.counts()?;
    let told = format!("{}; {mebibytes} MiB", describe(echo));
    findings.note("the death of the planned edge ends no connection", told, echo.lost() < echo.sent / 2);
    let share = share_of(world, &other)?;
    findings.note(
        format!("and the plan has {other} instead of {victim}"),
        percent(share),
        other != victim && share > MOST,
    );
    world.revive_edge(&victim)?;
    wait_until_whole(world)
}

/// As advice the plan is told to nobody, and both edges carry flows again.
fn weights_are_back(world: &World, findings: &mut Findings) -> Result<()> {
    world.ctl.text(&["plan", "set", "--mode", "advise"])?;
    wait_until_applied(world)?;
    let share = share_of(world, EDGES[0])?;
    findings.note(format!("{} takes 35 to 65 % of the flows", EDGES[0]), percent(share), (0.35..0.65).contains(&share));
    Ok(())
}
