//! Writes cpio archives of the kind that kernels unpack as their first file system ("newc").
//! Format: Documentation/driver-api/early-userspace/buffer-format.rst of the kernel.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

const DIRECTORY: u32 = 0o040_755;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_777;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// An archive being written. Folders above an entry are added by themselves.
pub(super) struct Archive {
    output: BufWriter<File>,
    entries: BTreeSet<String>,
}

impl Archive {
    /// Starts one.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { output: BufWriter::new(File::create(path)?), entries: BTreeSet::new() })
    }

    /// Adds a directory.
    pub(super) fn directory(&mut self, path: &str) -> io::Result<()> {
        self.add(path, DIRECTORY, (0, 0), &[])
    }

    /// Adds a file with these bytes; `mode` are its permissions.
    pub(super) fn file(&mut self, path: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
        self.add(path, REGULAR | mode, (0, 0), bytes)
    }

    /// Adds a file of the host; where it is a symbolic link, what it leads to.
    pub(super) fn copy(&mut self, path: &str, source: &Path) -> io::Result<()> {
        let mode = fs::metadata(source)?.permissions().mode() & 0o777;
        self.file(path, mode, &fs::read(source)?)
    }

    /// Adds a symbolic link.
    pub(super) fn symlink(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.add(path, SYMLINK, (0, 0), target.as_bytes())
    }

    /// Adds a character device.
    pub(super) fn device(&mut self, path: &str, number: (u32, u32)) -> io::Result<()> {
        self.add(path, CHARACTER_DEVICE, number, &[])
    }

    /// Adds all that lies under a folder of the host, under the same names below `path`.
    pub(super) fn tree(&mut self, path: &str, source: &Path) -> io::Result<()> {
        for entry in fs::read_dir(source)? {
            let entry = entry?;
            let inner = format!("{path}/{}", entry.file_name().to_string_lossy());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.tree(&inner, &entry.path())?;
            } else if kind.is_symlink() {
                self.symlink(&inner, &fs::read_link(entry.path())?.to_string_lossy())?;
            } else if kind.is_file() {
                self.copy(&inner, &entry.path())?;
            }
        }
        Ok(())
    }

    /// Ends it.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        self.output.flush()
    }

    fn add(&mut self, path: &str, mode: u32, device: (u32, u32), bytes: &[u8]) -> io::Result<()> {
        let path = path.trim_start_matches('/');
        for (at, _) in path.match_indices('/') {
            let folder = &path[..at];
            if self.entries.insert(folder.to_owned()) {
                self.entry(folder, DIRECTORY, (0, 0), &[])?;
            }
        }
        if self.entries.insert(path.to_owned()) { self.entry(path, mode, device, bytes) } else { Ok(()) }
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), bytes: &[u8]) -> io::Result<()> {
        let size = u32::try_from(bytes.len()).map_err(|_| io::Error::other(format!("{path} is larger than 4 GiB")))?;
        let name_size = path.len() as u32 + 1;
        // A number of its own per entry, or files would be taken for hard links of each other.
        let inode = self.entries.len() as u32;
        let fields = [inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0];
        let mut head = String::from("070701");
        for field in fields {
            head.push_str(&format!("{field:08x}"));
        }
        self.output.write_all(head.as_bytes())?;
        self.output.write_all(path.as_bytes())?;
        self.output.write_all(&ZEROS[..1 + padding(head.len() + path.len() + 1)])?;
        self.output.write_all(bytes)?;
        self.output.write_all(&ZEROS[..padding(bytes.len())])
    }
}

/// What tells whether a file changed since it was archived.
pub(super) fn fingerprint(path: &Path) -> io::Result<String> {
    let facts = fs::metadata(path)?;
    Ok(format!("{} {} {}.{}\n", path.display(), facts.size(), facts.mtime(), facts.mtime_nsec()))
}

const ZEROS: [u8; 4] = [0; 4];

fn padding(length: usize) -> usize {
    length.wrapping_neg() % 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_folders_come_first() {
        let folder = std::env::temp_dir().join(format!("persona-archive-{}", std::process::id()));
        let mut archive = Archive::create(&folder).unwrap();
        archive.file("/a/b", 0o644, b"text!").unwrap();
        archive.file("/a/c", 0o644, b"").unwrap();
        archive.finish().unwrap();
        let bytes = fs::read(&folder).unwrap();
        fs::remove_file(&folder).unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let heads: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b"070701")).collect();
        assert!(heads.iter().all(|at| at % 4 == 0), "{heads:?}");
        let names: Vec<&[u8]> =
            heads.iter().map(|at| bytes[at + 110..].split(|byte| *byte == 0).next().unwrap()).collect();
        assert_eq!(names, [&b"a"[..], b"a/b", b"a/c", b"TRAILER!!!"]);
    }

    #[test]
    fn padding_fills_to_four() {
        for (length, expected) in [(0, 0), (1, 3), (2, 2), (3, 1), (4, 0), (113, 3)] {
            assert_eq!(padding(length), expected, "{length}");
        }
    }
}
