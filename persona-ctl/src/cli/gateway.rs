//! `persona-ctl gateway --config FILE`: the gateway's process. `gateway list|drain|undrain|weight|reload` speaks to it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Args, Subcommand, value_parser};
use comfy_table::Cell;

use super::config::Configured;
use super::print::{short_time, state_cell, table_of};
use super::role::{self, overlay};
use super::{Output, on_runtime};
use crate::config::{self, Place};
use crate::dataplane::Coexistence;
use crate::edge::HookChoice;
use crate::gateway::{
    self, GatewayClient, GatewayConfig, GatewayFile, InstanceChange, InstanceView, SOCKET_DEFAULT, ServiceView,
};
use crate::logging::LogFormat;

/// Time between two looks at an instance that drains.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Run a gateway, or deliver to instances of this node; or ask the gateway that runs here.
///
/// Services (address, port, protocol) lead to instances. When the process stops, the data path goes on as it is, but
/// instances that die go unnoticed until it runs again: let a supervisor restart it at once. SIGHUP has it read its
/// configuration again.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct GatewayArgs {
    /// What to ask the running gateway.
    #[command(subcommand)]
    command: Option<GatewayCommand>,
    #[command(flatten)]
    flags: GatewayFlags,
}

/// What a gateway's process is told.
#[derive(Debug, Clone, Args)]
pub(super) struct GatewayFlags {
    /// Configuration file (TOML).
    #[arg(long, env = "PERSONA_CONFIG")]
    config: Option<PathBuf>,
    /// Directory on a bpffs where maps and links are pinned.
    #[arg(long, env = "PERSONA_BPFFS")]
    bpffs: Option<PathBuf>,
    /// Directory for drains and weights that are set by hand.
    #[arg(long, env = "PERSONA_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// Where metrics are served in plain HTTP, such as 127.0.0.1:9602: loopback or a management address.
    #[arg(long, env = "PERSONA_METRICS", value_name = "ADDRESS")]
    metrics: Option<std::net::SocketAddr>,
    /// Where the programs hang.
    #[arg(long, env = "PERSONA_HOOK", value_enum)]
    hook: Option<HookChoice>,
    /// What is done about programs of others at the same hooks.
    #[arg(long, env = "PERSONA_COEXIST", value_enum)]
    coexist: Option<Coexistence>,
    /// Have the programs log what becomes of every packet: verdict, drop reason, device, protocol. Slow.
    #[arg(long, env = "PERSONA_VERBOSE_PACKETS")]
    verbose_packets: bool,
    /// How log lines look.
    #[arg(long, env = "PERSONA_LOG_FORMAT", value_enum, default_value_t)]
    log_format: LogFormat,
    /// The control socket.
    #[arg(long, env = "PERSONA_GATEWAY_SOCKET")]
    socket: Option<PathBuf>,
}

/// Where the gateway is spoken to.
#[derive(Debug, Args)]
struct SocketArgs {
    /// The gateway's control socket.
    #[arg(long, env = "PERSONA_GATEWAY_SOCKET", default_value = SOCKET_DEFAULT)]
    socket: PathBuf,
}

/// What to ask the running gateway.
#[derive(Debug, Subcommand)]
enum GatewayCommand {
    /// List services and their instances: state, flows, what was carried.
    List {
        #[command(flatten)]
        socket: SocketArgs,
    },
    /// Have new flows avoid an instance; established ones stay.
    Drain {
        /// The service.
        service: String,
        /// The instance.
        instance: String,
        /// Wait until it has no flow left.
        #[arg(long)]
        wait: bool,
        /// How long to wait, seconds.
        #[arg(long, requires = "wait", default_value_t = 600)]
        timeout: u64,
        #[command(flatten)]
        socket: SocketArgs,
    },
    /// Let an instance take new flows again.
    Undrain {
        /// The service.
        service: String,
        /// The instance.
        instance: String,
        #[command(flatten)]
        socket: SocketArgs,
    },
    /// Set an instance's share of its service's new flows, relative to the other instances.
    Weight {
        /// The service.
        service: String,
        /// The instance.
        instance: String,
        /// 0 to 1000; 100 where nobody set one, 0 for no new flows.
        #[arg(value_parser = value_parser!(u16).range(0..=1_000))]
        weight: u16,
        #[command(flatten)]
        socket: SocketArgs,
    },
    /// Have the gateway read its configuration again; what is wrong with it is said, and the previous one stays in force.
    Reload {
        #[command(flatten)]
        socket: SocketArgs,
    },
}

impl GatewayArgs {
    pub(super) fn run(self, output: Output) -> anyhow::Result<()> {
        if let Some(command) = self.command {
            return on_runtime(command.run(output));
        }
        let format = self.flags.log_format;
        let source = move || self.flags.configuration();
        source()?; // what is wrong with it is said before anything is started
        role::run(format, |stop| gateway::run(Box::new(source), stop))
    }
}

impl GatewayFlags {
    fn configuration(&self) -> anyhow::Result<GatewayConfig> {
        let read = self.config.as_deref().map(config::load::<GatewayFile>).transpose()?;
        let mut file = read.unwrap_or_default();
        self.clone().put_over(None, &mut file)?;
        file.check().context("the gateway is not configured")
    }
}

impl Configured for GatewayFlags {
    type File = GatewayFile;

    fn config(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    fn put_over(self, _: Option<String>, file: &mut GatewayFile) -> anyhow::Result<()> {
        overlay(&mut file.bpffs, self.bpffs);
        overlay(&mut file.state_dir, self.state_dir);
        overlay(&mut file.socket, self.socket);
        overlay(&mut file.metrics, self.metrics);
        file.hook = self.hook.unwrap_or(file.hook);
        file.coexist = self.coexist.unwrap_or(file.coexist);
        file.verbose_packets |= self.verbose_packets;
        Ok(())
    }

    fn mistakes(file: &GatewayFile) -> Vec<(Place, String)> {
        file.mistakes().into_iter().map(|(place, error)| (place, error.to_string())).collect()
    }

    fn in_force(file: GatewayFile) -> anyhow::Result<GatewayFile> {
        Ok(GatewayFile::in_force(file.check()?))
    }
}

impl GatewayCommand {
    async fn run(self, output: Output) -> anyhow::Result<()> {
        match self {
            Self::List { socket } => output.show(&socket.client()?.services().await?, |services| list(services)),
            Self::Reload { socket } => output.show(&socket.client()?.reload().await?, |services| list(services)),
            Self::Drain { service, instance, wait, timeout, socket } => {
                let client = socket.client()?;
                let change = InstanceChange { draining: Some(true), weight: None };
                let mut view = client.change(&service, &instance, &change).await?;
                if wait {
                    view = until_empty(&client, &service, &instance, Duration::from_secs(timeout)).await?;
                }
                output.show(&view, tell)
            }
            Self::Undrain { service, instance, socket } => {
                let change = InstanceChange { draining: Some(false), weight: None };
                output.show(&socket.client()?.change(&service, &instance, &change).await?, tell)
            }
            Self::Weight { service, instance, weight, socket } => {
                let change = InstanceChange { draining: None, weight: Some(weight) };
                output.show(&socket.client()?.change(&service, &instance, &change).await?, tell)
            }
        }
    }
}

impl SocketArgs {
    fn client(&self) -> anyhow::Result<GatewayClient> {
        Ok(GatewayClient::new(&self.socket)?)
    }
}

async fn until_empty(
    client: &GatewayClient,
    service: &str,
    instance: &str,
    limit: Duration,
) -> anyhow::Result<InstanceView> {
    let start = Instant::now();
    loop {
        let services = client.services().await?;
        let of_service = services.into_iter().find(|it| it.name == service);
        let found = of_service.and_then(|it| it.instances.into_iter().find(|it| it.name == instance));
        let view = found.with_context(|| format!("instance {instance} of {service} is no longer configured"))?;
        if view.flows == 0 {
            return Ok(view);
        }
        if start.elapsed() >= limit {
            bail!("instance {instance} of {service} has {} flows left after {} s", view.flows, limit.as_secs());
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

fn state_of(instance: &InstanceView) -> Cell {
    match instance {
        InstanceView { alive: false, .. } => state_cell("down"),
        InstanceView { draining: true, .. } => state_cell("draining"),
        _ => state_cell("up"),
    }
}

fn list(services: &[ServiceView]) -> String {
    let rows = services.iter().flat_map(|service| service.instances.iter().map(move |it| row(Some(service), it)));
    table_of(
        &["SERVICE", "AT", "VIA", "INSTANCE", "ADDRESS", "WEIGHT", "STATE", "FOR", "FLOWS", "OPENED", "TROUBLE"],
        rows,
        "no service has an instance",
    )
}

fn tell(instance: &InstanceView) -> String {
    let header = ["INSTANCE", "ADDRESS", "WEIGHT", "STATE", "FOR", "FLOWS", "OPENED", "TROUBLE"];
    table_of(&header, [row(None, instance)], "")
}

fn row(service: Option<&ServiceView>, instance: &InstanceView) -> Vec<Cell> {
    let at = |address: std::net::IpAddr, port: u16| std::net::SocketAddr::new(address, port).to_string();
    let mut cells = Vec::new();
    if let Some(service) = service {
        let protocol = format!("{:?}", service.protocol).to_lowercase();
        cells.push(Cell::new(&service.name));
        cells.push(Cell::new(format!("{} {protocol}", at(service.address, service.port))));
        cells.push(Cell::new(&service.delivery));
    }
    let trouble = if instance.alive || instance.trouble.is_empty() { "-" } else { &instance.trouble };
    cells.extend([
        Cell::new(&instance.name),
        Cell::new(at(instance.address, instance.port)),
        Cell::new(instance.weight),
        state_of(instance),
        Cell::new(short_time(instance.for_ms)),
        Cell::new(instance.flows),
        Cell::new(instance.opened),
        Cell::new(trouble),
    ]);
    cells
}
