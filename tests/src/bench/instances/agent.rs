//! The agent itself, with 200 workloads that it measures and holds to limits once a second: processor and memory.
//!
//! And how soon a load is answered: from its first instruction to the limit in the kernel.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::bench::measures::Run;
use crate::bench::processor::{memory_mib, process_secs};
use crate::bench::row::{Better, Goal, Row};
use crate::bench::samples::Samples;
use crate::cgroups::{self, read_first};
use crate::process::Running;
use crate::world::{Hook, World};

/// Workloads, each with a control group of its own.
const WORKLOAD_COUNT: usize = 200;

/// The device that they share.
const DEVICE: &str = "shared0";

/// How long the agent is watched per round.
const WATCH_TIME: Duration = Duration::from_secs(10);

/// How long everything may take to settle, and a load to be answered.
const SETTLE_TIME: Duration = Duration::from_secs(90);

/// What a persona says that is worn because of load, and what all wear otherwise.
const DOCUMENTS: &str = "
apiVersion: persona/v1
kind: Persona
metadata: { name: loaded }
spec:
  resources: { pids: 222 }
  activation: [ { when: 'cpu.usage > 0.2', leave: 'cpu.usage < 0.05' } ]
---
apiVersion: persona/v1
kind: Persona
metadata: { name: held }
spec:
  resources: { cpu: { limit: 1.5 }, memory: { max: 512MiB }, pids: 400 }
---
apiVersion: persona/v1
kind: Binding
metadata: { name: loads }
spec:
  selector: { kind: workload, names: [LOADED] }
  personas: [loaded]
---
apiVersion: persona/v1
kind: Binding
metadata: { name: all }
spec:
  selector: { kind: workload }
  personas: [held]
  default: held
";

/// Processor, memory and reaction.
pub fn measure(run: &Run<'_>) -> Result<Vec<Row>> {
    run.say("agent: a world with 200 workloads");
    let mut world = World::build(run.ledger, Hook::Auto)?;
    start(&mut world, run.rounds).with_context(|| world.log_tails())?;
    let pid = world.agent.as_ref().and_then(Running::pid).context("the agent runs")?;
    let [mut cpu, mut memory, mut own, mut reaction]: [Samples; 4] = Default::default();
    for round in 0..run.rounds {
        run.say(&format!("agent: round {} of {}", round + 1, run.rounds));
        let (start, before) = (Instant::now(), process_secs(pid)?);
        std::thread::sleep(WATCH_TIME);
        cpu.push((process_secs(pid)? - before) / start.elapsed().as_secs_f64() * 100.0);
        memory.push(memory_mib(pid, "VmRSS")?);
        own.push(memory_mib(pid, "RssAnon")?);
        reaction.push(react(&world, round as usize)?);
        run.step();
    }
    world.check_processes()?;
    Ok(vec![
        Row::new("agent/processor", "% of a core", Better::Less, cpu).reach(Goal::AtMost(1.0)),
        Row::new("agent/memory", "MiB", Better::Less, memory).reach(Goal::AtMost(30.0)),
        // What it has for itself: the rest of the row above are pages of files, the program's own first, that the kernel shares
        // and takes back as it likes.
        Row::new("agent/memory-own", "MiB", Better::Less, own),
        Row::new("agent/reaction", "sampling intervals of 1 s", Better::Less, reaction).reach(Goal::AtMost(1.2)),
    ])
}

/// The roles, with all limits in force. A workload is loaded in one round only: who comes and goes too often is held back.
fn start(world: &mut World, round_count: u32) -> Result<()> {
    world.namespaces.node.link(DEVICE, world.workload("w2"), DEVICE)?;
    for number in 0..WORKLOAD_COUNT {
        let group = group_of(world, number);
        cgroups::make(&world.ledger, &group)?;
        world.extra_agent_config += &format!(
            "\n[[workload]]\nname = \"g{number}\"\ndevice = \"{DEVICE}\"\nsource = \"10.10.9.{}\"\nlimit_cgroup = \"/{group}\"\n",
            number + 10
        );
    }
    world.start_manager()?;
    world.apply_documents()?;
    let loaded: Vec<String> = (0..round_count).map(|number| format!("workload/n1/g{number}")).collect();
    world.apply("instances.yaml", &DOCUMENTS.replace("LOADED", &loaded.join(", ")))?;
    world.start_edges_and_agent()?;
    wait("limits of all workloads", || {
        (0..WORKLOAD_COUNT).all(|number| pids_of(&group_of(world, number)).is_ok_and(|pids| pids == "400"))
    })
}

/// Intervals from a load's beginning until its persona's limit is in the kernel; the load ends, and all is as before.
fn react(world: &World, number: usize) -> Result<f64> {
    let group = group_of(world, number);
    let mut command = Command::new("sh");
    command.args(["-c", "while :; do :; done"]);
    let mut burner = Running::start(&world.ledger, "load", &world.path("load.log"), command)?;
    cgroups::enter(&group, burner.pid().context("the load runs")?)?;
    let start = Instant::now();
    let outcome = wait("the limit of the loaded", || pids_of(&group).is_ok_and(|pids| pids == "222"));
    let seconds = start.elapsed().as_secs_f64();
    burner.kill()?;
    outcome?;
    wait("the limit of all", || pids_of(&group).is_ok_and(|pids| pids == "400"))?;
    Ok(seconds)
}

fn wait(what: &str, is_so: impl Fn() -> bool) -> Result<()> {
    let start = Instant::now();
    while !is_so() {
        if start.elapsed() > SETTLE_TIME {
            bail!("{what} were not in force within {SETTLE_TIME:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn pids_of(group: &str) -> Result<String> {
    read_first(group, "pids", &["pids.max"])
}

fn group_of(world: &World, number: usize) -> String {
    format!("{}-g{number}", world.folder.file_name().unwrap_or_default().to_string_lossy())
}
