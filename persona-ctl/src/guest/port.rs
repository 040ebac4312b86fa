//! The guest's end of a virtio-serial port: a device of bytes that reads as ended while nobody is connected on the host.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use tokio::net::unix::pipe::{Receiver, Sender};

/// Where udev makes links of the ports' names.
const NAMES: &str = "/dev/virtio-ports";

/// Where the kernel shows ports, each with its name.
const PORTS: &str = "/sys/class/virtio-ports";

/// Opens a port for both directions. Only one process may have it open.
pub(super) fn open(path: &Path) -> io::Result<(Receiver, Sender)> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let port = File::options().read(true).write(true).custom_flags(flags).open(device_of(path, Path::new(PORTS)))?;
    // Like a pipe's end it can be waited for; that it is none changes nothing.
    Ok((Receiver::from_file_unchecked(port.try_clone()?)?, Sender::from_file_unchecked(port)?))
}

/// The device of a port; where nobody has made a link of its name, the kernel says which has it.
fn device_of(path: &Path, ports: &Path) -> PathBuf {
    let name = path.strip_prefix(NAMES).ok().filter(|_| !path.exists());
    let Some(name) = name.and_then(Path::to_str) else { return path.to_owned() };
    let entries = std::fs::read_dir(ports).into_iter().flatten().filter_map(Result::ok);
    let mut named = entries
        .filter(|entry| std::fs::read_to_string(entry.path().join("name")).is_ok_and(|text| text.trim() == name));
    named.next().map_or_else(|| path.to_owned(), |entry| Path::new("/dev").join(entry.file_name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_found_by_its_name_where_there_is_no_udev() {
        let ports = tempfile::tempdir().unwrap();
        for (device, name) in [("vport1p1", "org.qemu.guest_agent.0"), ("vport2p1", "persona.0")] {
            std::fs::create_dir(ports.path().join(device)).unwrap();
            std::fs::write(ports.path().join(device).join("name"), format!("{name}\n")).unwrap();
        }
        for (path, expected) in [
            ("/dev/virtio-ports/persona.0", "/dev/vport2p1"),
            ("/dev/virtio-ports/other.0", "/dev/virtio-ports/other.0"),
            ("/dev/vport9p9", "/dev/vport9p9"),
        ] {
            assert_eq!(device_of(Path::new(path), ports.path()), Path::new(expected));
        }
    }
}
