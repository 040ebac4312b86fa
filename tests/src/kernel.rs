//! What the kernel holds: eBPF programs and maps, and per namespace links, addresses, routes, rules, queues and filters.
//! Two snapshots are compared to see whether something was left behind.

use std::collections::BTreeSet;

use anyhow::{Context, Result};

use crate::netns::{Namespace, run};

/// What a person would look at to see whether a host is as it was before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    programs: BTreeSet<String>,
    maps: BTreeSet<String>,
    networks: BTreeSet<String>,
    namespaces: BTreeSet<String>,
}

impl Snapshot {
    /// Looks at the whole machine's programs, maps and named namespaces, and into the given namespaces.
    pub fn take(namespaces: &[&Namespace]) -> Result<Self> {
        let mut networks = BTreeSet::new();
        for namespace in namespaces {
            networks.extend(lines_of(namespace)?);
        }
        let named = run("ip", &["netns", "list"])?;
        let namespaces = named.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned);
        Ok(Self { programs: programs()?, maps: maps()?, networks, namespaces: namespaces.collect() })
    }

    /// What is here and was not there before, and what was there and is missing; programs, maps and namespaces only if
    /// they came while `during` was taken, because others may load theirs at the same time.
    pub fn leftovers(&self, before: &Self, during: &Self) -> Vec<String> {
        let ours = |now: &BTreeSet<String>, then: &BTreeSet<String>, meanwhile: &BTreeSet<String>| {
            now.difference(then).filter(|entry| meanwhile.contains(*entry)).cloned().collect::<Vec<_>>()
        };
        let mut found = ours(&self.programs, &before.programs, &during.programs);
        found.extend(ours(&self.maps, &before.maps, &during.maps));
        found.extend(ours(&self.namespaces, &before.namespaces, &during.namespaces));
        found.extend(self.networks.difference(&before.networks).map(|line| format!("left: {line}")));
        found.extend(before.networks.difference(&self.networks).map(|line| format!("missing: {line}")));
        found
    }

    /// Programs and maps that are here and were not there before.
    pub fn loaded_since(&self, before: &Self) -> (usize, usize) {
        (self.programs.difference(&before.programs).count(), self.maps.difference(&before.maps).count())
    }
}

fn programs() -> Result<BTreeSet<String>> {
    let all = aya::programs::loaded_programs().filter_map(|info| info.ok()); // one that is gone meanwhile
    Ok(all.map(|info| format!("program {} {}", info.id(), info.name_as_str().unwrap_or("?"))).collect())
}

fn maps() -> Result<BTreeSet<String>> {
    let all = aya::maps::loaded_maps().filter_map(|info| info.ok()); // one that is gone meanwhile
    Ok(all.map(|info| format!("map {} {}", info.id(), info.name_as_str().unwrap_or("?"))).collect())
}

/// One line per fact. What changes by itself (neighbours, counters, carrier) is left out.
fn lines_of(namespace: &Namespace) -> Result<BTreeSet<String>> {
    let mut lines = BTreeSet::new();
    let mut add = |kind: &str, text: String| {
        let cleaned = text.lines().map(|line| line.replace(" linkdown", "").trim().to_owned());
        lines.extend(cleaned.filter(|line| !line.is_empty()).map(|line| format!("{} {kind}: {line}", namespace.name)));
    };
    for family in ["-4", "-6"] {
        add("route", namespace.ip(&format!("{family} route show table all"))?);
        add("rule", namespace.ip(&format!("{family} rule show"))?);
        add("address", brief_addresses(&namespace.ip(&format!("{family} -j address show"))?)?);
    }
    add("link", brief_links(&namespace.ip("-d -j link show")?)?);
    add("qdisc", run("tc", &["-n", &namespace.name, "qdisc", "show"])?);
    Ok(lines)
}

fn brief_addresses(json: &str) -> Result<String> {
    let links: Vec<serde_json::Value> = serde_json::from_str(json).context("ip printed no JSON")?;
    let entries = links.iter().flat_map(|link| {
        let addresses = link["addr_info"].as_array().cloned().unwrap_or_default();
        addresses
            .into_iter()
            .map(move |address| format!("{} {}/{}", link["ifname"], address["local"], address["prefixlen"]))
    });
    Ok(entries.collect::<Vec<_>>().join("\n"))
}

fn brief_links(json: &str) -> Result<String> {
    let links: Vec<serde_json::Value> = serde_json::from_str(json).context("ip printed no JSON")?;
    let entries = links.iter().map(|link| {
        format!("{} mtu {} promiscuity {} xdp {}", link["ifname"], link["mtu"], link["promiscuity"], link["xdp"])
    });
    Ok(entries.collect::<Vec<_>>().join("\n"))
}
