//! dpkg's database below some root: what is installed.
//!
//! A workload may have made its files what it likes: they are opened below its root, only as regular files, and read up to a
//! bound.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use persona_core::software::Installed;
use rustix::fs::{Dir, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::status::take;

/// dpkg's database.
const STATUS: &str = "var/lib/dpkg/status";

/// A folder with a file per package, where images are built without dpkg.
const STATUS_FOLDER: &str = "var/lib/dpkg/status.d";

/// Most bytes of a database.
const LENGTH_MAX: u64 = 64 << 20;

/// Most files in the folder.
const FILE_COUNT_MAX: usize = 20_000;

/// A database as it was read last.
#[derive(Debug, Default)]
pub struct Database {
    /// Which file it was, and when it was changed.
    mark: Option<(u64, u64, i64, i64)>,
    installed: Installed,
}

impl Database {
    /// What is installed below a root. The file is read anew only if it is another, or was changed.
    ///
    /// # Errors
    /// Why nobody can tell, a sentence for people.
    pub fn look(&mut self, root: &File) -> Result<&Installed, String> {
        match open_below(root, STATUS, OFlags::RDONLY) {
            Ok(file) => {
                let mark = mark_of(&file)?;
                if self.mark != Some(mark) {
                    self.installed = read(&text_of(&file, STATUS)?)?;
                    self.mark = Some(mark);
                }
            }
            Err(Errno::NOENT) => {
                self.mark = None;
                self.installed = read_folder(root)?;
            }
            Err(error) => return Err(format!("{STATUS}: {error}")),
        }
        Ok(&self.installed)
    }
}

/// What is installed below a root.
///
/// # Errors
/// As [`Database::look`].
pub fn installed(root: &Path) -> Result<Installed, String> {
    let mut database = Database::default();
    let folder = File::open(root).map_err(|error| format!("{}: {error}", root.display()))?;
    database.look(&folder)?;
    Ok(database.installed)
}

fn open_below(folder: &impl AsFd, path: &str, flags: OFlags) -> Result<File, Errno> {
    // Not blocking: it may be a pipe.
    let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(folder, path, flags, Mode::empty(), resolve).map(File::from)
}

fn mark_of(file: &File) -> Result<(u64, u64, i64, i64), String> {
    let about = file.metadata().map_err(|error| format!("{STATUS}: {error}"))?;
    Ok((about.dev(), about.ino(), about.mtime(), about.mtime_nsec()))
}

fn text_of(file: &File, name: &str) -> Result<String, String> {
    let about = file.metadata().map_err(|error| format!("{name}: {error}"))?;
    if !about.is_file() {
        return Err(format!("{name} is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(LENGTH_MAX + 1).read_to_end(&mut bytes).map_err(|error| format!("{name}: {error}"))?;
    if bytes.len() as u64 > LENGTH_MAX {
        return Err(format!("{name} has more than {} MiB", LENGTH_MAX >> 20));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn read(text: &str) -> Result<Installed, String> {
    let mut installed = Installed::default();
    take(text, &mut installed).map_err(|error| format!("{STATUS} cannot be read: {error}"))?;
    Ok(installed)
}

fn read_folder(root: &File) -> Result<Installed, String> {
    let none = || {
        format!(
            "there is neither {STATUS} nor {STATUS_FOLDER}: only packages of dpkg's kind (Debian, Ubuntu) are looked at"
        )
    };
    let folder = open_below(root, STATUS_FOLDER, OFlags::RDONLY | OFlags::DIRECTORY).map_err(|_| none())?;
    let entries = Dir::read_from(&folder).map_err(|error| format!("{STATUS_FOLDER}: {error}"))?;
    let mut installed = Installed::default();
    for (count, entry) in entries.enumerate() {
        if count == FILE_COUNT_MAX {
            return Err(format!("{STATUS_FOLDER} has more than {FILE_COUNT_MAX} files"));
        }
        let entry = entry.map_err(|error| format!("{STATUS_FOLDER}: {error}"))?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if name.starts_with('.') || name.ends_with(".md5sums") {
            continue;
        }
        let file =
            open_below(&folder, name, OFlags::RDONLY).map_err(|error| format!("{STATUS_FOLDER}/{name}: {error}"))?;
        let text = text_of(&file, name)?;
        take(&text, &mut installed).map_err(|error| format!("{STATUS_FOLDER}/{name} cannot be read: {error}"))?;
    }
    Ok(installed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use persona_core::software::{Version, compare};
    use persona_core::wire::software::WantedPackage;

    use super::super::status::INSTALLED;
    use super::*;

    const STATUS_TEXT: &str = "Package: nginx\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.22.1-9\n\
                               Description: a server\n of pages\n .\n Package: fake\n\n\
                               Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n\n\
                               Package: half\nStatus: install ok unpacked\nArchitecture: amd64\nVersion: 1\n\n\
                               Package: waiting\nStatus: hold ok triggers-pending\nArchitecture: all\nVersion: 2\n";

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn version_of(installed: &Installed, package: &str) -> Option<String> {
        let wanted = WantedPackage { package: package.to_owned(), version: None };
        compare(&[wanted], installed).remove(0).installed
    }

    #[test]
    fn what_is_configured_is_installed_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), STATUS, STATUS_TEXT);
        let installed = installed(root.path()).unwrap();
        let found =
            ["nginx", "nginx:amd64", "waiting", "gone", "half", "fake"].map(|name| version_of(&installed, name));
        assert_eq!(
            found,
            [Some("1.22.1-9"), Some("1.22.1-9"), Some("2"), None, None, None].map(|it| it.map(str::to_owned))
        );
    }

    #[test]
    fn a_database_is_read_anew_when_it_was_changed() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), STATUS, STATUS_TEXT);
        let (mut database, folder) = (Database::default(), File::open(root.path()).unwrap());
        assert_eq!(version_of(database.look(&folder).unwrap(), "nginx").unwrap(), "1.22.1-9");
        put(root.path(), "new", &STATUS_TEXT.replace("1.22.1-9", "1.24"));
        std::fs::rename(root.path().join("new"), root.path().join(STATUS)).unwrap();
        assert_eq!(version_of(database.look(&folder).unwrap(), "nginx").unwrap(), "1.24");
    }

    #[test]
    fn links_stay_below_the_root_and_only_files_are_read() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        put(outside.path(), "status", STATUS_TEXT);
        std::fs::create_dir_all(root.path().join("var/lib/dpkg")).unwrap();
        let status = root.path().join(STATUS);
        for target in [outside.path().join("status"), "../../../../../../../../etc/hostname".into()] {
            symlink(target, &status).unwrap();
            let error = installed(root.path()).unwrap_err();
            assert!(error.starts_with("there is neither"), "{error}");
            std::fs::remove_file(&status).unwrap();
        }
        put(root.path(), "elsewhere/status", STATUS_TEXT);
        symlink("/elsewhere/status", &status).unwrap();
        assert!(version_of(&installed(root.path()).unwrap(), "nginx").is_some(), "a link within is followed");
        std::fs::remove_file(&status).unwrap();
        assert!(Command::new("mkfifo").arg(&status).status().unwrap().success());
        assert_eq!(installed(root.path()).unwrap_err(), format!("{STATUS} is no regular file"));
    }

    #[test]
    fn images_without_dpkg_have_a_file_per_package() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "var/lib/dpkg/status.d/base", "Package: base-files\nArchitecture: amd64\nVersion: 12.4\n");
        put(root.path(), "var/lib/dpkg/status.d/base.md5sums", "0  usr/x\n");
        assert_eq!(version_of(&installed(root.path()).unwrap(), "base-files").unwrap(), "12.4");
        assert!(installed(&root.path().join("var")).unwrap_err().contains("only packages of dpkg's kind"));
    }

    /// What a program prints. None: this host does not have it.
    fn output_of(program: &str, arguments: &[&str]) -> Option<String> {
        let output = Command::new(program).args(arguments).output().ok()?;
        Some(String::from_utf8(output.stdout).unwrap())
    }

    #[test]
    fn this_host_has_what_dpkg_says() {
        let format = "${Package}:${Architecture} ${Version} ${db:Status-Status}\n";
        let Some(told) = output_of("dpkg-query", &["--show", "--showformat", format]) else {
            return eprintln!("SKIP: there is no dpkg-query here");
        };
        let installed = installed(Path::new("/")).unwrap();
        let mut count = 0;
        for line in told.lines() {
            let [name, version, state] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let expected = INSTALLED.contains(&state).then(|| version.to_owned());
            assert_eq!(version_of(&installed, name), expected, "{line}");
            count += 1;
        }
        assert!(count > 50, "{count} packages");
    }

    #[test]
    fn versions_compare_as_dpkg_says() {
        let texts = [
            "1.0",
            "1.0-0",
            "1.0a",
            "1.0a0",
            "1.0~rc1",
            "1.0~",
            "1:0.1",
            "1.0+b1",
            "1.0-1~bpo",
            "1.10",
            "1.9",
            "1.0.z",
            "1.0+",
            "01.0",
        ];
        let is_there = output_of("dpkg", &["--version"]).is_some();
        if !is_there {
            return eprintln!("SKIP: there is no dpkg here");
        }
        for one in texts {
            for other in texts {
                let holds = |relation: &str| {
                    Command::new("dpkg").args(["--compare-versions", one, relation, other]).status().unwrap().success()
                };
                let ordering = one.parse::<Version>().unwrap().cmp(&other.parse().unwrap());
                let relation = if ordering.is_lt() {
                    "lt"
                } else if ordering.is_eq() {
                    "eq"
                } else {
                    "gt"
                };
                assert!(holds(relation), "{one} {relation} {other}");
            }
        }
    }
}
