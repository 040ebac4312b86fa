//! Builds persona-ebpf for the kernel and leaves the objects in `OUT_DIR`, where `dataplane/object.rs` embeds them. The
//! benchmark's object lies beside them, for the build script of persona-tests.
//!
//! `PERSONA_SKIP_EBPF=1` embeds empty objects: enough to check the host code, refused when loaded.
//! `PERSONA_EBPF_CARGO` and `PERSONA_EBPF_RUSTC` choose the tools; else nightly with `rust-src`, else Debian's.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "bpfel-unknown-none";
const OBJECTS: [&str; 5] = ["persona-node", "persona-edge", "persona-gateway", "persona-delivery", BENCH_OBJECT];
const BENCH_OBJECT: &str = "persona-bench";
const RUSTFLAGS: &str = "-C debuginfo=2 -C link-arg=--btf -C target-cpu=v3";

fn main() {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")).join("..");
    for path in ["persona-ebpf/src", "persona-ebpf/Cargo.toml", "persona-common/src", "Cargo.lock"] {
        println!("cargo:rerun-if-changed={}", root.join(path).display());
    }
    for name in ["PERSONA_SKIP_EBPF", "PERSONA_EBPF_CARGO", "PERSONA_EBPF_RUSTC"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let out = PathBuf::from(variable("OUT_DIR"));
    println!("cargo::metadata=bench_object={}", out.join(BENCH_OBJECT).display());
    if env::var("PERSONA_SKIP_EBPF").is_ok_and(|value| value == "1") {
        for object in OBJECTS {
            std::fs::write(out.join(object), []).expect("OUT_DIR is writable");
        }
        return;
    }
    build(&root, &out);
}

fn build(root: &Path, out: &Path) {
    let target_directory = out.join("ebpf");
    let Some(mut command) = toolchain() else {
        fail(
            "no Rust toolchain that can build `core` for the kernel was found (nightly with rust-src, or Debian's rust-web-src)",
        );
    };
    let Some(linker_directory) = linker_directory() else { fail("bpf-linker was not found") };
    let path = env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(linker_directory).chain(env::split_paths(&path));
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("CARGO_") && name != "CARGO_HOME" || name.starts_with("RUSTC") || name.starts_with("CLIPPY")
        {
            command.env_remove(name);
        }
    }
    let status = command
        .args(["build", "--package", "persona-ebpf", "--bins", "--release", "-Z", "build-std=core", "--target", TARGET])
        .arg("--target-dir")
        .arg(&target_directory)
        .current_dir(root)
        .env("PATH", env::join_paths(path).expect("a search path is made of paths"))
        .env("RUSTFLAGS", RUSTFLAGS)
        .env("RUSTC_BOOTSTRAP", "1")
        .envs(env::var_os("PERSONA_EBPF_RUSTC").map(|rustc| ("RUSTC", rustc)))
        .envs(debian_rustc())
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => fail(&format!("building persona-ebpf ended with {status}")),
        Err(error) => fail(&format!("cargo for persona-ebpf cannot be run: {error}")),
    }
    for object in OBJECTS {
        std::fs::copy(target_directory.join(TARGET).join("release").join(object), out.join(object))
            .expect("a successful build leaves its objects");
    }
}

/// Debian's cargo must not pick rustup's compiler from the search path.
fn debian_rustc() -> Option<(&'static str, PathBuf)> {
    let is_debian =
        env::var_os("PERSONA_EBPF_RUSTC").is_none() && env::var_os("PERSONA_EBPF_CARGO").is_none() && !has_nightly();
    is_debian.then(|| ("RUSTC", PathBuf::from("/usr/bin/rustc")))
}

fn toolchain() -> Option<Command> {
    if let Some(cargo) = env::var_os("PERSONA_EBPF_CARGO") {
        return Some(Command::new(cargo));
    }
    if has_nightly() {
        let mut command = Command::new("rustup");
        command.args(["run", "nightly", "cargo"]);
        return Some(command);
    }
    let has_debian = Path::new("/usr/bin/cargo").exists()
        && Path::new("/usr/bin/rustc").exists()
        && Path::new("/usr/lib/rustlib/src/rust/library/core").exists();
    has_debian.then(|| Command::new("/usr/bin/cargo"))
}

/// Whether rustup has a nightly toolchain with the library's sources.
fn has_nightly() -> bool {
    let output = Command::new("rustup")
        .args(["run", "nightly", "rustc", "--print", "sysroot"])
        .env_remove("RUSTUP_TOOLCHAIN")
        .output();
    output.is_ok_and(|output| {
        let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        output.status.success() && sysroot.join("lib/rustlib/src/rust/library/core").exists()
    })
}

fn linker_directory() -> Option<PathBuf> {
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .map(|cache| cache.join("persona/bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).chain(cache).find(|directory| directory.join("bpf-linker").exists())
}

fn variable(name: &str) -> String {
    env::var(name).expect("cargo sets it for build scripts")
}

fn fail(message: &str) -> ! {
    eprintln!(
        "{message}.\nRun `cargo xtask setup` to install what the kernel programs need, or set PERSONA_SKIP_EBPF=1 to check the host code only."
    );
    std::process::exit(1);
}
