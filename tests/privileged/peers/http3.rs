//! HTTP/3: one QUIC connection that asks, uploads and downloads across a persona switch and the death of an edge, and
//! that its server sees at one address and port all the time. QUIC would survive a new address too, by migrating: the
//! test asks that it never has to. Both ends are quinn and h3, since no packaged client speaks HTTP/3.

mod client;
mod server;

use std::time::Duration;

use anyhow::Result;
use persona_tests::findings::Findings;
use persona_tests::steps::switch::switch_to;
use persona_tests::steps::{SUBJECT, TOKYO, view};
use persona_tests::world::World;

use super::{in_cluster, note_client};
use client::Client;
use server::Server;

/// Bytes that go down, about three seconds at the persona's 80 Mbit/s, and up.
const DOWN_BYTES: u64 = 28 << 20;
const UP_BYTES: u64 = 3 << 20;

/// How long the first bytes of a download may take.
const WARM_UP_TIME: Duration = Duration::from_secs(20);

#[test]
fn http_3_keeps_its_connection_across_a_switch_and_an_edges_death() {
    in_cluster("HTTP/3", |world, findings| {
        let server = Server::start(&world.namespaces.internet)?;
        connection_across_both(world, &server, findings)?;
        let lease = view::lease_of(world, SUBJECT)?;
        let outcome = Client::start(world.workload("w1"), &server.certificate, 1 << 20, 1 << 10)?.finish()?;
        note_client(findings, "a new connection", &outcome.first_client, &lease);
        Ok(())
    });
}

fn connection_across_both(world: &mut World, server: &Server, findings: &mut Findings) -> Result<()> {
    let lease = view::lease_of(world, SUBJECT)?;
    let client = Client::start(world.workload("w1"), &server.certificate, DOWN_BYTES, UP_BYTES)?;
    client.wait_for_bytes(4 << 20, WARM_UP_TIME)?;
    switch_to(world, SUBJECT, TOKYO)?;
    let victim = view::carrying_edge(world, "out0")?;
    world.kill_edge(&victim)?;
    let at_death = client.bytes();
    let outcome = client.finish()?;
    let measured = format!("{} bytes right, {victim} died at {at_death}", outcome.down_bytes);
    let was_during = at_death < DOWN_BYTES;
    findings.note("a download survives a switch and an edge's death", measured, was_during);
    let expected = format!("an upload on the same connection: {UP_BYTES} bytes right");
    findings.note(expected, &outcome.upload, outcome.upload == format!("{UP_BYTES} bytes right"));
    note_client(findings, "at the beginning", &outcome.first_client, &lease);
    let is_same = outcome.first_client == outcome.last_client;
    findings.note("at the end the server sees the same", outcome.last_client, is_same);
    Ok(())
}
