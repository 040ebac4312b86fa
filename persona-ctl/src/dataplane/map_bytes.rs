//! Maps as bytes: keys and values of any size, for copying from one version's maps to another's.
//!
//! aya's maps are typed by what this binary was built with, and an older binary's maps have other sizes.
#![expect(unsafe_code, reason = "bpf(2) has no safe form")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::batch;

const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_MAP_GET_NEXT_KEY: libc::c_long = 4;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;

const MAP_TYPE_ARRAY: u32 = 2;
const MAP_TYPE_PER_CPU_HASH: u32 = 5;
const MAP_TYPE_PER_CPU_ARRAY: u32 = 6;
const MAP_TYPE_LRU_PER_CPU_HASH: u32 = 10;
const MAP_TYPE_RING_BUFFER: u32 = 27;

/// Maps in which every entry is there from the beginning.
const MAP_TYPES_OF_CELLS: [u32; 2] = [MAP_TYPE_ARRAY, MAP_TYPE_PER_CPU_ARRAY];

/// An entry of a map as it lies there: key and value, in the kernel's byte order.
pub(super) type EntryBytes = (Vec<u8>, Vec<u8>);

/// What decides whether a program can use a map.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct MapShape {
    pub(super) kind: u32,
    pub(super) key_size: u32,
    pub(super) value_size: u32,
    pub(super) entry_count_max: u32,
}

impl MapShape {
    /// Whether a program built for one may use the other. A ring's size follows the machine's pages.
    pub(super) fn fits(&self, other: &Self) -> bool {
        self == other || self.kind == other.kind && self.kind == MAP_TYPE_RING_BUFFER
    }

    /// Whether keys and values mean the same, if not as many.
    pub(super) fn has_same_entries(&self, other: &Self) -> bool {
        (self.kind, self.key_size, self.value_size) == (other.kind, other.key_size, other.value_size)
    }
}

/// The beginning of `struct bpf_map_info`.
#[repr(C)]
#[derive(Default)]
struct Info {
    kind: u32,
    id: u32,
    key_size: u32,
    value_size: u32,
    entry_count_max: u32,
    flags: u32,
}

/// `union bpf_attr` for elements; `value` is the next key where that is asked for.
#[repr(C)]
struct Element {
    fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct Open {
    path: u64,
    fd: u32,
    flags: u32,
}

#[repr(C)]
struct GetInfo {
    fd: u32,
    length: u32,
    info: u64,
}

/// A pinned map.
pub(super) struct MapBytes {
    fd: OwnedFd,
    /// What it is like.
    pub(super) shape: MapShape,
    value_length: usize,
}

impl MapBytes {
    /// Opens a pin.
    pub(super) fn open(pin: &Path) -> io::Result<Self> {
        let path = CString::new(pin.as_os_str().as_bytes())?;
        let fd = bpf(BPF_OBJ_GET, &mut Open { path: path.as_ptr() as u64, fd: 0, flags: 0 })?;
        // SAFETY: the kernel has just given this descriptor to nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let mut info = Info::default();
        let length = size_of::<Info>() as u32;
        bpf(BPF_OBJ_GET_INFO_BY_FD, &mut GetInfo { fd: fd.as_raw_fd() as u32, length, info: (&raw mut info) as u64 })?;
        let Info { kind, key_size, value_size, entry_count_max, .. } = info;
        let mut value_length = value_size as usize;
        if [MAP_TYPE_PER_CPU_HASH, MAP_TYPE_PER_CPU_ARRAY, MAP_TYPE_LRU_PER_CPU_HASH].contains(&kind) {
            let cpu_count = aya::util::nr_cpus().map_err(|(_, error)| error)?;
            value_length = value_length.next_multiple_of(8) * cpu_count;
        }
        Ok(Self { fd, shape: MapShape { kind, key_size, value_size, entry_count_max }, value_length })
    }

    /// The key after this one; the first, if there is none.
    fn next_key(&self, key: Option<&[u8]>) -> io::Result<Option<Vec<u8>>> {
        let mut next = vec![0; self.shape.key_size as usize];
        let key = key.map_or(0, |key| self.checked(key, self.shape.key_size as usize).as_ptr() as u64);
        match self.request(BPF_MAP_GET_NEXT_KEY, key, next.as_mut_ptr() as u64) {
            Ok(()) => Ok(Some(next)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The value of a key; of all CPUs, one after the other, where each has its own. None: there is none any more.
    pub(super) fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let mut value = vec![0; self.value_length];
        let key = self.checked(key, self.shape.key_size as usize).as_ptr() as u64;
        match self.request(BPF_MAP_LOOKUP_ELEM, key, value.as_mut_ptr() as u64) {
            Ok(()) => Ok(Some(value)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every entry, but for cells of arrays that hold zeros. What comes or goes meanwhile may be left out.
    pub(super) fn entries(&self) -> io::Result<Vec<EntryBytes>> {
        let key_length = self.shape.key_size as usize;
        if let Some((keys, values)) = batch::read_all(self.fd.as_fd(), key_length, self.value_length)? {
            let entries = keys.chunks_exact(key_length).zip(values.chunks_exact(self.value_length));
            let used = entries.filter(|(_, value)| self.is_used(value));
            return Ok(used.map(|(key, value)| (key.to_vec(), value.to_vec())).collect());
        }
        let mut entries = Vec::new();
        let mut key = self.next_key(None)?;
        // A table that changes under us may start again from its beginning.
        let mut left = self.shape.entry_count_max as usize * 2;
        while let Some(current) = key {
            if let Some(value) = self.get(&current)?.filter(|value| self.is_used(value)) {
                entries.push((current.clone(), value));
            }
            left = left.saturating_sub(1);
            key = if left == 0 { None } else { self.next_key(Some(&current))? };
        }
        Ok(entries)
    }

    fn is_used(&self, value: &[u8]) -> bool {
        !MAP_TYPES_OF_CELLS.contains(&self.shape.kind) || value.iter().any(|byte| *byte != 0)
    }

    /// Writes a value.
    pub(super) fn put(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let key = self.checked(key, self.shape.key_size as usize).as_ptr() as u64;
        let value = self.checked(value, self.value_length).as_ptr() as u64;
        self.request(BPF_MAP_UPDATE_ELEM, key, value)
    }

    /// The kernel reads and writes as many bytes as the map's sizes say.
    fn checked<'a>(&self, bytes: &'a [u8], length: usize) -> &'a [u8] {
        assert_eq!(bytes.len(), length, "keys and values have the sizes of their map");
        bytes
    }

    fn request(&self, command: libc::c_long, key: u64, value: u64) -> io::Result<()> {
        let mut element = Element { fd: self.fd.as_raw_fd() as u32, padding: 0, key, value, flags: 0 };
        bpf(command, &mut element).map(drop)
    }
}

fn bpf<T>(command: libc::c_long, attribute: &mut T) -> io::Result<i32> {
    // SAFETY: the attribute lives through the call and its length is given; the buffers that it points to outlive the
    // call and have the sizes of the map's keys and values, which `checked` and `next_key` see to.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attribute), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}
