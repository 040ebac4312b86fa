//! The kernel's WireGuard device, made and told by netlink (linux/wireguard.h).
//!
//! It outlives the process: a restart finds it with its sessions and changes what differs, and no packet is lost meanwhile.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use netlink_sys::protocols::{NETLINK_GENERIC, NETLINK_ROUTE};
use persona_common::BYPASS_MARK;

use super::kernel_change::Change;
use super::netlink_bytes::{Asker, Bytes, attribute, attributes};
use super::{FarEnd, FarEndState, PrivateKey, PublicKey, WireConfig};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CREATE: u16 = 0x400;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;

const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

const WG_CMD_GET_DEVICE: u8 = 0;
const WG_CMD_SET_DEVICE: u8 = 1;
const WGDEVICE_A_IFINDEX: u16 = 1;
const WGDEVICE_A_PRIVATE_KEY: u16 = 3;
const WGDEVICE_A_LISTEN_PORT: u16 = 6;
const WGDEVICE_A_FWMARK: u16 = 7;
const WGDEVICE_A_PEERS: u16 = 8;
const WGPEER_A_PUBLIC_KEY: u16 = 1;
const WGPEER_A_FLAGS: u16 = 3;
const WGPEER_A_ENDPOINT: u16 = 4;
const WGPEER_A_LAST_HANDSHAKE_TIME: u16 = 6;
const WGPEER_A_ALLOWEDIPS: u16 = 9;
const WGPEER_F_REMOVE_ME: u32 = 1;
const WGPEER_F_REPLACE_ALLOWEDIPS: u32 = 2;
const WGALLOWEDIP_A_FAMILY: u16 = 1;
const WGALLOWEDIP_A_IPADDR: u16 = 2;
const WGALLOWEDIP_A_CIDR_MASK: u16 = 3;

/// The device. Dropping it leaves it as it is.
pub(super) struct KernelDevice {
    ifindex: u32,
    name: &'static str,
    far_ends: Vec<FarEnd>,
    /// Follows far ends that change their keys.
    change: Option<Change>,
}

/// A far end as the kernel has it.
pub(super) struct Known {
    pub(super) key: [u8; 32],
    /// When keys were last agreed upon, since the Unix epoch. Zero: never.
    pub(super) handshake: Duration,
}

/// Takes away the devices that roles of this host have left; their names.
pub(super) fn remove_all(names: &[&str]) -> io::Result<Vec<String>> {
    let mut route = Asker::open(NETLINK_ROUTE)?;
    let mut removed = Vec::new();
    for name in names {
        if let Ok(ifindex) = index_of(&mut route, name) {
            route.ask(RTM_DELLINK, 0, &link(ifindex))?;
            removed.push((*name).to_owned());
        }
    }
    Ok(removed)
}

/// Whether the kernel says that it has WireGuard. A module that isn't loaded is loaded when a device is made.
pub(super) fn is_known() -> bool {
    family().is_ok()
}

impl KernelDevice {
    /// The device by its name, in this thread's network namespace; made if it is not there.
    pub(super) fn start(config: &WireConfig, key: &PrivateKey, mtu: u32) -> io::Result<Self> {
        let mut route = Asker::open(NETLINK_ROUTE)?;
        let ifindex = make(&mut route, config.device, mtu)?;
        let device = Self { ifindex, name: config.device, far_ends: Vec::new(), change: None };
        if let Err(error) = device.configure(config, key) {
            // Its name may be wanted by one in user space.
            device.remove();
            return Err(error);
        }
        Ok(device)
    }

    fn configure(&self, config: &WireConfig, key: &PrivateKey) -> io::Result<()> {
        let mut body = request(WG_CMD_SET_DEVICE, self.ifindex);
        body.put(WGDEVICE_A_PRIVATE_KEY, key.secret().as_bytes());
        body.put(WGDEVICE_A_LISTEN_PORT, &config.port.to_ne_bytes());
        body.put(WGDEVICE_A_FWMARK, &BYPASS_MARK.to_ne_bytes());
        wireguard(0, &body).map(drop)
    }

    /// Gives it another key. What far ends still send under the one before is taken; what goes out waits for new sessions.
    pub(super) fn set_key(&self, key: &PrivateKey) -> io::Result<()> {
        let mut body = request(WG_CMD_SET_DEVICE, self.ifindex);
        body.put(WGDEVICE_A_PRIVATE_KEY, key.secret().as_bytes());
        wireguard(0, &body).map(drop)
    }

    /// Takes it away.
    pub(super) fn remove(&self) {
        let removed = Asker::open(NETLINK_ROUTE).and_then(|mut it| it.ask(RTM_DELLINK, 0, &link(self.ifindex)));
        if let Err(error) = removed {
            tracing::warn!(device = self.name, %error, "the encrypted tunnel's device was not removed");
        }
    }

    /// Its index.
    pub(super) fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Whether nobody has taken it away.
    pub(super) fn is_there(&self) -> bool {
        Asker::open(NETLINK_ROUTE)
            .and_then(|mut route| index_of(&mut route, self.name))
            .is_ok_and(|it| it == self.ifindex)
    }

    /// Talks to these far ends and to no others. One that stays keeps its sessions.
    pub(super) fn set_far_ends(&mut self, far_ends: &[FarEnd]) -> io::Result<()> {
        if self.far_ends == far_ends {
            return Ok(());
        }
        // It must not move an address while the peers are set.
        self.change = None;
        let known = known(self.ifindex)?;
        let wanted: BTreeSet<[u8; 32]> = far_ends.iter().flat_map(keys_of).map(|key| key.0).collect();
        let mut peers = Bytes::default();
        for gone in known.iter().filter(|known| !wanted.contains(&known.key)) {
            let mut peer = Bytes::default();
            peer.put(WGPEER_A_PUBLIC_KEY, &gone.key).put(WGPEER_A_FLAGS, &WGPEER_F_REMOVE_ME.to_ne_bytes());
            peers.nest(0, &peer);
        }
        for far_end in far_ends {
            let used = used_key(far_end, &known);
            for key in keys_of(far_end) {
                peers.nest(0, &peer_of(far_end, key, key == used));
            }
        }
        let mut body = request(WG_CMD_SET_DEVICE, self.ifindex);
        body.nest(WGDEVICE_A_PEERS, &peers);
        wireguard(0, &body)?;
        self.far_ends = far_ends.to_vec();
        self.change = Change::follow(self.ifindex, far_ends, &known)?;
        Ok(())
    }

    /// What is known of the far ends.
    pub(super) fn states(&self) -> Vec<FarEndState> {
        let known = known(self.ifindex).unwrap_or_default();
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let state = |far_end: &FarEnd| {
            let agreed = known.iter().filter(|it| keys_of(far_end).any(|key| key.0 == it.key));
            let handshake = agreed.map(|it| it.handshake).max().filter(|time| !time.is_zero());
            let since_handshake = handshake.map(|time| now.saturating_sub(time));
            FarEndState { address: far_end.address, since_handshake }
        };
        self.far_ends.iter().map(state).collect()
    }
}

/// The far ends that a device has.
pub(super) fn known(ifindex: u32) -> io::Result<Vec<Known>> {
    let parts = wireguard(NLM_F_DUMP, &request(WG_CMD_GET_DEVICE, ifindex))?;
    let peers = parts.iter().filter_map(|part| attribute(part.get(4..)?, WGDEVICE_A_PEERS));
    let known = peers.flat_map(attributes).filter_map(|(_, peer)| {
        let key = attribute(peer, WGPEER_A_PUBLIC_KEY)?.try_into().ok()?;
        let time = attribute(peer, WGPEER_A_LAST_HANDSHAKE_TIME).and_then(|time| time.first_chunk::<8>());
        Some(Known { key, handshake: Duration::from_secs(time.map_or(0, |time| u64::from_ne_bytes(*time))) })
    });
    Ok(known.collect())
}

/// Gives a far end's address to its next key: packets go to that from now on, and are taken from that alone.
pub(super) fn move_address(ifindex: u32, far_end: &FarEnd, next: PublicKey) -> io::Result<()> {
    let mut peers = Bytes::default();
    peers.nest(0, &peer_of(far_end, next, true));
    let mut body = request(WG_CMD_SET_DEVICE, ifindex);
    body.nest(WGDEVICE_A_PEERS, &peers);
    wireguard(0, &body).map(drop)
}

/// A far end's keys: the one in use, and its next.
fn keys_of(far_end: &FarEnd) -> impl Iterator<Item = PublicKey> + use<> {
    [Some(far_end.key), far_end.next].into_iter().flatten()
}

/// The key under which a far end sends, as far as its handshakes tell.
fn used_key(far_end: &FarEnd, known: &[Known]) -> PublicKey {
    let has_agreed = |key: &PublicKey| known.iter().any(|it| it.key == key.0 && !it.handshake.is_zero());
    far_end.next.filter(has_agreed).unwrap_or(far_end.key)
}

/// A peer of the device. One address belongs to one peer (WireGuard's AllowedIPs): of a far end's two keys one has it.
fn peer_of(far_end: &FarEnd, key: PublicKey, has_address: bool) -> Bytes {
    let (family, address, bits) = match far_end.address {
        IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec(), 32),
        IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec(), 128),
    };
    let mut own = Bytes::default();
    own.put(WGALLOWEDIP_A_FAMILY, &(family as u16).to_ne_bytes());
    own.put(WGALLOWEDIP_A_IPADDR, &address).put(WGALLOWEDIP_A_CIDR_MASK, &[bits]);
    let mut allowed = Bytes::default();
    if has_address {
        allowed.nest(0, &own);
    }
    let mut peer = Bytes::default();
    peer.put(WGPEER_A_PUBLIC_KEY, &key.0);
    peer.put(WGPEER_A_FLAGS, &WGPEER_F_REPLACE_ALLOWEDIPS.to_ne_bytes());
    peer.put(WGPEER_A_ENDPOINT, &socket_address(far_end.address, far_end.port));
    peer.nest(WGPEER_A_ALLOWEDIPS, &allowed);
    peer
}

/// `struct sockaddr_in` or `struct sockaddr_in6`.
fn socket_address(address: IpAddr, port: u16) -> Vec<u8> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let mut bytes = (family as u16).to_ne_bytes().to_vec();
    bytes.extend(port.to_be_bytes());
    match address {
        IpAddr::V4(address) => {
            bytes.extend(address.octets());
            bytes.extend([0; 8]);
        }
        IpAddr::V6(address) => {
            bytes.extend([0; 4]);
            bytes.extend(address.octets());
            bytes.extend([0; 4]);
        }
    }
    bytes
}

/// A message of generic netlink to WireGuard about a device.
fn request(command: u8, ifindex: u32) -> Bytes {
    let mut body = Bytes::after(&[command, 1, 0, 0]);
    body.put(WGDEVICE_A_IFINDEX, &ifindex.to_ne_bytes());
    body
}

fn wireguard(flags: u16, body: &Bytes) -> io::Result<Vec<Vec<u8>>> {
    let (mut asker, family) = family()?;
    asker.ask(family, flags, body)
}

/// A socket, and the number that WireGuard has there.
fn family() -> io::Result<(Asker, u16)> {
    let mut asker = Asker::open(NETLINK_GENERIC)?;
    let mut question = Bytes::after(&[CTRL_CMD_GETFAMILY, 1, 0, 0]);
    question.put(CTRL_ATTR_FAMILY_NAME, b"wireguard\0");
    let answers = asker.ask(GENL_ID_CTRL, 0, &question)?;
    let family = answers.iter().find_map(|answer| attribute(answer.get(4..)?, CTRL_ATTR_FAMILY_ID)?.first_chunk());
    let family = family.map(|family| u16::from_ne_bytes(*family)).ok_or(io::ErrorKind::NotFound)?;
    Ok((asker, family))
}

/// `struct ifinfomsg`.
fn link(ifindex: u32) -> Bytes {
    let mut fixed = vec![0; 4];
    fixed.extend(ifindex.to_ne_bytes());
    fixed.extend([0; 8]);
    Bytes::after(&fixed)
}

fn make(route: &mut Asker, name: &str, mtu: u32) -> io::Result<u32> {
    let mut kind = Bytes::default();
    kind.put(IFLA_INFO_KIND, b"wireguard");
    let mut body = link(0);
    body.put(IFLA_IFNAME, format!("{name}\0").as_bytes()).put(IFLA_MTU, &mtu.to_ne_bytes());
    body.nest(IFLA_LINKINFO, &kind);
    // One that is there already is brought to the MTU; another kind of device under this name is refused.
    route.ask(RTM_NEWLINK, NLM_F_CREATE, &body)?;
    index_of(route, name)
}

fn index_of(route: &mut Asker, name: &str) -> io::Result<u32> {
    let mut body = link(0);
    body.put(IFLA_IFNAME, format!("{name}\0").as_bytes());
    let answers = route.ask(RTM_GETLINK, 0, &body)?;
    let index = answers.first().and_then(|answer| answer.get(4..)?.first_chunk());
    index.map(|index| u32::from_ne_bytes(*index)).ok_or_else(|| io::ErrorKind::NotFound.into())
}
