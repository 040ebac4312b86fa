//! iperf3 runs between a workload and the internet host.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::process::Running;
use crate::world::{INTERNET_ADDRESS, World};

/// Payload bytes of a datagram.
const UDP_PAYLOAD_BYTES: u32 = 1_200;

/// The server's port.
pub const PORT: &str = "5201";

/// How long a server may take to end after its only client has gone.
const SERVER_END_TIME: Duration = Duration::from_secs(20);

/// A server for one run.
#[derive(Debug)]
pub struct Server(Running);

impl Server {
    /// Starts one on the internet host and waits until it listens.
    pub fn start(world: &World) -> Result<Self> {
        let mut command = world.namespaces.internet.command("iperf3")?;
        command.args(["--server", "--one-off", "--json", "--port", PORT]);
        let log = world.path("iperf3-server.json");
        std::fs::remove_file(&log).ok(); // the last run's; this one is appended
        let server = Running::start(&world.ledger, "iperf3's server", &log, command)?;
        wait_for_listener(world)?;
        Ok(Self(server))
    }

    /// Waits for its end; the `ADDRESS PORT` of every connection that it had: the control connection and the streams.
    pub fn clients(mut self) -> Result<Vec<String>> {
        self.0.wait(SERVER_END_TIME)?;
        let text = std::fs::read_to_string(&self.0.log)?;
        let json: Value = serde_json::from_str(&text).with_context(|| format!("iperf3's server printed {text:?}"))?;
        let start = &json["start"];
        let control = (&start["accepted_connection"]["host"], &start["accepted_connection"]["port"]);
        let streams = start["connected"].as_array().into_iter().flatten();
        let all =
            std::iter::once(control).chain(streams.map(|stream| (&stream["remote_host"], &stream["remote_port"])));
        let words = all.map(|(host, port)| Some(format!("{} {}", host.as_str()?, port.as_u64()?)));
        words.collect::<Option<_>>().with_context(|| format!("iperf3's server names no client: {start}"))
    }
}

/// Which way the payload goes, seen from the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the internet.
    Up,
    /// From the internet.
    Down,
}

/// What carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// One TCP connection, as fast as it gets.
    Tcp,
    /// UDP, offered at this rate.
    Udp {
        /// Payload bits per second.
        offered_bps: u64,
    },
}

/// What a run gave.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// Payload that was received, bits per second.
    pub received_bps: f64,
    /// TCP segments sent again.
    pub retransmits: u64,
    /// How long the payload ran, seconds.
    pub seconds: f64,
}

/// Runs iperf3 for some seconds.
pub fn run(world: &World, workload: &str, direction: Direction, carrier: Carrier, seconds: u32) -> Result<Run> {
    let mut server = Server::start(world)?;
    let mut client = world.workload(workload).command("iperf3")?;
    client.args(["--client", INTERNET_ADDRESS, "--port", PORT, "--json", "--connect-timeout", "3000"]);
    client.args(["--time", &seconds.to_string()]);
    if direction == Direction::Down {
        client.arg("--reverse");
    }
    if let Carrier::Udp { offered_bps } = carrier {
        let (rate, length) = (offered_bps.to_string(), UDP_PAYLOAD_BYTES.to_string());
        client.args(["--udp", "--bitrate", &rate, "--length", &length]);
    }
    let output = client.output().context("iperf3 does not start")?;
    server.0.wait(SERVER_END_TIME)?;
    let json: Value = serde_json::from_slice(&output.stdout).context("iperf3 printed no JSON")?;
    if let Some(error) = json["error"].as_str() {
        bail!("iperf3 {direction:?} {carrier:?}: {error}");
    }
    read_run(&json["end"], carrier).with_context(|| format!("iperf3's answer lacks a figure: {}", json["end"]))
}

fn read_run(end: &Value, carrier: Carrier) -> Option<Run> {
    match carrier {
        Carrier::Tcp => Some(Run {
            received_bps: end["sum_received"]["bits_per_second"].as_f64()?,
            retransmits: end["sum_sent"]["retransmits"].as_u64().unwrap_or(0),
            seconds: end["sum_received"]["seconds"].as_f64()?,
        }),
        Carrier::Udp { .. } => {
            let sum = &end["sum"];
            let received = sum["packets"].as_f64()? - sum["lost_packets"].as_f64()?;
            let seconds = sum["seconds"].as_f64()?;
            Some(Run { received_bps: received * f64::from(UDP_PAYLOAD_BYTES) * 8.0 / seconds, retransmits: 0, seconds })
        }
    }
}

fn wait_for_listener(world: &World) -> Result<()> {
    for _ in 0..100 {
        let mut command = world.namespaces.internet.command("ss")?;
        let output = command.args(["-Hltn", "sport", "=", &format!(":{PORT}")]).output()?;
        if !output.stdout.is_empty() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    bail!("iperf3's server does not listen on port {PORT}")
}
