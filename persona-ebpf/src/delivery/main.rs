//! A delivering node's program, at TC ingress of its underlay: packets of gateways come out of their tunnel and go to the
//! instance that the VNI names, with the service's address as destination. Its replies leave without us.
//!
//! It fails closed for what a gateway may have sent: an unknown gateway or instance is a counted drop. Everything else
//! passes untouched.
#![no_std]
#![no_main]

mod deliver;
mod maps;

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use persona_common::event::Hook;
use persona_ebpf::verdict::observed;

#[classifier]
pub fn deliver(context: TcContext) -> i32 {
    observed(&context, Hook::Deliver, deliver::run)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
