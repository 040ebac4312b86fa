//! `network.bypass`: what a persona names takes the ordinary way under the workload's own address; everything else goes on
//! to leave under its lease.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use persona_tests::findings::Findings;
use persona_tests::steps::{SUBJECT, view};
use persona_tests::world::{Hook, World};

use super::{PERSONA, check, start};

/// A neighbour beyond the underlay, which no edge leads to.
const NEAR: &str = "192.0.2.1";
const PORT: u16 = 8080;

/// How long a persona's new version may take to be in force, and a connection to come about.
const FORCE_TIME: Duration = Duration::from_secs(20);
const CONNECT_TIME: Duration = Duration::from_secs(1);

#[test]
fn what_a_persona_lets_past_takes_the_ordinary_way() {
    check(Hook::Auto, |world, findings| {
        start(world, findings);
        if findings.all_ok() {
            findings.run("bypass", |findings| bypass(world, findings));
        }
    });
}

fn bypass(world: &World, findings: &mut Findings) -> Result<()> {
    let (underlay, node) = (&world.namespaces.underlay, &world.namespaces.node);
    underlay.ip(&format!("address add {NEAR}/32 dev lo"))?;
    underlay.ip("route add 10.10.1.0/24 via 192.168.77.11")?;
    node.ip("route add 192.0.2.0/24 via 192.168.77.1")?;
    let address: SocketAddr = (NEAR.parse::<IpAddr>()?, PORT).into();
    let listener = underlay.run_inside(|| TcpListener::bind(address))??;
    listener.set_nonblocking(true)?;
    let seen = peer_seen(world, &listener, address)?;
    findings.note("without a bypass list nobody gets there", format!("{seen:?}"), seen.is_none());

    world.apply("bypass.yaml", &format!("{PERSONA}    bypass: [192.0.2.0/24]\n"))?;
    let (start, mut seen) = (Instant::now(), None);
    while seen.is_none() && start.elapsed() < FORCE_TIME {
        seen = peer_seen(world, &listener, address)?;
    }
    let own: IpAddr = "10.10.1.2".parse()?;
    findings.note("with one it does, as itself", format!("{seen:?}"), seen == Some(own));
    let lease = view::lease_of(world, SUBJECT)?;
    let client = view::seen_by_server(world, "w1")?;
    let measured = format!("{}:{}", client.0, client.1);
    findings.note("all else leaves under the lease", measured, view::is_inside(&lease, client));
    Ok(())
}

/// Connects from the workload and says whom the listener sees. None: nobody got there.
fn peer_seen(world: &World, listener: &TcpListener, address: SocketAddr) -> Result<Option<IpAddr>> {
    let connect = || TcpStream::connect_timeout(&address, CONNECT_TIME);
    let Ok(_stream) = world.workload("w1").run_inside(connect)? else { return Ok(None) };
    let (_, peer) = listener.accept().context("the connection is not there")?;
    Ok(Some(peer.ip()))
}
