//! `cargo xtask setup`: finds what building, checking and testing need, and installs what is missing.
//!
//! Each step first looks, in milliseconds, so that running it again costs nothing; `test` and `demo` run it first.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::binaries::static_target;
use crate::command::{cache_dir, find_program, output_of, quietly, workspace_root};
use crate::{api, debian, ebpf, packages, planner, ui, unpacked, vm};

/// The linker for eBPF: its version, and LLVM versions that it can be built with, best first.
const BPF_LINKER_VERSION: &str = "0.13.0";
const BPF_LINKER_LLVM_VERSIONS: [u32; 2] = [22, 23];

/// Programs that the tests run, and the packages that hold them.
const TEST_TOOLS: [(&str, &str); 8] = [
    ("ip", "iproute2"),
    ("curl", "curl"),
    ("ping", "iputils-ping"),
    ("iperf3", "iperf3"),
    ("tcpdump", "tcpdump"),
    ("ethtool", "ethtool"),
    ("busybox", "busybox-static"),
    ("systemd-analyze", "systemd"),
];

/// What to set up.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only what this needs. Absent: everything but what `dist` alone needs, which rustup must fetch.
    #[arg(long = "for", value_enum)]
    purpose: Option<Purpose>,
}

/// What something is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Purpose {
    /// Building the programs.
    Build,
    /// `cargo xtask check`.
    Check,
    /// `cargo xtask test` and `demo`.
    Test,
    /// `cargo xtask test --vm`.
    Guests,
    /// The tests whose hosts are whole systems with systemd.
    Hosts,
    /// `cargo xtask test --api`.
    Api,
    /// `cargo xtask test --planner`.
    Planner,
    /// `cargo xtask ui`.
    Page,
    /// `cargo xtask test --ui`.
    Browser,
    /// `cargo xtask fuzz`.
    Fuzz,
    /// `cargo xtask bench`.
    Benchmarks,
    /// The statically linked program of `cargo xtask dist`.
    Static,
}

/// One thing that is needed: how to find it, how to get it.
struct Step {
    name: &'static str,
    purpose: Purpose,
    find: fn() -> Option<String>,
    install: fn() -> Result<()>,
}

const STEPS: [Step; 22] = [
    Step { name: "C compiler", purpose: Purpose::Build, find: find_cc, install: install_cc },
    Step { name: "eBPF compiler", purpose: Purpose::Build, find: find_ebpf_compiler, install: ebpf::install },
    Step { name: "bpf-linker", purpose: Purpose::Build, find: find_bpf_linker, install: install_bpf_linker },
    Step { name: "rustfmt and clippy", purpose: Purpose::Check, find: find_components, install: install_components },
    Step { name: "cargo-deny", purpose: Purpose::Check, find: find_cargo_deny, install: install_cargo_deny },
    Step { name: "test tools", purpose: Purpose::Test, find: find_test_tools, install: install_test_tools },
    Step { name: "static busybox", purpose: Purpose::Test, find: find_busybox, install: unpacked::install_busybox },
    Step { name: "test peers", purpose: Purpose::Test, find: unpacked::find, install: unpacked::install },
    Step { name: "other kernels", purpose: Purpose::Guests, find: vm::find, install: vm::install },
    Step { name: "Debian system", purpose: Purpose::Hosts, find: debian::find, install: debian::install },
    Step { name: "schemathesis", purpose: Purpose::Api, find: api::find, install: api::install },
    Step { name: "OR-tools", purpose: Purpose::Planner, find: planner::find, install: planner::install },
    Step { name: "Node", purpose: Purpose::Page, find: ui::find_node, install: ui::install_node },
    Step {
        name: "the page's packages",
        purpose: Purpose::Page,
        find: ui::find_packages,
        install: ui::install_packages,
    },
    Step { name: "Chromium", purpose: Purpose::Browser, find: ui::find_browser, install: ui::install_browser },
    Step { name: "C++ compiler", purpose: Purpose::Fuzz, find: find_cxx, install: install_cxx },
    Step { name: "nftables", purpose: Purpose::Benchmarks, find: find_nft, install: install_nft },
    Step { name: "WireGuard's tool", purpose: Purpose::Benchmarks, find: find_wg, install: install_wg },
    Step { name: "IPVS's tool", purpose: Purpose::Benchmarks, find: find_ipvsadm, install: install_ipvsadm },
    Step { name: "etcd", purpose: Purpose::Benchmarks, find: unpacked::find_etcd, install: unpacked::install_etcd },
    Step { name: "C compiler for musl", purpose: Purpose::Static, find: find_musl_cc, install: install_musl_cc },
    Step { name: "Rust for musl", purpose: Purpose::Static, find: find_musl_std, install: install_musl_std },
];

/// Sets up what the arguments name.
pub(crate) fn run(args: &Args) -> Result<()> {
    match args.purpose {
        Some(purpose) => ensure(&[purpose]),
        None => {
            let all = Purpose::value_variants().iter().copied();
            ensure(&all.filter(|purpose| *purpose != Purpose::Static).collect::<Vec<_>>())
        }
    }
}

/// Sets up what these purposes need.
pub(crate) fn ensure(purposes: &[Purpose]) -> Result<()> {
    for step in STEPS.iter().filter(|step| purposes.contains(&step.purpose)) {
        let start = Instant::now();
        if let Some(found) = (step.find)() {
            println!("setup: {} is there: {found}", step.name);
            continue;
        }
        println!("setup: {} is missing", step.name);
        (step.install)().with_context(|| format!("setup: {} is needed and could not be had", step.name))?;
        let found =
            (step.find)().with_context(|| format!("setup: {} was installed and still is not found", step.name))?;
        println!("setup: {} is ready after {:.1} s: {found}", step.name, start.elapsed().as_secs_f64());
    }
    Ok(())
}

/// Where our own tools' binaries lie.
fn own_binary(name: &str) -> Option<PathBuf> {
    let path = cache_dir().ok()?.join("bin").join(name);
    path.is_file().then_some(path)
}

/// cargo-deny, from PATH or the cache.
pub(crate) fn cargo_deny() -> Option<PathBuf> {
    own_binary("cargo-deny").or_else(|| find_program("cargo-deny"))
}

fn shown(path: PathBuf) -> String {
    path.display().to_string()
}

fn find_cc() -> Option<String> {
    find_program("cc").map(shown)
}

fn install_cc() -> Result<()> {
    packages::install(&["gcc", "libc6-dev"]).map(drop)
}

fn find_ebpf_compiler() -> Option<String> {
    ebpf::Toolchain::find().map(|toolchain| toolchain.describe())
}

fn find_bpf_linker() -> Option<String> {
    own_binary("bpf-linker").or_else(|| find_program("bpf-linker")).map(shown)
}

fn install_bpf_linker() -> Result<()> {
    let installed = |version: &u32| Path::new(&format!("/usr/lib/llvm-{version}/include/llvm-c")).is_dir();
    if !BPF_LINKER_LLVM_VERSIONS.iter().any(installed) && packages::has_apt() {
        // Without them the build below says what it lacks, so a failure here is not the last word.
        if let Err(error) = packages::install(&["llvm-22-dev", "libpolly-22-dev"]) {
            println!("  {error:#}");
        }
    }
    let version = format!("={BPF_LINKER_VERSION}");
    let mut arguments = vec!["bpf-linker".to_owned(), "--version".to_owned(), version, "--locked".to_owned()];
    let llvm = BPF_LINKER_LLVM_VERSIONS.iter().find(|version| installed(version));
    if let Some(llvm) = llvm {
        arguments.extend(["--no-default-features".to_owned(), "--features".to_owned(), format!("llvm-{llvm}")]);
    }
    cargo_install(&arguments, llvm.map(|version| format!("/usr/lib/llvm-{version}")))
        .context("bpf-linker needs LLVM 22's development files: apt-get install llvm-22-dev libpolly-22-dev, or put a bpf-linker on PATH")
}

fn find_components() -> Option<String> {
    (ebpf::has_host_component("fmt") && ebpf::has_host_component("clippy")).then(|| "of this toolchain".to_owned())
}

fn install_components() -> Result<()> {
    let mut command = Command::new("rustup");
    command.args(["component", "add", "rustfmt", "clippy"]);
    quietly("rustup-components", "fetching rustfmt and clippy", &mut command).map(drop)
}

fn find_cargo_deny() -> Option<String> {
    cargo_deny().map(shown)
}

fn install_cargo_deny() -> Result<()> {
    // It reads one lock file: unoptimised it is built in half the time.
    cargo_install(&["cargo-deny".to_owned(), "--locked".to_owned(), "--debug".to_owned()], None)
}

fn cargo_install(arguments: &[String], llvm_prefix: Option<String>) -> Result<()> {
    let name = &arguments[0];
    let root = cache_dir()?;
    let mut command = Command::new("cargo");
    command.current_dir("/").env_remove("CARGO").env_remove("RUSTFLAGS").arg("install").args(arguments);
    command.arg("--root").arg(&root);
    if let Some(prefix) = llvm_prefix {
        command.env("LLVM_PREFIX", prefix);
    }
    quietly(&format!("install-{name}"), &format!("building {name} (about a minute)"), &mut command).map(drop)
}

fn missing_tools() -> Vec<&'static str> {
    TEST_TOOLS.iter().filter(|(program, _)| find_program(program).is_none()).map(|(_, package)| *package).collect()
}

fn find_test_tools() -> Option<String> {
    missing_tools().is_empty().then(|| TEST_TOOLS.map(|(program, _)| program).join(", "))
}

fn install_test_tools() -> Result<()> {
    packages::install(&missing_tools()).map(drop)
}

fn find_busybox() -> Option<String> {
    unpacked::busybox().map(shown)
}

fn find_cxx() -> Option<String> {
    find_program("c++").map(shown)
}

fn install_cxx() -> Result<()> {
    packages::install(&["g++"]).map(drop)
}

fn find_nft() -> Option<String> {
    find_program("nft").map(shown)
}

fn install_nft() -> Result<()> {
    packages::install(&["nftables"]).map(drop)
}

fn find_wg() -> Option<String> {
    find_program("wg").map(shown)
}

fn install_wg() -> Result<()> {
    packages::install(&["wireguard-tools"]).map(drop)
}

fn find_ipvsadm() -> Option<String> {
    find_program("ipvsadm").map(shown)
}

fn install_ipvsadm() -> Result<()> {
    packages::install(&["ipvsadm"]).map(drop)
}

fn find_musl_cc() -> Option<String> {
    find_program("musl-gcc").map(shown)
}

fn install_musl_cc() -> Result<()> {
    packages::install(&["musl-tools"]).map(drop)
}

/// rustc tells the folder whether it is there or not.
fn find_musl_std() -> Option<String> {
    let mut command = Command::new("rustc");
    command.args(["--print", "target-libdir", "--target", &static_target()]).current_dir(workspace_root());
    let folder = PathBuf::from(output_of(&mut command).ok()?);
    folder.join("self-contained/libc.a").is_file().then(|| shown(folder))
}

fn install_musl_std() -> Result<()> {
    let target = static_target();
    let mut command = Command::new("rustup");
    command.args(["target", "add", &target]).current_dir(workspace_root());
    quietly("rustup-musl", &format!("fetching Rust's library for {target}"), &mut command)
        .map(drop)
        .with_context(|| format!("rustup cannot fetch {target}; `cargo xtask dist --only package` does without it"))
}

/// Fails early where root cannot be had, before minutes of building.
pub(crate) fn require_root() -> Result<()> {
    if crate::command::is_root() {
        return Ok(());
    }
    let mut command = crate::command::as_root("true")?;
    if let Err(error) = output_of(&mut command) {
        bail!("network namespaces and eBPF need root, and sudo does not give it: {error:#}");
    }
    Ok(())
}
