//! Delays and losses on purpose, with real packets from a workload to a server and back. Only where the kernel has netem.

use std::process::Output;

use persona_common::node::DELAYED_CLASS;
use persona_ctl::dataplane::tables::Impairment;
use persona_ctl::dataplane::{Hook, NodeDataplane};
use persona_ctl::netlink::Shaper;
use persona_ctl::netlink::htb::{HtbClass, Leaf};
use persona_ctl::netlink::netem::Netem;

use super::interop::queue;
use super::namespace::Namespace;
use super::path::{Chain, Family};
use crate::peers::interop::{self, NETEM};

/// Beyond what an emulated processor takes for the same way by itself.
const DELAY_MS: u64 = 300;

/// The subject's class on the uplink.
const EGRESS_CLASS: u32 = 0x7e50_0002;

#[test]
fn a_round_trip_has_the_delay_twice_and_what_passes_by_has_none() {
    if interop::lacks(NETEM) {
        return;
    }
    for family in Family::BOTH {
        let chain = Chain::of(family);
        let (mut node, _edge) = (chain.open_node(), chain.open_edge(Hook::Tc));
        for (device, class) in [("u0", EGRESS_CLASS), ("w0", DELAYED_CLASS)] {
            delay(&chain.node, device, class as u16);
        }
        impair(&chain, &mut node, Impairment { is_delayed: true, loss_millionths: 0 });
        let times = round_trips(&ping(&chain, &family.server().to_string()));
        assert_eq!(times.len(), 3, "{family:?}: all come back");
        assert!(times.iter().all(|ms| *ms >= 2.0 * DELAY_MS as f64), "{family:?}: {times:?}");
        for device in ["u0", "w0"] {
            let (packets, drops) = queue(&chain.node, device, "netem");
            assert!(packets >= 3 && drops == 0, "{family:?}, {device}: {packets} packets, {drops} dropped");
        }
        let before = queue(&chain.node, "w0", "netem");
        let near = if family == Family::V4 { "10.1.0.1" } else { "fd00:1::1" };
        assert_eq!(round_trips(&ping(&chain, near)).len(), 3, "{family:?}");
        assert_eq!(queue(&chain.node, "w0", "netem"), before, "{family:?}: the node itself is near");

        impair(&chain, &mut node, Impairment { is_delayed: true, loss_millionths: 1_000_000 });
        assert_eq!(round_trips(&ping(&chain, &family.server().to_string())), [0.0; 0], "{family:?}");
        assert!(node.counters().unwrap().drops["impaired"] >= 3, "{family:?}");
    }
}

fn impair(chain: &Chain, node: &mut NodeDataplane, impair: Impairment) {
    let mut tables = chain.node_tables();
    let egress = tables.subjects[0].network.as_mut().unwrap();
    (egress.impair, egress.egress_class) = (impair, EGRESS_CLASS);
    chain.node.enter(|| node.apply(&tables)).unwrap();
}

/// A queue that holds nothing back and delays what names its class.
fn delay(at: &Namespace, device: &str, minor: u16) {
    let ifindex = at.ifindex(device);
    let netem = Netem { latency_ns: DELAY_MS * 1_000_000, limit_packets: 1_000, ..Netem::default() };
    let class = HtbClass::new(12_500_000_000, 50_000_000, Leaf::Netem(netem));
    let shaper = Shaper { default_minor: 0, sizes: None, classes: [(minor, class)].into() };
    at.netlink(async |netlink| netlink.raise_shaper(ifindex, &shaper).await.unwrap());
}

fn ping(chain: &Chain, to: &str) -> Output {
    chain.workload.run(&format!("ping -c 3 -i 0.2 -W 5 {to}"))
}

/// Milliseconds of each ping that came back.
fn round_trips(output: &Output) -> Vec<f64> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().filter_map(|line| line.split_once("time=")?.1.split(' ').next()?.parse().ok()).collect()
}
