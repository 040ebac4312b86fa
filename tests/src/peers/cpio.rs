//! An archive that a kernel unpacks as its first file system: cpio's `newc` form
//! (Documentation/driver-api/early-userspace/buffer-format.rst in the kernel's tree).

use std::io::{self, Write};

/// Bytes to whose multiples names and contents are filled up.
const ALIGNMENT: usize = 4;

/// File types of `st_mode`.
const TYPE_FILE: u32 = 0o100_000;
const TYPE_DIRECTORY: u32 = 0o040_000;

/// An archive that is being written.
#[derive(Debug)]
pub struct Archive<W> {
    writer: W,
    inode: u32,
}

impl<W: Write> Archive<W> {
    /// An empty one.
    pub fn new(writer: W) -> Self {
        Self { writer, inode: 0 }
    }

    /// Adds a folder, whose parents were added before.
    pub fn directory(&mut self, name: &str) -> io::Result<()> {
        self.entry(name, TYPE_DIRECTORY | 0o755, &[])
    }

    /// Adds an executable file.
    pub fn file(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        self.entry(name, TYPE_FILE | 0o755, content)
    }

    /// Ends the archive and gives the writer back.
    pub fn finish(mut self) -> io::Result<W> {
        self.entry("TRAILER!!!", 0, &[])?;
        self.writer.flush()?;
        Ok(self.writer)
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.inode += 1;
        let size = u32::try_from(content.len()).map_err(|_| io::Error::other(format!("{name} is over 4 GiB")))?;
        let name_size = name.len() as u32 + 1;
        // inode, mode, uid, gid, links, time, size, four device numbers, name's size with its zero, no checksum.
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        let header: String = fields.iter().map(|field| format!("{field:08x}")).collect();
        write!(self.writer, "070701{header}{name}\0")?;
        self.pad(6 + header.len() + name.len() + 1)?;
        self.writer.write_all(content)?;
        self.pad(content.len())
    }

    fn pad(&mut self, length: usize) -> io::Result<()> {
        self.writer.write_all(&[0; ALIGNMENT][..length.next_multiple_of(ALIGNMENT) - length])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_starts_at_a_multiple_of_four() {
        let mut archive = Archive::new(Vec::new());
        archive.directory("bin").unwrap();
        archive.file("bin/hello", b"hello").unwrap();
        let bytes = archive.finish().unwrap();
        let starts: Vec<usize> = (0..bytes.len() - 6).filter(|at| bytes[*at..].starts_with(b"070701")).collect();
        // 110 bytes of header, the name with its zero, the content, each filled up.
        assert_eq!(starts, [0, 116, 116 + 120 + 8]);
        assert_eq!(&bytes[116 + 120..116 + 125], b"hello");
        assert_eq!(&bytes[116 + 54..116 + 62], b"00000005");
        assert_eq!(bytes.len() % ALIGNMENT, 0);
    }
}
