//! The exporter: reads the ring of flows, and sends what it reads.
//!
//! Loss is counted, never waited for: a collector that is away must not hold up the data plane.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::message::{self, FlowEvent, Happening};
use crate::dataplane::flow_state::FlowStates;
use crate::dataplane::watch::{Ring, Watch, Watched};
use crate::dataplane::{DataplaneError, monotonic_now};
use crate::monitor::{FlowView, OpenFlows, Record};

/// Templates are told again this often: over UDP nobody says whether they arrived (RFC 7011 §8.4).
const TEMPLATE_INTERVAL: Duration = Duration::from_secs(60);

/// Records taken from the ring in one go.
const BATCH_COUNT_MAX: usize = 4_096;

/// Flows whose end is looked for; beyond, a flow's end is not told.
const OPEN_FLOW_COUNT_MAX: usize = 65_536;
/// Turns between two looks for flows that have ended.
const TURNS_PER_LOOK: u64 = 5;

/// The export cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The socket.
    #[error("no socket towards flow collector {collector}")]
    Socket {
        /// The collector.
        collector: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The ring.
    #[error("the ring of flows cannot be read")]
    Ring(#[from] DataplaneError),
}

/// Sends flow events to a collector.
pub struct Exporter {
    watch: Watch,
    states: FlowStates,
    open: OpenFlows,
    turn_count: u64,
    socket: UdpSocket,
    domain: u32,
    sequence: u32,
    taught: Option<Instant>,
    unsent: u64,
}

impl Exporter {
    /// Starts exporting a node's flows. `domain` tells nodes apart at the collector (RFC 7011 §3.1).
    pub fn start(bpffs: &std::path::Path, collector: SocketAddr, domain: u32) -> Result<Self, ExportError> {
        let failed = |source| ExportError::Socket { collector, source };
        let any: SocketAddr = if collector.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
        let socket = UdpSocket::bind(any).map_err(failed)?;
        socket.connect(collector).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        let watch = Watch::open(bpffs, Watched::Node, Ring::FlowLog)?;
        let (states, open) = (FlowStates::open(bpffs)?, OpenFlows::new(OPEN_FLOW_COUNT_MAX));
        Ok(Self { watch, states, open, turn_count: 0, socket, domain, sequence: 0, taught: None, unsent: 0 })
    }

    /// Sends what has happened since the last call; due at least every second. Returns how many events were sent.
    pub fn turn(&mut self, name_of: impl Fn(u32) -> String) -> Result<usize, DataplaneError> {
        self.watch.renew()?;
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let monotonic = monotonic_now();
        let mut events = Vec::new();
        while let Some(bytes) = self.watch.next_record().filter(|_| events.len() < BATCH_COUNT_MAX) {
            let (happening, flow) = match Record::read(&bytes) {
                Some(Record::Opened(flow)) => (Happening::Opened, flow),
                Some(Record::Closed(flow)) => (Happening::Closed, flow),
                _ => continue,
            };
            let age_ms = monotonic.saturating_sub(flow.time).as_millis() as u64;
            let subject = name_of(flow.subject);
            match happening {
                Happening::Opened => self.open.open(&flow),
                Happening::Closed => _ = self.open.close(&flow),
            }
            events.push(FlowEvent { time_ms: now_ms.saturating_sub(age_ms), happening, flow, subject });
        }
        for flow in self.take_ended(monotonic)? {
            let subject = name_of(flow.subject);
            events.push(FlowEvent { time_ms: now_ms, happening: Happening::Closed, flow, subject });
        }
        self.send(&events, (now_ms / 1_000) as u32);
        Ok(events.len())
    }

    fn take_ended(&mut self, now: Duration) -> Result<Vec<FlowView>, DataplaneError> {
        self.turn_count += 1;
        if !self.turn_count.is_multiple_of(TURNS_PER_LOOK) {
            return Ok(Vec::new());
        }
        let ended = self.open.take_ended(now, |flow| self.states.has_ended(flow))?;
        Ok(ended.into_iter().map(|(flow, _)| flow).collect())
    }

    /// Events that did not reach the collector's way, and records that the ring had no room for.
    pub fn lost(&self) -> Result<u64, DataplaneError> {
        Ok(self.unsent + self.watch.lost()?)
    }

    fn send(&mut self, events: &[FlowEvent], export_secs: u32) {
        if self.taught.is_none_or(|taught| taught.elapsed() >= TEMPLATE_INTERVAL) {
            let bytes = message::templates(export_secs, self.sequence, self.domain);
            // Taught again in a minute; until then a collector that missed it keeps what it can't read.
            let _ = self.socket.send(&bytes);
            self.taught = Some(Instant::now());
        }
        let mut rest = events;
        while !rest.is_empty() {
            let (bytes, count) = message::data(export_secs, self.sequence, self.domain, rest);
            if let Err(error) = self.socket.send(&bytes) {
                tracing::debug!(%error, "flow events were not sent");
                self.unsent += count as u64;
            }
            self.sequence = self.sequence.wrapping_add(count as u32);
            rest = &rest[count..];
        }
    }
}
