//! Many entries of a map in one system call: `BPF_MAP_LOOKUP_BATCH` and `BPF_MAP_UPDATE_BATCH` (Linux 5.6; arrays of every CPU
//! 5.13), which aya has no form of. A table of 65,537 rows takes a few milliseconds instead of as many calls.
#![expect(unsafe_code, reason = "bpf(2) has no safe form")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use aya::Pod;

const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
const BPF_MAP_UPDATE_BATCH: libc::c_long = 26;

/// Entries asked for at once, to begin with; a hash table's bucket that holds more asks for more.
const ENTRY_COUNT: usize = 4_096;

/// Bytes of the kernel's cursor: a key of an array or a trie, a bucket's number of a hash table.
const CURSOR_LENGTH_MIN: usize = 4;

/// `ENOTSUPP`, which the kernel gives to user space although it is its own: maps without this call.
const ENOTSUPP: i32 = 524;

/// `union bpf_attr` for batches.
#[repr(C)]
struct Batch {
    cursor_in: u64,
    cursor_out: u64,
    keys: u64,
    values: u64,
    count: u32,
    fd: u32,
    element_flags: u64,
    flags: u64,
}

/// Every entry of a map: keys and values, one after the other. None: this kind of map has no such call.
///
/// Both lengths are those that the kernel uses for the map: a value of per-CPU maps is that of all CPUs, each rounded up to
/// eight bytes.
pub(super) fn read_all(
    map: BorrowedFd<'_>,
    key_length: usize,
    value_length: usize,
) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
    let (mut all_keys, mut all_values) = (Vec::new(), Vec::new());
    let mut cursor = vec![0_u8; key_length.max(CURSOR_LENGTH_MIN)];
    let mut next = cursor.clone();
    let (mut is_first, mut room) = (true, ENTRY_COUNT);
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    loop {
        keys.resize(room * key_length, 0_u8);
        values.resize(room * value_length, 0_u8);
        let mut batch = Batch {
            cursor_in: if is_first { 0 } else { cursor.as_ptr() as u64 },
            cursor_out: next.as_mut_ptr() as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: room as u32,
            fd: map.as_raw_fd() as u32,
            element_flags: 0,
            flags: 0,
        };
        let outcome = call(BPF_MAP_LOOKUP_BATCH, &mut batch);
        let count = match outcome.as_ref().map_err(io::Error::raw_os_error) {
            Ok(()) | Err(Some(libc::ENOENT)) => batch.count as usize,
            Err(Some(libc::ENOSPC)) => {
                room *= 2;
                continue;
            }
            Err(Some(libc::EINVAL | libc::EOPNOTSUPP | ENOTSUPP)) if is_first => return Ok(None),
            Err(_) => return outcome.map(|()| None),
        };
        all_keys.extend_from_slice(&keys[..count * key_length]);
        all_values.extend_from_slice(&values[..count * value_length]);
        if outcome.is_err() {
            return Ok(Some((all_keys, all_values)));
        }
        is_first = false;
        std::mem::swap(&mut cursor, &mut next);
    }
}

/// Every cell of an array map.
pub(super) fn read_cells<V: Pod>(map: BorrowedFd<'_>) -> io::Result<Vec<(u32, V)>> {
    let (keys, values) = read_all(map, size_of::<u32>(), size_of::<V>())?.ok_or(io::ErrorKind::Unsupported)?;
    let indices =
        keys.chunks_exact(size_of::<u32>()).map(|key| u32::from_ne_bytes(key.try_into().expect("four bytes")));
    // SAFETY: each piece has the size of the type, any bytes are a value of it, and it need not be aligned.
    let values =
        values.chunks_exact(size_of::<V>()).map(|bytes| unsafe { bytes.as_ptr().cast::<V>().read_unaligned() });
    Ok(indices.zip(values).collect())
}

/// Every entry of a hash table. None: the kernel has no such call for it.
///
/// The kernel goes through bucket by bucket, so an entry that is added or removed meanwhile may be among them or not, and all others
/// are, once.
pub(super) fn read_entries<K: Pod, V: Pod>(map: BorrowedFd<'_>) -> io::Result<Option<Vec<(K, V)>>> {
    let Some((keys, values)) = read_all(map, size_of::<K>(), size_of::<V>())? else { return Ok(None) };
    let entry = |(key, value): (&[u8], &[u8])| {
        // SAFETY: both pieces have the sizes of their types, any bytes are values of them, and they need not be aligned.
        unsafe { (key.as_ptr().cast::<K>().read_unaligned(), value.as_ptr().cast::<V>().read_unaligned()) }
    };
    Ok(Some(keys.chunks_exact(size_of::<K>()).zip(values.chunks_exact(size_of::<V>())).map(entry).collect()))
}

/// The first cells of an array of which every CPU has its own: for each cell the values of all CPUs.
pub(super) fn read_first_of_cpus<V: Pod>(map: BorrowedFd<'_>, count: u32) -> io::Result<Vec<Vec<V>>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let cpu_count = aya::util::nr_cpus().map_err(|(_, error)| error)?;
    // The kernel rounds what one CPU has up to eight bytes.
    let stride = size_of::<V>().next_multiple_of(8);
    let (mut keys, mut next) = (vec![0_u32; count as usize], [0; CURSOR_LENGTH_MIN]);
    let mut values = vec![0_u8; count as usize * cpu_count * stride];
    let mut batch = Batch {
        cursor_in: 0,
        cursor_out: next.as_mut_ptr() as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count,
        fd: map.as_raw_fd() as u32,
        element_flags: 0,
        flags: 0,
    };
    match call(BPF_MAP_LOOKUP_BATCH, &mut batch) {
        // That is what the kernel says at the array's end.
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => return Err(error),
        _ => {}
    }
    let value_of = |bytes: &[u8]| {
        // SAFETY: the piece is at least as long as the type, any bytes are a value of it, and it need not be aligned.
        unsafe { bytes.as_ptr().cast::<V>().read_unaligned() }
    };
    let cells = values.chunks_exact(cpu_count * stride).take(batch.count as usize);
    Ok(cells.map(|of_cpus| of_cpus.chunks_exact(stride).map(value_of).collect()).collect())
}

/// Every prefix of a trie: its length, its bits, and its value.
pub(super) fn read_prefixes<K: Pod, V: Pod>(map: BorrowedFd<'_>) -> io::Result<Vec<(u32, K, V)>> {
    let key_length = size_of::<u32>() + size_of::<K>();
    let (keys, values) = read_all(map, key_length, size_of::<V>())?.ok_or(io::ErrorKind::Unsupported)?;
    let entry = |(key, value): (&[u8], &[u8])| {
        let (length, bits) = key.split_at(size_of::<u32>());
        let length = u32::from_ne_bytes(length.try_into().expect("four bytes"));
        // SAFETY: both pieces have the sizes of their types, any bytes are values of them, and they need not be aligned.
        unsafe { (length, bits.as_ptr().cast::<K>().read_unaligned(), value.as_ptr().cast::<V>().read_unaligned()) }
    };
    Ok(keys.chunks_exact(key_length).zip(values.chunks_exact(size_of::<V>())).map(entry).collect())
}

/// Writes cells of an array map, one after the other from `first` on.
pub(super) fn write_cells<V: Pod>(map: BorrowedFd<'_>, first: u32, values: &[V]) -> io::Result<()> {
    let keys: Vec<u32> = (first..).take(values.len()).collect();
    let mut batch = Batch {
        cursor_in: 0,
        cursor_out: 0,
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count: keys.len() as u32,
        fd: map.as_raw_fd() as u32,
        element_flags: 0,
        flags: 0,
    };
    call(BPF_MAP_UPDATE_BATCH, &mut batch)
}

fn call(command: libc::c_long, batch: &mut Batch) -> io::Result<()> {
    // SAFETY: the attribute and every buffer that it points to outlive the call. The buffers of a look-up hold `count` keys
    // and values of the map's lengths and its cursors a key; those of an update hold `count` of both, of a type that has
    // the size of the map's values (aya checked it when the typed map was made).
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(batch), size_of::<Batch>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
