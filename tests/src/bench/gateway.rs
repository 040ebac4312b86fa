//! A gateway's service, destination rewritten and replies translated back, beside the kernel's IPVS doing the same by its own Maglev
//! table, and beside plain forwarding to one instance: TCP goodput, small datagrams, and connections one after the other.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use persona_ctl::dataplane::gateway_tables::{
    DeliveryEntry, GatewayDeviceEntry, GatewayTables, InstanceEntry, InstanceState, ServiceEntry, ServiceKey, Transport,
};
use persona_ctl::dataplane::tables::NextHopEntry;
use persona_ctl::dataplane::{Coexistence, GatewayDataplane, GatewayOptions, Hook, PacketLogging};
use serde_json::Value;

use super::end_to_end::{PLAIN, serve};
use super::measures::Run;
use super::place::Place;
use super::row::{Better, Goal, Row};
use super::samples::Samples;
use crate::netns::{Forwarding, Namespace};
use crate::process::Running;
use crate::sys;

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 50, 0, 2);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 50, 0, 1);
const INSIDE: Ipv4Addr = Ipv4Addr::new(10, 51, 0, 1);
/// Where clients find the service.
const SERVICE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// Its instances: one machine's, so that what they take is the same whoever leads there.
const INSTANCES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 51, 0, 2), Ipv4Addr::new(10, 51, 0, 3)];
/// Ports of iperf3, of the sink of datagrams, and of who accepts connections.
const IPERF_PORT: u16 = 5_201;
const SINK_PORT: u16 = 7_700;
const ACCEPT_PORT: u16 = 7_701;
const MTU: u32 = 1_500;
/// How long datagrams are sent, and connections opened.
const TIME: Duration = Duration::from_secs(2);
const DATAGRAM: [u8; 64] = [0; 64];
/// How long the sink waits for what is still on its way.
const PATIENCE: Duration = Duration::from_millis(300);
const IPVS: &str = "IPVS, Maglev, masquerading";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Ours,
    Ipvs,
}

/// What one turn on a place gives.
const QUANTITIES: [(&str, &str); 4] =
    [("tcp-up", "Gbit/s"), ("tcp-down", "Gbit/s"), ("udp", "packets/s"), ("connections", "connections/s")];

/// Measures all kinds that there are here, in turns.
pub fn measure(run: &Run<'_>) -> Result<Vec<Row>> {
    run.say("gateway: places are built");
    let mut places = vec![Service::build(run, Kind::Plain)?, Service::build(run, Kind::Ours)?];
    if has_ipvs(run)? {
        places.push(Service::build(run, Kind::Ipvs)?);
    }
    let mut samples = vec![<[Samples; 4]>::default(); places.len()];
    for round in 0..run.rounds {
        for (place, samples) in places.iter().zip(&mut samples) {
            run.say(&format!("gateway: {:?}, round {} of {}", place.kind, round + 1, run.rounds));
            let values = place.turn().with_context(|| format!("{:?}", place.kind))?;
            samples.iter_mut().zip(values).for_each(|(samples, value)| samples.push(value));
        }
        run.step();
    }
    // Servers end before their namespaces.
    for place in &mut places {
        place.iperf.kill()?;
    }
    drop(places);
    run.ledger.undo_all().into_iter().for_each(|failure| eprintln!("clean-up: {failure}"));
    let mut rows = Vec::new();
    for (index, (name, unit)) in QUANTITIES.into_iter().enumerate() {
        let row = |peer: &str| {
            Row::new(format!("gateway/{name}/beside-{peer}"), unit, Better::More, samples[1][index].clone())
        };
        rows.push(row("plain").beside(PLAIN, samples[0][index].clone()));
        if let Some(ipvs) = samples.get(2) {
            rows.push(row("ipvs").beside(IPVS, ipvs[index].clone()).reach(Goal::TimesPeer(1.0)));
        }
    }
    Ok(rows)
}

/// Whether the kernel has IPVS, and `ipvsadm` is there to say what it shall do.
fn has_ipvs(run: &Run<'_>) -> Result<bool> {
    let probe = Namespace::create(run.ledger, &format!("pb{}-ipvs", std::process::id()), Forwarding::Off)?;
    let has_all = probe.command("ipvsadm")?.arg("-Ln").output().is_ok_and(|output| output.status.success());
    if !has_all {
        run.say("gateway: no IPVS in the kernel, or no ipvsadm: ours is measured beside plain forwarding");
    }
    Ok(has_all)
}

/// A client, a gateway, and the machine of the instances.
struct Service {
    kind: Kind,
    client: Namespace,
    server: Namespace,
    iperf: Running,
    /// Keeps the programs where they are.
    _gateway: (Place, Option<GatewayDataplane>),
}

impl Service {
    fn build(run: &Run<'_>, kind: Kind) -> Result<Self> {
        let name = format!("{kind:?}").to_lowercase();
        let mut gateway = Place::new(run, &format!("gateway-{name}"))?;
        let host = |role: &str| {
            Namespace::create(run.ledger, &format!("pb{}-{name}-{role}", std::process::id()), Forwarding::Off)
        };
        let (client, server) = (host("gc")?, host("gs")?);
        client.link("eth0", &gateway.namespace, "g0")?;
        gateway.namespace.link("g1", &server, "eth0")?;
        for (namespace, device, address) in [
            (&client, "eth0", CLIENT),
            (&gateway.namespace, "g0", OUTSIDE),
            (&gateway.namespace, "g1", INSIDE),
            (&server, "eth0", INSTANCES[0]),
            (&server, "eth0", INSTANCES[1]),
        ] {
            namespace.add_address(device, &format!("{address}/24"))?;
        }
        client.ip(&format!("route add default via {OUTSIDE}"))?;
        server.ip(&format!("route add default via {INSIDE}"))?;
        let dataplane = match kind {
            Kind::Plain => None,
            Kind::Ours => Some(attach(&mut gateway)?),
            Kind::Ipvs => {
                balance_by_ipvs(&gateway)?;
                None
            }
        };
        let iperf = serve(run, &server, &gateway.path("iperf3.log"))?;
        Ok(Self { kind, client, server, iperf, _gateway: (gateway, dataplane) })
    }

    /// Where clients go.
    fn address(&self) -> Ipv4Addr {
        if self.kind == Kind::Plain { INSTANCES[0] } else { SERVICE }
    }

    fn turn(&self) -> Result<[f64; QUANTITIES.len()]> {
        Ok([self.goodput(&[])?, self.goodput(&["--reverse"])?, self.datagrams()?, self.connections()?])
    }

    /// Gbit/s of one TCP connection.
    fn goodput(&self, options: &[&str]) -> Result<f64> {
        let mut command = self.client.command("iperf3")?;
        command.args([
            "--client",
            &self.address().to_string(),
            "--json",
            "--connect-timeout",
            "3000",
            "--interval",
            "0",
        ]);
        command.args(["--time", "2", "--congestion", "cubic"]).args(options);
        let output = command.output().context("iperf3 does not start")?;
        let json: Value = serde_json::from_slice(&output.stdout).context("iperf3 printed no JSON")?;
        ensure!(json["error"].is_null(), "iperf3: {}", json["error"]);
        let rate = json["end"]["sum_received"]["bits_per_second"].as_f64().context("no rate")?;
        Ok(rate / 1e9)
    }

    /// Small datagrams of one flow that arrive, a second.
    fn datagrams(&self) -> Result<f64> {
        let sink = self.server.run_inside(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, SINK_PORT)))??;
        sys::enlarge_receive_buffer(&sink)?;
        sink.set_read_timeout(Some(PATIENCE))?;
        let source = self.client.run_inside(|| UdpSocket::bind((CLIENT, 0)))??;
        source.connect((self.address(), SINK_PORT))?;
        let received = std::thread::scope(|scope| -> Result<u64> {
            let sender = scope.spawn(|| {
                let start = Instant::now();
                while start.elapsed() < TIME {
                    // A full queue says so; the next one goes.
                    let _ = source.send(&DATAGRAM);
                }
            });
            let (mut buffer, mut received) = ([0; 128], 0);
            loop {
                match sink.recv(&mut buffer) {
                    Ok(_) => received += 1,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
            }
            sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))?;
            Ok(received)
        })?;
        ensure!(received > 0, "no datagram arrives");
        Ok(received as f64 / TIME.as_secs_f64())
    }

    /// Connections that one client opens and ends, one after the other, a second.
    fn connections(&self) -> Result<f64> {
        let listener = self.server.run_inside(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, ACCEPT_PORT)))??;
        let target = SocketAddr::from((self.address(), ACCEPT_PORT));
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let acceptor = scope.spawn(|| {
                // Left to the scheduler, the two now share a processor and now do not, ten times slower or faster.
                sys::pin_to_cpu(1).ok();
                while !is_over.load(Ordering::Relaxed) {
                    // Ends with the client's end.
                    let _ = listener.accept();
                }
            });
            let opened = self.client.run_inside(|| -> Result<u64> {
                sys::pin_to_cpu(0)?;
                let (start, mut opened) = (Instant::now(), 0);
                while start.elapsed() < TIME {
                    let connection = TcpStream::connect_timeout(&target, TIME).context("no connection")?;
                    connection.shutdown(Shutdown::Both)?;
                    opened += 1;
                }
                is_over.store(true, Ordering::Relaxed);
                // The acceptor waits for one more.
                TcpStream::connect_timeout(&target, TIME)?;
                Ok(opened)
            });
            acceptor.join().map_err(|_| anyhow::anyhow!("the acceptor panicked"))?;
            Ok(opened?? as f64 / TIME.as_secs_f64())
        })
    }
}

/// Our programs at both devices of the gateway, and the services.
fn attach(gateway: &mut Place) -> Result<GatewayDataplane> {
    let devices = [gateway.ifindex("g0")?, gateway.ifindex("g1")?];
    let options = GatewayOptions {
        bpffs: gateway.bpffs("gateway")?,
        devices: devices.to_vec(),
        hook: Hook::Tc,
        coexist: Coexistence::default(),
        logging: PacketLogging::Off,
    };
    let [outside, inside] = [gateway.mac("g0")?, gateway.mac("g1")?];
    let device = |ifindex, mac| GatewayDeviceEntry { ifindex, mac, mtu: MTU };
    let towards = NextHopEntry {
        ifindex: devices[1],
        address: Ipv4Addr::UNSPECIFIED.into(),
        source_mac: inside,
        // At TC the kernel finds it.
        destination_mac: None,
    };
    let tables = GatewayTables {
        devices: vec![device(devices[0], outside), device(devices[1], inside)],
        underlay4: None,
        underlay6: None,
        services: [(IPERF_PORT, Transport::Tcp), (SINK_PORT, Transport::Udp), (ACCEPT_PORT, Transport::Tcp)]
            .map(|(port, protocol)| service(port, protocol, &towards))
            .to_vec(),
    };
    gateway.inside(|| {
        let mut dataplane = GatewayDataplane::open(&options)?;
        dataplane.apply(&tables)?;
        Ok(dataplane)
    })
}

fn service(port: u16, protocol: Transport, towards: &NextHopEntry) -> ServiceEntry {
    let instance = |address: &Ipv4Addr| InstanceEntry {
        name: address.to_string(),
        address: (*address).into(),
        port,
        delivery: DeliveryEntry::Nat,
        next_hop: *towards,
        mtu: MTU,
        weight: 1,
        state: InstanceState { is_alive: true, is_draining: false },
    };
    ServiceEntry {
        key: ServiceKey { address: SERVICE.into(), port, protocol },
        is_answered: false,
        affinity: None,
        instances: INSTANCES.iter().map(instance).collect(),
    }
}

/// The same services by IPVS.
fn balance_by_ipvs(gateway: &Place) -> Result<()> {
    gateway.namespace.ip(&format!("addr add {SERVICE}/32 dev lo"))?;
    gateway.namespace.write_sysctl("net/ipv4/vs/conntrack", "0")?;
    let run = |arguments: &str| -> Result<()> {
        let output = gateway.namespace.command("ipvsadm")?.args(arguments.split(' ')).output()?;
        ensure!(output.status.success(), "ipvsadm {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    };
    for (port, protocol) in [(IPERF_PORT, "-t"), (SINK_PORT, "-u"), (ACCEPT_PORT, "-t")] {
        run(&format!("-A {protocol} {SERVICE}:{port} -s mh"))?;
        for instance in INSTANCES {
            run(&format!("-a {protocol} {SERVICE}:{port} -r {instance}:{port} -m"))?;
        }
    }
    Ok(())
}
