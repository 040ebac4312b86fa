//! The agent from start to stop: what wakes a pass, and what each pass leads to.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context;
use persona_core::ids::{EdgeNumber, Generation, SubjectId, WorkloadName};
use persona_core::liveness::Verdict;
use persona_core::trial::Turn;
use persona_core::wire::agent::{Register, Rejection, Role};
use persona_core::wire::desired::DesiredState;
use persona_core::wire::limits::LimitReport;
use persona_core::wire::security::SecurityReport;
use persona_core::wire::software::SoftwareReport;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::budget::MtuPolicy;
use super::changes::{Note, Standing};
use super::conditions::{self, Asking};
use super::config::{AgentConfig, Guard};
use super::cuts::Cuts;
use super::observe::Observed;
use super::pass::{PassError, Reconciler, lock};
use super::queue_drops::QueueDrops;
use super::report;
use super::requests::{self, Places, RequestSocket};
use super::telling::Telling;
use super::trial::Trials;
use super::workload_config::WorkloadConfig;
use crate::dataplane::{LivenessWriter, NodeDataplane, NodeOptions, PacketLogging, adjust_offloads};
use crate::guest_link::{self, Guests};
use crate::host;
use crate::limits::{InstanceConfig, Keeper};
use crate::manager_link::{self, Link, LinkConfig, Outbox, Reporter, StateFile};
use crate::memory;
use crate::metrics::LinkSample;
use crate::netlink::{self, Netlink, Notices};
use crate::open_files;
use crate::packet_log::{self, Follower};
use crate::path_mtu::PathMtus;
use crate::probe::Prober;
use crate::security;
use crate::signals::{Measured, Meter};
use crate::software;
use crate::supervisor::{self, Readiness, Supervisor};

/// A pass runs at least this often, for what no notice tells: counters, drained leases, drift.
const PASS_INTERVAL: Duration = Duration::from_secs(1);
/// News that comes in a burst is taken in one pass.
const SETTLE: Duration = Duration::from_millis(3);
/// Expired flows are returned to memory this often.
const SWEEP_EVERY_PASSES: u64 = 10;
/// What starting and applying needed of memory is returned this often.
const GIVE_BACK_EVERY_PASSES: u64 = 60;
/// … and so soon after that, when the last of it is done.
const GIVE_BACK_AFTER_PASSES: u64 = 5;
/// Verdicts that wait for the loop; the data path has been told already.
const VERDICT_COUNT_MAX: usize = 1_024;

/// Runs the agent until `stop` is cancelled. The data path stays as it is.
pub async fn run(config: AgentConfig, stop: CancellationToken) -> anyhow::Result<()> {
    host::require_node(&config.bpffs)?;
    open_files::raise_limit();
    let readiness = Readiness::default();
    let mut agent = Agent::start(config, &readiness, &stop).await?;
    let mut supervisor = Supervisor::from_environment(&readiness);
    let mut interval = tokio::time::interval(PASS_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let cause = tokio::select! {
            () = stop.cancelled() => break,
            _ = interval.tick() => { agent.housekeep().await; Cause::Interval }
            Some((edge, verdict)) = agent.verdicts.recv() => { agent.tell_verdict(edge, verdict); continue }
            Ok(()) = agent.link.desired.changed() => Cause::News,
            Ok(()) = agent.link.heard.changed(), if agent.trials.is_running() => Cause::News,
            () = agent.changed.notified() => { tokio::time::sleep(SETTLE).await; Cause::News }
        };
        agent.pass(cause).await;
        supervisor.turn(supervisor::standing(agent.applied.generation, agent.rejected.as_ref(), &agent.said));
    }
    tracing::info!(
        "stopped; the data path goes on with the last generation, edge failures go unnoticed until the next start"
    );
    Ok(())
}

/// Why a pass runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// Its time has come.
    Interval,
    /// The manager or the kernel has told something.
    News,
    /// Its time has come, and everything is as the last one left it.
    Quiet,
}

struct Agent {
    reconciler: Reconciler,
    link: Link,
    state_file: StateFile,
    applied: DesiredState,
    /// While a generation is on trial, the one before it.
    before: DesiredState,
    trials: Trials,
    rejected: Option<Rejection>,
    changed: Arc<Notify>,
    verdicts: mpsc::Receiver<(EdgeNumber, Verdict)>,
    pass_count: u64,
    /// The pass with which memory is returned next, beside those that do it anyway.
    give_back_at: u64,
    /// Whether more of the program has run since the last interval than quiet ones need.
    has_looked: bool,
    said: String,
    telling: Telling,
    limits: Keeper,
    /// Up to where its reports are told.
    limits_seen: u64,
    software: software::Keeper,
    security: security::Keeper,
    guests: Guests,
    meter: Meter,
    asking: Asking,
    /// Where applications ask. None: nowhere.
    requests: Option<RequestSocket>,
    standing: Standing,
    full_leases: Standing,
    cuts: Cuts,
    queue_drops: QueueDrops,
    /// When counters were read last.
    counted_at: Instant,
    _packet_log: Option<Follower>,
}

impl Agent {
    async fn start(config: AgentConfig, readiness: &Readiness, stop: &CancellationToken) -> anyhow::Result<Self> {
        let netlink = Netlink::open()?;
        let changed = Arc::new(Notify::new());
        netlink::watch(Arc::clone(&changed), Notices::Routes)?;
        let observed = Observed::look(&netlink, &config, &[], None).await?;
        let options = options(&config, &observed);
        let mut dataplane = NodeDataplane::open(&options).context("data plane cannot be opened")?;
        let packet_log = match options.logging {
            PacketLogging::Off => None,
            PacketLogging::On => Some(packet_log::follow(dataplane.packet_log(packet_log::tell)?)),
        };
        adjust_offloads(&config.bpffs, observed.uplink.index, config.file.offloads);
        let liveness = dataplane.liveness_writer().context("liveness map cannot be opened")?;
        let dataplane = Arc::new(Mutex::new(dataplane));
        let (sender, verdicts) = mpsc::channel(VERDICT_COUNT_MAX);
        let prober = start_prober(&observed, liveness, sender).context("prober cannot be started")?;
        let telling = Telling::start(&config.file, &config.bpffs, readiness, stop).await?;
        let link = manager_link::start(link_config(&config, &observed), stop)?;
        let (limits, software) = (start_limits(&config, stop), start_software(&config, stop));
        let (security, guests) = (start_security(&config, stop), start_guests(&config, stop));
        let meter = start_meter(&config, guests.heard(), link.reporter(), stop);
        let serve = |path| requests::serve(path, netlink.clone(), link.asker(), stop);
        let requests = config.file.requests.socket.as_deref().map(serve).transpose()?;
        let state_file = StateFile::in_directory(&config.state_dir);
        let trials = Trials::open(&config);
        let before = state_file.load().unwrap_or_default();
        let applied = trials.in_force().unwrap_or_else(|| before.clone());
        let rejected = trials.rejection(Generation::default());
        let path_mtus = PathMtus::listen(&changed).context("errors of routers cannot be listened for")?;
        let mut reconciler = Reconciler::new(config, netlink, dataplane, prober, path_mtus);
        reconciler.observed = Some(observed);
        let (pass_count, said, standing) = Default::default();
        Ok(Self {
            reconciler,
            link,
            state_file,
            applied,
            before,
            trials,
            rejected,
            changed,
            verdicts,
            pass_count,
            give_back_at: GIVE_BACK_AFTER_PASSES,
            has_looked: true,
            said,
            telling,
            limits,
            limits_seen: 0,
            software,
            security,
            guests,
            meter,
            asking: Asking::default(),
            requests,
            standing,
            full_leases: Standing::default(),
            cuts: Cuts::default(),
            queue_drops: QueueDrops::default(),
            counted_at: Instant::now(),
            _packet_log: packet_log,
        })
    }

    /// Looks, makes the newest state true, or keeps the last one true, and reports.
    async fn pass(&mut self, cause: Cause) {
        if cause == Cause::Interval && self.is_quiet() {
            return self.tell_state(Cause::Quiet);
        }
        self.has_looked = true;
        let newest = self.link.desired.borrow_and_update().clone();
        match self.reconciler.look(&[&newest, &self.applied]).await {
            Ok(notes) => self.tell(&notes),
            Err(error) => return self.say(&host::error_chain(&error)),
        }
        if let Some((socket, observed)) = self.requests.as_ref().zip(self.reconciler.observed.as_ref()) {
            socket.know(Places::of(&self.reconciler.config, observed));
        }
        if let Some(address) = self.reconciler.observed.as_ref().and_then(|observed| observed.address) {
            self.link.set_address(address).await;
        }
        self.judge_trial();
        // A manager whose store went back asks what is in force before it sends what follows.
        let is_older = newest.generation < self.applied.generation;
        let is_held_back = self.trials.holds_back(&newest);
        if let Some(rejection) = self.trials.rejection(newest.generation).filter(|_| is_held_back) {
            self.rejected = Some(rejection);
        }
        let has_news = newest.generation != Default::default() && newest != self.applied && !is_older && !is_held_back;
        if has_news && self.take(&newest).await {
            return self.tell_state(Cause::News);
        }
        let applied = std::mem::take(&mut self.applied);
        let outcome = self.reconciler.apply(&applied, MtuPolicy::Lower).await;
        self.applied = applied;
        match outcome {
            Ok(notes) => {
                self.trials.start();
                self.said.clear();
                self.tell_standing(notes);
            }
            Err(error) => self.say(&host::error_chain(&error)),
        }
        self.tell_state(cause);
    }

    /// Whether there is nothing new to make true and nothing on trial.
    fn is_quiet(&self) -> bool {
        let generation = self.applied.generation;
        let is_newest = self.link.desired.borrow().generation == generation;
        is_newest && !self.trials.is_running() && self.reconciler.is_settled(generation)
    }

    /// Applies a new state. If that fails it is rejected whole, with the reason.
    async fn take(&mut self, newest: &DesiredState) -> bool {
        let is_on_trial = self.trials.arm(&self.applied, newest);
        match self.reconciler.apply(newest, MtuPolicy::Refuse).await {
            Ok(notes) => {
                self.tell_standing(notes);
                tracing::info!(generation = %newest.generation, "desired state is in force");
                self.applied.clone_from(newest);
                self.give_back_at = self.pass_count + GIVE_BACK_AFTER_PASSES;
                self.rejected = None;
                self.said.clear();
                match is_on_trial {
                    true => self.trials.start(),
                    false => self.settle(),
                }
                true
            }
            Err(error) => {
                if is_on_trial {
                    self.trials.end();
                }
                self.reject(newest, &error);
                false
            }
        }
    }

    /// What is in force has nothing to prove, or has proved it.
    fn settle(&mut self) {
        self.trials.end();
        self.state_file.store(&self.applied);
        self.before.clone_from(&self.applied);
    }

    /// Looks whether the generation on trial has stood it.
    fn judge_trial(&mut self) {
        let heard = self.link.heard.borrow_and_update().clone();
        match self.trials.turn(&heard) {
            Turn::Wait | Turn::TryAgain => {}
            Turn::Keep => {
                tracing::info!(generation = %self.applied.generation, "a manager answers: the generation stays");
                self.settle();
            }
            Turn::PutBack => {
                let (tried, before) = (self.applied.generation, self.before.generation);
                let message = format!("no manager answers since generation {tried} is in force: {before} is put back");
                self.tell(&[Note::new("apply.put-back", &self.reconciler.config.name, message)]);
                // The pass goes on to make it true, and tries again if it cannot.
                self.applied.clone_from(&self.before);
            }
            Turn::Condemn => {
                let Some(Rejection { generation, reason }) = self.trials.rejection(self.applied.generation) else {
                    return;
                };
                tracing::warn!(%generation, reason, "a generation cut this host off from the managers and is rejected");
            }
        }
    }

    fn reject(&mut self, newest: &DesiredState, error: &PassError) {
        let reason = host::error_chain(error);
        let rejection = Rejection { generation: newest.generation, reason };
        if self.rejected.as_ref() == Some(&rejection) {
            return;
        }
        let Rejection { generation, reason } = &rejection;
        tracing::warn!(%generation, reason, "desired state is rejected; the previous one stays in force");
        self.rejected = Some(rejection);
    }

    /// What is measured with each interval is sent at once; what the pass at the same time saw goes with it.
    fn tell_state(&mut self, cause: Cause) {
        if cause != Cause::Quiet && self.applied.generation != Default::default() {
            self.want_worn();
        }
        let limits = self.hear_of_limits();
        let (settings, packages) = self.hear_from_inside();
        let cut = lock(&self.reconciler.dataplane).take_cut();
        let cut = self.cuts.take(&cut, &self.reconciler.plan.subjects);
        self.tell(&cut);
        let observed = self.reconciler.observed.as_ref();
        let workloads = observed.filter(|_| cause != Cause::Quiet);
        let workloads = workloads.map(|observed| report::workloads(&self.reconciler.config, observed));
        let underlay_mtu = observed.map(Observed::underlay_mtu);
        let edges = self.edge_health();
        let tunnel = crate::wire::report(&mut self.reconciler.wire);
        let is_on_trial = self.trials.is_running();
        let is_measuring = cause != Cause::News && self.meter.is_running();
        let report = |outbox: &mut Outbox| {
            outbox.report.tunnel = Some(tunnel);
            // What is on trial may have to go back to what was before, and its leases.
            outbox.set_in_force(if is_on_trial { &self.before } else { &self.applied });
            outbox.report.rejected = self.rejected.clone();
            if let Some(workloads) = workloads {
                outbox.set_workloads(workloads);
            }
            outbox.report.edges = Some(edges);
            outbox.report.underlay_mtu = underlay_mtu;
            if let Some(limits) = limits {
                outbox.set_limits(limits);
            }
            outbox.set_software(packages);
            outbox.set_security(settings);
        };
        if is_measuring { self.link.report_next(report) } else { self.link.report_now(report) }
    }

    /// Limits, security settings and packages follow the state in force, at their own pace: memory takes time to shrink. Settings
    /// and packages of guests are their own agents' affair. Before the first state everything stays as it is.
    fn want_worn(&mut self) {
        self.limits.want(report::worn_resources(&self.applied));
        let (mut settings, mut packages) = (report::worn_security(&self.applied), report::worn_software(&self.applied));
        let inside = self.guests.take_worn(&mut settings, &mut packages);
        self.guests.want(self.applied.generation, inside);
        self.security.want(settings);
        self.software.want(packages);
    }

    fn hear_of_limits(&mut self) -> Option<Vec<LimitReport>> {
        for (workload, told) in self.limits.take_told() {
            let subject = SubjectId::Workload(self.reconciler.config.name.clone(), workload);
            self.tell(&[Note::new(told.event, subject, told.message)]);
        }
        self.limits.reports_since(&mut self.limits_seen)
    }

    fn hear_from_inside(&mut self) -> (Vec<SecurityReport>, Vec<SoftwareReport>) {
        let (mut settings, mut packages, told) = self.guests.turn();
        let told = told.into_iter().chain(self.software.take_told()).chain(self.security.take_told());
        let notes: Vec<Note> = told.map(|told| Note::new(told.event, told.subject, told.message)).collect();
        self.tell(&notes);
        settings.extend(self.security.reports());
        packages.extend(self.software.reports());
        (settings, packages)
    }

    fn edge_health(&self) -> Vec<persona_core::wire::agent::EdgeHealth> {
        report::edge_health(&self.reconciler.plan.edges, &self.reconciler.prober.health())
    }

    /// The data path knows already; this is for people and for the manager.
    fn tell_verdict(&mut self, edge: EdgeNumber, verdict: Verdict) {
        if !verdict.alive {
            self.asking.note_death(edge, Instant::now());
        }
        let name = self.reconciler.plan.edges.get(&edge).map_or_else(|| edge.to_string(), |edge| edge.name.to_string());
        let edges = self.edge_health();
        let (event, message) = if verdict.alive {
            ("edge.up", format!("edge {name} answers; its lease table is at generation {}", verdict.generation))
        } else {
            ("edge.down", format!("edge {name} is silent; its flows moved to other edges of its group"))
        };
        let was_alive = self.link_said_alive(&name);
        self.link.report_now(|outbox| {
            outbox.report.edges = Some(edges);
            if was_alive != Some(verdict.alive) {
                tracing::info!(edge.name = name, event, message);
                outbox.push_event(event, name, message);
            }
        });
    }

    /// What the last report said of an edge: a verdict with only a new generation is no event.
    fn link_said_alive(&self, name: &str) -> Option<bool> {
        let mut said = None;
        self.link.report_next(|outbox| {
            let edges = outbox.report.edges.iter().flatten();
            said = edges.filter(|edge| edge.edge.as_str() == name).map(|edge| edge.alive).next();
        });
        said
    }

    /// What a plan in force cannot give: told when it begins, not with every pass.
    fn tell_standing(&mut self, notes: Vec<Note>) {
        let new = self.standing.take(notes);
        self.tell(&new);
    }

    fn tell(&self, notes: &[Note]) {
        for Note { event, about, message } in notes {
            tracing::warn!(event, about, message);
            self.link.report_next(|outbox| outbox.push_event(event, about, message));
        }
    }

    /// Counters, leases that have drained, memory of expired flows.
    async fn housekeep(&mut self) {
        self.pass_count += 1;
        self.look_at_queues();
        if self.pass_count.is_multiple_of(GIVE_BACK_EVERY_PASSES) || self.pass_count == self.give_back_at {
            tokio::task::block_in_place(memory::give_back);
        }
        if std::mem::take(&mut self.has_looked) {
            memory::let_go_of_program();
        }
        let plan = &self.reconciler.plan;
        let is_sweeping = self.pass_count.is_multiple_of(SWEEP_EVERY_PASSES);
        let slow_path = self.reconciler.slow_path.counters();
        let outcome = tokio::task::block_in_place(|| {
            let dataplane = lock(&self.reconciler.dataplane);
            if is_sweeping {
                dataplane.sweep()?;
            }
            let mut drained = Vec::new();
            for lease in &plan.retiring {
                if dataplane.drained(*lease)? {
                    drained.push(*lease);
                }
            }
            let usage = is_sweeping.then(|| dataplane.lease_use()).transpose()?;
            Ok::<_, crate::dataplane::DataplaneError>((drained, dataplane.counters()?, usage))
        });
        match outcome {
            Ok((drained, raw, usage)) => {
                let since = std::mem::replace(&mut self.counted_at, Instant::now()).elapsed();
                let used = raw.subjects.iter().map(|(number, total)| (*number, total.traffic.ingress_bytes));
                self.reconciler.demands.take(used, since, &self.reconciler.plan.shares_down);
                let mut counters = report::counters(raw, &plan.subjects);
                slow_path.add_to(&mut counters);
                counters.cut_flows = self.cuts.flow_count;
                let mut measured = counters.clone();
                self.queue_drops.add_to(&mut measured, &plan.subjects);
                self.meter.turn(Arc::new(measured));
                let is_on_trial = self.trials.is_running();
                self.link.report_next(|outbox| {
                    outbox.report.drained = if is_on_trial { Vec::new() } else { drained };
                    outbox.report.counters = Some(counters);
                    if let Some(usage) = &usage {
                        outbox.report.leases.clone_from(usage);
                    }
                });
                if let Some(usage) = usage {
                    let full = self.full_leases.take(report::full_leases(&usage, &self.reconciler.plan));
                    self.tell(&full);
                }
            }
            Err(error) => self.say(&host::error_chain(&error)),
        }
        self.ask_by_itself();
        let link = LinkSample::of(&self.link);
        self.link.report_next(|outbox| self.telling.show(&outbox.report, link));
        self.telling.export(&self.reconciler.plan.subjects);
    }

    /// What classes dropped, where there are some.
    fn look_at_queues(&mut self) {
        let owners = &self.reconciler.plan.queues.class_owners;
        if owners.is_empty() {
            return;
        }
        // The next look has what one that failed has not.
        if let Err(error) = tokio::task::block_in_place(|| self.queue_drops.look(owners)) {
            tracing::debug!(%error, "drops of queues were not read");
        }
    }

    /// Asks for another assignment if what the last one rests on has changed. What was asked with goes along with every report.
    fn ask_by_itself(&mut self) {
        let Some(observed) = &self.reconciler.observed else { return };
        let (health, rate) = (self.reconciler.prober.health(), self.reconciler.config.file.uplink_rate);
        let health = self.asking.without_deaths(health, self.reconciler.plan.probe, Instant::now());
        let measured = conditions::measured(observed, &self.reconciler.plan.edges, &health, rate);
        let Some(asked) = self.asking.turn(&measured) else { return };
        let message = format!("{} asks for a new assignment: {}", self.reconciler.config.name, asked.cause);
        tracing::info!(conditions.number = asked.number, "{message}");
        self.link.report_now(|outbox| {
            outbox.push_event("assignment.asked", self.reconciler.config.name.to_string(), message);
            outbox.report.conditions = Some(asked);
        });
    }

    /// The same trouble every second is one line in the log.
    fn say(&mut self, trouble: &str) {
        if self.said != trouble {
            tracing::error!(trouble, "pass failed; what was in force stays so, and it is tried again");
            self.link.report_next(|outbox| {
                outbox.push_event("apply.failing", self.reconciler.config.name.to_string(), trouble)
            });
            self.said = trouble.to_owned();
        }
    }
}

fn options(config: &AgentConfig, observed: &Observed) -> NodeOptions {
    NodeOptions {
        bpffs: config.bpffs.clone(),
        uplinks: vec![observed.uplink.index],
        guard_all_forwarded: config.file.guard == Guard::AllForwarded,
        adopt: Duration::from_secs(config.file.adopt_secs.into()),
        coexist: config.file.coexist,
        logging: PacketLogging::from_flag(config.file.verbose_packets),
    }
}

fn start_limits(config: &AgentConfig, stop: &CancellationToken) -> Keeper {
    Keeper::start(instances_of(config), config.file.limits.clone(), &config.state_dir, stop)
}

fn start_software(config: &AgentConfig, stop: &CancellationToken) -> software::Keeper {
    let place = |workload: &WorkloadConfig| {
        let subject = SubjectId::Workload(config.name.clone(), workload.name().clone());
        (subject, workload.instance().map_or(software::Place::Unknown, software::Place::Instance))
    };
    let host = (SubjectId::Node(config.name.clone()), software::Place::Folder("/".into()));
    let places = config.file.workload.iter().map(place).chain([host]).collect();
    software::Keeper::start(places, config.file.limits.clone(), stop)
}

fn start_security(config: &AgentConfig, stop: &CancellationToken) -> security::Keeper {
    let subject = |workload: &WorkloadName| SubjectId::Workload(config.name.clone(), workload.clone());
    let instances = instances_of(config).into_iter().map(|(name, instance)| (subject(&name), instance));
    security::Keeper::start(instances.collect(), config.file.limits.clone(), &config.state_dir, stop)
}

fn start_guests(config: &AgentConfig, stop: &CancellationToken) -> Guests {
    let place = |workload: &WorkloadConfig| Some((workload.name().clone(), workload.guest_agent.clone()?));
    Guests::start(config.name.clone(), config.file.workload.iter().filter_map(place).collect(), stop)
}

fn start_meter(config: &AgentConfig, guests: guest_link::Heard, reporter: Reporter, stop: &CancellationToken) -> Meter {
    let workloads = config.file.workload.iter();
    let measured = workloads.map(|workload| {
        let measured = Measured { instance: workload.instance(), metrics: workload.metrics_target() };
        (workload.name().clone(), measured)
    });
    Meter::start(config.name.clone(), measured.collect(), guests, config.file.limits.clone(), reporter, stop)
}

fn instances_of(config: &AgentConfig) -> BTreeMap<WorkloadName, Option<InstanceConfig>> {
    let workloads = config.file.workload.iter();
    workloads.map(|workload| (workload.name().clone(), workload.instance())).collect()
}

fn start_prober(
    observed: &Observed,
    mut liveness: LivenessWriter,
    sender: mpsc::Sender<(EdgeNumber, Verdict)>,
) -> std::io::Result<Prober> {
    let tell = move |edge: EdgeNumber, verdict: Verdict| {
        if let Err(error) = liveness.set(edge, verdict.alive, verdict.generation) {
            tracing::error!(edge.number = %edge, error = host::error_chain(&error), "data path was not told of an edge's state");
        }
        // A full queue loses only an event: health is reported as it is, not as it changed.
        let _ = sender.try_send((edge, verdict));
    };
    Prober::start(underlay_address(observed), Box::new(tell))
}

fn underlay_address(observed: &Observed) -> IpAddr {
    observed.address.expect("an observation has an address")
}

fn link_config(config: &AgentConfig, observed: &Observed) -> LinkConfig {
    let register = Register {
        token: None,
        role: Role::Node,
        name: config.name.to_string(),
        csr: String::new(),
        address: underlay_address(observed),
        group: None,
        capabilities: config.file.capabilities.clone(),
        capacity: None,
        labels: config.file.labels.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    LinkConfig {
        managers: config.managers.clone(),
        join_token: config.join_token.clone(),
        state_dir: config.state_dir.clone(),
        register,
    }
}
