//! The agent inside a QEMU guest, over its virtio-serial port: a persona's kernel parameters and packages come into force in
//! the guest, its own kernel's figures become signals, and everything goes back, over a SIGKILL of the agent inside too.

use std::time::Duration;

use anyhow::Result;
use persona_core::wire::api::{Explanation, SignalsView};
use persona_core::wire::security::{SecurityState, SettingState};
use persona_core::wire::software::SoftwareState;
use persona_tests::findings::Findings;
use persona_tests::peers::content;
use persona_tests::peers::guest::Guest;
use persona_tests::peers::guest_system::GuestSystem;
use persona_tests::world::{GUEST, World};

use super::guest::SUBJECT;
use super::in_cluster_with;

/// How long a command in the guest may take on a busy machine.
const COMMAND_TIME: Duration = Duration::from_secs(90);

/// How long a package manager may take where the processor is emulated.
const INSIDE_TIME: Duration = Duration::from_secs(180);

/// It holds a system in its memory.
const MEMORY_MIB: u32 = 768;

const DOCUMENTS: &str = "
apiVersion: persona/v1
kind: Persona
metadata: { name: hardened }
spec:
  security: { sysctl: { vm.swappiness: 10, net.ipv4.tcp_syncookies: 2, kernel.no_such: 1 }, readOnlyRoot: true }
  software: [ { package: tool, version: '>= 2' } ]
---
apiVersion: persona/v1
kind: Binding
metadata: { name: inside }
spec:
  selector: { kind: workload, names: [workload/n1/v1] }
  personas: [hardened]
";

const START: &str =
    "/usr/bin/persona-ctl agent --guest --config /etc/guest.toml >> /agent.log 2>&1 & echo $! > /agent.pid";

/// By its administrator, before any persona.
const INSTALL: &str = "export PATH=/usr/sbin:/usr/bin:/sbin:/bin; apt-get -q update && apt-get -q -y install tool=1.0";

/// What of the guest a persona changes: two parameters, the package and whether it is held.
const LOOK: &str = "cat /proc/sys/vm/swappiness /proc/sys/net/ipv4/tcp_syncookies; cat /usr/share/tool/version; \
                    echo; /usr/bin/dpkg-query -W -f '${db:Status-Want}' tool";

#[test]
fn a_guest_wears_its_persona_inside() {
    let prepare = |world: &mut World| {
        world.extra_workloads.push(GUEST);
        world.extra_agent_config = format!("guest_agent = \"{}\"\n", world.path("guest.agent").display());
    };
    in_cluster_with("inside a guest", prepare, |world, findings| {
        let own = world.path("guest-content");
        content::write(&own, 4_096, 51)?;
        let mut system = GuestSystem::make(&world.path("guest-system"), &world.ctl.program)?;
        system.offer(&[("tool", "1.0"), ("tool", "2.0"), ("tool", "2.1-1")])?;
        system.text("etc/guest.toml", "software = \"install\"\n")?;
        world.add_tap(&GUEST)?;
        let mut guest = Guest::start_with(world, &GUEST, &own, system.files(), MEMORY_MIB)?;
        guest.run(INSTALL, INSIDE_TIME)?;
        let before = guest.try_run(LOOK, COMMAND_TIME)?.1;
        guest.run(START, COMMAND_TIME)?;
        world.apply("inside.yaml", DOCUMENTS)?;
        wears(world, &mut guest, findings)?;
        signals(world, findings)?;
        goes_back(world, &mut guest, &before, findings)
    });
}

fn wears(world: &World, guest: &mut Guest, findings: &mut Findings) -> Result<()> {
    world.ctl.text(&["switch", SUBJECT, "hardened"])?;
    let settled = |it: &Explanation| {
        it.software.as_ref().is_some_and(|it| it.state == SoftwareState::AsWanted)
            && it.security.as_ref().is_some_and(|it| it.state == SecurityState::NeedsRestart)
    };
    let waited = world.ctl.wait_for("the persona inside", &["explain", SUBJECT], INSIDE_TIME, settled);
    let told = world.ctl.text(&["explain", SUBJECT])?;
    let explanation: Explanation = match waited {
        Ok((explanation, _)) => explanation,
        Err(error) => anyhow::bail!("{error:#}\n{told}\n{}", guest.try_run("cat /agent.log", COMMAND_TIME)?.1),
    };
    let package = explanation.software.and_then(|it| it.packages.into_iter().next());
    let package = package.map(|it| (it.installed.unwrap_or_default(), it.is_held));
    let is_newest = package == Some(("2.1-1".to_owned(), true));
    findings.note("the newest wanted version is installed and held", format!("{package:?}"), is_newest);
    let settings = explanation.security.map(|it| it.settings).unwrap_or_default();
    let states: Vec<(&str, SettingState)> = settings.iter().map(|it| (it.setting.as_str(), it.state)).collect();
    let expected = [
        ("sysctl.kernel.no_such", SettingState::Unsupported),
        ("sysctl.net.ipv4.tcp_syncookies", SettingState::InForce),
        ("sysctl.vm.swappiness", SettingState::InForce),
        ("readOnlyRoot", SettingState::NeedsRestart),
    ];
    findings.note("each setting is told as it stands", format!("{states:?}"), states == expected);
    let inside = guest.try_run(LOOK, COMMAND_TIME)?.1;
    let is_so = inside.split_whitespace().eq(["10", "2", "2.1-1", "hold"]);
    findings.note("the guest itself says so", inside.trim(), is_so);
    findings.note("people see it", "explain", told.contains("needs restart") && told.contains("held"));
    Ok(())
}

fn signals(world: &World, findings: &mut Findings) -> Result<()> {
    let has_all = |view: &SignalsView| {
        let has = |name: &str| view.signals.iter().any(|signal| signal.name == name);
        ["guest.cpu.utilisation", "guest.cpu.load", "guest.memory.usage"].into_iter().all(has)
    };
    let waited = world.ctl.wait_for("signals of the guest", &["signal", "list", SUBJECT], COMMAND_TIME, has_all);
    let told = waited.map(|(view, _): (SignalsView, _)| {
        let own = view.signals.iter().filter(|signal| signal.name.starts_with("guest."));
        own.map(|signal| format!("{} {}", signal.name, signal.shown)).collect::<Vec<_>>().join(", ")
    });
    let is_there = told.is_ok();
    findings.note("its own kernel's figures are signals", told.unwrap_or_else(|error| format!("{error:#}")), is_there);
    Ok(())
}

/// An agent that is killed keeps everything; the next one puts it back by the record.
fn goes_back(world: &World, guest: &mut Guest, before: &str, findings: &mut Findings) -> Result<()> {
    guest.run("kill -9 $(cat /agent.pid)", COMMAND_TIME)?;
    world.ctl.text(&["switch", SUBJECT, "--release"])?;
    let inside = guest.try_run(LOOK, COMMAND_TIME)?.1;
    let is_kept = inside.split_whitespace().eq(["10", "2", "2.1-1", "hold"]);
    findings.note("killed, the agent inside leaves everything", inside.trim(), is_kept);
    guest.run(START, COMMAND_TIME)?;
    let wait =
        format!("for i in $(seq 150); do [ -e /var/lib/persona/guest/software.json ] || break; sleep 1; done; {LOOK}");
    let after = guest.try_run(&wait, INSIDE_TIME)?.1;
    findings.note("released, it is as before", after.trim(), after == before);
    Ok(())
}
