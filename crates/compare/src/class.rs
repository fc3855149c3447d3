//! Equivalence classes: which members have the same bits.
//!
//! "Same bits" should be an equivalence relation, but it is not one when rows are missing: a may agree with b, and b
//! with c, on rows that a and c do not share, or on which they differ. Such a contradiction is stated, and never
//! resolved by joining two members that differ.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use crate::profile::State;

/// Contradictions that are told with their chain.
const MOST_CONFLICTS: usize = 100;

/// Members grouped by equal bits.
///
/// ```
/// use mantissa_compare::{State, UnplacedReason, classes};
///
/// let found = classes(4, |a, b| match (a, b) {
///     (0, 1) | (1, 2) => State::Equal,
///     (0, 2) => State::Different,
///     _ => State::Missing,
/// });
/// assert_eq!(found.conflicts[0].chain, [0, 1, 2]);
/// assert_eq!((found.unplaced[0].member, found.unplaced[0].why), (3, UnplacedReason::Missing));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Classes {
    /// Classes by their first member; members ascending. No two members of a class differ.
    pub classes: Vec<Vec<usize>>,
    /// Members that neither equal nor differ from any other, as far as is known.
    pub unplaced: Vec<Unplaced>,
    /// Pairs inside a class that were not compared with each other: they are equal by way of others.
    pub inferred: Vec<(usize, usize)>,
    /// Pairs that differ although a chain of equal pairs joins them; the first hundred.
    pub conflicts: Vec<Conflict>,
    /// Further such pairs.
    pub more_conflicts: usize,
}

/// A member that neither equals nor differs from any other, as far as is known.
///
/// Example: [`Classes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Unplaced {
    /// The member.
    pub member: usize,
    /// Why.
    pub why: UnplacedReason,
}

/// Why a member is in no class.
///
/// Example: [`Classes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UnplacedReason {
    /// There is no other member.
    Alone,
    /// Towards every other, rows are missing.
    Missing,
    /// Towards every other, rows are missing or may not be compared.
    Incomparable,
}

/// Two members that differ and yet are joined by equal pairs.
///
/// Example: [`Classes`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Conflict {
    /// From the one to the other; each two neighbours are equal, the ends differ.
    pub chain: Vec<usize>,
}

/// What is known of every two members, `(i, j)` with `i < j` after those of all smaller `i`.
struct States {
    count: usize,
    states: Vec<State>,
}

impl States {
    fn ask(count: usize, state: impl Fn(usize, usize) -> State) -> Self {
        let states = pairs_of(count).map(|(i, j)| state(i, j)).collect();
        Self { count, states }
    }

    fn between(&self, a: usize, b: usize) -> State {
        let (i, j) = (a.min(b), a.max(b));
        self.states[i * (2 * self.count - i - 1) / 2 + j - i - 1]
    }

    fn pairs(&self, of: State) -> impl Iterator<Item = (usize, usize)> + '_ {
        pairs_of(self.count).zip(&self.states).filter(move |(_, state)| **state == of).map(|(pair, _)| pair)
    }
}

fn pairs_of(count: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..count).flat_map(move |i| (i + 1..count).map(move |j| (i, j)))
}

/// Groups `count` members by `state`, which is asked once for each pair `(i, j)` with `i < j`.
///
/// Two members share a class when they are equal, or are joined by equal pairs and differ from none of the class. Where
/// the relation contradicts itself, equal pairs are joined in ascending order as long as no two members of a class
/// differ, and [`Classes::conflicts`] says so. Time and memory grow with the square of `count`.
///
/// ```
/// use mantissa_compare::{State, classes};
///
/// // Members 0 and 2 have the same bits.
/// let state = |a, b| if (a, b) == (0, 2) { State::Equal } else { State::Different };
/// assert_eq!(classes(3, state).classes, [vec![0, 2], vec![1]]);
/// ```
pub fn classes(count: usize, state: impl Fn(usize, usize) -> State) -> Classes {
    let states = States::ask(count, state);
    let why: Vec<Option<UnplacedReason>> = (0..count).map(|member| why_unplaced(member, &states)).collect();
    let placed = |member: usize| why[member].is_none();
    let class = joined(&states);
    let mut classes: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for member in (0..count).filter(|&member| placed(member)) {
        classes.entry(class[member]).or_default().push(member);
    }
    let unplaced = why.iter().enumerate();
    let unplaced = unplaced.filter_map(|(member, why)| Some(Unplaced { member, why: (*why)? })).collect();
    let inferred =
        pairs_of(count).filter(|&(i, j)| class[i] == class[j] && states.between(i, j) != State::Equal);
    let inferred = inferred.collect();
    let (conflicts, more_conflicts) = conflicts(&states);
    Classes { classes: classes.into_values().collect(), unplaced, inferred, conflicts, more_conflicts }
}

/// By member, the first member of its class.
fn joined(states: &States) -> Vec<usize> {
    let count = states.count;
    let mut class: Vec<usize> = (0..count).collect();
    let mut members: Vec<Vec<usize>> = (0..count).map(|member| vec![member]).collect();
    // By two classes, named by their first members: whether some of the one differ from some of the other.
    let mut differ = vec![false; count * count];
    for (i, j) in states.pairs(State::Different) {
        differ[i * count + j] = true;
        differ[j * count + i] = true;
    }
    for (i, j) in states.pairs(State::Equal) {
        let (into, from) = (class[i].min(class[j]), class[i].max(class[j]));
        if into == from || differ[into * count + from] {
            continue;
        }
        for other in 0..count {
            let either = differ[into * count + other] || differ[from * count + other];
            differ[into * count + other] = either;
            differ[other * count + into] = either;
        }
        for member in std::mem::take(&mut members[from]) {
            class[member] = into;
            members[into].push(member);
        }
    }
    class
}

fn why_unplaced(member: usize, states: &States) -> Option<UnplacedReason> {
    let mut why = UnplacedReason::Alone;
    for other in (0..states.count).filter(|&other| other != member) {
        match states.between(member, other) {
            State::Equal | State::Different => return None,
            State::Incomparable => why = UnplacedReason::Incomparable,
            State::Missing if why == UnplacedReason::Alone => why = UnplacedReason::Missing,
            State::Missing => {}
        }
    }
    Some(why)
}

/// Pairs that differ although equal pairs join them: the first [`MOST_CONFLICTS`], and how many more there are.
fn conflicts(states: &States) -> (Vec<Conflict>, usize) {
    let mut reached: Option<(usize, Vec<Option<usize>>)> = None;
    let mut component = vec![None; states.count];
    for member in 0..states.count {
        if component[member].is_none() {
            for (other, before) in search(member, states).into_iter().enumerate() {
                if other == member || before.is_some() {
                    component[other] = Some(member);
                }
            }
        }
    }
    let (mut conflicts, mut more) = (Vec::new(), 0);
    for (i, j) in states.pairs(State::Different).filter(|&(i, j)| component[i] == component[j]) {
        if conflicts.len() == MOST_CONFLICTS {
            more += 1;
            continue;
        }
        if reached.as_ref().is_none_or(|(from, _)| *from != i) {
            reached = Some((i, search(i, states)));
        }
        let mut chain = vec![j];
        let before = |member: usize| reached.as_ref().and_then(|(_, before)| before[member]);
        while let Some(previous) = chain.last().and_then(|&last| before(last)) {
            chain.push(previous);
        }
        chain.reverse();
        conflicts.push(Conflict { chain });
    }
    (conflicts, more)
}

/// By member that equal pairs join to `from`, the one before it on the shortest way.
fn search(from: usize, states: &States) -> Vec<Option<usize>> {
    let mut before = vec![None; states.count];
    let mut queue = VecDeque::from([from]);
    while let Some(here) = queue.pop_front() {
        for next in (0..states.count).filter(|&next| next != here) {
            if next != from && before[next].is_none() && states.between(here, next) == State::Equal {
                before[next] = Some(here);
                queue.push_back(next);
            }
        }
    }
    before
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
        let why = |member| Unplaced { member, why: UnplacedReason::Incomparable };
        assert_eq!(found.unplaced, [why(2), why(3)]);
        assert_eq!(of(2, &[], State::Missing).unplaced[0].why, UnplacedReason::Missing);
        assert_eq!(of(1, &[], State::Equal).unplaced, [Unplaced { member: 0, why: UnplacedReason::Alone }]);
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

    #[test]
    fn a_thousand_members_that_contradict_each_other_take_no_quartic_time() {
        // A ring: each equals the next, all others differ, so that every join but one in two is refused.
        const MEMBERS: usize = 1000;
        let found = classes(MEMBERS, |i, j| {
            if j == i + 1 || (i, j) == (0, MEMBERS - 1) { State::Equal } else { State::Different }
        });
        assert_eq!(found.classes.len(), MEMBERS / 2);
        assert!(found.classes.iter().enumerate().all(|(n, class)| *class == [2 * n, 2 * n + 1]));
        let differing = MEMBERS * (MEMBERS - 1) / 2 - MEMBERS;
        assert_eq!((found.conflicts.len(), found.more_conflicts), (100, differing - 100));
        assert_eq!(found.conflicts[1].chain, [0, 1, 2, 3]);
        assert_eq!(found.conflicts[99].chain.len(), 102);
        // Half of the pairs are equal, and almost every join of two classes is refused.
        let found = classes(600, |i, j| if i % 2 == j % 2 { State::Different } else { State::Equal });
        assert_eq!((found.classes.len(), found.conflicts.len()), (300, 100));
        assert_eq!(found.more_conflicts, 2 * (300 * 299 / 2) - 100);
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
