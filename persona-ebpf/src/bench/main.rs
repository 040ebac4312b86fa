//! What the benchmark needs in the kernel: programs that make the next packet of a plan and hand it to the program that is
//! measured, or to the kernel, and targets that do nothing.
//!
//! A program that is measured changes the frame, and BPF_PROG_TEST_RUN runs again on what it left. So each run begins here:
//! length and headers are made anew, then a tail call goes on. The same with a target that does nothing is the harness.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

use core::arch::asm;

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS};
use aya_ebpf::helpers::{bpf_redirect, bpf_xdp_adjust_head};
use aya_ebpf::macros::{classifier, map, xdp};
use aya_ebpf::maps::{Array, PerCpuArray, ProgramArray};
use aya_ebpf::programs::{TcContext, XdpContext};
use persona_common::ENCAPSULATION_LENGTH_V4;
use persona_common::bench::{Flow, Headers, INNER_AT_BARE, INNER_AT_GENEVE, INNER_AT_VXLAN, PLAN_FLOW_COUNT_MAX, Plan};

/// What is measured; empty: the kernel gets the packets.
#[map]
static TARGET: ProgramArray = ProgramArray::with_max_entries(1, 0);
#[map]
static PLAN: Array<Plan> = Array::with_max_entries(1, 0);
#[map]
static HEADERS: Array<Headers> = Array::with_max_entries(1, 0);
#[map]
static FLOWS: Array<Flow> = Array::with_max_entries(PLAN_FLOW_COUNT_MAX, 0);
/// Packets made so far.
#[map]
static CURSOR: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Makes a bare packet: Ethernet, IPv4, UDP.
#[xdp]
pub fn feed_bare(context: XdpContext) -> u32 {
    go_on(&context, make::<6>(&context, INNER_AT_BARE))
}

/// Makes the same packet in Geneve.
#[xdp]
pub fn feed_geneve(context: XdpContext) -> u32 {
    go_on(&context, make::<10>(&context, INNER_AT_GENEVE))
}

/// Makes the same packet in VXLAN.
#[xdp]
pub fn feed_vxlan(context: XdpContext) -> u32 {
    go_on(&context, make::<12>(&context, INNER_AT_VXLAN))
}

/// The target that does nothing.
#[xdp]
pub fn drop_frame(_: XdpContext) -> u32 {
    XDP_DROP
}

/// The least that any program does which puts 36 bytes in front of a packet and sends it on: it has the kernel move the head
/// and note where the packet goes.
#[xdp]
pub fn put_on(context: XdpContext) -> u32 {
    move_head(&context, -(ENCAPSULATION_LENGTH_V4 as i32))
}

/// The same of one that takes them away.
#[xdp]
pub fn take_off(context: XdpContext) -> u32 {
    move_head(&context, ENCAPSULATION_LENGTH_V4 as i32)
}

/// The loopback device.
const LOOPBACK: u32 = 1;

#[inline(always)]
fn move_head(context: &XdpContext, by: i32) -> u32 {
    // SAFETY: the helpers check all themselves.
    unsafe {
        if bpf_xdp_adjust_head(context.ctx, by) != 0 {
            return XDP_ABORTED;
        }
        bpf_redirect(LOOPBACK, 0) as u32
    }
}

/// The target that does nothing, at TC.
#[classifier]
pub fn drop_packet(_: TcContext) -> i32 {
    2
}

#[inline(always)]
fn go_on(context: &XdpContext, made: Option<()>) -> u32 {
    if made.is_none() {
        return XDP_ABORTED;
    }
    // SAFETY: nothing here waits to be dropped.
    unsafe { TARGET.tail_call(context, 0) };
    XDP_PASS
}

/// Writes so many long words of headers, all up to UDP's, and the flow's own fields into them.
#[inline(always)]
fn make<const WORD_COUNT: usize>(context: &XdpContext, inner_at: usize) -> Option<()> {
    let plan = PLAN.get(0)?;
    let cursor = CURSOR.get_ptr_mut(0)?;
    // SAFETY: a cell of this CPU.
    let number = unsafe { *cursor };
    let flow = FLOWS.get(number as u32 & plan.flow_mask)?;
    let headers = HEADERS.get(0)?;
    let surplus = whole(context.data_end() - context.data()) as i32 - plan.length as i32;
    // SAFETY: the helper checks the room itself.
    if unsafe { bpf_xdp_adjust_head(context.ctx, surplus) } != 0 {
        return None;
    }
    let start = context.data();
    if start + WORD_COUNT * 8 > context.data_end() {
        return None;
    }
    // SAFETY: in bounds by the check above; the machine takes stores at any address.
    unsafe {
        let words = start as *mut u64;
        let mut index = 0;
        while index < WORD_COUNT {
            *words.add(index) = headers.words[index];
            index += 1;
        }
        let put = |at: usize, value: u32| *((start + at) as *mut u32) = value;
        let put_half = |at: usize, value: u16| *((start + at) as *mut u16) = value;
        if inner_at != INNER_AT_BARE {
            put_half(14 + 10, flow.outer_checksum);
            put(14 + 12, flow.outer_source);
            put(14 + 32, flow.vni_word);
        }
        put_half(inner_at + 10, flow.ip_checksum);
        put(inner_at + 12, flow.source);
        put(inner_at + 16, flow.destination);
        put(inner_at + 20, flow.ports);
        put_half(inner_at + 26, flow.udp_checksum);
        count(cursor);
    }
    Some(())
}

/// The same number, which the compiler must compute whole: half of the difference of two pointers the verifier refuses. Not
/// the library's function: with the library come its maps, which are pinned.
#[inline(always)]
fn whole(number: usize) -> usize {
    let copy;
    // SAFETY: one move between registers.
    unsafe { asm!("{0} = {1}", lateout(reg) copy, in(reg) number, options(pure, nomem, nostack, preserves_flags)) };
    copy
}

/// Counts a packet, atomically: that waits until what was written is in the cache, as what a network card wrote would be.
/// Else the target's first loads would wait for stores of the harness, and be charged for it.
///
/// # Safety
/// `cursor` points to an aligned long word in a map.
#[inline(always)]
unsafe fn count(cursor: *mut u64) {
    // SAFETY: one instruction on the word that the caller vouches for.
    unsafe { asm!("{1} = atomic_fetch_add((u64 *)({0} + 0), {1})", in(reg) cursor, inlateout(reg) 1u64 => _) }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
