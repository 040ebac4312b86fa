//! Flows opened and closed, as a watcher is told of them.

use persona_common::event::WANT_FLOWS;
use persona_ctl::dataplane::watch::{Ring, Watch, Watched};
use persona_ctl::monitor::Record;

use super::nat_world::*;

const REMOTE: (std::net::Ipv4Addr, u16) = (SERVER, 443);

#[test]
fn a_flow_is_told_when_it_opens_and_once_when_it_ends() {
    for (what, end) in [
        ("FIN from both", &[(true, FIN | ACK), (false, FIN | ACK), (true, ACK), (false, FIN | ACK)][..]),
        ("the server's FIN first", &[(false, FIN | ACK), (true, FIN | ACK), (true, FIN | ACK)]),
        ("RST of the workload", &[(true, RST), (true, RST)]),
        ("RST from outside", &[(false, RST), (false, RST)]),
    ] {
        with_nat(&Wish::default(), |nat| {
            let mut watching = Watch::open(&nat.bpffs, Watched::Node, Ring::Events { wanted: WANT_FLOWS }).unwrap();
            nat.tcp_port(INNER_PORT, REMOTE, SYN).unwrap();
            nat.tcp_in(REMOTE, OUTER_PORT, SYN | ACK).unwrap();
            nat.tcp_port(INNER_PORT, REMOTE, ACK).unwrap();
            for (is_outward, flags) in end {
                if *is_outward {
                    nat.tcp_port(INNER_PORT, REMOTE, *flags).unwrap();
                } else {
                    nat.tcp_in(REMOTE, OUTER_PORT, *flags).unwrap();
                }
            }
            let told = std::iter::from_fn(|| watching.next_record()).map(|bytes| Record::read(&bytes).unwrap());
            let told = told.collect::<Vec<_>>();
            let [Record::Opened(opened), Record::Closed(closed)] = &told[..] else { panic!("{what}: {told:?}") };
            for flow in [opened, closed] {
                assert_eq!((flow.lease, flow.subject, flow.vni, flow.protocol), (9, 7, VNI, 6), "{what}");
                assert_eq!((flow.inner, flow.inner_port), (WORKLOAD.into(), INNER_PORT), "{what}");
                assert_eq!((flow.remote, flow.remote_port), (SERVER.into(), 443), "{what}");
                assert_eq!((flow.outer, flow.outer_port), (EGRESS.into(), OUTER_PORT), "{what}");
            }
        });
    }
}
