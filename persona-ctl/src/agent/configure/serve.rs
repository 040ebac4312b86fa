//! Guests, whose inside cannot be entered: their leased addresses are offered on the device, a prefix by router
//! advertisements, an IPv4 address by DHCP.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use persona_core::ids::WorkloadName;

use super::announce;
use super::answerer::Answerer;
use super::dhcp::Offer;
use super::inside::Trouble;
use super::plan::{ConfiguredLease, ConfiguredWorkload, GATEWAY};
use crate::netlink::Link;

/// Guests that appear meanwhile hear of their prefix this much later at most.
const ANNOUNCE_AGAIN: Duration = Duration::from_secs(5);

/// What is offered, and to whom.
#[derive(Debug, Default)]
pub(super) struct Servant {
    announced: BTreeMap<WorkloadName, Announced>,
    /// By workload, with the device's index.
    answerers: BTreeMap<WorkloadName, (u32, Answerer)>,
}

#[derive(Debug)]
struct Announced {
    leases: Vec<ConfiguredLease>,
    mac: [u8; 6],
    moment: Instant,
}

impl Servant {
    /// Offers a workload's leases on its device, which is up. `can_announce`: the device has the address that an
    /// advertisement must come from.
    pub(super) fn serve(&mut self, link: &Link, can_announce: bool, workload: &ConfiguredWorkload) -> Vec<Trouble> {
        let mut troubles = Vec::new();
        let mut trouble = |event, message| troubles.push(Trouble { name: workload.name.clone(), event, message });
        if can_announce && let Err(error) = self.announce(link, workload) {
            trouble("configure.failed", format!("router advertisement on {}: {error}", link.name));
        }
        let current = workload.leases.iter().filter(|lease| lease.is_current).find_map(offer);
        match (current, link.controller) {
            (Some(offer), Some(_)) => {
                let Offer { address, mtu } = offer;
                let message = format!(
                    "{address} is for the guest behind {}, a port of a bridge, where others could ask for it: give it inside, as /32, with a default route by {GATEWAY} and an MTU of {mtu}, or take the device out of the bridge, or let the persona rewrite IPv4 (assign: rewrite)",
                    link.name
                );
                trouble("configure.unreachable", message);
            }
            (Some(offer), None) => {
                if let Err(error) = self.answer(link, workload, offer) {
                    trouble("configure.failed", format!("DHCP on {}: {error}", link.name));
                }
            }
            // An old address is not refused without a new one: it holds until the guest's time for it is over.
            (None, _) => drop(self.answerers.remove(&workload.name)),
        }
        troubles
    }

    /// Forgets whoever is not among these any more.
    pub(super) fn retain(&mut self, is_served: impl Fn(&WorkloadName) -> bool) {
        self.announced.retain(|name, _| is_served(name));
        self.answerers.retain(|name, _| is_served(name));
    }

    fn announce(&mut self, link: &Link, workload: &ConfiguredWorkload) -> std::io::Result<()> {
        let (mac, before) = (link.mac.unwrap_or_default(), self.announced.get(&workload.name));
        let is_idle = workload.leases.is_empty() && before.is_none_or(|done| done.leases.is_empty());
        let is_fresh = before.is_some_and(|done| {
            done.leases == workload.leases && done.mac == mac && done.moment.elapsed() < ANNOUNCE_AGAIN
        });
        if is_idle || is_fresh {
            return Ok(());
        }
        announce::announce(link, &workload.leases)?;
        let announced = Announced { leases: workload.leases.clone(), mac, moment: Instant::now() };
        self.announced.insert(workload.name.clone(), announced);
        Ok(())
    }

    fn answer(&mut self, link: &Link, workload: &ConfiguredWorkload, offer: Offer) -> std::io::Result<()> {
        match self.answerers.get(&workload.name) {
            Some((ifindex, answerer)) if *ifindex == link.index && answerer.is_running() => answerer.set(offer),
            _ => {
                self.answerers.remove(&workload.name);
                let answerer = Answerer::start(link, offer)?;
                self.answerers.insert(workload.name.clone(), (link.index, answerer));
            }
        }
        Ok(())
    }
}

fn offer(lease: &ConfiguredLease) -> Option<Offer> {
    match lease.address {
        std::net::IpAddr::V4(address) => Some(Offer { address, mtu: lease.mtu }),
        std::net::IpAddr::V6(_) => None,
    }
}
