//! Flows without slots: which lease a flow leaves under, and who may answer it.
//!
//! Old flows keep the lease of their record; new ones take the subject's newest. Where filtering is
//! endpoint-independent, each local address and port has one more entry, for any remote (RFC 6092 REC-11, REC-34). All
//! that is written here are hints that age: a lost update costs a refresh.

use persona_common::drop::DropReason;
use persona_common::flow::{TCP, UDP};
use persona_common::node::{Lease, SUBJECT_FILTERS_BY_REMOTE, Subject};
use persona_common::record::{
    RECORD_ANY_REMOTE, RECORD_CLOSING, RECORD_DNS, RECORD_OPENED_INWARD, RECORD_REMOTE_CLOSING, RECORD_REPLIED,
    RECORD_RESET, Record, RecordKey,
};
use persona_ebpf::header::{TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN};
use persona_ebpf::outcome::{pack, unpack};

use crate::firewall::{self, INGRESS, judges, service_of};
use crate::maps::{LEASES, OPENINGS6, RECORDS};

/// UDP port of the DNS.
const DNS_PORT: u16 = 53;

/// A lease with its index.
#[derive(Clone, Copy)]
pub struct Held {
    pub lease: &'static Lease,
    pub index: u32,
}

impl Held {
    /// The lease in a cell of `LEASES`, if there is one.
    #[inline(always)]
    pub fn at(index: u32) -> Option<Self> {
        LEASES.get(index).filter(|lease| lease.id != 0).map(|lease| Self { lease, index })
    }
}

/// The lease that a flow's record says, if the flow is in force; refreshes it.
#[inline(always)]
pub fn existing(key: &RecordKey, subject: &Subject, tcp_flags: u8, now_secs: u32) -> Option<Held> {
    Held::at(existing_apart(key, subject, tcp_flags, now_secs).checked_sub(1)?)
}

/// A function of its own, for the sake of the stack: the index plus one, or 0.
#[inline(never)]
fn existing_apart(key: &RecordKey, subject: &Subject, tcp_flags: u8, now_secs: u32) -> u32 {
    refreshed(key, subject, tcp_flags, now_secs).map_or(0, |held| held.index + 1)
}

#[inline(always)]
fn refreshed(key: &RecordKey, subject: &Subject, tcp_flags: u8, now_secs: u32) -> Option<Held> {
    let record = live(key, now_secs)?;
    let opens = tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST) == TCP_SYN;
    if opens && record.flags & (RECORD_CLOSING | RECORD_RESET) != 0 {
        return None;
    }
    let held = held_by(record)?;
    if record.last_seen_secs != now_secs {
        record.last_seen_secs = now_secs;
        if subject.flags & SUBJECT_FILTERS_BY_REMOTE == 0 {
            touch(&key.of_any_remote(), now_secs);
        }
    }
    if key.protocol == TCP as u32 {
        follow(record, tcp_flags);
    }
    Some(held)
}

/// What the subject's own packet does to its TCP flow.
#[inline(always)]
fn follow(record: &mut Record, tcp_flags: u8) {
    let flags = if tcp_flags & TCP_RST != 0 {
        record.flags | RECORD_CLOSING | RECORD_RESET
    } else if tcp_flags & TCP_FIN != 0 {
        record.flags | RECORD_CLOSING
    } else if record.flags & RECORD_CLOSING == 0 {
        // The subject goes on, so a reset from outside wasn't for this connection, or wasn't believed.
        record.flags & !RECORD_RESET
    } else {
        record.flags
    };
    if flags != record.flags {
        record.flags = flags;
    }
}

/// The flags of a flow's record, if it is in force.
#[inline(always)]
pub fn flags(key: &RecordKey, now_secs: u32) -> Option<&'static mut u32> {
    live(key, now_secs).map(|record| &mut record.flags)
}

/// The lease that a flow's record says, without a change.
#[inline(always)]
pub fn peek(key: &RecordKey, now_secs: u32) -> Option<Held> {
    held_by(live(key, now_secs)?)
}

/// Makes a new flow's record, and the one for any remote where the subject's filtering wants it.
#[inline(always)]
pub fn open(key: &RecordKey, subject: &Subject, held: &Held, tcp_flags: u8, now_secs: u32) -> Result<(), DropReason> {
    match open_apart(key, subject, held, tcp_flags, now_secs) {
        0 => Ok(()),
        _ => Err(DropReason::FlowTableFull),
    }
}

/// A function of its own, for the sake of the stack: whether the table was full.
#[inline(never)]
fn open_apart(key: &RecordKey, subject: &Subject, held: &Held, tcp_flags: u8, now_secs: u32) -> u32 {
    let is_dns = key.protocol == UDP as u32 && key.remote_port == DNS_PORT;
    let ending = if key.protocol == TCP as u32 && tcp_flags & (TCP_FIN | TCP_RST) != 0 { RECORD_CLOSING } else { 0 };
    let mut record = Record {
        lease_index: held.index,
        lease_id_low: held.lease.id as u32,
        last_seen_secs: now_secs,
        flags: ending | opened_by(key, subject, tcp_flags, now_secs) | if is_dns { RECORD_DNS } else { 0 },
    };
    if RECORDS.insert(key, &record, 0).is_err() {
        return 1;
    }
    record.flags = record.flags & !RECORD_DNS | RECORD_ANY_REMOTE;
    let is_for_all = subject.flags & SUBJECT_FILTERS_BY_REMOTE == 0;
    (is_for_all && RECORDS.insert(key.of_any_remote(), &record, 0).is_err()) as u32
}

/// Who has opened a flow, and by which rules it was judged, where a firewall wants to know.
#[inline(always)]
fn opened_by(key: &RecordKey, subject: &Subject, tcp_flags: u8, now_secs: u32) -> u32 {
    let opens = tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST) == TCP_SYN;
    let is_inward = judges(subject) && !opens && addressed(key, now_secs).is_some();
    subject.verdict() | if is_inward { RECORD_OPENED_INWARD } else { 0 }
}

/// Whether a packet from outside may come in; refreshes what lets it in.
#[inline(always)]
pub fn admit(key: &RecordKey, subject: &Subject, held: &Held, tcp_flags: u8, now_secs: u32) -> Result<(), DropReason> {
    unpack(admit_apart(key, subject, held, tcp_flags, now_secs)).map(|_| ())
}

/// A function of its own, for the sake of the stack.
#[inline(never)]
fn admit_apart(key: &RecordKey, subject: &Subject, held: &Held, tcp_flags: u8, now_secs: u32) -> u64 {
    pack(judged(key, subject, held, tcp_flags, now_secs).map(|()| 0))
}

#[inline(always)]
fn judged(key: &RecordKey, subject: &Subject, held: &Held, tcp_flags: u8, now_secs: u32) -> Result<(), DropReason> {
    let (subject_index, ports) = (held.lease.subject_index, (key.protocol, key.local_port, key.remote_port));
    if let Some(record) = of_lease(live(key, now_secs), held) {
        if judges(subject) {
            firewall::check_flow(&mut record.flags, (subject, subject_index), &key.remote, ports)?;
        }
        note_reply(record, key, subject, tcp_flags, now_secs);
        return Ok(());
    }
    // A connection from outside is let in under endpoint-independent filtering only (RFC 5382 REQ-3).
    let opens = tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST) == TCP_SYN;
    let refusal = if opens { DropReason::Unsolicited } else { DropReason::NoMapping };
    if subject.flags & SUBJECT_FILTERS_BY_REMOTE != 0 {
        return Err(refusal);
    }
    // A stranger refreshes nothing (RFC 4787 REQ-6 b), and leaves but a bounded note for the answer's sake.
    let record = of_lease(live(&key.of_any_remote(), now_secs), held).ok_or(refusal)?;
    if judges(subject) {
        firewall::check(
            subject_index,
            &key.remote,
            service_of(key.protocol, key.local_port, key.remote_port, INGRESS),
        )?;
    }
    let note = Record { last_seen_secs: now_secs, flags: RECORD_REPLIED, ..*record };
    // An LRU makes room; without the note the answer takes the newest lease.
    let _ = OPENINGS6.insert(key, &note, 0);
    Ok(())
}

/// The lease that a stranger has addressed, for the subject's first answer.
#[inline(always)]
pub fn addressed(key: &RecordKey, now_secs: u32) -> Option<Held> {
    // SAFETY: values are replaced as a whole and copied here at once.
    let note = unsafe { OPENINGS6.get(key) }.copied()?;
    if note.is_live(key.protocol, now_secs) { held_by(&note) } else { None }
}

/// Whether an error from outside is about a flow in force. Changes nothing.
#[inline(always)]
pub fn is_known(key: &RecordKey, held: &Held, now_secs: u32) -> bool {
    of_lease(live(key, now_secs), held).is_some()
}

#[inline(always)]
fn note_reply(record: &mut Record, key: &RecordKey, subject: &Subject, tcp_flags: u8, now_secs: u32) {
    if record.last_seen_secs != now_secs {
        record.last_seen_secs = now_secs;
        if subject.flags & SUBJECT_FILTERS_BY_REMOTE == 0 {
            touch(&key.of_any_remote(), now_secs);
        }
    }
    let tcp_flags = if key.protocol == TCP as u32 { tcp_flags } else { 0 };
    let reset = if tcp_flags & TCP_RST != 0 { RECORD_RESET } else { 0 };
    let closing = if tcp_flags & TCP_FIN != 0 { RECORD_REMOTE_CLOSING } else { 0 };
    let seen = RECORD_REPLIED | reset | closing;
    if record.flags & seen != seen {
        record.flags |= seen;
    }
}

#[inline(always)]
fn of_lease(record: Option<&'static mut Record>, held: &Held) -> Option<&'static mut Record> {
    record.filter(|record| record.lease_index == held.index && record.lease_id_low == held.lease.id as u32)
}

#[inline(always)]
fn held_by(record: &Record) -> Option<Held> {
    Held::at(record.lease_index).filter(|held| held.lease.id as u32 == record.lease_id_low)
}

#[inline(always)]
fn live(key: &RecordKey, now_secs: u32) -> Option<&'static mut Record> {
    let record = RECORDS.get_ptr_mut(key)?;
    // SAFETY: a pointer into the map, valid for this run; plain words that other CPUs may write at the same time.
    let record = unsafe { &mut *record };
    if record.is_live(key.protocol, now_secs) { Some(record) } else { None }
}

/// Refreshes the entry for any remote; it counts as answered, because somebody answers.
#[inline(never)]
fn touch(key: &RecordKey, now_secs: u32) -> u32 {
    let Some(record) = live(key, now_secs) else { return 0 };
    record.last_seen_secs = now_secs;
    record.flags |= RECORD_REPLIED;
    1
}
