//! Dividing a total among those who have a share of it, where no queue does that by itself: by what each has used lately.
//!
//! All shares together are never more than the total, whatever was measured; nothing of it is left over as long as
//! somebody may have it.

/// Who has used so much of its share wants more: so many percent of it.
const HUNGRY_PERCENT: u64 = 85;
/// Who does not is given so much more than it uses, in percent, so that it can grow until the next division …
const HEADROOM_PERCENT: u64 = 50;
/// … in steps of this part of the total, so that shares stay when little changes …
const STEPS: u64 = 64;
/// … and at least this part of an equal share, so that it can begin.
const BEGINNING: u64 = 16;

/// One that has a share of a total.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The most that it may have whatever is left.
    pub most: u64,
    /// What it wants of it.
    pub demand: Demand,
}

/// What somebody wants of a total.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// As much as it can get, or nobody knows.
    Everything,
    /// About so much.
    About(u64),
}

impl Demand {
    /// What somebody wants who has used so much of a share.
    pub fn of_use(used: u64, share: u64) -> Self {
        if u128::from(used) * 100 >= u128::from(share) * u128::from(HUNGRY_PERCENT) {
            Self::Everything
        } else {
            Self::About(used)
        }
    }
}

/// The shares of these claims, in their order. Nobody has more because somebody else has less than it wants (max-min fairness);
/// what nobody wants is divided likewise.
pub fn divide(total: u64, claims: &[Claim]) -> Vec<u64> {
    let wants: Vec<u64> = claims.iter().map(|claim| wanted(total, claims.len() as u64, claim)).collect();
    let mut shares = fill(total, &wants);
    let left = total.saturating_sub(shares.iter().sum());
    let rest: Vec<u64> = claims.iter().zip(&shares).map(|(claim, share)| claim.most.saturating_sub(*share)).collect();
    shares.iter_mut().zip(fill(left, &rest)).for_each(|(share, more)| *share += more);
    shares
}

fn wanted(total: u64, count: u64, claim: &Claim) -> u64 {
    let Demand::About(used) = claim.demand else { return claim.most };
    let step = (total / STEPS).max(1);
    let with_headroom = used.saturating_add(used / 100 * HEADROOM_PERCENT);
    let stepped = with_headroom.div_ceil(step).saturating_mul(step);
    stepped.max(total / count.max(1) / BEGINNING).min(claim.most)
}

/// Fills from the lowest up: who wants less than an equal share of what is there has it, the others share the rest.
pub(crate) fn fill(total: u64, wants: &[u64]) -> Vec<u64> {
    let mut order: Vec<usize> = (0..wants.len()).collect();
    order.sort_by_key(|index| wants[*index]);
    let (mut left, mut shares) = (total, vec![0; wants.len()]);
    for (done, index) in order.iter().enumerate() {
        shares[*index] = wants[*index].min(left / (wants.len() - done) as u64);
        left -= shares[*index];
    }
    shares
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: Demand = Demand::Everything;

    fn claims(demands: &[Demand]) -> Vec<Claim> {
        demands.iter().map(|demand| Claim { most: 1_000_000, demand: *demand }).collect()
    }

    #[test]
    fn who_wants_more_gets_what_others_leave() {
        let about = Demand::About;
        for (demands, shares) in [
            (&[ALL][..], &[640_000][..]),
            (&[ALL, ALL], &[320_000, 320_000]),
            (&[ALL, about(0)], &[620_000, 20_000]),
            (&[ALL, about(100_000)], &[490_000, 150_000]),
            (&[ALL, ALL, about(500_000)], &[213_333, 213_333, 213_334]),
            (&[about(0), about(0)], &[320_000, 320_000]),
            (&[], &[]),
        ] {
            let divided = divide(640_000, &claims(demands));
            let is_near = divided.iter().zip(shares).all(|(divided, share)| divided.abs_diff(*share) <= 1);
            assert!(is_near && divided.len() == shares.len(), "{demands:?}: {divided:?}");
        }
    }

    #[test]
    fn nobody_has_more_than_it_may() {
        let low = Claim { most: 100_000, demand: ALL };
        assert_eq!(divide(640_000, &[low, Claim { most: 640_000, ..low }]), [100_000, 540_000]);
        assert_eq!(divide(640_000, &[low, low]), [100_000, 100_000], "and what nobody may have is left over");
    }

    #[test]
    fn who_uses_its_share_wants_more() {
        for (used, share, demand) in [
            (0, 100, Demand::About(0)),
            (84, 100, Demand::About(84)),
            (85, 100, ALL),
            (500, 100, ALL),
            (0, 0, ALL),
            (u64::MAX, u64::MAX, ALL),
        ] {
            assert_eq!(Demand::of_use(used, share), demand, "{used} of {share}");
        }
    }

    #[test]
    fn little_changes_leave_shares_as_they_are() {
        let divided = |used| divide(640_000, &claims(&[ALL, Demand::About(used)]));
        assert_eq!(divided(100_000), divided(97_000));
    }

    #[test]
    fn one_that_begins_has_its_part_after_two_divisions() {
        let mut shares = divide(640_000, &claims(&[ALL, Demand::About(0)]));
        for _ in 0..2 {
            // It takes all that it is given; the other one keeps wanting more.
            shares = divide(640_000, &claims(&[ALL, Demand::of_use(shares[1], shares[1])]));
        }
        assert_eq!(shares, [320_000, 320_000]);
    }

    proptest! {
        #[test]
        fn shares_are_never_more_than_the_total_and_leave_nothing_that_somebody_may_have(
            total in 0u64..100_000_000_000,
            claims in prop::collection::vec((0u64..100_000_000_000, prop::option::of(0u64..100_000_000_000)), 0..50),
        ) {
            let demand = |used: Option<u64>| used.map_or(ALL, Demand::About);
            let claims: Vec<Claim> = claims.into_iter().map(|(most, used)| Claim { most, demand: demand(used) }).collect();
            let shares = divide(total, &claims);
            prop_assert!(shares.iter().zip(&claims).all(|(share, claim)| *share <= claim.most));
            let (sum, most): (u64, u64) = (shares.iter().sum(), claims.iter().map(|claim| claim.most).sum());
            prop_assert!(sum <= total);
            prop_assert!(sum == total.min(most) || sum + claims.len() as u64 >= total.min(most), "{sum} of {total}, {most}");
        }
    }
}
