//! The agent from start to stop: what wakes a pass, and what each pass leads to.

mod start;

use std::sync::Arc;
use std::time::{Duration, Instant};

use persona_core::available::UplinkLook;
use persona_core::ids::{EdgeNumber, SubjectId};
use persona_core::liveness::Verdict;
use persona_core::trial::Turn;
use persona_core::wire::agent::Rejection;
use persona_core::wire::desired::DesiredState;
use persona_core::wire::limits::LimitReport;
use persona_core::wire::security::SecurityReport;
use persona_core::wire::software::SoftwareReport;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::budget::MtuPolicy;
use super::changes::{Note, Standing};
use super::conditions::{self, Asking};
use super::config::AgentConfig;
use super::cuts::Cuts;
use super::observe::Observed;
use super::pass::{PassError, Reconciler, lock};
use super::queue_drops::QueueDrops;
use super::report;
use super::requests::{Places, RequestSocket};
use super::telling::Telling;
use super::trial::Trials;
use crate::guest_link::Guests;
use crate::host;
use crate::limits::Keeper;
use crate::manager_link::{Link, Outbox, StateFile};
use crate::memory;
use crate::metrics::LinkSample;
use crate::open_files;
use crate::packet_log::Follower;
use crate::security;
use crate::signals::Meter;
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
        self.look_at_queues().await;
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

    /// What classes dropped, and whether packets wait for the uplink.
    async fn look_at_queues(&mut self) {
        let Some(uplink) = self.reconciler.observed.as_ref().map(|observed| observed.uplink.index) else { return };
        let owners = &self.reconciler.plan.queues.class_owners;
        let looked = tokio::task::block_in_place(|| self.queue_drops.look(owners, uplink));
        let sent = self.reconciler.netlink.sent_bytes(uplink).await;
        match (looked, sent) {
            (Ok(waiting_bytes), Ok(Some(sent_bytes))) => {
                self.asking.note_uplink(UplinkLook { ifindex: uplink, sent_bytes, waiting_bytes });
            }
            (Ok(_), Ok(None)) => {}
            // The next look has what this one has not.
            (Err(error), _) => tracing::debug!(%error, "queues were not looked at"),
            (_, Err(error)) => tracing::debug!(error = host::error_chain(&error), "the uplink was not looked at"),
        }
    }

    /// Asks for another assignment if what the last one rests on has changed. What was asked with goes along with every report.
    fn ask_by_itself(&mut self) {
        let Some(observed) = &self.reconciler.observed else { return };
        let (health, rate) = (self.reconciler.prober.health(), self.reconciler.config.file.uplink_rate);
        let health = self.asking.without_deaths(health, self.reconciler.plan.probe, Instant::now());
        let measured =
            conditions::measured(observed, &self.reconciler.plan.edges, &health, rate, self.asking.available_bps());
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
