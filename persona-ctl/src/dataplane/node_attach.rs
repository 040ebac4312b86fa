//! Which program of a node hangs where: at uplinks, at workloads' devices, and at uplinks for the host's own subjects.

use std::path::PathBuf;

use aya::programs::TcAttachType;

use super::attach;
use super::error::DataplaneError;
use super::node::NodeDataplane;

/// A program and its side of a device.
type Place = (&'static str, TcAttachType);

/// At every uplink.
const UPLINK: [Place; 2] = [("from_edge", TcAttachType::Ingress), ("guard", TcAttachType::Egress)];

/// At every uplink while control groups are subjects.
const HOST: Place = ("from_host", TcAttachType::Egress);

/// At every workload's device. What notes connections towards the workload comes first, so that their answers find them.
const WORKLOAD: [Place; 2] = [("to_workload", TcAttachType::Egress), ("from_workload", TcAttachType::Ingress)];

impl NodeDataplane {
    /// Puts the programs at the uplinks onto these devices and takes them off any other: for an uplink that came back
    /// under another index.
    pub fn set_uplinks(&mut self, uplinks: &[u32]) -> Result<(), DataplaneError> {
        for ifindex in uplinks {
            for place in UPLINK {
                self.attach(place, *ifindex)?;
            }
        }
        self.uplinks = uplinks.to_vec();
        self.reap_uplinks()?;
        let has_host = !self.maps.cgroups.entries()?.is_empty();
        self.watch_host(has_host)
    }

    /// Takes the programs at uplinks off what is neither one nor the encrypted tunnel's device.
    pub(super) fn reap_uplinks(&self) -> Result<(), DataplaneError> {
        let kept: Vec<u32> = self.uplinks.iter().copied().chain(self.wire_kept).collect();
        attach::reap_links(&self.pins.links, &UPLINK.map(|(program, _)| program), &kept)
    }

    /// Loads the program for the host's own subjects. It is the one that the verifier takes longest for, and most nodes
    /// have no such subjects, so it is loaded when the first is there.
    pub fn load_host_program(&mut self) -> Result<(), DataplaneError> {
        attach::load_tc(&mut self.ebpf, HOST.0)
    }

    /// Puts the program for the host's own subjects onto the uplinks, or takes it off.
    pub(super) fn watch_host(&mut self, is_wanted: bool) -> Result<(), DataplaneError> {
        if is_wanted {
            self.load_host_program()?;
        }
        let ifindices = if is_wanted { self.uplinks.clone() } else { Vec::new() };
        for ifindex in &ifindices {
            self.attach(HOST, *ifindex)?;
        }
        attach::reap_links(&self.pins.links, &[HOST.0], &ifindices)
    }

    /// Puts this binary's programs on the workload devices that an earlier process attached.
    pub(super) fn replace_devices(&mut self) -> Result<(), DataplaneError> {
        for (ifindex, _) in self.maps.devices.entries()? {
            match self.attach_device(ifindex) {
                // It vanished while nobody looked; the next tables say so too.
                Err(DataplaneError::NoDevice { .. }) => self.forget_device(ifindex)?,
                result => result?,
            }
        }
        Ok(())
    }

    /// Attaches to a workload's device.
    pub(super) fn attach_device(&mut self, ifindex: u32) -> Result<(), DataplaneError> {
        WORKLOAD.into_iter().try_for_each(|place| self.attach(place, ifindex))
    }

    /// Detaches from a workload's device and forgets it.
    pub(super) fn forget_device(&mut self, ifindex: u32) -> Result<(), DataplaneError> {
        for (program, _) in WORKLOAD {
            attach::remove_pin(program, &self.pin(program, ifindex))?;
        }
        self.clear_device_hint(ifindex)?;
        self.maps.devices.remove(&ifindex)
    }

    pub(super) fn attach(&mut self, (program, direction): Place, ifindex: u32) -> Result<(), DataplaneError> {
        let pin = self.pin(program, ifindex);
        attach::attach_tc(&mut self.ebpf, program, ifindex, direction, &pin, self.coexist)
    }

    fn pin(&self, program: &str, ifindex: u32) -> PathBuf {
        self.pins.links.join(format!("{program}-{ifindex}"))
    }
}
