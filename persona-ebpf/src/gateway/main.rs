//! A gateway's programs: entry points only, in a TC and an XDP flavour, for every device of the gateway.
//!
//! Packets to a service go to an instance of it, and replies of instances that are reached by address translation go back
//! to their clients. They fail closed for both: what isn't understood is a counted drop. Everything else passes untouched.
#![no_std]
#![no_main]

mod announce;
mod answer;
mod choose;
mod classify;
mod icmp_error4;
mod icmp_error6;
mod maps;
mod read;
mod rewrite;
mod run;
mod stage;
mod to_client;
mod to_instance;
mod visit;

use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use persona_common::event::Hook;
use persona_ebpf::verdict::observed;

#[classifier]
pub fn gateway(context: TcContext) -> i32 {
    observed(&context, Hook::Gateway, run::run)
}

#[xdp]
pub fn xdp_gateway(context: XdpContext) -> u32 {
    observed(&context, Hook::Gateway, run::run) as u32
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
