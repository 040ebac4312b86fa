//! A node's programs: entry points only.
//!
//! `from_workload` and `from_edge` fail closed: what concerns a workload or a tunnel and is not understood is a counted
//! drop. `guard` drops what is left over; local traffic passes it.
#![no_std]
#![no_main]
#![expect(
    clippy::needless_borrows_for_generic_args,
    reason = "helpers take keys and values by address: one given by value may be copied, and the stack has 512 bytes"
)]

mod allocate;
mod answer;
mod arrange;
mod bypass;
mod classify;
mod configured4;
mod deliver;
mod depart;
mod firewall;
mod fragment;
mod fragment6;
mod from_edge;
mod from_edge4;
mod from_edge6;
mod from_host;
mod from_workload;
mod from_workload4;
mod from_workload6;
mod guard;
mod handshake;
mod hints;
mod icmp_error;
mod impair;
mod leaving;
mod maps;
mod neighbours;
mod normalise;
mod ordinary;
mod ordinary_inward;
mod path;
mod read;
mod receive;
mod records;
mod resolve;
mod rewrite;
mod room;
mod share;
mod slow_path;
mod subject_counts;
mod tell;
mod to_workload;
mod towards;
mod track;
mod translate6;
mod vlan;

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use persona_common::event::Hook;
use persona_ebpf::atomic;
use persona_ebpf::verdict::{judged, observed};
use persona_ebpf::wire;

#[classifier]
pub fn from_workload(context: TcContext) -> i32 {
    observed(&context, Hook::FromWorkload, |frame| room::looked_after(frame, from_workload::run(frame)))
}

#[classifier]
pub fn from_host(context: TcContext) -> i32 {
    judged(&context, Hook::FromHost, |frame| room::looked_after(frame, from_host::run(frame)))
}

#[classifier]
pub fn to_workload(context: TcContext) -> i32 {
    judged(&context, Hook::ToWorkload, to_workload::run)
}

#[classifier]
pub fn from_edge(context: TcContext) -> i32 {
    observed(&context, Hook::FromEdge, |frame| {
        wire::open(frame)?;
        from_edge::run(frame)
    })
}

#[classifier]
pub fn guard(context: TcContext) -> i32 {
    judged(&context, Hook::Guard, guard::run)
}

#[classifier]
pub fn depart(context: TcContext) -> i32 {
    depart::run(&context)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
