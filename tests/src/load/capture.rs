//! What passes a device, as tcpdump sees it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::ctl::patient;
use crate::ledger::Ledger;
use crate::netns::{Namespace, run};
use crate::process::Running;
use crate::world::World;

/// How long tcpdump may take to listen.
const START_TIME: Duration = Duration::from_secs(20);

/// Long enough for the kernel to hand over what has passed.
const SETTLE_TIME: Duration = Duration::from_millis(200);

/// A running capture.
#[derive(Debug)]
pub struct Capture {
    tcpdump: Running,
    file: PathBuf,
}

impl Capture {
    /// Begins to write what matches a filter, in tcpdump's words, and waits until it listens.
    pub fn start(world: &World, name: &str, inside: &Namespace, device: &str, filter: &str) -> Result<Self> {
        Self::start_in((&world.ledger, &world.folder), name, inside, device, filter)
    }

    /// The same where there is no world: its file goes into a folder.
    pub fn start_in(
        (ledger, folder): (&Ledger, &Path),
        name: &str,
        inside: &Namespace,
        device: &str,
        filter: &str,
    ) -> Result<Self> {
        let (file, log) = (folder.join(format!("{name}.pcap")), folder.join(format!("{name}.log")));
        let mut command = inside.command("tcpdump")?;
        command.args(["-i", device, "-nn", "-U", "--immediate-mode", "-Z", "root", "-w"]).arg(&file).arg(filter);
        let mut tcpdump = Running::start(ledger, name, &log, command)?;
        let start = Instant::now();
        while !std::fs::read_to_string(&log).is_ok_and(|text| text.contains("listening on")) {
            tcpdump.check()?;
            if start.elapsed() > patient(START_TIME) {
                bail!("tcpdump does not listen: {}", tcpdump.log_tail());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { tcpdump, file })
    }

    /// Ends it and gives a line for each packet.
    pub fn finish(self) -> Result<Vec<String>> {
        self.finish_with(&["-nn", "-v"])
    }

    /// The same, with what the frames' own headers say.
    pub fn finish_framed(self) -> Result<Vec<String>> {
        self.finish_with(&["-nn", "-v", "-e"])
    }

    fn finish_with(mut self, options: &[&str]) -> Result<Vec<String>> {
        std::thread::sleep(SETTLE_TIME);
        self.tcpdump.stop()?;
        let file = self.file.display().to_string();
        let text = run("tcpdump", &[options, &["-r", &file]].concat())?;
        Ok(joined(&text))
    }
}

/// A packet's first line begins with its time, its further lines with a blank.
fn joined(text: &str) -> Vec<String> {
    let mut packets: Vec<String> = Vec::new();
    for line in text.lines() {
        match packets.last_mut() {
            Some(packet) if line.starts_with([' ', '\t']) => *packet += &format!(" {}", line.trim()),
            _ => packets.push(line.to_owned()),
        }
    }
    packets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_one_line() {
        let text =
            "08:00:00.1 IP (tos 0x0)\n    192.0.2.1.1 > 192.0.2.2.2: Geneve\n\tIP (tos 0x0)\n08:00:00.2 IP (tos 0x2)\n";
        let expected =
            ["08:00:00.1 IP (tos 0x0) 192.0.2.1.1 > 192.0.2.2.2: Geneve IP (tos 0x0)", "08:00:00.2 IP (tos 0x2)"];
        assert_eq!(joined(text), expected);
    }
}
