//! Multicast groups that the outside device listens to for us.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv6Addr, UdpSocket};

use super::neighbour_discovery::solicited_node;

/// Solicited-node groups: solicitations for an address that is on no interface would otherwise be kept out by the
/// device's own filter, or by a switch that snoops MLD.
#[derive(Debug)]
pub(super) struct Groups {
    ifindex: u32,
    /// None: nothing was joined yet.
    socket: Option<UdpSocket>,
    joined: BTreeSet<Ipv6Addr>,
}

impl Groups {
    /// No group is joined yet.
    pub(super) fn on(ifindex: u32) -> Self {
        Self { ifindex, socket: None, joined: BTreeSet::new() }
    }

    /// Joins the solicited-node groups of these addresses. A group stays joined as long as this value lives.
    pub(super) fn join(&mut self, addresses: impl Iterator<Item = Ipv6Addr>) {
        for group in addresses.map(solicited_node) {
            if self.joined.contains(&group) {
                continue;
            }
            match self.try_join(group) {
                Ok(()) => drop(self.joined.insert(group)),
                Err(error) => tracing::warn!(
                    %group, %error,
                    "the outside device does not listen to a solicited-node group: is IPv6 on there? tried again with the next state"
                ),
            }
        }
    }

    fn try_join(&mut self, group: Ipv6Addr) -> io::Result<()> {
        let socket = match &mut self.socket {
            Some(socket) => socket,
            none => none.insert(UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?),
        };
        socket.join_multicast_v6(&group, self.ifindex)
    }
}
