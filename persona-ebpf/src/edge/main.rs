//! An edge's programs: entry points only, each in a TC and an XDP flavour.
//!
//! They fail closed: what is not understood and concerns a tunnel or an egress address is a counted drop. Everything
//! else on the devices passes untouched.
#![no_std]
#![no_main]

mod inside;
mod maps;
mod outside;

use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use persona_common::drop::DropReason;
use persona_ebpf::count::count_drop;
use persona_ebpf::frame::Frame;

#[classifier]
pub fn edge_inside(context: TcContext) -> i32 {
    verdict::<TcContext>(inside::run(&context))
}

#[classifier]
pub fn edge_outside(context: TcContext) -> i32 {
    verdict::<TcContext>(outside::run(&context))
}

#[xdp]
pub fn xdp_inside(context: XdpContext) -> u32 {
    verdict::<XdpContext>(inside::run(&context)) as u32
}

#[xdp]
pub fn xdp_outside(context: XdpContext) -> u32 {
    verdict::<XdpContext>(outside::run(&context)) as u32
}

#[inline(always)]
fn verdict<F: Frame>(outcome: Result<i32, DropReason>) -> i32 {
    match outcome {
        Ok(verdict) => verdict,
        Err(reason) => {
            count_drop(reason);
            F::DROP
        }
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
