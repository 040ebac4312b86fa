//! A process of many nodes or edges that do at once what they are told: real TLS, one HTTP/2 connection each, nothing behind it.
//!
//! What it sees it writes to its standard output, a line of JSON each ([`Seen`]). It ends when its standard input does.

use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use persona_core::ids::WorkloadName;
use persona_core::wire::agent::{
    EdgeCapacity, REPORT_INTERVAL_HEADER, Register, Registered, Report, Role, WorkloadKind, WorkloadReport,
};
use persona_core::wire::desired::{DesiredState, Frame, Item};
use persona_ctl::trust::{ClientIdentity, Trust};
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use reqwest::{Client, Response};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until};

use crate::sys::monotonic_time;

/// As an agent's: a silent connection is asked for a sign of life this often.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// A registration is answered within this time: many come at once.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// Registrations under way at a time.
const JOINING_COUNT_MAX: usize = 16;

/// As an agent's: it comes back after a pause between these, by chance.
const PAUSE_MIN_MS: u64 = 50;
const PAUSE_MAX_MS: u64 = 2_000;

/// The group of all simulated edges.
pub const GROUP: &str = "simulated";

/// Who is simulated, and where the manager is.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Nodes or edges.
    #[arg(long, value_enum)]
    pub kind: Kind,
    /// The number of the first.
    #[arg(long)]
    pub first: u32,
    /// How many.
    #[arg(long)]
    pub count: u32,
    /// Workloads of each node.
    #[arg(long, default_value_t = 0)]
    pub workloads: u32,
    /// The manager.
    #[arg(long)]
    pub url: String,
    /// The file of its roots.
    #[arg(long)]
    pub roots: PathBuf,
    /// The join token's bearer.
    #[arg(long)]
    pub token: String,
}

/// What is simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Hosts with workloads.
    Node,
    /// Devices with egress addresses.
    Edge,
}

/// What one of them saw, and when by the monotonic clock, which all processes of a machine share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Who, by number.
    pub agent: u32,
    /// When, nanoseconds.
    pub at_ns: u64,
    /// What.
    pub what: What,
}

/// What it saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// Its connection to the manager is gone.
    Lost,
    /// The manager knows that a state is in force here.
    Applied {
        /// How many of its workloads wear something.
        dressed: u32,
        /// What its first workload wears, and in which version.
        wears: Option<(String, u32)>,
    },
}

/// Runs until standard input ends.
pub fn run(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let trust = std::fs::read_to_string(&args.roots).context("the manager's roots cannot be read")?;
        let trust = Arc::new(Trust::from_pem(&trust)?);
        let joining = Arc::new(Semaphore::new(JOINING_COUNT_MAX));
        for number in args.first..args.first + args.count {
            let agent = Agent::new(args, number, trust.clone())?;
            tokio::spawn(agent.live(args.token.clone(), joining.clone()));
        }
        let end = tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
        end.await?.map(drop).context("standard input cannot be read")
    })
}

/// One node or edge.
struct Agent {
    number: u32,
    kind: Kind,
    workloads: u32,
    url: String,
    trust: Arc<Trust>,
    key: KeyPair,
    state: DesiredState,
}

impl Agent {
    fn new(args: &Args, number: u32, trust: Arc<Trust>) -> Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ED25519)?;
        let (kind, workloads, url, state) = (args.kind, args.workloads, args.url.clone(), DesiredState::default());
        Ok(Self { number, kind, workloads, url, trust, key, state })
    }

    /// Joins, and stays connected.
    async fn live(mut self, token: String, joining: Arc<Semaphore>) {
        let registered = loop {
            let permit = joining.acquire().await;
            match self.join(&token).await {
                Ok(registered) => break registered,
                Err(error) => eprintln!("{} cannot join: {error:#}", self.name()),
            }
            drop(permit);
            pause().await;
        };
        loop {
            if let Err(error) = self.follow(&registered).await {
                eprintln!("{}: {error:#}", self.name());
            }
            self.tell(What::Lost);
            pause().await;
        }
    }

    async fn join(&self, token: &str) -> Result<Registered> {
        let csr = CertificateParams::default().serialize_request(&self.key)?.pem()?;
        let is_edge = self.kind == Kind::Edge;
        let register = Register {
            token: Some(token.to_owned()),
            role: if is_edge { Role::Edge } else { Role::Node },
            name: self.name(),
            csr,
            address: IpAddr::V4(Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(10, 128, 0, 0)) + self.number)),
            group: if is_edge { Some(GROUP.parse()?) } else { None },
            capabilities: Vec::new(),
            capacity: is_edge.then_some(EdgeCapacity {
                bits_per_sec: 100_000_000_000,
                lease_count: 200_000,
                packets_per_sec: None,
                flow_count: None,
                cpu_percent: None,
            }),
            labels: Default::default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let client = self.client(None)?;
        let request = client.post(format!("{}/v1/register", self.url)).json(&register).timeout(ANSWER_TIMEOUT);
        let answer = refuse(request.send().await?).await?;
        Ok(answer.json().await?)
    }

    /// Follows what it shall be on one connection, until that ends. What is in force stays so in between.
    async fn follow(&mut self, registered: &Registered) -> Result<()> {
        let client = self.client(Some(&registered.certificate))?;
        let stream = client.get(format!("{}/v1/agent/watch?digest=sum", self.url)).send().await?;
        let mut stream = refuse(stream).await?;
        let registered = Duration::from_millis(u64::from(registered.report_interval_ms));
        // Reports of many are spread over the interval, as those of agents that started at different times are.
        let mut next = Instant::now() + by_chance(registered);
        let (mut lines, mut is_first) = (Vec::new(), true);
        loop {
            tokio::select! {
                chunk = stream.chunk() => {
                    let Some(chunk) = chunk? else { bail!("the stream ended") };
                    lines.extend_from_slice(&chunk);
                    if self.take(&mut lines)? || is_first {
                        let every = self.report(&client, is_first).await?.unwrap_or(registered);
                        next = Instant::now() + spread_of(every);
                        is_first = false;
                    }
                }
                () = sleep_until(next), if !is_first => {
                    let every = self.send(&client, Report::default()).await?.unwrap_or(registered);
                    next = Instant::now() + spread_of(every);
                }
            }
        }
    }

    /// Takes the whole frames in. Returns whether there is another state than before.
    fn take(&mut self, lines: &mut Vec<u8>) -> Result<bool> {
        let Some(end) = lines.iter().rposition(|byte| *byte == b'\n') else { return Ok(false) };
        let before = self.state.generation;
        for line in lines[..end].split(|byte| *byte == b'\n') {
            match serde_json::from_slice(line).context("what is not a frame came")? {
                Frame::Recall { .. } => bail!("the manager wants to know what is in force: a store that was restored"),
                frame => self.state = std::mem::take(&mut self.state).after(frame)?,
            }
        }
        lines.drain(..=end);
        Ok(self.state.generation != before)
    }

    /// Says that the state is in force, and tells it to whoever measures once the manager knows.
    async fn report(&self, client: &Client, is_first: bool) -> Result<Option<Duration>> {
        let is_node = self.kind == Kind::Node;
        let report = Report {
            workloads: (is_first && is_node).then(|| self.found()).transpose()?,
            outside_alive: (!is_node).then_some(true),
            ..Report::default()
        };
        let every = self.send(client, report).await?;
        let subjects = self.state.items.values().filter_map(|item| match item {
            Item::Subject(subject) if subject.network.is_some() => subject.network.as_ref().zip(Some(&subject.subject)),
            _ => None,
        });
        let mut dressed: Vec<_> = subjects.collect();
        dressed.sort_unstable_by_key(|(_, subject)| *subject);
        let wears = dressed.first().map(|(network, _)| (network.persona.to_string(), network.version));
        self.tell(What::Applied { dressed: dressed.len() as u32, wears });
        Ok(every)
    }

    /// Sends a report. Returns how long the next one may be in coming, where the manager says so.
    async fn send(&self, client: &Client, report: Report) -> Result<Option<Duration>> {
        let report = Report { applied: self.state.generation, ..report };
        let request = client.post(format!("{}/v1/agent/report", self.url)).json(&report).timeout(ANSWER_TIMEOUT);
        let answer = refuse(request.send().await?).await?;
        let interval_ms = answer.headers().get(REPORT_INTERVAL_HEADER).and_then(|it| it.to_str().ok()?.parse().ok());
        Ok(interval_ms.map(Duration::from_millis))
    }

    fn found(&self) -> Result<Vec<WorkloadReport>> {
        let workload = |index: u32| {
            Ok(WorkloadReport {
                name: format!("w{index}").parse::<WorkloadName>()?,
                device: format!("veth{index}"),
                address: Some(Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(172, 16, 0, 1)) + index)),
                prefix6: None,
                kind: WorkloadKind::Device,
                labels: Default::default(),
                attached: true,
            })
        };
        (0..self.workloads).map(workload).collect()
    }

    fn client(&self, certificate: Option<&str>) -> Result<Client> {
        let key = self.key.serialize_der();
        let identity = certificate.map(|certificate| ClientIdentity { certificate, key: &key });
        let client = Client::builder()
            .tls_backend_preconfigured(self.trust.client_config(identity, &["h2"])?)
            .http2_prior_knowledge()
            .http2_keep_alive_interval(KEEP_ALIVE)
            .http2_keep_alive_while_idle(true)
            .local_address(IpAddr::V4(self.own_address()))
            .no_proxy();
        Ok(client.build()?)
    }

    /// Where it comes from: a host of its own, for the manager bounds what one address may do. All of 127.0.0.0/8 is local.
    fn own_address(&self) -> Ipv4Addr {
        let net = if self.kind == Kind::Node { 1 } else { 2 };
        Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(127, net, 0, 1)) + self.number)
    }

    fn name(&self) -> String {
        match self.kind {
            Kind::Node => format!("n{}", self.number),
            Kind::Edge => format!("e{}", self.number),
        }
    }

    fn tell(&self, what: What) {
        let at_ns = monotonic_time().map_or(0, |time| time.as_nanos() as u64);
        let seen = Seen { agent: self.number, at_ns, what };
        let mut line = serde_json::to_vec(&seen).expect("it has string keys only");
        line.push(b'\n');
        // Whoever measures is gone: standard input says so too.
        _ = std::io::stdout().write_all(&line);
    }
}

/// Fails with what the manager said unless it agreed.
async fn refuse(answer: Response) -> Result<Response> {
    let status = answer.status();
    ensure!(status.is_success(), "{status}: {}", answer.text().await.unwrap_or_default());
    Ok(answer)
}

async fn pause() {
    sleep(Duration::from_millis(PAUSE_MIN_MS) + by_chance(Duration::from_millis(PAUSE_MAX_MS - PAUSE_MIN_MS))).await;
}

/// Some of a time, as agents do: between seven eighths and all of it, never in step with others.
fn spread_of(whole: Duration) -> Duration {
    whole - by_chance(whole / 8)
}

/// A time up to `most`.
fn by_chance(most: Duration) -> Duration {
    let chance = RandomState::new().hash_one(0) % 1024;
    most * chance as u32 / 1024
}
