//! A device of this process (Linux Documentation/networking/tuntap.rst) that vanishes with its descriptor: a TAP for the slow
//! path, a TUN for the encrypted tunnel.
//!
//! It has no addresses, asks nobody for any, and answers nothing; whatever a program redirects to it is read here.
#![expect(unsafe_code, reason = "TUNSETIFF and interface ioctls have no safe form in the standard library")]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

/// The kernel refuses more (`MAX_MTU - ETH_HLEN` in drivers/net/tun.c).
const MTU: i32 = 65_521;

/// A TAP or TUN device of this process.
#[derive(Debug)]
pub(crate) struct Tap {
    file: File,
    ifindex: u32,
}

impl Tap {
    /// Makes the device in this thread's network namespace, up and silent.
    pub(super) fn create(name: &str) -> io::Result<Self> {
        Self::make(name, libc::IFF_TAP, MTU)
    }

    /// The same without Ethernet headers, for whole IP packets, and down: nothing comes in before [`bring_up`].
    pub(crate) fn create_layer3(name: &str, mtu: u32) -> io::Result<Self> {
        Self::make(name, libc::IFF_TUN, i32::try_from(mtu).unwrap_or(MTU))
    }

    fn make(name: &str, kind: libc::c_int, mtu: i32) -> io::Result<Self> {
        let mut options = File::options();
        let flags = libc::O_NONBLOCK | libc::O_CLOEXEC;
        let file = options.read(true).write(true).custom_flags(flags).open("/dev/net/tun")?;
        let mut request = request(name)?;
        request.ifr_ifru.ifru_flags = (kind | libc::IFF_NO_PI) as libc::c_short;
        // SAFETY: an open descriptor, and a request that lives through the call.
        check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) })?;
        be_silent(name);
        if kind == libc::IFF_TUN {
            be_lenient(name);
        }
        let control = control_socket()?;
        ioctl(&control, libc::SIOCSIFMTU, &mut with(name, |fields| fields.ifru_mtu = mtu)?)?;
        if kind == libc::IFF_TAP {
            set_up(&control, name)?;
        }
        let mut answer = with(name, |_| {})?;
        ioctl(&control, libc::SIOCGIFINDEX, &mut answer)?;
        // SAFETY: the kernel has just filled in this field of the union.
        let ifindex = unsafe { answer.ifr_ifru.ifru_ifindex };
        Ok(Self { file, ifindex: u32::try_from(ifindex).map_err(io::Error::other)? })
    }

    /// Its interface index.
    pub(crate) fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Takes one waiting frame.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(buffer)
    }

    /// Lets a frame come in by the device.
    pub(crate) fn send(&self, frame: &[u8]) -> io::Result<()> {
        (&self.file).write(frame).map(drop)
    }

    /// For waiting.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Brings a device of this thread's network namespace up.
pub(crate) fn bring_up(name: &str) -> io::Result<()> {
    set_up(&control_socket()?, name)
}

fn set_up(control: &OwnedFd, name: &str) -> io::Result<()> {
    let flags = (libc::IFF_UP | libc::IFF_NOARP) as libc::c_short;
    ioctl(control, libc::SIOCSIFFLAGS, &mut with(name, |fields| fields.ifru_flags = flags)?)
}

/// Without this the kernel would send router solicitations and MLD reports out of the device as soon as it is up. A
/// kernel without IPv6 has no such file and nothing to be silenced.
fn be_silent(name: &str) {
    let path = format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6");
    if let Err(error) = std::fs::write(&path, "1")
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::info!(path, %error, "the slow path's device keeps IPv6; what it says itself is counted as malformed");
    }
}

/// What comes out of the device comes from where no route leads: a strict filter would drop it before any program sees it.
fn be_lenient(name: &str) {
    let path = format!("/proc/sys/net/ipv4/conf/{name}/rp_filter");
    if let Err(error) = std::fs::write(&path, "0") {
        tracing::info!(path, %error, "the device keeps its filter of sources");
    }
}

fn request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: all-zero bytes are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "name of a device is longer than 15 bytes"));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

fn with(name: &str, fill: impl FnOnce(&mut libc::__c_anonymous_ifr_ifru)) -> io::Result<libc::ifreq> {
    let mut request = request(name)?;
    fill(&mut request.ifr_ifru);
    Ok(request)
}

fn control_socket() -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    check(fd)?;
    // SAFETY: the kernel has just given this descriptor to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn ioctl(control: &OwnedFd, code: libc::c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: an open descriptor, and a request of the type that these codes take, which lives through the call.
    check(unsafe { libc::ioctl(control.as_raw_fd(), code as _, &raw mut *request) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
