//! What a guest boots into: an initial file system of several archives, one after the other.
//!
//! Tools and modules are archived once, and again when they change; the tests' binaries each time.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::archive::{Archive, fingerprint};
use super::kernel::{Kernel, KernelFiles};
use crate::binaries::Tests;
use crate::command::{cache_dir, find_program, output_of, workspace_root};
use crate::unpacked;

/// Programs of the host that the tests and the benchmark run in a guest, if it has them.
const TOOLS: [&str; 19] = [
    "ip", "bridge", "tc", "ss", "ethtool", "tcpdump", "ping", "iperf3", "curl", "nginx", "busybox", "timeout", "mount",
    "umount", "unshare", "sysctl", "nft", "wg", "ipvsadm",
];

/// Users and groups that programs ask for by name.
const USERS: &str =
    "root:x:0:0:root:/root:/bin/sh\ntcpdump:x:101:101::/:/bin/false\nnobody:x:65534:65534:nobody:/:/bin/false\n";
const GROUPS: &str = "root:x:0:\ntcpdump:x:101:\nnogroup:x:65534:\n";

/// What `init.sh` sets for the tests.
const VARIABLES: &str = "export PERSONA_REQUIRE_PRIVILEGED=1 PERSONA_REQUIRE_INTEROP=1 PERSONA_TEST_EMULATED=1 \
                         PERSONA_CTL=/tests/persona-ctl PERSONA_CACHE=/cache\n";

/// Makes the image of one guest and says where it is.
pub(super) fn build(kernel: &Kernel, files: &KernelFiles, programs: &Tests, arguments: &[String]) -> Result<PathBuf> {
    let shared = cache_dir()?.join("vm");
    let tools = tools_archive(&shared)?;
    let modules = modules_archive(&shared, kernel, files)?;
    let folder = workspace_root().join("target/xtask/vm");
    let tests = tests_archive(&folder.join(kernel.name), programs, arguments)?;
    let image = folder.join(format!("{}.image", kernel.name));
    let mut output = File::create(&image).with_context(|| format!("{} cannot be written", image.display()))?;
    for part in [&tools, &modules, &tests] {
        io::copy(&mut File::open(part)?, &mut output)
            .with_context(|| format!("{} cannot be copied", part.display()))?;
    }
    Ok(image)
}

/// Makes an archive again only if what goes into it changed.
fn cached(path: &Path, key: &str, fill: impl FnOnce(&mut Archive) -> io::Result<()>) -> Result<PathBuf> {
    let key_path = path.with_extension("key");
    let is_current = fs::read_to_string(&key_path).is_ok_and(|found| found == key) && path.is_file();
    if !is_current {
        // Another work tree may be reading the one that is there.
        let partial = path.with_extension(format!("partial-{}", std::process::id()));
        let written = Archive::create(&partial).and_then(|mut archive| {
            fill(&mut archive)?;
            archive.finish()?;
            fs::rename(&partial, path)?;
            fs::write(&key_path, key)
        });
        written.with_context(|| format!("archive {} cannot be written", path.display()))?;
    }
    Ok(path.to_owned())
}

fn tools_archive(folder: &Path) -> Result<PathBuf> {
    let init = include_str!("init.sh");
    let mut files = BTreeSet::new();
    for tool in TOOLS {
        // nginx may lie in the cache instead, and the programs' tests run without it.
        if let Some(program) = find_program(tool) {
            files.extend(libraries(&program, None)?);
            files.insert(program);
        }
    }
    let unpacked = cache_dir()?.join("nginx");
    if unpacked.is_dir() {
        let library_path = unpacked.join("usr/lib/x86_64-linux-gnu");
        let needed = libraries(&unpacked.join("usr/sbin/nginx"), Some(&library_path))?;
        files.extend(needed.into_iter().filter(|file| !file.starts_with(&unpacked)));
    }
    let mut key = format!("{init}{USERS}{GROUPS}{}\n", unpacked.is_dir());
    for file in &files {
        key += &fingerprint(file)?;
    }
    cached(&folder.join("tools.cpio"), &key, |archive| {
        for path in ["proc", "sys", "dev", "tmp", "run", "root", "var/log", "var/lib", "etc", "mnt"] {
            archive.directory(path)?;
        }
        archive.device("dev/console", (5, 1))?;
        archive.file("init", 0o755, init.as_bytes())?;
        archive.file("etc/passwd", 0o644, USERS.as_bytes())?;
        archive.file("etc/group", 0o644, GROUPS.as_bytes())?;
        archive.file("etc/hosts", 0o644, b"127.0.0.1 localhost\n")?;
        for file in &files {
            archive.copy(&file.to_string_lossy(), file)?;
        }
        if let Some(busybox) = unpacked::busybox() {
            archive.copy("bin/busybox", &busybox)?;
        }
        if unpacked.is_dir() {
            archive.tree("cache/nginx", &unpacked)?;
        }
        Ok(())
    })
}

/// The archive of a kernel's modules, with the order in which they are loaded.
pub(super) fn modules_archive(folder: &Path, kernel: &Kernel, files: &KernelFiles) -> Result<PathBuf> {
    let mut key = String::new();
    for module in &files.modules {
        key += &fingerprint(module)?;
    }
    cached(&folder.join(format!("{}-modules.cpio", kernel.name)), &key, |archive| {
        let mut order = String::new();
        for module in &files.modules {
            let name = module.file_name().unwrap_or_default().to_string_lossy();
            archive.copy(&format!("modules/{name}"), module)?;
            order += &format!("/modules/{name}\n");
        }
        archive.file("modules/order", 0o644, order.as_bytes())
    })
}

/// The binaries without their line tables, which are most of them.
fn tests_archive(folder: &Path, programs: &Tests, arguments: &[String]) -> Result<PathBuf> {
    let stripped = folder.join("stripped");
    fs::create_dir_all(&stripped).with_context(|| format!("{} cannot be made", stripped.display()))?;
    let mut needed = BTreeSet::new();
    for (name, program) in [("privileged", &programs.privileged), ("persona-ctl", &programs.persona_ctl)] {
        output_of(Command::new("strip").arg("--strip-debug").arg("-o").arg(stripped.join(name)).arg(program))?;
        needed.extend(libraries(program, None)?);
    }
    let path = folder.join("tests.cpio");
    let write = || {
        let mut archive = Archive::create(&path)?;
        for name in ["privileged", "persona-ctl"] {
            archive.copy(&format!("tests/{name}"), &stripped.join(name))?;
        }
        for library in &needed {
            archive.copy(&library.to_string_lossy(), library)?;
        }
        archive.file("tests/arguments", 0o644, format!("{}\n", arguments.join("\n")).as_bytes())?;
        archive.file("tests/environment", 0o644, VARIABLES.as_bytes())?;
        archive.finish()
    };
    write().with_context(|| format!("archive {} cannot be written", path.display()))?;
    Ok(path)
}

/// The shared libraries of a program, with the loader that its interpreter line names; none for a static one.
fn libraries(program: &Path, library_path: Option<&Path>) -> Result<BTreeSet<PathBuf>> {
    let mut ldd = Command::new("ldd");
    ldd.arg(program).env("LC_ALL", "C");
    if let Some(folder) = library_path {
        ldd.env("LD_LIBRARY_PATH", folder);
    }
    let output = ldd.output().context("ldd does not start")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // "libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)" or "/lib64/ld-linux-x86-64.so.2 (0x…)".
    let paths = text.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths.map(PathBuf::from).collect())
}
