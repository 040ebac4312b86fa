//! What no type can say about the qos section of a persona: see [`super::check`].

use super::check::Problems;
use super::qos::{EnforceAt, Qos, SharedRates, SharedScope};
use crate::units::BitRate;

/// Smallest rate that a queue can keep: below, one full packet takes longer than a second.
const RATE_MIN: BitRate = BitRate(64_000);

/// Things worth knowing about a valid qos section.
pub(super) fn qos_hints(qos: &Qos) -> Vec<String> {
    let at_edges = (!qos.enforce_at.unwrap_or_default().is_node()).then(|| {
        "spec.qos.enforceAt: each edge holds what passes it to the rates by itself; a wearer's flows leave by one edge as long as that serves".to_owned()
    });
    at_edges.into_iter().chain(shared_hints(qos)).collect()
}

fn shared_hints(qos: &Qos) -> Vec<String> {
    let Some(shared) = &qos.shared else { return Vec::new() };
    let (whose, place) = match shared.scope.unwrap_or_default() {
        SharedScope::Node => (
            "spec.qos.shared is held by each node for itself: wearers on several nodes have it several times, unless its scope is fleet",
            "on a node",
        ),
        SharedScope::Fleet => (
            "spec.qos.shared is divided among nodes by the manager: a node whose wearers begin waits some seconds for its part",
            "on all nodes together",
        ),
    };
    let guaranteed = qos.guaranteed_rate.filter(|rate| rate.0 > 0).zip(shared.egress_rate).map(|(rate, total)| {
        format!("spec.qos.guaranteedRate holds for up to {} wearers {place}; if there are more, each has an equal share of the {total}", total.0 / rate.0)
    });
    [whose.to_owned()].into_iter().chain(guaranteed).collect()
}

impl Problems {
    pub(super) fn qos(&mut self, qos: &Qos, mtu: u16) {
        self.rate("spec.qos.egressRate", qos.egress_rate);
        self.rate("spec.qos.ingressRate", qos.ingress_rate);
        if let Some(burst) = qos.burst {
            let too_small = burst.0 < u64::from(mtu);
            self.refuse_if(
                too_small,
                "spec.qos.burst",
                format!("{burst} is less than one packet of {mtu} bytes: write at least {mtu}B"),
            );
            self.refuse_if(burst.0 > u64::from(u32::MAX), "spec.qos.burst", "write less than 4GiB");
            let unused = qos.egress_rate.is_none() && qos.ingress_rate.is_none() && qos.shared.is_none();
            self.refuse_if(
                unused,
                "spec.qos.burst",
                "a burst without a rate means nothing: write egressRate or ingressRate too",
            );
        }
        if let Some(shared) = &qos.shared {
            self.shared(qos, shared);
        }
        self.guaranteed(qos);
        self.enforced(qos);
    }

    fn enforced(&mut self, qos: &Qos) {
        let path = "spec.qos.enforceAt";
        let place = qos.enforce_at.unwrap_or_default();
        let has_rate = qos.egress_rate.is_some() || qos.ingress_rate.is_some() || qos.shared.is_some();
        self.refuse_if(
            !place.is_node() && !has_rate,
            path,
            "means nothing without a rate: write egressRate or ingressRate too",
        );
        self.refuse_if(
            place == EnforceAt::Edge && qos.shared.is_some(),
            path,
            "edges hold each wearer to its own rates, and nodes hold shared totals: write both, or leave shared out",
        );
    }

    fn shared(&mut self, qos: &Qos, shared: &SharedRates) {
        let is_empty = shared.egress_rate.is_none() && shared.ingress_rate.is_none();
        self.refuse_if(is_empty, "spec.qos.shared", "means nothing when empty: write egressRate or ingressRate");
        for (key, own, total) in [
            ("egressRate", qos.egress_rate, shared.egress_rate),
            ("ingressRate", qos.ingress_rate, shared.ingress_rate),
        ] {
            self.rate(&format!("spec.qos.shared.{key}"), total);
            let (Some(own), Some(total)) = (own, total) else { continue };
            let message = format!("{own} is more than all wearers have together: write at most {total}");
            self.refuse_if(own > total, format!("spec.qos.{key}"), message);
        }
    }

    fn guaranteed(&mut self, qos: &Qos) {
        let path = "spec.qos.guaranteedRate";
        let Some(guaranteed) = qos.guaranteed_rate else { return };
        self.rate(path, Some(guaranteed));
        let total = qos.shared.as_ref().and_then(|shared| shared.egress_rate);
        self.refuse_if(total.is_none(), path, "is a part of a total: write shared.egressRate too");
        for (key, most) in [("egressRate", qos.egress_rate), ("shared.egressRate", total)] {
            let Some(most) = most.filter(|most| guaranteed > *most) else { continue };
            self.refuse_if(true, path, format!("{guaranteed} is more than {key}: write at most {most}"));
        }
    }

    pub(super) fn rate(&mut self, path: &str, rate: Option<BitRate>) {
        if let Some(rate) = rate.filter(|rate| *rate < RATE_MIN) {
            let advice = format!("write at least {RATE_MIN}, or leave it out for no limit");
            self.refuse_if(true, path, format!("{rate} is too low to queue for: {advice}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hints(shared: Option<SharedRates>, guaranteed_rate: Option<BitRate>) -> Vec<String> {
        qos_hints(&Qos { shared, guaranteed_rate, ..Qos::default() })
    }

    #[test]
    fn a_total_is_said_to_be_each_nodes_own_and_guarantees_to_have_an_end() {
        let shared = SharedRates { scope: None, egress_rate: Some(BitRate(100_000_000)), ingress_rate: None };
        assert_eq!(hints(None, None), Vec::<String>::new());
        assert!(hints(Some(shared.clone()), None)[0].contains("on several nodes have it several times"));
        let guaranteed = hints(Some(shared.clone()), Some(BitRate(30_000_000)));
        assert!(guaranteed[1].contains("up to 3 wearers on a node"), "{guaranteed:?}");
        let fleet = SharedRates { scope: Some(SharedScope::Fleet), ..shared };
        let told = hints(Some(fleet), Some(BitRate(30_000_000)));
        assert!(told[0].contains("divided among nodes") && told[1].contains("3 wearers on all nodes"), "{told:?}");
    }
}
