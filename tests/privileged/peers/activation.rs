//! Activation in a whole system: a real load in a real control group puts a persona on, the kernel holds it to the
//! persona's limits, and when the load ends every file is as it was.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use persona_core::wire::api::{ActivationView, EventView, SignalsView};
use persona_core::wire::limits::LimitState;
use persona_tests::cgroups::{self, differences, limit_files};
use persona_tests::process::Running;
use persona_tests::world::World;

use super::in_cluster_with;
use super::limits::{note_kernel, wait_for_state};

const SUBJECT: &str = "workload/n1/w2";

/// How long a signal may take to be seen and to be acted upon, on a machine that others use too.
const TURN_TIME: Duration = Duration::from_secs(40);

const DOCUMENTS: &str = "
apiVersion: persona/v1
kind: Persona
metadata: { name: held-back }
spec:
  resources: { cpu: { limit: 0.5 }, pids: 200 }
  activation: [ { when: 'cpu.usage > 0.2', leave: 'cpu.usage < 0.02' } ]
---
apiVersion: persona/v1
kind: Binding
metadata: { name: loads }
spec:
  selector: { kind: workload, names: [workload/n1/w2] }
  personas: [held-back]
";

#[test]
fn a_load_puts_limits_on_and_its_end_takes_them_off() {
    let prepare = |world: &mut World| {
        let group = make_group(world).expect("a control group can be made");
        world.extra_agent_config = format!("limit_cgroup = \"/{group}\"\n");
    };
    in_cluster_with("activation by load", prepare, |world, findings| {
        let group = group_of(world);
        world.apply("loads.yaml", DOCUMENTS)?;
        let before = limit_files(&group)?;
        let measured = wait(world, "a measured value", |world| {
            let view: SignalsView = world.ctl.json(&["signal", "list", SUBJECT])?;
            Ok(view.signals.into_iter().find(|signal| signal.name == "cpu.usage"))
        })?;
        findings.note("the group is measured", format!("cpu.usage {}", measured.shown), measured.value < 0.02);
        let verdict = wait(world, "a verdict", |world| {
            let idle: ActivationView = world.ctl.json(&["activation", "status", SUBJECT])?;
            let verdict = idle.personas[0].rules[0].verdict.clone();
            Ok(verdict.contains("off by").then_some(verdict))
        })?;
        findings.note("without load the rule has lost, by so much", &verdict, true);

        let start = Instant::now();
        let mut burner = burn(world, &group)?;
        let view = wait(world, "held-back", |world| {
            let view: ActivationView = world.ctl.json(&["activation", "status", SUBJECT])?;
            Ok(view.reason.is_some().then_some(view))
        })?;
        wait_for_state(world, SUBJECT, LimitState::InForce)?;
        let reason = view.reason.unwrap_or_default();
        let measured = format!("{:?} after the load began: {reason}", start.elapsed());
        findings.note("the load puts a persona on, with what it saw", measured, reason.contains("cpu.usage > 0.2 ("));
        note_kernel(findings, &group, "pids", &["pids.max"], "200")?;
        let quota = if cgroups::trees().len() == 1 { "50000 100000" } else { "50000" };
        note_kernel(findings, &group, "cpu", &["cpu.cfs_quota_us", "cpu.max"], quota)?;
        let text = world.ctl.text(&["explain", SUBJECT])?;
        findings.note(
            "explain tells rule and layer",
            "a table",
            text.contains("cpu.usage > 0.2") && text.contains("activation"),
        );

        burner.kill()?;
        wait_for_state(world, SUBJECT, LimitState::Unlimited)?;
        let after = limit_files(&group)?;
        findings.note("the load is over: every file is as it was", differences(&before, &after), before == after);
        let events: Vec<EventView> = world.ctl.list(&["events"])?;
        let told = events.iter().filter(|event| event.name.starts_with("activation."));
        let told: Vec<&str> = told.map(|event| event.name.as_str()).collect();
        findings.note("both are events", told.join(", "), told == ["activation.entered", "activation.left"]);
        Ok(())
    });
}

fn group_of(world: &World) -> String {
    format!("{}-load", world.folder.file_name().unwrap_or_default().to_string_lossy())
}

/// A group of the world's own, removed with the world.
fn make_group(world: &World) -> Result<String> {
    let name = group_of(world);
    cgroups::make(&world.ledger, &name)?;
    Ok(name)
}

/// Starts a process that does nothing but run, in the group.
fn burn(world: &World, group: &str) -> Result<Running> {
    let mut command = Command::new("sh");
    command.args(["-c", "while :; do :; done"]);
    let burner = Running::start(&world.ledger, "burner", &world.path("burner.log"), command)?;
    cgroups::enter(group, burner.pid().context("the burner runs")?)?;
    Ok(burner)
}

fn wait<T>(world: &World, what: &str, look: impl Fn(&World) -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        match look(world) {
            Ok(Some(found)) => return Ok(found),
            seen if start.elapsed() > TURN_TIME => {
                bail!("{what} within {TURN_TIME:?}: {:?}", seen.map(|_| "not yet"))
            }
            _ => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}
