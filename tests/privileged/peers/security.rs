//! Security settings of real Docker containers in a whole system: what a running one can be given is set, and the kernel says
//! so; what it was started with takes a restart, and is in force after one; released, the kernel has what it had before.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use persona_core::wire::api::Explanation;
use persona_core::wire::security::{SecurityReport, SecurityState, SettingState};
use persona_tests::cgroups::read_first;
use persona_tests::findings::Findings;
use persona_tests::netns::Namespace;
use persona_tests::peers::docker::Docker;
use persona_tests::world::World;

use super::container::SUBJECT;
use super::{in_cluster_with, output_of};

/// How long settings may take: they are looked at now and then, and reports travel.
const SETTLE_TIME: Duration = Duration::from_secs(60);

/// Every kind of setting that a document offers, two of them such as no container can have of its own.
const DOCUMENTS: &str = "
apiVersion: persona/v1
kind: Persona
metadata: { name: hardened }
spec:
  security:
    sysctl:
      net.ipv4.tcp_syncookies: 2
      net.ipv4.conf.lo.rp_filter: 1
      net.ipv4.ip_local_port_range: '20000 40000'
      net.ipv4.no_such: 1
      vm.swappiness: 10
    capabilities: [CHOWN]
    noNewPrivileges: true
    readOnlyRoot: true
    seccomp: true
    apparmor: docker-default
---
apiVersion: persona/v1
kind: Persona
metadata: { name: eased }
spec:
  security: { sysctl: { net.ipv4.tcp_syncookies: 0 } }
---
apiVersion: persona/v1
kind: Binding
metadata: { name: guarded }
spec:
  selector: { kind: workload, names: [workload/n1/c1] }
  personas: [hardened, eased]
";

/// The parameters of those that are a container's own, and what the first persona makes of them.
const PARAMETERS: [(&str, &str); 3] = [
    ("net/ipv4/tcp_syncookies", "2"),
    ("net/ipv4/conf/lo/rp_filter", "1"),
    ("net/ipv4/ip_local_port_range", "20000 40000"),
];

/// Those that it was started with.
const STARTED_WITH: [&str; 5] = ["capabilities", "noNewPrivileges", "readOnlyRoot", "seccomp", "apparmor"];

/// How a container is started that has all of these.
const HARDENED: [&str; 6] =
    ["--cap-drop", "ALL", "--cap-add", "CHOWN", "--security-opt=no-new-privileges", "--read-only"];

#[test]
fn a_docker_container_is_secured_live_as_far_as_can_be_and_put_back() {
    let prepare = |world: &mut World| {
        let socket = world.path("docker/docker.sock");
        world.extra_agent_config =
            format!("[[workload]]\nname = \"c1\"\ncontainer = \"c1\"\ndocker_socket = \"{}\"\n", socket.display());
    };
    in_cluster_with("container security", prepare, |world, findings| {
        let docker = Docker::start(&world.ledger, &world.namespaces.node, &world.folder)?;
        let plain = docker.run("c1", &format!("{}-c1", world.namespaces.node.name))?.namespace;
        world.apply("guarded.yaml", DOCUMENTS)?;
        let (before, others) = (values(&plain)?, values_of_others(world)?);
        is_set_live(world, &docker, &plain, findings)?;
        started_with(world, &docker, &[], findings)?;
        is_put_right(world, &plain, findings)?;
        another_persona(world, &plain, &before, findings)?;
        is_put_back_by_the_next_agent(world, &plain, &before, findings)?;
        docker.client(&["rm", "--force", "c1"])?;
        world.ctl.text(&["switch", SUBJECT, "hardened"])?;
        let anew = docker.run_with(&HARDENED, "c1", &format!("{}-c1b", world.namespaces.node.name))?.namespace;
        is_set_live(world, &docker, &anew, findings)?;
        started_with(world, &docker, &["capabilities", "noNewPrivileges", "readOnlyRoot"], findings)?;
        let now = values_of_others(world)?;
        findings.note("the host and the node have the parameters that they had", format!("{now:?}"), now == others);
        docker.client(&["rm", "--force", "c1"]).map(drop)
    });
}

/// Parameters come into force at once: the kernel says so from outside, and to a process inside.
fn is_set_live(world: &World, docker: &Docker, namespace: &Namespace, findings: &mut Findings) -> Result<()> {
    world.ctl.text(&["switch", SUBJECT, "hardened"])?;
    let wanted: BTreeMap<String, String> = PARAMETERS.map(|(path, value)| (path.into(), value.into())).into();
    wait_until(world, "the parameters", || Ok(values(namespace)? == wanted))?;
    findings.note("the kernel has the parameters of the network as wanted", format!("{wanted:?}"), true);
    let mut arguments = vec!["/bin/busybox", "cat"];
    let files = PARAMETERS.map(|(path, _)| format!("/proc/sys/{path}"));
    arguments.extend(files.iter().map(String::as_str));
    let inside = output_of(&mut docker.exec("c1", &arguments)?)?;
    let words: Vec<&str> = inside.split_whitespace().collect();
    findings.note("so it has for a process inside", words.join(" "), words == ["2", "1", "20000", "40000"]);
    let report = wait_for(world, |report| {
        let state = |name: &str| state_of(report, &format!("sysctl.{name}"));
        PARAMETERS.iter().all(|(path, _)| state(&path.replace('/', ".")) == Some(SettingState::InForce))
            && ["net.ipv4.no_such", "vm.swappiness"].iter().all(|name| state(name) == Some(SettingState::Unsupported))
    })?;
    let why = |name: &str| report.settings.iter().find(|it| it.setting == name).and_then(|it| it.reason.clone());
    let (shared, absent) = (why("sysctl.vm.swappiness"), why("sysctl.net.ipv4.no_such"));
    let is_told = shared.as_ref().is_some_and(|why| why.contains("its host"))
        && absent.as_ref().is_some_and(|why| why.contains("no such parameter"));
    findings.note("what it cannot have of its own is named, and why", format!("{shared:?} {absent:?}"), is_told);
    Ok(())
}

/// What a process was started with is told as the kernel has it; what is missing needs a restart, by a named option.
fn started_with(world: &World, docker: &Docker, in_force: &[&str], findings: &mut Findings) -> Result<()> {
    let expected = as_the_kernel_has_it(world, docker)?;
    let report = wait_for(world, |report| {
        STARTED_WITH.iter().all(|name| state_of(report, name) == expected.get(*name).copied())
    });
    let told = report.as_ref().map_or_else(|error| format!("{error:#}"), |_| format!("{expected:?}"));
    findings.note("each setting of its start is told as the kernel has it", told, report.is_ok());
    let report = report?;
    let restart = ["capabilities", "noNewPrivileges", "readOnlyRoot"];
    let wanted = |name: &str| match in_force.contains(&name) {
        true => SettingState::InForce,
        false => SettingState::NeedsRestart,
    };
    let is_so = restart.iter().all(|name| state_of(&report, name) == Some(wanted(name)));
    findings.note("started so, it has them; started otherwise, it needs a restart", format!("{in_force:?}"), is_so);
    let lacking = report.settings.iter().filter(|it| it.state == SettingState::NeedsRestart);
    let is_told = lacking.clone().all(|it| it.reason.as_ref().is_some_and(|why| why.contains("Docker: --")));
    findings.note("by which option is told", format!("{}", lacking.count()), is_told);
    let state = if expected.values().any(|state| *state == SettingState::NeedsRestart) {
        SecurityState::NeedsRestart
    } else {
        SecurityState::Partly
    };
    findings.note("the worst makes the state", report.state.to_string(), report.state == state);
    Ok(())
}

/// What /proc says of the first process, whether a file can be made, and what the engine says of it.
fn as_the_kernel_has_it(world: &World, docker: &Docker) -> Result<BTreeMap<String, SettingState>> {
    let id = docker.client(&["inspect", "--format", "{{.Id}}", "c1"])?;
    let group = format!("{}-docker/{}", world.folder.file_name().context("a folder")?.to_string_lossy(), id.trim());
    let pid = read_first(&group, "pids", &["cgroup.procs"])?;
    let pid = pid.lines().next().context("a process is in the container")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let row = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    let capabilities = row("CapBnd:").and_then(|text| u64::from_str_radix(text, 16).ok());
    let made = docker.exec("c1", &["/bin/busybox", "touch", "/made"])?.output()?;
    let is_read_only = !made.status.success() && String::from_utf8_lossy(&made.stderr).contains("Read-only");
    let engine = docker.client(&["inspect", "--format", "{{.HostConfig.ReadonlyRootfs}}", "c1"])?;
    if engine.trim() != is_read_only.to_string() {
        bail!("the engine says {} of a read-only root, and {:?}", engine.trim(), String::from_utf8_lossy(&made.stderr));
    }
    let profile = std::fs::read_to_string(format!("/proc/{pid}/attr/current")).ok();
    let fits = [
        capabilities.map(|set| set & !1 == 0),
        row("NoNewPrivs:").map(|text| text == "1"),
        Some(is_read_only),
        row("Seccomp:").map(|text| text != "0"),
        profile.map(|text| text.trim().trim_end_matches('\0').starts_with("docker-default")),
    ];
    let state = |fits| match fits {
        Some(true) => SettingState::InForce,
        Some(false) => SettingState::NeedsRestart,
        None => SettingState::Unsupported,
    };
    Ok(STARTED_WITH.iter().zip(fits).map(|(name, fits)| ((*name).to_owned(), state(fits))).collect())
}

/// Somebody else sets a parameter: it is as wanted again.
fn is_put_right(world: &World, namespace: &Namespace, findings: &mut Findings) -> Result<()> {
    namespace.write_sysctl("net/ipv4/tcp_syncookies", "0")?;
    let start = Instant::now();
    wait_until(world, "what another has set to be put right", || {
        Ok(values(namespace)?.get("net/ipv4/tcp_syncookies").is_some_and(|value| value == "2"))
    })?;
    findings.note("what somebody else sets is put right", format!("after {:?}", start.elapsed()), true);
    Ok(())
}

/// A persona that says less: what it does not say is as before the first one.
fn another_persona(
    world: &World,
    namespace: &Namespace,
    before: &BTreeMap<String, String>,
    findings: &mut Findings,
) -> Result<()> {
    world.ctl.text(&["switch", SUBJECT, "eased"])?;
    let mut wanted = before.clone();
    wanted.insert("net/ipv4/tcp_syncookies".to_owned(), "0".to_owned());
    wait_until(world, "the other persona", || Ok(values(namespace)? == wanted))?;
    findings.note("another persona has its own, and the rest is as before", format!("{wanted:?}"), true);
    let report = wait_for(world, |report| report.state == SecurityState::InForce)?;
    findings.note("all of it is in force", report.persona.clone(), report.persona == "eased@1");
    let told = |events: &serde_json::Value| {
        ["security.needs-restart", "security.in-force"].iter().all(|name| events.to_string().contains(name))
    };
    let events = world.ctl.wait_for("both events", &["events"], SETTLE_TIME, told);
    findings.note("what needs a restart was told, and that nothing does now", "events", events.is_ok());
    Ok(())
}

/// An agent that is killed leaves parameters as they are; the next one puts them back by the record.
fn is_put_back_by_the_next_agent(
    world: &mut World,
    namespace: &Namespace,
    before: &BTreeMap<String, String>,
    findings: &mut Findings,
) -> Result<()> {
    let held = values(namespace)?;
    world.agent.as_mut().context("the agent runs")?.kill()?;
    world.ctl.text(&["switch", SUBJECT, "--release"])?;
    let now = values(namespace)?;
    findings.note("an agent that is killed leaves them", format!("{now:?}"), now == held && now != *before);
    world.start_agent()?;
    wait_until(world, "what was before the first persona", || Ok(values(namespace)? == *before))?;
    findings.note("released, the kernel has what it had before the first persona", format!("{before:?}"), true);
    let (explanation, _): (Explanation, _) =
        world
            .ctl
            .wait_for("no settings", &["explain", SUBJECT], SETTLE_TIME, |it: &Explanation| it.security.is_none())?;
    findings.note("and nothing is wanted", format!("{:?}", explanation.security), true);
    Ok(())
}

fn state_of(report: &SecurityReport, setting: &str) -> Option<SettingState> {
    report.settings.iter().find(|it| it.setting == setting).map(|it| it.state)
}

/// Waits until the manager knows so much of the container's settings.
fn wait_for(world: &World, is_enough: impl Fn(&SecurityReport) -> bool) -> Result<SecurityReport> {
    let satisfies = |it: &Explanation| it.security.as_ref().is_some_and(&is_enough);
    match world.ctl.wait_for("its settings", &["explain", SUBJECT], SETTLE_TIME, satisfies) {
        Ok((explanation, _)) => explanation.security.context("waited for it"),
        Err(error) => {
            let now: Explanation = world.ctl.json(&["explain", SUBJECT])?;
            Err(error.context(format!("{:?}", now.security)))
        }
    }
}

fn wait_until(world: &World, what: &str, is_so: impl Fn() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !is_so()? {
        if start.elapsed() > SETTLE_TIME {
            let told = world.ctl.text(&["explain", SUBJECT]).unwrap_or_else(|error| format!("{error:#}"));
            bail!("{what}: not within {SETTLE_TIME:?}\n{told}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// The parameters as the kernel has them in a network namespace.
fn values(namespace: &Namespace) -> Result<BTreeMap<String, String>> {
    namespace.run_inside(values_here)?
}

/// Those of this host and of the namespace that the agent runs in, and what no container has of its own.
fn values_of_others(world: &World) -> Result<[BTreeMap<String, String>; 2]> {
    let mut host = values_here()?;
    host.insert("vm/swappiness".to_owned(), std::fs::read_to_string("/proc/sys/vm/swappiness")?);
    Ok([host, values(&world.namespaces.node)?])
}

fn values_here() -> Result<BTreeMap<String, String>> {
    let read = |(path, _): &(&str, &str)| {
        let text = std::fs::read_to_string(Path::new("/proc/sys").join(path)).with_context(|| (*path).to_owned())?;
        Ok(((*path).to_owned(), text.split_whitespace().collect::<Vec<_>>().join(" ")))
    };
    PARAMETERS.iter().map(read).collect()
}
