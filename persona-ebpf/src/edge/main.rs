//! An edge's programs: entry points only, each in a TC and an XDP flavour.
//!
//! They fail closed: what is not understood and concerns a tunnel or an egress address is a counted drop. Everything
//! else on the devices passes untouched.
#![no_std]
#![no_main]

mod answer;
mod arrival;
mod fragments;
mod inside;
mod inward;
mod maps;
mod ordinary;
mod outside;
mod outward;
mod police;
mod read;
mod relay;
mod stage;

use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use persona_common::event::Hook;
use persona_ebpf::verdict::observed;
use persona_ebpf::wire;

#[classifier]
pub fn edge_inside(context: TcContext) -> i32 {
    observed(&context, Hook::EdgeInside, |frame| {
        wire::open(frame)?;
        inside::run(frame)
    })
}

#[classifier]
pub fn edge_outside(context: TcContext) -> i32 {
    observed(&context, Hook::EdgeOutside, outside::run)
}

#[xdp]
pub fn xdp_inside(context: XdpContext) -> u32 {
    observed(&context, Hook::EdgeInside, inside::run) as u32
}

#[xdp]
pub fn xdp_outside(context: XdpContext) -> u32 {
    observed(&context, Hook::EdgeOutside, outside::run) as u32
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
