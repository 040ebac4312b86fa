//! Network namespaces: found, opened, and sockets made inside them.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use persona_core::security::{sysctl_fault, sysctl_path, sysctl_value_fault};
use rustix::fs::{CWD, Mode, OFlags, fstatfs, openat};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::bounds::{Bounds, NAMED, Refused};
use super::verb::SocketKind;
use crate::netlink::{Netlink, run_inside};

/// `NSFS_MAGIC` (linux/magic.h).
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// Opens a namespace's file. The kernel says whether it is one.
pub(super) fn open(bounds: &Bounds, path: &Path) -> io::Result<OwnedFd> {
    bounds.require_namespace(path)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = openat(CWD, path, flags, Mode::empty())?;
    require_namespace(bounds, &file)?;
    Ok(file)
}

fn require_namespace(bounds: &Bounds, file: &OwnedFd) -> io::Result<()> {
    let is_one = fstatfs(file).is_ok_and(|facts| facts.f_type as u64 == NSFS_MAGIC);
    bounds.ensure(is_one, || "what was named or handed over is no namespace".to_owned())
}

/// The namespace that links of this one call by a number: its file, and where it was found.
pub(super) fn behind(bounds: &Bounds, id: i32, hint: Option<PathBuf>) -> io::Result<(PathBuf, OwnedFd)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let netlink = runtime.block_on(async { Netlink::open() }).map_err(io::Error::other)?;
    let mut seen = BTreeSet::new();
    for path in hint.into_iter().chain(candidates()) {
        let Ok(file) = open(bounds, &path).map(File::from) else { continue };
        let is_new = file.metadata().is_ok_and(|facts| seen.insert((facts.dev(), facts.ino())));
        if is_new && runtime.block_on(netlink.namespace_id(&file)).is_ok_and(|found| found == Some(id)) {
            return Ok((path, file.into()));
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

/// Every file that leads to a network namespace: the named ones first, then one per process.
fn candidates() -> impl Iterator<Item = PathBuf> {
    let entries = |directory: &str| std::fs::read_dir(directory).into_iter().flatten().flatten();
    let named = NAMED.into_iter().flat_map(entries).map(|entry| entry.path());
    let processes = entries("/proc")
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit())));
    named.chain(processes.map(|entry| entry.path().join("ns/net")))
}

/// A socket that belongs to a namespace for good.
pub(super) fn socket_inside(bounds: &Bounds, namespace: OwnedFd, kind: SocketKind) -> io::Result<OwnedFd> {
    require_namespace(bounds, &namespace)?;
    // No protocol is the first one: NETLINK_ROUTE, or TCP.
    let (family, socket_type) = match kind {
        SocketKind::Route => (AddressFamily::NETLINK, SocketType::RAW),
        SocketKind::Tcp4 => (AddressFamily::INET, SocketType::STREAM),
        SocketKind::Tcp6 => (AddressFamily::INET6, SocketType::STREAM),
    };
    let make = || socket_with(family, socket_type, SocketFlags::CLOEXEC, None);
    Ok(run_inside(&File::from(namespace), make)??)
}

/// Switches IPv6 on for an interface, where it is off.
pub(super) fn allow_ipv6(bounds: &Bounds, namespace: OwnedFd, interface: &str) -> io::Result<()> {
    require_namespace(bounds, &namespace)?;
    bounds.ensure(is_interface_name(interface), || format!("{interface:?} is no name of an interface"))?;
    let path = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
    run_inside(&File::from(namespace), || match std::fs::read_to_string(&path)?.trim() {
        "0" => Ok(()),
        _ => std::fs::write(&path, "0"),
    })?
}

/// Reads a parameter of `net` inside, and sets it first if a value is given. The host's own namespace is nobody's to change.
pub(super) fn net_parameter(
    bounds: &Bounds,
    namespace: OwnedFd,
    name: &str,
    value: Option<&str>,
) -> io::Result<String> {
    require_namespace(bounds, &namespace)?;
    let fault = sysctl_fault(name).or_else(|| value.and_then(sysctl_value_fault));
    let fault = fault.or_else(|| (!name.starts_with("net.")).then(|| format!("{name} is not of the network")));
    bounds.ensure(fault.is_none(), || fault.unwrap_or_default())?;
    let namespace = File::from(namespace);
    let (own, there) = (std::fs::metadata("/proc/self/ns/net")?, namespace.metadata()?);
    if (own.dev(), own.ino()) == (there.dev(), there.ino()) {
        return Err(Refused("these are the host's own parameters".to_owned()).into());
    }
    let path = Path::new("/proc/sys").join(sysctl_path(name));
    run_inside(&namespace, || {
        if let Some(value) = value {
            // The file must be there; one write is one value.
            File::options().write(true).open(&path)?.write_all(value.as_bytes())?;
        }
        std::fs::read_to_string(&path)
    })?
}

/// As `dev_valid_name` of the kernel has it; those that stand for all or for new ones are no interface.
fn is_interface_name(name: &str) -> bool {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':');
    (1..16).contains(&name.len()) && is_plain && ![".", "..", "all", "default"].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_interfaces_lead_nowhere_else() {
        assert!(is_interface_name("eth0") && is_interface_name("eth0.7"));
        for name in ["", ".", "..", "../lo", "a/b", "all", "default", "a b", "abcdefghijklmnop", "a\n"] {
            assert!(!is_interface_name(name), "{name:?}");
        }
    }

    #[test]
    fn what_is_no_namespace_is_refused_even_where_the_configuration_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("agent.toml");
        std::fs::write(&config, format!("[[workload]]\nname = 'w'\nnetns = {config:?}")).unwrap();
        let bounds = Bounds::Configured(config.clone());
        assert!(open(&bounds, &config).unwrap_err().to_string().contains("no namespace"));
        let error = open(&bounds, Path::new("/etc/passwd")).unwrap_err();
        assert!(error.to_string().contains("is not in"), "{error}");
        let file = || OwnedFd::from(File::open(&config).unwrap());
        assert!(socket_inside(&bounds, file(), SocketKind::Route).is_err());
        assert!(allow_ipv6(&bounds, file(), "lo").is_err());
    }
}
