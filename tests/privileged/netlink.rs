//! Links, routes, neighbours and queues over rtnetlink, in a network namespace that only the test's thread sees.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::process::Command;

use persona_ctl::netlink::htb::HtbClass;
use persona_ctl::netlink::{HANDLE_MAJOR, Netlink, NetlinkError, Shaper};

/// Runs `test` on a thread with a network namespace of its own, which goes with the thread.
fn in_namespace(test: impl AsyncFnOnce(Netlink) + Send + 'static) {
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
fn ip(arguments: &str) {
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
    let class = |(minor, rate): &(u16, u64)| (*minor, HtbClass::new(*rate, 30_000, 262_144));
    Shaper { default_minor: 0, classes: classes.iter().map(class).collect() }
}

#[test]
fn links_addresses_and_routes_are_seen() {
    in_namespace(async |netlink| {
        make_veth();
        ip("route add 192.0.2.0/24 via 10.1.0.254 mtu 1300");
        let links = netlink.links().await.unwrap();
        let up0 = links.iter().find(|link| link.name == "up0").unwrap();
        assert_eq!((up0.mtu, up0.is_up, up0.mac.is_some()), (1_450, true, true));
        let addresses = netlink.addresses().await.unwrap();
        let address = addresses.iter().find(|address| address.ifindex == up0.index).unwrap();
        assert_eq!((address.address, address.subnet()), (Ipv4Addr::new(10, 1, 0, 1), (Ipv4Addr::new(10, 1, 0, 0), 24)));
        let near = netlink.path_to(Ipv4Addr::new(10, 1, 0, 9)).await.unwrap().unwrap();
        assert_eq!((near.ifindex, near.next_hop), (up0.index, Ipv4Addr::new(10, 1, 0, 9)));
        let far = netlink.path_to(Ipv4Addr::new(192, 0, 2, 9)).await.unwrap().unwrap();
        assert_eq!((far.next_hop, far.mtu), (Ipv4Addr::new(10, 1, 0, 254), Some(1_300)));
        assert_eq!(netlink.path_to(Ipv4Addr::new(203, 0, 113, 1)).await.unwrap(), None);
    });
}

#[test]
fn a_neighbour_is_resolved_when_asked() {
    in_namespace(async |netlink| {
        make_veth();
        let up0 = index_of(&netlink, "up0").await;
        ip("neigh add 10.1.0.7 lladdr 02:00:00:00:00:07 dev up0");
        netlink.resolve_neighbour(up0, Ipv4Addr::new(10, 1, 0, 8)).await.unwrap();
        let neighbours = netlink.neighbours().await.unwrap();
        assert_eq!(neighbours.get(&(up0, Ipv4Addr::new(10, 1, 0, 7))), Some(&[2, 0, 0, 0, 0, 7]));
        assert_eq!(neighbours.get(&(up0, Ipv4Addr::new(10, 1, 0, 8))), None, "nobody answers there");
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
