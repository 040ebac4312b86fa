//! `persona-ctl doctor`: what this host can do, what each missing thing costs, and what to do about it.

use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use persona_core::wire::credential::Credential;

use super::Output;
use super::print::table_of;
use crate::agent;
use crate::dataplane::{Offloads, loses_udp_batches};
use crate::edge;
use crate::host::{self, Check, Outcome};
use crate::limits;
use crate::manager_link::joined_managers;
use crate::netlink::{Link, Netlink};

/// What a persona of the usual MTU of 1,400 needs of the underlay.
const UNDERLAY_MTU_USUAL: u32 = 1_400 + 36;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Look at this host: kernel features, privileges, devices, the manager.
///
/// Exit code 1 if something is missing without which a role cannot run.
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Configuration file of an agent, edge or gateway: its devices, bpffs and manager are looked at too.
    #[arg(long, env = "PERSONA_CONFIG")]
    config: Option<PathBuf>,
}

impl DoctorArgs {
    pub(super) fn run(self, manager: Option<String>, output: Output) -> anyhow::Result<()> {
        let role = self.config.as_deref().map(crate::config::load::<toml::Table>).transpose()?.unwrap_or_default();
        let text = |key: &str| role.get(key).and_then(toml::Value::as_str).map(str::to_owned);
        let bpffs = PathBuf::from(text("bpffs").unwrap_or_else(|| "/sys/fs/bpf/persona".into()));
        let mut checks = host::checks(&bpffs);
        let mut devices: Vec<String> = ["uplink", "inside", "outside"].into_iter().filter_map(text).collect();
        devices.extend(gateway_devices(&role));
        checks.extend(device_checks(&devices)?);
        let offloads = if text("offloads").as_deref() == Some("leave") { Offloads::Leave } else { Offloads::Adjust };
        let towards_tunnels = ["uplink", "inside"].into_iter().filter_map(text);
        checks
            .extend(towards_tunnels.filter(|device| loses_udp_batches(device)).map(|it| batches_check(&it, offloads)));
        // An edge's configuration has other keys, and nothing to advise on.
        let file = self.config.as_deref().map(crate::config::load::<agent::AgentFile>).and_then(Result::ok);
        if let Some(file) = &file {
            checks.extend(agent::advice(file, agent::own_cgroup().as_deref()));
        }
        checks.extend(limit_checks(&file.unwrap_or_default())?);
        // A gateway follows no manager.
        if !["devices", "delivery"].into_iter().any(|key| role.contains_key(key)) {
            checks.extend(manager_checks(manager, &role));
        }
        output.show(&checks, |checks| table(checks))?;
        let failed_count = checks.iter().filter(|check| check.outcome == Outcome::Failed).count();
        anyhow::ensure!(failed_count == 0, "{failed_count} of {} checks failed: a role cannot run here", checks.len());
        Ok(())
    }
}

fn limit_checks(file: &agent::AgentFile) -> anyhow::Result<Vec<Check>> {
    let instances = file.workload.iter().filter_map(agent::WorkloadConfig::instance);
    let sources: Vec<_> = instances.map(|instance| instance.source).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(limits::probe(&file.limits, &sources)))
}

/// The devices that a gateway's configuration names, and a delivering node's.
fn gateway_devices(role: &toml::Table) -> Vec<String> {
    let text = |value: &toml::Value| value.as_str().map(str::to_owned);
    let gateway = role.get("devices").and_then(toml::Value::as_array).into_iter().flatten().filter_map(text);
    let delivery = role.get("delivery").and_then(|delivery| delivery.get("device")).and_then(text);
    gateway.chain(delivery).collect()
}

fn device_checks(devices: &[String]) -> anyhow::Result<Vec<Check>> {
    if devices.is_empty() {
        return Ok(Vec::new());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let links = runtime.block_on(async { Netlink::open()?.links().await })?;
    Ok(devices.iter().map(|device| device_check(device, &links)).collect())
}

fn device_check(device: &str, links: &[Link]) -> Check {
    let name = format!("device {device}");
    let Some(link) = links.iter().find(|link| link.name == device) else {
        let present: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
        let advice = format!("the devices here are {}", present.join(", "));
        return Check::missing(&name, Outcome::Failed, "not there", advice);
    };
    let found = format!("MTU {}, {}", link.mtu, if link.is_up { "up" } else { "down" });
    if !link.is_up {
        Check::missing(&name, Outcome::Failed, found, "nothing can be sent: set it up")
    } else if link.mtu < UNDERLAY_MTU_USUAL {
        let advice = format!(
            "personas here need an mtu of {} or less; {UNDERLAY_MTU_USUAL} carries the usual 1400",
            link.mtu.saturating_sub(36)
        );
        Check::missing(&name, Outcome::Degraded, found, advice)
    } else {
        Check::present(&name, found)
    }
}

/// A device that hands batches of UDP over whole, which then are lost behind the tunnel.
fn batches_check(device: &str, offloads: Offloads) -> Check {
    let name = format!("UDP batches by {device}");
    match offloads {
        Offloads::Adjust => Check::present(&name, "tx-udp-segmentation is on; the role switches it off when it starts"),
        Offloads::Leave => Check::missing(
            &name,
            Outcome::Degraded,
            "tx-udp-segmentation is on",
            format!(
                "batches (UDP_SEGMENT, as QUIC sends them) are lost: ethtool -K {device} tx-udp-segmentation off, or offloads = \"adjust\""
            ),
        ),
    }
}

/// The managers that a role would go to: those of its file, else of its join token, else those that it has joined.
fn manager_checks(given: Option<String>, role: &toml::Table) -> Vec<Check> {
    let text = |key: &str| role.get(key).and_then(toml::Value::as_str).map(str::to_owned);
    let urls = agent::split_urls(given.or_else(|| text("manager")).as_deref());
    let default = if role.contains_key("group") { edge::STATE_DIR } else { agent::STATE_DIR };
    let state_dir = text("state_dir").map_or_else(|| default.into(), PathBuf::from);
    let file = text("join_token_file").map(PathBuf::from);
    let token = agent::read_join_token(text("join_token").as_deref(), file.as_ref(), &state_dir).ok();
    let token = token.and_then(|token| token.parse::<Credential>().ok());
    let joined = joined_managers(&state_dir);
    if token.is_none() && joined.is_empty() && !role.is_empty() {
        let advice = "put what `persona-ctl token create` prints into a file, and its name into join_token_file";
        return vec![Check::missing("join token", Outcome::Failed, "none to be read, and not joined yet", advice)];
    }
    let known = token.map_or(joined, |token| token.managers);
    let urls = if urls.is_empty() { known } else { urls };
    urls.iter().map(|url| manager_check(url)).collect()
}

fn manager_check(url: &str) -> Check {
    let advice = "the last desired state stays in force meanwhile; check the URL and that the manager runs";
    match connect(url) {
        Ok(()) => Check::present("manager", format!("{url} accepts connections")),
        Err(error) => Check::missing("manager", Outcome::Degraded, format!("{url}: {error:#}"), advice),
    }
}

fn connect(url: &str) -> anyhow::Result<()> {
    let url = reqwest::Url::parse(url)?;
    let host = url.host_str().ok_or_else(|| anyhow::anyhow!("the URL has no host"))?;
    let port = url.port_or_known_default().ok_or_else(|| anyhow::anyhow!("the URL has no port"))?;
    let mut last = anyhow::anyhow!("{host} has no address");
    for address in (host, port).to_socket_addrs()? {
        match std::net::TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(_) => return Ok(()),
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

fn table(checks: &[Check]) -> String {
    let rows = checks.iter().map(|check| {
        let outcome = match check.outcome {
            Outcome::Present => "ok",
            Outcome::Degraded => "degraded",
            Outcome::Failed => "FAILED",
        };
        [check.name.as_str(), outcome, &check.found, &check.advice]
    });
    table_of(&["CHECK", "RESULT", "FOUND", "WITHOUT IT"], rows, "nothing to check")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_judged() {
        let link = |mtu, is_up| Link { index: 1, name: "up0".into(), mtu, mac: None, is_up, ..Default::default() };
        for (links, expected) in [
            (vec![], Outcome::Failed),
            (vec![link(1_500, false)], Outcome::Failed),
            (vec![link(1_400, true)], Outcome::Degraded),
            (vec![link(1_500, true)], Outcome::Present),
        ] {
            assert_eq!(device_check("up0", &links).outcome, expected, "{links:?}");
        }
    }

    #[test]
    fn a_gateways_devices_are_found() {
        let role = toml::from_str("devices = ['a', 'b']\n[delivery]\ndevice = 'c'\n").unwrap();
        assert_eq!(gateway_devices(&role), ["a", "b", "c"]);
        assert_eq!(gateway_devices(&toml::Table::new()), Vec::<String>::new());
    }

    #[test]
    fn managers_are_those_of_the_file_or_the_token_or_where_it_has_joined() {
        let directory = tempfile::tempdir().unwrap();
        let role = |more: &str| {
            let text = format!("group = 'g'\nstate_dir = '{}'\n{more}", directory.path().display());
            toml::from_str::<toml::Table>(&text).unwrap()
        };
        let told = |role: &toml::Table| {
            let checks = manager_checks(None, role).into_iter();
            checks.map(|check| format!("{} {}", check.name, check.found)).collect::<Vec<_>>().join(", ")
        };
        assert!(told(&role("manager = 'http://127.0.0.1:1'")).starts_with("join token none"));
        let pin = "0a".repeat(32);
        let token = format!("join_token = '1f.aabb.{pin}@https://127.0.0.1:1,https://127.0.0.1:2'");
        let both = told(&role(&token));
        assert!(both.contains("manager https://127.0.0.1:1") && both.contains("manager https://127.0.0.1:2"), "{both}");
        assert!(told(&role(&(token + "\nmanager = 'http://127.0.0.1:3'"))).starts_with("manager http://127.0.0.1:3"));
        let membership = r#"{"certificate":"","givenMs":0,"expiresMs":0,"roots":[],"managers":["http://127.0.0.1:4"]}"#;
        std::fs::write(directory.path().join("membership.json"), membership).unwrap();
        assert!(told(&role("join_token_file = '/nowhere'")).starts_with("manager http://127.0.0.1:4"));
        assert_eq!(told(&toml::Table::new()), "");
    }

    #[test]
    fn a_manager_that_is_away_is_no_hard_failure() {
        for url in ["http://127.0.0.1:1", "nonsense"] {
            assert_eq!(manager_check(url).outcome, Outcome::Degraded, "{url}");
        }
    }
}
