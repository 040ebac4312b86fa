//! The real apt and dpkg, on a system of their own below a folder and a repository of packages that are made here. The host's
//! own packages are never touched.

use std::process::Command;

use persona_core::wire::software::WantedPackage;

use super::super::apt::Apt;
use super::*;

/// A system with nothing installed, and a repository for it.
struct World {
    folder: tempfile::TempDir,
}

impl World {
    /// None: this host has no apt, or this is not root, without whom dpkg does nothing.
    fn new() -> Option<Self> {
        let has =
            |program: &str| Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
        if !rustix::process::geteuid().is_root() || !["apt-get", "dpkg", "dpkg-deb"].into_iter().all(has) {
            eprintln!("SKIP: installing takes root, apt and dpkg");
            return None;
        }
        let world = Self { folder: tempfile::tempdir().unwrap() };
        for folder in [
            "etc/apt/apt.conf.d",
            "etc/apt/preferences.d",
            "var/lib/apt/lists/partial",
            "var/cache/apt/archives/partial",
            "var/lib/dpkg/info",
            "var/lib/dpkg/updates",
            "var/lib/dpkg/triggers",
            "var/log/apt",
        ] {
            std::fs::create_dir_all(world.root().join(folder)).unwrap();
        }
        std::fs::create_dir(world.repository()).unwrap();
        let (root, repository) = (world.root(), world.repository());
        let (root, repository) = (root.display(), repository.display());
        let settings = format!(
            "Dir \"{root}\";\nDir::State::status \"{root}/var/lib/dpkg/status\";\nDir::Etc::main \"none\";\n\
             Dir::Bin::dpkg \"/usr/bin/dpkg\";\nDir::Bin::methods \"/usr/lib/apt/methods\";\nAPT::Sandbox::User \"root\";\n\
             DPkg::Options {{ \"--root={root}\"; \"--log={root}/var/log/dpkg.log\"; }};\n"
        );
        std::fs::write(world.root().join("etc/apt/apt.conf"), settings).unwrap();
        std::fs::write(world.root().join("var/lib/dpkg/status"), "").unwrap();
        std::fs::write(world.root().join("etc/apt/sources.list"), format!("deb [trusted=yes] file:{repository} ./\n"))
            .unwrap();
        Some(world)
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("system")
    }

    fn repository(&self) -> PathBuf {
        self.folder.path().join("repository")
    }

    /// Makes a package, and offers it.
    fn offer(&self, name: &str, version: &str, more: &str) -> PathBuf {
        self.offer_with(name, version, more, None)
    }

    /// The same, with a script that runs when it is configured.
    fn offer_with(&self, name: &str, version: &str, more: &str, script: Option<&str>) -> PathBuf {
        let file = self.package(name, version, more, script);
        let bytes = std::fs::read(&file).unwrap();
        let digest = persona_core::hex::encode(ring::digest::digest(&ring::digest::SHA256, &bytes).as_ref());
        let place = self.repository().join(file.file_name().unwrap());
        std::fs::rename(&file, &place).unwrap();
        let entry = format!(
            "Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: nobody\nDescription: made for a test\n{more}\
             Filename: ./{}\nSize: {}\nSHA256: {digest}\n\n",
            place.file_name().unwrap().display(),
            bytes.len()
        );
        let list = self.repository().join("Packages");
        let before = std::fs::read_to_string(&list).unwrap_or_default();
        std::fs::write(list, before + &entry).unwrap();
        place
    }

    /// Offers a version no longer.
    fn withdraw(&self, name: &str, version: &str) {
        let list = self.repository().join("Packages");
        let text = std::fs::read_to_string(&list).unwrap();
        let head = format!("Package: {name}\nVersion: {version}\n");
        let others: Vec<&str> = text.split_inclusive("\n\n").filter(|entry| !entry.starts_with(&head)).collect();
        std::fs::write(list, others.concat()).unwrap();
        Apt::below(&self.root()).refresh().unwrap();
    }

    fn package(&self, name: &str, version: &str, more: &str, script: Option<&str>) -> PathBuf {
        let tree = self.folder.path().join(format!("{name}_{version}"));
        std::fs::create_dir_all(tree.join("DEBIAN")).unwrap();
        std::fs::create_dir_all(tree.join("usr/share").join(name)).unwrap();
        std::fs::write(tree.join("usr/share").join(name).join("version"), version).unwrap();
        let control = format!(
            "Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: nobody\nDescription: made for a test\n{more}"
        );
        std::fs::write(tree.join("DEBIAN/control"), control).unwrap();
        if let Some(script) = script {
            let path = tree.join("DEBIAN/postinst");
            std::fs::write(&path, script).unwrap();
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }
        let file = self.folder.path().join(format!("{name}_{version}_all.deb"));
        let made =
            Command::new("dpkg-deb").args(["--build", "--root-owner-group"]).arg(&tree).arg(&file).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        file
    }

    /// As an administrator would.
    fn install_by_hand(&self, file: &Path) {
        let root = format!("--root={}", self.root().display());
        let done = Command::new("dpkg").args([&root, "--install"]).arg(file).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    fn installer(&self, may_install: bool) -> Installer {
        let manager = Box::new(Apt::below(&self.root()));
        Installer::new(manager, &self.folder.path().join("state"), may_install)
    }

    fn installed(&self) -> Packages {
        Apt::below(&self.root()).installed().unwrap()
    }

    fn content(&self, package: &str) -> Option<String> {
        std::fs::read_to_string(self.root().join("usr/share").join(package).join("version")).ok()
    }

    fn has_record(&self) -> bool {
        self.folder.path().join("state/software.json").exists()
    }
}

fn worn(version: u32, packages: &[(&str, &str)]) -> SubjectSoftware {
    let one = |(package, version): &(&str, &str)| WantedPackage {
        package: (*package).to_owned(),
        version: (!version.is_empty()).then(|| (*version).to_owned()),
    };
    SubjectSoftware { persona: "web".parse().unwrap(), version, packages: packages.iter().map(one).collect() }
}

fn told(software: &GuestSoftware) -> (SoftwareState, String) {
    (software.state, software.reason.clone().unwrap_or_default())
}

#[test]
fn wanted_versions_are_installed_and_held_and_everything_goes_back() {
    let Some(world) = World::new() else { return };
    let old = world.offer("tool", "1.0", "");
    world.offer("tool", "2.0-1", "Depends: helper-data\n");
    world.offer("helper-data", "1", "");
    world.install_by_hand(&old);
    let before = world.installed();

    let only_told = world.installer(false).turn(Some(&worn(1, &[("tool", ">= 2")]))).unwrap();
    assert!(told(&only_told).1.contains("permits no installation"), "{only_told:?}");
    assert_eq!(world.installed(), before, "nothing is installed without the guest's word");

    let mut installer = world.installer(true);
    let software = installer.turn(Some(&worn(2, &[("tool", ">= 2")]))).unwrap();
    assert_eq!(told(&software), (SoftwareState::AsWanted, String::new()));
    assert_eq!((software.packages[0].installed.as_deref(), software.packages[0].is_held), (Some("2.0-1"), true));
    assert_eq!((world.content("tool").as_deref(), world.content("helper-data").as_deref()), (Some("2.0-1"), Some("1")));

    // Somebody takes the hold away and goes back: that is drift, and is put right.
    world.install_by_hand(&old);
    assert!(installer.is_due(Some(&worn(2, &[("tool", ">= 2")]))));
    let software = installer.turn(Some(&worn(2, &[("tool", ">= 2")]))).unwrap();
    assert_eq!((told(&software).0, world.content("tool").as_deref()), (SoftwareState::AsWanted, Some("2.0-1")));

    // The repository offers the old version no more: the file that was kept is enough.
    world.withdraw("tool", "1.0");
    std::fs::remove_file(&old).unwrap();
    assert_eq!(world.installer(true).turn(None), None);
    assert_eq!((world.content("tool").as_deref(), world.content("helper-data")), (Some("1.0"), None));
    assert_eq!(world.installed(), before);
    assert!(!world.has_record());
}

#[test]
fn what_fails_is_rolled_back_and_nothing_without_a_way_back_is_begun() {
    let Some(world) = World::new() else { return };
    let unknown = world.package("own", "0.9", "", None);
    world.install_by_hand(&unknown);
    world.offer("own", "1.0", "");
    world.offer("good", "1.0", "");
    world.offer_with("broken", "1.0", "", Some("#!/bin/sh\nexit 1\n"));
    let before = world.installed();
    let refused = |packages: &[(&str, &str)], why: &str| {
        let software = world.installer(true).turn(Some(&worn(1, packages))).unwrap();
        let (state, reason) = told(&software);
        assert!(state == SoftwareState::Failed && reason.contains(why), "{software:?}");
        assert_eq!(world.installed(), before, "{packages:?}");
    };
    refused(&[("good", ""), ("own", ">= 1")], "could not be put back");
    refused(&[("good", ""), ("nowhere", "")], "no repository of the guest offers nowhere");
    refused(&[("good", ""), ("broken", "")], "apt-get install failed");
    assert_eq!((world.content("good"), world.content("broken")), (None, None));
}

#[test]
fn a_process_that_died_meanwhile_left_enough_to_put_everything_back() {
    let Some(world) = World::new() else { return };
    world.offer("tool", "1.0", "");
    world.offer("tool", "2.0", "Depends: helper-data\n");
    world.offer("helper-data", "1", "");
    let manager = Apt::below(&world.root());
    manager.refresh().unwrap();
    let install =
        |version: &str| Change { install: [("tool".to_owned(), version.to_owned())].into(), ..Change::default() };
    manager.change(&install("1.0"), &BTreeMap::new()).unwrap();
    let before = world.installed();
    // It had recorded what was there, kept the file, and got as far as to change one package.
    let installer = world.installer(true);
    installer.keep_what_goes(&install("2.0"), &before).unwrap();
    installer.store(&Ledger { pending: Some(before.clone()), ..Ledger::default() }).unwrap();
    manager.change(&install("2.0"), &BTreeMap::new()).unwrap();
    drop(installer);
    assert_ne!(world.installed(), before);
    assert_eq!(world.installer(true).turn(None), None);
    assert_eq!((world.installed(), world.content("helper-data")), (before, None));
}

#[test]
fn another_persona_takes_the_place_of_one_whose_packages_it_does_not_want() {
    let Some(world) = World::new() else { return };
    world.offer("tool", "1.0", "");
    world.offer("other", "1.0", "");
    let before = world.installed();
    let mut installer = world.installer(true);
    installer.turn(Some(&worn(1, &[("tool", "")]))).unwrap();
    let software = installer.turn(Some(&worn(2, &[("other", "= 1.0")]))).unwrap();
    assert_eq!(told(&software), (SoftwareState::AsWanted, String::new()));
    assert_eq!((world.content("tool"), world.content("other").as_deref()), (None, Some("1.0")));
    assert_eq!(installer.turn(None), None);
    assert_eq!(world.installed(), before);
}
