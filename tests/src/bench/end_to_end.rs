//! Through all four namespaces, in turns: TCP with GSO, small UDP packets, and the round trip of an idle path.

use std::net::UdpSocket;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::chain::{Chain, Kind, SERVER};
use super::measures::Run;
use super::processor;
use super::row::{Better, Goal, Row};
use super::samples::Samples;
use crate::netns::Namespace;
use crate::process::Running;
use crate::sys;

/// Seconds of one iperf3 run.
const SECONDS: &str = "2";
/// Payload bytes of small datagrams.
const DATAGRAM_BYTES: u32 = 64;
/// Echoes of one run, and the time between two.
const ECHO_COUNT: u16 = 500;
const ECHO_INTERVAL: Duration = Duration::from_millis(2);
/// How long an echo may take.
const ECHO_TIME: Duration = Duration::from_secs(1);
/// ICMP's type of a request.
const ECHO_REQUEST: u8 = 8;
/// How long a server may take to listen.
const LISTEN_TRIES: u32 = 100;

pub(super) const PLAIN: &str = "plain forwarding";
const KERNEL: &str = "rule + vxlan + nftables SNAT + HTB";

/// TCP goodput, unshaped, upwards and downwards, and what the machine worked for it.
pub fn tcp(run: &Run<'_>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (direction, options) in [("up", &[][..]), ("down", &["--reverse"])] {
        let [[plain, kernel, ours], [plain_work, kernel_work, our_work]] = in_turns(run, "tcp", |chain| {
            let before = processor::busy_secs()?;
            let end = transfer(chain, options)?;
            let worked = processor::busy_secs()? - before;
            let received = |key: &str| end["sum_received"][key].as_f64().with_context(|| format!("no {key}"));
            Ok([received("bits_per_second")? / 1e9, worked / (received("bytes")? / 1e9)])
        })?;
        let row = |peer: &str| Row::new(format!("tcp-{direction}/beside-{peer}"), "Gbit/s", Better::More, ours.clone());
        rows.push(row("plain").beside(PLAIN, plain).reach(Goal::TimesPeer(0.95)));
        rows.push(row("kernel").beside(KERNEL, kernel).reach(Goal::TimesPeer(1.1)));
        let row = |peer: &str| Row::new(format!("tcp-{direction}/work-{peer}"), "s/GB", Better::Less, our_work.clone());
        rows.push(row("plain").beside(PLAIN, plain_work));
        rows.push(row("kernel").beside(KERNEL, kernel_work));
    }
    Ok(rows)
}

/// What iperf3 says of one TCP connection at its end.
fn transfer(chain: &Chain, options: &[&str]) -> Result<Value> {
    iperf(chain, &[&["--time", SECONDS, "--congestion", "cubic"], options].concat())
}

/// Gbit/s of one TCP connection.
pub(super) fn goodput(chain: &Chain, options: &[&str]) -> Result<f64> {
    let end = transfer(chain, options)?;
    end["sum_received"]["bits_per_second"].as_f64().map(|bps| bps / 1e9).context("no rate")
}

/// Small UDP packets, as fast as one sender makes them.
pub fn udp(run: &Run<'_>) -> Result<Vec<Row>> {
    let [[plain, kernel, ours]] = in_turns(run, "udp", |chain| {
        let length = DATAGRAM_BYTES.to_string();
        let end = iperf(chain, &["--time", SECONDS, "--udp", "--bitrate", "0", "--length", &length])?;
        let sum = &end["sum"];
        let number = |key: &str| sum[key].as_f64().with_context(|| format!("no {key} in {sum}"));
        let received = number("packets")? - number("lost_packets")?;
        Ok([received * f64::from(DATAGRAM_BYTES) * 8.0 / number("seconds")? / 1e6])
    })?;
    let row = |peer: &str| Row::new(format!("udp/beside-{peer}"), "Mbit/s", Better::More, ours.clone());
    Ok(vec![row("plain").beside(PLAIN, plain), row("kernel").beside(KERNEL, kernel).reach(Goal::TimesPeer(1.5))])
}

/// What the way adds to the round trip of plain forwarding, both idle.
pub fn rtt(run: &Run<'_>) -> Result<Vec<Row>> {
    let [[plain, kernel, ours]] = in_turns(run, "rtt", |chain| Ok([round_trip(chain)?]))?;
    let added = ours.minus(&plain);
    Ok(vec![
        Row::new("rtt/added-to-plain", "µs", Better::Less, added)
            .beside(KERNEL, kernel.minus(&plain))
            .reach(Goal::AtMost(0.5)),
        Row::new("rtt/whole", "µs", Better::Less, ours).beside(PLAIN, plain),
    ])
}

/// Measures `N` quantities on each chain in turn, round by round; those of a quantity are in the order of [`Kind::IN_CLEAR`].
fn in_turns<const N: usize>(
    run: &Run<'_>,
    name: &str,
    measure: impl Fn(&Chain) -> Result<[f64; N]>,
) -> Result<[[Samples; 3]; N]> {
    let samples = in_turns_of(run, name, &Kind::IN_CLEAR, measure)?;
    let of_kind = |kind: usize, quantity: usize| samples[kind][quantity].clone();
    Ok(std::array::from_fn(|quantity| std::array::from_fn(|kind| of_kind(kind, quantity))))
}

/// The same on a chain of each of these kinds; all quantities of a kind stand together.
pub(super) fn in_turns_of<const N: usize>(
    run: &Run<'_>,
    name: &str,
    kinds: &[Kind],
    measure: impl Fn(&Chain) -> Result<[f64; N]>,
) -> Result<Vec<[Samples; N]>> {
    run.say(&format!("{name}: chains of namespaces are built"));
    let mut chains = Vec::new();
    for kind in kinds.iter().copied() {
        let chain = Chain::build(run, kind)?;
        let server = serve(run, &chain.server, &chain.log("iperf3.log"))?;
        chains.push((chain, server));
    }
    let mut samples: Vec<[Samples; N]> = kinds.iter().map(|_| std::array::from_fn(|_| Samples::default())).collect();
    for round in 0..run.rounds {
        for ((chain, _), samples) in chains.iter().zip(&mut samples) {
            run.say(&format!("{name}: {}, round {} of {}", chain.kind.name(), round + 1, run.rounds));
            let values = measure(chain).with_context(|| format!("{name}, {}", chain.kind.name()))?;
            samples.iter_mut().zip(values).for_each(|(samples, value)| samples.push(value));
        }
        run.step();
    }
    // Servers end before their namespaces.
    for (_, mut server) in chains.drain(..) {
        server.kill()?;
    }
    run.ledger.undo_all().into_iter().for_each(|failure| eprintln!("clean-up: {failure}"));
    Ok(samples)
}

/// iperf3's server on a host, listening; what it says goes to `log`.
pub(super) fn serve(run: &Run<'_>, host: &Namespace, log: &Path) -> Result<Running> {
    let mut command = host.command("iperf3")?;
    command.args(["--server", "--interval", "0"]);
    let server = Running::start(run.ledger, "iperf3's server", log, command)?;
    for _ in 0..LISTEN_TRIES {
        let output = host.command("ss")?.args(["-Hltn", "sport", "=", ":5201"]).output()?;
        if !output.stdout.is_empty() {
            return Ok(server);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    bail!("iperf3's server does not listen")
}

/// What iperf3 says at its end.
fn iperf(chain: &Chain, options: &[&str]) -> Result<Value> {
    let mut command = chain.client.command("iperf3")?;
    command.args(["--client", &SERVER.to_string(), "--json", "--connect-timeout", "3000", "--interval", "0"]);
    let output = command.args(options).output().context("iperf3 does not start")?;
    let json: Value = serde_json::from_slice(&output.stdout).context("iperf3 printed no JSON")?;
    match json["error"].as_str() {
        Some(error) => bail!("iperf3: {error}"),
        None => Ok(json["end"].clone()),
    }
}

/// The median round trip of echoes as `ping` sends them, microseconds; `ping` itself tells whole ones only.
fn round_trip(chain: &Chain) -> Result<f64> {
    // Root too has to be told that it may.
    chain.client.write_sysctl("net/ipv4/ping_group_range", "0 0")?;
    let socket = chain.client.run_inside(sys::ping_socket)?.context("no socket for echoes")?;
    socket.connect((SERVER, 0))?;
    socket.set_read_timeout(Some(ECHO_TIME))?;
    let mut times = Vec::new();
    for number in 0..ECHO_COUNT {
        std::thread::sleep(ECHO_INTERVAL);
        times.push(echo(&socket, number).with_context(|| format!("echo {number}"))?);
    }
    times.sort();
    Ok(times[times.len() / 2].as_secs_f64() * 1e6)
}

/// Sends one and waits for its answer; id and checksum are the kernel's.
fn echo(socket: &UdpSocket, number: u16) -> Result<Duration> {
    let mut packet = [0; 64];
    packet[0] = ECHO_REQUEST;
    packet[6..8].copy_from_slice(&number.to_be_bytes());
    let (mut answer, start) = ([0; 64], Instant::now());
    socket.send(&packet)?;
    let length = socket.recv(&mut answer)?;
    let time = start.elapsed();
    ensure!(length == packet.len() && answer[0] == 0 && answer[6..] == packet[6..], "another answer came");
    Ok(time)
}
