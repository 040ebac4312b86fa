//! A total over several nodes: what each may have of it, so that all together never have more, however late or lost messages are.
//!
//! Each node holds what it was told last and goes on with it while it hears nothing. So what one gives up is given to another only
//! once the first has acknowledged that it has less. A node that is silent for long counts as gone: what it had is given to
//! others, and should it live after all, they have that much too much together.

use serde::{Deserialize, Serialize};

use crate::divide::{Claim, Demand, divide, fill};

/// What one node has of a total.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// What it was told last.
    pub told: u64,
    /// The most that it may hold to: more than it was told where it hasn't acknowledged that yet.
    pub most: u64,
}

/// How a node stands to what it was told last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is in force there.
    Acknowledged,
    /// It may hold to that or to what came before.
    Waiting,
    /// It is silent for so long that it counts as gone.
    GivenUp,
}

/// One node's part in a division.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// What it has.
    pub share: Share,
    /// Whether it knows that.
    pub standing: Standing,
    /// What it wants.
    pub demand: Demand,
    /// What it shall have even when all want more.
    pub floor: u64,
    /// Whether anybody there has a share of the total at all.
    pub is_present: bool,
}

/// What each node shall be told now, in their order. The same again once acknowledgements came gives what is still missing.
pub fn divide_fleet(total: u64, parts: &[Part]) -> Vec<Share> {
    let targets = targets(total, parts);
    let mut shares: Vec<Share> = parts.iter().zip(&targets).map(|(part, target)| lowered(part, *target)).collect();
    let counts = |part: &Part| part.standing != Standing::GivenUp;
    let taken = parts.iter().zip(&shares).filter(|(part, _)| counts(part)).map(|(_, share)| share.most);
    let taken = taken.fold(0, u64::saturating_add);
    if taken > total {
        // Somebody who was given up is back: nobody is told more before others have less.
        return shares;
    }
    let left = total - taken;
    let wants: Vec<u64> =
        shares.iter().zip(&targets).map(|(share, target)| target.saturating_sub(share.most)).collect();
    for ((share, target), more) in shares.iter_mut().zip(&targets).zip(fill(left, &wants)) {
        // Up to what it may have anyway, more takes nothing from others.
        share.told = (*target).min(share.most + more).max(share.told);
        share.most = share.most.max(share.told);
    }
    shares
}

/// What a node has when those that shall have less are told so, and nobody is told more.
fn lowered(part: &Part, target: u64) -> Share {
    let most = match part.standing {
        Standing::Acknowledged => part.share.told,
        Standing::Waiting | Standing::GivenUp => part.share.most,
    };
    Share { told: part.share.told.min(target), most }
}

/// What each node should have, if all could be told at once.
fn targets(total: u64, parts: &[Part]) -> Vec<u64> {
    let takes = |part: &Part| part.is_present && part.standing != Standing::GivenUp;
    let floor = |part: &Part| if takes(part) { part.floor.min(total) } else { 0 };
    let floors: Vec<u64> = parts.iter().map(floor).collect();
    let all = floors.iter().copied().fold(0, u64::saturating_add);
    if all > total {
        return fill(total, &floors);
    }
    let claims = parts.iter().zip(&floors).filter(|(part, _)| takes(part)).map(|(part, floor)| Claim {
        most: total - floor,
        demand: match part.demand {
            Demand::Everything => Demand::Everything,
            Demand::About(used) => Demand::About(used.saturating_sub(*floor)),
        },
    });
    let mut shares = divide(total - all, &claims.collect::<Vec<_>>()).into_iter();
    let target = |(part, floor): (&Part, &u64)| if takes(part) { floor + shares.next().unwrap_or(0) } else { 0 };
    parts.iter().zip(&floors).map(target).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TOTAL: u64 = 640_000;
    const ALL: Demand = Demand::Everything;

    fn part(told: u64, most: u64, standing: Standing, demand: Demand) -> Part {
        Part { share: Share { told, most }, standing, demand, floor: 0, is_present: true }
    }

    fn told(parts: &[Part]) -> Vec<(u64, u64)> {
        divide_fleet(TOTAL, parts).iter().map(|share| (share.told, share.most)).collect()
    }

    #[test]
    fn what_one_gives_up_another_gets_once_that_is_acknowledged() {
        use Standing::{Acknowledged, Waiting};
        let idle = Demand::About(0);
        let alone = [part(0, 0, Acknowledged, ALL)];
        assert_eq!(told(&alone), [(TOTAL, TOTAL)]);
        let joined = [part(TOTAL, TOTAL, Acknowledged, ALL), part(0, 0, Acknowledged, ALL)];
        assert_eq!(told(&joined), [(TOTAL / 2, TOTAL), (0, 0)], "the first is told less, the second nothing yet");
        let unheard = [part(TOTAL / 2, TOTAL, Waiting, ALL), part(0, 0, Acknowledged, ALL)];
        assert_eq!(told(&unheard), [(TOTAL / 2, TOTAL), (0, 0)]);
        let heard = [part(TOTAL / 2, TOTAL, Acknowledged, ALL), part(0, 0, Acknowledged, ALL)];
        assert_eq!(told(&heard), [(TOTAL / 2, TOTAL / 2); 2]);
        let quiet = [part(TOTAL / 2, TOTAL / 2, Acknowledged, idle), part(TOTAL / 2, TOTAL / 2, Acknowledged, ALL)];
        assert_eq!(told(&quiet), [(20_000, TOTAL / 2), (TOTAL / 2, TOTAL / 2)]);
        let back = [part(20_000, TOTAL / 2, Waiting, ALL), part(TOTAL / 2, TOTAL / 2, Acknowledged, ALL)];
        assert_eq!(told(&back), [(TOTAL / 2, TOTAL / 2); 2], "what it may have anyway takes nothing from the other");
    }

    #[test]
    fn who_is_gone_leaves_its_part_and_gets_none_until_others_have_less() {
        use Standing::{Acknowledged, GivenUp, Waiting};
        let gone = [part(TOTAL, TOTAL, GivenUp, ALL), part(0, 0, Acknowledged, ALL)];
        assert_eq!(told(&gone), [(0, TOTAL), (TOTAL, TOTAL)]);
        let back = [part(0, TOTAL, Waiting, ALL), part(TOTAL, TOTAL, Acknowledged, ALL)];
        assert_eq!(
            told(&back),
            [(0, TOTAL), (TOTAL / 2, TOTAL)],
            "it may still hold all: the other is told less first"
        );
        let left = Part { is_present: false, ..part(TOTAL / 2, TOTAL / 2, Acknowledged, ALL) };
        assert_eq!(told(&[left, part(TOTAL / 2, TOTAL / 2, Acknowledged, ALL)])[0], (0, TOTAL / 2));
    }

    #[test]
    fn floors_come_first_and_are_cut_alike_where_they_are_too_much() {
        let with_floor = |floor, demand| Part { floor, ..part(0, 0, Standing::Acknowledged, demand) };
        let held = [with_floor(500_000, Demand::About(0)), with_floor(0, ALL)];
        assert!(told(&held)[0].0 >= 500_000, "{:?}", told(&held));
        assert_eq!(told(&[with_floor(500_000, ALL), with_floor(500_000, ALL)]), [(TOTAL / 2, TOTAL / 2); 2]);
        let both = [with_floor(100_000, ALL), with_floor(300_000, ALL)];
        assert_eq!(told(&both), [(220_000, 220_000), (420_000, 420_000)]);
    }

    /// A node as it is, and as the manager knows it.
    #[derive(Debug, Clone, Default)]
    struct Node {
        share: Share,
        /// Everything that it was told, by version.
        told: Vec<u64>,
        /// The version in force there, if any.
        applied: Option<usize>,
        /// The version that the manager knows to be in force.
        known: Option<usize>,
        is_cut_off: bool,
        /// Whether it was given up since it last acknowledged.
        was_given_up: bool,
    }

    impl Node {
        fn held(&self) -> u64 {
            self.applied.map_or(0, |version| self.told[version])
        }

        fn standing(&self) -> Standing {
            match (self.is_cut_off, self.known.map(|version| version + 1) == self.newest()) {
                (true, _) => Standing::GivenUp,
                (false, true) => Standing::Acknowledged,
                (false, false) => Standing::Waiting,
            }
        }

        fn newest(&self) -> Option<usize> {
            (!self.told.is_empty()).then_some(self.told.len())
        }

        fn take(&mut self, share: Share) {
            if share.told != self.share.told || self.told.is_empty() {
                self.told.push(share.told);
            }
            self.share = share;
        }
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        /// The manager divides; nodes want so much.
        Divide(u64),
        /// What a node was told arrives, all of it or some.
        Apply(usize, usize),
        /// What is in force at a node is heard of.
        Hear(usize),
        /// A node is cut off, or comes back.
        Cut(usize, bool),
    }

    fn step(can_cut: bool) -> impl Strategy<Value = Step> {
        let cut = if can_cut { 1 } else { 0 };
        prop_oneof![
            4 => any::<u64>().prop_map(Step::Divide),
            4 => (0usize..5, 0usize..4).prop_map(|(node, skip)| Step::Apply(node, skip)),
            4 => (0usize..5).prop_map(Step::Hear),
            cut => (0usize..5, any::<bool>()).prop_map(|(node, is_cut_off)| Step::Cut(node, is_cut_off)),
        ]
    }

    fn part_of(node: &Node, wish: u64) -> Part {
        let demand = if wish & 1 == 1 { ALL } else { Demand::About(wish % TOTAL) };
        let (floor, is_present) = (wish % 100_000 * (wish >> 3 & 1), wish & 6 != 6);
        Part { share: node.share, standing: node.standing(), demand, floor, is_present }
    }

    fn turn(nodes: &mut [Node], step: Step) {
        match step {
            Step::Divide(seed) => {
                let wish = |index: usize| seed.rotate_right(11 * index as u32);
                let parts: Vec<Part> =
                    nodes.iter().enumerate().map(|(index, node)| part_of(node, wish(index))).collect();
                let shares = divide_fleet(TOTAL, &parts);
                nodes.iter_mut().zip(shares).for_each(|(node, share)| node.take(share));
            }
            Step::Apply(index, skip) => {
                let node = &mut nodes[index];
                let newest = node.newest().map(|count| (count - 1).saturating_sub(skip));
                node.applied = node.applied.max(newest);
            }
            Step::Hear(index) if !nodes[index].is_cut_off => {
                let node = &mut nodes[index];
                node.known = node.applied;
                node.was_given_up &= node.standing() != Standing::Acknowledged;
            }
            Step::Hear(_) => {}
            Step::Cut(index, is_cut_off) => {
                nodes[index].is_cut_off = is_cut_off;
                nodes[index].was_given_up |= is_cut_off;
            }
        }
    }

    proptest! {
        /// Whatever is late, lost or wanted: what is in force at all nodes is never more than the total.
        #[test]
        fn nodes_that_are_heard_of_never_have_more_than_the_total(steps in prop::collection::vec(step(false), 1..200)) {
            let mut nodes = vec![Node::default(); 5];
            for step in steps {
                turn(&mut nodes, step);
                let held: u64 = nodes.iter().map(Node::held).sum();
                prop_assert!(held <= TOTAL, "{held} after {step:?}: {nodes:?}");
            }
        }

        /// Nodes that were given up and live all the same have what they had, beside the total.
        #[test]
        fn too_much_is_what_nodes_that_were_given_up_still_have(steps in prop::collection::vec(step(true), 1..300)) {
            let mut nodes = vec![Node::default(); 5];
            for step in steps {
                turn(&mut nodes, step);
                let held: u64 = nodes.iter().filter(|node| !node.was_given_up).map(Node::held).sum();
                prop_assert!(held <= TOTAL, "{held} after {step:?}: {nodes:?}");
            }
        }

        /// Once messages arrive again, all of the total is given out within a few divisions, and stays as it is.
        #[test]
        fn nothing_is_left_over_once_messages_arrive(
            steps in prop::collection::vec(step(true), 0..100),
            seed in any::<u64>().prop_map(|seed| seed | 1 | 1 << 11 | 1 << 22 | 1 << 33 | 1 << 44),
        ) {
            let mut nodes = vec![Node::default(); 5];
            steps.into_iter().for_each(|step| turn(&mut nodes, step));
            (0..5).for_each(|index| turn(&mut nodes, Step::Cut(index, false)));
            let mut settle = || {
                turn(&mut nodes, Step::Divide(seed));
                (0..5).for_each(|index| turn(&mut nodes, Step::Apply(index, 0)));
                (0..5).for_each(|index| turn(&mut nodes, Step::Hear(index)));
                nodes.iter().map(Node::held).collect::<Vec<_>>()
            };
            (0..4).for_each(|_| drop(settle()));
            let (before, after) = (settle(), settle());
            let is_anybody_there = (0..5).any(|index| seed.rotate_right(11 * index) & 6 != 6);
            let sum: u64 = after.iter().sum();
            prop_assert_eq!(&before, &after);
            prop_assert!(!is_anybody_there || (TOTAL - 5..=TOTAL).contains(&sum), "{:?}", after);
        }
    }
}
