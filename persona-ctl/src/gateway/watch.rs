//! The instances that are watched: their checks, and what is believed of each.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use persona_core::gateway::health::Health;
use tokio::sync::mpsc;

use super::check::{Checker, InstanceName, Outcome};
use super::service_config::ServiceFile;

/// Outcomes that wait for the loop.
const OUTCOME_COUNT_MAX: usize = 1_024;

/// One instance.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) health: Health,
    /// What the last check that failed said; empty: it passed.
    pub(super) trouble: String,
    /// None: it is taken for well.
    checker: Option<Checker>,
}

impl Watched {
    /// Whether it gets flows.
    pub(super) fn is_alive(&self) -> bool {
        self.checker.is_none() || self.health.is_alive()
    }
}

/// A verdict that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) instance: InstanceName,
    pub(super) is_alive: bool,
    pub(super) trouble: String,
}

/// Every instance of every service.
pub(super) struct Watch {
    by_name: BTreeMap<InstanceName, Watched>,
    sender: mpsc::Sender<Outcome>,
    pub(super) outcomes: mpsc::Receiver<Outcome>,
}

impl Watch {
    pub(super) fn new() -> Self {
        let (sender, outcomes) = mpsc::channel(OUTCOME_COUNT_MAX);
        Self { by_name: BTreeMap::new(), sender, outcomes }
    }

    /// One instance.
    pub(super) fn get(&self, service: &str, instance: &str) -> Option<&Watched> {
        self.by_name.get(&(service.to_owned(), instance.to_owned()))
    }

    /// Watches these services' instances and nobody else. `believed` says what the data path believes of one that is new
    /// here; what is known already stays.
    pub(super) fn follow(
        &mut self,
        services: &[ServiceFile],
        now: Duration,
        believed: impl Fn(&ServiceFile, &str) -> Option<bool>,
    ) {
        let mut wanted = BTreeSet::new();
        for service in services {
            for instance in &service.instance {
                let name = (service.name.clone(), instance.name.clone());
                wanted.insert(name.clone());
                let spec = service.check_of(instance);
                let watched = self.by_name.entry(name.clone()).or_insert_with(|| Watched {
                    health: Health::new(now, believed(service, &instance.name)),
                    trouble: String::new(),
                    checker: None,
                });
                if watched.checker.as_ref().map(|checker| &checker.spec) != spec.as_ref() {
                    watched.checker = spec.map(|spec| Checker::start(spec, name, self.sender.clone()));
                }
            }
        }
        self.by_name.retain(|name, _| wanted.contains(name));
    }

    /// Judges one outcome. Returns the verdict if it changed.
    pub(super) fn judge(&mut self, outcome: Outcome, services: &[ServiceFile], now: Duration) -> Option<Change> {
        let policy = services.iter().find(|service| service.name == outcome.instance.0)?.policy();
        let watched = self.by_name.get_mut(&outcome.instance)?;
        let passed = outcome.result.is_ok();
        watched.trouble = outcome.result.err().unwrap_or_default();
        let is_alive = watched.health.ended(now, passed, &policy)?;
        Some(Change { instance: outcome.instance, is_alive, trouble: watched.trouble.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::GatewayFile;
    use super::*;

    fn services(check: &str) -> Vec<ServiceFile> {
        let text = format!(
            "devices = ['eth0']\n[[service]]\nname = 'web'\naddress = '192.0.2.80'\nport = 80\n\
             health = {{ check = '{check}', interval_ms = 60000, fall = 2 }}\n\
             [[service.instance]]\nname = 'a'\naddress = '127.0.0.1'\nport = 1\n"
        );
        toml::from_str::<GatewayFile>(&text).unwrap().service
    }

    #[tokio::test]
    async fn verdicts_come_from_checks_and_beliefs() {
        let now = Duration::from_secs(5);
        let mut watch = Watch::new();
        let services_of = services("tcp");
        watch.follow(&services_of, now, |_, _| Some(true));
        assert!(watch.get("web", "a").unwrap().is_alive(), "what the data path believes is taken over");
        let failed = || Outcome { instance: ("web".into(), "a".into()), result: Err("refused".into()) };
        assert_eq!(watch.judge(failed(), &services_of, now), None);
        let change = watch.judge(failed(), &services_of, now).unwrap();
        assert_eq!((change.is_alive, change.trouble.as_str()), (false, "refused"));
        watch.follow(&services_of, now, |_, _| Some(true));
        assert!(!watch.get("web", "a").unwrap().is_alive(), "what is known stays");
        watch.follow(&services("none"), now, |_, _| None);
        assert!(watch.get("web", "a").unwrap().is_alive(), "without a check it is taken for well");
        let stranger = Outcome { instance: ("web".into(), "z".into()), result: Ok(()) };
        assert_eq!(watch.judge(stranger, &services_of, now), None);
        watch.follow(&[], now, |_, _| None);
        assert!(watch.get("web", "a").is_none());
    }
}
