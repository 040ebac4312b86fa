//! Connections that others open to a workload, and what answers them: `to_workload`, by `docs/packets.md` §2.4.

use std::collections::HashMap;
use std::net::IpAddr;

use super::nat::{Answer, judged};
use super::packet::{TCP, UDP};
use super::rewrite::End;
use super::shape::address_at;
use super::wire::short;

/// (protocol, the workload's end, the other end).
type Flow = (u8, End, End);

/// What was opened towards the workloads of one subject, and when a packet of it last passed.
#[derive(Debug, Default)]
pub struct Towards(HashMap<Flow, u32>);

impl Towards {
    /// A frame that no program of ours let in goes to the workload.
    pub fn note(&mut self, frame: &[u8], now_secs: u32) {
        let Some((flow, flags)) = read(frame) else { return };
        let opens = flow.0 != TCP || opens_connection(flags);
        if opens || self.state(&flow, now_secs) == Answer::Surely(()) {
            self.0.insert(flow, now_secs);
        }
    }

    /// Whether a packet of the workload answers such a connection. Those that open one never do.
    pub fn is_answer(&self, flow: &Flow, flags: u8, now_secs: u32) -> Answer<()> {
        if flow.0 == TCP && opens_connection(flags) { Answer::No } else { self.state(flow, now_secs) }
    }

    /// A packet answered.
    pub fn answered(&mut self, flow: Flow, now_secs: u32) {
        self.0.insert(flow, now_secs);
    }

    fn state(&self, flow: &Flow, now_secs: u32) -> Answer<()> {
        self.0.get(flow).map_or(Answer::No, |used_secs| judged((), *used_secs, now_secs))
    }
}

fn opens_connection(flags: u8) -> bool {
    flags & 0x16 == 2
}

/// The flow of a frame and its TCP flags, read as loosely as the program does: it refuses nothing.
fn read(frame: &[u8]) -> Option<(Flow, u8)> {
    let bytes = frame.get(14..)?;
    let (is_ipv6, protocol, l4_at) = match short(frame, 12) {
        0x0800 if bytes.len() >= 20 && short(bytes, 6) & 0x1fff == 0 => {
            (false, bytes[9], usize::from(bytes[0] & 15) * 4)
        }
        0x86dd if bytes.len() >= 40 => (true, bytes[6], 40),
        _ => return None,
    };
    let l4 = bytes.get(l4_at..)?;
    if l4.len() < 4 || (protocol == TCP && l4.len() < 20) || !matches!(protocol, TCP | UDP) {
        return None;
    }
    let address = |at: [usize; 2]| -> IpAddr { address_at(bytes, is_ipv6, at[usize::from(is_ipv6)]) };
    let (remote, local) = ((address([12, 8]), short(l4, 0)), (address([16, 24]), short(l4, 2)));
    Some(((protocol, local, remote), if protocol == TCP { l4[13] } else { 0 }))
}
