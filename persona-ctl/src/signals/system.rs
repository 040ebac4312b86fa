//! A whole system looked at from inside, as the agent of a guest does.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use super::host;
use super::look::Looks;
use crate::limits::disks;

/// Where the kernel lists block devices.
const SYS_BLOCK: &str = "/sys/block";

/// One system, look after look.
#[derive(Debug)]
pub(crate) struct System {
    disks: Vec<String>,
    looks: Looks,
}

impl System {
    /// This one; nothing is looked at yet.
    pub(crate) fn here() -> Self {
        Self { disks: disks(Path::new(SYS_BLOCK)), looks: Looks::default() }
    }

    /// What it uses now, by the names of the catalogue. Rates come with the second look.
    pub(crate) fn turn(&mut self) -> BTreeMap<String, f64> {
        let (mut look, _) = host::look_at(Path::new("/proc"), &self.disks);
        host::look_at_disk(Path::new("/"), &mut look);
        let values = self.looks.next(Instant::now(), look);
        values.into_iter().map(|(name, value)| (name.into_owned(), value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use persona_core::signal::MEASURED;

    use super::*;

    #[test]
    fn this_system_tells_of_itself_in_the_words_of_the_catalogue() {
        let mut system = System::here();
        system.turn();
        std::thread::sleep(std::time::Duration::from_millis(20));
        let values = system.turn();
        let needed = ["cpu.load", "cpu.usage", "cpu.utilisation", "disk.usage", "memory.usage"];
        assert!(needed.iter().all(|name| values.contains_key(*name)), "{values:?}");
        assert!(values.keys().all(|name| MEASURED.iter().any(|info| info.name == name)), "{values:?}");
    }
}
