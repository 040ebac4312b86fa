//! Other kernels: Debian's packages, downloaded and unpacked into the cache, never installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{cache_dir, find_program, output_of, quietly};
use crate::packages;

/// A kernel that the tests run on.
#[derive(Debug)]
pub(super) struct Kernel {
    /// Its series.
    pub(super) name: &'static str,
    /// The package that depends on the newest build of it.
    package: &'static str,
}

/// The oldest that is supported, which has no TCX, and one that has it.
pub(super) const KERNELS: [Kernel; 2] = [
    Kernel { name: "6.1", package: "linux-image-cloud-amd64" },
    Kernel { name: "6.12", package: "linux-image-6.12-cloud-amd64" },
];

/// What the guests need beside kernels, and the packages that hold it.
const TOOLS: [(&str, &str); 3] =
    [("qemu-system-x86_64", "qemu-system-x86"), ("busybox", "busybox-static"), ("xz", "xz-utils")];

/// Modules that the tests use, and a guest with a disk.
const MODULES: [&str; 28] = [
    "virtio_blk",
    "veth",
    "sch_ingress",
    "cls_bpf",
    "act_mirred",
    "act_gact",
    "cls_matchall",
    "cls_flower",
    "sch_htb",
    "sch_fq",
    "sch_cake",
    "sch_tbf",
    "sch_fq_codel",
    "sch_netem",
    "sch_prio",
    "ifb",
    "dummy",
    "tun",
    "bridge",
    "vxlan",
    "geneve",
    "wireguard",
    "nf_tables",
    "nft_masq",
    "nft_nat",
    "nft_chain_nat",
    "ip_vs",
    "ip_vs_mh",
];

/// The files of a kernel.
#[derive(Debug)]
pub(super) struct KernelFiles {
    /// Its full release.
    pub(super) release: String,
    /// What is booted.
    pub(super) image: PathBuf,
    /// Modules in the order in which they can be loaded.
    pub(super) modules: Vec<PathBuf>,
}

/// All kernels and tools, or nothing while something is missing.
pub(crate) fn find() -> Option<String> {
    let has_tools = TOOLS.iter().all(|(program, _)| find_program(program).is_some());
    let releases: Result<Vec<String>> = KERNELS.iter().map(|kernel| Ok(kernel.files()?.release)).collect();
    releases.ok().filter(|_| has_tools).map(|releases| releases.join(", "))
}

/// Gets what is missing.
pub(crate) fn install() -> Result<()> {
    let missing = TOOLS.iter().filter(|(program, _)| find_program(program).is_none());
    let missing: Vec<&str> = missing.map(|(_, package)| *package).collect();
    if !missing.is_empty() {
        packages::install(&missing)?;
    }
    KERNELS.iter().filter(|kernel| kernel.files().is_err()).try_for_each(Kernel::install)
}

impl Kernel {
    /// Where it is unpacked.
    pub(super) fn root(&self) -> Result<PathBuf> {
        Ok(cache_dir()?.join("vm").join(self.name))
    }

    /// Its files in the cache.
    pub(super) fn files(&self) -> Result<KernelFiles> {
        let root = self.root()?;
        let boot = root.join("boot");
        let images = std::fs::read_dir(&boot).with_context(|| format!("{} cannot be read", boot.display()))?;
        let names = images.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
        let release = names.filter_map(|name| Some(name.strip_prefix("vmlinuz-")?.to_owned())).next();
        let release = release.with_context(|| format!("{} holds no vmlinuz", boot.display()))?;
        let folder = root.join("lib/modules").join(&release);
        let modules = resolve(&folder)?;
        Ok(KernelFiles { image: boot.join(format!("vmlinuz-{release}")), release, modules })
    }

    /// It is unpacked beside its place and moved there when it is whole.
    fn install(&self) -> Result<()> {
        let place = self.root()?;
        if !packages::has_apt() {
            bail!(
                "kernel {} is Debian's package {} and there is no apt-get here: unpack it with dpkg-deb -x to {}",
                self.name,
                self.package,
                place.display()
            );
        }
        if !packages::is_available(self.package) {
            packages::update()?;
        }
        let depends = output_of(Command::new("apt-cache").args(["depends", self.package]).env("LC_ALL", "C"))?;
        let newest = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
        let newest = newest.with_context(|| {
            format!("{} is not in this system's package lists: run the guests on Debian 12", self.package)
        })?;
        let partial = place.with_extension("partial");
        let script = "set -e; rm -rf \"$2\"; mkdir -p \"$2\"; cd \"$2\"; apt-get download \"$1\"; dpkg-deb -x ./*.deb .; rm ./*.deb";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh", &format!("linux-image-{newest}")]).arg(&partial);
        quietly(&format!("kernel-{}", self.name), &format!("unpacking kernel {newest} into the cache"), &mut command)?;
        if place.exists() {
            std::fs::remove_dir_all(&place).with_context(|| format!("{} cannot be replaced", place.display()))?;
        }
        decompress(&partial)?;
        std::fs::rename(&partial, &place).with_context(|| format!("{} cannot be made", place.display()))
    }
}

/// The modules' files after those that they need. `modules.dep` is made by depmod when a package is installed, which
/// this one is not.
fn resolve(folder: &Path) -> Result<Vec<PathBuf>> {
    let list = std::fs::read_to_string(folder.join("modules.dep"));
    let list = list.with_context(|| format!("{} lacks modules.dep", folder.display()))?;
    let rows: Vec<(&str, Vec<&str>)> = list
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(file, needs)| (file, needs.split_whitespace().collect()))
        .collect();
    let mut order: Vec<&str> = Vec::new();
    for module in MODULES {
        // One that is built in has no file.
        if let Some((file, _)) = rows.iter().find(|(file, _)| is_module(file, module)) {
            add_after_needs(file, &rows, &mut order);
        }
    }
    if order.is_empty() {
        bail!("{} has none of the modules that the tests need", folder.display());
    }
    Ok(order.into_iter().map(|file| folder.join(file)).collect())
}

fn add_after_needs<'a>(file: &'a str, rows: &[(&'a str, Vec<&'a str>)], order: &mut Vec<&'a str>) {
    if order.contains(&file) {
        return;
    }
    let needs = rows.iter().find(|(name, _)| *name == file).map(|(_, needs)| needs.as_slice());
    for needed in needs.unwrap_or_default() {
        add_after_needs(needed, rows, order);
    }
    order.push(file);
}

fn is_module(file: &str, module: &str) -> bool {
    file.rsplit('/').next().is_some_and(|name| name == format!("{module}.ko"))
}

/// Decompresses all modules and lists what each needs.
fn decompress(root: &Path) -> Result<()> {
    let script = "set -e; cd \"$1\"; find lib/modules -name '*.ko.xz' -exec xz -d {} +; \
                  for release in lib/modules/*; do busybox depmod -b \"$PWD\" \"${release##*/}\"; done";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(root);
    quietly("kernel-modules", "decompressing modules", &mut command).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_module_needs_is_loaded_before_it() {
        let folder = std::env::temp_dir().join(format!("persona-modules-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let list = "net/geneve.ko: net/udp_tunnel.ko net/ip6_udp_tunnel.ko\nnet/veth.ko:\nnet/udp_tunnel.ko:\n\
                    net/ip6_udp_tunnel.ko: net/udp_tunnel.ko\nnet/not-geneve.ko:\n";
        std::fs::write(folder.join("modules.dep"), list).unwrap();
        let order = resolve(&folder).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        let names: Vec<_> = order.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["veth.ko", "udp_tunnel.ko", "ip6_udp_tunnel.ko", "geneve.ko"]);
    }
}
