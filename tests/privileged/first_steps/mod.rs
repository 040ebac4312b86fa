//! `docs/first-steps.md`, typed as it stands there: every block in a real shell on the host that it names, each host a Debian
//! system with systemd as its first process, which installs the package and starts the units that it brings.

mod page;
mod place;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use page::Block;
use place::{Place, SERVER_OF_PORTS};
use serde_json::Value;

/// How long what a block looks for may take to come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Workloads that leave under a lease when the page is done, with the host of each.
const WORKLOADS: [(&str, &str); 3] = [("n1", "workload/n1/web"), ("n2", "workload/n2/web"), ("n3", "workload/n3/web")];

#[test]
fn a_first_time_operator_gets_from_nothing_to_a_workload_that_leaves_under_its_lease() {
    if !crate::cluster::may_run() {
        return;
    }
    let Some(package) = package() else { return };
    let (settings, blocks) = page::read().unwrap();
    let place = Place::build(&package).unwrap();
    for block in &blocks {
        type_in(&place, &settings, block).unwrap();
    }
    judge(&place).unwrap();
}

/// The package that `cargo xtask test` has made of the program under test.
fn package() -> Option<PathBuf> {
    let package = std::env::var_os("PERSONA_PACKAGE").map(PathBuf::from);
    let required = std::env::var_os("PERSONA_REQUIRE_PRIVILEGED").is_some();
    assert!(package.is_some() || !required, "PERSONA_PACKAGE is not set: run this by `cargo xtask test`");
    if package.is_none() {
        eprintln!("SKIP: PERSONA_PACKAGE names no Debian package");
    }
    package
}

/// On all of its hosts at once.
fn type_in(place: &Place, settings: &str, block: &Block) -> Result<()> {
    std::thread::scope(|scope| {
        let typing: Vec<_> =
            block.hosts.iter().map(|host| scope.spawn(move || type_on(place, host, settings, block))).collect();
        typing.into_iter().try_for_each(|one| one.join().expect("typing does not panic"))
    })
}

fn type_on(place: &Place, name: &str, settings: &str, block: &Block) -> Result<()> {
    let host = place.hosts.get(name).with_context(|| format!("the page names no host {name}"))?;
    let start = Instant::now();
    loop {
        let lines = host.text(&format!("{settings}\n{}", block.lines))?;
        let Some(printed) = &block.printed else { return Ok(()) };
        if page::is_as_printed(&lines, printed) {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            bail!("on {name}:\n{}\nprints\n{lines}\nwhere the page says\n{printed}", block.lines);
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// The address and port that the server out there sees of each workload are what the manager says that it leases.
fn judge(place: &Place) -> Result<()> {
    let leases: Value = serde_json::from_str(&place.hosts["desk"].text("persona-ctl lease list -o json")?)?;
    let leases = leases.as_array().context("leases are a list")?;
    for (host, subject) in WORKLOADS {
        let seen = place.hosts[host].text(&format!("ip netns exec web curl --silent {SERVER_OF_PORTS}"))?;
        let (address, port) = seen.trim().split_once(' ').with_context(|| format!("{seen:?} is no answer"))?;
        let port: u64 = port.parse()?;
        let holds = |range: &Value| range[0].as_u64() <= Some(port) && Some(port) <= range[1].as_u64();
        let is_this = |lease: &&Value| {
            let ports = lease["ports"].as_array().is_some_and(|ports| ports.iter().any(holds));
            lease["address"] == address && ports
        };
        let lease = leases.iter().find(is_this).with_context(|| format!("{seen:?} is nobody's lease: {leases:?}"))?;
        ensure!(lease["subject"] == subject && lease["state"] == "active", "{subject} left as {seen:?}: {lease}");
    }
    Ok(())
}
