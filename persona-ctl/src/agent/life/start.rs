//! What an agent is made of, before its first pass: the data path, the prober, the link to the managers, and the tasks that work at
//! their own pace. What is said here of workloads is what each of them needs to know.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context;
use persona_core::ids::{EdgeNumber, Generation, SubjectId, WorkloadName};
use persona_core::liveness::Verdict;
use persona_core::wire::agent::{Register, Role};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::{Agent, GIVE_BACK_AFTER_PASSES};
use crate::agent::changes::Standing;
use crate::agent::conditions::Asking;
use crate::agent::config::{AgentConfig, Guard};
use crate::agent::cuts::Cuts;
use crate::agent::observe::Observed;
use crate::agent::pass::Reconciler;
use crate::agent::queue_drops::QueueDrops;
use crate::agent::requests;
use crate::agent::telling::Telling;
use crate::agent::trial::Trials;
use crate::agent::workload_config::WorkloadConfig;
use crate::dataplane::{LivenessWriter, NodeDataplane, NodeOptions, PacketLogging, adjust_offloads};
use crate::guest_link::{self, Guests};
use crate::host;
use crate::limits::{InstanceConfig, Keeper};
use crate::manager_link::{self, LinkConfig, Reporter, StateFile};
use crate::netlink::{self, Netlink, Notices};
use crate::packet_log;
use crate::path_mtu::PathMtus;
use crate::probe::Prober;
use crate::security;
use crate::signals::{Measured, Meter};
use crate::software;
use crate::supervisor::Readiness;

/// Verdicts that wait for the loop; the data path has been told already.
const VERDICT_COUNT_MAX: usize = 1_024;

impl Agent {
    /// Opens everything, and starts what works at its own pace. Nothing is made true yet.
    pub(super) async fn start(
        config: AgentConfig,
        readiness: &Readiness,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
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
