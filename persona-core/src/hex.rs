//! Bytes as hex digits, which digests are written in.

use std::fmt::{self, Write};

/// Bytes as lower-case hex digits.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    write(&mut text, bytes).expect("a string takes any text");
    text
}

/// Writes bytes as lower-case hex digits.
pub(crate) fn write(to: &mut impl Write, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(to, "{byte:02x}"))
}

/// The 32 bytes that 64 hex digits stand for, in upper or lower case. None: the text is something else.
pub fn decode_32(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text.chars().map(|it| it.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    bytes.try_into().ok().filter(|_| digits.len() == 64)
}
