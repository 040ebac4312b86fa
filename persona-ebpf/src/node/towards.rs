//! Connections opened towards a workload (`TOWARDS`): what answers them passes by the persona.
//!
//! Asked only for what has no flow of its own, and never for a packet that opens a connection: nobody can make a flow of
//! the persona's leave bare by sending first. Beside these stands what subjects with a firewall have opened past their persona, so
//! that its answers are known; none of that answers anything.

use persona_common::flow::TCP;
use persona_common::record::{RECORD_CLOSING, RECORD_OPENED_OUTWARD, RECORD_REPLIED, Record, RecordKey};
use persona_ebpf::header::{TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN};

use crate::maps::TOWARDS;

/// Notes a packet to a workload that no program of ours has let in, judged by `verdict`; says whether it opens a connection, and
/// is not one more of those that do.
#[inline(always)]
pub fn note(key: &RecordKey, tcp_flags: u8, verdict: u32, now_secs: u32) -> bool {
    let is_tcp = key.protocol == TCP as u32;
    let opens = !is_tcp || tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST) == TCP_SYN;
    let mut is_open = false;
    if let Some(record) = live(key, now_secs) {
        if !(is_tcp && opens) {
            refresh(record, tcp_flags, now_secs, 0);
            return false;
        }
        is_open = record.flags & RECORD_CLOSING == 0;
    }
    if opens {
        let record = Record { last_seen_secs: now_secs, flags: verdict, ..Record::default() };
        // An LRU makes room; without the entry the answer is taken for a flow of its own.
        let _ = TOWARDS.insert(key, &record, 0);
    }
    opens && !is_open
}

/// Whether a packet of a workload answers such a connection.
#[inline(never)]
pub fn is_answer(key: &RecordKey, tcp_flags: u8, now_secs: u32) -> bool {
    if key.protocol == TCP as u32 && tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST) == TCP_SYN {
        return false;
    }
    let Some(record) = live(key, now_secs) else { return false };
    let is_inward = record.flags & RECORD_OPENED_OUTWARD == 0;
    refresh(record, tcp_flags, now_secs, if is_inward { RECORD_REPLIED } else { 0 });
    is_inward
}

/// Notes what a subject opens past its persona, judged by `verdict`. A function of its own, for the sake of the stack.
#[inline(never)]
pub fn note_outward(key: &RecordKey, verdict: u32, now_secs: u32) -> u32 {
    let record = Record { last_seen_secs: now_secs, flags: verdict | RECORD_OPENED_OUTWARD, ..Record::default() };
    // An LRU makes room; without the entry its answers are taken for openings.
    TOWARDS.insert(key, &record, 0).is_err() as u32
}

/// The flags of a live entry.
#[inline(always)]
pub fn flags(key: &RecordKey, now_secs: u32) -> Option<&'static mut u32> {
    live(key, now_secs).map(|record| &mut record.flags)
}

#[inline(always)]
fn refresh(record: &mut Record, tcp_flags: u8, now_secs: u32, seen: u32) {
    if record.last_seen_secs != now_secs {
        record.last_seen_secs = now_secs;
    }
    let ended = if tcp_flags & (TCP_FIN | TCP_RST) != 0 { RECORD_CLOSING } else { 0 };
    let flags = record.flags | seen | ended;
    if flags != record.flags {
        record.flags = flags;
    }
}

#[inline(always)]
fn live(key: &RecordKey, now_secs: u32) -> Option<&'static mut Record> {
    let record = TOWARDS.get_ptr_mut(key)?;
    // SAFETY: a pointer into the map, valid for this run; plain words that other CPUs may write at the same time.
    let record = unsafe { &mut *record };
    if record.is_live(key.protocol, now_secs) { Some(record) } else { None }
}
