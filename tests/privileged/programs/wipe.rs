//! Empties pinned maps, whatever their keys and values: aya's are typed, and write a cell per system call.
#![expect(unsafe_code, reason = "bpf(2) has no safe form")]

use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use aya::maps::{MapData, MapType};

const BPF_MAP_DELETE_ELEM: libc::c_long = 3;
const BPF_MAP_GET_NEXT_KEY: libc::c_long = 4;
const BPF_MAP_UPDATE_BATCH: libc::c_long = 26;

/// `union bpf_attr` for an entry; `other` is the next key.
#[repr(C)]
struct Entry {
    fd: u32,
    padding: u32,
    key: u64,
    other: u64,
    flags: u64,
}

/// `union bpf_attr` for batches.
#[repr(C)]
struct Batch {
    cursors: [u64; 2],
    keys: u64,
    values: u64,
    count: u32,
    fd: u32,
    flags: [u64; 2],
}

/// Removes every entry of a table, or sets the first `cell_count_max` cells of an array to zero.
pub(super) fn wipe(pin: &Path, cell_count_max: u32) {
    let map = MapData::from_pin(pin).unwrap();
    let info = map.info().unwrap();
    match info.map_type().unwrap() {
        MapType::Array | MapType::PerCpuArray => {
            // A value of a per-CPU map is that of all CPUs, each rounded up to eight bytes.
            let cpu_count = aya::util::nr_cpus().unwrap();
            let length = match info.map_type().unwrap() {
                MapType::PerCpuArray => (info.value_size() as usize).next_multiple_of(8) * cpu_count,
                _ => info.value_size() as usize,
            };
            let keys: Vec<u32> = (0..info.max_entries().min(cell_count_max)).collect();
            zero(&map, &keys, &vec![0; keys.len() * length]);
        }
        _ => empty(&map, info.key_size() as usize),
    }
}

fn zero(map: &MapData, keys: &[u32], values: &[u8]) {
    let (fd, count) = (map.fd().as_fd().as_raw_fd() as u32, keys.len() as u32);
    let (keys, values) = (keys.as_ptr() as u64, values.as_ptr() as u64);
    let mut batch = Batch { cursors: [0; 2], keys, values, count, fd, flags: [0; 2] };
    // SAFETY: `count` keys of four bytes and as many values of the map's length outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, BPF_MAP_UPDATE_BATCH, &raw mut batch, size_of::<Batch>()) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

fn empty(map: &MapData, key_length: usize) {
    let fd = map.fd().as_fd().as_raw_fd() as u32;
    let request = |command: libc::c_long, key: u64, other: u64| {
        let mut entry = Entry { fd, padding: 0, key, other, flags: 0 };
        // SAFETY: buffers have the length of the map's keys and outlive the call; no key asks for the first one.
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut entry, size_of::<Entry>()) == 0 }
    };
    // All keys before the first goes: the first is searched for from the table's beginning.
    let mut keys: Vec<Vec<u8>> = Vec::new();
    loop {
        let mut next = vec![0_u8; key_length];
        let last = keys.last().map_or(0, |key| key.as_ptr() as u64);
        if !request(BPF_MAP_GET_NEXT_KEY, last, next.as_mut_ptr() as u64) {
            break;
        }
        keys.push(next);
    }
    for key in keys {
        assert!(request(BPF_MAP_DELETE_ELEM, key.as_ptr() as u64, 0), "{}", std::io::Error::last_os_error());
    }
}
