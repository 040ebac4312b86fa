//! iperf3: TCP and UDP, up and down, under the lease; a TCP run that outlives a persona switch and an edge's death.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use persona_tests::findings::Findings;
use persona_tests::load::iperf::{self, Server};
use persona_tests::process::Running;
use persona_tests::steps::switch::switch_to;
use persona_tests::steps::{SUBJECT, TOKYO, view};
use persona_tests::world::{INTERNET_ADDRESS, World};
use serde_json::Value;

use super::{finish, in_cluster, note_client};

/// How long the run that is disturbed may take until it moves bytes.
const WARM_UP_TIME: Duration = Duration::from_millis(1_500);

#[test]
fn iperf3_runs_both_ways_over_tcp_and_udp_and_survives_an_edges_death() {
    in_cluster("iperf3", |world, findings| {
        for options in [&["-t", "1"][..], &["-t", "1", "-R"], &["-t", "1", "-P", "4"]] {
            let run = Run::start(world, options)?;
            run.judge(world, findings, &format!("TCP {}", options.join(" ")))?;
        }
        // Under the persona's rates, so that the queues have nothing to drop.
        for options in
            [&["-u", "-b", "10M", "-l", "1200", "-t", "1"][..], &["-u", "-b", "10M", "-l", "1200", "-t", "1", "-R"]]
        {
            let run = Run::start(world, options)?;
            run.judge(world, findings, &format!("UDP {}", options.join(" ")))?;
        }
        disturbed(world, findings)
    });
}

/// The client and the server of one run.
struct Run {
    client: Running,
    server: Server,
}

impl Run {
    fn start(world: &World, options: &[&str]) -> Result<Self> {
        let server = Server::start(world)?;
        let mut command: Command = world.workload("w1").command("iperf3")?;
        command.args(["--client", INTERNET_ADDRESS, "--port", iperf::PORT, "--json", "--connect-timeout", "5000"]);
        let log = world.path("iperf3-client.json");
        std::fs::remove_file(&log).ok(); // the last run's; this one is appended
        command.args(options);
        let client = Running::start(&world.ledger, "iperf3", &log, command)?;
        Ok(Self { client, server })
    }

    /// Waits for its end; the server's control connection and every stream must show the lease of the run's beginning.
    fn judge(mut self, world: &World, findings: &mut Findings, what: &str) -> Result<()> {
        let lease = view::lease_of(world, SUBJECT)?;
        let end = self.end()?;
        self.note(findings, what, &end, &lease)
    }

    fn end(&mut self) -> Result<Value> {
        finish(&mut self.client)?;
        let text = std::fs::read_to_string(&self.client.log)?;
        let json: Value = serde_json::from_str(&text).with_context(|| format!("iperf3 printed no JSON: {text}"))?;
        if let Some(error) = json["error"].as_str() {
            bail!("iperf3: {error}");
        }
        Ok(json["end"].clone())
    }

    fn note(
        self,
        findings: &mut Findings,
        what: &str,
        end: &Value,
        lease: &persona_core::wire::api::LeaseView,
    ) -> Result<()> {
        for client in self.server.clients()? {
            note_client(findings, what, &client, lease);
        }
        let sum = if end["sum_received"].is_object() { &end["sum_received"] } else { &end["sum"] };
        let count = |name: &str| sum[name].as_u64().unwrap_or(0);
        let (bytes, packets, lost) = (count("bytes"), count("packets"), count("lost_packets"));
        let measured = format!("{bytes} bytes, {lost} of {packets} packets lost");
        // A busy machine lets the receiver's socket overflow, so that no exact number can be asked for here.
        findings.note(format!("{what}: the payload arrives"), measured, bytes > 0 && lost * 2 <= packets);
        Ok(())
    }
}

fn disturbed(world: &mut World, findings: &mut Findings) -> Result<()> {
    let lease = view::lease_of(world, SUBJECT)?;
    let mut run = Run::start(world, &["-t", "5", "-R"])?;
    std::thread::sleep(WARM_UP_TIME);
    switch_to(world, SUBJECT, TOKYO)?;
    let victim = view::carrying_edge(world, "out0")?;
    world.kill_edge(&victim)?;
    run.client.check().context("the run was to outlive the switch and the death")?;
    let end = run.end()?;
    run.note(findings, &format!("TCP down across a switch and the death of {victim}"), &end, &lease)
}
