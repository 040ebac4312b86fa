//! Linux capabilities by their names (include/uapi/linux/capability.h), written with or without `CAP_`.

/// Names in the order of their bits.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The bit of a capability.
pub fn capability_bit(name: &str) -> Option<u64> {
    let name = name.strip_prefix("CAP_").unwrap_or(name);
    NAMES.iter().position(|known| *known == name).map(|index| 1 << index)
}

/// Whether there is a capability of this name.
pub fn is_capability(name: &str) -> bool {
    capability_bit(name).is_some()
}

/// The names of a set, those of a newer kernel by their number.
pub(super) fn names_of(set: u64) -> Vec<String> {
    let bits = (0..64).filter(|bit| set & (1 << bit) != 0);
    bits.map(|bit| NAMES.get(bit as usize).map_or_else(|| format!("bit {bit}"), |name| (*name).to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_bits_are_the_kernels() {
        for (name, bit) in [("CHOWN", 0), ("CAP_NET_ADMIN", 12), ("SYS_ADMIN", 21), ("BPF", 39)] {
            assert_eq!(capability_bit(name), Some(1 << bit), "{name}");
        }
        assert!(["", "net_admin", "CAP_", "ROOT"].iter().all(|name| !is_capability(name)));
        assert_eq!(names_of(1 << 10 | 1 << 63), ["NET_BIND_SERVICE", "bit 63"]);
    }
}
