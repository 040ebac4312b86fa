//! Socket buffers whose driver has summed the whole packet (`CHECKSUM_COMPLETE`): the kernel itself judges after the run
//! whether that sum is still right (`BPF_F_TEST_SKB_CHECKSUM_COMPLETE`, newer than Linux 6.12; refused before).
#![expect(unsafe_code, reason = "aya's test run has no such flag, so the system call is made here")]

use std::os::fd::{AsFd, AsRawFd};

use aya::programs::SchedClassifier;

use super::frames::{Ip, ethernet, geneve};
use super::nat_frames::{fragment, icmp_error, with_options};
use super::nat_world::*;
use super::run::TC_REDIRECT;

const BPF_PROG_TEST_RUN: i64 = 10;
const SKB_CHECKSUM_COMPLETE: u32 = 4;

/// The part of `union bpf_attr` that a test run uses.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    program: u32,
    verdict: u32,
    in_length: u32,
    out_length: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_in_length: u32,
    context_out_length: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch: u32,
    padding: u32,
}

/// The verdict, or the error: `EBADMSG` if the sum is wrong, `EINVAL` if the kernel doesn't know the flag.
fn run_complete(nat: &Nat, program: &str, frame: &[u8]) -> Result<u32, i32> {
    let program: &SchedClassifier = nat.node.programs().program(program).unwrap().try_into().unwrap();
    let mut attributes = Attributes {
        program: program.fd().unwrap().as_fd().as_raw_fd() as u32,
        in_length: frame.len() as u32,
        data_in: frame.as_ptr() as u64,
        repeat: 1,
        flags: SKB_CHECKSUM_COMPLETE,
        ..Attributes::default()
    };
    let size = size_of::<Attributes>();
    // SAFETY: the attributes and the frame they point to live until the call returns.
    let result = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_TEST_RUN, &raw mut attributes, size) };
    if result == 0 { Ok(attributes.verdict) } else { Err(std::io::Error::last_os_error().raw_os_error().unwrap()) }
}

#[test]
fn a_complete_checksum_stays_right_through_every_change() {
    with_nat(&Wish::default(), |nat| {
        nat.udp_port(INNER_PORT, (SERVER, 9)).unwrap();
        nat.tcp_port(INNER_PORT, (SERVER, 9), SYN).unwrap();
        nat.out(&from_workload(1).icmp(8, INNER_PORT)).unwrap();
        let options = [7, 7, 4, 0, 0, 0, 0, 0];
        let odd_mss = [&[1u8][..], &mss(1460), &[1, 1, 1]].concat();
        let udp = from_workload(17).udp(INNER_PORT, 9, b"odd");
        let long = Ip { dont_fragment: false, ..from_workload(17) }.udp(INNER_PORT, 9, &[0x5a; 3000]);
        let got = delivered(17).udp(9, INNER_PORT, b"odd");
        let outward = [
            ("UDP", udp.clone()),
            ("UDP without a checksum", from_workload(17).udp_unsummed(INNER_PORT, 9, b"x")),
            ("UDP with options", with_options(&udp, &options)),
            ("SYN", from_workload(6).tcp(INNER_PORT, 9, SYN, &mss(1460), b"")),
            ("SYN with an odd MSS", from_workload(6).tcp(INNER_PORT, 9, SYN, &odd_mss, b"")),
            ("echo", from_workload(1).icmp(8, INNER_PORT)),
            ("error", icmp_error(from_workload(1), 3, 3, 0, &got)),
            ("first fragment", fragment(&long, 7, 0, 1200)),
            ("later fragment", fragment(&long, 7, 1200, 2400)),
        ];
        let sent = Ip::new(EGRESS, SERVER, 6).tcp(OUTER_PORT, 9, SYN, b"", b"");
        let long = Ip { dont_fragment: false, ..from_server(17) }.udp(9, OUTER_PORT, &[0x5a; 3000]);
        let inward = [
            ("UDP", from_server(17).udp(9, OUTER_PORT, b"odd")),
            ("UDP without a checksum", from_server(17).udp_unsummed(9, OUTER_PORT, b"x")),
            (
                "SYN-ACK with options",
                with_options(&from_server(6).tcp(9, OUTER_PORT, SYN | ACK, &odd_mss, b""), &options),
            ),
            ("echo", from_server(1).icmp(0, OUTER_PORT)),
            ("error", icmp_error(from_server(1), 3, 1, 0, &sent)),
            ("error about less", icmp_error(from_server(1), 3, 1, 0, &sent[..28])),
            ("first fragment", fragment(&long, 7, 0, 1200)),
            ("later fragment", fragment(&long, 7, 1200, 2400)),
        ];
        let tunnel = |packet: &Vec<u8>| geneve(EDGE, NODE, 50_000, VNI, packet);
        let cases = (outward.iter().map(|(what, packet)| ("from_workload", what, ethernet(0x0800, packet))))
            .chain(inward.iter().map(|(what, packet)| ("from_edge", what, ethernet(0x0800, &tunnel(packet)))));
        for (program, what, frame) in cases {
            match run_complete(nat, program, &frame) {
                Err(libc::EINVAL) => return eprintln!("SKIP: this kernel cannot judge complete checksums"),
                outcome => assert_eq!(outcome, Ok(TC_REDIRECT), "{program}: {what} (74: the sum is wrong)"),
            }
        }
    });
}
