//! Runs classic BPF, the language that packet filters are compiled to (`bpf(4)`, Linux `Documentation/networking/filter.rst`).
//!
//! A program is a list of instructions that only jump forwards, so it ends. Out-of-bounds loads refuse the packet.

/// One instruction, as `tcpdump -ddd` prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) code: u16,
    pub(super) jump_true: u8,
    pub(super) jump_false: u8,
    pub(super) value: u32,
}

const MEMORY_COUNT: usize = 16;

#[derive(Default)]
struct Machine {
    accumulator: u32,
    index: u32,
    memory: [u32; MEMORY_COUNT],
}

/// Whether the program takes the frame. `length` is its length on the wire.
pub(super) fn matches(program: &[Instruction], frame: &[u8], length: u32) -> bool {
    run(program, frame, length).unwrap_or(0) != 0
}

fn run(program: &[Instruction], frame: &[u8], length: u32) -> Option<u32> {
    let mut machine = Machine::default();
    let mut at = 0usize;
    loop {
        let instruction = program.get(at)?;
        at += 1;
        match instruction.code & 7 {
            0 => machine.accumulator = load(&machine, instruction, frame, length)?,
            1 => machine.index = load_index(&machine, instruction, frame, length)?,
            2 => *machine.memory.get_mut(instruction.value as usize)? = machine.accumulator,
            3 => *machine.memory.get_mut(instruction.value as usize)? = machine.index,
            4 => machine.accumulator = compute(&machine, instruction)?,
            5 => at += jump(&machine, instruction)?,
            6 => return Some(if instruction.code & 0x18 == 0x10 { machine.accumulator } else { instruction.value }),
            _ if instruction.code & 0xf8 == 0x80 => machine.accumulator = machine.index,
            _ => machine.index = machine.accumulator,
        }
    }
}

/// Reads a big-endian number of `size` bytes.
fn number(frame: &[u8], at: u32, size: usize) -> Option<u32> {
    let at = at as usize;
    let bytes = frame.get(at..at.checked_add(size)?)?;
    Some(bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
}

fn load(machine: &Machine, instruction: &Instruction, frame: &[u8], length: u32) -> Option<u32> {
    let size = match instruction.code & 0x18 {
        0x00 => 4,
        0x08 => 2,
        0x10 => 1,
        _ => return None,
    };
    match instruction.code & 0xe0 {
        0x00 => Some(instruction.value),
        0x20 => number(frame, instruction.value, size),
        0x40 => number(frame, machine.index.checked_add(instruction.value)?, size),
        0x60 => machine.memory.get(instruction.value as usize).copied(),
        0x80 => Some(length),
        _ => None,
    }
}

fn load_index(machine: &Machine, instruction: &Instruction, frame: &[u8], length: u32) -> Option<u32> {
    match instruction.code & 0xe0 {
        0x00 => Some(instruction.value),
        0x60 => machine.memory.get(instruction.value as usize).copied(),
        0x80 => Some(length),
        // Four times the low half of a byte: the length of an IPv4 header.
        0xa0 => number(frame, instruction.value, 1).map(|byte| (byte & 15) * 4),
        _ => None,
    }
}

fn operand(machine: &Machine, instruction: &Instruction) -> u32 {
    if instruction.code & 8 != 0 { machine.index } else { instruction.value }
}

fn compute(machine: &Machine, instruction: &Instruction) -> Option<u32> {
    let (left, right) = (machine.accumulator, operand(machine, instruction));
    match instruction.code & 0xf0 {
        0x00 => Some(left.wrapping_add(right)),
        0x10 => Some(left.wrapping_sub(right)),
        0x20 => Some(left.wrapping_mul(right)),
        0x30 => left.checked_div(right),
        0x40 => Some(left | right),
        0x50 => Some(left & right),
        0x60 => Some(left.checked_shl(right).unwrap_or(0)),
        0x70 => Some(left.checked_shr(right).unwrap_or(0)),
        0x80 => Some(left.wrapping_neg()),
        0x90 => left.checked_rem(right),
        0xa0 => Some(left ^ right),
        _ => None,
    }
}

fn jump(machine: &Machine, instruction: &Instruction) -> Option<usize> {
    let (left, right) = (machine.accumulator, operand(machine, instruction));
    let is_true = match instruction.code & 0xf0 {
        0x00 => return Some(instruction.value as usize),
        0x10 => left == right,
        0x20 => left > right,
        0x30 => left >= right,
        0x40 => left & right != 0,
        _ => return None,
    };
    Some(usize::from(if is_true { instruction.jump_true } else { instruction.jump_false }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instruction(code: u16, jump_true: u8, jump_false: u8, value: u32) -> Instruction {
        Instruction { code, jump_true, jump_false, value }
    }

    /// `ip proto 17` on Ethernet, as tcpdump compiles it.
    fn udp_only() -> Vec<Instruction> {
        vec![
            instruction(0x28, 0, 0, 12),
            instruction(0x15, 0, 3, 0x0800),
            instruction(0x30, 0, 0, 23),
            instruction(0x15, 0, 1, 17),
            instruction(0x06, 0, 0, 262_144),
            instruction(0x06, 0, 0, 0),
        ]
    }

    #[test]
    fn a_compiled_filter_tells_protocols_apart() {
        let mut frame = vec![0; 34];
        (frame[12], frame[23]) = (8, 17);
        assert!(matches(&udp_only(), &frame, 34));
        frame[23] = 6;
        assert!(!matches(&udp_only(), &frame, 34));
        assert!(!matches(&udp_only(), &frame[..20], 20), "a load past the end refuses");
        assert!(!matches(&[], &frame, 34), "so does a program that runs off its end");
    }
}
