//! p0f as a peer: an observer that tells from a connection's first packet which system opened it, and from how far away.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::programs::{Program, cache_dir};
use crate::ctl::patient;
use crate::ledger::Ledger;
use crate::netns::Namespace;
use crate::process::Running;

/// How long it may take to listen.
const START_TIME: Duration = Duration::from_secs(20);

/// What it calls a system that it doesn't know.
const UNKNOWN: &str = "???";

/// p0f at a device.
#[derive(Debug)]
pub struct Watch {
    _p0f: Running,
    file: PathBuf,
}

/// What p0f says of a SYN, by its own words for a signature: `version:ttl+distance:…:options:quirks:…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// All of it.
    pub raw: String,
    /// The system that it takes the sender for. None: it knows none that opens connections like this.
    pub system: Option<String>,
    /// The TTL as it came.
    pub ttl: u8,
    /// Hops that it seems to have come, from what hosts begin with. None: none begins with such a number.
    pub distance: Option<u8>,
    /// TCP options in their order.
    pub options: Vec<String>,
    /// What is odd about the packet.
    pub quirks: Vec<String>,
}

/// Starts to watch a device, and waits until it listens.
pub fn watch(ledger: &Ledger, inside: &Namespace, folder: &Path, device: &str) -> Result<Watch> {
    let file = folder.join("p0f.seen");
    let mut command = Program::find("p0f", "usr/sbin/p0f")?.command(inside)?;
    command.args(["-i", device, "-f"]).arg(signatures()?).arg("-o").arg(&file);
    let log = folder.join("p0f.log");
    let mut p0f = Running::start(ledger, "p0f", &log, command)?;
    let start = Instant::now();
    // It says so when its loop begins; what it prints then is in a buffer, the file is made before.
    while !file.exists() {
        p0f.check()?;
        if start.elapsed() > patient(START_TIME) {
            bail!("p0f does not listen: {}", p0f.log_tail());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(Watch { _p0f: p0f, file })
}

/// Its table of known systems: beside the program in the cache, else where the package puts it.
fn signatures() -> Result<PathBuf> {
    let cached = cache_dir()?.join("p0f/etc/p0f/p0f.fp");
    Ok(if cached.is_file() { cached } else { PathBuf::from("/etc/p0f/p0f.fp") })
}

impl Watch {
    /// What it says of the SYN from a port, once it has.
    pub fn of_client(&self, port: u16) -> Result<Option<Signature>> {
        let text = std::fs::read_to_string(&self.file).context("p0f's file cannot be read")?;
        let client = format!("/{port}");
        let mut lines = text.lines().filter(|line| line.contains("mod=syn|"));
        let line = lines.find(|line| field(line, "cli").is_some_and(|value| value.ends_with(&client)));
        line.map(|line| Signature::read(line).with_context(|| format!("p0f wrote {line}"))).transpose()
    }
}

impl Signature {
    fn read(line: &str) -> Option<Self> {
        let raw = field(line, "raw_sig")?;
        let parts: Vec<&str> = raw.split(':').collect();
        let (ttl, distance) = parts.get(1)?.split_once('+')?;
        let list = |at: usize| Some(parts.get(at)?.split(',').filter(|it| !it.is_empty()).map(str::to_owned).collect());
        Some(Self {
            raw: raw.to_owned(),
            system: field(line, "os").filter(|system| *system != UNKNOWN).map(str::to_owned),
            ttl: ttl.parse().ok()?,
            distance: distance.parse().ok(),
            options: list(5)?,
            quirks: list(6)?,
        })
    }
}

/// A field of a line `[time] name=value|name=value…`.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, fields) = line.split_once("] ")?;
    fields.split('|').find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_becomes_a_signature() {
        let line = "[2026/11/28 12:00:00] mod=syn|cli=203.0.113.64/2049|srv=198.51.100.10/80|subj=cli|os=???|dist=2|\
                    params=none|raw_sig=4:62+2:0:1360:mss*44,7:mss,sok,ts,nop,ws:df,id+:0";
        let signature = Signature::read(line).unwrap();
        assert_eq!((signature.ttl, signature.distance), (62, Some(2)));
        assert_eq!(signature.options, ["mss", "sok", "ts", "nop", "ws"]);
        assert_eq!(signature.system, None);
        let known = Signature::read(&line.replace("os=???", "os=Linux 3.11 and newer")).unwrap();
        assert_eq!(known.system.as_deref(), Some("Linux 3.11 and newer"));
        assert_eq!(signature.quirks, ["df", "id+"]);
        assert_eq!(field(line, "cli"), Some("203.0.113.64/2049"));
        let odd = Signature::read(&line.replace("62+2", "198+?")).unwrap();
        assert_eq!((odd.ttl, odd.distance), (198, None));
        assert_eq!(Signature::read("[x] mod=syn|cli=1.2.3.4/5"), None);
    }
}
