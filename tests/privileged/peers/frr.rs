//! FRR as the routing daemon of two edges and of two routers before them: BGP with BFD, both families, ECMP in the routers'
//! kernels. ARP and neighbour discovery are left unanswered, so routes alone lead to the edges.
//!
//! A TCP connection by IPv6 and a UDP stream by IPv4 go on while an edge's process dies, an edge loses its way in, its host
//! dies, and while it is emptied.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use persona_core::wire::api::{EdgeView, EventView, NodeView};
use persona_tests::ctl::patient;
use persona_tests::findings::Findings;
use persona_tests::load::download::Download;
use persona_tests::load::echo::{EchoClient, EchoCount};
use persona_tests::netns::{Forwarding, Namespace};
use persona_tests::peers::frr::{self, EDGE_CONFIG, Frr, ROUTER_CONFIG};
use persona_tests::steps::view;
use persona_tests::world::{
    ECHO_PORT, EDGES, EdgeSide, Families, Hook, INTERNET_ADDRESS, INTERNET_ADDRESS6, LinkState, NODE, World,
};

use crate::cluster;

/// Ranges that both edges of Frankfurt carry, as `ip` is asked for them.
const RANGES: [&str; 2] = ["-4 route show 203.0.113.64/28", "-6 route show 2001:db8:1::/56"];

/// How long sessions, routes and verdicts may take.
const NOTICE_TIME: Duration = Duration::from_secs(30);

/// Long enough for traffic to show whether it goes on.
const LOOK_TIME: Duration = Duration::from_secs(1);

/// Without BFD, BGP itself takes a peer for dead after this long: its hold time.
const HOLD_TIME: Duration = Duration::from_secs(180);

/// The longest gap that a death may make on a busy machine.
const GAP_MAX: Duration = Duration::from_secs(3);

const ECHO_PACKETS_PER_SEC: u32 = 200;
const MORE_BYTES: u64 = 1 << 20;
const FLOW_COUNT: usize = 64;

#[test]
fn routes_lead_to_both_edges_and_go_with_the_one_that_cannot_serve() {
    cluster::check_with(Hook::Auto, Families::BothOverIpv4, |world, findings| {
        let routers = prepare(world).unwrap();
        cluster::start(world, findings);
        if !findings.all_ok() {
            return; // nothing that follows could say anything
        }
        let mut daemons = Vec::new();
        findings.run("sessions", |findings| {
            daemons = start_daemons(world, &routers)?;
            note_routes(findings, "both routers have both edges", &routers, &["fra1", "fra2"])
        });
        let place = Place { routers, daemons };
        findings.run("shared", |findings| flows_are_shared(world, findings));
        findings.run("process", |findings| process_is_killed(world, &place, findings));
        findings.run("half-dead", |findings| way_in_is_cut(world, &place, findings));
        findings.run("host", |findings| host_dies(world, &place, findings));
        findings.run("drain", |findings| edge_is_drained(world, &place, findings));
        findings.run("detach", |findings| routes_go_with_detach(world, &place, findings));
        if !findings.all_ok() {
            place.daemons.iter().for_each(|frr| eprintln!("{}", frr.neighbour_changes()));
        }
        findings.run("processes", |_| place.check(world));
    });
}

struct Place {
    routers: [Namespace; 2],
    daemons: Vec<Frr>,
}

impl Place {
    fn check(mut self, world: &mut World) -> Result<()> {
        self.daemons.iter_mut().try_for_each(Frr::check)?;
        world.check_processes()
    }
}

/// A second router beside the first, each the next hop of one edge, and edges that announce.
fn prepare(world: &mut World) -> Result<[Namespace; 2]> {
    let (first, internet) = (world.namespaces.router.clone(), world.namespaces.internet.clone());
    let name = first.name.replace("router", "router2");
    let second = Namespace::create(&world.ledger, &name, Forwarding::On)?;
    second.link("seg0", &world.namespaces.outside, "router2")?;
    world.namespaces.outside.ip("link set router2 master br0")?;
    second.link("net0", &internet, "eth1")?;
    for (device, address) in [("seg0", "203.0.113.2/24"), ("seg0", "2001:db8:77::2/64")] {
        second.add_address(device, address)?;
    }
    second.add_address("net0", "198.51.101.1/24")?;
    second.add_address("net0", "2001:db8:52::1/64")?;
    internet.add_address("eth1", "198.51.101.10/24")?;
    internet.add_address("eth1", "2001:db8:52::10/64")?;
    second.ip("route add 198.51.100.0/24 via 198.51.101.10")?;
    second.ip("-6 route add 2001:db8:51::/64 via 2001:db8:52::10")?;
    // Whichever link an answer takes, it comes from the address that was asked.
    let ways = "nexthop via 198.51.100.1 nexthop via 198.51.101.1";
    internet.ip(&format!("route replace default src {INTERNET_ADDRESS} {ways}"))?;
    let ways = "nexthop via 2001:db8:51::1 nexthop via 2001:db8:52::1";
    internet.ip(&format!("-6 route replace default src {INTERNET_ADDRESS6} {ways}"))?;
    // A route that somebody put there by hand goes before BGP's.
    first.ip("-6 route delete 2001:db8:1::/56")?;
    for namespace in [&first, &second, &internet] {
        // Which link an answer takes is chance, so none may be expected where a question came from.
        for device in ["all", "seg0", "net0", "eth0", "eth1"] {
            let path = format!("net/ipv4/conf/{device}/rp_filter");
            // Not every namespace has every device.
            let _ = namespace.write_sysctl(&path, "0");
        }
        namespace.write_sysctl("net/ipv4/fib_multipath_hash_policy", "1")?;
        namespace.write_sysctl("net/ipv6/fib_multipath_hash_policy", "1")?;
    }
    world.extra_edge_config = "announce = { table = 254, neighbours = \"leave\" }\n".to_owned();
    world.other_routers.insert("fra2", ("203.0.113.2", "2001:db8:77::2"));
    Ok([first, second])
}

fn start_daemons(world: &World, routers: &[Namespace; 2]) -> Result<Vec<Frr>> {
    let start = |inside, name, address, config| frr::start(&world.ledger, inside, &world.folder, name, address, config);
    let mut daemons = vec![
        start(&routers[0], "router1", "203.0.113.1", ROUTER_CONFIG)?,
        start(&routers[1], "router2", "203.0.113.2", ROUTER_CONFIG)?,
    ];
    for place in EDGES.iter().filter(|place| place.group == "frankfurt") {
        daemons.push(start(&world.namespaces.edges[place.name], place.name, place.outside, EDGE_CONFIG)?);
    }
    Ok(daemons)
}

/// Waits until every router leads every range to exactly these edges, and tells how long that took.
fn wait_for_routes(routers: &[Namespace; 2], edges: &[&str]) -> Result<Duration> {
    let (start, mut shown) = (Instant::now(), String::new());
    while start.elapsed() < patient(NOTICE_TIME) {
        let mut is_so = true;
        shown.clear();
        for router in routers {
            for question in RANGES {
                let routes: serde_json::Value = serde_json::from_str(&router.ip(&format!("-j {question}"))?)?;
                let count = next_hop_count(&routes);
                is_so &= count == edges.len() && (question.starts_with("-6") || leads_to(&routes, edges));
                shown += &format!("{} {question}: {routes}\n", router.name);
            }
        }
        if is_so {
            return Ok(start.elapsed());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    bail!("after {NOTICE_TIME:?} routes do not lead to {edges:?} alone:\n{shown}")
}

fn bgp_routes(routes: &serde_json::Value) -> impl Iterator<Item = &serde_json::Value> {
    routes.as_array().into_iter().flatten().filter(|route| route["protocol"] == "bgp")
}

/// Next hops of the routes that BGP put there. One alone stands in the route itself.
fn next_hop_count(routes: &serde_json::Value) -> usize {
    bgp_routes(routes).map(|route| route["nexthops"].as_array().map_or(1, Vec::len)).sum()
}

fn leads_to(routes: &serde_json::Value, edges: &[&str]) -> bool {
    let text = bgp_routes(routes).map(ToString::to_string).collect::<String>();
    let places = EDGES.iter().filter(|place| edges.contains(&place.name));
    places.map(|place| format!("\"{}\"", place.outside)).all(|address| text.contains(&address))
}

fn note_routes(findings: &mut Findings, what: &str, routers: &[Namespace; 2], edges: &[&str]) -> Result<()> {
    let time = wait_for_routes(routers, edges)?;
    findings.note(format!("{what}: routes lead to {}", edges.join(" and ")), view::ms(time), true);
    Ok(())
}

/// Answers come in through both edges, as the routers' kernels share flows.
fn flows_are_shared(world: &World, findings: &mut Findings) -> Result<()> {
    let read = || -> Result<Vec<u64>> {
        ["fra1", "fra2"].iter().map(|edge| Ok(world.namespaces.edges[*edge].device_bytes("out0")?.0)).collect()
    };
    let sockets = (0..FLOW_COUNT).map(|_| UdpSocket::bind("0.0.0.0:0"));
    let sockets = world.workload("w1").run_inside(|| sockets.collect::<std::io::Result<Vec<_>>>())??;
    let before = read()?;
    for socket in &sockets {
        socket.set_read_timeout(Some(patient(LOOK_TIME)))?;
        socket.send_to(&[0x5a; 1_000], (INTERNET_ADDRESS, ECHO_PORT))?;
    }
    let answered = sockets.iter().filter(|socket| socket.recv(&mut [0; 2_000]).is_ok()).count();
    findings.note(format!("{FLOW_COUNT} flows are answered"), answered.to_string(), answered == FLOW_COUNT);
    let after = read()?;
    let came: Vec<u64> = before.iter().zip(&after).map(|(before, after)| after - before).collect();
    // A quarter of what all bring, by chance (binomial, 64 flows) once in 30,000 runs less.
    let least = FLOW_COUNT as u64 * 1_000 / 4;
    findings.note("through both edges", format!("{came:?} bytes"), came.iter().all(|bytes| *bytes > least));
    Ok(())
}

/// The data path goes on, and so do routes to it.
fn process_is_killed(world: &mut World, place: &Place, findings: &mut Findings) -> Result<()> {
    let load = Load::start(world)?;
    world.kill_edge_process("fra1")?;
    std::thread::sleep(LOOK_TIME);
    note_routes(findings, "while its process is dead", &place.routers, &["fra1", "fra2"])?;
    world.start_edge("fra1")?;
    wait_until_whole(world)?;
    note_routes(findings, "and when it is back", &place.routers, &["fra1", "fra2"])?;
    load.finish_lossless(findings, "death and return of an edge's process lose nothing")
}

/// Its sessions with the routers stand, but it cannot serve: it takes its routes back by itself.
fn way_in_is_cut(world: &mut World, place: &Place, findings: &mut Findings) -> Result<()> {
    let load = Load::start(world)?;
    world.namespaces.set_edge_link("fra1", EdgeSide::Inside, LinkState::Cut)?;
    note_routes(findings, "without its inside link", &place.routers, &["fra2"])?;
    std::thread::sleep(LOOK_TIME);
    world.namespaces.set_edge_link("fra1", EdgeSide::Inside, LinkState::Whole)?;
    wait_until_whole(world)?;
    note_routes(findings, "when it is back", &place.routers, &["fra1", "fra2"])?;
    load.finish_alive(findings, "an edge without its inside link breaks no connection")
}

/// BFD tells the routers, probes tell the node.
fn host_dies(world: &mut World, place: &Place, findings: &mut Findings) -> Result<()> {
    let load = Load::start(world)?;
    world.kill_edge("fra2")?;
    let time = wait_for_routes(&place.routers, &["fra1"])?;
    findings.note("BFD tells both routers long before BGP would", view::ms(time), time < HOLD_TIME / 10);
    std::thread::sleep(LOOK_TIME);
    load.finish_alive(findings, "the death of an edge's host breaks no connection")?;
    let load = Load::start(world)?;
    world.revive_edge("fra2")?;
    wait_until_whole(world)?;
    note_routes(findings, "when it is back", &place.routers, &["fra1", "fra2"])?;
    load.finish_alive(findings, "nor does its return")
}

fn edge_is_drained(world: &World, place: &Place, findings: &mut Findings) -> Result<()> {
    let load = Load::start(world)?;
    world.ctl.text(&["edge", "drain", "fra1", "--wait"])?;
    note_routes(findings, "while it is emptied", &place.routers, &["fra2"])?;
    std::thread::sleep(LOOK_TIME);
    world.ctl.text(&["edge", "undrain", "fra1"])?;
    note_routes(findings, "no longer emptied", &place.routers, &["fra1", "fra2"])?;
    std::thread::sleep(LOOK_TIME);
    load.finish_lossless(findings, "drain and return of an edge lose nothing")?;
    let told = world.ctl.list::<EventView>(&["events"])?.into_iter();
    let told: Vec<String> = told.filter(|event| event.name == "routes.withdrawn").map(|event| event.message).collect();
    let has_reasons =
        ["being emptied", "reaches no node"].iter().all(|reason| told.iter().any(|it| it.contains(reason)));
    findings.note("events say why routes went", told.join("; "), has_reasons);
    Ok(())
}

fn routes_go_with_detach(world: &mut World, place: &Place, findings: &mut Findings) -> Result<()> {
    world.kill_edge_process("fra2")?;
    world.detach_role("fra2")?;
    note_routes(findings, "after detach", &place.routers, &["fra1"])?;
    let left = world.namespaces.edges["fra2"].ip("route show proto 127")?;
    findings.note("no route of ours is left on the edge", left.trim(), left.trim().is_empty());
    Ok(())
}

/// Both edges serve, say where routes lead, and are heard.
fn wait_until_whole(world: &World) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < patient(NOTICE_TIME) {
        let edges = ["fra1", "fra2"].map(|name| world.ctl.json::<EdgeView>(&["edge", "get", name]));
        let is_whole = |edge: &EdgeView| edge.state == "up" && edge.announced.as_ref().is_some_and(|it| it.len() == 2);
        let node: NodeView = world.ctl.json(&["node", "get", NODE])?;
        if edges.iter().all(|edge| edge.as_ref().is_ok_and(is_whole)) && view::hears_frankfurt(&node) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("the edges did not serve both within {NOTICE_TIME:?}")
}

/// A UDP stream by IPv4 and a TCP connection by IPv6.
struct Load {
    echo: EchoClient,
    download: Download,
}

impl Load {
    fn start(world: &World) -> Result<Self> {
        let echo = EchoClient::start(world.workload("w1"), ECHO_PACKETS_PER_SEC)?;
        let server = INTERNET_ADDRESS6.parse().expect("a constant address");
        let download = Download::start_fitting_from(server, world.workload("w1"), "/endless")?;
        download.wait_for_bytes(MORE_BYTES, NOTICE_TIME)?;
        download.mark();
        Ok(Self { echo, download })
    }

    fn finish_lossless(self, findings: &mut Findings, expected: &str) -> Result<()> {
        let (count, gap) = self.finish()?;
        findings.note(expected, describe(count, gap), count.lost() == 0 && count.sent > 0);
        Ok(())
    }

    fn finish_alive(self, findings: &mut Findings, expected: &str) -> Result<()> {
        let (count, gap) = self.finish()?;
        let goes_on = count.returned * 10 > count.sent * 7;
        findings.note(expected, describe(count, gap), goes_on && gap < GAP_MAX && count.worst_gap < GAP_MAX);
        Ok(())
    }

    /// The download goes on to its stop, or this fails.
    fn finish(self) -> Result<(EchoCount, Duration)> {
        let bytes = self.download.bytes();
        self.download.wait_for_bytes(bytes + MORE_BYTES, NOTICE_TIME).context("the connection after the event")?;
        let gap = self.download.worst_gap();
        self.download.stop()?;
        Ok((self.echo.finish(), gap))
    }
}

fn describe(count: EchoCount, gap: Duration) -> String {
    format!(
        "UDP: {} of {} lost, longest gap {}; TCP: longest gap {}",
        count.lost(),
        count.sent,
        view::ms(count.worst_gap),
        view::ms(gap)
    )
}
