//! The filters of a device's clsact queue: where programs hang on kernels without TCX (before Linux 6.6).
//!
//! Ours have a handle of our own, so that they are found again and replaced in place, never doubled. They stay when
//! this process ends, like pinned links.

use std::io;

use aya::programs::TcAttachType;
use aya::programs::tc::TcHandle as FilterHandle;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcFilterBpfOption, TcHandle, TcHeader, TcMessage, TcOption};

use super::rtnetlink;

/// The upper half of our filters' handles, as of our root queues.
const HANDLE_MAJOR: u16 = crate::netlink::HANDLE_MAJOR;

/// Ours come first: the first filter that does not say "next" decides.
pub(super) const PRIORITY: u16 = 1;

/// `ETH_P_ALL` in network order, as filters carry it.
const PROTOCOL_ALL: u16 = 0x0003u16.to_be();

/// A filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filter {
    /// Its kind, such as `bpf` or `flower`.
    pub(super) kind: String,
    /// Lower runs earlier.
    pub(super) priority: u16,
    /// The program of a bpf filter.
    pub(super) program_id: Option<u32>,
    protocol: u16,
    handle: u32,
}

impl Filter {
    /// Whether we made it.
    pub(super) fn is_ours(&self) -> bool {
        self.kind == "bpf" && (self.handle >> 16) as u16 == HANDLE_MAJOR
    }

    /// Whether we made it for this program.
    pub(super) fn is_of(&self, program: &str) -> bool {
        self.is_ours() && self.handle == u32::from(handle_of(program))
    }

    /// Whether a bpf filter of ours may stand at the same priority: all filters of one have a kind and a protocol.
    pub(super) fn shares_with_ours(&self) -> bool {
        self.kind == "bpf" && self.protocol == PROTOCOL_ALL
    }
}

/// The handle of the filter of one of our programs. Two programs never share a hook and a hash.
pub(super) fn handle_of(program: &str) -> FilterHandle {
    let fold = |hash: u16, byte: u8| (hash ^ u16::from(byte)).wrapping_mul(0x0193).rotate_left(3);
    FilterHandle::new(HANDLE_MAJOR, program.bytes().fold(0x811c, fold))
}

/// The filters at one side of a device, in the order of the kernel's list.
pub(super) fn list(ifindex: u32, direction: TcAttachType) -> io::Result<Vec<Filter>> {
    let header = header(ifindex, parent(direction), 0);
    let answers = rtnetlink::dump(RouteNetlinkMessage::GetTrafficFilter(TcMessage::from_parts(header, Vec::new())))?;
    // Each priority is announced by an entry without a handle.
    Ok(answers.iter().filter_map(read_filter).filter(|filter| filter.handle != 0).collect())
}

/// Takes a filter away.
pub(super) fn remove(ifindex: u32, direction: TcAttachType, filter: &Filter) -> io::Result<()> {
    let mut header = header(ifindex, parent(direction), filter.priority);
    header.info = u32::from(filter.priority) << 16 | u32::from(filter.protocol);
    header.handle = filter.handle.into();
    let attributes = vec![TcAttribute::Kind(filter.kind.clone())];
    rtnetlink::change(RouteNetlinkMessage::DelTrafficFilter(TcMessage::from_parts(header, attributes)), 0)
}

/// The kind of queue that holds the filters: `clsact`, or `ingress` with one side only.
pub(super) fn queue_kind(ifindex: u32) -> io::Result<Option<String>> {
    let header = header(ifindex, TcHandle::UNSPEC, 0);
    let message = TcMessage::from_parts(header, Vec::new());
    let answers = rtnetlink::dump(RouteNetlinkMessage::GetQueueDiscipline(message))?;
    let kinds = answers.iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewQueueDiscipline(queue) if queue.header.index == ifindex as i32 => kind_of(queue),
        _ => None,
    });
    Ok(kinds.into_iter().find(|kind| kind == "clsact" || kind == "ingress"))
}

/// Makes the queue that filters hang on.
pub(super) fn add_queue(ifindex: u32) -> io::Result<()> {
    rtnetlink::change(RouteNetlinkMessage::NewQueueDiscipline(clsact(ifindex)), NLM_F_CREATE | NLM_F_EXCL)
}

/// Takes the queue away, and all filters with it.
pub(super) fn remove_queue(ifindex: u32) -> io::Result<()> {
    rtnetlink::change(RouteNetlinkMessage::DelQueueDiscipline(clsact(ifindex)), 0)
}

fn clsact(ifindex: u32) -> TcMessage {
    let mut header = header(ifindex, TcHandle::CLSACT, 0);
    header.handle = TcHandle { major: u16::MAX, minor: 0 };
    TcMessage::from_parts(header, vec![TcAttribute::Kind("clsact".to_owned())])
}

fn parent(direction: TcAttachType) -> TcHandle {
    let minor = match direction {
        TcAttachType::Egress => TcHandle::MIN_EGRESS,
        TcAttachType::Ingress | TcAttachType::Custom(_) => TcHandle::MIN_INGRESS,
    };
    TcHandle { major: u16::MAX, minor }
}

fn header(ifindex: u32, parent: TcHandle, priority: u16) -> TcHeader {
    TcHeader { index: ifindex as i32, parent, info: u32::from(priority) << 16, ..TcHeader::default() }
}

fn read_filter(answer: &RouteNetlinkMessage) -> Option<Filter> {
    let RouteNetlinkMessage::NewTrafficFilter(message) = answer else { return None };
    let mut filter = Filter {
        kind: kind_of(message)?,
        priority: (message.header.info >> 16) as u16,
        program_id: None,
        protocol: message.header.info as u16,
        handle: message.header.handle.into(),
    };
    for option in options_of(message) {
        if let TcOption::Bpf(TcFilterBpfOption::ProgId(id)) = option {
            filter.program_id = Some(*id);
        }
    }
    Some(filter)
}

fn kind_of(message: &TcMessage) -> Option<String> {
    message.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Kind(kind) => Some(kind.clone()),
        _ => None,
    })
}

fn options_of(message: &TcMessage) -> &[TcOption] {
    let options = message.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Options(options) => Some(options.as_slice()),
        _ => None,
    });
    options.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_program_has_a_handle_of_its_own() {
        let programs = [
            "from_workload",
            "to_workload",
            "from_host",
            "from_edge",
            "guard",
            "depart",
            "edge_inside",
            "edge_outside",
            "gateway",
        ];
        let handles: std::collections::BTreeSet<u32> = programs.iter().map(|name| handle_of(name).into()).collect();
        assert_eq!(handles.len(), programs.len());
        assert!(handles.iter().all(|handle| handle >> 16 == 0x7e50), "{handles:x?}");
    }
}
