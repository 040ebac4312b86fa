//! What interoperability needs of the kernel, which the host's own may lack: those tests run in the guests.

use anyhow::{Result, bail};
use persona_tests::ledger::Ledger;
use persona_tests::netns::{Forwarding, Namespace};

use crate::cluster;

/// A part of the kernel: its name, and a `tc` or `ip` command that only succeeds where it is there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part(&'static str, &'static str);

/// The geneve device that carries IP itself (Linux 5.18).
pub(crate) const GENEVE: Part =
    Part("the geneve device", "ip link add probe type geneve id 1 remote 192.0.2.1 innerprotoinherit");

/// The queue that loses, delays, repeats and reorders.
pub(crate) const NETEM: Part = Part("netem", "tc qdisc add dev lo root netem loss 1%");

/// Fair queueing, which sends each packet at its time.
pub(crate) const FQ: Part = Part("fq", "tc qdisc add dev lo root fq");

/// The queue in which flows take turns.
pub(crate) const FQ_CODEL: Part = Part("fq_codel", "tc qdisc add dev lo root fq_codel");

/// The kernel's own encrypted tunnel.
pub(crate) const WIREGUARD: Part = Part("WireGuard", "ip link add probe type wireguard");

/// Whether this kernel lacks a part. The guests' kernels are said to have all (`PERSONA_REQUIRE_INTEROP`), so that
/// lacking one is a failure there.
pub(crate) fn lacks(part: Part) -> bool {
    if !cluster::may_run() {
        return true;
    }
    let Part(name, command) = part;
    let ledger = Ledger::default();
    let probe = Namespace::create(&ledger, &format!("pp{}", std::process::id()), Forwarding::Off).unwrap();
    let outcome = match command.split_once(' ').unwrap() {
        ("ip", arguments) => probe.ip(arguments).map(drop),
        (_, arguments) => tc(&probe, arguments),
    };
    assert_eq!(ledger.undo_all(), Vec::<String>::new());
    let Err(error) = outcome else { return false };
    let required = std::env::var_os("PERSONA_REQUIRE_INTEROP").is_some();
    assert!(!required, "{name} is missing, and PERSONA_REQUIRE_INTEROP is set: {error:#}");
    eprintln!("SKIP: this kernel lacks {name}: {error:#}");
    true
}

/// Runs `tc` inside a namespace, with words split at blanks.
pub(crate) fn tc(inside: &Namespace, arguments: &str) -> Result<()> {
    let output = inside.command("tc")?.args(arguments.split_whitespace()).output()?;
    if !output.status.success() {
        bail!("tc {arguments} in {}: {}", inside.name, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
