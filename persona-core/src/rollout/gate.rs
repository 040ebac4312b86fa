//! What speaks against a rollout: those who were moved do worse than they did before and than those who were not moved yet.
//!
//! Drops and rejected states are a node's, so that nodes with somebody moved stand against those without; what a subject sends
//! and hears, and the loss of probes to its edges, are its own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::spec::Gate;
use crate::ids::{NodeName, SubjectId};
use crate::units::Share;

/// Fewer drops than these prove nothing.
const DROP_COUNT_MIN: u64 = 20;

/// Who sent fewer packets is not taken to have been waiting for answers.
const SENT_COUNT_MIN: u64 = 10;

/// Reasons that say nothing of a persona: lost on purpose, or an edge's own silence.
const MEANT: [&str; 2] = ["impaired", "probe-silenced"];

/// Reasons that a fault names of those who are alike.
const NAMED_COUNT_MAX: usize = 3;

/// What a node carried and dropped within a time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeErrors {
    /// Packets carried.
    pub packets: u64,
    /// Drop reason → packets.
    pub drops: BTreeMap<String, u64>,
}

impl NodeErrors {
    /// What came since `start`; counters that went back began anew.
    pub fn since(&self, start: &Self) -> Self {
        let grown = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
        let of_reason = |(reason, count): (&String, &u64)| {
            (reason.clone(), grown(*count, start.drops.get(reason).copied().unwrap_or(0)))
        };
        Self { packets: grown(self.packets, start.packets), drops: self.drops.iter().map(of_reason).collect() }
    }

    /// Adds another node's.
    pub fn add(&mut self, other: &Self) {
        self.packets += other.packets;
        for (reason, count) in &other.drops {
            *self.drops.entry(reason.clone()).or_default() += count;
        }
    }

    /// What part of all packets was dropped for a reason, 0 to 1.
    fn share(&self, reason: &str) -> f64 {
        let dropped = self.drops.get(reason).copied().unwrap_or(0);
        let all = self.packets + self.drops.values().sum::<u64>();
        if all == 0 { 0.0 } else { dropped as f64 / all as f64 }
    }

    /// What part of all packets was dropped, but for what was meant to be.
    pub fn dropped(&self) -> f64 {
        self.drops.keys().filter(|reason| !MEANT.contains(&reason.as_str())).map(|reason| self.share(reason)).sum()
    }
}

/// What a subject sent and heard within a time, and how well its edges are heard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SubjectSigns {
    /// Packets from it.
    pub sent: u64,
    /// Packets to it.
    pub received: u64,
    /// Mean share of probes to its group's edges that stay unanswered, 0 to 1. None: nobody probes them.
    pub loss: Option<f32>,
}

/// A subject that was moved.
#[derive(Debug, Clone, PartialEq)]
pub struct MovedSigns {
    /// Who.
    pub subject: SubjectId,
    /// Why it cannot wear what it was moved to.
    pub trouble: Option<String>,
    /// In the time before it was moved.
    pub before: SubjectSigns,
    /// Since the wave began.
    pub now: SubjectSigns,
}

/// Everything that is known of those who were moved, and of the others.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evidence {
    /// Nodes with somebody moved, in the time before.
    pub nodes_before: NodeErrors,
    /// The same since the wave began.
    pub nodes_now: NodeErrors,
    /// Nodes with members of whom none was moved, since the wave began. None: there are none.
    pub others_now: Option<NodeErrors>,
    /// Loss of probes of members who were not moved. None: there are none.
    pub others_loss: Option<f32>,
    /// Nodes that reject the state that somebody was moved with, and why.
    pub rejections: Vec<(NodeName, String)>,
    /// Everybody who was moved and is still there.
    pub moved: Vec<MovedSigns>,
}

/// A sentence for people about what speaks against a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault(pub String);

/// The evidence in numbers, for people.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// What part of packets was dropped on nodes with somebody moved, since the wave began, 0 to 1.
    pub drops: f64,
    /// The same in the time before.
    pub drops_before: f64,
    /// The same since the wave began on nodes with nobody moved. Absent: there are none.
    pub drops_others: Option<f64>,
    /// Mean loss of probes to the edges of those who were moved, 0 to 1. Absent: nobody probes them.
    pub loss: Option<f32>,
    /// The same in the time before.
    pub loss_before: Option<f32>,
    /// The same now of those who were not moved.
    pub loss_others: Option<f32>,
    /// Of those who were moved: who send and were answered before.
    pub answered_before: u32,
    /// Of these, who hear nothing.
    pub unanswered: u32,
    /// Nodes that reject what they are told.
    pub rejections: u32,
}

impl Evidence {
    /// What speaks against going on.
    pub fn faults(&self, gate: &Gate) -> Vec<Fault> {
        let all = [self.rejected(), self.troubled(), self.dropped(gate), self.lost(gate), self.unheard(gate)];
        all.into_iter().flatten().map(Fault).collect()
    }

    /// In numbers.
    pub fn health(&self) -> Health {
        let (asking, unheard) = self.unanswered();
        Health {
            drops: self.nodes_now.dropped(),
            drops_before: self.nodes_before.dropped(),
            drops_others: self.others_now.as_ref().map(NodeErrors::dropped),
            loss: mean(self.moved.iter().map(|it| it.now.loss)),
            loss_before: mean(self.moved.iter().map(|it| it.before.loss)),
            loss_others: self.others_loss,
            answered_before: asking,
            unanswered: unheard.len() as u32,
            rejections: self.rejections.len() as u32,
        }
    }

    fn rejected(&self) -> Option<String> {
        let (node, reason) = self.rejections.first()?;
        let others = match self.rejections.len() - 1 {
            0 => String::new(),
            more => format!(" ({more} other nodes too)"),
        };
        Some(format!("node {node} rejects what it was told: {reason}{others}"))
    }

    fn troubled(&self) -> Option<String> {
        let mut troubled = self.moved.iter().filter_map(|it| Some((&it.subject, it.trouble.as_ref()?)));
        let (subject, trouble) = troubled.next()?;
        Some(format!("{} of {} who were moved: {subject}: {trouble}", 1 + troubled.count(), self.moved.len()))
    }

    fn dropped(&self, gate: &Gate) -> Option<String> {
        let allowance = part(gate.drops);
        let is_worse = |(reason, count): &(&String, &u64)| {
            let now = self.nodes_now.share(reason);
            let others = self.others_now.as_ref().map_or(0.0, |it| it.share(reason));
            **count >= DROP_COUNT_MIN
                && !MEANT.contains(&reason.as_str())
                && now > self.nodes_before.share(reason) + allowance
                && now > others + allowance
        };
        let worse = self.nodes_now.drops.iter().filter(is_worse);
        let told = worse.map(|(reason, _)| {
            let others = self.others_now.as_ref().map(|it| format!(", {} elsewhere", percent(it.share(reason))));
            let (now, before) = (self.nodes_now.share(reason), self.nodes_before.share(reason));
            format!(
                "{} of packets on the nodes of those moved are dropped ({reason}), {} before{}",
                percent(now),
                percent(before),
                others.unwrap_or_default()
            )
        });
        let told: Vec<String> = told.take(NAMED_COUNT_MAX).collect();
        (!told.is_empty()).then(|| told.join(", "))
    }

    fn lost(&self, gate: &Gate) -> Option<String> {
        let Health { loss, loss_before, loss_others, .. } = self.health();
        let (now, before) = (f64::from(loss?), f64::from(loss_before.unwrap_or(0.0)));
        let others = f64::from(loss_others.unwrap_or(0.0));
        let is_worse = now > before + part(gate.loss) && now > others + part(gate.loss);
        let elsewhere = loss_others.map(|it| format!(", {} of the others'", percent(it.into()))).unwrap_or_default();
        is_worse.then(|| {
            format!(
                "{} of probes to the edges of those moved stay unanswered, {} before{elsewhere}",
                percent(now),
                percent(before)
            )
        })
    }

    fn unheard(&self, gate: &Gate) -> Option<String> {
        let (asking, unheard) = self.unanswered();
        let first = unheard.first()?;
        let is_too_many = unheard.len() as f64 > f64::from(asking) * part(gate.unanswered);
        is_too_many.then(|| {
            format!(
                "{} of {asking} who were moved, send and were answered before hear nothing, such as {first}",
                unheard.len()
            )
        })
    }

    /// How many send and were answered before, and those of them who hear nothing.
    fn unanswered(&self) -> (u32, Vec<&SubjectId>) {
        let is_asking = |it: &&MovedSigns| it.now.sent >= SENT_COUNT_MIN && it.before.received > 0;
        let asking: Vec<&MovedSigns> = self.moved.iter().filter(is_asking).collect();
        let unheard = asking.iter().filter(|it| it.now.received == 0).map(|it| &it.subject);
        (asking.len() as u32, unheard.collect())
    }
}

/// The mean of what is known.
fn mean(values: impl Iterator<Item = Option<f32>>) -> Option<f32> {
    let known: Vec<f32> = values.flatten().collect();
    (!known.is_empty()).then(|| known.iter().sum::<f32>() / known.len() as f32)
}

fn part(share: Share) -> f64 {
    f64::from(share.millionths()) / f64::from(Share::WHOLE)
}

fn percent(part: f64) -> String {
    format!("{:.1} %", part * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(packets: u64, reason: &str, count: u64) -> NodeErrors {
        NodeErrors { packets, drops: [(reason.to_owned(), count)].into() }
    }

    fn moved(before: (u64, u64), now: (u64, u64)) -> MovedSigns {
        let signs = |(sent, received)| SubjectSigns { sent, received, loss: None };
        let subject = "workload/n1/web".parse().unwrap();
        MovedSigns { subject, trouble: None, before: signs(before), now: signs(now) }
    }

    fn faults(evidence: &Evidence) -> Vec<String> {
        evidence.faults(&Gate::default()).into_iter().map(|fault| fault.0).collect()
    }

    #[test]
    fn drops_count_when_they_are_more_than_before_and_than_elsewhere() {
        for (before, now, others, is_fault) in [
            (errors(1_000, "no-edge", 0), errors(900, "no-edge", 100), Some(errors(9_000, "no-edge", 0)), true),
            (errors(1_000, "no-edge", 0), errors(900, "no-edge", 100), None, true),
            (errors(900, "no-edge", 100), errors(900, "no-edge", 100), None, false),
            (errors(1_000, "no-edge", 0), errors(900, "no-edge", 100), Some(errors(900, "no-edge", 100)), false),
            (errors(1_000, "no-edge", 0), errors(81, "no-edge", 19), None, false),
            (errors(1_000, "no-edge", 0), errors(9_950, "no-edge", 50), None, false),
            (errors(1_000, "impaired", 0), errors(500, "impaired", 500), None, false),
        ] {
            let evidence = Evidence { nodes_before: before, nodes_now: now, others_now: others, ..Evidence::default() };
            let told = faults(&evidence);
            assert_eq!(!told.is_empty(), is_fault, "{evidence:?}");
            assert!(told.iter().all(|fault| fault.contains("10.0 %") && fault.contains("no-edge")), "{told:?}");
        }
    }

    #[test]
    fn who_was_answered_and_hears_nothing_any_more_speaks_against_it() {
        for (before, now, is_fault) in [
            ((50, 40), (50, 0), true),
            ((50, 40), (50, 1), false),
            ((50, 0), (50, 0), false),
            ((50, 40), (9, 0), false),
        ] {
            let evidence = Evidence { moved: vec![moved(before, now)], ..Evidence::default() };
            assert_eq!(!faults(&evidence).is_empty(), is_fault, "{evidence:?}");
        }
        let mut few = Evidence { moved: vec![moved((50, 40), (50, 40)); 10], ..Evidence::default() };
        few.moved[3].now.received = 0;
        assert_eq!(faults(&few), Vec::<String>::new(), "one of ten is what is allowed");
        few.moved[4].now.received = 0;
        assert!(faults(&few)[0].starts_with("2 of 10 who were moved"), "{:?}", faults(&few));
        assert_eq!((few.health().answered_before, few.health().unanswered), (10, 2));
    }

    #[test]
    fn loss_rejections_and_trouble_are_told() {
        let mut one = moved((0, 0), (0, 0));
        (one.before.loss, one.now.loss) = (Some(0.01), Some(0.25));
        let lossy = Evidence { moved: vec![one.clone()], others_loss: Some(0.02), ..Evidence::default() };
        let told = "25.0 % of probes to the edges of those moved stay unanswered, 1.0 % before, 2.0 % of the others'";
        assert_eq!(faults(&lossy), [told]);
        assert!(faults(&Evidence { others_loss: Some(0.24), ..lossy }).is_empty(), "the others lose as much");
        one.now.loss = None;
        one.trouble = Some("it wears nothing: no room".to_owned());
        let rejections = vec![("n1".parse().unwrap(), "netem is missing".to_owned())];
        let told = faults(&Evidence { moved: vec![one], rejections, ..Evidence::default() });
        assert_eq!(told[0], "node n1 rejects what it was told: netem is missing");
        assert_eq!(told[1], "1 of 1 who were moved: workload/n1/web: it wears nothing: no room");
    }

    #[test]
    fn counters_that_went_back_begin_anew() {
        let grown = errors(150, "no-edge", 7).since(&errors(100, "no-edge", 9));
        assert_eq!(grown, errors(50, "no-edge", 7));
        let mut both = grown;
        both.add(&errors(10, "too-big", 1));
        assert_eq!((both.packets, both.drops.len()), (60, 2));
    }
}
