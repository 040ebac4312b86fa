//! A QEMU guest as a peer: another kernel behind a tap device, with busybox for a userland, that runs commands it is
//! given over its serial line. Software emulation, so that nothing but the package is needed.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::cpio::Archive;
use super::programs::{Program, cache_dir};
use crate::ledger::Ledger;
use crate::netns::Namespace;
use crate::process::Running;
use crate::world::{WorkloadPlace, World};

/// How long a guest may take to boot: four seconds on a quiet machine.
const BOOT_TIME: Duration = Duration::from_secs(180);

/// How long QEMU may take to open its socket.
const SOCKET_TIME: Duration = Duration::from_secs(30);

/// Modules between a Debian kernel and virtio's network card, balloon, disk and serial ports, in the order in which they can be loaded. Those that a
/// kernel has built in are not found and not missed.
const MODULES: [&str; 11] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "failover",
    "net_failover",
    "virtio_net",
    "virtio_balloon",
    "virtio_blk",
    "virtio_console",
];

/// Kernels that `cargo xtask setup` unpacks into the cache, the preferred one first.
const KERNELS: [&str; 2] = ["6.1", "6.12"];

/// Folders of every guest.
const FOLDERS: [&str; 6] = ["bin", "dev", "proc", "sys", "tmp", "modules"];

/// What a guest says when it listens, and after each command.
const READY: &str = "guest: ready";
const ENDED: &str = "guest: ended ";

/// How a guest is connected.
#[derive(Debug, Clone, Copy)]
pub struct GuestPlan<'a> {
    /// Its name, for files and messages.
    pub name: &'a str,
    /// The tap device on the host.
    pub tap: &'a str,
    /// Commands that give `eth0` its addresses and routes.
    pub network: &'a str,
    /// A file for it, which it finds as `/content`.
    pub content: &'a Path,
    /// More files for it: place, source.
    pub files: &'a [(String, PathBuf)],
    /// Its memory, MiB.
    pub memory_mib: u32,
}

/// Memory of a guest that holds little more than busybox, MiB.
pub const MEMORY_MIB: u32 = 256;

/// A running guest.
#[derive(Debug)]
pub struct Guest {
    /// QEMU.
    pub qemu: Running,
    serial: BufReader<UnixStream>,
}

impl Guest {
    /// Starts a guest whose tap device exists inside a namespace, and waits until it listens.
    pub fn start(ledger: &Ledger, inside: &Namespace, folder: &Path, plan: &GuestPlan<'_>) -> Result<Self> {
        let kernel = kernel_root()?;
        let image = folder.join(format!("{}.cpio", plan.name));
        write_image(&image, &kernel, plan).with_context(|| format!("{} cannot be written", image.display()))?;
        let socket = folder.join(format!("{}.serial", plan.name));
        let mut command = inside.command("qemu-system-x86_64")?;
        command.args(["-accel", "tcg", "-cpu", "max", "-nodefaults", "-no-user-config", "-no-reboot"]);
        command.arg("-m").arg(plan.memory_mib.to_string());
        command.args(["-display", "none", "-append", "console=ttyS0 quiet loglevel=0 panic=-1 oops=panic", "-kernel"]);
        command.arg(kernel_image(&kernel)?).arg("-initrd").arg(&image);
        command.arg("-chardev").arg(format!("socket,id=serial,path={},server=on,wait=on", socket.display()));
        command.args(["-serial", "chardev:serial", "-device", "virtio-net-pci,netdev=net"]);
        command.arg("-netdev").arg(format!("tap,id=net,ifname={},script=no,downscript=no,vhost=off", plan.tap));
        // What limits are written to: a balloon, a disk that holds nothing, and a monitor.
        let monitor = folder.join(format!("{}.qmp", plan.name));
        command.arg("-qmp").arg(format!("unix:{},server=on,wait=off", monitor.display()));
        command.args(["-device", "virtio-balloon-pci", "-drive", "if=none,id=disk0,driver=null-co,size=1G"]);
        command.args(["-device", "virtio-blk-pci,drive=disk0"]);
        // Where an agent inside would listen.
        let port = folder.join(format!("{}.agent", plan.name));
        command.arg("-chardev").arg(format!("socket,id=agent,path={},server=on,wait=off", port.display()));
        command.args(["-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,name=persona.0"]);
        let mut qemu = Running::start(ledger, plan.name, &folder.join(format!("{}.log", plan.name)), command)?;
        let serial = BufReader::new(connect(&mut qemu, &socket)?);
        let mut guest = Self { qemu, serial };
        guest.read_until(READY, BOOT_TIME).context("the guest does not boot")?;
        Ok(guest)
    }

    /// Starts a guest behind the tap device of a place in a world, with a file of its own, and waits until it listens.
    pub fn start_behind(world: &World, place: &WorkloadPlace, content: &Path) -> Result<Self> {
        Self::start_with(world, place, content, &[], MEMORY_MIB)
    }

    /// The same, with more files in it and memory for them.
    pub fn start_with(
        world: &World,
        place: &WorkloadPlace,
        content: &Path,
        files: &[(String, PathBuf)],
        memory_mib: u32,
    ) -> Result<Self> {
        let WorkloadPlace { address, gateway, address6, gateway6, .. } = place;
        let network = format!(
            "ip address add {address}/24 dev eth0\necho 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad\n\
             ip address add {address6}/64 dev eth0\n\
             ip route add default via {gateway}\nip -6 route add default via {gateway6}"
        );
        let plan = GuestPlan { name: "guest", tap: place.name, network: &network, content, files, memory_mib };
        Self::start(&world.ledger, &world.namespaces.node, &world.folder, &plan)
    }

    /// Runs a shell command in the guest and returns what it printed; fails if it fails.
    pub fn run(&mut self, command: &str, limit: Duration) -> Result<String> {
        let (status, text) = self.try_run(command, limit)?;
        if status != 0 {
            bail!("the guest's {command:?} ended with {status}: {}", text.trim());
        }
        Ok(text)
    }

    /// Runs a shell command in the guest and returns its exit status and what it printed.
    pub fn try_run(&mut self, command: &str, limit: Duration) -> Result<(i32, String)> {
        self.serial.get_mut().write_all(format!("{command}\n").as_bytes())?;
        let (text, status) = self.read_until(ENDED, limit).with_context(|| format!("the guest's {command:?}"))?;
        Ok((status.trim().parse().with_context(|| format!("{status:?} is no exit status"))?, text))
    }

    /// Reads until a line has a mark in it; gives what came before, and what follows the mark on its line.
    fn read_until(&mut self, mark: &str, limit: Duration) -> Result<(String, String)> {
        let start = Instant::now();
        let (mut text, mut line) = (String::new(), Vec::new());
        loop {
            match self.serial.read_until(b'\n', &mut line) {
                Ok(0) => bail!("the guest is gone; it had said: {text}"),
                Ok(_) if line.ends_with(b"\n") => {
                    let whole = String::from_utf8_lossy(&line).trim_end().to_owned();
                    line.clear();
                    if let Some((before, after)) = whole.split_once(mark) {
                        return Ok((text + before, after.to_owned()));
                    }
                    text += &format!("{whole}\n");
                }
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error).context("the guest's serial line"),
            }
            self.qemu.check()?;
            if start.elapsed() > limit {
                bail!("no {mark:?} within {limit:?}; the guest said: {text}");
            }
        }
    }
}

fn connect(qemu: &mut Running, socket: &Path) -> Result<UnixStream> {
    let start = Instant::now();
    loop {
        if let Ok(stream) = UnixStream::connect(socket) {
            stream.set_read_timeout(Some(Duration::from_millis(100)))?;
            return Ok(stream);
        }
        qemu.check()?;
        if start.elapsed() > SOCKET_TIME {
            bail!("QEMU does not open {}", socket.display());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn kernel_root() -> Result<PathBuf> {
    let cache = cache_dir()?.join("vm");
    let found = KERNELS.iter().map(|name| cache.join(name)).find(|root| root.join("boot").is_dir());
    found.with_context(|| format!("there is no kernel in {}: run `cargo xtask setup`", cache.display()))
}

fn kernel_image(root: &Path) -> Result<PathBuf> {
    let mut entries = std::fs::read_dir(root.join("boot"))?.filter_map(|entry| Some(entry.ok()?.path()));
    let is_kernel =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-"));
    entries.find(is_kernel).with_context(|| format!("{} holds no kernel", root.display()))
}

fn write_image(path: &Path, kernel: &Path, plan: &GuestPlan<'_>) -> Result<()> {
    let mut archive = Archive::new(BufWriter::new(File::create(path)?));
    for folder in FOLDERS {
        archive.directory(folder)?;
    }
    archive.file("init", init_script(plan).as_bytes())?;
    archive.file("serve", serve_script().as_bytes())?;
    archive.file("content", &std::fs::read(plan.content)?)?;
    let busybox = Program::find("busybox", "bin/busybox")?;
    archive.file("bin/busybox", &std::fs::read(&busybox.path)?)?;
    for (number, module) in MODULES.iter().enumerate() {
        if let Some(file) = find_file(&kernel.join("lib/modules"), &format!("{module}.ko"))? {
            archive.file(&format!("modules/{number}-{module}.ko"), &std::fs::read(file)?)?;
        }
    }
    let mut folders: BTreeSet<&Path> = FOLDERS.iter().map(Path::new).collect();
    for (place, source) in plan.files {
        let above: Vec<&Path> = Path::new(place).ancestors().skip(1).filter(|path| *path != Path::new("")).collect();
        for folder in above.into_iter().rev().filter(|folder| folders.insert(folder)) {
            archive.directory(&folder.display().to_string())?;
        }
        let bytes = std::fs::read(source).with_context(|| format!("{} cannot be read", source.display()))?;
        archive.file(place, &bytes)?;
    }
    archive.finish()?.flush()?;
    Ok(())
}

fn find_file(folder: &Path, name: &str) -> Result<Option<PathBuf>> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            if let Some(found) = find_file(&path, name)? {
                return Ok(Some(found));
            }
        } else if path.file_name().is_some_and(|file| file == name) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn init_script(plan: &GuestPlan<'_>) -> String {
    let network = plan.network;
    format!(
        "#!/bin/busybox sh\nexport PATH=/bin HOME=/\n/bin/busybox --install -s /bin\n\
         mount -t proc proc /proc\nmount -t sysfs sysfs /sys\nmount -t devtmpfs devtmpfs /dev\n\
         for module in /modules/*; do insmod $module; done\n\
         ip link set lo up\nip link set eth0 up\n{network}\n\
         stty -F /dev/ttyS0 raw -echo\nexec < /dev/ttyS0 > /dev/ttyS0 2>&1\necho '{READY}'\nsh /serve\npoweroff -f\n"
    )
}

/// Runs what the serial line says. It is not the first process: that inherits what commands leave behind, and busybox's `read` forgets
/// the half of a line that it has when a child ends.
fn serve_script() -> String {
    format!("while read -r line; do sh -c \"$line\" < /dev/null; echo \"{ENDED}$?\"; done\n")
}
