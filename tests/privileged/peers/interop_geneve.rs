//! The kernel's own geneve device (RFC 8926) at the other end of our tunnels: it takes what our node sends and the node
//! takes what it sends; then it stands in the node's place before our edges. Only where the kernel has the device.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use persona_core::wire::api::LeaseView;
use persona_tests::ctl::patient;
use persona_tests::findings::Findings;
use persona_tests::netns::{Forwarding, Namespace};
use persona_tests::peers::content::{self, Content};
use persona_tests::steps::switch::switch_to;
use persona_tests::steps::{SUBJECT, TOKYO, view};
use persona_tests::world::{ECHO_PORT, INTERNET_ADDRESS, World};

use super::{in_cluster, interop, note_client, output_of};

/// Who is who on the underlay: the node, and the edges.
const NODE_ADDRESS: &str = "192.168.77.11";
const TOKYO_EDGE: (&str, &str) = ("tok1", "192.168.77.31");
const FRANKFURT_EDGES: [(&str, &str); 2] = [("fra1", "192.168.77.21"), ("fra2", "192.168.77.22")];

/// Payloads of datagrams: the shortest, odd ones, and the longest that the persona's MTU of 1,400 carries.
const PAYLOAD_LENGTHS: [usize; 6] = [1, 2, 33, 500, 1_371, 1_372];

/// How long datagrams may take on a busy machine; they are sent again meanwhile.
const EXCHANGE_TIME: Duration = Duration::from_secs(30);
const RESEND_TIME: Duration = Duration::from_millis(300);

/// What the kernel's end puts before a payload that it sends back.
const KERNEL_MARK: &[u8] = b"kernel:";

/// Bytes of a download through the kernel's end.
const DOWN_BYTES: usize = 1 << 20;

#[test]
fn interop_kernel_geneve_and_our_node_understand_each_other() {
    if interop::lacks(interop::GENEVE) {
        return;
    }
    in_cluster("interop with the node", |world, findings| {
        switch_to(world, SUBJECT, TOKYO)?;
        let lease = view::lease_of(world, SUBJECT)?;
        let kernel = stand_beside_edge(world, &lease)?;
        exchange_with_node(world, &kernel, &lease, findings)
    });
}

#[test]
fn interop_kernel_geneve_and_our_edges_understand_each_other() {
    if interop::lacks(interop::GENEVE) {
        return;
    }
    in_cluster("interop with the edges", |world, findings| {
        let lease = view::lease_of(world, SUBJECT)?;
        let kernel = stand_for_node(world, &lease)?;
        exchange_with_edges(&kernel, &lease, findings)?;
        download_through_edges(world, &kernel, &lease, findings)
    });
}

/// A host that gets a copy of all that the node sends and takes itself for the Tokyo edge and for the internet host
/// behind it. It never answers ARP, so that the real edge stays what it is.
fn stand_beside_edge(world: &World, lease: &LeaseView) -> Result<Namespace> {
    let (name, address) = TOKYO_EDGE;
    let kernel = add_host(world, "kernel")?;
    let underlay = &world.namespaces.underlay;
    kernel.ip(&format!("link set eth0 address {}", mac_of(&world.namespaces.edges[name], "in0")?))?;
    kernel.ip("link set eth0 arp off")?;
    kernel.add_address("eth0", &format!("{address}/24"))?;
    let node_mac = mac_of(&world.namespaces.node, "up0")?;
    kernel.ip(&format!("neighbour replace {NODE_ADDRESS} lladdr {node_mac} nud permanent dev eth0"))?;
    interop::tc(underlay, "qdisc add dev n1 clsact")?;
    interop::tc(underlay, "filter add dev n1 ingress matchall action mirred egress mirror dev kernel")?;
    add_geneve(&kernel, "gnv0", lease, NODE_ADDRESS)?;
    kernel.add_address("lo", &format!("{INTERNET_ADDRESS}/32"))?;
    kernel.ip(&format!("route add {}/32 dev gnv0 src {INTERNET_ADDRESS}", address_of(lease)))?;
    Ok(kernel)
}

/// A host that has the node's place on the underlay, and the lease's address for its own.
fn stand_for_node(world: &mut World, lease: &LeaseView) -> Result<Namespace> {
    world.agent.take().context("the agent runs")?.stop()?;
    let kernel = add_host(world, "kernel")?;
    let node_mac = mac_of(&world.namespaces.node, "up0")?;
    world.namespaces.underlay.ip("link set n1 down")?;
    kernel.ip(&format!("link set eth0 address {node_mac}"))?;
    kernel.add_address("eth0", &format!("{NODE_ADDRESS}/24"))?;
    for (number, (_, remote)) in FRANKFURT_EDGES.iter().enumerate() {
        add_geneve(&kernel, &format!("gnv{number}"), lease, remote)?;
    }
    kernel.add_address("lo", &format!("{}/32", address_of(lease)))?;
    kernel.ip(&format!("route add {INTERNET_ADDRESS}/32 dev gnv0 src {}", address_of(lease)))?;
    Ok(kernel)
}

/// A namespace with `eth0` on the underlay's bridge.
fn add_host(world: &World, name: &str) -> Result<Namespace> {
    let full_name = format!("{}-{name}", world.namespaces.underlay.name);
    let host = Namespace::create(&world.ledger, &full_name, Forwarding::Off)?;
    host.link("eth0", &world.namespaces.underlay, name)?;
    world.namespaces.underlay.ip(&format!("link set {name} master br0"))?;
    for interface in ["all", "default", "eth0"] {
        host.write_sysctl(&format!("net/ipv4/conf/{interface}/rp_filter"), "0")?;
    }
    Ok(host)
}

/// The kernel's device, which carries IP itself and not Ethernet, as our tunnels do.
fn add_geneve(host: &Namespace, device: &str, lease: &LeaseView, remote: &str) -> Result<()> {
    let vni = lease.vni.0;
    host.ip(&format!("link add {device} type geneve id {vni} remote {remote} dstport 6081 innerprotoinherit"))?;
    host.ip(&format!("link set {device} up mtu 1400")).map(drop)
}

fn exchange_with_node(world: &World, kernel: &Namespace, lease: &LeaseView, findings: &mut Findings) -> Result<()> {
    let client = open(world.workload("w1"), ("0.0.0.0", 0))?;
    let server = open(kernel, (INTERNET_ADDRESS, ECHO_PORT))?;
    let payloads = payloads();
    let (mut taken, mut returned, mut seen) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let start = Instant::now();
    let mut last_sent = None::<Instant>;
    while taken.len() < payloads.len() || returned.len() < payloads.len() {
        if start.elapsed() > patient(EXCHANGE_TIME) {
            break;
        }
        if last_sent.is_none_or(|moment| moment.elapsed() > RESEND_TIME) {
            for payload in &payloads {
                client.send_to(payload, (INTERNET_ADDRESS, ECHO_PORT))?;
            }
            last_sent = Some(Instant::now());
        }
        let mut buffer = [0; 2_048];
        while let Ok((length, peer)) = server.recv_from(&mut buffer) {
            taken.insert(buffer[..length].to_vec());
            seen.insert(peer);
            // The mark must fit in as well.
            let room = length.min(1_372 - KERNEL_MARK.len());
            server.send_to(&[KERNEL_MARK, &buffer[..room]].concat(), peer)?;
        }
        while let Ok(length) = client.recv(&mut buffer) {
            // The real internet host echoes too, without the mark.
            if let Some(payload) = buffer[..length].strip_prefix(KERNEL_MARK) {
                returned.insert(payload.to_vec());
            }
        }
    }
    let expected: BTreeSet<Vec<u8>> = payloads.iter().cloned().collect();
    let measured = format!("{} of {} payloads", taken.len(), expected.len());
    findings.note("the kernel takes what the node sends, byte for byte", measured, taken == expected);
    for peer in &seen {
        note_client(findings, "under the lease", &format!("{} {}", peer.ip(), peer.port()), lease);
    }
    let cut = |payload: &Vec<u8>| payload[..payload.len().min(1_372 - KERNEL_MARK.len())].to_vec();
    let expected: BTreeSet<Vec<u8>> = payloads.iter().map(cut).collect();
    let measured = format!("{} of {} payloads", returned.len(), expected.len());
    findings.note("the node takes what the kernel sends, byte for byte", measured, returned == expected);
    Ok(())
}

fn exchange_with_edges(kernel: &Namespace, lease: &LeaseView, findings: &mut Findings) -> Result<()> {
    let (first, _) = *lease.ports.first().context("the lease has ports")?;
    let address = address_of(lease);
    let client = open(kernel, (&address.to_string(), first + 7))?;
    let payloads = payloads();
    let expected: BTreeSet<Vec<u8>> = payloads.iter().cloned().collect();
    let mut returned = BTreeSet::new();
    for (number, (name, _)) in FRANKFURT_EDGES.iter().enumerate() {
        kernel.ip(&format!("route replace {INTERNET_ADDRESS}/32 dev gnv{number} src {address}"))?;
        returned.clear();
        let start = Instant::now();
        while returned.len() < payloads.len() && start.elapsed() < patient(EXCHANGE_TIME) {
            for payload in &payloads {
                client.send_to(payload, (INTERNET_ADDRESS, ECHO_PORT))?;
            }
            let sent = Instant::now();
            let mut buffer = [0; 2_048];
            while returned.len() < payloads.len() && sent.elapsed() < RESEND_TIME {
                if let Ok((length, SocketAddr::V4(_))) = client.recv_from(&mut buffer) {
                    returned.insert(buffer[..length].to_vec());
                }
            }
        }
        let measured = format!("{} of {} payloads", returned.len(), expected.len());
        findings.note(format!("{name} takes what the kernel sends, and back"), measured, returned == expected);
    }
    Ok(())
}

fn download_through_edges(world: &World, kernel: &Namespace, lease: &LeaseView, findings: &mut Findings) -> Result<()> {
    let file = world.path("www/interop");
    content::write(&file, DOWN_BYTES, 61)?;
    let (copy, head) = (world.path("interop.copy"), world.path("interop.head"));
    let (first, last) = *lease.ports.first().context("the lease has ports")?;
    let mut curl = kernel.command("curl")?;
    curl.args(["--silent", "--show-error", "--fail", "--max-time", "60", "--local-port", &format!("{first}-{last}")]);
    curl.arg("--dump-header").arg(&head).arg("--output").arg(&copy).arg(format!("http://{INTERNET_ADDRESS}/interop"));
    output_of(&mut curl)?;
    let bytes = content::require_same(&file, &copy)?;
    findings.note("TCP between the kernel's end and our edges keeps every byte", format!("{bytes} bytes"), true);
    Ok(())
}

fn payloads() -> Vec<Vec<u8>> {
    let mut content = Content::new(67);
    let fill = |length: usize| {
        let mut payload = vec![0; length];
        content.fill(&mut payload);
        payload
    };
    PAYLOAD_LENGTHS.into_iter().map(fill).collect()
}

fn open(inside: &Namespace, address: (&str, u16)) -> Result<UdpSocket> {
    let socket = inside.run_inside(|| UdpSocket::bind(address))?.with_context(|| format!("{address:?} is taken"))?;
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    Ok(socket)
}

fn mac_of(namespace: &Namespace, device: &str) -> Result<String> {
    let links: serde_json::Value = serde_json::from_str(&namespace.ip(&format!("-j link show dev {device}"))?)?;
    match links[0]["address"].as_str() {
        Some(address) => Ok(address.to_owned()),
        None => bail!("{device} of {} has no address: {links}", namespace.name),
    }
}

/// The address of a lease of port blocks.
fn address_of(lease: &LeaseView) -> Ipv4Addr {
    lease.space.address().expect("the demo's personas lease port blocks")
}
