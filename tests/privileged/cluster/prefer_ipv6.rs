//! `prefer-ipv6` from the persona to getaddrinfo: the agent keeps its block in a workload's policy file while such a persona
//! is worn, and takes it out again.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use persona_tests::ctl::patient;
use persona_tests::findings::Findings;
use persona_tests::ledger::Undo;
use persona_tests::netns::{Forwarding, Namespace};
use persona_tests::steps::FRANKFURT;
use persona_tests::steps::switch::switch_to;
use persona_tests::world::{WorkloadPlace, World};

use crate::agent_prefer_ipv6::order;

/// The workload, which the agent's configuration describes beside the usual ones.
const PLACE: WorkloadPlace = WorkloadPlace {
    name: "w4",
    address: "10.10.4.2",
    gateway: "10.10.4.1",
    address6: "fd00:10:10:4::2",
    gateway6: "fd00:10:10:4::1",
};
const SUBJECT: &str = "workload/n1/w4";

/// How long the agent may take to bring the file to what a persona says.
const KEEP_TIME: Duration = Duration::from_secs(30);

/// A workload with a policy file of its own.
pub(super) struct Named {
    namespace: Namespace,
    file: PathBuf,
}

impl Named {
    /// Makes its namespace, and the files that `ip netns exec` binds over the host's there. None: this host has none to
    /// bind over.
    pub(super) fn prepare(world: &mut World) -> Result<Option<Self>> {
        if !PathBuf::from("/etc/gai.conf").exists() {
            eprintln!("SKIP: this host has no /etc/gai.conf to bind over");
            return Ok(None);
        }
        let name = format!("{}-{}", world.namespaces.node.name, PLACE.name);
        let namespace = Namespace::create(&world.ledger, &name, Forwarding::Off)?;
        let folder = PathBuf::from("/etc/netns").join(&name);
        world.ledger.note(Undo::RemoveFolder(folder.clone()));
        std::fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        std::fs::write(folder.join("hosts"), "198.51.100.10 both.test\n2001:db8:51::10 both.test\n")?;
        let file = folder.join("gai.conf");
        std::fs::write(&file, "# nothing here\n")?;
        world.attach(&PLACE, &namespace)?;
        world.extra_agent_config += &format!(
            "\n[[workload]]\nname = \"{0}\"\ndevice = \"{0}\"\naddress = \"{1}\"\naddress6 = \"{2}/128\"\ngai_conf = \"{3}\"\n",
            PLACE.name,
            PLACE.address,
            PLACE.address6,
            file.display()
        );
        Ok(Some(Self { namespace, file }))
    }

    /// The order of both families follows what is worn.
    pub(super) fn follows_the_persona(&self, world: &World, findings: &mut Findings) -> Result<()> {
        self.wait_for_order(world, [true, false]).context("prefer-ipv6 is worn")?;
        findings.note("getaddrinfo gives IPv6 first", self.block()?, true);
        switch_to(world, SUBJECT, "frankfurt-own")?;
        self.wait_for_order(world, [false, true]).context("a persona of IPv4 is worn")?;
        let text = self.block()?;
        findings.note("under a persona of IPv4 the file is as it was", &text, text == "# nothing here");
        switch_to(world, SUBJECT, FRANKFURT)?;
        self.wait_for_order(world, [true, false]).context("prefer-ipv6 is worn again")
    }

    fn block(&self) -> Result<String> {
        Ok(std::fs::read_to_string(&self.file)?.trim().replace('\n', "; "))
    }

    fn wait_for_order(&self, world: &World, wanted: [bool; 2]) -> Result<()> {
        let start = Instant::now();
        while order(&self.namespace) != wanted {
            if start.elapsed() > patient(KEEP_TIME) {
                bail!(
                    "names of {} have another order; its file says {}\n{}",
                    PLACE.name,
                    self.block()?,
                    world.log_tails()
                );
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }
}
