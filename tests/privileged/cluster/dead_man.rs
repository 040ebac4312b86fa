//! Dead-man rollback: a persona of the host takes the agent's own connection to the manager with it. The generation is put back,
//! also by an agent that was killed in between, and told as a rejection; mended, it comes into force; a manager that dies
//! condemns nothing.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use persona_core::wire::api::{EventView, NodeView};
use persona_tests::findings::Findings;
use persona_tests::ledger::Undo;
use persona_tests::process::Running;
use persona_tests::sys::Signal;
use persona_tests::world::{Hook, NODE, World};

use super::{check, start};

/// How long whatever comes after the agent's patience may take.
const STEP_TIME: Duration = Duration::from_secs(60);

/// The agent's patience, and more than that.
const PATIENCE_SECS: u32 = 10;
const OVER_PATIENCE: Duration = Duration::from_secs(14);

/// What the host shall wear; `MORE` stands for what tests add below `network`, `WALL` for another section.
const HOST: &str = "
apiVersion: persona/v1
kind: Persona
metadata: { name: host-tokyo }
spec:
  network:
    egress: { pools: [tokyo], portsPerSubject: 1024 }
    mtu: 1400
    protocols: [tcp, udp, icmp]
    edges: { group: tokyo }
    MORE
  WALL
---
apiVersion: persona/v1
kind: Binding
metadata: { name: nodes }
spec:
  selector: { kind: node }
  personas: [host-tokyo]
  default: host-tokyo
";

/// The manager's network passes by the persona.
const MENDED: &str = "bypass: [192.168.77.0/24]";

/// Nobody reaches the manager's port.
const WALL: &str = "security: { firewall: [{ action: deny, direction: egress, protocol: tcp, ports: [7700] }] }";

#[test]
fn a_generation_that_cuts_the_agent_off_is_put_back_and_a_lost_manager_condemns_nothing() {
    check(Hook::Auto, |world, findings| {
        start(world, findings);
        if !findings.all_ok() {
            return; // nothing that follows could say anything
        }
        let group = make_group(world).unwrap();
        findings.run("the agent's own group", |_| live_in_the_hosts_group(world, &group));
        findings.run("a cut way", |findings| cut_way_is_put_back(world, &group, findings));
        findings.run("mended", |findings| mended_comes_into_force(world, findings));
        findings.run("a firewall", |findings| firewall_is_put_back(world, findings));
        findings.run("a lost manager", |findings| lost_manager_condemns_nothing(world, findings));
        findings.run("the processes", |_| world.check_processes());
    });
}

/// A group of the v2 tree for the host's processes.
fn make_group(world: &World) -> Result<PathBuf> {
    let name = format!("{}-host", world.folder.file_name().context("the folder has a name")?.to_string_lossy());
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let tree = mounts.lines().find_map(|line| line.split(' ').nth(1).filter(|_| line.contains(" cgroup2 ")));
    let group = Path::new(tree.context("the cgroup v2 tree is not mounted")?).join(&name);
    world.ledger.note(Undo::RemoveCgroup(name));
    std::fs::create_dir_all(&group)?;
    Ok(group)
}

/// From here on the agent is one of the processes that wear the host's persona, and nothing of its own passes by that.
fn live_in_the_hosts_group(world: &mut World, group: &Path) -> Result<()> {
    let path = world.path(&format!("{NODE}.toml"));
    let before = std::fs::read_to_string(&path)?;
    let text = before.replace("bypass = [\"192.168.77.0/24\", ", "bypass = [");
    ensure!(text != before, "the underlay is not in the agent's bypass list");
    let name = group.file_name().context("the group has a name")?.to_string_lossy();
    let text = format!("rollback_after_secs = {PATIENCE_SECS}\n{text}\n[host]\ncgroup = \"/{name}\"\n");
    std::fs::write(&path, text)?;
    restart_within(world, group)?;
    wait_until_applied(world).map(drop)
}

fn restart_within(world: &mut World, group: &Path) -> Result<()> {
    if let Some(agent) = &mut world.agent {
        agent.kill()?;
    }
    let (procs, program) = (group.join("cgroup.procs"), &world.ctl.program);
    let mut command = world.namespaces.node.command("sh")?;
    command.args(["-c", "echo $$ > \"$1\" && shift && exec \"$@\"", "sh"]).arg(procs);
    command.args([program, "agent", "--config"]).arg(world.path(&format!("{NODE}.toml")));
    world.agent = Some(Running::start(&world.ledger, NODE, &world.path("agent-in-group.log"), command)?);
    Ok(())
}

fn cut_way_is_put_back(world: &mut World, group: &Path, findings: &mut Findings) -> Result<()> {
    let before = node(world)?;
    apply_host(world, "", "")?;
    wait_for_trial(world, "inForce")?;
    restart_within(world, group)?;
    findings.note("the agent is killed and started again during the trial", "done", true);
    // First the host has no way out at all until its lease is there; both generations cut the agent off.
    let is_rejected =
        |node: &NodeView| node.up && node.rejected.as_ref().is_some_and(|it| it.generation == node.desired);
    let (node, time) = world.ctl.wait_for("the rejection", &["node", "get", NODE], STEP_TIME, is_rejected)?;
    let rejection = node.rejected.context("waited for it")?;
    let says = rejection.reason.contains("no manager answered") && rejection.reason.contains("node/n1");
    findings.note("it is rejected, with the reason", format!("{} after {time:?}", rejection.reason), says);
    let held = node.applied >= before.applied && node.applied < rejection.generation;
    findings.note("the generation before is in force", format!("{}, not {}", node.applied, rejection.generation), held);
    let count = put_back_count(world)?;
    std::thread::sleep(OVER_PATIENCE);
    let (again, still) = (put_back_count(world)?, is_rejected(&self::node(world)?));
    findings.note(
        "it is not tried again by itself",
        format!("{count} events, then {again}"),
        count > 0 && again == count && still,
    );
    Ok(())
}

fn host(more: &str, wall: &str) -> String {
    HOST.replace("MORE", more).replace("WALL", wall)
}

fn apply_host(world: &World, more: &str, wall: &str) -> Result<()> {
    world.apply("host.yaml", &host(more, wall))
}

fn put_back_count(world: &World) -> Result<usize> {
    let events: Vec<EventView> = world.ctl.list(&["events"])?;
    Ok(events.iter().filter(|event| event.name == "apply.put-back").count())
}

fn mended_comes_into_force(world: &World, findings: &mut Findings) -> Result<()> {
    apply_host(world, MENDED, "")?;
    let node = wait_until_applied(world)?;
    findings.note("with the way past the persona it stays", node.applied.to_string(), node.rejected.is_none());
    wait_for_no_trial(world)
}

/// Rules hold past the persona too, and for connections that stand.
fn firewall_is_put_back(world: &World, findings: &mut Findings) -> Result<()> {
    let before = node(world)?;
    apply_host(world, MENDED, WALL)?;
    let is_rejected = |node: &NodeView| node.up && node.rejected.is_some() && node.desired > before.desired;
    let (node, time) = world.ctl.wait_for("the rejection", &["node", "get", NODE], STEP_TIME, is_rejected)?;
    let reason = node.rejected.context("waited for it")?.reason;
    let says = reason.contains("no manager answered") && reason.contains("node/n1");
    findings.note("a firewall that cuts it off is rejected", format!("{reason} after {time:?}"), says);
    apply_host(world, MENDED, "")?;
    wait_until_applied(world)?;
    wait_for_no_trial(world)
}

/// Frozen, the agent hears of a generation that touches its way from a manager that is dead when it goes on.
fn lost_manager_condemns_nothing(world: &mut World, findings: &mut Findings) -> Result<()> {
    let agent = world.agent.as_ref().context("no agent runs")?;
    agent.signal(Signal::Stop)?;
    let applied = world.apply("host.yaml", &host(MENDED, "").replace("1400", "1380"));
    let killed = world.manager.as_mut().context("no manager runs")?.kill();
    agent_goes_on(world)?;
    applied.and(killed)?;
    std::thread::sleep(OVER_PATIENCE);
    let trial = std::fs::read_to_string(trial_path(world)).unwrap_or_default();
    findings.note("nothing is condemned while it is away", trial.clone(), !trial.contains("condemned"));
    world.start_manager()?;
    let node = wait_until_applied(world)?;
    findings.note("it is in force once the manager is back", node.applied.to_string(), node.rejected.is_none());
    wait_for_no_trial(world)
}

fn agent_goes_on(world: &World) -> Result<()> {
    world.agent.as_ref().context("no agent runs")?.signal(Signal::Continue)
}

fn node(world: &World) -> Result<NodeView> {
    world.ctl.json(&["node", "get", NODE])
}

fn wait_until_applied(world: &World) -> Result<NodeView> {
    let is_applied = |node: &NodeView| node.up && node.applied == node.desired && node.rejected.is_none();
    Ok(world.ctl.wait_for("the state to be applied", &["node", "get", NODE], STEP_TIME, is_applied)?.0)
}

fn trial_path(world: &World) -> PathBuf {
    world.path(&format!("{NODE}.state")).join("trial.json")
}

fn wait_for_trial(world: &World, stage: &str) -> Result<()> {
    wait_for_file(world, &format!("a trial at {stage}"), |text| text.contains(stage))
}

fn wait_for_no_trial(world: &World) -> Result<()> {
    wait_for_file(world, "the end of the trial", str::is_empty)
}

fn wait_for_file(world: &World, what: &str, is_wanted: impl Fn(&str) -> bool) -> Result<()> {
    let start = Instant::now();
    loop {
        let text = std::fs::read_to_string(trial_path(world)).unwrap_or_default();
        if is_wanted(&text) {
            return Ok(());
        }
        if start.elapsed() > STEP_TIME {
            bail!("waited {STEP_TIME:?} for: {what}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
