//! How a packet to one of our own addresses came, and so how it goes on, and how answers about it go back.

use persona_common::addr::Address6;
use persona_common::drop::DropReason;
use persona_common::edge::{EdgeConfig, NextHop};
use persona_ebpf::count::count_handed_over;
use persona_ebpf::encapsulation::{Inner, Outer, Tunnel, readdress};
use persona_ebpf::frame::Frame;
use persona_ebpf::header::{ETHERNET_LENGTH, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet};

use crate::stage::Next;

/// Internetwork control, of answers (RFC 1812 §4.3.2.5).
const ANSWER_TOS: u8 = 0xc0;

/// Where a packet came from. Not an enum with the tunnel in it: the compiler would leave the absent one undefined, and the
/// verifier lets nothing undefined be handed to a function.
#[derive(Clone, Copy)]
pub struct Arrival<'a> {
    /// The tunnel that it came in; none from outside.
    outer: Option<&'a Outer>,
    /// 1: in the tunnel of a peer, which passes it on from outside. 0: of a node.
    is_relayed: u32,
}

/// What becomes of a tunnel packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the tunnel's other end.
    Send,
    /// To the slow path.
    HandOver,
}

impl<'a> Arrival<'a> {
    /// From outside, bare.
    pub const OUTSIDE: Self = Self { outer: None, is_relayed: 0 };

    /// In the tunnel of a node or, if `is_relayed` is 1, of a peer.
    #[inline(always)]
    pub fn in_tunnel(outer: &'a Outer, is_relayed: u32) -> Self {
        Self { outer: Some(outer), is_relayed }
    }

    /// Where the packet stands in the frame.
    #[inline(always)]
    pub fn packet_at(&self) -> usize {
        match self.outer {
            None => ETHERNET_LENGTH,
            Some(outer) => outer.inner_at(),
        }
    }

    /// Whether a peer has passed it on: nobody passes it on again.
    #[inline(always)]
    pub fn is_relayed(&self) -> bool {
        self.is_relayed != 0
    }

    /// Puts the packet into a tunnel, or into another one.
    #[inline(always)]
    pub fn emit<F: Frame>(
        &self,
        frame: &F,
        config: &EdgeConfig,
        tunnel: &Tunnel,
        inner: &Inner,
        next_hop: &NextHop,
        way: Way,
    ) -> Result<Next, DropReason> {
        if way == Way::HandOver && config.slow_ifindex == 0 {
            return Err(DropReason::NoSlowPath);
        }
        match self.outer {
            None => frame.encapsulate(tunnel, inner)?,
            // A congestion mark of the first stretch stays for whoever decapsulates.
            Some(outer) => readdress(frame, outer, tunnel, &Inner { tos: outer.tos, ..*inner })?,
        }
        Ok(Next::verdict(match way {
            Way::Send => frame.send(next_hop, &tunnel.destination)?,
            Way::HandOver => hand_over(frame, config, tunnel.is_ipv6())?,
        }))
    }

    /// Sends the answer of `length` bytes, which stands where the packet stood, to `destination`.
    #[inline(always)]
    pub fn answer<F: Frame>(
        &self,
        frame: &F,
        config: &EdgeConfig,
        destination: &Address6,
        length: usize,
        is_ipv6: bool,
    ) -> Result<i32, DropReason> {
        match self.outer {
            None => {}
            Some(outer) if self.is_relayed() => {
                frame.decapsulate(outer)?;
                return frame.send(if is_ipv6 { &config.outside6 } else { &config.outside }, destination);
            }
            Some(outer) => {
                let tunnel = Tunnel {
                    source: config.underlay_address,
                    destination: outer.source,
                    vni: outer.vni(),
                    entropy_port: u16::from_be(outer.udp.source),
                    marker: 0,
                    is_control: false,
                };
                readdress(frame, outer, &tunnel, &Inner { length, tos: ANSWER_TOS, is_ipv6 })?;
            }
        }
        frame.swap_ethernet()?;
        Ok(frame.send_back())
    }
}

/// Gives a finished tunnel frame to the slow path.
#[inline(always)]
fn hand_over<F: Frame>(frame: &F, config: &EdgeConfig, is_ipv6: bool) -> Result<i32, DropReason> {
    let kind = if is_ipv6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 };
    frame.write(0, Ethernet { destination: [0; 6], source: [0; 6], kind })?;
    count_handed_over();
    Ok(frame.send_to_device(config.slow_ifindex))
}
