//! What this host's kernel can do, found out by trying: each check says what its absence costs and what to do.
//!
//! Nothing here changes the host: probes are made with objects that vanish with their descriptor.

mod syscalls;

use std::fmt;
use std::path::Path;

use serde::Serialize;

pub use syscalls::BPF_FS_MAGIC;

/// How bad it is that something is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is there.
    Present,
    /// It is missing, and something works less well.
    Degraded,
    /// It is missing, and the role cannot run.
    Failed,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// What.
    pub name: String,
    /// How it is.
    pub outcome: Outcome,
    /// What was found.
    pub found: String,
    /// What its absence costs, and what to do. Empty if it is there.
    pub advice: String,
}

/// A kernel feature or privilege that a role cannot run without.
#[derive(Debug, thiserror::Error)]
pub struct MissingFeatures(Vec<Check>);

impl fmt::Display for MissingFeatures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told: Vec<String> =
            self.0.iter().map(|check| format!("{}: {}; {}", check.name, check.found, check.advice)).collect();
        write!(formatter, "this host lacks what the role needs: {}", told.join("; "))
    }
}

impl Check {
    /// Something that is there.
    pub fn present(name: &str, found: impl Into<String>) -> Self {
        Self { name: name.into(), outcome: Outcome::Present, found: found.into(), advice: String::new() }
    }

    /// Something that is missing or wrong.
    pub fn missing(name: &str, outcome: Outcome, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name: name.into(), outcome, found: found.into(), advice: advice.into() }
    }
}

/// Refuses to start a node's or edge's role where it could not work.
pub fn require_node(bpffs: &Path) -> Result<(), MissingFeatures> {
    require([kernel_version(), bpf_syscall(), btf(), linux_capabilities(), bpf_file_system(bpffs)])
}

/// Every failed check is told at once; what only works less well is no reason to refuse.
fn require(checks: impl IntoIterator<Item = Check>) -> Result<(), MissingFeatures> {
    let failed: Vec<Check> = checks.into_iter().filter(|check| check.outcome == Outcome::Failed).collect();
    if failed.is_empty() { Ok(()) } else { Err(MissingFeatures(failed)) }
}

/// Every check that needs nothing but this host.
pub fn checks(bpffs: &Path) -> Vec<Check> {
    let mut checks = vec![kernel_version(), bpf_syscall(), btf(), tcx(), linux_capabilities(), bpf_file_system(bpffs)];
    checks.extend(MODULES.iter().map(module));
    checks
}

/// An error with all its causes in one line.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

const KERNEL_MIN: (u32, u32) = (6, 1);
/// TCX came with it.
const TCX_SINCE: (u32, u32) = (6, 6);

fn kernel_version() -> Check {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    judge_kernel(release.trim())
}

fn judge_kernel(release: &str) -> Check {
    match parse_release(release) {
        Some(version) if version >= KERNEL_MIN => Check::present("kernel", release),
        _ => Check::missing("kernel", Outcome::Failed, release, "Linux 6.1 or later is needed: boot a newer kernel"),
    }
}

fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn bpf_syscall() -> Check {
    judge_bpf(syscalls::create_array_map())
}

fn judge_bpf(made: std::io::Result<()>) -> Check {
    match made {
        Ok(()) => Check::present("bpf", "maps can be made"),
        Err(error) => {
            let advice = match error.raw_os_error() {
                Some(libc::EPERM) => "run as root, or give CAP_BPF and CAP_NET_ADMIN",
                _ => "the kernel needs CONFIG_BPF_SYSCALL=y",
            };
            Check::missing("bpf", Outcome::Failed, format!("bpf(2) says: {error}"), advice)
        }
    }
}

fn btf() -> Check {
    let path = "/sys/kernel/btf/vmlinux";
    if Path::new(path).exists() {
        Check::present("btf", path)
    } else {
        let advice = "programs load without it, but verifier messages are harder to read; the kernel needs CONFIG_DEBUG_INFO_BTF=y";
        Check::missing("btf", Outcome::Degraded, format!("{path} is not there"), advice)
    }
}

fn tcx() -> Check {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    if parse_release(&release).is_some_and(|version| version >= TCX_SINCE) {
        Check::present("tcx", "programs hang on links")
    } else {
        Check::missing(
            "tcx",
            Outcome::Degraded,
            "older than Linux 6.6",
            "programs hang on filters of a clsact queue instead: `tc qdisc del … clsact` by anybody takes them away, and a device that changes its network namespace loses them",
        )
    }
}

const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_SYS_NICE: u32 = 23;
const CAP_BPF: u32 = 39;

fn linux_capabilities() -> Check {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    judge_capabilities(&status)
}

fn judge_capabilities(status: &str) -> Check {
    let Some(held) = effective_capabilities(status) else {
        return Check::missing("capabilities", Outcome::Degraded, "/proc/self/status cannot be read", "mount /proc");
    };
    let has = |bit: u32| held & (1 << bit) != 0;
    let needed = [
        ("CAP_NET_ADMIN", has(CAP_NET_ADMIN)),
        ("CAP_NET_RAW", has(CAP_NET_RAW)),
        ("CAP_BPF or CAP_SYS_ADMIN", has(CAP_BPF) || has(CAP_SYS_ADMIN)),
    ];
    let missing: Vec<&str> = needed.iter().filter(|(_, is_held)| !is_held).map(|(name, _)| *name).collect();
    if !missing.is_empty() {
        let found = format!("missing {}", missing.join(", "));
        return Check::missing("capabilities", Outcome::Failed, found, "run as root, or grant them to the service");
    }
    if !has(CAP_SYS_NICE) {
        let advice = "no real-time scheduling of probes: on a busy host edge failures may be seen late";
        return Check::missing("capabilities", Outcome::Degraded, "missing CAP_SYS_NICE", advice);
    }
    Check::present("capabilities", "net_admin, net_raw, bpf, sys_nice")
}

fn effective_capabilities(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// The directory itself, or the nearest one above it that exists, must lie on a bpffs.
fn bpf_file_system(bpffs: &Path) -> Check {
    let shown = bpffs.display().to_string();
    let nearest = bpffs.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    match syscalls::file_system_magic(nearest) {
        Ok(BPF_FS_MAGIC) => Check::present("bpffs", shown),
        _ => {
            let advice = "the role mounts one there when it starts, which needs CAP_SYS_ADMIN; what is pinned there outlives the process";
            Check::missing("bpffs", Outcome::Degraded, format!("{shown} is not on a bpffs yet"), advice)
        }
    }
}

struct Module {
    name: &'static str,
    file: &'static str,
    option: &'static str,
    cost: &'static str,
}

const MODULES: [Module; 6] = [
    Module { name: "htb", file: "sch_htb", option: "CONFIG_NET_SCH_HTB", cost: "personas with a rate are rejected" },
    Module {
        name: "netem",
        file: "sch_netem",
        option: "CONFIG_NET_SCH_NETEM",
        cost: "personas that delay, repeat or reorder packets (impair) are rejected; loss and rate work",
    },
    Module {
        name: "fq",
        file: "sch_fq",
        option: "CONFIG_NET_SCH_FQ",
        cost: "rates are held by HTB; queues = \"edt\" is rejected",
    },
    Module {
        name: "fq_codel",
        file: "sch_fq_codel",
        option: "CONFIG_NET_SCH_FQ_CODEL",
        cost: "sparse flows of low-latency classes wait behind bulk, up to 20 ms or 68 KiB",
    },
    Module {
        name: "wireguard",
        file: "wireguard",
        option: "CONFIG_WIREGUARD",
        cost: "encrypted personas are encrypted in user space, on a TUN device",
    },
    Module {
        name: "geneve",
        file: "geneve",
        option: "CONFIG_GENEVE",
        cost: "nothing: our programs speak Geneve themselves",
    },
];

/// Built in, loaded, or there to be loaded. The kernel's own lists are read; nothing is loaded.
fn module(module: &Module) -> Check {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let directory = format!("/lib/modules/{}", release.trim());
    let lists = ["modules.builtin", "modules.dep"].map(|list| format!("{directory}/{list}"));
    let texts = lists.map(|list| std::fs::read_to_string(list).unwrap_or_default());
    let is_listed = texts.iter().any(|text| text.contains(&format!("/{}.ko", module.file)));
    let is_loaded = Path::new("/sys/module").join(module.file).exists();
    let option = kernel_configuration().and_then(|text| option_value(&text, module.option));
    if is_listed || is_loaded || option == Some('y') {
        Check::present(module.name, if is_loaded { "loaded" } else { "available" })
    } else if texts.iter().all(String::is_empty) && option.is_none() && module.name == "htb" {
        Check::missing(module.name, Outcome::Degraded, "unknown: the kernel's module lists are not here", module.cost)
    } else {
        let advice = format!("{}; the kernel needs {}", module.cost, module.option);
        Check::missing(module.name, Outcome::Degraded, "not there", advice)
    }
}

fn kernel_configuration() -> Option<String> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    std::fs::read_to_string(format!("/boot/config-{}", release.trim())).ok()
}

fn option_value(configuration: &str, option: &str) -> Option<char> {
    configuration.lines().find_map(|line| line.strip_prefix(option)?.strip_prefix('=')?.chars().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read() {
        let cases =
            [("6.1.0-18-cloud-amd64", Some((6, 1))), ("6.18.5", Some((6, 18))), ("5.15-generic", Some((5, 15)))];
        for (release, expected) in cases {
            assert_eq!(parse_release(release), expected, "{release}");
        }
        assert_eq!(parse_release(""), None);
    }

    #[test]
    fn capabilities_and_options_are_read() {
        assert_eq!(effective_capabilities("Name:\tx\nCapEff:\t0000000000003000\n"), Some(0x3000));
        assert_eq!(option_value("CONFIG_A=m\nCONFIG_AB=y\n", "CONFIG_A"), Some('m'));
    }

    #[test]
    fn a_missing_feature_is_refused_with_its_remedy() {
        let bpf = |errno| judge_bpf(Err(std::io::Error::from_raw_os_error(errno)));
        let held = |bits: u64| judge_capabilities(&format!("CapEff:\t{bits:016x}\n"));
        let (raw, sys_nice, bpf_bit) = (1 << CAP_NET_RAW, 1 << CAP_SYS_NICE, 1 << CAP_BPF);
        let network = raw | 1 << CAP_NET_ADMIN;
        let cases = [
            ("an old kernel", judge_kernel("5.15.0-91-generic"), Some("boot a newer kernel")),
            ("an unreadable release", judge_kernel(""), Some("Linux 6.1 or later")),
            ("a kernel that lacks helpers", judge_kernel("6.0.12"), Some("boot a newer kernel")),
            ("the oldest kernel that is supported", judge_kernel("6.1.0-18-cloud-amd64"), None),
            ("bpf(2) is not built in", bpf(libc::ENOSYS), Some("CONFIG_BPF_SYSCALL=y")),
            ("bpf(2) is forbidden", bpf(libc::EPERM), Some("CAP_BPF and CAP_NET_ADMIN")),
            ("bpf(2) works", judge_bpf(Ok(())), None),
            ("no capability", held(0), Some("missing CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF or CAP_SYS_ADMIN")),
            ("no CAP_BPF", held(network), Some("missing CAP_BPF or CAP_SYS_ADMIN")),
            ("CAP_SYS_ADMIN for CAP_BPF", held(network | 1 << CAP_SYS_ADMIN), None),
            ("no real-time scheduling", held(network | bpf_bit), None),
            ("all of them", held(network | bpf_bit | sys_nice), None),
        ];
        for (what, check, refusal) in cases {
            match (require([Check::present("first", ""), check]), refusal) {
                (Ok(()), None) => {}
                (Err(error), Some(text)) => assert!(error.to_string().contains(text), "{what}: {error}"),
                (outcome, _) => panic!("{what}: {outcome:?}"),
            }
        }
    }

    #[test]
    fn everything_that_is_missing_is_told_at_once() {
        let checks = [judge_kernel("5.4.0"), judge_bpf(Err(std::io::Error::from_raw_os_error(libc::EPERM)))];
        let error = require(checks).unwrap_err().to_string();
        assert!(error.contains("kernel: 5.4.0") && error.contains("bpf: ") && error.contains("run as root"), "{error}");
    }

    #[test]
    fn a_directory_that_is_no_bpffs_is_named_with_the_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let check = bpf_file_system(&directory.path().join("persona"));
        assert_eq!(check.outcome, Outcome::Degraded);
        assert!(check.advice.contains("mounts one"), "{}", check.advice);
    }
}
