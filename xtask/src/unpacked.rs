//! Servers and clients that the tests talk through: unpacked into the cache, never installed, so that no service, no
//! user and no configuration of the machine is touched.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{cache_dir, find_program, output_of, quietly};
use crate::packages;

/// Rounds of fetching what the last round's packages depend on.
const DEPENDENCY_ROUNDS_MAX: usize = 4;

/// Programs that belong together. Either all are the machine's own or all lie in the cache, so that they fit each other.
struct Bundle {
    /// Its folder in the cache.
    name: &'static str,
    /// Packages as Debian 12 and Ubuntu name them, fetched in this order until every program is there.
    packages: &'static [&'static str],
    /// The programs, as they lie in the packages.
    programs: &'static [&'static str],
}

/// Everything that is unpacked. `tests/src/peers` looks for them under the same names.
const BUNDLES: [Bundle; 13] = [
    Bundle { name: "nginx", packages: &["nginx", "nginx-core", "nginx-light"], programs: &["usr/sbin/nginx"] },
    Bundle { name: "wrk", packages: &["wrk"], programs: &["usr/bin/wrk"] },
    Bundle { name: "knot", packages: &["knot", "knot-dnsutils"], programs: &["usr/sbin/knotd", "usr/bin/kdig"] },
    Bundle {
        name: "coturn",
        packages: &["coturn"],
        programs: &["usr/bin/turnserver", "usr/bin/turnutils_natdiscovery", "usr/bin/turnutils_stunclient"],
    },
    Bundle { name: "prometheus", packages: &["prometheus"], programs: &["usr/bin/prometheus", "usr/bin/promtool"] },
    Bundle {
        name: "frr",
        packages: &["frr"],
        programs: &["usr/lib/frr/zebra", "usr/lib/frr/bfdd", "usr/lib/frr/bgpd"],
    },
    // The program tells that the library is there, which tests load by themselves.
    Bundle { name: "faketime", packages: &["libfaketime", "faketime"], programs: &["usr/bin/faketime"] },
    Bundle { name: "p0f", packages: &["p0f"], programs: &["usr/sbin/p0f"] },
    Bundle {
        name: "openssh",
        packages: &["openssh-server", "openssh-client"],
        programs: &["usr/sbin/sshd", "usr/bin/ssh", "usr/bin/scp", "usr/bin/ssh-keygen"],
    },
    Bundle { name: "nspawn", packages: &["systemd-container"], programs: &["usr/bin/systemd-nspawn"] },
    Bundle {
        name: "postgresql",
        packages: &["postgresql-15", "postgresql-client-15"],
        programs: &[
            "usr/lib/postgresql/15/bin/postgres",
            "usr/lib/postgresql/15/bin/initdb",
            "usr/lib/postgresql/15/bin/psql",
        ],
    },
    Bundle {
        name: "docker",
        packages: &["docker.io", "containerd", "runc"],
        programs: &["usr/sbin/dockerd", "usr/bin/docker", "usr/bin/containerd", "usr/sbin/runc"],
    },
    Bundle { name: "crun", packages: &["crun"], programs: &["usr/bin/crun"] },
];

/// What the manager's fan-out is compared with; `tests/src/bench/control` looks for it under this name.
const ETCD: Bundle = Bundle { name: "etcd", packages: &["etcd-server"], programs: &["usr/bin/etcd"] };

/// What containers and guests hold that have nothing else, no libraries either; `tests/src/peers` looks for it under this name.
const BUSYBOX: Bundle = Bundle { name: "busybox", packages: &["busybox-static"], programs: &["bin/busybox"] };

/// busybox without libraries, if it is there: in the cache where the machine's own is another one, as Debian's package
/// `busybox` has it, in whose place no other is put.
pub(crate) fn busybox() -> Option<PathBuf> {
    let cached = BUSYBOX.root().ok()?.join(BUSYBOX.programs[0]);
    let own = || find_program("busybox").filter(|program| is_static(program));
    if cached.is_file() { Some(cached) } else { own() }
}

/// Downloads and unpacks it.
pub(crate) fn install_busybox() -> Result<()> {
    BUSYBOX.install()
}

/// etcd, if it is there.
pub(crate) fn find_etcd() -> Option<String> {
    ETCD.is_there().then(|| ETCD.name.to_owned())
}

/// Downloads and unpacks it.
pub(crate) fn install_etcd() -> Result<()> {
    ETCD.install()
}

/// All of them, or nothing while one is missing.
pub(crate) fn find() -> Option<String> {
    BUNDLES.iter().all(Bundle::is_there).then(|| BUNDLES.map(|bundle| bundle.name).join(", "))
}

/// Downloads and unpacks what is missing, with the libraries that this machine lacks.
pub(crate) fn install() -> Result<()> {
    BUNDLES.iter().filter(|bundle| !bundle.is_there()).try_for_each(Bundle::install)
}

impl Bundle {
    fn is_there(&self) -> bool {
        let on_path = |program: &&str| program.rsplit('/').next().is_some_and(|name| find_program(name).is_some());
        self.programs.iter().all(on_path) || self.root().is_ok_and(|root| self.has_all_programs(&root))
    }

    fn has_all_programs(&self, root: &Path) -> bool {
        self.programs.iter().all(|program| root.join(program).is_file())
    }

    fn root(&self) -> Result<PathBuf> {
        Ok(cache_dir()?.join(self.name))
    }

    /// It is unpacked beside its place and moved there when it is whole, so that a broken download is never found.
    fn install(&self) -> Result<()> {
        let (name, list) = (self.name, self.packages.join(", "));
        if !packages::has_apt() {
            bail!("{name} cannot be unpacked: there is no apt-get here; install it so that its programs are on PATH");
        }
        if !self.packages.iter().any(|package| packages::is_available(package)) {
            packages::update()?;
        }
        let place = self.root()?;
        let root = place.with_extension("partial");
        std::fs::create_dir_all(&root).with_context(|| format!("{} cannot be made", root.display()))?;
        let (mut fetched, mut refused) = (Vec::new(), String::new());
        for package in self.packages {
            if self.has_all_programs(&root) {
                break;
            }
            match self.fetch(package, &root) {
                Ok(()) => fetched.push((*package).to_owned()),
                Err(error) => refused += &format!("\n{error:#}"), // an alternative may have what is wanted
            }
        }
        if !self.has_all_programs(&root) {
            let programs = self.programs.join(", ");
            bail!("the packages {list} do not give all of {programs}: install {name} by hand{refused}");
        }
        self.complete_libraries(fetched, &root)?;
        if place.exists() {
            std::fs::remove_dir_all(&place).with_context(|| format!("{} cannot be replaced", place.display()))?;
        }
        std::fs::rename(&root, &place).with_context(|| format!("{} cannot be made", place.display()))
    }

    fn complete_libraries(&self, mut fetched: Vec<String>, root: &Path) -> Result<()> {
        let mut newest = fetched.clone();
        for _ in 0..DEPENDENCY_ROUNDS_MAX {
            if self.missing_libraries(root)?.is_empty() {
                return Ok(());
            }
            newest = self.fetch_dependencies(&newest, &fetched, root)?;
            fetched.extend(newest.iter().cloned());
        }
        let missing = self.missing_libraries(root)?;
        if !missing.is_empty() {
            bail!("the unpacked {} lacks {}: install it by hand", self.name, missing.join(", "));
        }
        Ok(())
    }

    fn fetch(&self, package: &str, root: &Path) -> Result<()> {
        let script =
            "set -e; rm -rf \"$2\"; mkdir -p \"$2\"; cd \"$2\"; apt-get download \"$1\"; dpkg-deb -x ./*.deb \"$3\"";
        let folder = root.join("download");
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh", package]).arg(&folder).arg(root);
        let what = format!("{}-{package}", self.name);
        let outcome = quietly(&what, &format!("unpacking {package} into the cache"), &mut command);
        std::fs::remove_dir_all(&folder).ok(); // only a download; the next one makes it anew
        outcome.map(drop)
    }

    /// Fetches the libraries that `packages` depend on, but for those that are there.
    fn fetch_dependencies(&self, packages: &[String], there: &[String], root: &Path) -> Result<Vec<String>> {
        let mut fetched = Vec::new();
        for package in packages {
            let text =
                output_of(Command::new("apt-cache").args(["depends", "--important", package]).env("LC_ALL", "C"))?;
            let names = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
            for name in names.filter(|name| name.starts_with("lib") && !packages::is_installed(name)) {
                if !there.iter().chain(&fetched).any(|other| other == name) {
                    self.fetch(name, root)?;
                    fetched.push(name.to_owned());
                }
            }
        }
        Ok(fetched)
    }

    fn missing_libraries(&self, root: &Path) -> Result<Vec<String>> {
        let mut missing = Vec::new();
        for program in self.programs {
            let program = root.join(program);
            if is_static(&program) {
                continue;
            }
            let mut ldd = Command::new("ldd");
            let text = output_of(ldd.arg(program).env("LD_LIBRARY_PATH", library_path(root)))?;
            let lines = text.lines().filter(|line| line.contains("not found"));
            missing.extend(lines.filter_map(|line| line.split_whitespace().next()).map(str::to_owned));
        }
        missing.sort();
        missing.dedup();
        Ok(missing)
    }
}

/// Folders in which the unpacked programs' libraries lie.
fn library_path(root: &Path) -> OsString {
    let machine = format!("{}-linux-gnu", std::env::consts::ARCH);
    let folders = ["usr/lib", "lib"].map(|folder| root.join(folder).join(&machine));
    let of_frr = folders[0].join("frr");
    std::env::join_paths(folders.into_iter().chain([of_frr])).expect("the cache's path has no colon")
}

/// Whether a program needs no libraries; `ldd` has nothing to say of such a one.
fn is_static(program: &Path) -> bool {
    output_of(Command::new("ldd").arg(program).env("LC_ALL", "C")).is_err()
}
