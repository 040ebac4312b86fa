//! Kernel parameters by name: which a persona may set, where they are, and which cannot be taken back.

/// Trees of parameters (sysctl(8)).
const TREES: [&str; 5] = ["fs.", "kernel.", "net.", "user.", "vm."];

/// Parameters by which the kernel is told to run a program as root, or to take another one for it: whoever sets one has the
/// system, and a persona is not the place to give that away.
const PROGRAMS: [&str; 6] = [
    "fs.binfmt_misc.",
    "kernel.core_pattern",
    "kernel.hotplug",
    "kernel.modprobe",
    "kernel.poweroff_cmd",
    "kernel.usermodehelper.",
];

/// Parameters with a value that the kernel keeps until it boots (Documentation/admin-guide/sysctl/kernel.rst).
const FINAL: [(&str, &str); 4] = [
    ("kernel.kexec_load_disabled", "1"),
    ("kernel.modules_disabled", "1"),
    ("kernel.unprivileged_bpf_disabled", "1"),
    ("kernel.yama.ptrace_scope", "3"),
];

/// Longest name and longest value, bytes.
const NAME_LENGTH_MAX: usize = 200;
const VALUE_LENGTH_MAX: usize = 256;

/// What is wrong with a parameter's name, and what would be right. None: a persona may set it.
pub fn sysctl_fault(name: &str) -> Option<String> {
    let is_sign = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:@".contains(&byte);
    let is_part = |part: &str| !part.is_empty() && part != "." && part != "..";
    let is_name = name.len() <= NAME_LENGTH_MAX && name.bytes().all(is_sign) && name.split('.').all(is_part);
    let is_path = sysctl_path(name).split('/').all(is_part);
    if !(is_name && is_path && TREES.iter().any(|tree| name.starts_with(tree))) {
        let trees = TREES.map(|tree| tree.trim_end_matches('.')).join(", ");
        return Some(format!("{name:?} is no kernel parameter: write one such as net.ipv4.tcp_syncookies, of {trees}"));
    }
    let runs = PROGRAMS.iter().any(|program| match program.strip_suffix('.') {
        Some(folder) => name.starts_with(program) || name == folder,
        None => name == *program,
    });
    runs.then(|| format!("{name} names a program that the kernel runs as root: no persona may set it"))
}

/// What is wrong with a value. None: nothing.
pub fn sysctl_value_fault(value: &str) -> Option<String> {
    let is_right = value == tidy_value(value) && !value.is_empty() && value.len() <= VALUE_LENGTH_MAX;
    let is_plain = value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    (!is_right || !is_plain).then(|| {
        format!("{value:?} is no value: write numbers or words with one blank between them, at most {VALUE_LENGTH_MAX} bytes")
    })
}

/// The file below /proc/sys: points part folders, and a `/` stands for a point in a name, such as of `eth0.100`.
pub fn sysctl_path(name: &str) -> String {
    let swapped = name.chars().map(|sign| match sign {
        '.' => '/',
        '/' => '.',
        other => other,
    });
    swapped.collect()
}

/// A value as it is compared: the kernel parts numbers by tabs.
pub fn tidy_value(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a parameter keeps this value until the system is started anew.
pub fn is_final(name: &str, value: &str) -> bool {
    FINAL.contains(&(name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_those_below_the_kernels_trees_and_run_no_programs() {
        for good in
            ["net.ipv4.tcp_syncookies", "vm.swappiness", "net.ipv4.conf.eth0/100.rp_filter", "kernel.modules_disabled"]
        {
            assert_eq!(sysctl_fault(good), None, "{good}");
        }
        assert_eq!(sysctl_path("net.ipv4.conf.eth0/100.rp_filter"), "net/ipv4/conf/eth0.100/rp_filter");
        for (bad, reason) in [
            ("", "no kernel parameter"),
            ("net", "no kernel parameter"),
            ("net..x", "no kernel parameter"),
            ("net.ipv4.//.x", "no kernel parameter"),
            ("net./.x", "no kernel parameter"),
            ("etc.passwd", "of fs, kernel, net, user, vm"),
            ("kernel.x y", "no kernel parameter"),
            ("kernel.core_pattern", "runs as root"),
            ("kernel.modprobe", "runs as root"),
            ("fs.binfmt_misc.register", "runs as root"),
            ("kernel.usermodehelper.bset", "runs as root"),
        ] {
            assert!(sysctl_fault(bad).is_some_and(|fault| fault.contains(reason)), "{bad}: {:?}", sysctl_fault(bad));
        }
    }

    #[test]
    fn values_are_one_line_and_compare_whatever_parts_them() {
        assert_eq!(tidy_value("4096\t87380\t6291456\n"), "4096 87380 6291456");
        assert!(["1", "4096 87380 6291456", "-1", "bbr"].iter().all(|value| sysctl_value_fault(value).is_none()));
        for bad in ["", " 1", "1  2", "a\nb", "ä", &"1".repeat(257)] {
            assert!(sysctl_value_fault(bad).is_some(), "{bad:?}");
        }
        assert!(is_final("kernel.modules_disabled", "1") && !is_final("kernel.modules_disabled", "0"));
    }

    proptest::proptest! {
        #[test]
        fn no_name_leads_out_of_proc_sys(name in "[a-z./]{0,24}") {
            let is_inside = |path: &str| !path.starts_with('/') && path.split('/').all(|part| !part.is_empty() && part != "..");
            assert!(sysctl_fault(&name).is_some() || is_inside(&sysctl_path(&name)), "{name}");
        }
    }
}
