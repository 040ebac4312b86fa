//! A Docker container as a workload: `--network none`, then a veth pair as a CNI would make it, its host side named as
//! the agent's configuration expects it.

use anyhow::{Context, Result};
use persona_tests::findings::Findings;
use persona_tests::peers::content;
use persona_tests::peers::docker::Docker;
use persona_tests::process::Running;
use persona_tests::steps::switch::switch_to;
use persona_tests::steps::{TOKYO, view};
use persona_tests::world::{CONTAINER, INTERNET_ADDRESS, World};

use super::{finish, in_cluster_with, note_client, output_of, wait_for_bytes, wait_for_lease};

/// The container, as the manager knows it.
pub(crate) const SUBJECT: &str = "workload/n1/c1";

/// Bytes that the container fetches, a few seconds at the persona's 80 Mbit/s.
const BYTES: usize = 24 << 20;

#[test]
fn a_docker_container_shows_its_own_lease() {
    let prepare = |world: &mut World| world.extra_workloads.push(CONTAINER);
    in_cluster_with("container", prepare, |world, findings| {
        let docker = Docker::start(&world.ledger, &world.namespaces.node, &world.folder)?;
        let container = docker.run("c1", &format!("{}-c1", world.namespaces.node.name))?;
        world.attach(&CONTAINER, &container.namespace)?;
        let lease = wait_for_lease(world, SUBJECT)?;
        let url = format!("http://{INTERNET_ADDRESS}/whoami");
        let seen = output_of(&mut container.exec(&["/bin/wget", "-q", "-O", "-", &url])?)?;
        note_client(findings, "wget in the container", &seen, &lease);
        let other = view::lease_of(world, persona_tests::steps::SUBJECT)?;
        let is_own = other.id != lease.id;
        findings.note("the lease is not w1's", format!("{:?} and {:?}", lease.id, other.id), is_own);
        fetch_across_a_switch(world, &container, findings)?;
        let seen = output_of(&mut container.exec(&["/bin/wget", "-q", "-O", "-", &url])?)?;
        note_client(findings, "after a switch", &seen, &view::lease_of(world, SUBJECT)?);
        docker.client(&["rm", "--force", "c1"]).map(drop)
    });
}

fn fetch_across_a_switch(
    world: &World,
    container: &persona_tests::peers::docker::Container<'_>,
    findings: &mut Findings,
) -> Result<()> {
    let (there, here) = (world.path("www/large"), world.path("large.copy"));
    content::write(&there, BYTES, 91)?;
    let url = format!("http://{INTERNET_ADDRESS}/large");
    // What wget writes goes through docker's stream into the log of this process.
    let command = container.exec(&["/bin/wget", "-q", "-O", "-", &url])?;
    let mut fetch = Running::start(&world.ledger, "wget in the container", &here, command)?;
    wait_for_bytes(&mut fetch, &here, 1 << 20)?;
    switch_to(world, SUBJECT, TOKYO)?;
    fetch.check().context("the download was to outlive the switch: make its file larger")?;
    finish(&mut fetch)?;
    let bytes = content::require_same(&there, &here)?;
    findings.note("a download in the container outlives a switch", format!("{bytes} bytes"), true);
    Ok(())
}
