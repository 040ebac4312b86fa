//! From a node to its subjects' facts and candidates.

use super::filter::{Filter, PAIR_FILTERS, Pair};
use super::fleet::{Fleet, FleetNode, FleetSubject, Path};
use super::geometry::Point;
use super::ground::{Candidate, LabelValues, SubjectFacts, Subjects, Tally};
use super::score;
use super::tables::{Tables, amount_of};

/// Reads nodes; keeps its scratch space from one to the next.
pub(super) struct NodeReader<'a> {
    fleet: &'a Fleet,
    tables: &'a Tables,
    values: &'a mut LabelValues,
    /// By edge, the path of the node that is read.
    paths: Vec<Option<Path>>,
    /// By edge, which of the subject's personas made it a candidate.
    taken: Vec<bool>,
}

impl<'a> NodeReader<'a> {
    pub(super) fn new(fleet: &'a Fleet, tables: &'a Tables, values: &'a mut LabelValues) -> Self {
        let count = tables.edges.len();
        Self { fleet, tables, values, paths: vec![None; count], taken: vec![false; count] }
    }

    /// Adds a node's subjects.
    pub(super) fn read(&mut self, node: &FleetNode, subjects: &mut Subjects) {
        let measured = self.set_paths(node);
        let point = node.location.as_ref().and_then(Point::of);
        for subject in &node.subjects {
            let facts = self.facts_of(node, subject, point);
            let (candidates, tally) = self.candidates_of(&facts);
            subjects.ids.push(subject.id(&node.name));
            subjects.facts.push(facts);
            subjects.candidates.push(candidates);
            subjects.tallies.push(tally);
        }
        measured.into_iter().for_each(|edge| self.paths[edge] = None);
    }

    /// Notes a node's measured paths; answers to which edges.
    fn set_paths(&mut self, node: &FleetNode) -> Vec<usize> {
        let edges = &self.fleet.edges;
        let (mut measured, mut next) = (Vec::with_capacity(node.paths.len()), 0);
        for (name, path) in &node.paths {
            // Both are in the order of names, and who measures an edge often measures the one after it.
            if edges.get(next).is_none_or(|edge| edge.name != *name) {
                match edges.binary_search_by(|edge| edge.name.cmp(name)) {
                    Ok(found) => next = found,
                    Err(_) => continue,
                }
            }
            self.paths[next] = Some(*path);
            measured.push(next);
            next += 1;
        }
        measured
    }

    fn facts_of(&mut self, node: &FleetNode, subject: &FleetSubject, point: Option<Point>) -> SubjectFacts {
        let label_of = |key: &str| subject.labels.get(key).or_else(|| node.labels.get(key)).map(String::as_str);
        let policies = self.fleet.policies.iter().enumerate();
        let policies = policies.filter(|(_, policy)| policy.subjects.matches(label_of));
        let policies: u64 = policies.fold(0, |mask, (bit, _)| mask | 1 << bit);
        let is_for = |policy: usize| policies & (1 << policy) != 0;
        let shares = self.tables.shares.iter().zip(0_u8..).filter(|(rule, _)| is_for(rule.policy));
        let mut aparts = Vec::new();
        for (rule, number) in self.tables.aparts.iter().zip(0_u8..).filter(|(rule, _)| is_for(rule.policy)) {
            if let Some(value) = label_of(&rule.rule.label) {
                let next = self.values.len() as u32;
                aparts.push((number, *self.values.entry((number, value.to_owned())).or_insert(next)));
            }
        }
        let demand = amount_of(&subject.demand);
        SubjectFacts {
            demand,
            units: demand.map(|units| units as f64),
            personas: subject.personas.iter().map(|name| self.tables.persona_index[name]).collect(),
            // A group that nobody knows is one that no edge is in.
            group: subject.group.as_ref().map(|group| self.tables.groups.get(group).copied().unwrap_or(u16::MAX)),
            requires: self.tables.wanted(&subject.requires),
            prefers: self.tables.wanted(&subject.prefers).mask,
            policies,
            shares: shares.map(|(_, number)| number).collect(),
            aparts,
            point,
            content_scores: self.tables.content_scores(subject.content.as_deref()),
        }
    }

    /// Edges that pass, each under the first persona with which it does.
    fn candidates_of(&mut self, subject: &SubjectFacts) -> (Vec<Candidate>, Tally) {
        let may_carry = |group: &&u16| subject.group.is_none_or(|only| only == **group);
        let groups = subject.personas.iter().flat_map(|it| &self.tables.personas[usize::from(*it)].groups);
        let groups = groups.filter(may_carry);
        let most = groups.map(|group| self.tables.edges_of_group[usize::from(*group)].len()).sum();
        let mut candidates: Vec<Candidate> = Vec::with_capacity(most);
        // The first refusal of each edge counts.
        let mut refusals: Vec<(u16, Filter)> = Vec::new();
        for (position, persona) in subject.personas.iter().enumerate() {
            let persona = &self.tables.personas[usize::from(*persona)];
            let groups = persona.groups.iter().filter(may_carry);
            let edges = groups.flat_map(|group| &self.tables.edges_of_group[usize::from(*group)]);
            for edge in edges {
                let index = usize::from(*edge);
                if self.taken[index] {
                    continue;
                }
                let path = self.paths[index].as_ref();
                let pair = Pair { subject, persona, edge: &self.tables.edges[index], path };
                match pair.refusal(self.tables) {
                    Some(filter) => refusals.push((*edge, filter)),
                    None => {
                        self.taken[index] = true;
                        let score = score::terms(&pair, index, position).iter().sum();
                        candidates.push(Candidate { edge: *edge, persona: position as u8, score });
                    }
                }
            }
        }
        candidates.sort_unstable_by_key(|candidate| candidate.edge);
        let mut tally: Tally = [0; PAIR_FILTERS.len()];
        refusals.sort_by_key(|(edge, _)| *edge);
        refusals.dedup_by_key(|(edge, _)| *edge);
        refusals.retain(|(edge, _)| !self.taken[usize::from(*edge)]);
        candidates.iter().for_each(|candidate| self.taken[usize::from(candidate.edge)] = false);
        for (_, filter) in &refusals {
            let at = PAIR_FILTERS.iter().position(|other| other == filter).expect("pairs ask these filters only");
            tally[at] += 1;
        }
        // What none of its personas' groups has was not even asked.
        tally[0] = (self.tables.edges.len() - candidates.len() - refusals.len()) as u16;
        (candidates, tally)
    }
}
