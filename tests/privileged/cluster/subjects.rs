//! Subjects that are not told by a device of their own, through a whole cluster and with real sockets: processes of the
//! host by their cgroup, sources on a device that several share, and what carries a VLAN tag.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use persona_core::wire::api::{Explanation, LeaseView, NodeView};
use persona_tests::findings::Findings;
use persona_tests::ledger::Undo;
use persona_tests::load::capture::Capture;
use persona_tests::load::fragments::Datagram;
use persona_tests::load::iperf;
use persona_tests::netns::{Forwarding, Namespace};
use persona_tests::sys;
use persona_tests::world::{Families, Hook, INTERNET_ADDRESS, INTERNET_ADDRESS6, NODE, World};

use super::{check_with, start};

/// How long a subject may take to wear its persona.
const STEP_TIME: Duration = Duration::from_secs(20);

/// Nodes wear what workloads wear.
const NODES: &str = "
apiVersion: persona/v1
kind: Binding
metadata: { name: nodes }
spec:
  selector: { kind: node }
  personas: [frankfurt-standard, tokyo-standard]
  default: tokyo-standard
";

/// Both families' servers.
const SERVERS: [&str; 2] = [INTERNET_ADDRESS, INTERNET_ADDRESS6];

/// The sources behind the shared device; the last one is nobody's.
const SHARED: [(&str, [&str; 2]); 3] = [
    ("s1", ["10.10.7.2", "fd00:10:10:7::2"]),
    ("s2", ["10.10.7.3", "fd00:10:10:7::3"]),
    ("nobody", ["10.10.7.4", "fd00:10:10:7::4"]),
];

/// What is behind the tagged device.
const TAGGED: [&str; 2] = ["10.10.8.2", "fd00:10:10:8::2"];
const TAG: u32 = 42;

/// The same behind another device, in tags of services.
const SERVICE_TAGGED: [&str; 2] = ["10.10.9.2", "fd00:10:10:9::2"];

/// Bytes of the datagrams that come in fragments.
const LARGE_BYTES: usize = 3_000;

/// Where the internet host takes what was tagged.
const PORT: u16 = 7_780;

#[test]
fn subjects_without_a_device_of_their_own_show_their_own_leases() {
    check_with(Hook::Auto, Families::BothOverIpv4, |world, findings| {
        let groups = prepare(world).unwrap();
        start(world, findings);
        if !findings.all_ok() {
            return; // nothing that follows could say anything
        }
        findings.run("by cgroup", |findings| host_processes(world, &groups, findings));
        findings.run("by source", |findings| shared_device(world, findings));
        for place in &TAGGED_PLACES {
            findings.run(&format!("by tag, {}", place.words), |findings| tagged_device(world, place, findings));
        }
        findings.run("the processes", |_| world.check_processes());
    });
}

/// A workload whose frames are tagged.
struct TaggedPlace {
    subject: &'static str,
    inside: &'static str,
    device: &'static str,
    sources: [&'static str; 2],
    kind: [u8; 2],
    /// What tcpdump calls the tag, and the configuration.
    ethertype: &'static str,
    words: &'static str,
}

const TAGGED_PLACES: [TaggedPlace; 2] = [
    TaggedPlace {
        subject: "t1",
        inside: "tagged",
        device: "vl0",
        sources: TAGGED,
        kind: [0x81, 0x00],
        ethertype: "(0x8100)",
        words: "802.1q",
    },
    TaggedPlace {
        subject: "t2",
        inside: "service",
        device: "vl1",
        sources: SERVICE_TAGGED,
        kind: [0x88, 0xa8],
        ethertype: "(0x88a8)",
        words: "802.1ad",
    },
];

/// Groups of the v2 tree: the host's, and below it a workload's.
struct Groups {
    host: PathBuf,
    job: PathBuf,
}

/// Makes groups and devices, and says in the agent's configuration who is who.
fn prepare(world: &mut World) -> Result<Groups> {
    let name = format!("{}-host", world.folder.file_name().context("the folder has a name")?.to_string_lossy());
    let host = tree()?.join(&name);
    world.ledger.note(Undo::RemoveCgroup(name.clone()));
    let groups = Groups { job: host.join("job"), host };
    std::fs::create_dir_all(&groups.job)?;
    let mut text = format!("\n[[workload]]\nname = \"job\"\ncgroup = \"/{name}/job\"\n");
    for TaggedPlace { subject, device, sources: [address, address6], words, .. } in &TAGGED_PLACES {
        text += &format!(
            "[[workload]]\nname = \"{subject}\"\ndevice = \"{device}\"\nvlan = {TAG}\nvlan_protocol = \"{words}\"\n\
             address = \"{address}\"\naddress6 = \"{address6}\"\n"
        );
    }
    for (name, sources) in &SHARED[..2] {
        text += &format!("[[workload]]\nname = \"{name}\"\ndevice = \"sh0\"\nsources = {sources:?}\n");
    }
    text += &format!("[host]\ncgroup = \"/{name}\"\n");
    world.extra_agent_config = text;
    route_the_host(world)?;
    share_a_device(world)?;
    TAGGED_PLACES.iter().try_for_each(|place| tag_a_device(world, place))?;
    Ok(groups)
}

/// The host has ways to the internet, of both families, that lead nowhere: nobody forwards on the underlay.
fn route_the_host(world: &World) -> Result<()> {
    let (underlay, node) = (&world.namespaces.underlay, &world.namespaces.node);
    underlay.add_address("br0", "fd77::1/64")?;
    node.add_address("up0", "fd77::11/64")?;
    node.ip("route add default via 192.168.77.1")?;
    node.ip("-6 route add default via fd77::1").map(drop)
}

fn share_a_device(world: &mut World) -> Result<()> {
    let shared = make(world, "shared")?;
    shared.link("eth0", &world.namespaces.node, "sh0")?;
    for (_, [address, address6]) in SHARED {
        shared.add_address("eth0", &format!("{address}/24"))?;
        shared.add_address("eth0", &format!("{address6}/64"))?;
    }
    world.namespaces.node.add_address("sh0", "10.10.7.1/24")?;
    world.namespaces.node.add_address("sh0", "fd00:10:10:7::1/64")?;
    shared.ip("route add default via 10.10.7.1")?;
    shared.ip("-6 route add default via fd00:10:10:7::1")?;
    world.namespaces.workloads.insert("shared", shared);
    Ok(())
}

/// Everything of the workload's is tagged. Where it is, behind the device beneath the tags, the node must be told.
fn tag_a_device(world: &mut World, place: &TaggedPlace) -> Result<()> {
    let (inside, node) = (make(world, place.inside)?, world.namespaces.node.clone());
    let device = place.device;
    inside.link("eth0", &node, device)?;
    for address in place.sources {
        let mac = link(&inside, "eth0")?.1;
        node.ip(&format!("route add {address} dev {device}"))?;
        node.ip(&format!("neigh replace {address} lladdr {mac} dev {device} nud permanent"))?;
    }
    world.namespaces.workloads.insert(place.inside, inside);
    Ok(())
}

/// A device's index and hardware address.
fn link(inside: &Namespace, device: &str) -> Result<(u32, String)> {
    let links: serde_json::Value = serde_json::from_str(&inside.ip(&format!("-j link show dev {device}"))?)?;
    let (index, mac) = (links[0]["ifindex"].as_u64(), links[0]["address"].as_str());
    let (index, mac) = index.zip(mac).with_context(|| format!("{device} has no address"))?;
    Ok((index as u32, mac.to_owned()))
}

fn make(world: &World, name: &str) -> Result<Namespace> {
    let prefix = world.namespaces.node.name.trim_end_matches(NODE);
    Namespace::create(&world.ledger, &format!("{prefix}{name}"), Forwarding::Off)
}

fn host_processes(world: &World, groups: &Groups, findings: &mut Findings) -> Result<()> {
    world.apply("nodes.yaml", NODES)?;
    for (subject, group) in [("node/n1", &groups.host), ("workload/n1/job", &groups.job)] {
        let leases = leases_of(world, subject)?;
        for (server, lease) in SERVERS.into_iter().zip(&leases) {
            let seen = whoami(&mut within(world, group, "curl", &curl_arguments(server, None))?)?;
            let expected = format!("TCP of {subject}: the server sees {}", lease.space);
            findings.note(expected, seen.to_string(), holds(lease, seen));
            let udp = iperf::Server::start(world)?;
            let length = if server.contains(':') { "1200" } else { "1300" };
            let arguments = ["--client", server, "--port", iperf::PORT, "--udp", "--time", "1", "--length", length];
            output_of(&mut within(world, group, "iperf3", &arguments.map(str::to_owned))?)?;
            let clients = udp.clients()?;
            let are_leased = clients.iter().all(|client| address_of(client).is_some_and(|seen| holds(lease, seen)));
            let expected = format!("TCP and UDP of iperf3, {subject}: the server sees {}", lease.space);
            findings.note(expected, clients.join(", "), are_leased && clients.len() == 2);
        }
    }
    for server in SERVERS {
        let mut curl = world.namespaces.node.command("curl")?;
        let output = curl.args(["--silent", "--max-time", "2", &url(server)]).output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        findings.note(format!("a process of no group does not get to {server}"), said, !output.status.success());
    }
    Ok(())
}

fn shared_device(world: &World, findings: &mut Findings) -> Result<()> {
    let shared = world.workload("shared");
    for (name, sources) in &SHARED[..2] {
        let leases = leases_of(world, &format!("workload/n1/{name}"))?;
        for ((server, source), lease) in SERVERS.into_iter().zip(sources).zip(&leases) {
            let mut curl = shared.command("curl")?;
            let seen = whoami(curl.args(curl_arguments(server, Some(source))))?;
            findings.note(format!("{source}: the server sees {}", lease.space), seen.to_string(), holds(lease, seen));
        }
    }
    let refused = |node: &NodeView| node.counters.drops.get("source-address").copied().unwrap_or(0);
    let before = refused(&world.ctl.json(&["node", "get", NODE])?);
    for (server, source) in SERVERS.into_iter().zip(SHARED[2].1) {
        let mut curl = shared.command("curl")?;
        let output = curl.args(["--silent", "--max-time", "2", "--interface", source, &url(server)]).output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        findings.note(format!("{source}, which is nobody's, does not get out"), said, !output.status.success());
    }
    let are_counted = |node: &NodeView| refused(node) >= before + 2;
    let (node, _) = world.ctl.wait_for("counted drops", &["node", "get", NODE], STEP_TIME, are_counted)?;
    findings.note("its packets are counted", format!("{} source-address", refused(&node) - before), true);
    Ok(())
}

/// Frames with a tag, as a guest with a VLAN device of its own sends them; without it they are nobody's.
fn tagged_device(world: &World, place: &TaggedPlace, findings: &mut Findings) -> Result<()> {
    let subject = format!("workload/n1/{}", place.subject);
    let (leases, inside) = (leases_of(world, &subject)?, world.workload(place.inside));
    for ((server, source), lease) in SERVERS.into_iter().zip(place.sources).zip(&leases) {
        let internet = &world.namespaces.internet;
        let socket = internet.run_inside(|| UdpSocket::bind(SocketAddr::new(server.parse().unwrap(), PORT)))??;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        let name = format!("{}-{}", place.inside, source.len());
        let capture = Capture::start(world, &name, inside, "eth0", &format!("vlan {TAG}"))?;
        let seen = send_tagged(world, place, &socket, source, true)?.context("nothing arrives")?;
        findings.note(format!("tagged: the server sees {}", lease.space), seen.to_string(), holds(lease, seen.ip()));
        socket.send_to(b"an answer", seen)?;
        let later = send_backwards(internet, &socket, seen)?;
        let answers = capture.finish_framed()?;
        let is_tagged = |line: &str| line.contains(place.ethertype);
        let is_answer = |line: &&String| is_tagged(line) && line.contains(&format!("{server}.{PORT} > {source}"));
        let answer = answers.iter().find(is_answer);
        let expected = format!("the answer comes with the tag, {}", place.words);
        findings.note(expected, answer.map_or_else(|| format!("{answers:?}"), String::clone), answer.is_some());
        let is_later = |line: &&String| is_tagged(line) && line.contains(server) && is_later_fragment(line);
        let came = answers.iter().filter(is_later).count();
        let expected = format!("{later} fragments that came before their first have the tag");
        findings.note(expected, format!("{came}"), came == later);
        let untagged = send_tagged(world, place, &socket, source, false)?;
        findings.note("untagged: nothing arrives", format!("{untagged:?}"), untagged.is_none());
    }
    Ok(())
}

/// Fragments of a datagram, the last one first; gives how many are no first ones.
fn send_backwards(internet: &Namespace, server: &UdpSocket, to: SocketAddr) -> Result<usize> {
    let raw = internet.run_inside(|| sys::RawSocket::open(to.ip()))??;
    let payload = vec![7; LARGE_BYTES];
    let fragments = Datagram { source: server.local_addr()?, destination: to, id: 77, payload }.fragments(1_000);
    fragments.iter().rev().try_for_each(|fragment| raw.send(fragment, to.ip()))?;
    // They wait for their first, which comes last, and for the thread that lets them go.
    std::thread::sleep(Duration::from_millis(500));
    Ok(fragments.len() - 1)
}

/// As tcpdump shows one: `offset 1000,` of IPv4, `frag (0x0000004d:1000|1000)` of IPv6.
fn is_later_fragment(line: &str) -> bool {
    let of_ipv4 = line.contains("offset ") && !line.contains("offset 0,");
    of_ipv4 || line.contains("frag (") && !line.contains(":0|")
}

/// Sends a datagram in a frame of its own; gives who the server says has sent it.
fn send_tagged(
    world: &World,
    place: &TaggedPlace,
    server: &UdpSocket,
    source: &str,
    is_tagged: bool,
) -> Result<Option<SocketAddr>> {
    let inside = world.workload(place.inside);
    let (ifindex, _) = link(inside, "eth0")?;
    let mac = |text: String| text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<Vec<_>, _>>();
    let (to, from) = (mac(link(&world.namespaces.node, place.device)?.1)?, mac(link(inside, "eth0")?.1)?);
    let source = SocketAddr::new(source.parse()?, 40_000);
    let datagram = Datagram { source, destination: server.local_addr()?, id: 1, payload: b"tagged?".to_vec() };
    let kind: [u8; 2] = if source.is_ipv4() { [0x08, 0x00] } else { [0x86, 0xdd] };
    let tag = if is_tagged { [place.kind, (TAG as u16).to_be_bytes()].concat() } else { Vec::new() };
    let frame = [to, from, tag, kind.to_vec(), datagram.packet()].concat();
    inside.run_inside(|| sys::send_frame(ifindex, &frame))??;
    Ok(server.recv_from(&mut [0; 64]).ok().map(|(_, client)| client))
}

/// Both leases of a subject, IPv4 before IPv6.
fn leases_of(world: &World, subject: &str) -> Result<[LeaseView; 2]> {
    let has_both =
        |answer: &Explanation| answer.assignment.in_force && answer.lease.is_some() && answer.lease6.is_some();
    let (answer, _) = world.ctl.wait_for("leases of both families", &["explain", subject], STEP_TIME, has_both)?;
    let (lease, lease6) = answer.lease.zip(answer.lease6).context("waited for them")?;
    Ok([lease, lease6])
}

/// A command of the node's that enters a group before it begins.
pub(super) fn within(world: &World, group: &Path, program: &str, arguments: &[String]) -> Result<Command> {
    let mut command = world.namespaces.node.command("sh")?;
    let script = "echo $$ > \"$0\" && exec \"$@\"";
    command.args(["-c", script]).arg(group.join("cgroup.procs")).arg(program).args(arguments);
    Ok(command)
}

pub(super) fn curl_arguments(server: &str, source: Option<&str>) -> Vec<String> {
    let mut arguments = vec!["--silent".to_owned(), "--show-error".to_owned(), "--fail".to_owned()];
    // The first packets may come before the persona is in force.
    arguments.extend(["--max-time", "10", "--retry", "3", "--retry-connrefused"].map(str::to_owned));
    if let Some(source) = source {
        arguments.extend(["--interface".to_owned(), source.to_owned()]);
    }
    arguments.push(url(server));
    arguments
}

fn url(server: &str) -> String {
    if server.contains(':') { format!("http://[{server}]/whoami") } else { format!("http://{server}/whoami") }
}

fn whoami(curl: &mut Command) -> Result<IpAddr> {
    let said = output_of(curl)?;
    address_of(&said).with_context(|| format!("curl got {said:?}"))
}

fn output_of(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?} does not start"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        bail!("{command:?} ended with {}: {}", output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The address in `ADDRESS PORT`.
pub(super) fn address_of(text: &str) -> Option<IpAddr> {
    text.split_whitespace().next()?.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

fn holds(lease: &LeaseView, client: IpAddr) -> bool {
    match client {
        IpAddr::V4(client) => lease.space.address() == Some(client),
        IpAddr::V6(client) => {
            lease.space.prefix().is_some_and(|prefix| prefix.segments()[..4] == client.segments()[..4])
        }
    }
}

/// Where the v2 tree is mounted.
pub(super) fn tree() -> Result<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let tree = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|fields| fields[2] == "cgroup2");
    Ok(tree.context("no tree of control groups v2 is mounted")?[1].into())
}
