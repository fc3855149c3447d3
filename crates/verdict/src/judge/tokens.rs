//! Tokens first: which setups produced the same outputs.

use super::setups::Setups;
use crate::analysis::{TokenBasis, TokenConsistency};

/// Groups setups by equal outputs, largest group first, then in the order given, and the first index at which not all
/// agree any more.
pub(super) fn grouped<T: PartialEq>(outputs: &[(&str, &[T])]) -> (Vec<Vec<String>>, Option<u64>) {
    let mut groups: Vec<(&[T], Vec<String>)> = Vec::new();
    for &(setup, ids) in outputs {
        match groups.iter_mut().find(|(known, _)| *known == ids) {
            Some((_, members)) => members.push(setup.to_owned()),
            None => groups.push((ids, vec![setup.to_owned()])),
        }
    }
    let longest = groups.iter().map(|(ids, _)| ids.len()).max().unwrap_or(0);
    let part_at =
        (0..longest).find(|&index| groups.iter().any(|(ids, _)| ids.get(index) != groups[0].0.get(index)));
    groups.sort_by_key(|(_, members)| std::cmp::Reverse(members.len()));
    (groups.into_iter().map(|(_, members)| members).collect(), part_at.map(|index| index as u64))
}

/// Groups of equal outputs for each reference prompt.
pub(super) fn consistency(setups: &Setups<'_>) -> Vec<TokenConsistency> {
    let of_prompt = setups.prompts.iter().enumerate().map(|(prompt, name)| {
        let mut outputs: Vec<(&str, &[u32])> = Vec::new();
        let mut prompt_ids = true;
        let (mut runs, mut citations) = (0, Vec::new());
        for (index, setup) in setups.all.iter().enumerate() {
            let Some(member) = setups.member(index, prompt) else { continue };
            let run = &member.record.shell().runs[member.run];
            if !run.output_token_ids.is_empty() {
                outputs.push((&setup.label, &run.output_token_ids));
            }
            runs += 1;
            prompt_ids &= !run.prompt_token_ids.is_empty();
            citations.extend(setups.cite(index, prompt));
        }
        let (groups, part_at) = grouped(&outputs);
        let basis = if prompt_ids {
            TokenBasis::Ids
        } else if runs > 1 {
            TokenBasis::Declared
        } else {
            TokenBasis::Unknown
        };
        TokenConsistency { reference: name.clone(), groups, part_at, stopped: Vec::new(), basis, citations }
    });
    of_prompt.collect()
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn the_largest_group_comes_first_and_parting_is_the_earliest() {
        let outputs: [(&str, &[u32]); 4] =
            [("a", &[1, 2, 3]), ("b", &[1, 9, 3]), ("c", &[1, 9, 3]), ("d", &[1, 2])];
        let (groups, part_at) = grouped(&outputs);
        assert_eq!(groups, [vec!["b", "c"], vec!["a"], vec!["d"]]);
        assert_eq!(part_at, Some(1));
        assert_eq!(grouped(&outputs[1..3]).1, None);
        assert_eq!(grouped(&[outputs[0], outputs[3]]).1, Some(2));
    }
}
