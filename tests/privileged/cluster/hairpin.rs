//! Two workloads that know each other only by their egress addresses, on one node and on two, with different inner
//! addresses and with the same: UDP, TCP and errors between them, of both families (RFC 4787 REQ-9, RFC 5382 REQ-8,
//! RFC 5508 REQ-7, RFC 6296 §3).

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use persona_core::wire::api::Explanation;
use persona_tests::ctl::patient;
use persona_tests::findings::Findings;
use persona_tests::netns::Namespace;
use persona_tests::peers::coturn;
use persona_tests::world::{Families, Hook, INTERNET_ADDRESS, INTERNET_ADDRESS6, SECOND_NODE, WorkloadPlace, World};
use tokio::net::TcpSocket;

use super::{check_with, start};

/// A workload of another node, which has the very addresses that w1 has on its own (RFC 4787 REQ-7).
const TWIN: WorkloadPlace = WorkloadPlace {
    name: "w3",
    address: "10.10.1.2",
    gateway: "10.10.1.1",
    address6: "fd00:10:10:1::2",
    gateway6: "fd00:10:10:1::1",
};

/// Where the internet host says to a datagram's sender who it is.
const MIRROR_PORT: u16 = 7779;

/// The port on which a workload is called.
const SERVICE_PORT: u16 = 41_000;

/// The internet host's second address, which a STUN server needs.
const SECOND_ADDRESS: &str = "198.51.100.11";

/// How long what a step waits for may take.
const STEP_TIME: Duration = Duration::from_secs(15);

/// How long a packet may take.
const ANSWER_TIME: Duration = Duration::from_secs(2);

#[test]
fn workloads_reach_each_other_by_their_egress_addresses() {
    check_with(Hook::Auto, Families::BothOverIpv4, |world, findings| {
        start(world, findings);
        if !findings.all_ok() {
            return; // nothing that follows could say anything
        }
        findings.run("another node", |_| {
            world.add_node(SECOND_NODE, &[TWIN])?;
            wait_for_leases(world, "workload/n2/w3")
        });
        for target in ["w2", "w3"] {
            for server in [INTERNET_ADDRESS, INTERNET_ADDRESS6] {
                let family = if server.contains(':') { "IPv6" } else { "IPv4" };
                let step = format!("w1 to {target}, {family}");
                findings.run(&step, |findings| {
                    let server = server.parse()?;
                    datagrams_and_errors(world, target, server, findings)?;
                    connections(world, target, server, findings)
                });
            }
        }
        findings.run("STUN", |findings| a_client_hears_itself(world, findings));
        findings.run("the processes", |_| world.check_processes());
    });
}

fn datagrams_and_errors(world: &World, target: &str, server: IpAddr, findings: &mut Findings) -> Result<()> {
    let mirror = open(&world.namespaces.internet, SocketAddr::new(server, MIRROR_PORT))?;
    let service = open(world.workload(target), any(server, 0))?;
    let client = open(world.workload("w1"), any(server, 0))?;
    let called = seen_by(&mirror, &service)?;
    let caller = seen_by(&mirror, &client)?;
    world.workload("w1").run_inside(|| client.connect(called))??;
    client.send(b"over there")?;
    let (_, from) = service.recv_from(&mut [0; 64]).context("the other workload hears nothing")?;
    let measured = format!("{from} calls {called}");
    findings.note(format!("a datagram comes from the caller's egress address {caller}"), measured, from == caller);
    service.send_to(b"and back", from)?;
    let length = client.recv(&mut [0; 64]).context("no answer from the address that was called")?;
    findings.note("the answer comes from the address that was called", format!("{length} bytes"), length == 8);

    drop(service);
    let deadline = Instant::now() + patient(STEP_TIME);
    let refusal = loop {
        client.send(b"still there?").ok();
        match client.recv(&mut [0; 64]) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => break error,
            _ if Instant::now() > deadline => bail!("no port unreachable comes back"),
            _ => {}
        }
    };
    findings.note("with nobody there any more, port unreachable comes back", refusal.to_string(), true);
    Ok(())
}

fn connections(world: &World, target: &str, server: IpAddr, findings: &mut Findings) -> Result<()> {
    let there = world.workload(target);
    // The port of the mapping is the one that listens, as peer-to-peer applications do it.
    let (listener, outward) = there.run_inside(|| listen_and_connect(server))??;
    let called = seen_by_nginx(&outward)?;
    let stream = world.workload("w1").run_inside(|| TcpStream::connect_timeout(&called, STEP_TIME))??;
    let (mut accepted, from) = listener.accept()?;
    let own = seen_by_nginx(&world.workload("w1").run_inside(|| TcpStream::connect((server, 80)))??)?;
    let measured = format!("{from} calls {called}");
    let expected = format!("a connection comes from the caller's egress address {}", own.ip());
    findings.note(expected, measured, from.ip() == own.ip());

    let sent: Vec<u8> = (0..1_000_000).map(|at| (at / 7) as u8).collect();
    let copy = sent.clone();
    let sender = std::thread::spawn(move || accepted.write_all(&copy));
    let mut received = Vec::new();
    stream.set_read_timeout(Some(STEP_TIME))?;
    (&stream).take(sent.len() as u64).read_to_end(&mut received)?;
    sender.join().expect("the sender does not panic")?;
    findings.note("a megabyte comes whole", format!("{} bytes", received.len()), received == sent);
    Ok(())
}

/// A STUN client sends to its own egress address.
fn a_client_hears_itself(world: &World, findings: &mut Findings) -> Result<()> {
    let internet = &world.namespaces.internet;
    internet.add_address("eth0", &format!("{SECOND_ADDRESS}/24"))?;
    let _server = coturn::start(&world.ledger, internet, &world.folder, [INTERNET_ADDRESS, SECOND_ADDRESS])?;
    let found = coturn::discover(world.workload("w1"), INTERNET_ADDRESS, &["-H"])?;
    findings.note("the client finds hairpinning", found.text.trim(), found.text.contains("successful hairpinning"));
    Ok(())
}

/// Who a socket is to the internet.
fn seen_by(mirror: &UdpSocket, socket: &UdpSocket) -> Result<SocketAddr> {
    socket.send_to(b"who am I?", mirror.local_addr()?)?;
    let (_, from) = mirror.recv_from(&mut [0; 64]).context("the internet host hears nothing")?;
    Ok(from)
}

/// Who a connection is to nginx.
fn seen_by_nginx(mut stream: &TcpStream) -> Result<SocketAddr> {
    stream.write_all(b"GET /whoami HTTP/1.1\r\nHost: internet\r\n\r\n")?;
    stream.set_read_timeout(Some(STEP_TIME))?;
    let mut bytes = vec![0; 4_096];
    let length = stream.read(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.trim());
    let (address, port) = body.and_then(|body| body.split_once(' ')).with_context(|| format!("nginx says {text:?}"))?;
    Ok(SocketAddr::new(address.parse()?, port.parse()?))
}

/// A listener, and a connection to nginx from the same port, in the calling thread's namespace.
fn listen_and_connect(server: IpAddr) -> Result<(TcpListener, TcpStream)> {
    let shared = || -> Result<TcpSocket> {
        let socket = if server.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(true)?;
        socket.bind(any(server, SERVICE_PORT))?;
        Ok(socket)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (listener, outward) = runtime.block_on(async {
        let listener = shared()?.listen(8)?.into_std()?;
        let outward = shared()?.connect(SocketAddr::new(server, 80)).await?.into_std()?;
        anyhow::Ok((listener, outward))
    })?;
    listener.set_nonblocking(false)?;
    outward.set_nonblocking(false)?;
    Ok((listener, outward))
}

fn open(inside: &Namespace, address: SocketAddr) -> Result<UdpSocket> {
    let socket = inside.run_inside(|| UdpSocket::bind(address))??;
    socket.set_read_timeout(Some(ANSWER_TIME))?;
    Ok(socket)
}

fn any(like: IpAddr, port: u16) -> SocketAddr {
    let any: &str = if like.is_ipv4() { "0.0.0.0" } else { "::" };
    SocketAddr::new(any.parse().expect("a constant address"), port)
}

fn wait_for_leases(world: &World, subject: &str) -> Result<()> {
    let has_both =
        |answer: &Explanation| answer.assignment.in_force && answer.lease.is_some() && answer.lease6.is_some();
    world.ctl.wait_for("leases of both families", &["explain", subject], STEP_TIME, has_both)?;
    Ok(())
}
