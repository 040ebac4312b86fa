//! The demo of instances: a real container and a real guest under real load, held to what criteria choose, and put back.

mod container;
mod guest;
mod limits;
mod plot;
mod record;

use std::path::Path;

use anyhow::{Context, Result};

use crate::findings::Findings;
use crate::peers::docker::Docker;
use crate::peers::guest::Guest;
use crate::world::{CONTAINER, GUEST, World};

/// The documents, but for the time of the night window.
const DOCUMENTS: &str = include_str!("../../fixtures/instances.yaml");

/// The instances of a world, running.
#[derive(Debug)]
pub struct Instances {
    docker: Docker,
    guest: Guest,
    /// The container's control group, from the root of the trees.
    group: String,
    /// QEMU's.
    guest_group: String,
}

/// Says in the agent's configuration which workloads are instances; noted before the agent starts.
pub fn prepare(world: &mut World) {
    let (socket, monitor) = (world.path("docker/docker.sock"), world.path("guest.qmp"));
    for (place, instance) in [
        (CONTAINER, format!("container = \"web\"\ndocker_socket = \"{}\"\n", socket.display())),
        (GUEST, format!("qmp = \"{}\"\n", monitor.display())),
    ] {
        let (name, address, address6) = (place.name, place.address, place.address6);
        world.extra_agent_config += &format!(
            "\n[[workload]]\nname = \"{name}\"\ndevice = \"{name}\"\naddress = \"{address}\"\naddress6 = \"{address6}/128\"\n{instance}"
        );
    }
}

/// Runs all steps in order and draws what was seen.
pub fn run_all(world: &mut World, picture: &Path, findings: &mut Findings) -> Result<()> {
    let mut instances = None;
    findings.run("1 instances", |findings| {
        instances = Some(start(world, findings)?);
        Ok(())
    });
    let Some(mut instances) = instances.filter(|_| findings.all_ok()) else {
        return Ok(()); // nothing that follows could say anything
    };
    let record = record::Recorder::start(world, &instances.group);
    findings.run("2 load", |findings| container::under_load(world, &instances, findings));
    findings.run("3 night", |findings| container::at_night(world, &instances, findings));
    findings.run("4 guest", |findings| guest::under_load(world, &mut instances, findings));
    findings.run("5 roles", |_| world.check_processes());
    let looks = record.finish();
    plot::draw(picture, &looks)?;
    instances.docker.client(&["rm", "--force", "web"]).map(drop)
}

/// Brings up the roles, a container and a guest.
fn start(world: &mut World, findings: &mut Findings) -> Result<Instances> {
    world.start_manager()?;
    world.apply_documents()?;
    world.start_edges_and_agent()?;
    let docker = Docker::start(&world.ledger, &world.namespaces.node, &world.folder)?;
    let inside = docker.run("web", &format!("{}-web", world.namespaces.node.name))?.namespace;
    world.attach(&CONTAINER, &inside)?;
    world.namespaces.workloads.insert(CONTAINER.name, inside);
    let id = docker.client(&["inspect", "--format", "{{.Id}}", "web"])?;
    let name = world.folder.file_name().context("a folder has a name")?.to_string_lossy().into_owned();
    let group = format!("{name}-docker/{}", id.trim());
    let content = world.path("guest-content");
    std::fs::write(&content, "nothing\n")?;
    world.add_tap(&GUEST)?;
    let guest = Guest::start_behind(world, &GUEST, &content)?;
    let guest_group = format!("{name}-guest");
    crate::cgroups::make(&world.ledger, &guest_group)?;
    crate::cgroups::enter(&guest_group, guest.qemu.pid().context("QEMU runs")?)?;
    limits::apply_documents(world, limits::far_from_now()?)?;
    for subject in [container::SUBJECT, guest::SUBJECT] {
        let report = limits::wait_for(world, subject, limits::is_unlimited)?;
        findings.note(format!("{subject} is there, and nothing limits it"), report.state.to_string(), true);
    }
    Ok(Instances { docker, guest, group, guest_group })
}
