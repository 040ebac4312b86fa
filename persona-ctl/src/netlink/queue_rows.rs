//! What all queues dropped and what waits in them, read where the kernel writes it: with hundreds of classes a table of all that it
//! says of every queue costs more than all else that happens in a second.

use std::io;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use super::qdisc::HANDLE_MAJOR;

/// Numbers of linux/netlink.h, linux/rtnetlink.h and linux/gen_stats.h.
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWQDISC: u16 = 36;
const RTM_GETQDISC: u16 = 38;
const TCA_KIND: u16 = 1;
const TCA_STATS2: u16 = 7;
const TCA_STATS_QUEUE: u16 = 3;

/// `TC_H_ROOT`: the parent of a device's first queue.
pub(super) const ROOT: u32 = u32::MAX;

/// Length, type, flags, sequence, port.
const HEADER_LENGTH: usize = 16;
/// `struct tcmsg`: family, interface, handle, parent, info.
const TCMSG_LENGTH: usize = 20;
/// Set in an attribute's type where it holds others.
const NESTED: u16 = 0x8000;

/// The kernel sends a list in pieces of at most 32 KiB.
const PIECE_BYTES: usize = 64 << 10;

/// A queue, as the kernel lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueRow<'a> {
    /// Its device.
    pub ifindex: u32,
    /// Major and minor number, 16 bits each.
    pub(super) handle: u32,
    /// The class that it is the queue of, or [`ROOT`].
    pub(super) parent: u32,
    /// Its kind, such as `htb`.
    pub(super) kind: &'a [u8],
    /// What waits in it and below it.
    pub(super) waiting_bytes: u32,
    /// Packets that it has dropped since it was made.
    pub dropped: u32,
}

impl QueueRow<'_> {
    /// The minor number of the class of ours that it is the queue of. None: it is not.
    pub fn class(&self) -> Option<u16> {
        (self.parent >> 16 == u32::from(HANDLE_MAJOR)).then_some(self.parent as u16)
    }
}

/// Asks the kernel again and again, with one socket and one buffer.
#[derive(Debug)]
pub struct QueueReader {
    socket: Socket,
    sequence: u32,
    piece: Vec<u8>,
}

impl QueueReader {
    /// Opens one in this thread's network namespace.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0, piece: Vec::with_capacity(PIECE_BYTES) })
    }

    /// Shows every queue. After an error this value is of no more use.
    pub fn read(&mut self, see: &mut dyn FnMut(&QueueRow<'_>)) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = [0; HEADER_LENGTH + TCMSG_LENGTH];
        request[..4].copy_from_slice(&((HEADER_LENGTH + TCMSG_LENGTH) as u32).to_ne_bytes());
        request[4..6].copy_from_slice(&RTM_GETQDISC.to_ne_bytes());
        request[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
        request[8..12].copy_from_slice(&self.sequence.to_ne_bytes());
        self.socket.send(&request, 0)?;
        loop {
            self.piece.clear();
            self.socket.recv(&mut self.piece, 0)?;
            if take(&self.piece, self.sequence, see)? {
                return Ok(());
            }
        }
    }
}

/// Shows what the messages of a piece say; whether the list ends with it.
fn take(mut piece: &[u8], sequence: u32, see: &mut dyn FnMut(&QueueRow<'_>)) -> io::Result<bool> {
    while let Some(header) = piece.get(..HEADER_LENGTH) {
        let length = word(header, 0).unwrap_or(0) as usize;
        let payload = piece.get(HEADER_LENGTH..length).ok_or(io::ErrorKind::InvalidData)?;
        let is_answer = word(header, 8) == Some(sequence);
        match u16::from_ne_bytes([header[4], header[5]]) {
            NLMSG_ERROR if is_answer => {
                let code = word(payload, 0).unwrap_or(0) as i32;
                return if code == 0 { Ok(true) } else { Err(io::Error::from_raw_os_error(-code)) };
            }
            NLMSG_DONE if is_answer => return Ok(true),
            RTM_NEWQDISC if is_answer => {
                if let Some(row) = row_in(payload) {
                    see(&row);
                }
            }
            _ => {}
        }
        piece = piece.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// A queue that counts.
fn row_in(payload: &[u8]) -> Option<QueueRow<'_>> {
    let attributes = payload.get(TCMSG_LENGTH..)?;
    let counts = attribute(attribute(attributes, TCA_STATS2)?, TCA_STATS_QUEUE)?;
    let kind = attribute(attributes, TCA_KIND).unwrap_or_default();
    // `struct gnet_stats_queue`: length, bytes that wait, drops.
    let (waiting_bytes, dropped) = (word(counts, 4)?, word(counts, 8)?);
    Some(QueueRow {
        ifindex: word(payload, 4)?,
        handle: word(payload, 8)?,
        parent: word(payload, 12)?,
        kind: kind.strip_suffix(&[0]).unwrap_or(kind),
        waiting_bytes,
        dropped,
    })
}

/// The value of the first attribute of a type.
fn attribute(mut bytes: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let [low, high, kind_low, kind_high] = *bytes.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([low, high]));
        let value = bytes.get(4..length)?;
        if u16::from_ne_bytes([kind_low, kind_high]) & !NESTED == kind {
            return Some(value);
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = ((HEADER_LENGTH + payload.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 2]);
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(payload);
        bytes
    }

    fn put(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
        bytes.extend((4 + value.len() as u16).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }

    fn queue(ifindex: u32, parent: u32, dropped: u32) -> Vec<u8> {
        let [mut counts, mut stats] = [Vec::new(), Vec::new()];
        [0, 0, dropped, 0, 0_u32].iter().for_each(|word| counts.extend(word.to_ne_bytes()));
        put(&mut stats, 1, &[0; 16]);
        put(&mut stats, TCA_STATS_QUEUE, &counts);
        let mut payload = vec![0; TCMSG_LENGTH];
        payload[4..8].copy_from_slice(&ifindex.to_ne_bytes());
        payload[12..16].copy_from_slice(&parent.to_ne_bytes());
        put(&mut payload, 1, b"pfifo\0");
        put(&mut payload, TCA_STATS2 | NESTED, &stats);
        payload
    }

    #[test]
    fn queues_are_shown_and_the_list_ends() {
        let ours = u32::from(HANDLE_MAJOR) << 16;
        let mut piece = message(RTM_NEWQDISC, 5, &queue(3, ours | 7, 9));
        piece.extend(message(RTM_NEWQDISC, 5, &queue(3, 0x1_0007, 8)));
        piece.extend(message(RTM_NEWQDISC, 4, &queue(3, ours | 8, 7)));
        let mut seen = Vec::new();
        let mut see = |row: &QueueRow<'_>| seen.push((row.ifindex, row.class(), row.dropped));
        assert!(!take(&piece, 5, &mut see).unwrap());
        assert!(take(&message(NLMSG_DONE, 5, &[0; 4]), 5, &mut see).unwrap());
        let refused = take(&message(NLMSG_ERROR, 5, &(-libc::EPERM).to_ne_bytes()), 5, &mut see).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
        assert_eq!(
            seen,
            [(3, Some(7), 9), (3, None, 8)],
            "of ours and of others, but no answer to an earlier question"
        );
    }

    #[test]
    fn a_message_that_is_cut_off_is_an_error_or_none() {
        let ours = u32::from(HANDLE_MAJOR) << 16;
        let whole = message(RTM_NEWQDISC, 5, &queue(3, ours | 7, 9));
        for length in 0..whole.len() {
            let mut count = 0;
            let outcome = take(&whole[..length], 5, &mut |_| count += 1);
            assert!(count == 0 && (outcome.is_err() || length < HEADER_LENGTH), "{length}");
        }
        let mut short = queue(3, ours | 7, 9);
        short.truncate(short.len() - 8);
        assert_eq!(row_in(&short), None);
    }

    #[test]
    fn the_kernel_answers_as_often_as_it_is_asked() {
        let mut reader = QueueReader::open().unwrap();
        for _question in 0..3 {
            reader.read(&mut |_| {}).unwrap();
        }
        assert_eq!(reader.piece.capacity(), PIECE_BYTES);
    }
}
