//! The few system calls that std has no words for: entering a network namespace, signals by process id, a few socket
//! options, raw sockets, and a thread's place and time.
#![expect(unsafe_code, reason = "setns, kill, socket options, raw sockets and affinity have no safe form in std")]

use std::fs::File;
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

/// Bytes of receive buffer for sockets whose losses are counted: 64 MiB holds minutes of our test traffic.
const RECEIVE_BUFFER_BYTES: libc::c_int = 64 << 20;

/// A signal to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM.
    Terminate,
    /// SIGKILL.
    Kill,
    /// SIGSTOP.
    Stop,
    /// SIGCONT.
    Continue,
}

/// Moves the calling thread into a network namespace.
pub fn enter_network_namespace(namespace: &File) -> io::Result<()> {
    // SAFETY: setns takes two integers; the descriptor is open for as long as `namespace` lives.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) })
}

/// A socket for ICMP echoes, as `ping` has it: the kernel sets their id and checksum, and gives back the answers.
pub fn ping_socket() -> io::Result<UdpSocket> {
    // SAFETY: socket takes three integers.
    let descriptor = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, libc::IPPROTO_ICMP) };
    check(descriptor.min(0))?;
    // SAFETY: open, and nobody else's; sends and receives like a socket of UDP.
    Ok(unsafe { UdpSocket::from_raw_fd(descriptor) })
}

/// Keeps the calling thread on one processor.
pub fn pin_to_cpu(cpu: usize) -> io::Result<()> {
    // SAFETY: a plain set of bits, for which zeros are valid; `CPU_SET` checks its bound.
    let set = unsafe {
        let mut set = std::mem::zeroed::<libc::cpu_set_t>();
        libc::CPU_SET(cpu, &mut set);
        set
    };
    // SAFETY: the set outlives the call and its size is given; 0 is the calling thread.
    check(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) })
}

/// The processor time that the calling thread has used.
pub fn thread_time() -> io::Result<Duration> {
    clock_time(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// The monotonic clock, which all processes of a machine share.
pub fn monotonic_time() -> io::Result<Duration> {
    clock_time(libc::CLOCK_MONOTONIC)
}

/// The coarse monotonic clock, as `bpf_ktime_get_coarse_ns` gives it.
pub fn coarse_time() -> io::Result<Duration> {
    clock_time(libc::CLOCK_MONOTONIC_COARSE)
}

fn clock_time(clock: libc::clockid_t) -> io::Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure outlives the call, which fills it.
    check(unsafe { libc::clock_gettime(clock, &raw mut time) })?;
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// Makes a command start in a network namespace and in a process group of its own, so that Ctrl-C on the terminal
/// reaches only whoever cleans up.
pub fn start_in_network_namespace(command: &mut Command, namespace: File) {
    let enter = move || enter_network_namespace(&namespace);
    // SAFETY: between fork and exec the closure only calls setns, which is async-signal-safe; it allocates nothing.
    unsafe { command.pre_exec(enter) };
    command.process_group(0);
}

/// Sends a signal to one process.
pub fn kill(pid: u32, signal: Signal) -> io::Result<()> {
    let number = match signal {
        Signal::Terminate => libc::SIGTERM,
        Signal::Kill => libc::SIGKILL,
        Signal::Stop => libc::SIGSTOP,
        Signal::Continue => libc::SIGCONT,
    };
    // SAFETY: kill takes two integers. The pid is positive, so exactly one process is meant.
    check(unsafe { libc::kill(pid as libc::pid_t, number) })
}

/// Gives a socket a receive buffer that a pause of this process does not overflow. Needs CAP_NET_ADMIN.
pub fn enlarge_receive_buffer(socket: &UdpSocket) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
}

/// Bounds what may be under way to a TCP socket: at most twice as many bytes, for the kernel doubles them (socket(7)).
pub fn limit_receive_buffer(socket: &std::net::TcpStream, bytes: u16) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, bytes.into())
}

/// What a UDP sender does about datagrams larger than the path carries (ip(7), ipv6(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathMtu {
    /// Nothing: IPv4 packets leave without DF, whoever is in the way may cut them.
    Ignored,
    /// Packets are never cut; a datagram that is known to be too large is refused with EMSGSIZE.
    Required,
}

/// Says what a UDP socket of this family does about the path's MTU.
pub fn set_path_mtu(socket: &UdpSocket, path_mtu: PathMtu) -> io::Result<()> {
    let (level, name) = match socket.local_addr()?.is_ipv4() {
        true => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
        false => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER),
    };
    // The values are the same in both families.
    let value = match path_mtu {
        PathMtu::Ignored => libc::IP_PMTUDISC_DONT,
        PathMtu::Required => libc::IP_PMTUDISC_DO,
    };
    set_option(socket, level, name, value)
}

/// The MTU that the kernel knows of a connected socket's path, bytes.
pub fn path_mtu_of(socket: &UdpSocket) -> io::Result<u32> {
    let (level, name) = match socket.local_addr()?.is_ipv4() {
        true => (libc::IPPROTO_IP, libc::IP_MTU),
        false => (libc::IPPROTO_IPV6, libc::IPV6_MTU),
    };
    let (mut value, mut length): (libc::c_int, _) = (0, size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: the pointers describe `value` and its length, which outlive the call.
    check(unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut length) })?;
    Ok(value as u32)
}

/// Gives what leaves a socket a mark, by which rules can choose its route. Needs CAP_NET_ADMIN.
pub fn mark(socket: &impl AsRawFd, mark: libc::c_int) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_MARK, mark)
}

fn set_option(socket: &impl AsRawFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the pointer and the length describe `value`, which outlives the call.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length) })
}

/// A socket on which ICMP messages come with their IP header, and go without one. Needs CAP_NET_RAW. Ports mean nothing on it.
pub fn echo_socket() -> io::Result<UdpSocket> {
    // SAFETY: socket takes three integers.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_ICMP) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just made and that nobody else has.
    Ok(UdpSocket::from(unsafe { OwnedFd::from_raw_fd(socket) }))
}

/// A raw socket that sends whole IP packets, header included. Needs CAP_NET_RAW.
#[derive(Debug)]
pub struct RawSocket(OwnedFd);

impl RawSocket {
    /// Opens one for packets of the family of `like`, in the calling thread's namespace.
    pub fn open(like: IpAddr) -> io::Result<Self> {
        let family = if like.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        // SAFETY: socket takes three integers.
        let socket = unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_RAW) };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor that was just made and that nobody else has.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(socket) }))
    }

    /// Sends a packet to where its header says.
    pub fn send(&self, packet: &[u8], destination: IpAddr) -> io::Result<()> {
        // SAFETY: plain structures of integers, for which zeros are valid.
        let (mut v4, mut v6) =
            unsafe { (std::mem::zeroed::<libc::sockaddr_in>(), std::mem::zeroed::<libc::sockaddr_in6>()) };
        let (address, length) = match destination {
            IpAddr::V4(address) => {
                v4.sin_family = libc::AF_INET as u16;
                v4.sin_addr.s_addr = u32::from(address).to_be();
                ((&raw const v4).cast(), size_of_val(&v4))
            }
            IpAddr::V6(address) => {
                v6.sin6_family = libc::AF_INET6 as u16;
                v6.sin6_addr.s6_addr = address.octets();
                ((&raw const v6).cast(), size_of_val(&v6))
            }
        };
        let (bytes, fd) = (packet.as_ptr().cast(), self.0.as_raw_fd());
        // SAFETY: packet and address live through the call, with their lengths.
        let sent = unsafe { libc::sendto(fd, bytes, packet.len(), 0, address, length as libc::socklen_t) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Puts a whole Ethernet frame on a device of the calling thread's namespace. Needs CAP_NET_RAW.
pub fn send_frame(ifindex: u32, frame: &[u8]) -> io::Result<()> {
    // SAFETY: socket takes three integers.
    let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    check(socket.min(0))?;
    // SAFETY: a descriptor that was just made and that nobody else has.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: a plain structure of integers, for which zeros are valid.
    let mut address = unsafe { std::mem::zeroed::<libc::sockaddr_ll>() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_ifindex = ifindex as libc::c_int;
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: frame and address live through the call, with their lengths.
    let sent = unsafe {
        libc::sendto(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0, (&raw const address).cast(), length)
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

impl AsRawFd for RawSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Has a TCP socket answer losses as this algorithm does (tcp(7)).
pub fn set_congestion_control(socket: &std::net::TcpStream, name: &str) -> io::Result<()> {
    // SAFETY: the pointer and the length describe the name, which outlives the call.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_CONGESTION,
            name.as_ptr().cast(),
            name.len() as libc::socklen_t,
        )
    })
}

/// How many segments a TCP socket has sent again.
pub fn retransmit_count(socket: &std::net::TcpStream) -> io::Result<u32> {
    Ok(tcp_info(socket)?.tcpi_total_retrans)
}

/// Payload bytes of the segments that a TCP socket sends.
pub fn segment_bytes(socket: &std::net::TcpStream) -> io::Result<u32> {
    Ok(tcp_info(socket)?.tcpi_snd_mss)
}

fn tcp_info(socket: &std::net::TcpStream) -> io::Result<libc::tcp_info> {
    // SAFETY: integers, for which zeros are valid.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of_val(&info) as libc::socklen_t;
    let value = (&raw mut info).cast();
    // SAFETY: the pointers describe `info` and its length, which outlive the call.
    check(unsafe { libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, value, &raw mut length) })?;
    Ok(info)
}

/// Sends datagrams of a size each in one call, which the kernel keeps together for as long as devices let it
/// (UDP_SEGMENT, udp(7)).
pub fn send_batch(socket: &UdpSocket, datagram_bytes: u16, bytes: &[u8], to: std::net::SocketAddr) -> io::Result<()> {
    let size = libc::c_int::from(datagram_bytes);
    // SAFETY: the pointer and the length describe `size`, which outlives the call.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            (&raw const size).cast(),
            size_of_val(&size) as libc::socklen_t,
        )
    })?;
    socket.send_to(bytes, to).map(drop)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
