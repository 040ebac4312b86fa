//! Parameters in a folder made like /proc/sys, whose files take what is written to them.

use std::os::unix::fs::PermissionsExt;

use super::*;

struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new(parameters: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, value) in parameters {
            let path = folder.path().join("sys").join(persona_core::security::sysctl_path(name));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("{value}\n")).unwrap();
        }
        Self { folder }
    }

    fn place(&self) -> Place {
        Place::Folder(self.folder.path().join("sys"))
    }

    fn settings(&self, may_change: bool) -> Settings {
        Settings::new(self.folder.path().join("state/settings.json"), may_change)
    }

    fn read(&self, name: &str) -> String {
        let path = self.folder.path().join("sys").join(persona_core::security::sysctl_path(name));
        std::fs::read_to_string(path).unwrap().trim().to_owned()
    }

    fn has_record(&self) -> bool {
        self.folder.path().join("state/settings.json").exists()
    }
}

fn wanted(parameters: &[(&str, &str)]) -> SecuritySettings {
    let sysctl = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    SecuritySettings { sysctl, ..SecuritySettings::default() }
}

fn states(outcome: &Outcome) -> Vec<(&str, SettingState)> {
    outcome.settings.iter().map(|it| (it.setting.as_str(), it.state)).collect()
}

#[test]
fn parameters_are_set_changed_with_the_persona_and_put_back() {
    let world = World::new(&[("vm.swappiness", "60"), ("net.ipv4.tcp_rmem", "4096\t131072\t6291456")]);
    let mut settings = world.settings(true);
    let turn = |settings: &mut Settings, wanted| settings.turn(&world.place(), "boot", &wanted);
    let outcome = turn(&mut settings, wanted(&[("vm.swappiness", "10"), ("vm.no_such", "1")]));
    let expected = [("sysctl.vm.no_such", SettingState::Unsupported), ("sysctl.vm.swappiness", SettingState::InForce)];
    assert_eq!((states(&outcome), world.read("vm.swappiness").as_str()), (expected.to_vec(), "10"));
    // Another process goes on from the record.
    let mut settings = world.settings(true);
    turn(&mut settings, wanted(&[("net.ipv4.tcp_rmem", "4096 8192 16384")]));
    assert_eq!(
        (world.read("vm.swappiness").as_str(), world.read("net.ipv4.tcp_rmem").as_str()),
        ("60", "4096 8192 16384")
    );
    let outcome = turn(&mut settings, wanted(&[]));
    assert_eq!((outcome, world.read("net.ipv4.tcp_rmem").as_str()), (Outcome::default(), "4096 131072 6291456"));
    assert!(!world.has_record(), "nothing is left to remember");
}

#[test]
fn what_others_change_is_put_right() {
    let world = World::new(&[("vm.swappiness", "60")]);
    let mut settings = world.settings(true);
    settings.turn(&world.place(), "boot", &wanted(&[("vm.swappiness", "10")]));
    std::fs::write(world.folder.path().join("sys/vm/swappiness"), "99").unwrap();
    settings.turn(&world.place(), "boot", &wanted(&[("vm.swappiness", "10")]));
    assert_eq!(world.read("vm.swappiness"), "10");
    settings.turn(&world.place(), "boot", &wanted(&[]));
    assert_eq!(world.read("vm.swappiness"), "60");
}

#[test]
fn a_record_of_another_boot_puts_nothing_back_and_one_of_a_dead_process_does() {
    let world = World::new(&[("vm.swappiness", "60"), ("vm.laptop_mode", "0")]);
    world.settings(true).turn(&world.place(), "boot", &wanted(&[("vm.swappiness", "10")]));
    std::fs::write(world.folder.path().join("sys/vm/swappiness"), "70").unwrap();
    world.settings(true).turn(&world.place(), "another boot", &wanted(&[("vm.laptop_mode", "1")]));
    assert_eq!(world.read("vm.swappiness"), "70", "the system was made anew since");
    // A process that died between its writes had begun with this.
    let begun = Record {
        identity: "another boot".to_owned(),
        baseline: [(Knob::new("vm.laptop_mode"), "0".to_owned())].into(),
        written: [(Knob::new("vm.laptop_mode"), "1".to_owned())].into(),
        pending: Some([(Knob::new("vm.laptop_mode"), "1".to_owned())].into()),
    };
    store(&world.folder.path().join("state/settings.json"), &begun).unwrap();
    std::fs::write(world.folder.path().join("sys/vm/laptop_mode"), "5").unwrap();
    world.settings(true).turn(&world.place(), "another boot", &wanted(&[("vm.laptop_mode", "1")]));
    assert_eq!(world.read("vm.laptop_mode"), "1");
    world.settings(true).turn(&world.place(), "another boot", &wanted(&[]));
    assert_eq!(world.read("vm.laptop_mode"), "0");
}

#[test]
fn what_the_kernel_keeps_takes_a_restart_and_holds_nothing_else_up() {
    let world = World::new(&[("kernel.modules_disabled", "0"), ("vm.swappiness", "60"), ("kernel.boot_only", "1")]);
    let fixed = world.folder.path().join("sys/kernel/boot_only");
    std::fs::set_permissions(&fixed, std::fs::Permissions::from_mode(0o444)).unwrap();
    let mut settings = world.settings(true);
    let all = wanted(&[("kernel.modules_disabled", "1"), ("vm.swappiness", "10"), ("kernel.boot_only", "2")]);
    let outcome = settings.turn(&world.place(), "boot", &all);
    let expected = [
        ("sysctl.kernel.boot_only", SettingState::NeedsRestart),
        ("sysctl.kernel.modules_disabled", SettingState::InForce),
        ("sysctl.vm.swappiness", SettingState::InForce),
    ];
    assert_eq!(states(&outcome), expected);
    let outcome = settings.turn(&world.place(), "boot", &wanted(&[]));
    assert_eq!(states(&outcome), [("sysctl.kernel.modules_disabled", SettingState::NeedsRestart)]);
    assert_eq!(world.read("vm.swappiness"), "60", "what can go back does");
    assert!(world.has_record());
}

#[test]
fn a_failure_puts_back_what_was_written() {
    let world = World::new(&[("vm.a", "1")]);
    // What is written to it goes nowhere, so that it never reads back.
    std::os::unix::fs::symlink("/dev/null", world.folder.path().join("sys/vm/b")).unwrap();
    let outcome = world.settings(true).turn(&world.place(), "boot", &wanted(&[("vm.a", "2"), ("vm.b", "2")]));
    assert!(outcome.reason.as_deref().is_some_and(|reason| reason.contains("step vm.b = 2 failed")), "{outcome:?}");
    assert_eq!(states(&outcome), [("sysctl.vm.a", SettingState::Failed), ("sysctl.vm.b", SettingState::Failed)]);
    assert_eq!(world.read("vm.a"), "1");
}

#[test]
fn without_permission_nothing_is_written() {
    let world = World::new(&[("vm.a", "1")]);
    let outcome = world.settings(false).turn(&world.place(), "boot", &wanted(&[("vm.a", "2")]));
    assert_eq!(
        (states(&outcome), world.read("vm.a").as_str()),
        (vec![("sysctl.vm.a", SettingState::Unsupported)], "1")
    );
    assert!(!world.has_record());
}
