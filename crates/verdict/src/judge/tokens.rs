//! Tokens first: which setups produced the same outputs.

use super::setups::Setups;
use crate::analysis::{TokenBasis, TokenConsistency};

/// Setups by outputs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Grouped {
    /// Setups of equal outputs, largest group first, then in the order given.
    pub(super) groups: Vec<Vec<String>>,
    /// The first index at which not all agree any more.
    pub(super) part_at: Option<u64>,
    /// Setups whose output is the beginning of another's, and after how many ids it stops.
    pub(super) stopped: Vec<(String, u64)>,
}

/// Groups setups by equal outputs. One whose output is the beginning of another's is in no group: what it lacks is not
/// known to differ.
pub(super) fn grouped<T: PartialEq>(outputs: &[(&str, &[T])]) -> Grouped {
    let stops =
        |ids: &[T]| outputs.iter().any(|(_, other)| other.len() > ids.len() && other.starts_with(ids));
    let mut groups: Vec<(&[T], Vec<String>)> = Vec::new();
    let mut stopped = Vec::new();
    for &(setup, ids) in outputs {
        if stops(ids) {
            stopped.push((setup.to_owned(), ids.len() as u64));
            continue;
        }
        match groups.iter_mut().find(|(known, _)| *known == ids) {
            Some((_, members)) => members.push(setup.to_owned()),
            None => groups.push((ids, vec![setup.to_owned()])),
        }
    }
    // No group is the beginning of another, so every two part within the shorter one.
    let longest = groups.iter().map(|(ids, _)| ids.len()).max().unwrap_or(0);
    let part_at =
        (0..longest).find(|&index| groups.iter().any(|(ids, _)| ids.get(index) != groups[0].0.get(index)));
    groups.sort_by_key(|(_, members)| std::cmp::Reverse(members.len()));
    Grouped {
        groups: groups.into_iter().map(|(_, members)| members).collect(),
        part_at: part_at.map(|index| index as u64),
        stopped,
    }
}

/// Groups of equal outputs for each reference prompt.
pub(super) fn consistency(setups: &Setups<'_>) -> Vec<TokenConsistency> {
    let of_prompt = setups.prompts.iter().enumerate().map(|(prompt, name)| {
        let mut outputs: Vec<(&str, &[u32])> = Vec::new();
        let mut prompt_ids = true;
        let mut citations = Vec::new();
        for (index, setup) in setups.all.iter().enumerate() {
            let Some(member) = setups.member(index, prompt) else { continue };
            let run = &member.record.shell().runs[member.run];
            if !run.output_token_ids.is_empty() {
                outputs.push((&setup.label, &run.output_token_ids));
            }
            prompt_ids &= !run.prompt_token_ids.is_empty();
            citations.extend(setups.cite(index, prompt));
        }
        let Grouped { groups, part_at, stopped } = grouped(&outputs);
        // Of one output nothing agrees and nothing parts.
        let basis = if outputs.len() < 2 {
            TokenBasis::Unknown
        } else if prompt_ids {
            TokenBasis::Ids
        } else {
            TokenBasis::Declared
        };
        TokenConsistency { reference: name.clone(), groups, part_at, stopped, basis, citations }
    });
    of_prompt.collect()
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn the_largest_group_comes_first_and_parting_is_the_earliest() {
        let outputs: [(&str, &[u32]); 4] =
            [("a", &[1, 2, 3]), ("b", &[1, 9, 3]), ("c", &[1, 9, 3]), ("d", &[1, 2, 4])];
        let found = grouped(&outputs);
        assert_eq!(found.groups, [vec!["b", "c"], vec!["a"], vec!["d"]]);
        assert_eq!((found.part_at, found.stopped.len()), (Some(1), 0));
        assert_eq!(grouped(&outputs[1..3]).part_at, None);
        assert_eq!(grouped(&[outputs[0], outputs[3]]).part_at, Some(2));
    }

    #[test]
    fn what_follows_an_early_stop_is_missing_and_parts_from_nothing() {
        let outputs: [(&str, &[u32]); 5] =
            [("short", &[1, 2]), ("a", &[1, 2, 3]), ("b", &[1, 2, 3]), ("c", &[1, 9]), ("none", &[])];
        let found = grouped(&outputs);
        assert_eq!(found.groups, [vec!["a", "b"], vec!["c"]]);
        assert_eq!(found.part_at, Some(1));
        assert_eq!(found.stopped, [("short".to_owned(), 2), ("none".to_owned(), 0)]);
        let found = grouped(&outputs[..3]);
        assert_eq!((found.groups.len(), found.part_at, found.stopped.len()), (1, None, 1));
    }
}
