//! Equivalence classes: which members have the same bits.
//!
//! "Same bits" should be an equivalence, and is not when rows are missing: a may agree with b and b with c on rows that a
//! and c do not share, or share and differ in. Such a contradiction is stated, and never resolved by joining two members
//! that differ.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use crate::profile::State;

/// Members grouped by equal bits.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Classes {
    /// Classes by their first member; members ascending. No two members of a class differ.
    pub classes: Vec<Vec<usize>>,
    /// Members that neither equal nor differ from any other, as far as is known.
    pub unplaced: Vec<Unplaced>,
    /// Pairs inside a class that were not compared with each other: they are equal by way of others.
    pub inferred: Vec<(usize, usize)>,
    /// Pairs that differ although a chain of equal pairs joins them.
    pub conflicts: Vec<Conflict>,
}

/// A member that neither equals nor differs from any other, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Unplaced {
    /// The member.
    pub member: usize,
    /// Why.
    pub why: WhyUnplaced,
}

/// Why a member is in no class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WhyUnplaced {
    /// There is no other member.
    Alone,
    /// Towards every other, rows are missing.
    Missing,
    /// Towards every other, rows are missing or may not be compared.
    Incomparable,
}

/// Two members that differ and yet are joined by equal pairs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Conflict {
    /// From the one to the other; each two neighbours are equal, the ends differ.
    pub chain: Vec<usize>,
}

/// Groups `count` members by `state`, which is asked once for each pair `(i, j)` with `i < j`.
///
/// Two members share a class when they are equal, or are joined by equal pairs and differ from none of the class. Where
/// the relation contradicts itself, equal pairs are joined in ascending order as long as no two members of a class
/// differ, and [`Classes::conflicts`] says so.
pub fn classes(count: usize, state: impl Fn(usize, usize) -> State) -> Classes {
    let states: BTreeMap<(usize, usize), State> = (0..count)
        .flat_map(|i| (i + 1..count).map(move |j| (i, j)))
        .map(|(i, j)| ((i, j), state(i, j)))
        .collect();
    let between = |i: usize, j: usize| states[&(i.min(j), i.max(j))];
    let mut unplaced = Vec::new();
    let mut classes: Vec<Vec<usize>> = Vec::new();
    for member in 0..count {
        match why_unplaced(member, count, between) {
            Some(why) => unplaced.push(Unplaced { member, why }),
            None => classes.push(vec![member]),
        }
    }
    for (&(i, j), _) in states.iter().filter(|(_, state)| **state == State::Equal) {
        let holding = |member| classes.iter().position(|class| class.contains(&member));
        let (Some(x), Some(y)) = (holding(i), holding(j)) else { continue };
        let differ = |&a: &usize| classes[y].iter().any(|&b| between(a, b) == State::Different);
        if x != y && !classes[x].iter().any(differ) {
            let joined = classes.remove(x.max(y));
            classes[x.min(y)].extend(joined);
            classes[x.min(y)].sort_unstable();
        }
    }
    classes.sort_unstable();
    let pairs = classes.iter().flat_map(|class| {
        class.iter().enumerate().flat_map(|(i, &a)| class[i + 1..].iter().map(move |&b| (a, b)))
    });
    let inferred = pairs.filter(|pair| states[pair] != State::Equal).collect();
    let differing = states.iter().filter(|(_, state)| **state == State::Different);
    let chains = differing.filter_map(|(&(i, j), _)| chain(i, j, count, between));
    let conflicts = chains.map(|chain| Conflict { chain }).collect();
    Classes { classes, unplaced, inferred, conflicts }
}

fn why_unplaced(member: usize, count: usize, between: impl Fn(usize, usize) -> State) -> Option<WhyUnplaced> {
    let mut why = WhyUnplaced::Alone;
    for other in (0..count).filter(|&other| other != member) {
        match between(member, other) {
            State::Equal | State::Different => return None,
            State::Incomparable => why = WhyUnplaced::Incomparable,
            State::Missing if why == WhyUnplaced::Alone => why = WhyUnplaced::Missing,
            State::Missing => {}
        }
    }
    Some(why)
}

/// The shortest chain of equal pairs from one member to another.
fn chain(
    from: usize,
    to: usize,
    count: usize,
    between: impl Fn(usize, usize) -> State,
) -> Option<Vec<usize>> {
    let mut before = vec![None; count];
    let mut queue = VecDeque::from([from]);
    while let Some(here) = queue.pop_front() {
        for next in (0..count).filter(|&next| next != here) {
            if next != from && before[next].is_none() && between(here, next) == State::Equal {
                before[next] = Some(here);
                queue.push_back(next);
            }
        }
    }
    let mut chain = vec![to];
    while let Some(previous) = before[*chain.last()?] {
        chain.push(previous);
    }
    chain.reverse();
    (chain.len() > 1).then_some(chain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Classes of members that differ unless a pair is listed.
    fn of(count: usize, listed: &[(usize, usize, State)], otherwise: State) -> Classes {
        classes(count, |i, j| {
            assert!(i < j);
            listed.iter().find(|(a, b, _)| (*a, *b) == (i, j)).map_or(otherwise, |(_, _, state)| *state)
        })
    }

    #[test]
    fn equal_members_share_a_class_in_order() {
        let found = of(5, &[(0, 3, State::Equal), (1, 2, State::Equal)], State::Different);
        assert_eq!(found.classes, [vec![0, 3], vec![1, 2], vec![4]]);
        assert_eq!((found.unplaced.len(), found.inferred.len(), found.conflicts.len()), (0, 0, 0));
    }

    #[test]
    fn who_can_be_compared_with_nobody_is_in_no_class() {
        let found = of(4, &[(0, 1, State::Equal), (2, 3, State::Incomparable)], State::Missing);
        assert_eq!(found.classes, [vec![0, 1]]);
        let why = |member| Unplaced { member, why: WhyUnplaced::Incomparable };
        assert_eq!(found.unplaced, [why(2), why(3)]);
        assert_eq!(of(2, &[], State::Missing).unplaced[0].why, WhyUnplaced::Missing);
        assert_eq!(of(1, &[], State::Equal).unplaced, [Unplaced { member: 0, why: WhyUnplaced::Alone }]);
        assert_eq!(of(0, &[], State::Equal), Classes::default());
    }

    #[test]
    fn equality_by_way_of_another_is_said_to_be_inferred() {
        let found = of(3, &[(0, 1, State::Equal), (1, 2, State::Equal)], State::Missing);
        assert_eq!(found.classes, [vec![0, 1, 2]]);
        assert_eq!(found.inferred, [(0, 2)]);
        assert!(found.conflicts.is_empty());
    }

    #[test]
    fn a_contradiction_is_reported_and_never_joins_what_differs() {
        let found = of(3, &[(0, 1, State::Equal), (1, 2, State::Equal)], State::Different);
        assert_eq!(found.classes, [vec![0, 1], vec![2]]);
        assert_eq!(found.conflicts, [Conflict { chain: vec![0, 1, 2] }]);
        // Over a longer way, 0 = 3 = 2 = 1, while 0 and 1 differ.
        let listed =
            [(0, 3, State::Equal), (2, 3, State::Equal), (1, 2, State::Equal), (0, 1, State::Different)];
        let found = of(4, &listed, State::Missing);
        assert_eq!(found.classes, [vec![0, 3], vec![1, 2]]);
        assert_eq!(found.conflicts, [Conflict { chain: vec![0, 3, 2, 1] }]);
    }

    proptest! {
        #[test]
        fn whatever_the_relation_classes_partition_and_hold_no_difference(
            count in 0_usize..9,
            picks in prop::collection::vec(0_u8..4, 36),
        ) {
            let state = |i: usize, j: usize| match picks[j * (j - 1) / 2 + i] {
                0 => State::Equal,
                1 => State::Different,
                2 => State::Missing,
                _ => State::Incomparable,
            };
            let found = classes(count, state);
            let mut all: Vec<usize> = found.classes.iter().flatten().copied().collect();
            all.extend(found.unplaced.iter().map(|unplaced| unplaced.member));
            all.sort_unstable();
            prop_assert_eq!(all, (0..count).collect::<Vec<_>>());
            let class = |member: usize| found.classes.iter().position(|class| class.contains(&member));
            for i in 0..count {
                for j in i + 1..count {
                    let together = class(i).is_some() && class(i) == class(j);
                    let inferred = found.inferred.contains(&(i, j));
                    prop_assert!(!together || state(i, j) != State::Different);
                    prop_assert_eq!(together && state(i, j) != State::Equal, inferred);
                    // Equal members are apart only where a conflict is reported.
                    prop_assert!(state(i, j) != State::Equal || together || !found.conflicts.is_empty());
                }
            }
        }
    }
}
