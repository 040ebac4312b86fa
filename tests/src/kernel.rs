//! What the kernel holds: eBPF programs and maps, and per namespace links, addresses, routes, rules, queues and filters.
//! Compared with what was there before, they show whether something was left behind.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::ctl::patient;
use crate::netns::{Namespace, run};

/// How long the kernel may take to give devices that came up what belongs to them.
const SETTLE_TIME: Duration = Duration::from_secs(10);

/// What a person would look at to see whether a host is as it was before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot(BTreeSet<String>);

impl Snapshot {
    /// Looks into namespaces that have just been made, once nothing more comes by itself: the kernel hears of a carrier,
    /// and gives a device its link-local address and the routes of it, after the command that brought the device up.
    pub fn take_settled(namespaces: &[&Namespace]) -> Result<Self> {
        let start = Instant::now();
        loop {
            let mut waiting = Vec::new();
            for namespace in namespaces {
                waiting.extend(unsettled_devices(namespace)?);
            }
            if waiting.is_empty() {
                return Self::take(namespaces);
            }
            let is_over = start.elapsed() > patient(SETTLE_TIME);
            ensure!(!is_over, "devices that are up without a link-local address: {}", waiting.join(", "));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Looks into the given namespaces.
    pub fn take(namespaces: &[&Namespace]) -> Result<Self> {
        let mut lines = BTreeSet::new();
        for namespace in namespaces {
            lines.extend(lines_of(namespace)?);
        }
        Ok(Self(lines))
    }

    /// What is here and was not there before, and what was there and is missing.
    pub fn differences(&self, before: &Self) -> Vec<String> {
        let left = self.0.difference(&before.0).map(|line| format!("left: {line}"));
        left.chain(before.0.difference(&self.0).map(|line| format!("missing: {line}"))).collect()
    }
}

/// Programs and maps of our roles: the maps that are pinned, and every program that uses one of them. Others on the
/// machine may load and unload theirs meanwhile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Ids of maps.
    pub maps: BTreeSet<u32>,
    /// Ids of programs.
    pub programs: BTreeSet<u32>,
}

impl Holdings {
    /// Finds them by the pins below these folders.
    pub fn find(folders: &[PathBuf]) -> Result<Self> {
        let mut files = Vec::new();
        for folder in folders {
            collect_files(folder, &mut files)?;
        }
        // A pinned link or program is no map, and its file says so by an error.
        let infos = files.iter().filter_map(|file| aya::maps::MapInfo::from_pin(file).ok());
        let maps: BTreeSet<u32> = infos.map(|info| info.id()).collect();
        let uses_ours = |info: &aya::programs::ProgramInfo| {
            info.map_ids().ok().flatten().is_some_and(|ids| ids.iter().any(|id| maps.contains(id)))
        };
        let programs = aya::programs::loaded_programs().filter_map(|info| info.ok()).filter(uses_ours);
        let programs = programs.map(|info| info.id()).collect();
        Ok(Self { maps, programs })
    }

    /// Those that the kernel still holds.
    pub fn still_loaded(&self) -> Vec<String> {
        // One that is gone between listing and asking is gone: that is what we want to know.
        let programs = aya::programs::loaded_programs().filter_map(|info| info.ok());
        let programs = programs.filter(|info| self.programs.contains(&info.id()));
        let programs = programs.map(|info| format!("program {} {}", info.id(), info.name_as_str().unwrap_or("?")));
        let maps = aya::maps::loaded_maps().filter_map(|info| info.ok());
        let maps = maps.filter(|info| self.maps.contains(&info.id()));
        let maps = maps.map(|info| format!("map {} {}", info.id(), info.name_as_str().unwrap_or("?")));
        programs.chain(maps).collect()
    }
}

fn collect_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            collect_files(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// Devices that are up and have no local route of a link-local address yet: that route is the last thing that comes.
fn unsettled_devices(namespace: &Namespace) -> Result<Vec<String>> {
    let read = |arguments: &str| -> Result<Vec<serde_json::Value>> {
        serde_json::from_str(&namespace.ip(arguments)?).with_context(|| format!("ip {arguments} printed no JSON"))
    };
    let routes = read("-6 -j route show table local type local")?;
    let is_link_local = |route: &&serde_json::Value| route["dst"].as_str().is_some_and(|dst| dst.starts_with("fe80:"));
    let settled: Vec<&str> = routes.iter().filter(is_link_local).filter_map(|route| route["dev"].as_str()).collect();
    let links = read("-j link show up")?;
    let names = links.iter().filter_map(|link| link["ifname"].as_str());
    let waiting = names.filter(|name| *name != "lo" && !settled.contains(name));
    Ok(waiting.map(|name| format!("{name} of {}", namespace.name)).collect())
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
