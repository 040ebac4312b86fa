//! Flows, to know the best that any plan could do: Dinic's maximum flow, and the cheapest flow by shortest paths.

use std::collections::VecDeque;

struct Arc {
    to: usize,
    room: u64,
    cost: i64,
}

/// A network; arc `2 i + 1` is the way back of arc `2 i`.
pub(crate) struct Network {
    arcs: Vec<Arc>,
    leaving: Vec<Vec<usize>>,
}

impl Network {
    pub(crate) fn new(node_count: usize) -> Self {
        Self { arcs: Vec::new(), leaving: vec![Vec::new(); node_count] }
    }

    pub(crate) fn arc(&mut self, from: usize, to: usize, room: u64, cost: i64) {
        self.leaving[from].push(self.arcs.len());
        self.arcs.push(Arc { to, room, cost });
        self.leaving[to].push(self.arcs.len());
        self.arcs.push(Arc { to: from, room: 0, cost: -cost });
    }

    /// As much as can flow.
    pub(crate) fn max_flow(&mut self, from: usize, to: usize) -> u64 {
        let mut sum = 0;
        loop {
            let depths = self.depths(from);
            if depths[to] == usize::MAX {
                return sum;
            }
            let mut next = vec![0; self.leaving.len()];
            loop {
                let pushed = self.push(from, to, u64::MAX, &depths, &mut next);
                if pushed == 0 {
                    break;
                }
                sum += pushed;
            }
        }
    }

    fn depths(&self, from: usize) -> Vec<usize> {
        let mut depths = vec![usize::MAX; self.leaving.len()];
        let mut queue = VecDeque::from([from]);
        depths[from] = 0;
        while let Some(at) = queue.pop_front() {
            for arc in self.leaving[at].iter().map(|arc| &self.arcs[*arc]) {
                if arc.room > 0 && depths[arc.to] == usize::MAX {
                    depths[arc.to] = depths[at] + 1;
                    queue.push_back(arc.to);
                }
            }
        }
        depths
    }

    fn push(&mut self, at: usize, to: usize, most: u64, depths: &[usize], next: &mut [usize]) -> u64 {
        if at == to {
            return most;
        }
        while next[at] < self.leaving[at].len() {
            let arc = self.leaving[at][next[at]];
            let (target, room) = (self.arcs[arc].to, self.arcs[arc].room);
            if room > 0 && depths[target] == depths[at] + 1 {
                let pushed = self.push(target, to, most.min(room), depths, next);
                if pushed > 0 {
                    self.arcs[arc].room -= pushed;
                    self.arcs[arc ^ 1].room += pushed;
                    return pushed;
                }
            }
            next[at] += 1;
        }
        0
    }

    /// As much as can flow, and the least that so much costs.
    pub(crate) fn cheapest_flow(&mut self, from: usize, to: usize) -> (u64, i64) {
        let (mut sum, mut cost) = (0, 0);
        while let Some((price, path)) = self.cheapest_path(from, to) {
            let most = path.iter().map(|arc| self.arcs[*arc].room).min().expect("a path has arcs");
            for arc in path {
                self.arcs[arc].room -= most;
                self.arcs[arc ^ 1].room += most;
            }
            sum += most;
            cost += price * most as i64;
        }
        (sum, cost)
    }

    fn cheapest_path(&self, from: usize, to: usize) -> Option<(i64, Vec<usize>)> {
        let mut prices = vec![i64::MAX; self.leaving.len()];
        let mut by = vec![usize::MAX; self.leaving.len()];
        let mut queue = VecDeque::from([from]);
        prices[from] = 0;
        while let Some(at) = queue.pop_front() {
            for arc in &self.leaving[at] {
                let Arc { to, room, cost } = self.arcs[*arc];
                if room > 0 && prices[at] + cost < prices[to] {
                    (prices[to], by[to]) = (prices[at] + cost, *arc);
                    queue.push_back(to);
                }
            }
        }
        let mut path = Vec::new();
        let mut at = to;
        while at != from {
            let arc = *by.get(at).filter(|arc| **arc != usize::MAX)?;
            path.push(arc);
            at = self.arcs[arc ^ 1].to;
        }
        Some((prices[to], path))
    }
}
