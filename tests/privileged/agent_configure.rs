//! Leased addresses on a workload's own interface: put, switched, drained, mended, taken away, and never anybody else's.

use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use persona_ctl::agent::{ConfiguredLease, ConfiguredWorkload, Configurer, Reach, withdraw_everything};
use persona_ctl::netlink::{Link, Netlink};
use persona_tests::ledger::Ledger;
use persona_tests::netns::{Forwarding, Namespace};

use crate::netlink::{in_namespace, ip};

/// How long a link-local address may take on a busy machine.
const LINK_LOCAL_TIME: Duration = Duration::from_secs(30);

/// A workload's namespace behind `veth1`, with an address and a default route of its own as a runtime gives them.
fn make_workload(ledger: &Ledger, name: &str) -> Namespace {
    let workload = Namespace::create(ledger, name, Forwarding::Off).unwrap();
    ip(&format!("link add veth1 type veth peer name eth0 netns {name}"));
    ip("link set veth1 up");
    ip("address add 10.9.0.1/24 dev veth1");
    workload.ip("link set eth0 up").unwrap();
    workload.ip("address add 10.9.0.2/24 dev eth0").unwrap();
    workload.ip("address add fd00:9::2/64 dev eth0 nodad").unwrap();
    workload.ip("route add default via 10.9.0.1").unwrap();
    wait_for_link_local(&workload);
    workload
}

/// The kernel makes the link-local address, and takes it into use, in threads of its own.
fn wait_for_link_local(workload: &Namespace) {
    let is_there = || {
        let addresses = workload.ip("-6 -o address show dev eth0 scope link").unwrap();
        addresses.contains("inet6") && !addresses.contains("tentative")
    };
    let start = Instant::now();
    while !is_there() {
        assert!(start.elapsed() < LINK_LOCAL_TIME, "eth0 has no link-local address");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn lease(address: &str, is_current: bool) -> ConfiguredLease {
    let address: std::net::IpAddr = address.parse().unwrap();
    ConfiguredLease { address, prefix_length: if address.is_ipv4() { 32 } else { 64 }, is_current, mtu: 1_400 }
}

async fn veth1(netlink: &Netlink) -> (Vec<Link>, u32) {
    let links = netlink.links().await.unwrap();
    let index = links.iter().find(|link| link.name == "veth1").unwrap().index;
    (links, index)
}

fn configured(ifindex: u32, reach: Reach, leases: Vec<ConfiguredLease>) -> Vec<ConfiguredWorkload> {
    let name = "w1".parse().unwrap();
    vec![ConfiguredWorkload {
        name,
        ifindex,
        reach,
        leases,
        preferred_prefixes: vec![("fd00:9::".parse().unwrap(), 64)],
    }]
}

/// Everything about addresses, routes, neighbours and labels inside, as `ip` shows it.
fn shown(workload: &Namespace) -> String {
    let ask = |what: &str| workload.ip(what).unwrap();
    [
        ask("-o address show dev eth0"),
        ask("-4 route show"),
        ask("-6 route show"),
        ask("neigh show nud permanent"),
        ask("addrlabel list"),
    ]
    .join("")
}

#[test]
fn leased_addresses_come_are_switched_drain_and_go() {
    in_namespace(async |netlink| {
        let ledger = Ledger::default();
        let name = format!("pa{}-c", std::process::id());
        let workload = make_workload(&ledger, &name);
        let before = shown(&workload);
        let (links, index) = veth1(&netlink).await;
        let mut configurer = Configurer::default();
        let first = vec![lease("203.0.113.4", true), lease("2001:db8:4::1", true)];
        let plan = configured(index, Reach::Peer, first);
        assert_eq!(configurer.provide(&netlink, &links, &plan).await, []);
        let inside = shown(&workload);
        for expected in [
            "inet 203.0.113.4/32",
            "inet6 2001:db8:4::1/64",
            "0.0.0.0/1 via 169.254.1.1 dev eth0 proto 126 src 203.0.113.4 onlink mtu 1400",
            "128.0.0.0/1 via 169.254.1.1",
            "default via fe80::7e:1 dev eth0 proto 126 src 2001:db8:4::1",
            "10.9.0.1",
            "fd00:9::/64 label 1",
        ] {
            assert!(inside.contains(expected), "{expected} is not in\n{inside}");
        }
        let host = persona_tests::netns::run("ip", &["route", "show", "proto", "126"]).unwrap();
        assert!(host.contains("203.0.113.4 dev veth1"), "{host}");

        // A connection of the old address goes on after the switch; new ones take the new address.
        ip("address add 198.51.100.1/32 dev lo");
        ip("address add 2001:db8:ff::1/128 dev lo nodad");
        let listener = TcpListener::bind("198.51.100.1:80").unwrap();
        let connect = || workload.run_inside(|| TcpStream::connect("198.51.100.1:80").unwrap()).unwrap();
        let old = connect();
        assert_eq!(old.local_addr().unwrap().ip().to_string(), "203.0.113.4");
        drop(listener.accept().unwrap());
        let switched = vec![
            lease("203.0.113.4", false),
            lease("2001:db8:4::1", false),
            lease("203.0.113.9", true),
            lease("2001:db8:9::1", true),
        ];
        let plan = configured(index, Reach::Namespace(format!("/run/netns/{name}").into()), switched);
        configurer.withdraw(&netlink, &links, &plan).await;
        assert_eq!(configurer.provide(&netlink, &links, &plan).await, []);
        let new = connect();
        assert_eq!(new.local_addr().unwrap().ip().to_string(), "203.0.113.9");
        let listener6 = TcpListener::bind("[2001:db8:ff::1]:80").unwrap();
        let new6 = workload.run_inside(|| TcpStream::connect("[2001:db8:ff::1]:80").unwrap()).unwrap();
        assert_eq!(new6.local_addr().unwrap().ip().to_string(), "2001:db8:9::1");
        drop((listener, listener6, new6));
        let inside = shown(&workload);
        for (address, is_deprecated) in [
            ("203.0.113.4/32", true),
            ("2001:db8:4::1/64", true),
            ("203.0.113.9/32", false),
            ("2001:db8:9::1/64", false),
        ] {
            let line = inside.lines().find(|line| line.contains(address)).unwrap();
            assert_eq!(line.contains("deprecated"), is_deprecated, "{line}");
        }

        // Drained.
        let last = vec![lease("203.0.113.9", true), lease("2001:db8:9::1", true)];
        let plan = configured(index, Reach::Peer, last);
        configurer.withdraw(&netlink, &links, &plan).await;
        let inside = shown(&workload);
        assert!(!inside.contains("203.0.113.4") && !inside.contains("2001:db8:4::1"), "{inside}");
        assert_eq!(configurer.provide(&netlink, &links, &plan).await, []);

        // Drift is mended, also by an agent that knows nothing of what an earlier one did.
        workload.ip("address del 203.0.113.9/32 dev eth0").unwrap();
        workload.ip("route replace default via 10.9.0.1").unwrap();
        let mended = Configurer::default().provide(&netlink, &links, &plan).await;
        assert_eq!(mended, []);
        assert_eq!(connect_source(&workload), "203.0.113.9", "{}", shown(&workload));

        // No lease any more: everything is as it was.
        assert_eq!(withdraw_everything(&netlink).await, Vec::<String>::new());
        assert_eq!(shown(&workload), before);
        let host = persona_tests::netns::run("ip", &["route", "show", "proto", "126"]).unwrap();
        assert_eq!(host, "");
        ip("link del veth1");
        assert!(ledger.undo_all().is_empty());
    });
}

/// The address that a new connection of the workload takes.
fn connect_source(workload: &Namespace) -> String {
    let socket = workload.run_inside(|| {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect("198.51.100.1:53").unwrap();
        socket
    });
    socket.unwrap().local_addr().unwrap().ip().to_string()
}

#[test]
fn an_inside_that_cannot_be_reached_is_told_with_what_to_do() {
    in_namespace(async |netlink| {
        ip("link add veth1 type veth peer name far0");
        ip("link add veth0 type bridge");
        let (links, index) = veth1(&netlink).await;
        let bridge = links.iter().find(|link| link.name == "veth0").unwrap().index;
        let missing = Reach::Namespace("/run/netns/none-such".into());
        for (ifindex, reach, reason) in [
            (index, Reach::Peer, "host's own namespace"),
            (bridge, Reach::Peer, "set serve = true"),
            (index, missing, "host's own namespace"),
        ] {
            let plan = configured(ifindex, reach, vec![lease("203.0.113.4", true)]);
            let troubles = Configurer::default().provide(&netlink, &links, &plan).await;
            let unreachable = troubles.iter().find(|trouble| trouble.event == "configure.unreachable").unwrap();
            assert!(unreachable.message.contains(reason), "{}", unreachable.message);
        }
    });
}

#[test]
fn a_guest_is_told_its_prefix_by_router_advertisements_and_its_address_by_dhcp() {
    in_namespace(async |netlink| {
        let ledger = Ledger::default();
        let guest = Namespace::create(&ledger, &format!("pa{}-g", std::process::id()), Forwarding::Off).unwrap();
        ip(&format!("link add veth1 type veth peer name eth0 netns {}", guest.name));
        guest.write_sysctl("net/ipv6/conf/eth0/accept_ra", "1").unwrap();
        ip("link set veth1 up");
        guest.ip("link set eth0 up").unwrap();
        let mut configurer = Configurer::default();
        let (leases, switched) = (
            vec![lease("2001:db8:4::1", true)],
            vec![lease("2001:db8:4::1", false), lease("2001:db8:9::1", true), lease("203.0.113.9", true)],
        );
        // The device needs its link-local address first.
        wait_until("a link-local address", || {
            let shown = persona_tests::netns::run("ip", &["address", "show", "dev", "veth1"]).unwrap();
            shown.contains("fe80") && !shown.contains("tentative")
        });
        let (links, index) = veth1(&netlink).await;
        assert_eq!(configurer.provide(&netlink, &links, &configured(index, Reach::Serve, leases)).await, []);
        wait_until("an address of the prefix", || {
            guest.ip("address show dev eth0").unwrap().contains("2001:db8:4:")
                && guest.ip("-6 route show default").unwrap().contains("proto ra")
        });
        let troubles = configurer.provide(&netlink, &links, &configured(index, Reach::Serve, switched)).await;
        assert_eq!(troubles, []);
        ask_by_dhcp(&guest).await;
        assert!(guest.ip("link show dev eth0").unwrap().contains("mtu 1400"));
        ip("address add 198.51.100.1/32 dev lo");
        let listener = TcpListener::bind("198.51.100.1:80").unwrap();
        let given = guest.run_inside(|| TcpStream::connect("198.51.100.1:80")).unwrap();
        assert_eq!(given.unwrap().local_addr().unwrap().ip().to_string(), "203.0.113.9", "given by DHCP it works");
        drop(listener);
        wait_until("the new address, and the old one deprecated", || {
            let shown = guest.ip("-o address show dev eth0").unwrap();
            let line = |prefix: &str| shown.lines().find(|line| line.contains(prefix)).map(str::to_owned);
            let (old, new) = (line("2001:db8:4:"), line("2001:db8:9:"));
            old.is_some_and(|line| line.contains("deprecated")) && new.is_some_and(|line| !line.contains("deprecated"))
        });
        assert_eq!(configurer.provide(&netlink, &links, &configured(index, Reach::Serve, vec![])).await, []);
        let host = persona_tests::netns::run("ip", &["address", "show", "dev", "veth1"]).unwrap();
        assert!(!host.contains("169.254.1.1"), "{host}");
        wait_until("no default route by us", || guest.ip("-6 route show default").unwrap().is_empty());
        ip("link del veth1");
        assert!(ledger.undo_all().is_empty());
    });
}

/// Has busybox's client ask, which takes what it is told. The answer comes from this thread.
async fn ask_by_dhcp(guest: &Namespace) {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script");
    std::fs::write(&script, DHCP_SCRIPT).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = guest.command("busybox").unwrap();
    command.args(["udhcpc", "-f", "-n", "-q", "-i", "eth0", "-O", "staticroutes", "-O", "mtu", "-s"]).arg(&script);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What udhcpc does with what it was told.
const DHCP_SCRIPT: &str = r#"#!/bin/sh
[ "$1" = bound ] || exit 0
ip link set eth0 mtu $mtu
ip address add $ip/$mask dev eth0
set -- $staticroutes
while [ -n "$1" ]; do
    case $2 in 0.0.0.0) ip route add $1 dev eth0 ;; *) ip route add $1 via $2 dev eth0 ;; esac
    shift 2
done
"#;

/// Waits at most five seconds.
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    for _attempt in 0..100 {
        if is_so() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("waited in vain for {what}");
}
