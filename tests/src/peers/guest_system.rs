//! What makes a guest with busybox a small system of Debian's kind: the machine's own apt, dpkg and C library, an empty
//! database, and a repository of packages that are made for it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Programs that install packages need, by where they lie.
const PROGRAMS: [&str; 11] = [
    "usr/bin/apt-get",
    "usr/bin/apt-cache",
    "usr/bin/apt-mark",
    "usr/bin/dpkg",
    "usr/bin/dpkg-deb",
    "usr/bin/dpkg-query",
    "usr/bin/dpkg-split",
    "usr/bin/tar",
    "usr/lib/apt/methods/file",
    "usr/lib/apt/methods/copy",
    "usr/lib/apt/methods/store",
];

/// What dpkg and apt know architectures by.
const TABLES: [&str; 3] = ["usr/share/dpkg/cputable", "usr/share/dpkg/ostable", "usr/share/dpkg/tupletable"];

/// Files of the system: place, text.
const FILES: [(&str, &str); 6] = [
    ("etc/apt/apt.conf", "APT::Sandbox::User \"root\";\nAPT::Architecture \"amd64\";\n"),
    ("etc/apt/sources.list", "deb [trusted=yes] file:/repository ./\n"),
    ("etc/passwd", "root:x:0:0:root:/:/bin/sh\n"),
    ("etc/group", "root:x:0:\n"),
    ("var/lib/dpkg/status", ""),
    ("var/lib/dpkg/available", ""),
];

/// Folders that have to be there, as a file in each.
const FOLDERS: [&str; 9] = [
    "etc/apt/apt.conf.d",
    "etc/apt/preferences.d",
    "var/lib/dpkg/info",
    "var/lib/dpkg/updates",
    "var/lib/dpkg/triggers",
    "var/lib/apt/lists/partial",
    "var/cache/apt/archives/partial",
    "var/log/apt",
    "usr/share",
];

/// A guest's files, which are made below a folder.
#[derive(Debug)]
pub struct GuestSystem {
    folder: PathBuf,
    files: Vec<(String, PathBuf)>,
}

impl GuestSystem {
    /// A system without packages, whose programs are the machine's, and this one.
    pub fn make(folder: &Path, persona_ctl: &str) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let mut system = Self { folder: folder.to_owned(), files: Vec::new() };
        let own = folder.join("persona-ctl");
        run(Command::new("strip").arg("-o").arg(&own).arg(persona_ctl))?;
        system.program("usr/bin/persona-ctl", &own)?;
        for place in PROGRAMS {
            system.program(place, &Path::new("/").join(place))?;
        }
        let ldconfig = ["/sbin/ldconfig", "/usr/sbin/ldconfig"].map(PathBuf::from);
        let ldconfig = ldconfig.into_iter().find(|path| path.is_file()).context("there is no ldconfig")?;
        system.files.push(("sbin/ldconfig".to_owned(), ldconfig));
        let tables = TABLES.map(|place| (place.to_owned(), Path::new("/").join(place)));
        system.files.extend(tables);
        for (place, text) in FILES {
            system.text(place, text)?;
        }
        for folder in FOLDERS {
            system.text(&format!("{folder}/.keep"), "")?;
        }
        Ok(system)
    }

    /// Adds a file.
    pub fn text(&mut self, place: &str, text: &str) -> Result<()> {
        let path = self.folder.join(format!("{}.file", self.files.len()));
        std::fs::write(&path, text)?;
        self.files.push((place.to_owned(), path));
        Ok(())
    }

    /// Makes packages, each with a file that says its version, and offers them in its repository.
    pub fn offer(&mut self, packages: &[(&str, &str)]) -> Result<()> {
        let mut list = String::new();
        for (name, version) in packages {
            let tree = self.folder.join(format!("{name}_{version}"));
            let (data, control) = (tree.join("usr/share").join(name), tree.join("DEBIAN"));
            std::fs::create_dir_all(&data)?;
            std::fs::create_dir_all(&control)?;
            std::fs::write(data.join("version"), version)?;
            let fields = format!(
                "Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: nobody\nDescription: made for a test\n"
            );
            std::fs::write(control.join("control"), &fields)?;
            let file = self.folder.join(format!("{name}_{version}_all.deb"));
            run(Command::new("dpkg-deb").args(["--build", "--root-owner-group"]).arg(&tree).arg(&file))?;
            let digest = run(Command::new("sha256sum").arg(&file))?;
            let digest = digest.split_whitespace().next().context("sha256sum says something")?;
            let size = std::fs::metadata(&file)?.len();
            list += &format!("{fields}Filename: ./{name}.{version}.deb\nSize: {size}\nSHA256: {digest}\n\n");
            self.files.push((format!("repository/{name}.{version}.deb"), file));
        }
        self.text("repository/Packages", &list)
    }

    /// Everything: place, source.
    pub fn files(&self) -> &[(String, PathBuf)] {
        &self.files
    }

    /// A program and the libraries that it is linked with, where its loader looks for them.
    fn program(&mut self, place: &str, path: &Path) -> Result<()> {
        self.files.push((place.to_owned(), path.to_owned()));
        for line in run(Command::new("ldd").arg(path))?.lines() {
            let library = line.split_whitespace().find(|word| word.starts_with('/'));
            let Some(library) = library else { continue };
            let place = library.trim_start_matches('/').to_owned();
            if !self.files.iter().any(|(known, _)| *known == place) {
                self.files.push((place, library.into()));
            }
        }
        Ok(())
    }
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?} does not start"))?;
    ensure!(
        output.status.success(),
        "{command:?} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
