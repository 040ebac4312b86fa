//! Limits of real instances in a whole system: a document goes into the manager, and a Docker container's control groups,
//! or a QEMU guest's balloon and throttles, are as it says; released, they are as they were.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use persona_core::wire::api::{EventView, WorkloadView};
use persona_core::wire::limits::{LimitReport, LimitState};
use persona_tests::cgroups::{LimitFiles, differences, folder_of, limit_files, read_first};
use persona_tests::findings::Findings;
use persona_tests::ledger::Undo;
use persona_tests::peers::content;
use persona_tests::peers::docker::Docker;
use persona_tests::peers::guest::Guest;
use persona_tests::world::{CONTAINER, GUEST, NODE, World};

use super::{container, guest, in_cluster_with, output_of};

/// How long limits may take to come into force: memory shrinks, reports travel.
const LIMIT_TIME: Duration = Duration::from_secs(40);

/// How often Docker is asked to do the same, to compare.
const UPDATE_COUNT: u32 = 10;

const DOCUMENTS: &str = "
apiVersion: persona/v1
kind: Persona
metadata: { name: small }
spec:
  resources: { cpu: { limit: 0.5, weight: 50 }, memory: { max: 128MiB }, io: { readBps: 10MiB }, pids: 200 }
---
apiVersion: persona/v1
kind: Persona
metadata: { name: large }
spec:
  resources: { cpu: { limit: 1.5 }, memory: { max: 192MiB }, pids: 400 }
---
apiVersion: persona/v1
kind: Binding
metadata: { name: sizes }
spec:
  selector: { kind: workload, names: [workload/n1/c1, workload/n1/v1] }
  personas: [small, large]
";

#[test]
fn a_docker_container_is_limited_live_and_put_back() {
    let prepare = |world: &mut World| {
        world.extra_workloads.push(CONTAINER);
        let socket = world.path("docker/docker.sock");
        world.extra_agent_config = format!("container = \"c1\"\ndocker_socket = \"{}\"\n", socket.display());
    };
    in_cluster_with("container limits", prepare, |world, findings| {
        let docker = Docker::start(&world.ledger, &world.namespaces.node, &world.folder)?;
        let inside = docker.run("c1", &format!("{}-c1", world.namespaces.node.name))?;
        world.attach(&CONTAINER, &inside.namespace)?;
        let id = docker.client(&["inspect", "--format", "{{.Id}}", "c1"])?;
        let group = format!("{}-docker/{}", world.folder.file_name().context("a folder")?.display(), id.trim());
        world.apply("sizes.yaml", DOCUMENTS)?;
        let before = limit_files(&group)?;
        switch_and_see(world, container::SUBJECT, "small", findings)?;
        note_kernel(
            findings,
            &group,
            "memory",
            &["memory.limit_in_bytes", "memory.max"],
            &(128_u64 << 20).to_string(),
        )?;
        note_kernel(findings, &group, "pids", &["pids.max"], "200")?;
        switch_and_see(world, container::SUBJECT, "large", findings)?;
        note_kernel(findings, &group, "pids", &["pids.max"], "400")?;
        repair(world, &docker, &group, findings)?;
        survive_a_kill(world, &docker, &group, findings)?;
        world.ctl.text(&["switch", container::SUBJECT, "--release"])?;
        wait_for_state(world, container::SUBJECT, LimitState::Unlimited)?;
        let after = limit_files(&group)?;
        findings.note("released, every file is as it was", differences(&before, &after), before == after);
        compare_with_docker(&docker, findings)?;
        detach(world, &group, &before, findings)?;
        docker.client(&["rm", "--force", "c1"]).map(drop)
    });
}

#[test]
fn a_container_that_keeps_its_network_is_limited_all_the_same() {
    let prepare = |world: &mut World| {
        let socket = world.path("docker/docker.sock");
        world.extra_agent_config =
            format!("[[workload]]\nname = \"c1\"\ncontainer = \"c1\"\ndocker_socket = \"{}\"\n", socket.display());
    };
    in_cluster_with("limits alone", prepare, |world, findings| {
        let docker = Docker::start(&world.ledger, &world.namespaces.node, &world.folder)?;
        let inside = docker.run("c1", &format!("{}-c1", world.namespaces.node.name))?;
        world.attach(&CONTAINER, &inside.namespace)?;
        let id = docker.client(&["inspect", "--format", "{{.Id}}", "c1"])?;
        let group = format!("{}-docker/{}", world.folder.file_name().context("a folder")?.display(), id.trim());
        world.apply("sizes.yaml", DOCUMENTS)?;
        let before = limit_files(&group)?;
        switch_and_see(world, container::SUBJECT, "small", findings)?;
        note_kernel(findings, &group, "pids", &["pids.max"], "200")?;
        let ping = output_of(&mut inside.exec(&["/bin/ping", "-c", "1", CONTAINER.gateway])?);
        let measured = ping.as_ref().map_or_else(|error| format!("{error:#}"), |text| text.trim().to_owned());
        findings.note("its network is the ordinary one", measured, ping.is_ok());
        let told = world.ctl.text(&["explain", container::SUBJECT])?;
        let is_told = told.contains("keeps its ordinary network");
        findings.note("a persona with a network section is refused, and why", told, is_told);
        let refused = world.ctl.refusal(&["switch", container::SUBJECT, "frankfurt-standard"])?;
        let is_refused = format!("{refused:?}").contains("keeps its ordinary network");
        findings.note("by hand too", format!("{refused:?}"), is_refused);
        world.ctl.text(&["switch", container::SUBJECT, "--release"])?;
        wait_for_state(world, container::SUBJECT, LimitState::Unlimited)?;
        let after = limit_files(&group)?;
        findings.note("released, every file is as it was", differences(&before, &after), before == after);
        docker.client(&["rm", "--force", "c1"]).map(drop)
    });
}

#[test]
fn a_qemu_guest_is_limited_live_and_put_back() {
    let prepare = |world: &mut World| {
        world.extra_workloads.push(GUEST);
        world.extra_agent_config = format!("qmp = \"{}\"\n", world.path("guest.qmp").display());
    };
    in_cluster_with("guest limits", prepare, |world, findings| {
        let own = world.path("guest-content");
        content::write(&own, 4_096, 51)?;
        world.add_tap(&GUEST)?;
        let mut inside = Guest::start_behind(world, &GUEST, &own)?;
        let group = format!("{}-guest", world.folder.file_name().context("a folder")?.display());
        let folder = own_group(world, &group, inside.qemu.pid().context("QEMU runs")?)?;
        world.apply("sizes.yaml", DOCUMENTS)?;
        let memory = |inside: &mut Guest| -> Result<u64> {
            let text = inside.run("grep MemTotal /proc/meminfo", Duration::from_secs(60))?;
            text.split_whitespace()
                .nth(1)
                .and_then(|word| word.parse().ok())
                .with_context(|| format!("{text:?} is no size"))
        };
        let (before, files) = (memory(&mut inside)?, limit_files(&group)?);
        let report = switch_and_see(world, guest::SUBJECT, "small", findings)?;
        let now = memory(&mut inside)?;
        let shrunk = before - now;
        findings.note(
            "the guest itself has 128 MiB less",
            format!("{before} KiB, then {now} KiB"),
            shrunk >= 120 << 10,
        );
        let throttled = report.actual.read_bytes_per_sec;
        findings.note("QEMU throttles its disk to 10 MiB/s", format!("{throttled:?}"), throttled == Some(10 << 20));
        let quota = std::fs::read_to_string(folder.join("cpu.cfs_quota_us"))
            .or(std::fs::read_to_string(folder.join("cpu.max")))?;
        findings.note("its process has half a processor", quota.trim(), quota.starts_with("50000"));
        let why = report.unsupported.get("pids").cloned().unwrap_or_default();
        findings.note("what a guest cannot have is named", &why, why.contains("its own kernel"));
        world.ctl.text(&["switch", guest::SUBJECT, "--release"])?;
        wait_for_state(world, guest::SUBJECT, LimitState::Unlimited)?;
        let after = memory(&mut inside)?;
        findings.note("released, it has all of it again", format!("{after} KiB"), after == before);
        let same = limit_files(&group)?;
        findings.note("and its control group is as it was", differences(&files, &same), files == same);
        Ok(())
    });
}

fn limits_of(world: &World, subject: &str) -> Result<LimitReport> {
    let view: WorkloadView = world.ctl.json(&["workload", "get", subject])?;
    view.limits.with_context(|| format!("{subject} has no limits reported"))
}

fn wait_for(world: &World, subject: &str, is_enough: impl Fn(&LimitReport) -> bool) -> Result<LimitReport> {
    let start = Instant::now();
    loop {
        let report = limits_of(world, subject);
        match report {
            Ok(report) if is_enough(&report) => return Ok(report),
            report if start.elapsed() > LIMIT_TIME => bail!("limits of {subject} within {LIMIT_TIME:?}: {report:?}"),
            _ => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

pub(super) fn wait_for_state(world: &World, subject: &str, state: LimitState) -> Result<LimitReport> {
    wait_for(world, subject, |report| report.state == state)
}

fn switch_and_see(world: &World, subject: &str, persona: &str, findings: &mut Findings) -> Result<LimitReport> {
    let start = Instant::now();
    world.ctl.text(&["switch", subject, persona])?;
    let worn = |report: &LimitReport| report.persona.as_deref() == Some(&format!("{persona}@1"));
    let settled = |report: &LimitReport| matches!(report.state, LimitState::InForce | LimitState::Partly);
    let report = wait_for(world, subject, |report| worn(report) && settled(report))?;
    let lacking: Vec<&str> = report.unsupported.keys().map(String::as_str).collect();
    let is_as_wanted =
        report.wanted.fields().iter().all(|field| lacking.contains(&field.0) || report.actual.fields().contains(field));
    let measured = format!(
        "{} after {:?} by {}, without {lacking:?}",
        report.state,
        start.elapsed(),
        report.backends.join(" and ")
    );
    findings.note(format!("{subject} is limited as {persona} says, read back"), measured, is_as_wanted);
    let text = world.ctl.text(&["workload", "get", subject])?;
    findings.note("people see wanted and actual", text.lines().last().unwrap_or_default(), text.contains("WANTED"));
    Ok(report)
}

pub(super) fn note_kernel(
    findings: &mut Findings,
    group: &str,
    controller: &str,
    files: &[&str],
    expected: &str,
) -> Result<()> {
    let text = read_first(group, controller, files)?;
    findings.note(format!("the kernel says {expected} in {}", files[0]), &text, text == expected);
    Ok(())
}

/// An agent that is killed leaves limits as they are; the next one goes on, and puts right what was changed meanwhile.
fn survive_a_kill(world: &mut World, docker: &Docker, group: &str, findings: &mut Findings) -> Result<()> {
    let held = limit_files(group)?;
    world.agent.as_mut().context("the agent runs")?.kill()?;
    let after = limit_files(group)?;
    findings.note("an agent that is killed leaves limits as they are", differences(&held, &after), held == after);
    docker.client(&["update", "--pids-limit", "44", "c1"])?;
    note_kernel(findings, group, "pids", &["pids.max"], "44")?;
    let started = Instant::now();
    world.start_agent()?;
    let measured = wait_for_files(group, &held, started)?;
    let pids = folder_of(group, "pids")?.join("pids.max");
    let after = limit_files(group)?;
    let is_right = after.get(&pids) == held.get(&pids);
    findings.note("the next one puts right what was changed meanwhile, its own start included", measured, is_right);
    wait_for_state(world, container::SUBJECT, LimitState::InForce)?;
    Ok(())
}

/// Docker's own command is somebody else like any other. How long that takes is the agent's affair alone: it has run for long.
fn repair(world: &World, docker: &Docker, group: &str, findings: &mut Findings) -> Result<()> {
    let held = limit_files(group)?;
    docker.client(&["update", "--pids-limit", "33", "--cpu-shares", "2", "c1"])?;
    let (start, changed_ms) = (Instant::now(), now_ms());
    let measured = wait_for_files(group, &held, start)?;
    let now = limit_files(group)?;
    let pids = folder_of(group, "pids")?.join("pids.max");
    findings.note("docker update of a limit is put right", measured, now.get(&pids) == held.get(&pids));
    let told = |events: &serde_json::Value| events.to_string().contains("limits.changed-by-others");
    let waited = world.ctl.wait_for("the event", &["events"], LIMIT_TIME, told);
    let events = waited.and_then(|_| world.ctl.list::<EventView>(&["events"]));
    let measured = events.map(|events| {
        let event = events.iter().find(|event| event.name == "limits.changed-by-others");
        let noticed_ms = event.and_then(|event| event.details["agentTimeMs"].as_u64());
        let after_ms = noticed_ms.map(|ms| i128::from(ms) - i128::from(changed_ms));
        format!("{after_ms:?} ms after the command's end")
    });
    let is_there = measured.is_ok();
    findings.note("and told", measured.unwrap_or_else(|error| format!("{error:#}")), is_there);
    Ok(())
}

/// Waits until a group's files are so, and says after which time, and what differs if they never are.
fn wait_for_files(group: &str, held: &LimitFiles, since: Instant) -> Result<String> {
    while limit_files(group)? != *held && since.elapsed() < LIMIT_TIME {
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(format!("after {:?}: {}", since.elapsed(), differences(held, &limit_files(group)?)))
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// The same by the engine's own command; figures for the reader.
fn compare_with_docker(docker: &Docker, findings: &mut Findings) -> Result<()> {
    let start = Instant::now();
    for round in 0..UPDATE_COUNT {
        docker.client(&["update", "--pids-limit", &(300 + round).to_string(), "c1"])?;
    }
    findings.note("docker update takes, for comparison", format!("{:?}", start.elapsed() / UPDATE_COUNT), true);
    docker.client(&["update", "--pids-limit", "-1", "c1"]).map(drop)
}

/// Detach puts limits back from the record alone.
fn detach(world: &mut World, group: &str, before: &LimitFiles, findings: &mut Findings) -> Result<()> {
    let before = {
        let now = limit_files(group)?;
        findings.note("before detach", differences(before, &now), true);
        now
    };
    world.ctl.text(&["switch", container::SUBJECT, "small"])?;
    wait_for(world, container::SUBJECT, |report| matches!(report.state, LimitState::InForce | LimitState::Partly))?;
    world.agent.as_mut().context("the agent runs")?.stop()?;
    let held = limit_files(group)?;
    findings.note("a stopped agent leaves limits", "they differ from before", held != before);
    world.detach_role(NODE)?;
    let after = limit_files(group)?;
    findings.note("detach puts every file back", differences(&before, &after), before == after);
    world.start_agent()
}

/// A control group for QEMU alone, which is removed with the world.
fn own_group(world: &World, name: &str, pid: u32) -> Result<PathBuf> {
    world.ledger.note(Undo::RemoveCgroup(name.to_owned()));
    let root = Path::new("/sys/fs/cgroup/cpu");
    let root = if root.is_dir() { root } else { Path::new("/sys/fs/cgroup") };
    let folder = root.join(name);
    std::fs::create_dir(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    std::fs::write(folder.join("cgroup.procs"), pid.to_string()).context("QEMU cannot be moved")?;
    Ok(folder)
}
