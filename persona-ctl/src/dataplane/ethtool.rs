//! What a device of this thread's network namespace says of itself, and its offloads by name, through the ethtool ioctl
//! (include/uapi/linux/ethtool.h).
#![expect(unsafe_code, reason = "ioctl has no safe form in std")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// `SIOCETHTOOL`.
const SIOCETHTOOL: libc::c_ulong = 0x8946;
/// `ETHTOOL_GSET`, `ETHTOOL_GDRVINFO`.
const GET_SETTINGS: u32 = 0x01;
const GET_DRIVER: u32 = 0x03;
/// `ETHTOOL_GSTRINGS`, `ETHTOOL_GSSET_INFO`, `ETHTOOL_GFEATURES`, `ETHTOOL_SFEATURES`.
const GET_STRINGS: u32 = 0x1b;
const GET_SET_INFO: u32 = 0x37;
const GET_FEATURES: u32 = 0x3a;
const SET_FEATURES: u32 = 0x3b;
/// `ETH_SS_FEATURES`.
const STRINGS_OF_FEATURES: u32 = 4;
/// `ETH_GSTRING_LEN`.
const NAME_BYTES: usize = 32;
/// More features than this no kernel has: a bound for what is allocated by its word.
const FEATURE_COUNT_MAX: u32 = 1_024;

/// The driver of a device.
pub(super) fn driver(interface: &str) -> io::Result<String> {
    // `struct ethtool_drvinfo`: the command, then names of 32 bytes, the driver's first.
    let mut info = [0_u32; 49];
    info[0] = GET_DRIVER;
    Device::open(interface)?.ask(&mut info)?;
    let bytes: Vec<u8> = info[1..9].iter().flat_map(|word| word.to_ne_bytes()).collect();
    let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(name).into_owned())
}

/// What a device carries, bits per second. None: it does not say; virtual ones don't, or say what no packet notices.
pub fn link_rate(interface: &str) -> io::Result<Option<u64>> {
    // `struct ethtool_cmd`: halves of the speed in Mbit/s begin the words 3 and 7.
    let mut settings = [0_u32; 11];
    settings[0] = GET_SETTINGS;
    Device::open(interface)?.ask(&mut settings)?;
    let half = |word: u32| {
        let [low, high, ..] = word.to_ne_bytes();
        u16::from_ne_bytes([low, high])
    };
    Ok(bits_per_sec(half(settings[3]), half(settings[7])))
}

fn bits_per_sec(low: u16, high: u16) -> Option<u64> {
    match u32::from(high) << 16 | u32::from(low) {
        0 | u32::MAX => None,
        mbit => Some(u64::from(mbit) * 1_000_000),
    }
}

/// Whether an offload is on. None: this kernel has none of that name.
pub(super) fn feature(interface: &str, name: &str) -> io::Result<Option<bool>> {
    let device = Device::open(interface)?;
    let Some((index, count)) = device.find(name)? else { return Ok(None) };
    // Of each 32 features: available, requested, active, never changed.
    let blocks = count.div_ceil(32);
    let mut request = vec![0_u32; 2 + 4 * blocks as usize];
    (request[0], request[1]) = (GET_FEATURES, blocks);
    device.ask(&mut request)?;
    let active = request[2 + 4 * (index / 32) as usize + 2];
    Ok(Some(active >> (index % 32) & 1 == 1))
}

/// Switches an offload on or off.
pub(super) fn set_feature(interface: &str, name: &str, is_on: bool) -> io::Result<()> {
    let device = Device::open(interface)?;
    let (index, count) = device.find(name)?.ok_or(io::ErrorKind::Unsupported)?;
    // Of each 32 features: which are meant, and what they shall be.
    let blocks = count.div_ceil(32);
    let mut request = vec![0_u32; 2 + 2 * blocks as usize];
    (request[0], request[1]) = (SET_FEATURES, blocks);
    let at = 2 + 2 * (index / 32) as usize;
    request[at] = 1 << (index % 32);
    request[at + 1] = u32::from(is_on) << (index % 32);
    device.ask(&mut request)
}

struct Device {
    socket: OwnedFd,
    name: [libc::c_char; libc::IFNAMSIZ],
}

impl Device {
    fn open(interface: &str) -> io::Result<Self> {
        let mut name = [0; libc::IFNAMSIZ];
        for (to, from) in name.iter_mut().zip(interface.bytes().take(libc::IFNAMSIZ - 1)) {
            *to = from as libc::c_char;
        }
        // SAFETY: no pointers.
        let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given this descriptor to nobody else.
        Ok(Self { socket: unsafe { OwnedFd::from_raw_fd(socket) }, name })
    }

    /// A feature's number, and how many there are.
    fn find(&self, name: &str) -> io::Result<Option<(u32, u32)>> {
        // Command, reserved, a mask of 64 bits, a count per bit of the mask.
        let mut info = [GET_SET_INFO, 0, 1 << STRINGS_OF_FEATURES, 0, 0];
        self.ask(&mut info)?;
        let count = info[4].min(FEATURE_COUNT_MAX);
        let mut request = vec![0_u32; 3 + count as usize * NAME_BYTES / 4];
        request[..3].copy_from_slice(&[GET_STRINGS, STRINGS_OF_FEATURES, count]);
        self.ask(&mut request)?;
        let bytes: Vec<u8> = request[3..].iter().flat_map(|word| word.to_ne_bytes()).collect();
        let is_it = |text: &[u8]| text.split(|byte| *byte == 0).next() == Some(name.as_bytes());
        Ok(bytes.chunks(NAME_BYTES).position(is_it).map(|index| (index as u32, count)))
    }

    /// Sends a request, which starts with its command, and takes the answer in its place.
    fn ask(&self, request: &mut [u32]) -> io::Result<()> {
        // SAFETY: all-zero bytes are a valid `ifreq`.
        let mut ifreq: libc::ifreq = unsafe { std::mem::zeroed() };
        ifreq.ifr_name = self.name;
        ifreq.ifr_ifru.ifru_data = request.as_mut_ptr().cast();
        // SAFETY: the request's own words say how much the kernel writes, and its makers above give it that much room.
        match unsafe { libc::ioctl(self.socket.as_raw_fd(), SIOCETHTOOL as _, &mut ifreq) } {
            result if result < 0 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_has_two_halves_and_may_be_unknown() {
        for (low, high, expected) in [
            (10_000, 0, Some(10_000_000_000)),
            (0x86a0, 1, Some(100_000_000_000)),
            (0, 0, None),
            (0xffff, 0xffff, None),
        ] {
            assert_eq!(bits_per_sec(low, high), expected);
        }
    }

    #[test]
    fn a_device_that_is_not_there_is_an_error() {
        assert!(link_rate("no-such-device").is_err());
        assert!(driver("no-such-device").is_err());
    }
}
