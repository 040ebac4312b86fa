//! Keeps a role's encrypted tunnel alive from pass to pass; without one, encrypted personas are not carried.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::engine::Engine;
use super::kernel::{self, KernelDevice};
use super::rotation::Stage;
use super::{FarEnd, FarEndState, OwnKeys, PublicKey, WireConfig, WireError, Wireguard, reverse_path};
use crate::host::error_chain;
use crate::slow_path::bring_up;

/// What a host lacks is looked for this often: each time its kernel may go and look for a module.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);

/// A tunnel that may have to be tried again.
pub struct Keeper {
    pub(super) config: WireConfig,
    pub(super) running: Option<Running>,
    /// This host's own keys, once they have been asked for.
    pub(super) keys: Option<OwnKeys>,
    /// How far a change of the key has come.
    pub(super) stage: Stage,
    /// Why the key cannot be changed; it is used on.
    pub(super) stuck: Option<String>,
    /// When the role was started.
    pub(super) started: Instant,
    /// What this host lacks.
    lack: Option<String>,
    /// When that was found.
    looked_at: Option<Instant>,
    /// What was said last: the same trouble every second is one line in the log.
    trouble: Option<String>,
}

/// A tunnel that works.
pub(super) struct Running {
    pub(super) key: PublicKey,
    pub(super) device: Device,
    is_open: bool,
}

pub(super) enum Device {
    Userspace(Engine),
    Kernel(KernelDevice),
}

impl Keeper {
    /// Nothing is started yet.
    pub fn new(config: WireConfig) -> Self {
        Self {
            config,
            running: None,
            keys: None,
            stage: Stage::default(),
            stuck: None,
            started: Instant::now(),
            lack: None,
            looked_at: None,
            trouble: None,
        }
    }

    /// What others need to know of this end, before there is a device: made when the first encrypted persona comes. None: there
    /// will be none.
    pub fn offer(&mut self) -> Option<(PublicKey, u16)> {
        if let Some(running) = &self.running {
            return Some((running.key, self.config.port));
        }
        if self.looked_at.is_none_or(|at| at.elapsed() >= LOOK_INTERVAL) {
            (self.lack, self.looked_at) = (self.can_encrypt().err(), Some(Instant::now()));
        }
        if self.lack.is_some() {
            return None;
        }
        if self.keys.is_none() {
            match OwnKeys::in_directory(&self.config.state_dir) {
                Ok(keys) => self.keys = Some(keys),
                Err(error) => self.note(error_chain(&error)),
            }
        }
        let key = self.keys.as_ref()?.current.public();
        self.trouble.is_none().then_some((key, self.config.port))
    }

    /// Whether a device can probably be made here, or why not.
    fn can_encrypt(&self) -> Result<(), String> {
        let has_tun = || std::fs::File::options().read(true).write(true).open("/dev/net/tun").map(drop);
        match self.config.wireguard {
            Wireguard::Off => Err("wireguard = \"off\" in the configuration file".to_owned()),
            Wireguard::Kernel => Ok(()),
            Wireguard::Auto if kernel::is_known() => Ok(()),
            Wireguard::Auto | Wireguard::Userspace => has_tun().map_err(|error| format!("/dev/net/tun: {error}")),
        }
    }

    /// Takes the tunnel away: nothing is encrypted here any more.
    pub fn stop(&mut self) {
        self.trouble = None;
        if let Some(Running { device: Device::Kernel(device), .. }) = self.running.take() {
            device.remove();
        }
    }

    /// Whether the kernel encrypts. None: nothing does yet.
    pub fn is_kernel(&self) -> Option<bool> {
        self.running.as_ref().map(|running| matches!(running.device, Device::Kernel(_)))
    }

    /// The device of the tunnel on this host's address, while it can be had; a new one is closed until [`Self::open`]. Blocks for as long as making a device takes.
    pub fn ensure(&mut self, address: IpAddr, mtu: u32) -> Option<u32> {
        if self.config.wireguard == Wireguard::Off {
            return None;
        }
        if self.running.as_ref().is_none_or(|running| !running.device.serves(address)) {
            // The port is free only once the one before has gone.
            self.running = None;
            let started = OwnKeys::in_directory(&self.config.state_dir).map_err(WireError::from).and_then(|keys| {
                let running = start(&self.config, &keys, address, mtu)?;
                self.keys = Some(keys);
                Ok(running)
            });
            match started {
                Ok(running) => {
                    let (ifindex, kind) = (running.device.ifindex(), running.device.kind());
                    tracing::info!(device = self.config.device, ifindex, kind, "encrypted tunnel is ready");
                    self.running = Some(running);
                    self.trouble = None;
                }
                Err(error) => self.note(error_chain(&error)),
            }
        }
        self.running.as_ref().map(|running| running.device.ifindex())
    }

    /// Lets packets in and out, once programs are there to take them: what they don't take, the host would answer, in clear.
    pub fn open(&mut self) {
        let name = self.config.device;
        let Some(running) = self.running.as_ref().filter(|running| !running.is_open) else { return };
        if let Err(error) = reverse_path::loosen(name, running.device.ifindex()) {
            tracing::info!(
                device = name, %error,
                "the device keeps its filter of sources; over IPv4 it may drop answers to the host's own encrypted subjects"
            );
        }
        let outcome = bring_up(name);
        match outcome {
            Ok(()) => self.running.iter_mut().for_each(|running| running.is_open = true),
            Err(error) => self.note(format!("device {name} cannot be brought up: {error}")),
        }
    }

    /// Talks to these far ends from now on and to no others.
    pub fn set_far_ends(&mut self, far_ends: &[FarEnd]) {
        let outcome = match &mut self.running {
            None => return,
            Some(Running { device: Device::Userspace(engine), .. }) => {
                engine.set_far_ends(far_ends);
                return;
            }
            Some(Running { device: Device::Kernel(device), .. }) => device.set_far_ends(far_ends),
        };
        match outcome {
            Ok(()) => self.trouble = None,
            Err(error) => self.note(format!("far ends were not taken by the kernel: {}", error_chain(&error))),
        }
    }

    /// What is known of the far ends.
    pub fn states(&self) -> Vec<FarEndState> {
        match &self.running {
            None => Vec::new(),
            Some(Running { device: Device::Userspace(engine), .. }) => engine.states(),
            Some(Running { device: Device::Kernel(device), .. }) => device.states(),
        }
    }

    /// Why there is no tunnel, or why it does not do what it should.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref().or(self.lack.as_deref()).or(self.stuck.as_deref())
    }

    pub(super) fn note(&mut self, trouble: String) {
        if self.trouble.as_ref() != Some(&trouble) {
            tracing::warn!(trouble, "there is no encrypted tunnel; encrypted personas are not carried");
            self.trouble = Some(trouble);
        }
    }
}

impl Device {
    fn ifindex(&self) -> u32 {
        match self {
            Self::Userspace(engine) => engine.ifindex(),
            Self::Kernel(device) => device.ifindex(),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Userspace(_) => "user space",
            Self::Kernel(_) => "kernel",
        }
    }

    fn serves(&self, address: IpAddr) -> bool {
        match self {
            Self::Userspace(engine) => engine.serves(address),
            Self::Kernel(device) => device.is_there(),
        }
    }
}

fn start(config: &WireConfig, keys: &OwnKeys, address: IpAddr, mtu: u32) -> Result<Running, WireError> {
    let userspace = || {
        // One of the kernel's may be left from when the configuration said so.
        if kernel::is_known()
            && let Err(error) = kernel::remove_all(&[config.device])
        {
            tracing::debug!(%error, "a device of the kernel's was not removed");
        }
        Engine::start(config, keys, address, mtu).map(Device::Userspace)
    };
    let by_kernel = || {
        let device = KernelDevice::start(config, &keys.current, mtu);
        device.map(Device::Kernel).map_err(|source| WireError::Kernel { name: config.device, source })
    };
    let device = match config.wireguard {
        Wireguard::Userspace => userspace()?,
        Wireguard::Kernel => by_kernel()?,
        Wireguard::Auto | Wireguard::Off => by_kernel().or_else(|error| {
            tracing::debug!(error = error_chain(&error), "no WireGuard of the kernel's; one in user space is tried");
            userspace()
        })?,
    };
    Ok(Running { key: keys.current.public(), device, is_open: false })
}
