//! A sink that both sides share: a TAP device that nobody reads. Its short queue fills up, and from then on it frees what
//! it is given; what stands in the queue shows that the right packets came.
#![expect(unsafe_code, reason = "TUNSETIFF has no safe form in std")]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

const TUNSETIFF: libc::c_ulong = 0x4004_54ca;

/// Frames are shorter.
const FRAME_LENGTH_MAX: usize = 2048;

/// The device; gone when this is.
#[derive(Debug)]
pub struct Sink(File);

impl Sink {
    /// Makes it in the network namespace of the calling thread.
    pub fn create(name: &str) -> io::Result<Self> {
        let file = File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
        // SAFETY: a plain structure of bytes and integers, for which zeros are valid.
        let mut request = unsafe { std::mem::zeroed::<libc::ifreq>() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
        // SAFETY: the request outlives the call, which copies it.
        if unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, &raw mut request) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self(file))
    }

    /// Takes the frames out that stand in the queue.
    pub fn frames(&mut self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut buffer = [0; FRAME_LENGTH_MAX];
        // An empty queue is an error that says so.
        while let Ok(length) = self.0.read(&mut buffer) {
            frames.push(buffer[..length].to_vec());
        }
        frames
    }
}
