//! Whether one prompt led to the same outputs in every setup.
//!
//! Only ids are compared. A run that states no output ids is in no group. Left out: which runs had one prompt (see
//! [`crate::by_prompt`]).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::facts::Member;
use crate::tokens::parting;

/// Outputs of members that were given one prompt.
///
/// Example: [`token_consistency`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenConsistency {
    /// Members by equal output ids, largest group first, then by first member.
    pub groups: Vec<OutputGroup>,
    /// Members that state no output ids.
    pub unknown: Vec<usize>,
}

/// Members with the same output ids.
///
/// Example: [`token_consistency`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutputGroup {
    /// The members, ascending.
    pub members: Vec<usize>,
    /// Output ids.
    pub tokens: usize,
    /// The first index at which these outputs and those of the first group are not the same, or one has ended; absent
    /// for the first group.
    pub part_at: Option<usize>,
}

/// Groups members by equal output ids. Members that name no run are in no group.
///
/// ```
/// use std::path::Path;
///
/// use mantissa_compare::{Member, token_consistency};
/// use mantissa_evidence::Record;
///
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/evidence/v1/container");
/// let record = Record::open(Path::new(path))?;
/// let members: Vec<Member<'_>> = (0..3).map(|run| Member { record: &record, run }).collect();
/// // All three emitted the same tokens.
/// assert_eq!(token_consistency(&members).groups.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn token_consistency(members: &[Member<'_>]) -> TokenConsistency {
    let mut outputs: BTreeMap<&[u32], Vec<usize>> = BTreeMap::new();
    let mut unknown = Vec::new();
    for (index, member) in members.iter().enumerate() {
        let Some(run) = member.record.shell().runs.get(member.run) else { continue };
        if run.output_token_ids.is_empty() {
            unknown.push(index);
        } else {
            outputs.entry(&run.output_token_ids).or_default().push(index);
        }
    }
    let mut groups: Vec<(&[u32], Vec<usize>)> = outputs.into_iter().collect();
    groups.sort_by_key(|(_, members)| (usize::MAX - members.len(), members[0]));
    let first = groups.first().map_or(&[][..], |(ids, _)| *ids);
    let groups = groups.into_iter().map(|(ids, members)| OutputGroup {
        members,
        tokens: ids.len(),
        part_at: parting(first, ids),
    });
    TokenConsistency { groups: groups.collect(), unknown }
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
        let groups: Vec<_> =
            found.groups.iter().map(|group| (group.members.clone(), group.tokens, group.part_at)).collect();
        assert_eq!(groups, [(vec![1, 2], 3, None), (vec![0], 3, Some(2)), (vec![3], 1, Some(1))]);
        assert_eq!(found.unknown, [4]);

        let agreeing = sample::record([with(&[5, 6]), with(&[5, 6])]);
        let found = token_consistency(&sample::members(&agreeing));
        assert_eq!((found.groups.len(), found.groups[0].part_at), (1, None));
        assert_eq!(token_consistency(&[]).groups, []);
    }
}
