//! `egress.assign: configure` through a whole cluster: the leased address and prefix stand on the workload's own
//! interface, a switch under load deprecates them until the last flow has ended, and then they are gone. In a namespace, in
//! a Docker container and in a QEMU guest.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use persona_core::wire::api::{Explanation, LeaseView};
use persona_tests::ctl::patient;
use persona_tests::findings::Findings;
use persona_tests::load::download::Download;
use persona_tests::netns::Namespace;
use persona_tests::peers::content;
use persona_tests::peers::docker::Docker;
use persona_tests::peers::guest::Guest;
use persona_tests::steps::switch::switch_to;
use persona_tests::steps::{FRANKFURT, SUBJECT};
use persona_tests::world::{CONTAINER, Families, GUEST, Hook, INTERNET_ADDRESS, INTERNET_ADDRESS6, World};

use super::{check_with, start};
use crate::peers::{container, guest};

/// Pools of whole addresses and prefixes, and personas that are given them.
const DOCUMENTS: &str = r#"
apiVersion: persona/v1
kind: EgressPool
metadata: { name: frankfurt-own }
spec:
  addresses: [203.0.113.128/28, "2001:db8:3::/56"]
  nextHop6: "2001:db8:77::d"
  group: frankfurt
---
apiVersion: persona/v1
kind: EgressPool
metadata: { name: tokyo-own }
spec:
  addresses: [203.0.113.144/28, "2001:db8:4::/56"]
  nextHop6: "2001:db8:77::c"
  group: tokyo
---
apiVersion: persona/v1
kind: Persona
metadata: { name: frankfurt-own }
spec:
  network:
    egress: { pools: [frankfurt-own], family: prefer-ipv6, assign: configure }
    mtu: 1400
    edges: { group: frankfurt }
---
apiVersion: persona/v1
kind: Persona
metadata: { name: tokyo-own }
spec:
  network:
    egress: { pools: [tokyo-own], family: prefer-ipv6, assign: configure }
    mtu: 1400
    edges: { group: tokyo }
---
apiVersion: persona/v1
kind: Binding
metadata: { name: workloads }
spec:
  selector: { kind: workload }
  personas: [frankfurt-standard, tokyo-standard, frankfurt-own, tokyo-own]
  default: frankfurt-standard
"#;

/// The router's ways to the pools' prefixes.
const ROUTES6: [&str; 2] = ["2001:db8:3::/56 via 2001:db8:77::d", "2001:db8:4::/56 via 2001:db8:77::c"];

/// How long what a step waits for may take.
const STEP_TIME: Duration = Duration::from_secs(30);

/// Bytes by which a download shows that it runs: more than any buffer on the way holds.
const MORE_BYTES: u64 = 4 << 20;

/// A connection that has ended is forgotten after a minute; one that is established is not, for two hours.
const AFTER_THE_END_SECS: u32 = 100;

/// Long enough for what is queued for a connection that has been reset.
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// How long a command in the guest may take on a busy machine.
const COMMAND_TIME: Duration = Duration::from_secs(90);

#[test]
fn configured_addresses_follow_switches_in_a_namespace() {
    in_cluster(
        |_| {},
        |world, findings| {
            let inside = world.workload("w1").clone();
            follow(world, SUBJECT, &inside, findings)
        },
    );
}

#[test]
fn configured_addresses_follow_switches_in_a_container() {
    let prepare = |world: &mut World| world.extra_workloads.push(CONTAINER);
    in_cluster(prepare, |world, findings| {
        let docker = Docker::start(&world.ledger, &world.namespaces.node, &world.folder)?;
        let container = docker.run("c1", &format!("{}-c1", world.namespaces.node.name))?;
        world.attach(&CONTAINER, &container.namespace)?;
        follow(world, container::SUBJECT, &container.namespace, findings)?;
        docker.client(&["rm", "--force", "c1"]).map(drop)
    });
}

#[test]
fn configured_addresses_follow_switches_in_a_guest() {
    let prepare = |world: &mut World| {
        let place = GUEST;
        world.extra_agent_config = format!(
            "\n[[workload]]\nname = \"{0}\"\ndevice = \"{0}\"\naddress = \"{1}\"\naddress6 = \"{2}\"\nserve = true\n",
            place.name, place.address, place.address6
        );
    };
    in_cluster(prepare, |world, findings| {
        let own = world.path("guest-content");
        content::write(&own, 1 << 10, 7)?;
        world.add_tap(&GUEST)?;
        let mut guest = Guest::start_behind(world, &GUEST, &own)?;
        follow_in_guest(world, &mut guest, findings)
    });
}

fn in_cluster(prepare: impl FnOnce(&mut World), test: impl FnOnce(&mut World, &mut Findings) -> Result<()>) {
    check_with(Hook::Auto, Families::BothOverIpv4, |world, findings| {
        prepare(world);
        start(world, findings);
        if !findings.all_ok() {
            return; // nothing that follows could say anything
        }
        findings.run("configure", |findings| {
            ROUTES6
                .iter()
                .try_for_each(|route| world.namespaces.router.ip(&format!("-6 route add {route}")).map(drop))?;
            world.apply("own.yaml", DOCUMENTS)?;
            test(world, findings)
        });
        findings.run("the processes", |_| world.check_processes());
    });
}

/// What a workload whose inside the agent can enter sees of switches.
fn follow(world: &World, subject: &str, inside: &Namespace, findings: &mut Findings) -> Result<()> {
    let before = addresses(inside)?;
    let old = wear(world, subject, "frankfurt-own")?;
    wait_until_shown(inside, "the leases on the interface", |shown| {
        old.each().all(|address| shown.has(address, Lifetime::Preferred))
    })?;
    findings.note("its interface has what it leases", old.to_string(), true);
    let downloads = start_downloads(inside)?;
    note_clients(findings, "nothing is rewritten", &downloads, &old)?;
    let mtus = [INTERNET_ADDRESS, INTERNET_ADDRESS6].map(|server| inside.ip(&format!("route get {server}")));
    let has_mtu = mtus.iter().all(|route| route.as_ref().is_ok_and(|route| route.contains("mtu 1400")));
    findings.note("its routes have the persona's MTU", "1400", has_mtu);

    let new = wear(world, subject, "tokyo-own")?;
    wait_until_shown(inside, "the new leases preferred, the old ones deprecated", |shown| {
        let are_old = old.each().all(|address| shown.has(address, Lifetime::Deprecated));
        are_old && new.each().all(|address| shown.has(address, Lifetime::Preferred))
    })?;
    findings.note("after a switch the old ones are deprecated", format!("{old}; new: {new}"), true);
    for download in &downloads {
        download.wait_for_bytes(download.bytes() + MORE_BYTES, patient(STEP_TIME)).context("across the switch")?;
    }
    let later = start_downloads(inside)?;
    note_clients(findings, "new connections have the new ones", &later, &new)?;
    world.age_flows(AFTER_THE_END_SECS)?;
    std::thread::sleep(Duration::from_secs(3));
    let shown = Shown(addresses(inside)?);
    let are_there = old.each().all(|address| shown.has(address, Lifetime::Deprecated));
    findings.note("while flows go on the old ones stay", "deprecated", are_there);
    end(world, downloads).context("under the old leases")?;
    wait_until_shown(inside, "the old leases to go", |shown| old.each().all(|address| !shown.has_any(address)))?;
    findings.note("with the last flow they go", old.to_string(), true);

    switch_to(world, subject, FRANKFURT)?;
    for download in &later {
        download.wait_for_bytes(download.bytes() + MORE_BYTES, patient(STEP_TIME)).context("under the new leases")?;
    }
    end(world, later).context("under the new leases")?;
    wait_until_shown(inside, "the interface as it was", |shown| shown.0 == before)?;
    findings.note("a persona that rewrites leaves the interface as it was", "as it was", true);
    Ok(())
}

/// What a guest sees: its prefix by router advertisements, its address given by hand.
fn follow_in_guest(world: &World, guest: &mut Guest, findings: &mut Findings) -> Result<()> {
    let subject = guest::SUBJECT;
    let old = wear(world, subject, "frankfurt-own")?;
    let given = format!(
        "ip address add {}/32 dev eth0; ip route del default; ip route add 169.254.1.1 dev eth0; \
         ip route add default via 169.254.1.1 src {0}",
        old.address
    );
    guest.run(&given, COMMAND_TIME)?;
    wait_until_guest_shows(guest, "an address of the prefix", |shown| {
        shown.has_in_prefix(old.prefix, Lifetime::Preferred)
    })?;
    let ask = |guest: &mut Guest, server: &str| -> Result<IpAddr> {
        let said = guest.run(&format!("wget -q -O - http://{server}/whoami"), COMMAND_TIME)?;
        address_of(&said).with_context(|| format!("wget in the guest says {said:?}"))
    };
    let (server4, server6) = (INTERNET_ADDRESS, format!("[{INTERNET_ADDRESS6}]"));
    let seen = ask(guest, server4)?;
    findings.note(format!("the server sees {}", old.address), seen.to_string(), seen == old.address);
    let seen = ask(guest, &server6)?;
    findings.note(format!("and {}", old.prefix), seen.to_string(), in_prefix(old.prefix, seen));

    let fetch = format!("(wget -q -O /tmp/file http://{server6}/file; echo $? > /tmp/done) > /dev/null 2>&1 &");
    guest.run(&fetch, COMMAND_TIME)?;
    wait_for_guest(guest, "the download to begin", "test -s /tmp/file")?;
    let new = wear(world, subject, "tokyo-own")?;
    wait_until_guest_shows(guest, "the new prefix, and the old one deprecated", |shown| {
        shown.has_in_prefix(old.prefix, Lifetime::Deprecated) && shown.has_in_prefix(new.prefix, Lifetime::Preferred)
    })?;
    let (is_over, _) = guest.try_run("test -e /tmp/done", COMMAND_TIME)?;
    findings.note("the switch came amid a download", "not done yet", is_over != 0);
    let seen = ask(guest, &server6)?;
    findings.note(format!("a new connection shows {}", new.prefix), seen.to_string(), in_prefix(new.prefix, seen));
    wait_for_guest(guest, "the download to end", "test -e /tmp/done")?;
    let outcome = guest.run("cat /tmp/done; wc -c < /tmp/file", COMMAND_TIME)?;
    let is_whole = outcome.split_whitespace().eq(["0", "50331648"]);
    findings.note("the download under the old prefix ends whole", outcome.replace('\n', " "), is_whole);
    Ok(())
}

/// A subject's leases of both families.
struct Leases {
    address: IpAddr,
    /// `PREFIX::1`, which is what the agent puts.
    prefix: IpAddr,
}

impl Leases {
    fn each(&self) -> impl Iterator<Item = IpAddr> {
        [self.address, self.prefix].into_iter()
    }
}

impl std::fmt::Display for Leases {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} and {}", self.address, self.prefix)
    }
}

/// Switches to a persona and waits for its leases, which are configured ones.
fn wear(world: &World, subject: &str, persona: &str) -> Result<Leases> {
    switch_to(world, subject, persona)?;
    let is_ours = |lease: &Option<LeaseView>| {
        lease.as_ref().is_some_and(|lease| lease.configured && lease.persona.as_str() == persona)
    };
    let has_both = |answer: &Explanation| is_ours(&answer.lease) && is_ours(&answer.lease6);
    let (answer, _) = world.ctl.wait_for("both leases", &["explain", subject], STEP_TIME, has_both)?;
    let (lease, lease6) = answer.lease.zip(answer.lease6).context("waited for them")?;
    let address = lease.space.address().context("an address")?.into();
    let prefix = lease6.space.prefix().context("a prefix")?.to_bits() | 1;
    Ok(Leases { address, prefix: std::net::Ipv6Addr::from_bits(prefix).into() })
}

fn start_downloads(inside: &Namespace) -> Result<Vec<Download>> {
    let servers = [INTERNET_ADDRESS, INTERNET_ADDRESS6].into_iter();
    servers
        .map(|server| {
            let download = Download::start_from(server.parse()?, inside, "/endless")?;
            download.wait_for_bytes(MORE_BYTES, patient(STEP_TIME))?;
            Ok(download)
        })
        .collect()
}

/// Breaks downloads off and lets a minute pass, for the node only.
fn end(world: &World, downloads: Vec<Download>) -> Result<()> {
    downloads.into_iter().try_for_each(|download| download.stop().map(drop))?;
    std::thread::sleep(DRAIN_TIME);
    world.age_flows(AFTER_THE_END_SECS)
}

fn note_clients(findings: &mut Findings, what: &str, downloads: &[Download], leases: &Leases) -> Result<()> {
    for (download, expected) in downloads.iter().zip(leases.each()) {
        let client = download.client().context("the server named no client")?;
        let is_leased = address_of(&client) == Some(expected);
        findings.note(format!("{what}: the server sees {expected}"), client, is_leased);
    }
    Ok(())
}

/// The address in the server's `ADDRESS PORT`.
fn address_of(text: &str) -> Option<IpAddr> {
    text.split_whitespace().next()?.parse().ok()
}

fn in_prefix(prefix: IpAddr, address: IpAddr) -> bool {
    match (prefix, address) {
        (IpAddr::V6(prefix), IpAddr::V6(address)) => prefix.segments()[..4] == address.segments()[..4],
        _ => false,
    }
}

/// What `ip -o address show dev eth0` printed.
struct Shown(String);

/// Whether new connections choose an address.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lifetime {
    Preferred,
    Deprecated,
}

impl Shown {
    fn entries(&self) -> impl Iterator<Item = (IpAddr, Lifetime)> {
        self.0.lines().filter_map(|line| {
            let address = line.split_once("inet6 ").or_else(|| line.split_once("inet "))?.1;
            let is_deprecated = line.contains("deprecated");
            let lifetime = if is_deprecated { Lifetime::Deprecated } else { Lifetime::Preferred };
            Some((address.split(['/', ' ']).next()?.parse().ok()?, lifetime))
        })
    }

    fn has(&self, address: IpAddr, lifetime: Lifetime) -> bool {
        self.entries().any(|entry| entry == (address, lifetime))
    }

    fn has_any(&self, address: IpAddr) -> bool {
        self.entries().any(|(shown, _)| shown == address)
    }

    fn has_in_prefix(&self, prefix: IpAddr, lifetime: Lifetime) -> bool {
        self.entries().any(|(shown, of)| of == lifetime && in_prefix(prefix, shown))
    }
}

fn addresses(inside: &Namespace) -> Result<String> {
    inside.ip("-o address show dev eth0")
}

fn wait_until_shown(inside: &Namespace, what: &str, satisfies: impl Fn(&Shown) -> bool) -> Result<()> {
    wait(what, || {
        let shown = Shown(addresses(inside)?);
        Ok(if satisfies(&shown) { None } else { Some(shown.0) })
    })
}

fn wait_until_guest_shows(guest: &mut Guest, what: &str, satisfies: impl Fn(&Shown) -> bool) -> Result<()> {
    wait(what, || {
        let shown = Shown(guest.run("ip -o address show dev eth0", COMMAND_TIME)?);
        Ok(if satisfies(&shown) { None } else { Some(shown.0) })
    })
}

fn wait_for_guest(guest: &mut Guest, what: &str, condition: &str) -> Result<()> {
    wait(what, || {
        let (status, _) = guest.try_run(condition, COMMAND_TIME)?;
        Ok((status != 0).then(|| format!("{condition} ends with {status}")))
    })
}

/// Asks until nothing is missing any more.
fn wait(what: &str, mut missing: impl FnMut() -> Result<Option<String>>) -> Result<()> {
    let deadline = Instant::now() + patient(STEP_TIME);
    loop {
        let Some(shown) = missing()? else { return Ok(()) };
        if Instant::now() > deadline {
            bail!("waited in vain for {what}: {shown}");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
