//! A host with two devices for an edge's programs, and what hangs on them.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use aya::programs::{SchedClassifier, TcAttachType};
use persona_ctl::dataplane::{
    Coexistence, DataplaneError, EdgeDataplane, EdgeOptions, Hook, KernelFeatures, PacketLogging, detach,
};
use persona_tests::ledger::Ledger;
use persona_tests::netns::{Forwarding, Namespace, run};

/// The devices, as their host sees them.
pub(super) const INSIDE: &str = "in0";
pub(super) const OUTSIDE: &str = "out0";

/// Two namespaces, two veth pairs between them, a folder for a bpffs. All of it goes with the value.
pub(super) struct Place {
    pub(super) host: Namespace,
    pub(super) other: Namespace,
    folder: tempfile::TempDir,
    ledger: Ledger,
}

impl Place {
    pub(super) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("pl{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let ledger = Ledger::default();
        let host = Namespace::create(&ledger, &format!("{name}-host"), Forwarding::Off).unwrap();
        let other = Namespace::create(&ledger, &format!("{name}-other"), Forwarding::Off).unwrap();
        host.link(INSIDE, &other, "in1").unwrap();
        host.link(OUTSIDE, &other, "out1").unwrap();
        Self { host, other, folder: tempfile::tempdir().unwrap(), ledger }
    }

    pub(super) fn bpffs(&self) -> PathBuf {
        self.folder.path().join("bpf")
    }

    /// A place on the bpffs for somebody else's program.
    pub(super) fn foreign_pin(&self) -> PathBuf {
        self.bpffs().join("foreign")
    }

    pub(super) fn ifindex(&self, device: &str) -> u32 {
        let json: serde_json::Value =
            serde_json::from_str(&self.host.ip(&format!("-j link show dev {device}")).unwrap()).unwrap();
        u32::try_from(json[0]["ifindex"].as_u64().unwrap()).unwrap()
    }

    pub(super) fn options(&self, hook: Hook, coexist: Coexistence) -> EdgeOptions {
        let (inside, outside) = (self.ifindex(INSIDE), self.ifindex(OUTSIDE));
        EdgeOptions { bpffs: self.bpffs(), inside, outside, hook, coexist, logging: PacketLogging::Off }
    }

    pub(super) fn open(&self, hook: Hook) -> EdgeDataplane {
        self.try_open(hook, Coexistence::default()).unwrap_or_else(|error| panic!("{}", chain(&error)))
    }

    pub(super) fn try_open(&self, hook: Hook, coexist: Coexistence) -> Result<EdgeDataplane, DataplaneError> {
        let options = self.options(hook, coexist);
        self.host.run_inside(|| EdgeDataplane::open(&options)).unwrap()
    }

    /// Ids of the programs at a TC hook of the host, in the order in which they run.
    pub(super) fn programs(&self, device: &str, direction: TcAttachType) -> Vec<u32> {
        programs_of(&self.host, device, direction)
    }

    /// The programs of both devices at ingress; each must have exactly one.
    pub(super) fn only_programs(&self) -> [u32; 2] {
        [INSIDE, OUTSIDE].map(|device| {
            let programs = self.programs(device, TcAttachType::Ingress);
            assert_eq!(programs.len(), 1, "{device}: {programs:?}");
            programs[0]
        })
    }

    /// Ids of the XDP programs on a device, whatever their mode.
    pub(super) fn xdp_program(&self, device: &str) -> Option<u64> {
        let json: serde_json::Value =
            serde_json::from_str(&self.host.ip(&format!("-j link show dev {device}")).unwrap()).unwrap();
        json[0]["xdp"]["prog"]["id"].as_u64()
    }

    pub(super) fn pins(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.bpffs().join("edge/links")).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    pub(super) fn tc(&self, arguments: &str) -> String {
        let words: Vec<&str> = ["-n", &self.host.name].into_iter().chain(arguments.split_whitespace()).collect();
        run("tc", &words).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A test that failed half-way leaves pins and the mount.
        let _ = std::fs::remove_file(self.foreign_pin());
        if let Err(error) = detach(&self.bpffs()) {
            eprintln!("{}", chain(&error));
        }
        for failure in self.ledger.undo_all() {
            eprintln!("{failure}");
        }
    }
}

/// Ids of the programs at a TC hook: links first, then filters.
pub(super) fn programs_of(namespace: &Namespace, device: &str, direction: TcAttachType) -> Vec<u32> {
    let mut programs = Vec::new();
    if KernelFeatures::has_tcx() {
        let query = || SchedClassifier::query_tcx(device, direction).unwrap().1;
        programs.extend(namespace.run_inside(query).unwrap().iter().map(|program| program.id()));
    }
    let side = if direction == TcAttachType::Egress { "egress" } else { "ingress" };
    let text = run("tc", &["-n", &namespace.name, "-j", "filter", "show", "dev", device, side]).unwrap();
    let filters: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let ids = filters.as_array().into_iter().flatten().filter_map(|filter| filter["options"]["prog"]["id"].as_u64());
    programs.extend(ids.map(|id| id as u32));
    programs
}

/// An error with its causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    persona_ctl::host::error_chain(error)
}
