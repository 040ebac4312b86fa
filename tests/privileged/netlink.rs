//! Links, routes, neighbours and queues over rtnetlink, in a network namespace that only the test's thread sees.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::process::Command;

use persona_ctl::dataplane::link_rate;
use persona_ctl::netlink::fair_leaf::FairLeaf;
use persona_ctl::netlink::htb::{HtbClass, Leaf};
use persona_ctl::netlink::netem::Netem;
use persona_ctl::netlink::{AnnouncedRoute, FlowsOf, HANDLE_MAJOR, LinkAddress, Netlink, NetlinkError, Shaper, Sizes};

use crate::peers::interop;

/// Runs `test` on a thread with a network namespace of its own, which goes with the thread.
pub(crate) fn in_namespace(test: impl AsyncFnOnce(Netlink) + Send + 'static) {
    let thread = std::thread::spawn(|| {
        unshare_network();
        ip("link set lo up");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { test(Netlink::open().unwrap()).await });
    });
    thread.join().unwrap();
}

#[expect(unsafe_code, reason = "unshare(2) has no safe form in the standard library")]
fn unshare_network() {
    // SAFETY: no memory is passed; only this thread changes its namespace.
    let outcome = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(outcome, 0, "{}", std::io::Error::last_os_error());
}

/// Children of this thread see its namespace.
pub(crate) fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split_whitespace()).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

fn make_veth() {
    ip("link add up0 type veth peer name far0");
    ip("address add 10.1.0.1/24 dev up0");
    ip("link set up0 up mtu 1450");
    ip("link set far0 up");
}

async fn index_of(netlink: &Netlink, name: &str) -> u32 {
    netlink.links().await.unwrap().into_iter().find(|link| link.name == name).unwrap().index
}

fn shaper(classes: &[(u16, u64)]) -> Shaper {
    let class = |(minor, rate): &(u16, u64)| (*minor, HtbClass::new(*rate, 30_000, Leaf::Fifo(262_144)));
    Shaper { default_minor: 0, sizes: None, classes: classes.iter().map(class).collect() }
}

#[test]
fn what_a_device_carries_is_asked_in_its_own_namespace() {
    in_namespace(async |_netlink| {
        make_veth();
        assert_eq!(link_rate("up0").unwrap(), Some(10_000_000_000), "what every veth says");
    });
}

fn ip_address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn links_addresses_and_routes_of_both_families_are_seen() {
    in_namespace(async |netlink| {
        make_veth();
        ip("address add 2001:db8:1::1/64 dev up0 nodad");
        ip("route add 192.0.2.0/24 via 10.1.0.254 mtu 1300");
        ip("route add 2001:db8:2::/48 via 2001:db8:1::fe mtu 1320");
        ip("route add 198.51.100.0/24 via inet6 2001:db8:1::fe dev up0");
        let links = netlink.links().await.unwrap();
        let up0 = links.iter().find(|link| link.name == "up0").unwrap();
        assert_eq!((up0.mtu, up0.is_up, up0.mac.is_some()), (1_450, true, true));
        let addresses = netlink.addresses().await.unwrap();
        for (text, subnet) in [("10.1.0.1", ("10.1.0.0", 24)), ("2001:db8:1::1", ("2001:db8:1::", 64))] {
            let address = addresses.iter().find(|address| address.address == ip_address(text)).unwrap();
            assert_eq!((address.ifindex, address.subnet()), (up0.index, (ip_address(subnet.0), subnet.1)));
            assert!(!address.is_ours && !address.is_deprecated, "{text}");
        }
        for (destination, next_hop, mtu) in [
            ("10.1.0.9", "10.1.0.9", None),
            ("192.0.2.9", "10.1.0.254", Some(1_300)),
            ("198.51.100.7", "2001:db8:1::fe", None),
            ("2001:db8:1::9", "2001:db8:1::9", None),
            ("2001:db8:2::9", "2001:db8:1::fe", Some(1_320)),
        ] {
            let path = netlink.path_to(ip_address(destination)).await.unwrap().unwrap();
            let expected = (up0.index, ip_address(next_hop), mtu);
            assert_eq!((path.ifindex, path.next_hop, path.mtu), expected, "{destination}");
        }
        for nowhere in ["203.0.113.1", "2001:db8:3::1"] {
            assert_eq!(netlink.path_to(ip_address(nowhere)).await.unwrap(), None, "{nowhere}");
        }
    });
}

#[test]
fn a_neighbour_is_resolved_when_asked() {
    in_namespace(async |netlink| {
        make_veth();
        ip("address add 2001:db8:1::1/64 dev up0 nodad");
        let up0 = index_of(&netlink, "up0").await;
        for (known, unknown) in [("10.1.0.7", "10.1.0.8"), ("2001:db8:1::7", "2001:db8:1::8")] {
            ip(&format!("neigh add {known} lladdr 02:00:00:00:00:07 dev up0"));
            netlink.resolve_neighbour(up0, ip_address(unknown)).await.unwrap();
            let neighbours = netlink.neighbours().await.unwrap();
            assert_eq!(neighbours.get(&(up0, ip_address(known))), Some(&[2, 0, 0, 0, 0, 7]));
            assert_eq!(neighbours.get(&(up0, ip_address(unknown))), None, "nobody answers there");
        }
    });
}

#[test]
fn addresses_and_neighbours_of_ours_are_put_changed_and_taken_away() {
    in_namespace(async |netlink| {
        make_veth();
        let ifindex = index_of(&netlink, "up0").await;
        for (text, prefix_length) in [("203.0.113.5", 32), ("2001:db8:7::1", 128)] {
            let wanted = |is_deprecated| LinkAddress {
                ifindex,
                address: ip_address(text),
                prefix_length,
                is_deprecated,
                is_ours: true,
            };
            for is_deprecated in [false, true, true, false] {
                netlink.put_address(&wanted(is_deprecated)).await.unwrap();
                let found = netlink.addresses().await.unwrap();
                assert!(found.contains(&wanted(is_deprecated)), "{is_deprecated}: {found:?}");
            }
            let others = |found: Vec<LinkAddress>| found.into_iter().filter(|address| !address.is_ours).count();
            assert!(others(netlink.addresses().await.unwrap()) > 0, "those of others are no affair of ours");
            netlink.remove_address(&wanted(false)).await.unwrap();
            assert!(!netlink.addresses().await.unwrap().iter().any(|address| address.is_ours));
            netlink.put_permanent_neighbour(ifindex, ip_address(text), [2, 0, 0, 0, 0, 9]).await.unwrap();
            let neighbours = netlink.neighbours().await.unwrap();
            assert_eq!(neighbours.get(&(ifindex, ip_address(text))), Some(&[2, 0, 0, 0, 0, 9]));
            netlink.remove_neighbour(ifindex, ip_address(text)).await.unwrap();
            assert_eq!(netlink.neighbours().await.unwrap().get(&(ifindex, ip_address(text))), None);
        }
    });
}

#[test]
fn announced_routes_stand_in_their_table_beside_those_of_others() {
    in_namespace(async |netlink| {
        let strict = Netlink::open_strict().unwrap();
        make_veth();
        ip("route add 203.0.113.64/28 via 10.1.0.254 proto static");
        ip("route add blackhole 198.51.100.0/24 proto 126 table 300");
        for table in [254, 126, 70_000] {
            for destination in ["203.0.113.64/28", "198.51.100.0/24", "2001:db8:1::/56"] {
                assert!(strict.announced_routes(Some(table)).await.unwrap().is_empty());
                let route = AnnouncedRoute { table, destination: destination.parse().unwrap() };
                strict.announce_route(&route).await.unwrap();
                assert!(strict.announce_route(&route).await.is_err(), "it is there already");
                for (connection, look_in) in [(&strict, Some(table)), (&strict, None), (&netlink, Some(table))] {
                    let found = connection.announced_routes(look_in).await.unwrap();
                    assert_eq!(found, BTreeSet::from([route]), "{look_in:?}");
                }
                strict.withdraw_route(&route).await.unwrap();
                assert!(strict.withdraw_route(&route).await.is_err(), "it is gone");
            }
        }
        let path = netlink.path_to(ip_address("203.0.113.70")).await.unwrap().unwrap();
        assert_eq!(path.next_hop, ip_address("10.1.0.254"), "another's route is where it was");
    });
}

#[test]
fn queues_are_made_changed_in_place_and_removed() {
    in_namespace(async |netlink| {
        make_veth();
        let up0 = index_of(&netlink, "up0").await;
        for wanted in [
            shaper(&[(2, 1_000_000), (3, 6_250_000)]),
            shaper(&[(2, 1_000_000), (3, 6_250_000)]),
            shaper(&[(3, 12_500_000_000), (9, 50_000)]),
        ] {
            netlink.raise_shaper(up0, &wanted).await.unwrap();
            netlink.trim_shaper(up0, &wanted).await.unwrap();
            assert_eq!(netlink.shapers().await.unwrap(), BTreeMap::from([(up0, wanted)]));
        }
        let inverted = Shaper { default_minor: 3, ..shaper(&[(3, 1_000_000)]) };
        netlink.raise_shaper(up0, &inverted).await.unwrap();
        assert_eq!(netlink.shapers().await.unwrap()[&up0], inverted);
        netlink.remove_shaper(up0).await.unwrap();
        assert!(netlink.shapers().await.unwrap().is_empty());
    });
}

/// A persona's class with two below it, and one that stands alone; `minors` are theirs in this order.
#[test]
fn how_packets_are_counted_is_changed_in_place_and_repaired() {
    in_namespace(async |netlink| {
        make_veth();
        let up0 = index_of(&netlink, "up0").await;
        let counting = |overhead_bytes, mtu| Some(Sizes { overhead_bytes, mtu });
        for sizes in [None, counting(50, 1_400), counting(50, 1_280), counting(14, 9_000), counting(14, 65_520), None] {
            let wanted = Shaper { sizes, ..shaper(&[(2, 1_000_000)]) };
            netlink.raise_shaper(up0, &wanted).await.unwrap();
            assert_eq!(netlink.shapers().await.unwrap()[&up0], wanted);
        }
        netlink.remove_shaper(up0).await.unwrap();
        let of_another = "qdisc add dev up0 root handle 7e50: stab overhead 9 htb";
        assert!(Command::new("tc").args(of_another.split(' ')).status().unwrap().success());
        assert_eq!(netlink.shapers().await.unwrap()[&up0].sizes, None, "not in our way");
        let wanted = Shaper { sizes: counting(50, 1_400), ..shaper(&[(2, 1_000_000)]) };
        netlink.raise_shaper(up0, &wanted).await.unwrap();
        assert_eq!(netlink.shapers().await.unwrap()[&up0], wanted);
    });
}

fn shared(minors: [u16; 4]) -> Shaper {
    let leaf = Leaf::Fifo(262_144);
    let below = HtbClass { priority: 2, ..HtbClass::new(8_000, 5_000, leaf).borrowing(minors[0], 2_500_000, 60_000) };
    let classes = [HtbClass::new(2_500_000, 30_000, Leaf::Inner), below, below, HtbClass::new(1_000_000, 30_000, leaf)];
    Shaper { default_minor: 0, sizes: None, classes: minors.into_iter().zip(classes).collect() }
}

#[test]
fn classes_below_a_class_are_made_moved_and_removed() {
    in_namespace(async |netlink| {
        make_veth();
        let up0 = index_of(&netlink, "up0").await;
        for minors in [
            [9, 2, 3, 4],
            // Nothing is new, then all below is another's, then what had classes below it stands below and alone.
            [9, 2, 3, 4],
            [8, 2, 3, 4],
            [2, 8, 3, 9],
            [3, 2, 9, 8],
        ] {
            let wanted = shared(minors);
            netlink.raise_shaper(up0, &wanted).await.unwrap();
            netlink.trim_shaper(up0, &wanted).await.unwrap();
            assert_eq!(netlink.shapers().await.unwrap(), BTreeMap::from([(up0, wanted)]), "{minors:?}");
        }
        let alone = shaper(&[(3, 1_000_000), (9, 2_000_000)]);
        netlink.raise_shaper(up0, &alone).await.unwrap();
        netlink.trim_shaper(up0, &alone).await.unwrap();
        assert_eq!(netlink.shapers().await.unwrap(), BTreeMap::from([(up0, alone)]), "no class is left behind");
    });
}

#[test]
fn a_queue_of_somebody_else_is_left_alone() {
    in_namespace(async |netlink| {
        make_veth();
        let up0 = index_of(&netlink, "up0").await;
        let status = Command::new("tc").args("qdisc add dev up0 root handle 1: htb".split(' ')).status().unwrap();
        assert!(status.success());
        let refused = netlink.raise_shaper(up0, &shaper(&[(2, 1_000_000)])).await;
        assert!(matches!(refused, Err(NetlinkError::ForeignQdisc { major: 1, .. })), "{refused:?}");
        assert!(netlink.shapers().await.unwrap().is_empty(), "not ours, so not shown: {HANDLE_MAJOR:x}");
    });
}

#[test]
fn whether_the_kernel_has_fq_is_told_without_changing_anything() {
    let has_fq = !interop::lacks(interop::FQ);
    in_namespace(async move |netlink| {
        make_veth();
        assert_eq!(netlink.has_fq().await.unwrap(), has_fq);
        assert!(netlink.fair_queues().await.unwrap().is_empty());
        let output = Command::new("tc").args(["-j", "qdisc", "show", "dev", "lo"]).output().unwrap();
        assert!(!String::from_utf8_lossy(&output.stdout).contains("\"fq\""));
        let up0 = index_of(&netlink, "up0").await;
        let outcome = netlink.raise_fair_queue(up0, FlowsOf::OneSubject).await;
        assert_eq!(outcome.is_ok(), has_fq, "{outcome:?}");
    });
}

#[test]
fn classes_and_fair_queues_make_room_for_each_other_and_not_for_others() {
    if interop::lacks(interop::FQ) {
        return;
    }
    in_namespace(async |netlink| {
        make_veth();
        let up0 = index_of(&netlink, "up0").await;
        for _ in 0..2 {
            netlink.raise_fair_queue(up0, FlowsOf::OneSubject).await.unwrap();
            assert_eq!(netlink.fair_queues().await.unwrap(), [up0].into());
            assert!(netlink.shapers().await.unwrap().is_empty());
            tc("qdisc change dev up0 root fq limit 9");
            netlink.raise_fair_queue(up0, FlowsOf::OneSubject).await.unwrap();
            assert_eq!(fair_queue_rows("up0"), 16, "one subject's flows need few rows");
            netlink.raise_fair_queue(up0, FlowsOf::Many).await.unwrap();
            assert_eq!(fair_queue_rows("up0"), 1_024);
            let wanted = shaper(&[(2, 1_000_000)]);
            netlink.raise_shaper(up0, &wanted).await.unwrap();
            assert_eq!(netlink.shapers().await.unwrap(), BTreeMap::from([(up0, wanted)]));
            assert!(netlink.fair_queues().await.unwrap().is_empty());
        }
        netlink.raise_fair_queue(up0, FlowsOf::OneSubject).await.unwrap();
        netlink.remove_fair_queue(up0).await.unwrap();
        assert!(netlink.fair_queues().await.unwrap().is_empty());
        tc("qdisc add dev up0 root handle 1: fq");
        let refused = netlink.raise_fair_queue(up0, FlowsOf::OneSubject).await;
        assert!(matches!(refused, Err(NetlinkError::ForeignQdisc { major: 1, .. })), "{refused:?}");
        assert!(netlink.fair_queues().await.unwrap().is_empty(), "not ours, so not shown");
    });
}

#[test]
fn leaves_in_which_flows_take_turns_are_made_changed_and_repaired() {
    let has_fair_leaf = !interop::lacks(interop::FQ_CODEL);
    in_namespace(async move |netlink| {
        make_veth();
        assert_eq!(netlink.has_fair_leaf().await.unwrap(), has_fair_leaf);
        assert!(netlink.shapers().await.unwrap().is_empty(), "a question changes nothing");
        let up0 = index_of(&netlink, "up0").await;
        let fair = |rate, bytes| {
            let leaf = Leaf::Fair(FairLeaf::new(bytes, rate, 1_450));
            Shaper { default_minor: 0, sizes: None, classes: [(2, HtbClass::new(rate, 30_000, leaf))].into() }
        };
        if !has_fair_leaf {
            assert!(netlink.raise_shaper(up0, &fair(1_000_000, 70_000)).await.is_err());
            return;
        }
        let fifo = shaper(&[(2, 1_000_000)]);
        for wanted in [fair(1_000_000, 70_000), fair(16_000, 70_000), fifo, fair(125_000_000, 2_500_000)] {
            netlink.raise_shaper(up0, &wanted).await.unwrap();
            assert_eq!(netlink.shapers().await.unwrap()[&up0], wanted);
            if wanted == shaper(&[(2, 1_000_000)]) {
                continue;
            }
            tc(&format!("qdisc change dev up0 parent 7e50:2 handle {} fq_codel target 1ms", leaf_handle("fq_codel")));
            assert_ne!(netlink.shapers().await.unwrap()[&up0], wanted);
            netlink.raise_shaper(up0, &wanted).await.unwrap();
            assert_eq!(netlink.shapers().await.unwrap()[&up0], wanted);
        }
        netlink.remove_shaper(up0).await.unwrap();
        assert!(netlink.shapers().await.unwrap().is_empty());
    });
}

/// Rows in which a device's `fq` looks up flows.
fn fair_queue_rows(device: &str) -> u64 {
    let output = Command::new("tc").args(["-j", "qdisc", "show", "dev", device]).output().unwrap();
    let queues: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let queue = queues.as_array().unwrap().iter().find(|queue| queue["kind"] == "fq").unwrap();
    queue["options"]["buckets"].as_u64().unwrap()
}

fn delaying(netem: Netem) -> Shaper {
    Shaper {
        default_minor: 0,
        sizes: None,
        classes: [(2, HtbClass::new(12_500_000_000, 50_000_000, Leaf::Netem(netem)))].into(),
    }
}

fn tc(arguments: &str) {
    let status = Command::new("tc").args(arguments.split_whitespace()).status().unwrap();
    assert!(status.success(), "tc {arguments}");
}

/// Two subjects' queues: one that uses all there is, and one that only repeats.
const FULL: Netem = Netem {
    latency_ns: 10_000_000_000,
    jitter_ns: 2_000_000_000,
    duplicate: 0,
    reorder: u32::MAX / 4,
    limit_packets: 1 << 20,
};
const PLAIN: Netem = Netem { latency_ns: 40_000_000, jitter_ns: 0, duplicate: 0, reorder: 0, limit_packets: 1_000 };
const TWICE: Netem = Netem { latency_ns: 0, jitter_ns: 0, duplicate: u32::MAX / 100, reorder: 0, limit_packets: 1_000 };

#[test]
fn whether_the_kernel_can_delay_is_told_without_changing_anything() {
    let has_netem = !interop::lacks(interop::NETEM);
    in_namespace(async move |netlink| {
        make_veth();
        assert_eq!(netlink.has_netem().await.unwrap(), has_netem);
        assert!(netlink.shapers().await.unwrap().is_empty());
        let output = Command::new("tc").args(["-j", "qdisc", "show", "dev", "lo"]).output().unwrap();
        assert!(!String::from_utf8_lossy(&output.stdout).contains("netem"));
        let up0 = index_of(&netlink, "up0").await;
        let outcome = netlink.raise_shaper(up0, &delaying(PLAIN)).await;
        assert_eq!(outcome.is_ok(), has_netem, "{outcome:?}");
    });
}

#[test]
fn delaying_queues_are_made_changed_and_repaired() {
    if interop::lacks(interop::NETEM) {
        return;
    }
    in_namespace(async |netlink| {
        make_veth();
        let up0 = index_of(&netlink, "up0").await;
        for netem in [PLAIN, FULL, TWICE, PLAIN] {
            let wanted = delaying(netem);
            netlink.raise_shaper(up0, &wanted).await.unwrap();
            assert_eq!(netlink.shapers().await.unwrap(), BTreeMap::from([(up0, wanted.clone())]));
            // Some of it can be set back in place, some only by another queue.
            for meddling in ["loss 5%", "delay 1ms", "corrupt 1%", "rate 1mbit", "delay 40ms slot 1ms 2ms", "limit 5"] {
                let was = leaf_handle("netem");
                tc(&format!("qdisc change dev up0 parent 7e50:2 handle {was} netem {meddling}"));
                assert_ne!(netlink.shapers().await.unwrap()[&up0], wanted, "{meddling}");
                netlink.raise_shaper(up0, &wanted).await.unwrap();
                assert_eq!(netlink.shapers().await.unwrap()[&up0], wanted, "{meddling}");
            }
            tc("qdisc replace dev up0 parent 7e50:2 pfifo limit 9");
            netlink.raise_shaper(up0, &wanted).await.unwrap();
            assert_eq!(netlink.shapers().await.unwrap()[&up0], wanted);
        }
        let fifo = shaper(&[(2, 12_500_000_000)]);
        netlink.raise_shaper(up0, &fifo).await.unwrap();
        assert_eq!(netlink.shapers().await.unwrap()[&up0], fifo);
        netlink.remove_shaper(up0).await.unwrap();
        assert!(netlink.shapers().await.unwrap().is_empty());
    });
}

fn leaf_handle(kind: &str) -> String {
    let output = Command::new("tc").args(["-j", "qdisc", "show", "dev", "up0"]).output().unwrap();
    let queues: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let leaf = queues.as_array().unwrap().iter().find(|queue| queue["kind"] == kind).unwrap();
    leaf["handle"].as_str().unwrap().to_owned()
}

/// Several subjects of a node delay, and one of them repeats: some kernels refuse that in one tree of queues.
#[test]
fn delaying_queues_of_several_subjects_stand_beside_each_other() {
    if interop::lacks(interop::NETEM) {
        return;
    }
    in_namespace(async |netlink| {
        make_veth();
        let up0 = index_of(&netlink, "up0").await;
        let mut wanted = delaying(PLAIN);
        wanted.classes.insert(3, HtbClass::new(12_500_000_000, 50_000_000, Leaf::Netem(FULL)));
        netlink.raise_shaper(up0, &wanted).await.unwrap();
        assert_eq!(netlink.shapers().await.unwrap()[&up0], wanted);
        let twice = HtbClass::new(1_000_000, 30_000, Leaf::Netem(TWICE));
        wanted.classes.insert(4, twice);
        match netlink.raise_shaper(up0, &wanted).await {
            Ok(()) => assert_eq!(netlink.shapers().await.unwrap()[&up0], wanted),
            Err(NetlinkError::MixedNetem { ifindex }) => assert_eq!(ifindex, up0),
            Err(error) => panic!("{error}"),
        }
        // Alone it may stand everywhere, also where the others only now cease to delay.
        let mut alone = shaper(&[(3, 12_500_000_000), (9, 1_000_000)]);
        alone.classes.insert(4, twice);
        netlink.trim_shaper(up0, &alone).await.unwrap();
        netlink.raise_shaper(up0, &alone).await.unwrap();
        assert_eq!(netlink.shapers().await.unwrap()[&up0], alone);
    });
}
