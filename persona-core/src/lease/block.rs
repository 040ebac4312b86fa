//! Port blocks: a power of two of neighbouring ports, told by a number.

/// The first port that may be leased.
pub const PORT_FIRST: u16 = 1024;

/// The first block that holds no port below 1,024.
pub fn first_block(block_bits: u8) -> u32 {
    u32::from(PORT_FIRST).div_ceil(1 << block_bits)
}

/// How many whole blocks hold at least `ports` ports.
pub fn block_count_for(ports: u32, block_bits: u8) -> u32 {
    ports.max(1).div_ceil(1 << block_bits)
}

/// First and last port of a block.
pub(super) fn port_range(block_bits: u8, block: u16) -> (u16, u16) {
    let first = u32::from(block) << block_bits;
    (first as u16, (first + (1 << block_bits) - 1) as u16)
}

/// First and last port of each block.
pub fn port_ranges(block_bits: u8, blocks: &[u16]) -> Vec<(u16, u16)> {
    blocks.iter().map(|block| port_range(block_bits, *block)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_rounded_up_to_whole_blocks() {
        for (ports, bits, blocks) in [(1, 10, 1), (1024, 10, 1), (1025, 10, 2), (2048, 10, 2), (0, 10, 1)] {
            assert_eq!(block_count_for(ports, bits), blocks, "{ports} {bits}");
        }
    }
}
