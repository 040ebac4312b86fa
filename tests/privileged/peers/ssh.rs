//! OpenSSH: a session that goes on and a copy of 50 MB, across a persona switch and the death of an edge.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use persona_tests::findings::Findings;
use persona_tests::peers::content;
use persona_tests::peers::openssh::Ssh;
use persona_tests::process::Running;
use persona_tests::steps::switch::switch_to;
use persona_tests::steps::{SUBJECT, TOKYO, view};
use persona_tests::world::{INTERNET_ADDRESS, World};

use super::{finish, in_cluster, note_client, output_of, wait_for_bytes};

/// Bytes that are copied down: about five seconds at the persona's 80 Mbit/s.
const COPY_BYTES: usize = 50_000_000;

/// Bytes that are copied up afterwards.
const UP_BYTES: usize = 4 << 20;

/// Lines that the session prints until a file appears, and the pause between two.
const SESSION: &str = "echo $SSH_CONNECTION; i=0; while [ ! -e STOP ]; do echo line $i; i=$((i+1)); sleep 0.05; done";

#[test]
fn ssh_sessions_and_copies_survive_a_switch_and_an_edges_death() {
    in_cluster("SSH", |world, findings| {
        let ssh = Ssh::start(&world.ledger, &world.namespaces.internet, &world.folder, INTERNET_ADDRESS)?;
        let lease = view::lease_of(world, SUBJECT)?;
        let said = output_of(&mut ssh.ssh(world.workload("w1"), "echo $SSH_CONNECTION")?)?;
        note_client(findings, "a command by ssh", &client_of(&said)?, &lease);
        session_and_copy(world, &ssh, findings)?;
        copy_up(world, &ssh, findings)
    });
}

fn session_and_copy(world: &mut World, ssh: &Ssh, findings: &mut Findings) -> Result<()> {
    let old = view::lease_of(world, SUBJECT)?;
    let stop = world.path("ssh/stop");
    let script = SESSION.replace("STOP", &stop.display().to_string());
    let command = ssh.ssh(world.workload("w1"), &script)?;
    let mut session = Running::start(&world.ledger, "ssh", &world.path("session.log"), command)?;
    let (there, here) = (world.path("ssh/data"), world.path("data.copy"));
    content::write(&there, COPY_BYTES, 41)?;
    let command = ssh.scp_down(world.workload("w1"), &there, &here)?;
    let mut copy = Running::start(&world.ledger, "scp", &world.path("scp.log"), command)?;

    wait_for_bytes(&mut copy, &here, 4 << 20)?;
    switch_to(world, SUBJECT, TOKYO)?;
    let victim = view::carrying_edge(world, "out0")?;
    world.kill_edge(&victim)?;
    copy.check().context("the copy was to outlive the switch and the death: make its file larger")?;
    finish(&mut copy)?;
    let bytes = content::require_same(&there, &here)?;
    findings.note("scp survives a switch and an edge's death", format!("{bytes} bytes, {victim} died"), true);

    std::thread::sleep(Duration::from_millis(300)); // a few more lines through the edge that is left
    std::fs::write(&stop, "")?;
    finish(&mut session)?;
    let text = std::fs::read_to_string(&session.log)?;
    let (client, lines) = text.split_once('\n').context("the session printed nothing")?;
    note_client(findings, "the session", &client_of(client)?, &old);
    let is_whole = lines.lines().enumerate().all(|(number, line)| line == format!("line {number}"));
    findings.note("the session missed no line", format!("{} lines", lines.lines().count()), is_whole);
    Ok(())
}

/// After the switch, with what is left of the edges.
fn copy_up(world: &World, ssh: &Ssh, findings: &mut Findings) -> Result<()> {
    let (here, there) = (world.path("up"), world.path("ssh/up"));
    content::write(&here, UP_BYTES, 43)?;
    output_of(&mut ssh.scp_up(world.workload("w1"), &here, &there)?)?;
    let bytes = content::require_same(&here, &there)?;
    findings.note("scp copies up under the new persona", format!("{bytes} bytes"), true);
    let said = output_of(&mut ssh.ssh(world.workload("w1"), "echo $SSH_CONNECTION")?)?;
    note_client(findings, "a new session", &client_of(&said)?, &view::lease_of(world, SUBJECT)?);
    Ok(())
}

/// The client's address and port from `CLIENT PORT SERVER PORT`.
fn client_of(connection: &str) -> Result<String> {
    let words: Vec<&str> = connection.split_whitespace().collect();
    match words.as_slice() {
        [address, port, _, _] => Ok(format!("{address} {port}")),
        _ => bail!("sshd says {connection:?} about its connection"),
    }
}
