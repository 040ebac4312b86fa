//! The kernel's reverse-path filter at the tunnel's device: answers to the host's own processes come in there, from where
//! another device's route leads.

use std::io;

use netlink_sys::protocols::NETLINK_ROUTE;

use super::netlink_bytes::{Asker, Bytes};

/// Where the kernel keeps what all IPv4 devices have in common, and each its own.
const CONFIGURATION: &str = "/proc/sys/net/ipv4/conf";

/// What is written there: no source is checked.
const OFF: &str = "0";
/// A source passes that any route leads to.
const LOOSE: &str = "2";

const RTM_NEWADDR: u16 = 20;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_REPLACE: u16 = 0x100;
const IFA_LOCAL: u16 = 2;
const SCOPE_HOST: u8 = 254;

/// The address that stands for none (RFC 7600 §4.8): never a source, never sent to.
const DUMMY: [u8; 4] = [192, 0, 0, 8];

/// Lets answers in at a device of ours. All of it goes with the device, so there is nothing to put back.
pub(super) fn loosen(device: &str, ifindex: u32) -> io::Result<()> {
    let of_all = std::fs::read_to_string(format!("{CONFIGURATION}/all/rp_filter"))?;
    let own = own_value(of_all.trim());
    if own == LOOSE {
        add_dummy(ifindex)?;
    }
    std::fs::write(format!("{CONFIGURATION}/{device}/rp_filter"), own)
}

/// What a device needs beside what holds for all: the higher of both is in force, and loose is higher than strict
/// (Linux Documentation/networking/ip-sysctl.rst).
fn own_value(of_all: &str) -> &'static str {
    if of_all == OFF { OFF } else { LOOSE }
}

/// A device without any address takes no source at all while there is a filter, a loose one included
/// (`__fib_validate_source` in the kernel's net/ipv4/fib_frontend.c).
fn add_dummy(ifindex: u32) -> io::Result<()> {
    let mut body = Bytes::after(&if_addr_message(ifindex));
    body.put(IFA_LOCAL, &DUMMY);
    Asker::open(NETLINK_ROUTE)?.ask(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &body).map(drop)
}

/// `struct ifaddrmsg`: one address of 32 bits, for this host only.
fn if_addr_message(ifindex: u32) -> [u8; 8] {
    let index = ifindex.to_ne_bytes();
    [libc::AF_INET as u8, 32, 0, SCOPE_HOST, index[0], index[1], index[2], index[3]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_higher_of_both_values_is_never_the_strict_one() {
        for (of_all, in_force) in [(0, 0), (1, 2), (2, 2)] {
            let own: u8 = own_value(&of_all.to_string()).parse().unwrap();
            assert_eq!(own.max(of_all), in_force, "{of_all}");
        }
    }
}
