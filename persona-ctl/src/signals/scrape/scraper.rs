//! A task per workload with a page of metrics: asks for it at its pace, and keeps the newest values that are not old.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use persona_core::ids::WorkloadName;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::config::MetricsConfig;
use super::exposition::sums;
use super::fetch::Fetcher;
use crate::host::error_chain;
use crate::limits::{InstanceConfig, LimitsConfig, find, first_process};
use crate::signals::look::{Look, Looks, Values};

/// A page that is asked for, and where its address is one.
#[derive(Debug, Clone)]
pub struct Target {
    /// Which page.
    pub metrics: MetricsConfig,
    /// Where.
    pub place: ScrapePlace,
}

/// In which network namespace a page's address is looked for.
#[derive(Debug, Clone)]
pub enum ScrapePlace {
    /// The agent's own.
    Host,
    /// One with a file.
    Namespace(PathBuf),
    /// That of the first process of an instance's control group.
    Instance(InstanceConfig),
}

/// What workloads' own pages say.
#[derive(Debug, Default)]
pub(in crate::signals) struct Scrapers(BTreeMap<WorkloadName, Arc<Mutex<Scraped>>>);

/// What one page said, and until when that counts.
#[derive(Debug, Default)]
struct Scraped {
    values: Values,
    until: Option<Instant>,
}

impl Scrapers {
    /// Starts to ask for all these pages. Ends with `stop`.
    pub(in crate::signals) fn start(
        targets: BTreeMap<WorkloadName, Target>,
        limits: &LimitsConfig,
        stop: &CancellationToken,
    ) -> Self {
        let start = |(name, target): (WorkloadName, Target)| {
            let scraped = Arc::<Mutex<Scraped>>::default();
            let scraper = Scraper::new(name.clone(), target, limits.clone(), Arc::clone(&scraped));
            tokio::spawn(stop.clone().run_until_cancelled_owned(scraper.run()));
            (name, scraped)
        };
        Self(targets.into_iter().map(start).collect())
    }

    /// What is known now.
    pub(in crate::signals) fn values(&self, now: Instant) -> impl Iterator<Item = (&WorkloadName, Values)> {
        self.0.iter().filter_map(move |(name, scraped)| {
            let scraped = scraped.lock().unwrap_or_else(PoisonError::into_inner);
            scraped.until.is_some_and(|until| now < until).then(|| (name, scraped.values.clone()))
        })
    }
}

struct Scraper {
    name: WorkloadName,
    target: Target,
    limits: LimitsConfig,
    fetcher: Fetcher,
    looks: Looks,
    scraped: Arc<Mutex<Scraped>>,
    /// The same trouble every second is one line in the log.
    said: String,
}

impl Scraper {
    fn new(name: WorkloadName, target: Target, limits: LimitsConfig, scraped: Arc<Mutex<Scraped>>) -> Self {
        let timeout = Duration::from_millis(target.metrics.timeout_ms.into());
        let fetcher = Fetcher::new(target.metrics.url.clone(), timeout);
        Self { name, target, limits, fetcher, looks: Looks::default(), scraped, said: String::new() }
    }

    async fn run(mut self) {
        let every = Duration::from_millis(self.target.metrics.every_ms.into());
        let mut interval = tokio::time::interval(every);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            self.turn(every).await;
        }
    }

    async fn turn(&mut self, every: Duration) {
        let outcome = match self.namespace().await {
            Ok(namespace) => self.fetcher.page(namespace.as_deref()).await.map_err(|error| error_chain(&error)),
            Err(reason) => Err(reason),
        };
        match outcome {
            Ok(page) => {
                let values = self.looks.next(Instant::now(), look_of(&page, &self.target.metrics));
                // Two intervals: one that comes late leaves no gap.
                let until = Some(Instant::now() + 2 * every);
                *self.scraped.lock().unwrap_or_else(PoisonError::into_inner) = Scraped { values, until };
                self.said.clear();
            }
            Err(reason) => {
                self.looks.start_anew();
                self.say(reason);
            }
        }
    }

    /// The file of the namespace for a new connection. None: our own, or none is needed.
    async fn namespace(&self) -> Result<Option<PathBuf>, String> {
        match &self.target.place {
            ScrapePlace::Host => Ok(None),
            ScrapePlace::Namespace(path) => Ok(Some(path.clone())),
            ScrapePlace::Instance(_) if self.fetcher.is_connected() => Ok(None),
            ScrapePlace::Instance(instance) => {
                let (instance, limits) = (instance.clone(), self.limits.clone());
                let found = tokio::task::spawn_blocking(move || namespace_of(&instance, &limits));
                found.await.map_err(|error| error.to_string()).flatten().map(Some)
            }
        }
    }

    fn say(&mut self, reason: String) {
        if self.said != reason {
            let url = self.target.metrics.url.to_string();
            tracing::warn!(workload.name = %self.name, url, reason, "no metrics of a workload: its signals are unknown");
            self.said = reason;
        }
    }
}

/// The namespace of the first process of an instance's groups.
fn namespace_of(instance: &InstanceConfig, limits: &LimitsConfig) -> Result<PathBuf, String> {
    let found = find(instance, limits).map_err(|error| error_chain(&error))?;
    let pid = first_process(&found.whereabouts.places).ok_or("no process is in its control group")?;
    Ok(PathBuf::from(format!("/proc/{pid}/ns/net")))
}

fn look_of(page: &str, metrics: &MetricsConfig) -> Look {
    let mut look = Look::default();
    let sums = sums(page, metrics.signals.values());
    for ((name, selection), sum) in metrics.signals.iter().zip(sums) {
        let signal = format!("metric.{name}");
        if selection.is_rate() { look.total(signal, sum) } else { look.level(signal, sum) }
    }
    look
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_selected_becomes_signals_and_counters_become_rates() {
        let metrics: MetricsConfig = toml::from_str(
            "url = 'http://127.0.0.1:1/'\nsignals = { queue = 'q', requests = 'rate(r{code=\"200\"})', gone = 'x' }",
        )
        .unwrap();
        let start = Instant::now();
        let mut looks = Looks::default();
        let first = looks.next(start, look_of("q 5\nr{code=\"200\"} 100\nr{code=\"500\"} 7\n", &metrics));
        assert_eq!(first, Values::from([("metric.queue".into(), 5.0)]), "a rate needs two looks");
        let after = start + Duration::from_secs(2);
        let second = looks.next(after, look_of("q 4\nr{code=\"200\"} 110\nr{code=\"500\"} 99\n", &metrics));
        assert_eq!(second, Values::from([("metric.queue".into(), 4.0), ("metric.requests".into(), 5.0)]));
    }

    #[test]
    fn values_count_until_their_time_is_over() {
        let now = Instant::now();
        let until = Some(now + Duration::from_secs(2));
        let scraped = Scraped { values: Values::from([("metric.a".into(), 1.0)]), until };
        let scrapers = Scrapers(BTreeMap::from([("web".parse().unwrap(), Arc::new(Mutex::new(scraped)))]));
        assert_eq!(scrapers.values(now).count(), 1);
        assert_eq!(scrapers.values(now + Duration::from_secs(2)).count(), 0);
    }
}
