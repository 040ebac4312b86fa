//! What agent and edge do alike with the encrypted tunnel: from a desired state to far ends, and from a keeper to a report.

use std::net::IpAddr;

use persona_core::wire::desired::{DesiredState, Item, TunnelEnd};
use persona_core::wire::tunnel::{FarEndReport, TunnelReport};

use super::{FarEnd, Keeper};

/// Outer IP and UDP headers, WireGuard's header and tag (16 and 16), over IPv4 …
const ENCRYPTION_BYTES: u32 = 60;
/// … and over IPv6.
const ENCRYPTION_BYTES_V6: u32 = 80;

/// Bytes that encryption adds to a packet to an address.
pub fn encryption_to(address: IpAddr) -> u32 {
    if address.is_ipv4() { ENCRYPTION_BYTES } else { ENCRYPTION_BYTES_V6 }
}

/// The device that a state needs, on this address of a host whose underlay carries packets of `mtu` bytes. A state without
/// encrypted leases needs none.
pub fn provide(keeper: &mut Keeper, desired: &DesiredState, address: IpAddr, mtu: u32) -> Option<u32> {
    keeper.turn_keys();
    let needs = desired.items.values().any(|item| matches!(item, Item::Lease(lease) if lease.encrypted));
    if !needs {
        keeper.stop();
        return None;
    }
    let ifindex = keeper.ensure(address, mtu.saturating_sub(encryption_to(address)))?;
    keeper.set_far_ends(&far_ends(desired));
    Some(ifindex)
}

/// The far ends that a state names. One whose key is none is left out: the manager lets none in.
pub fn far_ends(desired: &DesiredState) -> Vec<FarEnd> {
    let tunnels = desired.items.values().filter_map(|item| match item {
        Item::Tunnel(tunnel) => Some(tunnel),
        _ => None,
    });
    let far_end = |tunnel: &persona_core::wire::desired::TunnelItem| {
        let key = tunnel.end.public_key.parse().ok()?;
        let next = tunnel.end.next_key.as_ref().and_then(|next| next.parse().ok());
        Some(FarEnd { key, next, address: tunnel.address, port: tunnel.end.port })
    };
    tunnels.filter_map(far_end).collect()
}

/// What the manager is told.
pub fn report(keeper: &mut Keeper) -> TunnelReport {
    let next_key = keeper.next_key().map(|key| key.to_string());
    let end = keeper.offer().map(|(key, port)| TunnelEnd { public_key: key.to_string(), port, next_key });
    let implementation = keeper.is_kernel().map(|is_kernel| if is_kernel { "kernel" } else { "userspace" }.to_owned());
    let far_end = |state: super::FarEndState| FarEndReport {
        address: state.address,
        handshake_age_secs: state.since_handshake.map(|since| since.as_secs()),
    };
    TunnelReport {
        end,
        implementation,
        reason: keeper.trouble().map(str::to_owned),
        key_age_secs: keeper.key_age().map(|age| age.as_secs()),
        far_ends: keeper.states().into_iter().map(far_end).collect(),
    }
}
