//! Keys of encrypted tunnels change while traffic goes on, by command and through an agent's death; and processes of the
//! host itself are answered through the tunnel although the kernel filters by reverse path.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use persona_core::wire::api::{EdgeView, EventView, LeaseView, NodeView};
use persona_core::wire::tunnel::TunnelReport;
use persona_tests::ctl::patient;
use persona_tests::findings::Findings;
use persona_tests::ledger::Undo;
use persona_tests::load::echo::EchoClient;
use persona_tests::steps::{SUBJECT, view};
use persona_tests::world::{Hook, INTERNET_ADDRESS, NODE, World};

use super::subjects::{address_of, curl_arguments, tree, within};
use super::{PERSONA, check, start, wait_for};

/// Nodes wear what workloads wear.
const NODES: &str = "
apiVersion: persona/v1
kind: Binding
metadata: { name: nodes }
spec:
  selector: { kind: node }
  personas: [frankfurt-standard]
  default: frankfurt-standard
";

/// How long a persona, or a next key, may take to be in force.
const FORCE_TIME: Duration = Duration::from_secs(30);

/// Echoes a second while keys change.
const ECHOES_PER_SEC: u32 = 200;

/// The carriers of the workload's lease.
const EDGES: [&str; 2] = ["fra1", "fra2"];

#[test]
fn keys_change_under_traffic_and_the_hosts_own_processes_are_answered() {
    check(Hook::Auto, |world, findings| {
        let group = prepare(world).unwrap();
        start(world, findings);
        if !findings.all_ok() {
            return; // nothing that follows could say anything
        }
        findings.run("encrypt", |_| encrypt(world));
        findings.run("the host's processes", |findings| host_process(world, &group, findings));
        findings.run("keys change", |findings| rotate(world, findings));
        findings.run("an agent dies meanwhile", |findings| die_meanwhile(world, findings));
    });
}

/// A group for the host's processes, on a host that takes a source only where its route leads.
fn prepare(world: &mut World) -> Result<PathBuf> {
    let name = format!("{}-host", world.folder.file_name().context("the folder has a name")?.to_string_lossy());
    let group = tree()?.join(&name);
    world.ledger.note(Undo::RemoveCgroup(name.clone()));
    std::fs::create_dir_all(&group)?;
    world.extra_agent_config = format!("\n[host]\ncgroup = \"/{name}\"\n");
    world.namespaces.node.ip("route add default via 192.168.77.1")?;
    world.namespaces.node.write_sysctl("net/ipv4/conf/all/rp_filter", "1")?;
    Ok(group)
}

fn encrypt(world: &World) -> Result<()> {
    world.apply("encrypted.yaml", &format!("{PERSONA}    privacy: {{ encrypt: true }}\n"))?;
    world.apply("nodes.yaml", NODES)?;
    for subject in [SUBJECT, "node/n1"] {
        let is_encrypted = |leases: &Vec<LeaseView>| current(leases, subject).is_some_and(|lease| lease.encrypted);
        world.ctl.wait_for("an encrypted lease", &["lease", "list"], FORCE_TIME, is_encrypted)?;
    }
    let start = Instant::now();
    while view::seen_by_server(world, "w1").is_err() {
        if start.elapsed() > patient(FORCE_TIME) {
            bail!("nothing gets through the tunnel");
        }
    }
    Ok(())
}

fn current<'a>(leases: &'a [LeaseView], subject: &str) -> Option<&'a LeaseView> {
    leases.iter().find(|lease| lease.subject.to_string() == subject && lease.state == "active")
}

fn host_process(world: &World, group: &Path, findings: &mut Findings) -> Result<()> {
    let leases: Vec<LeaseView> = world.ctl.list(&["lease", "list"])?;
    let lease = current(&leases, "node/n1").context("the node has a lease")?;
    let output = within(world, group, "curl", &curl_arguments(INTERNET_ADDRESS, None))?.output()?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned();
    let is_leased = address_of(&said).is_some_and(|seen| lease.space.address().is_some_and(|it| seen == it));
    findings.note(format!("with a strict filter, the server sees {}", lease.space), said, is_leased);
    Ok(())
}

/// Every end takes another key, one after the other.
fn rotate(world: &World, findings: &mut Findings) -> Result<()> {
    let echo = EchoClient::start(world.workload("w1"), ECHOES_PER_SEC)?;
    for name in [NODE].into_iter().chain(EDGES) {
        let before = own_key(world, name)?;
        let config = world.path(&format!("{name}.toml"));
        let config = config.to_str().context("a path of ours is text")?;
        let rotated: serde_json::Value = world.ctl.json(&["wire", "rotate", "--config", config])?;
        let said = format!("{} → {}", rotated["before"], rotated["after"]);
        findings.note(format!("{name} takes another key"), said, rotated["before"] == *before);
        let has_new = |key: Option<String>| key.is_some_and(|key| rotated["after"] == *key);
        wait_for(FORCE_TIME, || Ok(has_new(Some(own_key(world, name)?))))?;
        findings.note("the manager knows it", format!("after {before}"), true);
    }
    let count = echo.finish();
    let measured = format!("{} of {} lost, worst gap {}", count.lost(), count.sent, view::ms(count.worst_gap));
    findings.note("no echo is lost while three keys change", measured, count.lost() == 0 && count.sent > 1_000);
    let events: Vec<EventView> = world.ctl.list(&["events"])?;
    let told = events.iter().filter(|event| event.name == "agent.tunnel-changed" && event.message.contains("next key"));
    let count = told.count();
    findings.note("events tell of each", format!("{count}"), count >= 3);
    Ok(())
}

/// The agent is killed when its next key is announced and not in use yet.
fn die_meanwhile(world: &mut World, findings: &mut Findings) -> Result<()> {
    let before = own_key(world, NODE)?;
    let config = world.path(&format!("{NODE}.toml"));
    let config = config.to_str().context("a path of ours is text")?;
    world.ctl.text(&["wire", "rotate", "--wait", "0", "--config", config])?;
    wait_for(FORCE_TIME, || Ok(tunnel_of(world, NODE)?.end.is_some_and(|end| end.next_key.is_some())))?;
    world.agent.take().context("the agent runs")?.kill()?;
    findings.note("killed while both keys are accepted", &before, own_key(world, NODE)? == before);
    world.start_agent()?;
    wait_for(FORCE_TIME, || Ok(own_key(world, NODE)? != before))?;
    let client = view::seen_by_server(world, "w1")?;
    findings.note("the change goes on, and so does traffic", format!("{}:{}", client.0, client.1), true);
    Ok(())
}

fn own_key(world: &World, name: &str) -> Result<String> {
    Ok(tunnel_of(world, name)?.end.context("it has a tunnel")?.public_key)
}

fn tunnel_of(world: &World, name: &str) -> Result<TunnelReport> {
    if name == NODE {
        return Ok(world.ctl.json::<NodeView>(&["node", "get", name])?.tunnel);
    }
    Ok(world.ctl.json::<EdgeView>(&["edge", "get", name])?.tunnel)
}
