//! The steps of the demo, which are the whole-system tests too: each acts in the world and notes what it measured.

pub mod detach;
pub mod egress;
pub mod failover;
pub mod rates;
pub mod registration;
pub mod request;
pub mod restarts;
pub mod switch;
pub mod view;

use anyhow::Result;

use crate::findings::Findings;
use crate::kernel::Snapshot;
use crate::world::World;

/// The demo's default persona (see `fixtures/demo.yaml`).
pub const FRANKFURT: &str = "frankfurt-standard";
/// The default persona without rates, to which tests add a line of their own below `network`, or below `spec`.
pub const UNSHAPED: &str = r"
apiVersion: persona/v1
kind: Persona
metadata: { name: frankfurt-standard, labels: { tier: standard } }
spec:
  capabilities: [european]
  network:
    egress: { pools: [frankfurt], portsPerSubject: 2048 }
    mtu: 1400
    protocols: [tcp, udp, icmp]
    edges: { group: frankfurt }
";
/// Another one of the same place, with a DSCP.
pub const FRANKFURT_LOW_LATENCY: &str = "frankfurt-low-latency";
/// One of another place, with edges and addresses of its own.
pub const TOKYO: &str = "tokyo-standard";

/// Rates of the demo's personas, inner bits per second.
const EGRESS_BPS: f64 = 40e6;
const INGRESS_BPS: f64 = 80e6;

/// The subject that most steps are about.
pub const SUBJECT: &str = "workload/n1/w1";

/// Runs all steps in order. A step that breaks off does not keep the others from running.
pub fn run_all(world: &mut World, kill_count: u32, findings: &mut Findings) -> Result<()> {
    let before = Snapshot::take_settled(&world.namespaces.all())?;
    findings.run("1 registration", |findings| registration::run(world, findings));
    if !findings.all_ok() {
        return Ok(()); // nothing that follows could say anything
    }
    findings.run("2 egress", |findings| egress::run(world, findings));
    findings.run("3 rates", |findings| rates::run(world, findings));
    findings.run("4 switch", |findings| switch::run(world, findings));
    findings.run("5 edge death", |findings| failover::run(world, kill_count, findings));
    findings.run("6 request", |findings| request::run(world, findings));
    findings.run("7 restarts", |findings| restarts::run(world, findings));
    findings.run("8 detach", |findings| detach::run(world, &before, findings));
    Ok(())
}
