//! `persona-ctl monitor`: drops, flows and packets of this host as they happen.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use persona_common::drop::DropReason;
use persona_common::event::{WANT_DROPS, WANT_FLOWS, WANT_PACKETS};
use persona_core::units::Span;
use serde::Serialize;

use super::print::print_text;
use super::{Output, on_runtime};
use crate::dataplane::flow_state::FlowStates;
use crate::dataplane::watch::{Ring, Watch, Watched};
use crate::dataplane::{device_name, monotonic_now};
use crate::monitor::{Filter, FlowView, FrameRecord, Moment, OpenFlows, PcapngFile, Record, Summary, summary_of};
use crate::shutdown;

/// Flows that the monitor remembers, to tell how long they were open.
const OPEN_FLOW_COUNT_MAX: usize = 65_536;
/// How often the ring is emptied; it holds 2,000 whole packets.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Looks between two renewals of the interest.
const LOOKS_PER_RENEWAL: u32 = 50;

/// Watch this host's data plane: drops with their reasons, flows with their addresses before and after, packets.
///
/// Needs root. Reads the pinned programs' own reports; no agent has to run.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  persona-ctl monitor                                  drops and flows
  persona-ctl monitor --drops --reason no-edge
  persona-ctl monitor tcp port 443 and host 10.1.0.2   the filter is pcap-filter(7), of packets before or after
  persona-ctl monitor --write both.pcapng --for 10s    every packet before and after rewriting")]
pub(super) struct MonitorArgs {
    /// Directory on a bpffs where maps are pinned.
    #[arg(long, env = "PERSONA_BPFFS", default_value = "/sys/fs/bpf/persona")]
    bpffs: PathBuf,
    /// Whose programs: where a host is several, the first of these unless this says otherwise.
    #[arg(long, value_enum)]
    role: Option<Role>,
    /// Show drops.
    #[arg(long)]
    drops: bool,
    /// Show flows that open and close.
    #[arg(long)]
    flows: bool,
    /// Show every packet, before and after each program.
    #[arg(long)]
    packets: bool,
    /// Only drops for this reason; may be given several times.
    #[arg(long, value_parser = parse_reason, value_name = "REASON")]
    reason: Vec<DropReason>,
    /// Write packets before and after rewriting, and drops, to this pcapng file.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// End after so many records.
    #[arg(long, value_name = "NUMBER")]
    count: Option<u64>,
    /// End after this time, such as 10s.
    #[arg(long = "for", value_name = "TIME")]
    duration: Option<Span>,
    /// A filter in the syntax of pcap-filter(7).
    #[arg(trailing_var_arg = true)]
    filter: Vec<String>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Role {
    Node,
    Edge,
    Gateway,
    Delivery,
}

/// One line for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    kind: &'static str,
    /// Monotonic time, nanoseconds.
    time_ns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hook: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    length: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    packet: Option<Summary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flow: Option<&'a FlowView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    open_ms: Option<u64>,
}

impl MonitorArgs {
    pub(super) fn run(self, output: Output) -> anyhow::Result<()> {
        let filter = Filter::compile(&self.filter.join(" "))?;
        let watch = Watch::open(&self.bpffs, self.watched(), Ring::Events { wanted: self.wanted() })?;
        let file = self.write.as_ref().map(|path| PcapngFile::create(path, monotonic_now())).transpose()?;
        let flows = OpenFlows::new(OPEN_FLOW_COUNT_MAX);
        let monitor = Monitor { args: self, output, filter, file, flows, shown: 0 };
        on_runtime(monitor.follow(watch))
    }

    fn watched(&self) -> Watched {
        match self.role {
            Some(Role::Node) => Watched::Node,
            Some(Role::Edge) => Watched::Edge,
            Some(Role::Gateway) => Watched::Gateway,
            Some(Role::Delivery) => Watched::Delivery,
            None => {
                let roles = [Watched::Node, Watched::Edge, Watched::Gateway, Watched::Delivery];
                let is_here = |role: &Watched| self.bpffs.join(role.folder()).exists();
                roles.into_iter().find(is_here).unwrap_or(Watched::Edge)
            }
        }
    }

    fn wanted(&self) -> u32 {
        let is_default = !(self.drops || self.flows || self.packets || self.write.is_some() || !self.reason.is_empty());
        let mut wanted = 0;
        if self.drops || is_default || self.write.is_some() || !self.reason.is_empty() {
            wanted |= WANT_DROPS;
        }
        if self.flows || is_default {
            wanted |= WANT_FLOWS;
        }
        if self.packets || self.write.is_some() {
            wanted |= WANT_PACKETS;
        }
        wanted
    }
}

struct Monitor {
    args: MonitorArgs,
    output: Output,
    filter: Filter,
    file: Option<PcapngFile>,
    flows: OpenFlows,
    shown: u64,
}

impl Monitor {
    /// Shows records until a signal, the time or the count ends it, and says what was lost.
    async fn follow(mut self, mut watch: Watch) -> anyhow::Result<()> {
        let stop = shutdown::on_signal()?;
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let duration = self.args.duration.map(|span| Duration::from_millis(span.0));
        let began = tokio::time::Instant::now();
        let mut look_count = 0u32;
        // Only a node tells of flows.
        let is_node = self.args.watched() == Watched::Node;
        let states = is_node.then(|| FlowStates::open(&self.args.bpffs)).transpose()?;
        while !self.is_over() && duration.is_none_or(|duration| began.elapsed() < duration) {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = looks.tick() => {}
            }
            look_count += 1;
            if look_count.is_multiple_of(LOOKS_PER_RENEWAL) {
                watch.renew()?;
                self.show_ended(states.as_ref())?;
            }
            while let Some(bytes) = watch.next_record().filter(|_| !self.is_over()) {
                self.take(&bytes)?;
            }
        }
        if let Some(file) = self.file.take() {
            file.finish()?;
        }
        let lost = watch.lost()?;
        if lost > 0 {
            eprintln!("{lost} records were lost: the ring was full; watch less (a reason, --flows only) or shorter");
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.args.count.is_some_and(|count| self.shown >= count)
    }

    fn take(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let Some(record) = Record::read(bytes) else { return Ok(()) };
        match record {
            Record::Drop { reason, frame } => self.take_drop(reason, &frame),
            Record::Packet { moment, frame } => self.take_packet(moment, &frame),
            Record::Opened(flow) if self.filter.takes_flow(&flow) => {
                self.flows.open(&flow);
                self.show_flow("opened", &flow, None)
            }
            Record::Closed(flow) if self.filter.takes_flow(&flow) => {
                let open = self.flows.close(&flow);
                self.show_flow("closed", &flow, open)
            }
            Record::Opened(_) | Record::Closed(_) => Ok(()),
        }
    }

    fn take_drop(&mut self, reason: DropReason, frame: &FrameRecord) -> anyhow::Result<()> {
        let is_wanted = self.args.reason.is_empty() || self.args.reason.contains(&reason);
        if !is_wanted || !self.filter.takes_frame(&frame.bytes, frame.length) {
            return Ok(());
        }
        if let Some(file) = &mut self.file {
            let interface = format!("{} {} dropped", name_of(frame.ifindex), frame.hook.name());
            file.write(&interface, frame, Some(&format!("dropped: {}", reason.name())))?;
        }
        self.show_frame("drop", Some(reason.name()), frame)
    }

    fn take_packet(&mut self, moment: Moment, frame: &FrameRecord) -> anyhow::Result<()> {
        if !self.filter.takes_frame(&frame.bytes, frame.length) {
            return Ok(());
        }
        let (kind, comment) = match moment {
            Moment::Before => ("before", None),
            Moment::After { verdict } => ("after", Some(format!("verdict {verdict}"))),
        };
        if let Some(file) = &mut self.file {
            let interface = format!("{} {} {kind}", name_of(frame.ifindex), frame.hook.name());
            file.write(&interface, frame, comment.as_deref())?;
        }
        if self.args.packets { self.show_frame(kind, None, frame) } else { Ok(()) }
    }

    fn show_frame(
        &mut self,
        kind: &'static str,
        reason: Option<&'static str>,
        frame: &FrameRecord,
    ) -> anyhow::Result<()> {
        let packet = summary_of(&frame.bytes);
        let device = name_of(frame.ifindex);
        let text = format!(
            "{}  {kind:<7} {device:<15} {:<13} {:<22} {packet}, {} bytes",
            clock(frame.time),
            frame.hook.name(),
            reason.unwrap_or(""),
            frame.length
        );
        self.show(
            text,
            &Line {
                kind,
                time_ns: frame.time.as_nanos() as u64,
                reason,
                hook: Some(frame.hook.name()),
                device: Some(device),
                length: Some(frame.length),
                packet: Some(packet),
                flow: None,
                open_ms: None,
            },
        )
    }

    fn show_flow(&mut self, kind: &'static str, flow: &FlowView, open: Option<Duration>) -> anyhow::Result<()> {
        let end = |address, port| std::net::SocketAddr::new(address, port).to_string();
        let open_ms = open.map(|open| open.as_millis() as u64);
        let text = format!(
            "{}  {kind:<7} {:<5} {} > {} as {} (subject {}, vni {}, lease {}){}",
            clock(flow.time),
            protocol_name(flow.protocol),
            end(flow.inner, flow.inner_port),
            end(flow.remote, flow.remote_port),
            end(flow.outer, flow.outer_port),
            flow.subject,
            flow.vni,
            flow.lease,
            open_ms.map(|ms| format!(", open {}.{:03} s", ms / 1_000, ms % 1_000)).unwrap_or_default(),
        );
        let time_ns = flow.time.as_nanos() as u64;
        let (reason, hook, device, length, packet) = Default::default();
        self.show(text, &Line { kind, time_ns, reason, hook, device, length, packet, flow: Some(flow), open_ms })
    }

    fn show_ended(&mut self, states: Option<&FlowStates>) -> anyhow::Result<()> {
        let Some(states) = states else { return Ok(()) };
        for (flow, open) in self.flows.take_ended(monotonic_now(), |flow| states.has_ended(flow))? {
            self.show_flow("closed", &flow, Some(open))?;
        }
        Ok(())
    }

    fn show(&mut self, text: String, line: &Line<'_>) -> anyhow::Result<()> {
        self.shown += 1;
        match self.output {
            Output::Table => print_text(&text),
            Output::Json => print_text(&serde_json::to_string(line)?),
            Output::Yaml => print_text(&format!("---\n{}", serde_saphyr::to_string(line)?)),
        }
    }
}

fn parse_reason(text: &str) -> Result<DropReason, String> {
    let names = || DropReason::ALL.iter().map(|reason| reason.name()).collect::<Vec<_>>().join(", ");
    let found = DropReason::ALL.iter().find(|reason| reason.name() == text);
    found.copied().ok_or_else(|| format!("no such reason; the reasons are {}", names()))
}

fn name_of(ifindex: u32) -> String {
    device_name(ifindex).unwrap_or_else(|| format!("device {ifindex}"))
}

fn protocol_name(protocol: u8) -> String {
    match protocol {
        1 | 58 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        number => number.to_string(),
    }
}

/// Seconds since the host started, as the kernel's own logs count.
fn clock(time: Duration) -> String {
    format!("{:>6}.{:06}", time.as_secs(), time.subsec_micros())
}
