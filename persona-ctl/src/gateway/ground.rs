//! The data planes that the gateway's process holds, opened on the devices that are there and anew when those change.

use std::collections::BTreeMap;

use anyhow::Context;

use super::config::GatewayConfig;
use super::observe::Observed;
use crate::dataplane::gateway_tables::{DeliveryTables, GatewayTables};
use crate::dataplane::{
    DeliveryDataplane, DeliveryOptions, FlowCounts, GatewayDataplane, GatewayOptions, PacketLogging,
};
use crate::packet_log::{self, Follower};

/// What is open, and where.
pub(super) struct Ground {
    gateway: Option<(GatewayDataplane, Vec<u32>, Option<Follower>)>,
    delivery: Option<(DeliveryDataplane, u32)>,
}

impl Ground {
    /// Opens what the configuration asks for. Every device must be there.
    pub(super) fn open(config: &GatewayConfig, observed: &Observed) -> anyhow::Result<Self> {
        let (_, missing) = observed.devices(&config.file.devices);
        let gone = config.file.delivery.iter().filter(|it| observed.device(&it.device).is_none());
        let missing: Vec<&str> = missing.into_iter().chain(gone.map(|it| it.device.as_str())).collect();
        let present: Vec<&str> = observed.links.iter().map(|link| link.name.as_str()).collect();
        anyhow::ensure!(
            missing.is_empty(),
            "device {} is not there: the devices here are {}",
            missing.join(", "),
            present.join(", ")
        );
        let mut ground = Self { gateway: None, delivery: None };
        ground.follow(config, observed)?;
        Ok(ground)
    }

    /// Opens anew what stands on other devices by now.
    pub(super) fn follow(&mut self, config: &GatewayConfig, observed: &Observed) -> anyhow::Result<()> {
        let (devices, _) = observed.devices(&config.file.devices);
        let devices: Vec<u32> = devices.iter().filter(|link| link.mac.is_some()).map(|link| link.index).collect();
        let logging = PacketLogging::from_flag(config.file.verbose_packets);
        if self.gateway.as_ref().is_none_or(|(_, on, _)| *on != devices) && !devices.is_empty() {
            let options = GatewayOptions {
                bpffs: config.bpffs.clone(),
                devices: devices.clone(),
                hook: config.file.hook.into(),
                coexist: config.file.coexist,
                logging,
            };
            let mut dataplane = GatewayDataplane::open(&options).context("the gateway's data plane is not there")?;
            let follower = match logging {
                PacketLogging::On => Some(packet_log::follow(dataplane.packet_log(packet_log::tell)?)),
                PacketLogging::Off => None,
            };
            tracing::info!(hook = ?dataplane.hook(), devices = devices.len(), "the gateway's programs are attached");
            self.gateway = Some((dataplane, devices, follower));
        }
        let Some(file) = &config.file.delivery else { return Ok(()) };
        let Some(device) = observed.device(&file.device).map(|link| link.index) else { return Ok(()) };
        if self.delivery.as_ref().is_none_or(|(_, on)| *on != device) {
            let options =
                DeliveryOptions { bpffs: config.bpffs.clone(), device, coexist: config.file.coexist, logging };
            let dataplane = DeliveryDataplane::open(&options).context("the delivery's data plane is not there")?;
            tracing::info!(device = file.device, "the delivery's program is attached");
            self.delivery = Some((dataplane, device));
        }
        Ok(())
    }

    /// The gateway's data plane.
    pub(super) fn gateway(&self) -> Option<&GatewayDataplane> {
        self.gateway.as_ref().map(|(dataplane, ..)| dataplane)
    }

    /// The same, to be changed.
    pub(super) fn gateway_mut(&mut self) -> Option<&mut GatewayDataplane> {
        self.gateway.as_mut().map(|(dataplane, ..)| dataplane)
    }

    /// Puts the gateway's tables in force.
    pub(super) fn apply(&mut self, tables: &GatewayTables) -> anyhow::Result<()> {
        match self.gateway_mut() {
            Some(dataplane) => dataplane.apply(tables).context("the services were not put in force"),
            None => Ok(()),
        }
    }

    /// Puts the delivery's tables in force.
    pub(super) fn apply_delivery(&mut self, tables: &DeliveryTables) -> anyhow::Result<()> {
        match &mut self.delivery {
            Some((dataplane, _)) => dataplane.apply(tables).context("the deliveries were not put in force"),
            None => Ok(()),
        }
    }

    /// Flows in force, by instance.
    pub(super) fn flow_counts(&self) -> anyhow::Result<FlowCounts> {
        Ok(self.gateway().map(GatewayDataplane::flow_counts).transpose()?.unwrap_or_default())
    }

    /// Drop reason → packets, of everything here.
    pub(super) fn drops(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let mut drops = self.gateway().map(GatewayDataplane::drops).transpose()?.unwrap_or_default();
        if let Some((delivery, _)) = &self.delivery {
            for (reason, count) in delivery.drops()? {
                *drops.entry(reason).or_default() += count;
            }
        }
        Ok(drops)
    }
}
