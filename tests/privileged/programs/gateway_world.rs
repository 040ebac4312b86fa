//! A gateway for tests on built packets: its tables in both families, both hooks, and what became of a frame.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use persona_ctl::dataplane::gateway_tables::*;
use persona_ctl::dataplane::tables::NextHopEntry;
use persona_ctl::dataplane::{Coexistence, GatewayDataplane, GatewayOptions, Hook, PacketLogging};

use super::edge_frames::Ip6;
use super::edge_world::{Flavour, Verdict, hex};
use super::frames::{Ip, MAC_A, MAC_B, ethernet};
use super::namespace::Namespace;
use super::run::{Facts, TC_DROP, TC_NEXT, TC_REDIRECT, XDP_DROP, XDP_PASS, XDP_REDIRECT, new_drops, run_tc, run_xdp};
use super::world::{LOOPBACK, World, chain, is_privileged};

pub(super) const NEXT_HOP_MAC: [u8; 6] = [2, 0, 0, 0, 1, 7];
pub(super) const MTU: u32 = 1_400;

/// The port of services and of instances behind address translation.
pub(super) const PORT: u16 = 80;
pub(super) const INSTANCE_PORT: u16 = 8_080;

/// Addresses of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    fn address(self, net: u16, host: u16) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::new(10, net as u8, (host >> 8) as u8, host as u8).into(),
            Self::V6 => Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, host).into(),
        }
    }

    pub(super) fn client(self) -> IpAddr {
        self.address(1, 5)
    }

    /// Another client.
    pub(super) fn client_number(self, number: u16) -> IpAddr {
        self.address(1, number)
    }

    pub(super) fn vip(self) -> IpAddr {
        self.address(2, 80)
    }

    pub(super) fn instance(self, number: u16) -> IpAddr {
        self.address(3, number)
    }

    pub(super) fn gateway(self) -> IpAddr {
        self.address(4, 1)
    }

    pub(super) fn node(self) -> IpAddr {
        self.address(4, 2)
    }

    pub(super) fn kind(self) -> u16 {
        if self == Self::V4 { 0x0800 } else { 0x86dd }
    }
}

/// A packet's ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    pub(super) source: (IpAddr, u16),
    pub(super) destination: (IpAddr, u16),
    pub(super) ttl: u8,
}

impl Ends {
    pub(super) fn new(source: (IpAddr, u16), destination: (IpAddr, u16)) -> Self {
        Self { source, destination, ttl: 64 }
    }

    pub(super) fn ttl(self, ttl: u8) -> Self {
        Self { ttl, ..self }
    }

    pub(super) fn tcp(self, flags: u8, payload: &[u8]) -> Vec<u8> {
        match (self.source.0, self.destination.0) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Ip { ttl: self.ttl, ..Ip::new(source, destination, 6) }
                .tcp(self.source.1, self.destination.1, flags, &[], payload),
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                Ip6 { hop_limit: self.ttl, ..Ip6::new(source, destination) }.tcp(
                    self.source.1,
                    self.destination.1,
                    flags,
                    payload,
                )
            }
            _ => panic!("both addresses are of one family"),
        }
    }

    pub(super) fn udp(self, payload: &[u8]) -> Vec<u8> {
        match (self.source.0, self.destination.0) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                Ip { ttl: self.ttl, ..Ip::new(source, destination, 17) }.udp(self.source.1, self.destination.1, payload)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                Ip6 { hop_limit: self.ttl, ..Ip6::new(source, destination) }.udp(
                    self.source.1,
                    self.destination.1,
                    payload,
                )
            }
            _ => panic!("both addresses are of one family"),
        }
    }

    /// An ICMP error from source to destination, of the type and code, that embeds a packet.
    pub(super) fn icmp_error(self, kind: u8, code: u8, parameter: u32, embedded: &[u8]) -> Vec<u8> {
        match (self.source.0, self.destination.0) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut message = vec![kind, code, 0, 0];
                message.extend(parameter.to_be_bytes());
                message.extend(embedded);
                let sum = super::frames::checksum(&message, 0);
                message[2..4].copy_from_slice(&sum.to_be_bytes());
                Ip { ttl: self.ttl, ..Ip::new(source, destination, 1) }.packet(&message)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                Ip6 { hop_limit: self.ttl, ..Ip6::new(source, destination) }.icmp(
                    kind,
                    code,
                    &[&parameter.to_be_bytes()[..], embedded].concat(),
                )
            }
            _ => panic!("both addresses are of one family"),
        }
    }
}

pub(super) fn kind_of(packet: &[u8]) -> u16 {
    if packet[0] >> 4 == 4 { 0x0800 } else { 0x86dd }
}

/// From the client's side to the gateway.
pub(super) fn frame(packet: &[u8]) -> Vec<u8> {
    ethernet(kind_of(packet), packet)
}

pub(super) const ALIVE: InstanceState = InstanceState { is_alive: true, is_draining: false };
pub(super) const DRAINING: InstanceState = InstanceState { is_alive: true, is_draining: true };
pub(super) const DEAD: InstanceState = InstanceState { is_alive: false, is_draining: false };

/// The instance of this number, behind address translation.
pub(super) fn instance(family: Family, number: u16) -> InstanceEntry {
    let address = family.instance(number);
    InstanceEntry {
        name: format!("i{number}"),
        address,
        port: INSTANCE_PORT,
        delivery: DeliveryEntry::Nat,
        next_hop: NextHopEntry { ifindex: LOOPBACK, address, source_mac: MAC_B, destination_mac: Some(NEXT_HOP_MAC) },
        mtu: MTU,
        weight: 100,
        state: ALIVE,
    }
}

pub(super) fn key(family: Family, protocol: Transport) -> ServiceKey {
    ServiceKey { address: family.vip(), port: PORT, protocol }
}

/// A TCP service with so many instances.
pub(super) fn service(family: Family, count: u16) -> ServiceEntry {
    ServiceEntry {
        key: key(family, Transport::Tcp),
        is_answered: true,
        affinity: None,
        instances: (1..=count).map(|number| instance(family, number)).collect(),
    }
}

pub(super) fn tables(services: Vec<ServiceEntry>) -> GatewayTables {
    let v4 = |address| if let IpAddr::V4(address) = address { Some(address) } else { None };
    let v6 = |address| if let IpAddr::V6(address) = address { Some(address) } else { None };
    GatewayTables {
        devices: vec![GatewayDeviceEntry { ifindex: LOOPBACK, mac: MAC_B, mtu: 1_500 }],
        underlay4: v4(Family::V4.gateway()),
        underlay6: v6(Family::V6.gateway()),
        services,
    }
}

/// How the gateway of a world is opened.
pub(super) fn options(world: &World) -> GatewayOptions {
    GatewayOptions {
        bpffs: world.bpffs(),
        devices: vec![LOOPBACK],
        hook: Hook::Tc,
        coexist: Coexistence::default(),
        logging: PacketLogging::Off,
    }
}

pub(super) fn open(world: &World) -> GatewayDataplane {
    GatewayDataplane::open(&options(world)).unwrap_or_else(|error| panic!("{}", chain(&error)))
}

/// Runs a test with a gateway that has these services.
pub(super) fn with_gateway(services: Vec<ServiceEntry>, test: impl FnOnce(&mut GatewayDataplane, &World) + Send) {
    if !is_privileged() {
        return;
    }
    let namespace = Namespace::new("gateway");
    let world = World::new();
    namespace.enter(|| {
        let mut gateway = open(&world);
        gateway.apply(&tables(services)).unwrap();
        test(&mut gateway, &world);
    });
}

/// What became of a frame.
pub(super) fn run(flavour: Flavour, gateway: &GatewayDataplane, frame: &[u8]) -> (Verdict, Vec<u8>) {
    let outcome = match flavour {
        Flavour::Tc => run_tc(gateway.programs(), "gateway", frame, Facts::default()),
        Flavour::Xdp => run_xdp(gateway.programs(), "xdp_gateway", frame),
    };
    let verdict = match (flavour, outcome.verdict) {
        (Flavour::Tc, TC_NEXT) | (Flavour::Xdp, XDP_PASS) => Verdict::Pass,
        (Flavour::Tc, TC_DROP) | (Flavour::Xdp, XDP_DROP) => Verdict::Drop,
        (Flavour::Tc, TC_REDIRECT) | (Flavour::Xdp, XDP_REDIRECT) => Verdict::Redirect,
        (_, other) => panic!("{flavour:?} gave {other}"),
    };
    (verdict, outcome.bytes)
}

/// Runs a frame that must be sent with this packet in it; gives the frame.
#[track_caller]
pub(super) fn sends(flavour: Flavour, gateway: &GatewayDataplane, frame: &[u8], packet: &[u8]) -> Vec<u8> {
    let before = gateway.drops().unwrap();
    let (verdict, bytes) = run(flavour, gateway, frame);
    let drops = new_drops(&before, &gateway.drops().unwrap());
    assert_eq!(verdict, Verdict::Redirect, "{flavour:?}: {drops:?}");
    assert_eq!(hex(&bytes[14..]), hex(packet), "{flavour:?}");
    assert_eq!(drops, [], "{flavour:?}");
    assert_eq!(bytes[12..14], kind_of(packet).to_be_bytes(), "{flavour:?}");
    bytes
}

/// Runs a frame that must go to the next hop of an instance. At TC the kernel writes the hardware addresses later.
#[track_caller]
pub(super) fn sends_on(flavour: Flavour, gateway: &GatewayDataplane, frame: &[u8], packet: &[u8]) {
    let bytes = sends(flavour, gateway, frame, packet);
    if flavour == Flavour::Xdp {
        assert_eq!(hex(&bytes[..12]), hex(&[NEXT_HOP_MAC, MAC_B].concat()));
    }
}

/// Runs a frame that must go back to the hardware address that the client's frames come from.
#[track_caller]
pub(super) fn sends_back(flavour: Flavour, gateway: &GatewayDataplane, frame: &[u8], packet: &[u8]) {
    let bytes = sends(flavour, gateway, frame, packet);
    assert_eq!(hex(&bytes[..12]), hex(&[MAC_A, MAC_B].concat()), "{flavour:?}");
}

/// Runs a frame that must be dropped for one reason.
#[track_caller]
pub(super) fn drops(flavour: Flavour, gateway: &GatewayDataplane, frame: &[u8], reason: &str) {
    let before = gateway.drops().unwrap();
    let (verdict, _) = run(flavour, gateway, frame);
    let drops = new_drops(&before, &gateway.drops().unwrap());
    assert_eq!((verdict, drops), (Verdict::Drop, vec![(reason.to_owned(), 1)]), "{flavour:?}");
}

/// Runs a frame that must pass as it is.
#[track_caller]
pub(super) fn passes(flavour: Flavour, gateway: &GatewayDataplane, frame: &[u8]) {
    let (verdict, bytes) = run(flavour, gateway, frame);
    assert_eq!((verdict, hex(&bytes)), (Verdict::Pass, hex(frame)), "{flavour:?}");
}

/// TCP's flags.
pub(super) const FIN: u8 = 1;
pub(super) const SYN: u8 = 2;
pub(super) const RST: u8 = 4;
pub(super) const ACK: u8 = 16;

/// The instance that a client's TCP packet goes to by address translation; None: it was dropped.
pub(super) fn chosen(gateway: &GatewayDataplane, family: Family, client: (IpAddr, u16), flags: u8) -> Option<u16> {
    let packet = Ends::new(client, (family.vip(), PORT)).tcp(flags, b"");
    let (verdict, bytes) = run(Flavour::Tc, gateway, &frame(&packet));
    let last = if family == Family::V4 { 14 + 18 } else { 14 + 38 };
    (verdict == Verdict::Redirect).then(|| u16::from_be_bytes([bytes[last], bytes[last + 1]]))
}

/// How many of a client's flows, by port, went to which instance.
pub(super) fn shares(
    gateway: &GatewayDataplane,
    family: Family,
    ports: std::ops::Range<u16>,
    flags: u8,
) -> BTreeMap<Option<u16>, usize> {
    let mut shares = BTreeMap::new();
    for port in ports {
        *shares.entry(chosen(gateway, family, (family.client(), port), flags)).or_default() += 1;
    }
    shares
}
