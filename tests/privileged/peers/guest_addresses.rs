//! A QEMU guest that has no address of its own: what it leases comes by DHCP and router advertisement, before and after a
//! switch. Busybox's udhcpc asks, its kernel makes itself the IPv6 address.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use persona_core::wire::api::Explanation;
use persona_tests::findings::Findings;
use persona_tests::peers::content;
use persona_tests::peers::guest::{Guest, GuestPlan, MEMORY_MIB};
use persona_tests::steps::switch::switch_to;
use persona_tests::world::{Families, Hook, INTERNET_ADDRESS, INTERNET_ADDRESS6, WorkloadPlace, World};

use crate::cluster;

/// The guest. The host's addresses on its device are not what it leaves by.
const PLACE: WorkloadPlace = WorkloadPlace {
    name: "v2",
    address: "10.10.5.2",
    gateway: "10.10.5.1",
    address6: "fd00:10:10:5::2",
    gateway6: "fd00:10:10:5::1",
};
const SUBJECT: &str = "workload/n1/v2";

/// How the agent knows it: by its device, with no address that is its own.
const CONFIG: &str = "\n[[workload]]\nname = \"v2\"\ndevice = \"v2\"\nserve = true\n";

const DOCUMENTS: &str = r"
apiVersion: persona/v1
kind: Persona
metadata: { name: own-frankfurt }
spec: { network: { egress: { pools: [frankfurt], family: prefer-ipv6, assign: configure }, mtu: 1380, edges: { group: frankfurt } } }
---
apiVersion: persona/v1
kind: Persona
metadata: { name: own-tokyo }
spec: { network: { egress: { pools: [tokyo], family: prefer-ipv6, assign: configure }, mtu: 1360, edges: { group: tokyo } } }
---
apiVersion: persona/v1
kind: Binding
metadata: { name: workloads }
spec:
  selector: { kind: workload }
  personas: [frankfurt-standard, own-frankfurt, own-tokyo]
  default: frankfurt-standard
";

/// What udhcpc does with what it was told; a client that knows RFC 3442 takes the routes.
const NETWORK: &str = r#"
cat > /tmp/dhcp << 'END'
#!/bin/sh
case $1 in
deconfig) ip -4 address flush dev eth0 ;;
bound|renew)
  ip link set eth0 mtu $mtu
  ip address add $ip/$mask dev eth0
  set -- $staticroutes
  while [ -n "$1" ]; do
    case $2 in 0.0.0.0) ip route replace $1 dev eth0 ;; *) ip route replace $1 via $2 dev eth0 ;; esac
    shift 2
  done ;;
esac
END
chmod +x /tmp/dhcp
echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad
udhcpc -f -i eth0 -s /tmp/dhcp -p /tmp/pid -t 2 -T 1 -A 1 -O staticroutes -O mtu > /dev/null 2>&1 < /dev/null &
"#;

/// How long a command in the guest may take on a busy machine, and a guest to follow.
const COMMAND_TIME: Duration = Duration::from_secs(60);
const FOLLOW_TIME: Duration = Duration::from_secs(60);

#[test]
fn a_qemu_guest_gets_its_leased_addresses_and_follows_a_switch() {
    cluster::check_with(Hook::Auto, Families::BothOverIpv4, |world, findings| {
        world.extra_agent_config = CONFIG.to_owned();
        cluster::start(world, findings);
        if findings.all_ok() {
            findings.run("a guest's addresses", |findings| addresses(world, findings));
            findings.run("the roles", |_| world.check_processes());
        }
    });
}

fn addresses(world: &mut World, findings: &mut Findings) -> Result<()> {
    let own = world.path("guest-content");
    content::write(&own, 1, 61)?;
    world.apply("own.yaml", DOCUMENTS)?;
    world.add_tap(&PLACE)?;
    let plan = GuestPlan {
        name: "guest",
        tap: PLACE.name,
        network: NETWORK,
        content: &own,
        files: &[],
        memory_mib: MEMORY_MIB,
    };
    let mut guest = Guest::start(&world.ledger, &world.namespaces.node, &world.folder, &plan)?;

    switch_to(world, SUBJECT, "own-frankfurt")?;
    let (address, prefix) = leases(world)?;
    note_addresses(&mut guest, findings, "at first", &address, &prefix, "1380")?;
    switch_to(world, SUBJECT, "own-tokyo")?;
    let (new_address, new_prefix) = leases(world)?;
    findings.note("the switch brings other leases", &new_address, new_address != address && new_prefix != prefix);
    // It would ask by itself after a while; this is the signal by which udhcpc does so at once.
    guest.run("kill -USR1 $(cat /tmp/pid)", COMMAND_TIME)?;
    note_addresses(&mut guest, findings, "after a switch", &new_address, &new_prefix, "1360")?;
    let shown = guest.run("ip -4 address show eth0", COMMAND_TIME)?;
    findings.note("the old IPv4 address is gone", shown.trim(), !shown.contains(&format!("{address}/")));
    let shown = guest.run("ip -6 address show eth0", COMMAND_TIME)?;
    let old = shown.lines().find(|line| line.contains(&prefix)).unwrap_or("gone").trim().to_owned();
    findings.note("the old IPv6 address stays, deprecated", &old, old.contains("deprecated"));
    Ok(())
}

/// The subject's address, and the first words of its prefix.
fn leases(world: &World) -> Result<(String, String)> {
    let explanation: Explanation = world.ctl.json(&["explain", SUBJECT])?;
    let (lease, lease6) = (explanation.lease.context("no IPv4 lease")?, explanation.lease6.context("no IPv6 lease")?);
    let address = lease.space.address().context("a lease of an address")?;
    let prefix = lease6.space.prefix().context("a lease of a prefix")?.to_string();
    Ok((address.to_string(), prefix.trim_end_matches(':').to_owned() + ":"))
}

/// Waits until the guest has its addresses, and asks a server whom it sees, by both families.
fn note_addresses(
    guest: &mut Guest,
    findings: &mut Findings,
    when: &str,
    address: &str,
    prefix: &str,
    mtu: &str,
) -> Result<()> {
    let start = Instant::now();
    let mut shown = String::new();
    while !(shown.contains(address) && shown.contains(prefix)) && start.elapsed() < FOLLOW_TIME {
        std::thread::sleep(Duration::from_millis(200));
        shown = guest.run("ip address show eth0", COMMAND_TIME)?;
    }
    let has_both = shown.contains(&format!("{address}/32")) && shown.contains(prefix);
    findings.note(format!("{when} the guest has {address} and an address of {prefix}"), shown.trim(), has_both);
    findings.note(format!("{when} its MTU is {mtu}"), "", shown.contains(&format!("mtu {mtu}")));
    for (host, expected) in [(INTERNET_ADDRESS.to_owned(), address), (format!("[{INTERNET_ADDRESS6}]"), prefix)] {
        let seen = guest.run(&format!("wget -q -O - http://{host}/whoami"), COMMAND_TIME)?;
        let client: Option<IpAddr> = seen.split_whitespace().next().and_then(|word| word.parse().ok());
        let is_it = client.is_some_and(|client| client.to_string().starts_with(expected));
        findings.note(format!("{when} the server sees {expected}"), seen.trim(), is_it);
    }
    Ok(())
}
