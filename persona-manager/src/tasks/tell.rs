//! What people and nodes are told of a decision: sections with reasons, the event, the subject's item.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use persona_core::compose::{Effective, Layer, Origin};
use persona_core::document::{Family, Impair, Network, Section, Security, SoftwarePackage};
use persona_core::ids::{EdgeName, GroupName, SubjectId};
use persona_core::units::{BitRate, Span};
use persona_core::wire::api::SectionAssignment;
use persona_core::wire::desired::{SharedQos, SubjectImpair, SubjectItem, SubjectNetwork, SubjectQos};
use persona_core::wire::firewall::{FirewallRule, SubjectFirewall};
use persona_core::wire::limits::SubjectResources;
use persona_core::wire::security::{SecuritySettings, SubjectSecurity};
use persona_core::wire::software::{SubjectSoftware, WantedPackage};
use serde_json::json;

use super::wear::{Composed, Outfit, nearest, triggered_by};
use crate::store::{Draft, LeaseRecord, Snapshot, SubjectRecord};

fn protocol_numbers(network: &Network) -> Vec<u8> {
    let protocols = network.protocols();
    let numbers: BTreeSet<u8> = protocols.iter().flat_map(|protocol| protocol.numbers()).copied().collect();
    numbers.into_iter().collect()
}

/// What a subject wears per section, for people.
pub(super) fn sections(record: &SubjectRecord, outfit: &Outfit) -> BTreeMap<String, SectionAssignment> {
    let section = |(section, origin): (&Section, &Origin)| {
        let pick = outfit.decision.pick.as_ref().filter(|pick| pick.persona == origin.persona);
        let activation = record.activation.as_ref().filter(|_| origin.layer == Layer::Activation);
        let triggered =
            record.triggered.as_ref().filter(|it| origin.layer == Layer::Activation && it.value == origin.persona);
        let activated = activation.map(|activation| activation.reason_of(&origin.persona));
        let activated = triggered.map(|_| triggered_by(record)).or(activated);
        let otherwise = || match (origin.layer, pick) {
            (_, Some(pick)) => pick.reason.clone(),
            (Layer::Manual, _) => "switched by hand".to_owned(),
            _ => format!("the default of binding {}", outfit.bindings.join(", ")),
        };
        let reason = activated.map_or_else(otherwise, str::to_owned);
        let measured = outfit.measured.as_ref().filter(|_| *section == Section::Network);
        let reason = measured.into_iter().fold(reason, |reason, measured| format!("{reason}; {measured}"));
        let until_ms = match origin.layer {
            Layer::Manual => record.manual.as_ref().and_then(|manual| manual.until_ms),
            Layer::Request => record.request.as_ref().and_then(|request| request.until_ms),
            Layer::Activation => triggered.and_then(|triggered| triggered.until_ms),
            _ => None,
        };
        let assignment = SectionAssignment {
            persona: origin.persona.clone(),
            version: origin.version,
            layer: origin.layer.to_string(),
            reason,
            until_ms,
        };
        (section.to_string(), assignment)
    };
    outfit.effective.effective.origins.iter().map(section).collect()
}

/// Why a subject has no network section, for people.
pub(super) fn why_nothing(snapshot: &Snapshot, subject: &SubjectId, outfit: &Outfit) -> String {
    if outfit.bindings.is_empty() {
        let how = nearest(snapshot, subject).unwrap_or_else(|| "apply one whose selector matches".to_owned());
        return format!("no binding selects it: {how}");
    }
    let reasons = outfit.decision.considered.iter().map(|it| format!("{}: {}", it.persona, it.refusals.join(", ")));
    let reasons: Vec<_> = reasons.collect();
    match reasons.is_empty() {
        true => format!("binding {} names no persona", outfit.bindings.join(", ")),
        false => reasons.join("; "),
    }
}

/// Notes that a subject wears something else than before.
pub(super) fn note_change(draft: &mut Draft, before: &SubjectRecord, after: &SubjectRecord, outfit: &Outfit) {
    let worn = |record: &SubjectRecord| -> BTreeMap<String, String> {
        record.sections.iter().map(|(name, it)| (name.clone(), format!("{}@{}", it.persona, it.version))).collect()
    };
    let (old, new) = (worn(before), worn(after));
    if old == new && before.unassigned.is_some() == after.unassigned.is_some() {
        return;
    }
    let reason = outfit.decision.pick.as_ref().map(|pick| pick.reason.clone());
    let network = |worn: &BTreeMap<String, String>| worn.get("network").cloned().unwrap_or_else(|| "nothing".into());
    let message = format!(
        "{}: network {} → {} ({})",
        after.subject,
        network(&old),
        network(&new),
        reason.or_else(|| after.unassigned.clone()).unwrap_or_default()
    );
    draft.event("assignment.changed", &after.subject, "manager", message, json!({ "before": old, "after": new }));
}

/// What a subject's node is told, from what it wears. Without leases it has no way out.
pub(super) fn item_of(record: &SubjectRecord, leases: &[Arc<LeaseRecord>], composed: &Composed) -> SubjectItem {
    let effective = &composed.effective;
    let network = effective.sections.network.as_ref().zip(record.target.as_ref());
    let network = network.and_then(|(network, target)| {
        let any = leases.first()?;
        Some(SubjectNetwork {
            persona: target.persona.clone(),
            version: target.version,
            vni: any.vni,
            mtu: network.mtu(),
            protocols: protocol_numbers(network),
            group: any.group.clone(),
            planned: planned_in(record, &any.group),
            lease: target.lease,
            lease6: target.lease6,
            prefer_ipv6: network.family() == Family::PreferIpv6 && target.lease6.is_some(),
            assign: network.assign(),
            filtering: network.filtering(),
            bypass: network.bypass.clone(),
            normalise: network.normalise().to_vec(),
            impair: network.impair.as_ref().map(impair_of),
        })
    });
    SubjectItem {
        subject: record.subject.clone(),
        number: record.number,
        network,
        qos: qos_of(effective),
        resources: resources_of(effective),
        software: software_of(effective),
        security: security_of(effective),
        firewall: firewall_of(effective),
        digest: composed.digest.clone(),
    }
}

/// Its planned edge, if that can carry the leases of this group.
fn planned_in(record: &SubjectRecord, group: &GroupName) -> Vec<EdgeName> {
    let planned = record.planned.iter().filter(|planned| planned.group == *group);
    planned.map(|planned| planned.edge.clone()).collect()
}

/// The rates and marks that a subject wears; of two rates the lower one, whichever section it is from.
fn qos_of(effective: &Effective) -> SubjectQos {
    let qos = effective.sections.qos.clone().unwrap_or_default();
    let impair = effective.sections.network.as_ref().and_then(|network| network.impair.as_ref());
    let impair_rate = impair.and_then(|impair| impair.rate);
    let lower = |rate: Option<BitRate>| rate.into_iter().chain(impair_rate).min().map(|rate| rate.0);
    SubjectQos {
        egress_bps: lower(qos.egress_rate),
        ingress_bps: lower(qos.ingress_rate),
        burst_bytes: qos.burst.map(|burst| burst.0),
        dscp: qos.effective_dscp().map(|dscp| dscp.value()),
        shared: shared_of(effective),
        enforce_at: qos.enforce_at.unwrap_or_default(),
    }
}

/// The total that a subject has a share of, under the name of the persona that its qos section is from.
fn shared_of(effective: &Effective) -> Option<SharedQos> {
    let (qos, origin) = effective.sections.qos.as_ref().zip(effective.origins.get(&Section::Qos))?;
    let shared = qos.shared.as_ref()?;
    let bps = |rate: Option<BitRate>| rate.map(|rate| rate.0);
    Some(SharedQos {
        persona: origin.persona.clone(),
        scope: shared.scope.unwrap_or_default(),
        egress_bps: bps(shared.egress_rate),
        ingress_bps: bps(shared.ingress_rate),
        guaranteed_bps: bps(qos.guaranteed_rate),
    })
}

fn impair_of(impair: &Impair) -> SubjectImpair {
    let ms = |span: Option<Span>| span.unwrap_or_default().0;
    SubjectImpair {
        delay_ms: ms(impair.delay),
        jitter_ms: ms(impair.jitter),
        loss: impair.loss.unwrap_or_default(),
        duplicate: impair.duplicate.unwrap_or_default(),
        reorder: impair.reorder.unwrap_or_default(),
    }
}

/// The limits that a subject wears, with the persona that they are from.
fn resources_of(effective: &Effective) -> Option<Box<SubjectResources>> {
    let (resources, origin) = effective.sections.resources.as_ref().zip(effective.origins.get(&Section::Resources))?;
    let (persona, version) = (origin.persona.clone(), origin.version);
    Some(Box::new(SubjectResources { persona, version, limits: resources.into() }))
}

/// The firewall rules that a subject wears, with the persona that they are from.
fn firewall_of(effective: &Effective) -> Option<Box<SubjectFirewall>> {
    let (security, origin) = effective.sections.security.as_ref().zip(effective.origins.get(&Section::Security))?;
    let rules: Vec<_> = security.firewall.iter().map(FirewallRule::from).collect();
    let (persona, version) = (origin.persona.clone(), origin.version);
    (!rules.is_empty()).then(|| Box::new(SubjectFirewall { persona, version, rules }))
}

/// The security settings that a subject wears beside its firewall, likewise.
fn security_of(effective: &Effective) -> Option<Box<SubjectSecurity>> {
    let (security, origin) = effective.sections.security.as_ref().zip(effective.origins.get(&Section::Security))?;
    let Security { firewall: _, sysctl, capabilities, no_new_privileges, read_only_root, seccomp, apparmor } = security;
    let settings = SecuritySettings {
        sysctl: sysctl.iter().map(|(name, value)| (name.clone(), value.0.clone())).collect(),
        capabilities: capabilities.clone(),
        no_new_privileges: *no_new_privileges,
        read_only_root: *read_only_root,
        seccomp: *seccomp,
        apparmor: apparmor.clone(),
    };
    let (persona, version) = (origin.persona.clone(), origin.version);
    (!settings.is_empty()).then(|| Box::new(SubjectSecurity { persona, version, settings }))
}

/// The packages that a subject shall have, with the persona that asks for them.
fn software_of(effective: &Effective) -> Option<Box<SubjectSoftware>> {
    let (packages, origin) = effective.sections.software.as_ref().zip(effective.origins.get(&Section::Software))?;
    let wanted = |it: &SoftwarePackage| WantedPackage { package: it.package.clone(), version: it.version.clone() };
    let packages = packages.iter().map(wanted).collect();
    Some(Box::new(SubjectSoftware { persona: origin.persona.clone(), version: origin.version, packages }))
}

#[cfg(test)]
mod tests {
    use persona_core::document::{Document, Format, SharedScope, parse_documents};
    use persona_core::ids::PersonaName;

    use super::*;

    fn effective(spec: &str) -> Effective {
        let text = format!(
            "apiVersion: persona/v1\nkind: Persona\nmetadata: {{ name: p }}\nspec:\n  network: {{ egress: {{ pools: [a] }}, {spec}\n"
        );
        let Document::Persona(persona) = parse_documents(&text, Format::Yaml, "p.yaml").unwrap().remove(0) else {
            panic!("{text} is no persona")
        };
        Effective { sections: persona.spec, ..Effective::default() }
    }

    #[test]
    fn of_two_rates_the_lower_one_is_told() {
        for (spec, egress_bps, ingress_bps) in [
            ("mtu: 1400 }", None, None),
            ("impair: { rate: 5mbit } }", Some(5_000_000), Some(5_000_000)),
            ("impair: { rate: 5mbit } }\n  qos: { egressRate: 2mbit }", Some(2_000_000), Some(5_000_000)),
            ("impair: { loss: 1% } }\n  qos: { ingressRate: 2mbit }", None, Some(2_000_000)),
            (
                "impair: { rate: 5mbit } }\n  qos: { egressRate: 8mbit, ingressRate: 9mbit }",
                Some(5_000_000),
                Some(5_000_000),
            ),
        ] {
            let qos = qos_of(&effective(spec));
            assert_eq!((qos.egress_bps, qos.ingress_bps), (egress_bps, ingress_bps), "{spec}");
        }
    }

    #[test]
    fn a_total_is_told_with_the_persona_that_it_is_of() {
        let spec = "mtu: 1400 }\n  qos: { egressRate: 2mbit, guaranteedRate: 1mbit, shared: { egressRate: 9mbit, ingressRate: 8mbit } }";
        let mut effective = effective(spec);
        let persona: PersonaName = "gold".parse().unwrap();
        effective.origins.insert(Section::Qos, Origin { persona: persona.clone(), version: 3, layer: Layer::Binding });
        let (egress_bps, ingress_bps) = (Some(9_000_000), Some(8_000_000));
        let (scope, guaranteed_bps) = (SharedScope::Node, Some(1_000_000));
        let shared = SharedQos { persona, scope, egress_bps, ingress_bps, guaranteed_bps };
        let qos = qos_of(&effective);
        assert_eq!(qos.shared, Some(shared));
        assert_eq!((qos.egress_most_bps(), qos.ingress_most_bps()), (Some(2_000_000), Some(8_000_000)));
    }

    #[test]
    fn what_is_made_worse_is_told_in_the_nodes_units() {
        let effective = effective("impair: { delay: 1.5s, jitter: 5ms, loss: 0.1%, duplicate: 2%, reorder: 25% } }");
        let impair = effective.sections.network.unwrap().impair.unwrap();
        let share = |text: &str| text.parse().unwrap();
        let (loss, duplicate, reorder) = (share("0.1%"), share("2%"), share("25%"));
        assert_eq!(impair_of(&impair), SubjectImpair { delay_ms: 1_500, jitter_ms: 5, loss, duplicate, reorder });
    }
}
