//! TCA_OPTIONS of queues and classes, whose inside the packet crate neither writes nor reads.

use netlink_packet_core::{DefaultNla, Nla, NlasIterator};
use netlink_packet_route::tc::{TcAttribute, TcMessage, TcOption};

pub(super) const TCA_OPTIONS: u16 = 2;

/// An attribute with these bytes.
pub(super) fn raw(kind: u16, value: Vec<u8>) -> TcOption {
    TcOption::Other(DefaultNla::new(kind, value))
}

/// The kernel's TCA_OPTIONS, which the packet crate hands over unread for kinds that it does not know.
pub(super) fn option_bytes(message: &TcMessage) -> Option<Vec<u8>> {
    message.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Options(options) => match options.first()? {
            TcOption::Other(whole) => Some(value_of(whole)),
            _ => None,
        },
        _ => None,
    })
}

fn value_of(attribute: &DefaultNla) -> Vec<u8> {
    let mut bytes = vec![0; attribute.value_len()];
    attribute.emit_value(&mut bytes);
    bytes
}

/// The value of the attribute of that kind.
pub(super) fn nested(bytes: &[u8], kind: u16) -> Option<Vec<u8>> {
    NlasIterator::new(bytes).flatten().find(|nla| nla.kind() == kind).map(|nla| nla.value().to_vec())
}

/// The word that begins at that byte.
pub(super) fn word_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(offset..offset + 4)?.try_into().ok()?))
}

/// What the kernel sends back: one attribute with everything inside.
#[cfg(test)]
pub(super) fn as_dumped(options: TcAttribute) -> TcMessage {
    let mut bytes = vec![0; options.value_len()];
    options.emit_value(&mut bytes);
    let whole = TcAttribute::Options(vec![raw(TCA_OPTIONS, bytes)]);
    TcMessage::from_parts(Default::default(), vec![whole])
}
