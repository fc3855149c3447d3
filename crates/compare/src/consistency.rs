//! Whether one prompt led to the same outputs in every setup.
//!
//! Only ids are compared. A run that states no output ids is in no group.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::facts::Member;
use crate::tokens::{Tokens, parting};

/// Outputs of members that were given one prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenConsistency {
    /// Members by equal output ids, largest group first, then by first member.
    pub groups: Vec<Vec<usize>>,
    /// Members that state no output ids.
    pub unknown: Vec<usize>,
    /// The first index at which the outputs of not all members agree any more; absent when they do.
    pub part_at: Option<usize>,
    /// How the prompts are known to be the same.
    pub basis: TokenBasis,
    /// Members whose prompt is not that of the first member.
    pub other_prompts: Vec<usize>,
}

/// How prompts are known to be the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenBasis {
    /// By their ids.
    Ids,
    /// Some records declare the same prompt without its ids.
    Declared,
    /// Not at all.
    Unknown,
}

/// Groups members by equal output ids.
///
/// Members that name no run are in no group. The basis is the weakest that any member shares with the first.
#[must_use]
pub fn token_consistency(members: &[Member<'_>]) -> TokenConsistency {
    let runs: Vec<_> = members
        .iter()
        .enumerate()
        .filter_map(|(index, member)| Some((index, member.record.shell().runs.get(member.run)?)))
        .collect();
    let mut basis = runs.first().map_or(TokenBasis::Unknown, |(_, run)| {
        if run.prompt_token_ids.is_empty() { TokenBasis::Declared } else { TokenBasis::Ids }
    });
    let mut other_prompts = Vec::new();
    let mut outputs: BTreeMap<&[u32], Vec<usize>> = BTreeMap::new();
    let mut unknown = Vec::new();
    for &(index, run) in &runs {
        match Tokens::align(runs[0].1, run) {
            Tokens::Equal | Tokens::OutputsPart { .. } => {}
            Tokens::Declared { .. } => basis = basis.max(TokenBasis::Declared),
            Tokens::Unknown => basis = TokenBasis::Unknown,
            Tokens::PromptsPart { .. } => other_prompts.push(index),
        }
        if run.output_token_ids.is_empty() {
            unknown.push(index);
        } else {
            outputs.entry(&run.output_token_ids).or_default().push(index);
        }
    }
    let keys: Vec<&[u32]> = outputs.keys().copied().collect();
    let part_at = keys.iter().skip(1).filter_map(|ids| parting(keys[0], ids)).min();
    let mut groups: Vec<Vec<usize>> = outputs.into_values().collect();
    groups.sort_by_key(|group| (usize::MAX - group.len(), group[0]));
    TokenConsistency { groups, unknown, part_at, basis, other_prompts }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn groups_are_by_output_and_the_largest_comes_first() {
        let with = |outputs: &[u32]| {
            let mut run = sample::run();
            run.output_token_ids = outputs.to_vec();
            run
        };
        let runs = [with(&[5, 6, 7]), with(&[5, 6, 8]), with(&[5, 6, 8]), with(&[5]), with(&[])];
        let record = sample::record(runs);
        let found = token_consistency(&sample::members(&record));
        assert_eq!(found.groups, [vec![1, 2], vec![0], vec![3]]);
        assert_eq!((found.part_at, found.unknown.clone(), found.basis), (Some(1), vec![4], TokenBasis::Ids));

        let agreeing = sample::record([with(&[5, 6]), with(&[5, 6])]);
        let found = token_consistency(&sample::members(&agreeing));
        assert_eq!((found.groups, found.part_at), (vec![vec![0, 1]], None));
    }

    #[test]
    fn the_weakest_basis_counts() {
        let mut declared = sample::run();
        declared.prompt_token_ids.clear();
        declared.prompt_text = "p".to_owned();
        let mut stated = sample::run();
        stated.prompt_text = "p".to_owned();
        let mut nameless = declared.clone();
        nameless.prompt_text.clear();
        let mut other = stated.clone();
        other.prompt_token_ids.push(9);
        for (runs, basis) in [
            (vec![stated.clone(), declared.clone()], TokenBasis::Declared),
            (vec![declared.clone(), declared.clone()], TokenBasis::Declared),
            (vec![stated.clone(), declared.clone(), nameless.clone()], TokenBasis::Unknown),
            (vec![nameless.clone(), nameless.clone(), declared], TokenBasis::Unknown),
            (vec![], TokenBasis::Unknown),
        ] {
            let record = sample::record(runs);
            assert_eq!(token_consistency(&sample::members(&record)).basis, basis);
        }
        let record = sample::record([stated, other]);
        assert_eq!(token_consistency(&sample::members(&record)).other_prompts, [1]);
    }
}
