//! The lines that the programs log per packet (aya-log), where they were loaded to do so, with names in the place of numbers.
//!
//! The ring belongs to the programs that this process has loaded. It isn't pinned: the next process loads its own, and
//! lines that nobody has read by then are lost.

use std::fmt;

use aya::{Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use log::{Log, Metadata};
use persona_common::drop::DropReason;
use persona_common::event::Hook;

use super::error::DataplaneError;

/// Bytes of the ring where nothing is logged: one page, because the object has the map all the same.
const UNUSED_RING_LENGTH: u32 = 4_096;

/// The map that aya-log writes.
const RING: &str = "AYA_LOGS";

/// Whether the programs log every packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PacketLogging {
    /// They don't, and have no code for it.
    #[default]
    Off,
    /// They do; it takes a great part of their speed.
    On,
}

impl PacketLogging {
    /// What a configuration says.
    pub fn from_flag(is_on: bool) -> Self {
        if is_on { Self::On } else { Self::Off }
    }

    /// Sets the constant of `persona-ebpf/src/log.rs`.
    pub(super) fn tell(self, loader: &mut EbpfLoader<'_>) {
        let is_on: &'static u32 = if self == Self::On { &1 } else { &0 };
        loader.override_global("LOGS_PACKETS", is_on, true);
        if self == Self::Off {
            loader.map_max_entries(RING, UNUSED_RING_LENGTH);
        }
    }
}

/// What became of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketLine {
    /// At which program.
    pub hook: Hook,
    /// Its verdict's number at that hook.
    pub verdict: i32,
    /// Why it was dropped, if it was.
    pub reason: Option<DropReason>,
    /// The device, by interface index.
    pub ifindex: u32,
    /// Whose it was: a subject's number. None: it was not found out, or at an edge.
    pub subject: Option<u32>,
    /// The IP protocol of the frame as it stood at the end, so of the tunnel where it is in one. None: not IP.
    pub protocol: Option<u8>,
    /// Bytes of the frame at the end.
    pub length: u32,
}

impl PacketLine {
    /// Reads what `persona-ebpf/src/log.rs` writes: names and numbers by turns.
    fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split(' ').collect();
        let number = |name: &str| -> Option<i64> {
            let at = words.iter().step_by(2).position(|word| *word == name)?;
            words.get(at * 2 + 1)?.parse().ok()
        };
        let hook = number("hook")?;
        let reason = match u32::try_from(number("reason")?).ok()?.checked_sub(1) {
            None => None,
            Some(number) => Some(DropReason::of_number(number)?),
        };
        Some(Self {
            hook: Hook::ALL.into_iter().find(|candidate| *candidate as i64 == hook)?,
            verdict: number("verdict")?.try_into().ok()?,
            reason,
            ifindex: number("device")?.try_into().ok()?,
            subject: Some(number("subject")?.try_into().ok()?).filter(|subject| *subject != 0),
            protocol: Some(number("protocol")?.try_into().ok()?).filter(|protocol| *protocol != u8::MAX),
            length: number("length")?.try_into().ok()?,
        })
    }
}

impl fmt::Display for PacketLine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            Some(reason) => write!(formatter, "{}: dropped, {}", self.hook.name(), reason.name()),
            None => write!(formatter, "{}: verdict {}", self.hook.name(), self.verdict),
        }
    }
}

/// Gives every line that it understands to a function.
struct Teller(Box<dyn Fn(PacketLine) + Send + Sync>);

impl Log for Teller {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        match PacketLine::parse(&record.args().to_string()) {
            Some(line) => (self.0)(line),
            None => tracing::debug!(line = %record.args(), "the programs have logged something else"),
        }
    }

    fn flush(&self) {}
}

/// The one reader of the programs' log.
pub struct PacketLog(EbpfLogger<Teller>);

impl PacketLog {
    /// Becomes the reader of an object's log; `tell` gets the lines.
    pub(super) fn take(
        ebpf: &mut Ebpf,
        tell: impl Fn(PacketLine) + Send + Sync + 'static,
    ) -> Result<Self, DataplaneError> {
        EbpfLogger::init_with_logger(ebpf, Teller(Box::new(tell))).map(Self).map_err(DataplaneError::PacketLog)
    }

    /// Tells every line that is there. Due often: the ring holds some 500 lines.
    pub fn flush(&mut self) {
        self.0.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_with_names_for_its_numbers() {
        let text = "hook 1 verdict 2 reason 24 device 5 subject 7 protocol 17 length 60";
        let line = PacketLine::parse(text).unwrap();
        assert_eq!((line.hook, line.verdict, line.ifindex, line.length), (Hook::FromWorkload, 2, 5, 60));
        assert_eq!((line.reason, line.subject, line.protocol), (Some(DropReason::VniMismatch), Some(7), Some(17)));
        assert_eq!(line.to_string(), "from_workload: dropped, vni-mismatch");
        let passed = PacketLine::parse("hook 4 verdict -1 reason 0 device 5 subject 0 protocol 255 length 60").unwrap();
        assert_eq!((passed.reason, passed.subject, passed.protocol), (None, None, None));
        assert_eq!(passed.to_string(), "from_edge: verdict -1");
    }

    #[test]
    fn lines_of_others_are_not_read() {
        for text in
            ["", "hook", "hook 1", "hello world", "hook 99 verdict 2 reason 0 device 5 subject 7 protocol 1 length 6"]
        {
            assert_eq!(PacketLine::parse(text), None, "{text}");
        }
        let unknown_reason = "hook 1 verdict 2 reason 999 device 5 subject 7 protocol 17 length 60";
        assert_eq!(PacketLine::parse(unknown_reason), None);
    }
}
