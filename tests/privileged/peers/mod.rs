//! Real peers as traffic through a whole cluster: manager, agent and edges as processes, servers and clients that others
//! wrote at both ends. Each test looks at what arrived and at who the server says its client is.

mod activation;
mod appearance;
pub(crate) mod container;
mod dns;
mod frr;
mod guard;
pub(crate) mod guest;
mod guest_addresses;
mod guest_inside;
mod http;
mod http3;
pub(crate) mod interop;
mod interop_netem;
mod iperf;
mod limits;
mod oci;
mod own_metrics;
mod security;
mod ssh;
mod stun;

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use persona_core::wire::api::{Explanation, LeaseView};
use persona_tests::findings::Findings;
use persona_tests::process::Running;
use persona_tests::steps::view;
use persona_tests::world::{Hook, World};

use crate::cluster;

/// How long a transfer may take, and its start.
const TRANSFER_TIME: Duration = Duration::from_secs(60);

/// How long a subject that comes late may take to get its persona.
const START_TIME: Duration = Duration::from_secs(20);

/// Builds a world, brings the cluster up, and lets the test act in it.
fn in_cluster(name: &str, test: impl FnOnce(&mut World, &mut Findings) -> Result<()>) {
    in_cluster_with(name, |_| {}, test);
}

/// The same, with a world that is prepared before the cluster comes up.
fn in_cluster_with(
    name: &str,
    prepare: impl FnOnce(&mut World),
    test: impl FnOnce(&mut World, &mut Findings) -> Result<()>,
) {
    cluster::check(Hook::Auto, |world, findings| {
        prepare(world);
        cluster::start(world, findings);
        if findings.all_ok() {
            findings.run(name, |findings| test(world, findings));
            findings.run("the roles", |_| world.check_processes());
        }
    });
}

/// Waits until a subject that came late wears its persona, and gives its lease.
fn wait_for_lease(world: &World, subject: &str) -> Result<LeaseView> {
    let in_force = |answer: &Explanation| answer.assignment.in_force && answer.lease.is_some();
    let arguments = ["explain", subject];
    let (explanation, _) = world.ctl.wait_for("the persona to be in force", &arguments, START_TIME, in_force)?;
    explanation.lease.context("waited for it")
}

/// Runs a command to its end and returns what it printed; fails with everything that it said.
fn output_of(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?} does not start"))?;
    if !output.status.success() {
        bail!("{command:?} ended with {}: {}", output.status, said(&output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn said(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).trim().to_owned()
}

/// Notes whether the client that a server saw lies in a lease.
fn note_client(findings: &mut Findings, what: &str, seen: &str, lease: &LeaseView) {
    let client = view::parse_client(seen);
    let expected = format!("{what}: the server sees {}", view::describe(lease));
    findings.note(expected, seen.trim(), client.is_some_and(|client| view::is_inside(lease, client)));
}

/// Waits until a transfer has brought so many bytes into a file.
fn wait_for_bytes(transfer: &mut Running, file: &Path, bytes: u64) -> Result<()> {
    let start = Instant::now();
    while std::fs::metadata(file).map_or(0, |metadata| metadata.len()) < bytes {
        transfer.check()?;
        if start.elapsed() > TRANSFER_TIME {
            bail!("{} did not bring {bytes} bytes within {TRANSFER_TIME:?}", transfer.name);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Waits for the end of a transfer that must succeed.
fn finish(transfer: &mut Running) -> Result<()> {
    match transfer.wait(TRANSFER_TIME)? {
        Some(status) if status.success() => Ok(()),
        Some(status) => bail!("{} ended with {status}: {}", transfer.name, transfer.log_tail()),
        None => bail!("{} did not end within {TRANSFER_TIME:?}", transfer.name),
    }
}
