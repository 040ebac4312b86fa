//! Atomic changes of words in maps. `core::sync::atomic` offers none on this target, so the instructions stand here;
//! they need the v3 instruction set.

use core::arch::asm;

/// Adds to a word, subtracts by adding the two's complement; gives back what stood there before.
#[inline(always)]
pub fn add(word: &mut u32, value: u32) -> u32 {
    let mut value = value;
    // SAFETY: one instruction on an aligned word that is borrowed.
    unsafe { asm!("{1} = atomic_fetch_add((u32 *)({0} + 0), {1})", in(reg) word, inlateout(wreg) value) }
    value
}

/// Adds to a long word.
///
/// # Safety
/// `word` points to an aligned long word in a map.
#[inline(always)]
pub unsafe fn add_long(word: *mut u64, value: u64) {
    // SAFETY: one instruction on the word that the caller vouches for.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) word, in(reg) value) }
}

/// Adds to a long word; gives back what stood there before.
///
/// # Safety
/// `word` points to an aligned long word in a map.
#[inline(always)]
pub unsafe fn fetch_add_long(word: *mut u64, value: u64) -> u64 {
    let mut value = value;
    // SAFETY: one instruction on the word that the caller vouches for.
    unsafe { asm!("{1} = atomic_fetch_add((u64 *)({0} + 0), {1})", in(reg) word, inlateout(reg) value) }
    value
}

/// Sets bits of a word; gives back what stood there before.
#[inline(always)]
pub fn set_bits(word: &mut u32, bits: u32) -> u32 {
    let mut bits = bits;
    // SAFETY: as above.
    unsafe { asm!("{1} = atomic_fetch_or((u32 *)({0} + 0), {1})", in(reg) word, inlateout(wreg) bits) }
    bits
}

/// Clears bits of a word; gives back what stood there before.
#[inline(always)]
pub fn clear_bits(word: &mut u32, bits: u32) -> u32 {
    let mut mask = !bits;
    // SAFETY: as above.
    unsafe { asm!("{1} = atomic_fetch_and((u32 *)({0} + 0), {1})", in(reg) word, inlateout(wreg) mask) }
    mask
}

/// Replaces a word if it is `from`.
#[inline(always)]
pub fn replace(word: &mut u32, from: u32, to: u32) {
    // SAFETY: as above.
    unsafe { asm!("w0 = cmpxchg32_32({0} + 0, w0, {1})", in(reg) word, in(wreg) to, inlateout("w0") from => _) }
}

/// Replaces a long word if it is `from`; says whether it was.
///
/// # Safety
/// `word` points to an aligned long word in a map.
#[inline(always)]
pub unsafe fn compare_exchange(word: *mut u64, from: u64, to: u64) -> bool {
    let found: u64;
    // SAFETY: one instruction on the word that the caller vouches for.
    unsafe { asm!("r0 = cmpxchg_64({0} + 0, r0, {1})", in(reg) word, in(reg) to, inlateout("r0") from => found) };
    found == from
}
