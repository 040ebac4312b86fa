//! The gateway's process from start to stop: what wakes a pass, and what each pass leads to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch as watching};
use tokio_util::sync::CancellationToken;

use super::config::GatewayConfig;
use super::control::{self, Command, Refusal};
use super::ground::Ground;
use super::observe::Observed;
use super::overrides::{Override, Overrides};
use super::plan::{self, Inputs, Plan};
use super::service_config::WEIGHT_MAX;
use super::view::{InstanceChange, InstanceView, ServiceView};
use super::watch::{Change, Watch};
use super::{check::Outcome, tell};
use crate::dataplane::gateway_tables::InstanceState;
use crate::dataplane::monotonic_now;
use crate::host;
use crate::metrics::{self, Snapshot};
use crate::netlink::{Netlink, Notices, watch as watch_kernel};
use crate::supervisor::{Readiness, Supervisor};

/// A pass runs at least this often, for what no notice tells.
const PASS_INTERVAL: Duration = Duration::from_secs(1);
/// News that comes in a burst is taken in one pass.
const SETTLE: Duration = Duration::from_millis(3);
/// XDP sends past the kernel, which then sees no use of a neighbour and never confirms it; so we ask this often.
const CONFIRM_INTERVAL: Duration = Duration::from_secs(10);
/// Counting flows goes through their whole table: this often for metrics.
const COUNT_INTERVAL: Duration = Duration::from_secs(10);

/// Where the configuration comes from, each time that it is read.
pub type Source = Box<dyn Fn() -> anyhow::Result<GatewayConfig> + Send>;

/// Runs the gateway until `stop` is cancelled. The data path stays as it is.
pub async fn run(source: Source, stop: CancellationToken) -> anyhow::Result<()> {
    let config = source()?;
    host::require_node(&config.bpffs)?;
    let (_socket, mut commands) = control::serve(&config.socket, &stop).await?;
    let mut hangup = signal(SignalKind::hangup()).context("SIGHUP cannot be watched")?;
    let mut gateway = Gateway::start(config, source, &stop).await?;
    gateway.turn(&mut commands, &mut hangup, &stop).await;
    tracing::info!("stopped; the data path goes on as it is, and instances that die go unnoticed");
    Ok(())
}

/// The running gateway.
struct Gateway {
    source: Source,
    config: GatewayConfig,
    overrides: Overrides,
    netlink: Netlink,
    changed: Arc<Notify>,
    ground: Ground,
    watch: Watch,
    plan: Plan,
    said: Vec<String>,
    confirmed: Instant,
    counted: Option<Instant>,
    metrics: watching::Sender<Snapshot>,
    readiness: Readiness,
}

impl Gateway {
    async fn start(config: GatewayConfig, source: Source, stop: &CancellationToken) -> anyhow::Result<Self> {
        let netlink = Netlink::open()?;
        let changed = Arc::new(Notify::new());
        watch_kernel(Arc::clone(&changed), Notices::RoutesAndNeighbours)?;
        let overrides = Overrides::load(&config.state_dir)?;
        let readiness = Readiness::default();
        let metrics = metrics::start(config.file.metrics, &readiness, stop).await?;
        let observed = Observed::look(&netlink, &config).await?;
        let mut gateway = Self {
            ground: Ground::open(&config, &observed)?,
            source,
            config,
            overrides,
            netlink,
            changed,
            watch: Watch::new(),
            plan: Plan::default(),
            said: Vec::new(),
            confirmed: Instant::now(),
            counted: None,
            metrics,
            readiness,
        };
        gateway.follow_services();
        // What cannot be applied at the start is a mistake in the configuration, not a state to wait out.
        gateway.try_pass(&observed)?;
        tracing::info!(services = gateway.config.file.service.len(), "the gateway is at work");
        Ok(gateway)
    }

    async fn turn(&mut self, commands: &mut mpsc::Receiver<Command>, hangup: &mut Signal, stop: &CancellationToken) {
        let mut supervisor = Supervisor::from_environment(&self.readiness);
        let mut interval = tokio::time::interval(PASS_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = interval.tick() => self.tell_metrics(),
                Some(outcome) = self.watch.outcomes.recv() => {
                    if !self.judge(outcome) {
                        continue;
                    }
                }
                Some(command) = commands.recv() => { self.obey(command).await; continue }
                _ = hangup.recv() => {
                    if let Err(error) = self.reload().await {
                        tracing::error!(error = format!("{error:#}"), "the configuration was not read again; the previous one stays in force");
                    }
                    continue;
                }
                () = self.changed.notified() => tokio::time::sleep(SETTLE).await,
            }
            self.pass().await;
            supervisor.turn(self.standing());
        }
    }

    /// How things stand, in a line.
    fn standing(&self) -> String {
        let services = &self.config.file.service;
        let instance_count: usize = services.iter().map(|service| service.instance.len()).sum();
        let troubles = if self.said.is_empty() { String::new() } else { format!("; {}", self.said.join("; ")) };
        format!("{} services, {instance_count} instances{troubles}", services.len()).replace(['\n', '\r'], " ")
    }

    /// Looks, compiles, applies. Trouble is said once, until it is another.
    async fn pass(&mut self) {
        let outcome = match Observed::look(&self.netlink, &self.config).await {
            Ok(observed) => self.try_pass(&observed),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = outcome {
            self.say(vec![format!("{error:#}")]);
        }
        self.resolve_next_hops().await;
    }

    fn try_pass(&mut self, observed: &Observed) -> anyhow::Result<()> {
        tokio::task::block_in_place(|| self.ground.follow(&self.config, observed))?;
        let is_alive =
            |service: &str, instance: &str| self.watch.get(service, instance).is_some_and(|it| it.is_alive());
        let inputs = Inputs { config: &self.config, overrides: &self.overrides, observed, is_alive: &is_alive };
        let plan = plan::make(&inputs);
        let mut troubles = plan.troubles.clone();
        tokio::task::block_in_place(|| self.ground.apply(&plan.tables))?;
        if let Some(file) = &self.config.file.delivery {
            let (tables, more) = plan::make_delivery(file, observed);
            troubles.extend(more);
            tokio::task::block_in_place(|| self.ground.apply_delivery(&tables))?;
        }
        self.plan = plan;
        self.say(troubles);
        Ok(())
    }

    fn say(&mut self, troubles: Vec<String>) {
        for trouble in troubles.iter().filter(|it| !self.said.contains(it)) {
            tracing::warn!(trouble, "something is not as configured");
        }
        self.said = troubles;
    }

    /// Watches whoever is configured now, as the data path believes of them.
    fn follow_services(&mut self) {
        let ground = &self.ground;
        self.watch.follow(&self.config.file.service, monotonic_now(), |service, instance| {
            let state = ground.gateway().and_then(|it| it.state(service.key(), instance).ok().flatten());
            state.map(|state| state.is_alive)
        });
    }

    /// Says whether a pass must follow.
    fn judge(&mut self, outcome: Outcome) -> bool {
        let Some(change) = self.watch.judge(outcome, &self.config.file.service, monotonic_now()) else { return false };
        self.tell_verdict(&change);
        // The data path first, whatever a pass takes.
        self.put_state(&change.instance.0, &change.instance.1);
        true
    }

    fn tell_verdict(&self, change: &Change) {
        let (service, instance) = &change.instance;
        if change.is_alive {
            tracing::info!(service, instance, "the instance is well: it gets flows");
        } else {
            let trouble = &change.trouble;
            tracing::warn!(service, instance, trouble, "the instance is dead: its flows go to others");
        }
    }

    /// Tells the data path an instance's state, ahead of the pass.
    fn put_state(&mut self, service: &str, instance: &str) {
        let Some(file) = self.config.file.service.iter().find(|it| it.name == service) else { return };
        let Some(of_file) = file.instance.iter().find(|it| it.name == instance) else { return };
        let state = InstanceState {
            is_alive: self.watch.get(service, instance).is_some_and(|it| it.is_alive()),
            is_draining: self.overrides.of(service, instance).draining.unwrap_or(of_file.draining),
        };
        let told = self.ground.gateway_mut().map(|it| it.set_state(file.key(), instance, state));
        if let Some(Err(error)) = told {
            tracing::error!(service, instance, error = host::error_chain(&error), "the data path was not told");
        }
    }

    async fn obey(&mut self, command: Command) {
        // Whoever asked may have gone; then there is nobody to tell.
        match command {
            Command::List(reply) => drop(reply.send(self.views())),
            Command::Reload(reply) => {
                let outcome = self.reload().await.map_err(|error| Refusal::Invalid(format!("{error:#}")));
                drop(reply.send(outcome.and_then(|()| self.views())));
            }
            Command::Change { service, instance, change, reply } => {
                let outcome = self.change(&service, &instance, change).await;
                drop(reply.send(outcome));
            }
        }
    }

    async fn change(&mut self, service: &str, instance: &str, change: InstanceChange) -> Result<InstanceView, Refusal> {
        self.known(service, instance)?;
        if let Some(weight) = change.weight.filter(|weight| *weight > WEIGHT_MAX) {
            return Err(Refusal::Invalid(format!("weight {weight} is not within 0 to {WEIGHT_MAX}")));
        }
        let before = self.overrides.of(service, instance);
        let after = Override { draining: change.draining.or(before.draining), weight: change.weight.or(before.weight) };
        self.overrides.put(service, instance, after);
        self.overrides.save(&self.config.state_dir).map_err(|error| Refusal::Failed(format!("{error:#}")))?;
        tracing::info!(service, instance, draining = after.draining, weight = after.weight, "changed by hand");
        self.put_state(service, instance);
        self.pass().await;
        let views = self.views()?;
        let of_service = views.into_iter().find(|it| it.name == service);
        let found = of_service.and_then(|it| it.instances.into_iter().find(|it| it.name == instance));
        found.ok_or_else(|| Refusal::Unknown(format!("instance {instance} of {service} is gone")))
    }

    fn known(&self, service: &str, instance: &str) -> Result<(), Refusal> {
        let names = |names: Vec<&str>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let services = &self.config.file.service;
        let Some(found) = services.iter().find(|it| it.name == service) else {
            let there = names(services.iter().map(|it| it.name.as_str()).collect());
            return Err(Refusal::Unknown(format!("there is no service {service}: the services are {there}")));
        };
        if found.instance.iter().any(|it| it.name == instance) {
            return Ok(());
        }
        let there = names(found.instance.iter().map(|it| it.name.as_str()).collect());
        Err(Refusal::Unknown(format!("service {service} has no instance {instance}: its instances are {there}")))
    }

    /// Reads the configuration again and puts it in force, or leaves the previous one in force.
    async fn reload(&mut self) -> anyhow::Result<()> {
        let config = (self.source)()?;
        if let Some(key) = fixed_key_that_differs(&self.config, &config) {
            anyhow::bail!("{key} cannot change while the gateway runs: restart it");
        }
        let observed = Observed::look(&self.netlink, &config).await?;
        let previous = std::mem::replace(&mut self.config, config);
        self.follow_services();
        if let Err(error) = self.try_pass(&observed) {
            self.config = previous;
            self.follow_services();
            self.pass().await;
            return Err(error);
        }
        let services = &self.config.file.service;
        self.overrides.retain(|service, instance| {
            let found = services.iter().find(|it| it.name == service);
            found.is_some_and(|it| it.instance.iter().any(|it| it.name == instance))
        });
        self.overrides.save(&self.config.state_dir)?;
        tracing::info!(services = self.config.file.service.len(), "the configuration was read again");
        Ok(())
    }

    fn views(&self) -> Result<Vec<ServiceView>, Refusal> {
        let failed = |error: anyhow::Error| Refusal::Failed(format!("{error:#}"));
        let counts = self.ground.flow_counts().map_err(failed)?;
        tell::views(&self.config, &self.plan, &self.ground, &self.watch, &counts).map_err(failed)
    }

    fn tell_metrics(&mut self) {
        if self.config.file.metrics.is_none() {
            return;
        }
        if self.counted.is_some_and(|counted| counted.elapsed() < COUNT_INTERVAL) {
            return;
        }
        self.counted = Some(Instant::now());
        let told = self.views().map(|services| {
            let drops = self.ground.drops().unwrap_or_default();
            Snapshot { drops, gateway: tell::samples(&services), ..Snapshot::default() }
        });
        match told {
            // Nobody listens where no metrics are served.
            Ok(snapshot) => drop(self.metrics.send(snapshot)),
            Err(refusal) => tracing::warn!(?refusal, "metrics were not brought up to date"),
        }
    }

    async fn resolve_next_hops(&mut self) {
        let is_due = self.confirmed.elapsed() >= CONFIRM_INTERVAL;
        if is_due {
            self.confirmed = Instant::now();
        }
        let instances = self.plan.tables.services.iter().flat_map(|service| &service.instances);
        let hops = instances.map(|it| it.next_hop).filter(|hop| hop.ifindex != 0);
        for hop in hops.filter(|hop| is_due || hop.destination_mac.is_none()).collect::<Vec<_>>() {
            if let Err(error) = self.netlink.resolve_neighbour(hop.ifindex, hop.address).await {
                tracing::debug!(next_hop = %hop.address, error = host::error_chain(&error), "next hop is not resolved");
            }
        }
    }
}

/// What is read once, when the process starts, and differs.
fn fixed_key_that_differs(before: &GatewayConfig, after: &GatewayConfig) -> Option<&'static str> {
    let (old, new) = (&before.file, &after.file);
    let keys = [
        ("bpffs", before.bpffs == after.bpffs),
        ("state_dir", before.state_dir == after.state_dir),
        ("socket", before.socket == after.socket),
        ("hook", old.hook == new.hook),
        ("coexist", old.coexist == new.coexist),
        ("metrics", old.metrics == new.metrics),
        ("verbose_packets", old.verbose_packets == new.verbose_packets),
    ];
    keys.into_iter().find(|(_, is_same)| !is_same).map(|(key, _)| key)
}
