//! The block devices on which rates are held: the host's disks, as control groups number them.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::error::LimitError;

/// Devices that are no disks: what is below them is limited by itself, or they are memory.
const NO_DISKS: [&str; 6] = ["loop", "ram", "zram", "sr", "fd", "nbd"];

/// Every whole disk below a folder like /sys/block, as `MAJOR:MINOR`.
pub(crate) fn disks(sys_block: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(sys_block).into_iter().flatten().filter_map(Result::ok);
    let is_disk = |name: &str| {
        !NO_DISKS
            .iter()
            .any(|prefix| name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())))
    };
    let disks = entries.filter(|entry| is_disk(&entry.file_name().to_string_lossy()));
    let number = |path: &Path| {
        let size = std::fs::read_to_string(path.join("size")).ok()?;
        let number = std::fs::read_to_string(path.join("dev")).ok()?;
        (size.trim() != "0").then(|| number.trim().to_owned())
    };
    let mut found: Vec<String> = disks.filter_map(|entry| number(&entry.path())).collect();
    found.sort();
    found
}

/// The number of a device that is given as `MAJOR:MINOR` or by its file.
pub(super) fn number_of(given: &str) -> Result<String, LimitError> {
    let is_number = given
        .split_once(':')
        .is_some_and(|(major, minor)| [major, minor].iter().all(|part| part.parse::<u32>().is_ok()));
    if is_number {
        return Ok(given.to_owned());
    }
    let no_device = |what: String| LimitError::NoInstance {
        what,
        advice: "write io_devices as files of whole disks such as /dev/vda, or as MAJOR:MINOR".to_owned(),
    };
    let metadata = std::fs::metadata(given).map_err(|error| no_device(format!("block device {given}: {error}")))?;
    if !metadata.file_type().is_block_device() {
        return Err(no_device(format!("{given} is no block device")));
    }
    Ok(format!("{}:{}", libc::major(metadata.rdev()), libc::minor(metadata.rdev())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_told_from_what_is_none() {
        let root = tempfile::tempdir().unwrap();
        for (name, number, size) in [
            ("vda", "254:0", "9"),
            ("loop0", "7:0", "9"),
            ("zram0", "253:0", "9"),
            ("sdb", "8:16", "0"),
            ("nvme0n1", "259:0", "1"),
        ] {
            let folder = root.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join("dev"), format!("{number}\n")).unwrap();
            std::fs::write(folder.join("size"), format!("{size}\n")).unwrap();
        }
        assert_eq!(disks(root.path()), ["254:0", "259:0"]);
        assert_eq!(number_of("8:16").unwrap(), "8:16");
        for bad in ["/dev/null", "/absent", "8:x"] {
            assert!(number_of(bad).unwrap_err().to_string().contains("MAJOR:MINOR"), "{bad}");
        }
    }
}
