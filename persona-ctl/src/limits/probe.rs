//! Which ways to limit instances there are on this host, found by trying, for `doctor`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::bus;
use super::config::{LimitsConfig, Source};
use super::docker;
use super::hierarchies::{Hierarchies, Version};
use super::qmp::Qmp;
use crate::host::{Check, Outcome, error_chain};

/// Controllers by what they limit; either name does.
const NEEDED: [(&str, [&str; 2]); 4] =
    [("cpu", ["cpu", "cpu"]), ("memory", ["memory", "memory"]), ("io", ["io", "blkio"]), ("pids", ["pids", "pids"])];

/// Looks at the kernel's control groups, and at every engine and monitor that workloads name.
pub async fn probe(config: &LimitsConfig, sources: &[Source]) -> Vec<Check> {
    let mut checks = vec![control_groups(&Hierarchies::below(&config.cgroup_root))];
    let mut has_units = false;
    let mut engines: BTreeMap<&PathBuf, ()> = BTreeMap::new();
    for source in sources {
        match source {
            Source::Container { socket, .. } if engines.insert(socket, ()).is_none() => {
                let name = format!("docker engine {}", socket.display());
                checks.push(match docker::version(socket).await {
                    Ok(version) => Check::present(&name, format!("version {version}")),
                    Err(error) => Check::missing(
                        &name,
                        Outcome::Degraded,
                        error_chain(&error),
                        "limits of its containers fail until it answers",
                    ),
                });
            }
            Source::Guest(path) => checks.push(monitor(path.clone()).await),
            Source::Unit(_) if !has_units => {
                has_units = true;
                checks.push(systemd(bus::version().await));
            }
            Source::Container { .. } | Source::Cgroup(_) | Source::Oci(_) | Source::Unit(_) => {}
        }
    }
    checks
}

fn control_groups(trees: &Hierarchies) -> Check {
    let available = trees.available();
    let version_of =
        |names: [&str; 2]| available.iter().find(|(name, _)| names.contains(name)).map(|(_, version)| *version);
    let tell = |(what, names): &(&str, [&str; 2])| match version_of(*names) {
        Some(Version::V2) => format!("{what} by cgroup v2"),
        Some(Version::V1) => format!("{what} by cgroup v1"),
        None => format!("{what} not at all"),
    };
    let found = NEEDED.iter().map(tell).collect::<Vec<_>>().join(", ");
    if NEEDED.iter().all(|(_, names)| version_of(*names).is_some()) {
        return Check::present("limits", found);
    }
    let advice =
        "a persona's resources are in force only as far as there is a controller; network personas are not affected";
    Check::missing("limits", Outcome::Degraded, found, advice)
}

fn systemd(answer: std::io::Result<String>) -> Check {
    match answer {
        Ok(version) => Check::present("systemd", format!("version {version}, over D-Bus")),
        Err(error) => Check::missing(
            "systemd",
            Outcome::Degraded,
            error_chain(&error),
            "limits of units fail until the system bus answers",
        ),
    }
}

async fn monitor(path: PathBuf) -> Check {
    let name = format!("monitor {}", path.display());
    let asked = tokio::task::spawn_blocking(move || Qmp::connect(&path)?.process()).await;
    match asked {
        Ok(Ok(pid)) => Check::present(&name, format!("QMP answers, process {pid}")),
        Ok(Err(error)) => {
            Check::missing(&name, Outcome::Degraded, error_chain(&error), "limits of this guest fail until it answers")
        }
        Err(error) => Check::missing(&name, Outcome::Degraded, error.to_string(), "ask again"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_limits_is_named_with_what_is_missing() {
        let root = tempfile::tempdir().unwrap();
        for name in ["cpu", "memory"] {
            std::fs::create_dir(root.path().join(name)).unwrap();
            std::fs::write(root.path().join(name).join("cgroup.procs"), "").unwrap();
        }
        std::fs::create_dir(root.path().join("unified")).unwrap();
        std::fs::write(root.path().join("unified/cgroup.controllers"), "io").unwrap();
        let config = LimitsConfig { cgroup_root: root.path().to_owned(), ..LimitsConfig::default() };
        let absent = root.path().join("absent");
        let engine = |name: &str| Source::Container { socket: absent.clone(), name: name.to_owned() };
        let checks = probe(&config, &[engine("a"), engine("b"), Source::Guest(absent.clone())]).await;
        let found: Vec<(Outcome, &str)> = checks.iter().map(|check| (check.outcome, check.found.as_str())).collect();
        assert_eq!(found.len(), 3, "an engine is asked once");
        assert_eq!(
            found[0],
            (Outcome::Degraded, "cpu by cgroup v1, memory by cgroup v1, io by cgroup v2, pids not at all")
        );
        assert!(found[1..].iter().all(|(outcome, text)| *outcome == Outcome::Degraded && text.contains("absent")));
    }
}
