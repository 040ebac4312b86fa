//! A pcapng file (draft-ietf-opsawg-pcapng) with one interface per program and moment, so that a reader tells packets
//! before the rewriting from those after it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use pcap_file::DataLink;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption};

use super::record::FrameRecord;

/// A capture file.
pub struct PcapngFile {
    writer: PcapNgWriter<BufWriter<File>>,
    /// Interface name → its number in the file.
    interfaces: BTreeMap<String, u32>,
    /// What the monotonic clock must be increased by to tell the time of day.
    epoch: Duration,
}

impl PcapngFile {
    /// Makes the file; `monotonic_now` is the kernel's monotonic clock at this moment.
    pub fn create(path: &Path, monotonic_now: Duration) -> anyhow::Result<Self> {
        let file = File::create(path).with_context(|| format!("{} cannot be made", path.display()))?;
        let writer = PcapNgWriter::new(BufWriter::new(file)).context("the file's header cannot be written")?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
        Ok(Self { writer, interfaces: BTreeMap::new(), epoch: now.saturating_sub(monotonic_now) })
    }

    /// Adds a packet of an interface such as `veth1 from_workload before`, with a comment.
    pub fn write(&mut self, interface: &str, frame: &FrameRecord, comment: Option<&str>) -> anyhow::Result<()> {
        let interface_id = self.interface(interface)?;
        let comment = comment.map(|text| EnhancedPacketOption::Comment(Cow::Owned(text.to_owned())));
        let block = EnhancedPacketBlock {
            interface_id,
            timestamp: self.epoch + frame.time,
            original_len: frame.length,
            data: Cow::Borrowed(&frame.bytes),
            options: comment.into_iter().collect(),
        };
        self.writer.write_pcapng_block(block).context("a packet cannot be written")?;
        Ok(())
    }

    /// Writes what is still in memory.
    pub fn finish(self) -> anyhow::Result<()> {
        self.writer.into_inner().into_inner().context("the file cannot be finished")?.sync_all()?;
        Ok(())
    }

    fn interface(&mut self, name: &str) -> anyhow::Result<u32> {
        if let Some(id) = self.interfaces.get(name) {
            return Ok(*id);
        }
        let block = InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: persona_common::event::PACKET_BYTES as u32,
            options: vec![
                InterfaceDescriptionOption::IfName(Cow::Owned(name.to_owned())),
                // Nanoseconds: 10 to the power of -9.
                InterfaceDescriptionOption::IfTsResol(9),
            ],
        };
        self.writer.write_pcapng_block(block).context("an interface cannot be written")?;
        let id = self.interfaces.len() as u32;
        self.interfaces.insert(name.to_owned(), id);
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pcap_file::pcapng::{Block, PcapNgReader};
    use persona_common::event::Hook;

    #[test]
    fn packets_come_back_under_their_interface() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("capture.pcapng");
        let frame = FrameRecord {
            hook: Hook::FromWorkload,
            ifindex: 3,
            time: Duration::from_secs(5),
            length: 60,
            bytes: vec![7; 42],
        };
        let mut file = PcapngFile::create(&path, Duration::from_secs(5)).unwrap();
        file.write("veth1 before", &frame, None).unwrap();
        file.write("veth1 after", &frame, Some("sent")).unwrap();
        file.finish().unwrap();
        let mut reader = PcapNgReader::new(File::open(&path).unwrap()).unwrap();
        let mut packets = Vec::new();
        while let Some(block) = reader.next_block() {
            if let Block::EnhancedPacket(packet) = block.unwrap() {
                packets.push((packet.interface_id, packet.original_len, packet.data.len(), packet.options.len()));
            }
        }
        assert_eq!(packets, [(0, 60, 42, 0), (1, 60, 42, 1)]);
    }
}
