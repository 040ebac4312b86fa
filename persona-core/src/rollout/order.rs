//! Who is moved in which wave: an order that mixes nodes and that everybody finds the same, and a share of it.

use sha2::{Digest as _, Sha256};

use crate::ids::{RolloutName, SubjectId};
use crate::units::Share;

/// The members of a rollout in the order in which they are moved: by a digest of both names, so that one node's subjects are not
/// all in the first wave, and another rollout begins with others.
pub fn in_order(rollout: &RolloutName, members: impl IntoIterator<Item = SubjectId>) -> Vec<SubjectId> {
    let mut ordered: Vec<([u8; 32], SubjectId)> =
        members.into_iter().map(|subject| (Sha256::digest(format!("{rollout}\n{subject}")).into(), subject)).collect();
    ordered.sort_unstable();
    ordered.dedup();
    ordered.into_iter().map(|(_, subject)| subject).collect()
}

/// How many of so many members a wave leaves moved: its share of them, and one at least.
pub fn wave_count(share: Share, member_count: u32) -> u32 {
    let millionths = u64::from(member_count) * u64::from(share.millionths());
    millionths.div_ceil(u64::from(Share::WHOLE)) as u32
}

/// What a subject had before the rollout put `put` on it, unless somebody has put something else there since: that stays.
pub fn restored<T: PartialEq>(now: Option<T>, put: &T, before: Option<T>) -> Option<T> {
    if now.as_ref() == Some(put) { before } else { now }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn members(count: u32) -> Vec<SubjectId> {
        (0..count).map(|number| format!("workload/n{}/w{number}", number % 7).parse().unwrap()).collect()
    }

    #[test]
    fn a_wave_is_a_share_and_one_at_least() {
        for (share, members, expected) in
            [("1%", 10, 1), ("5%", 10, 1), ("20%", 10, 2), ("100%", 10, 10), ("1%", 1_000, 10), ("1%", 0, 0)]
        {
            assert_eq!(wave_count(share.parse().unwrap(), members), expected, "{share} of {members}");
        }
    }

    #[test]
    fn the_first_are_of_several_nodes_and_of_others_in_another_rollout() {
        let first = |name: &str| in_order(&name.parse().unwrap(), members(70))[..10].to_vec();
        let nodes: std::collections::BTreeSet<_> = first("eu-3").iter().map(|it| it.node().clone()).collect();
        assert!(nodes.len() >= 4, "{nodes:?}");
        assert_ne!(first("eu-3"), first("eu-4"));
    }

    proptest! {
        /// Whoever asks, in whatever order, finds the same; nobody is lost and nobody is there twice.
        #[test]
        fn the_order_depends_on_nothing_but_the_names(seed in any::<u64>(), count in 0_u32..200) {
            let name: RolloutName = format!("r{}", seed % 1_000).parse().unwrap();
            let mut shuffled = members(count);
            shuffled.rotate_left((seed % u64::from(count.max(1))) as usize);
            shuffled.extend(members(count / 3));
            let ordered = in_order(&name, shuffled);
            prop_assert_eq!(&ordered, &in_order(&name, members(count)));
            let mut back = ordered;
            back.sort_unstable();
            let mut all = members(count);
            all.sort_unstable();
            prop_assert_eq!(back, all);
        }

        /// No wave has more than its share, rounded up to a whole subject; the last has everybody.
        #[test]
        fn a_wave_is_never_more_than_its_share(millionths in 0_u32..=Share::WHOLE, count in any::<u32>()) {
            let (share, moved) = (Share::from_millionths(millionths), wave_count(Share::from_millionths(millionths), count));
            let exact = f64::from(count) * f64::from(millionths) / f64::from(Share::WHOLE);
            prop_assert!(f64::from(moved) < exact + 1.0 + 1e-6 && f64::from(moved) + 1e-6 >= exact);
            prop_assert!(moved <= count && (share.millionths() != Share::WHOLE || moved == count));
        }

        /// What a rollout did is taken back exactly, and nothing that others did.
        #[test]
        fn what_was_there_before_comes_back(before in any::<Option<u8>>(), put in any::<u8>(), since in any::<Option<u8>>()) {
            prop_assert_eq!(restored(Some(put), &put, before), before);
            if since != Some(put) {
                prop_assert_eq!(restored(since, &put, before), since);
            }
        }
    }
}
