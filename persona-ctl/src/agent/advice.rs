//! What an agent's configuration cannot give, said before anybody misses it: for `doctor`. Pure but for what is passed in.

use std::net::IpAddr;

use super::config::{AgentFile, Queues};
use super::workload_config::WorkloadConfig;
use crate::host::{Check, Outcome};

/// Checks of a configuration; `own_cgroup` is the v2 cgroup of this process.
pub fn advice(file: &AgentFile, own_cgroup: Option<&str>) -> Vec<Check> {
    let mut checks = vec![queues(file.queues)];
    checks.extend(file.workload.iter().filter_map(prefer_ipv6));
    if let (Some(host), Some(own)) = (file.host.cgroup.as_deref(), own_cgroup) {
        checks.push(host_cgroup(host, own));
    }
    checks
}

/// The v2 cgroup of this process (cgroups(7): the line of hierarchy 0).
pub fn own_cgroup() -> Option<String> {
    let text = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

/// Only a unique local source needs anything to prefer IPv6 (RFC 6724 §5 rule 5).
fn prefer_ipv6(workload: &WorkloadConfig) -> Option<Check> {
    let mut ranges = workload.address6.into_iter().chain(workload.all_sources());
    let is_local = ranges.any(|range| matches!(range.address(), IpAddr::V6(address) if address.is_unique_local()));
    let name = workload.name.as_ref().filter(|_| is_local)?;
    let check = format!("prefer-ipv6 of {name}");
    Some(match &workload.gai_conf {
        Some(path) => Check::present(&check, format!("getaddrinfo reads {}", path.display())),
        None => {
            let advice = "a persona with family: prefer-ipv6 changes the kernel's choice of source only: set gai_conf for glibc's order; musl and static programs, and guests, keep theirs";
            Check::missing(&check, Outcome::Degraded, "no gai_conf, and a unique local address", advice)
        }
    })
}

/// Which mechanism holds rates, and why.
fn queues(queues: Queues) -> Check {
    let found = match queues {
        Queues::Auto => {
            "HTB (queues = \"auto\"): it does all that personas can ask, on every kernel; queues = \"edt\" is exact for small packets too, where fq is there"
        }
        Queues::Htb => "HTB (queues = \"htb\")",
        Queues::Edt => {
            "departure times with fq (queues = \"edt\"); HTB on devices where a subject has a share of a total or is delayed"
        }
    };
    Check::present("rates", found)
}

/// Whether a cgroup is the other one, or below it.
pub(super) fn is_below(group: &str, own: &str) -> bool {
    own == group || own.strip_prefix(group.trim_end_matches('/')).is_some_and(|rest| rest.starts_with('/'))
}

fn host_cgroup(host: &str, own: &str) -> Check {
    if is_below(host, own) {
        let advice =
            "run the agent in another group (the unit has its own slice), or the manager's address must be in bypass";
        Check::missing("host cgroup", Outcome::Degraded, format!("{host} holds this process too ({own})"), advice)
    } else {
        Check::present("host cgroup", host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_had_is_said() {
        let text = "
            host = { cgroup = '/system.slice' }
            workload = [
              { name = 'a', device = 'v0', address6 = 'fd00:1::/64' },
              { name = 'b', device = 'v1', address6 = 'fd00:2::/64', gai_conf = '/x' },
              { name = 'c', device = 'v2', address6 = '2001:db8::/64' },
              { name = 'd', device = 'v3', address = '10.0.0.4' },
            ]";
        let file: AgentFile = toml::from_str(text).unwrap();
        let outcomes = |own| advice(&file, own).iter().map(|check| check.outcome).collect::<Vec<_>>();
        let (degraded, present) = (Outcome::Degraded, Outcome::Present);
        assert_eq!(outcomes(None), [present, degraded, present], "a global address prefers IPv6 by itself");
        for (own, expected) in [
            ("/system.slice/persona-agent.service", Outcome::Degraded),
            ("/system.slice", Outcome::Degraded),
            ("/system.slices", Outcome::Present),
            ("/system-persona.slice/x", Outcome::Present),
        ] {
            assert_eq!(outcomes(Some(own)).last(), Some(&expected), "{own}");
        }
    }
}
