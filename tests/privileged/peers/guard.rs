//! The guard: a container and a guest come up while no agent runs, on a node that routes and would let them out. Not one
//! packet of theirs leaves the uplink; then the agent starts, and they get out under their personas.

use std::time::Duration;

use anyhow::{Context, Result};
use persona_tests::findings::Findings;
use persona_tests::load::capture::Capture;
use persona_tests::load::echo::EchoClient;
use persona_tests::peers::docker::{Container, Docker};
use persona_tests::peers::guest::Guest;
use persona_tests::world::{CONTAINER, GUEST, INTERNET_ADDRESS, WORKLOAD_RANGES, World};

use super::{container, guest, in_cluster_with, note_client, output_of, wait_for_lease};

/// An IPv6 destination behind the uplink.
const INTERNET_ADDRESS6: &str = "2001:db8:51::10";

/// The underlay's router, which would take everything, and the node's IPv6 address there.
const ROUTER: &str = "192.168.77.1";
const ROUTER6: &str = "fd00:77::1";
const NODE6: &str = "fd00:77::11";

/// How long a command in the guest may take on a busy machine.
const COMMAND_TIME: Duration = Duration::from_secs(60);

/// Datagrams per second that a workload tries to send out meanwhile.
const FLOOD_PACKETS_PER_SEC: u32 = 500;

#[test]
fn nothing_leaves_while_containers_and_guests_start_without_an_agent() {
    let prepare = |world: &mut World| {
        world.extra_workloads.extend([CONTAINER, GUEST]);
    };
    in_cluster_with("guard", prepare, |world, findings| {
        open_every_way(world)?;
        world.agent.take().context("the agent runs")?.stop()?;
        let capture = capture(world, "guarded")?;
        let docker = Docker::start(&world.ledger, &world.namespaces.node, &world.folder)?;
        let container = docker.run("c1", &format!("{}-c1", world.namespaces.node.name))?;
        world.attach(&CONTAINER, &container.namespace)?;
        world.add_tap(&GUEST)?;
        std::fs::write(world.path("nothing"), "")?;
        let mut guest = Guest::start_behind(world, &GUEST, &world.path("nothing"))?;
        try_to_get_out(world, &container, &mut guest, findings)?;
        world.start_agent()?;
        get_out(world, &container, &mut guest, findings)?;
        let leaked = capture.finish()?;
        let measured = format!("{} packets {}", leaked.len(), leaked.first().map_or("", String::as_str));
        findings.note("not one packet of theirs left the uplink untouched", measured, leaked.is_empty());
        without_guard(world, &container, findings)
    });
}

/// Routes and neighbours by which a packet that is forwarded does leave the uplink.
fn open_every_way(world: &World) -> Result<()> {
    let (node, underlay) = (&world.namespaces.node, &world.namespaces.underlay);
    node.add_address("up0", &format!("{NODE6}/64"))?;
    underlay.add_address("br0", &format!("{ROUTER6}/64"))?;
    node.ip(&format!("route add default via {ROUTER}"))?;
    node.ip(&format!("-6 route add default via {ROUTER6}")).map(drop)
}

/// Whatever has a workload's own address, at the far side of the node's uplink.
fn capture(world: &World, name: &str) -> Result<Capture> {
    let [range, range6] = WORKLOAD_RANGES;
    let filter = format!("src net {range} or src net {range6}");
    Capture::start(world, name, &world.namespaces.underlay, "n1", &filter)
}

fn try_to_get_out(world: &World, container: &Container<'_>, guest: &mut Guest, findings: &mut Findings) -> Result<()> {
    let flood = EchoClient::start(&container.namespace, FLOOD_PACKETS_PER_SEC)?;
    for (what, arguments) in [
        ("a connection", &["/bin/nc", "-w", "2", INTERNET_ADDRESS, "80", "-e", "/bin/true"][..]),
        ("ping", &["/bin/ping", "-c", "2", "-W", "1", INTERNET_ADDRESS]),
        ("ping over IPv6", &["/bin/ping", "-6", "-c", "2", "-W", "1", INTERNET_ADDRESS6]),
    ] {
        let output = container.exec(arguments)?.output()?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let measured = format!("{}: {}", output.status, said.lines().last().unwrap_or_default());
        findings.note(format!("{what} in the container fails"), measured, output.status.code() == Some(1));
    }
    for (what, command) in [
        ("a connection", format!("nc -w 2 {INTERNET_ADDRESS} 80 -e true")),
        ("ping", format!("ping -c 2 -W 1 {INTERNET_ADDRESS}")),
        ("ping over IPv6", format!("ping -6 -c 2 -W 1 {INTERNET_ADDRESS6}")),
    ] {
        let (status, text) = guest.try_run(&command, COMMAND_TIME)?;
        let last = text.lines().last().unwrap_or_default();
        findings.note(format!("{what} in the guest fails"), format!("{status}: {last}"), status == 1);
    }
    let count = flood.finish();
    findings.note(
        "no datagram of a flood comes back",
        format!("{} of {}", count.returned, count.sent),
        count.returned == 0,
    );
    // They did get as far as the node: what fails here fails at the guard.
    for place in [CONTAINER, GUEST] {
        let (received, _) = world.namespaces.node.device_bytes(place.name)?;
        findings.note(format!("the node received from {}", place.name), format!("{received} bytes"), received > 500);
    }
    Ok(())
}

fn get_out(world: &World, container: &Container<'_>, guest: &mut Guest, findings: &mut Findings) -> Result<()> {
    let url = format!("http://{INTERNET_ADDRESS}/whoami");
    let lease = wait_for_lease(world, container::SUBJECT)?;
    let seen = output_of(&mut container.exec(&["/bin/wget", "-q", "-O", "-", &url])?)?;
    note_client(findings, "with the agent, the container", &seen, &lease);
    let lease = wait_for_lease(world, guest::SUBJECT)?;
    let seen = guest.run(&format!("wget -q -O - {url}"), COMMAND_TIME)?;
    note_client(findings, "with the agent, the guest", &seen, &lease);
    Ok(())
}

/// The control: with the agent's programs off the node, the same packets do leave, so the capture would have seen them.
fn without_guard(world: &mut World, container: &Container<'_>, findings: &mut Findings) -> Result<()> {
    world.agent.take().context("the agent runs")?.stop()?;
    world.detach_role(persona_tests::world::NODE)?;
    let capture = capture(world, "unguarded")?;
    for arguments in [
        ["/bin/ping", "-4", "-c", "2", "-W", "1", INTERNET_ADDRESS],
        ["/bin/ping", "-6", "-c", "2", "-W", "1", INTERNET_ADDRESS6],
    ] {
        container.exec(&arguments)?.output()?;
    }
    let seen = capture.finish()?;
    for place in [CONTAINER.address, CONTAINER.address6] {
        let count = seen.iter().filter(|line| line.contains(place)).count();
        findings.note(format!("control: without the guard {place} leaves"), format!("{count} packets"), count > 0);
    }
    Ok(())
}
