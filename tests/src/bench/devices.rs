//! Devices of a place: where live frames come in, and the sink that they leave by.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};

use super::place::Place;
use super::tap::Sink;
use crate::netns::run;

impl Place {
    /// A device for live frames, up; gives its hardware address. GRO makes the kernel ready for frames from XDP.
    pub fn inlet(&self, device: &str) -> Result<[u8; 6]> {
        self.namespace.ip(&format!("link add {device} type veth peer name {device}p"))?;
        self.namespace.ip(&format!("link set {device}p up"))?;
        self.namespace.ip(&format!("link set {device} up"))?;
        self.namespace.set_offloads(device, "gro on")?;
        self.namespace.write_sysctl(&format!("net/ipv4/conf/{device}/rp_filter"), "0")?;
        self.mac(device)
    }

    /// A sink with an address; the `router` behind it needs no ARP.
    pub fn outlet(&self, device: &str, address: &str, router: Ipv4Addr, router_mac: [u8; 6]) -> Result<Sink> {
        let sink = self.inside(|| Sink::create(device).context("a TAP device cannot be made"))?;
        self.namespace.ip(&format!("link set {device} up"))?;
        self.namespace.add_address(device, address)?;
        let mac = router_mac.map(|byte| format!("{byte:02x}")).join(":");
        self.namespace.ip(&format!("neigh replace {router} lladdr {mac} dev {device} nud permanent"))?;
        Ok(sink)
    }

    /// Hardware address of a device.
    pub fn mac(&self, device: &str) -> Result<[u8; 6]> {
        let json: serde_json::Value = serde_json::from_str(&self.namespace.ip(&format!("-j link show dev {device}"))?)?;
        let text = json[0]["address"].as_str().context("a device has an address")?;
        let bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<Vec<_>, _>>()?;
        bytes.try_into().map_err(|_| anyhow::anyhow!("{text} is no hardware address"))
    }

    /// Frames that a sink was given, those included that it had no room for.
    pub fn arrived(&self, device: &str) -> Result<u64> {
        let text = self.namespace.ip(&format!("-j -s link show dev {device}"))?;
        let json: serde_json::Value = serde_json::from_str(&text)?;
        let count = |what: &str| json[0]["stats64"]["tx"][what].as_u64();
        let arrived = count("packets").zip(count("dropped")).map(|(packets, dropped)| packets + dropped);
        arrived.with_context(|| format!("{device} has no counters: {text}"))
    }

    /// Runs `tc` inside, words split at blanks.
    pub fn tc(&self, arguments: &str) -> Result<()> {
        let words: Vec<&str> = ["-n", &self.namespace.name].into_iter().chain(arguments.split_whitespace()).collect();
        run("tc", &words).map(drop)
    }

    /// Gives `nft` a script inside.
    pub fn nft(&self, script: &str) -> Result<()> {
        let path = self.path("rules.nft");
        std::fs::write(&path, script)?;
        let output = self.namespace.command("nft")?.arg("-f").arg(&path).output().context("nft does not start")?;
        anyhow::ensure!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    }
}
