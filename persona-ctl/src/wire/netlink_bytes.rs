//! Netlink messages in bytes, and one question at a time to the kernel: what WireGuard needs of route and generic netlink.

use std::io;

use netlink_sys::{Socket, SocketAddr};

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// Length, type, flags, sequence, port.
const HEADER_LENGTH: usize = 16;
/// Set in an attribute's type where it holds others.
const NESTED: u16 = 0x8000;

/// A message, or attributes for one, in the making.
#[derive(Debug, Clone, Default)]
pub(super) struct Bytes(Vec<u8>);

impl Bytes {
    /// What stands before the attributes.
    pub(super) fn after(fixed: &[u8]) -> Self {
        Self(fixed.to_vec())
    }

    /// Adds an attribute.
    pub(super) fn put(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = 4 + value.len() as u16;
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Adds an attribute that holds others.
    pub(super) fn nest(&mut self, kind: u16, inner: &Bytes) -> &mut Self {
        self.put(kind | NESTED, &inner.0)
    }
}

/// The attributes in a run of bytes, by type.
pub(super) fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while let Some([length, kind]) = two_words(bytes) {
        let Some(value) = bytes.get(4..usize::from(length)) else { break };
        found.push((kind & !NESTED, value));
        bytes = bytes.get(usize::from(length).next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// The value of the first attribute of a type.
pub(super) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).into_iter().find(|(found, _)| *found == kind).map(|(_, value)| value)
}

fn two_words(bytes: &[u8]) -> Option<[u16; 2]> {
    let [a, b, c, d] = *bytes.first_chunk()?;
    Some([u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d])])
}

/// A netlink socket on which one question is asked at a time.
pub(super) struct Asker {
    socket: Socket,
    sequence: u32,
}

impl Asker {
    /// Opens one of a protocol, in this thread's network namespace.
    pub(super) fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends a message and gives the payloads of the answer; an error of the kernel's is one here.
    pub(super) fn ask(&mut self, kind: u16, flags: u16, body: &Bytes) -> io::Result<Vec<Vec<u8>>> {
        self.sequence += 1;
        let length = (HEADER_LENGTH + body.0.len()) as u32;
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend((flags | NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend([0; 4]);
        message.extend(&body.0);
        self.socket.send(&message, 0)?;
        let mut answers = Vec::new();
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            if take(&datagram, &mut answers)? {
                return Ok(answers);
            }
        }
    }
}

/// Takes the messages of a datagram; whether the answer ends with it.
fn take(mut datagram: &[u8], answers: &mut Vec<Vec<u8>>) -> io::Result<bool> {
    while let Some(header) = datagram.first_chunk::<HEADER_LENGTH>() {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let payload = datagram.get(HEADER_LENGTH..length).ok_or(io::ErrorKind::InvalidData)?;
        match kind {
            NLMSG_ERROR => {
                let code = payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                return if code == 0 { Ok(true) } else { Err(io::Error::from_raw_os_error(-code)) };
            }
            NLMSG_DONE => return Ok(true),
            _ => answers.push(payload.to_vec()),
        }
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_read_back_with_their_padding() {
        let mut inner = Bytes::default();
        inner.put(1, &[9]);
        let mut bytes = Bytes::after(&[]);
        bytes.put(6, &51_820_u16.to_ne_bytes()).nest(8, &inner).put(2, b"persona-wire\0");
        let found = attributes(&bytes.0);
        assert_eq!(found.len(), 3);
        assert_eq!(attribute(&bytes.0, 6), Some(&51_820_u16.to_ne_bytes()[..]));
        assert_eq!(attribute(attribute(&bytes.0, 8).unwrap(), 1), Some(&[9][..]));
        assert_eq!(attribute(&bytes.0, 2), Some(&b"persona-wire\0"[..]));
        assert_eq!(attributes(&bytes.0[..bytes.0.len() - 8]).len(), 2, "one that is cut off is none");
    }

    #[test]
    fn an_error_of_the_kernel_is_one_here_and_zero_is_the_end() {
        let message = |kind: u16, payload: &[u8]| {
            let mut bytes = (16 + payload.len() as u32).to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.extend([0; 10]);
            bytes.extend(payload);
            bytes
        };
        let mut answers = Vec::new();
        assert!(!take(&message(16, &[7; 4]), &mut answers).unwrap());
        assert_eq!(answers, [[7; 4]]);
        assert!(take(&message(NLMSG_ERROR, &0_i32.to_ne_bytes()), &mut answers).unwrap());
        let refused = take(&message(NLMSG_ERROR, &(-libc::EOPNOTSUPP).to_ne_bytes()), &mut answers).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EOPNOTSUPP));
    }
}
