//! Which runs consumed the same prompt, and so may be compared at all.

use std::collections::{BTreeMap, BTreeSet};

use mantissa_evidence::{Digest, Run};
use serde::Serialize;

use crate::facts::Member;
use crate::tokens::Tokens;

/// What is known about a prompt, and identifies it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "basis", rename_all = "snake_case")]
pub enum Prompt {
    /// By its exact ids.
    Ids {
        /// blake3 over the ids.
        digest: Digest,
        /// How many.
        tokens: usize,
    },
    /// By a text or a label, without ids: declared, not proved.
    Declared {
        /// The text or the label.
        text: String,
    },
    /// Not at all; such a run is a group of its own.
    Unknown {
        /// Index of the member.
        member: usize,
    },
}

impl Prompt {
    /// What `run` states about its prompt; `member` tells apart runs that state nothing.
    ///
    /// ```
    /// use std::path::Path;
    ///
    /// use mantissa_compare::Prompt;
    /// use mantissa_evidence::Record;
    ///
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/evidence/v1/container");
    /// let record = Record::open(Path::new(path))?;
    /// let prompt = Prompt::of(&record.shell().runs[0], 0);
    /// assert!(matches!(prompt, Prompt::Ids { .. }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn of(run: &Run, member: usize) -> Self {
        if !run.prompt_token_ids.is_empty() {
            let digest = Digest::of_ids(&run.prompt_token_ids);
            return Self::Ids { digest, tokens: run.prompt_token_ids.len() };
        }
        let label = run.prompt_label.as_deref().unwrap_or_default();
        match [run.prompt_text.as_str(), label].into_iter().find(|text| !text.is_empty()) {
            Some(text) => Self::Declared { text: text.to_owned() },
            None => Self::Unknown { member },
        }
    }
}

/// Runs that consumed one prompt.
///
/// Example: [`by_prompt`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PromptGroup {
    /// The prompt.
    pub prompt: Prompt,
    /// Indices of the members, ascending.
    pub members: Vec<usize>,
}

/// Groups members by prompt, in the order in which each group's first member appears.
///
/// Any two members of a group may be compared: [`Tokens::align`] finds neither that their prompts part nor that nothing
/// is known. Runs with the same ids are together; runs without ids are together by their text, or by their label where
/// they have no text. Such sets join where each run of the one aligns with each of the other (ids beside the text that
/// was declared with them), and are left apart where that would bring together two that do not align: a text that
/// belongs to two prompts of other ids names neither of them.
///
/// ```
/// use std::path::Path;
///
/// use mantissa_compare::{Member, by_prompt};
/// use mantissa_evidence::Record;
///
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/evidence/v1/container");
/// let record = Record::open(Path::new(path))?;
/// let members: Vec<Member<'_>> = (0..3).map(|run| Member { record: &record, run }).collect();
/// assert_eq!(by_prompt(&members)[0].members, [0, 1, 2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn by_prompt(members: &[Member<'_>]) -> Vec<PromptGroup> {
    let mut sets: Vec<Set<'_>> = Vec::new();
    let mut places: BTreeMap<Prompt, usize> = BTreeMap::new();
    for (index, member) in members.iter().enumerate() {
        let Some(run) = member.record.shell().runs.get(member.run) else { continue };
        let prompt = Prompt::of(run, index);
        let by_text = !run.prompt_text.is_empty();
        // A label that reads like a text is none.
        let key = match &prompt {
            Prompt::Declared { text } if !by_text => Prompt::Declared { text: format!("\0{text}") },
            prompt => prompt.clone(),
        };
        let place = *places.entry(key).or_insert_with(|| {
            let basis = match prompt {
                Prompt::Ids { .. } => KnownBy::Ids,
                Prompt::Declared { .. } if by_text => KnownBy::Text,
                Prompt::Declared { .. } => KnownBy::Label,
                Prompt::Unknown { .. } => KnownBy::Nothing,
            };
            sets.push(Set { basis, declared: BTreeMap::new(), prompt: prompt.clone(), members: Vec::new() });
            sets.len() - 1
        });
        let declaration = (run.prompt_text.as_str(), run.prompt_label.as_deref().unwrap_or_default());
        sets[place].declared.entry(declaration).or_insert(run);
        sets[place].members.push(index);
    }
    join(sets)
}

/// Sets that cannot all align: there are three bases, and two sets of one never do.
const TOO_MANY: usize = 3;

/// What members of a set have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum KnownBy {
    Ids,
    Text,
    Label,
    Nothing,
}

/// Members that all align, as they state the same ids, text or label.
struct Set<'a> {
    basis: KnownBy,
    prompt: Prompt,
    /// One run for each text and label that members declare.
    declared: BTreeMap<(&'a str, &'a str), &'a Run>,
    members: Vec<usize>,
}

impl Set<'_> {
    fn aligns(&self, other: &Self) -> bool {
        self.declared.values().all(|a| {
            other.declared.values().all(|b| match Tokens::align(a, b) {
                Tokens::Equal | Tokens::OutputsPart { .. } | Tokens::Declared { .. } => true,
                Tokens::Unknown | Tokens::PromptsPart { .. } => false,
            })
        })
    }
}

/// Joins sets that all align with each other. Sets of the same basis never do, so a group has at most three.
fn join(sets: Vec<Set<'_>>) -> Vec<PromptGroup> {
    let mut declared: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for (place, set) in sets.iter().enumerate() {
        for &(text, label) in set.declared.keys() {
            declared.entry(text).or_default().insert(place);
            declared.entry(label).or_default().insert(place);
        }
    }
    declared.remove("");
    let mut near = vec![BTreeSet::new(); sets.len()];
    for (i, a) in sets.iter().enumerate().filter(|(_, set)| set.basis > KnownBy::Ids) {
        // Who aligns with all of a set shares a text or a label with the first of it.
        let first = a.declared.keys().next();
        let names = first.into_iter().flat_map(|(text, label)| [text, label]);
        let candidates: BTreeSet<usize> =
            names.filter_map(|name| declared.get(name)).flatten().copied().collect();
        for j in candidates.into_iter().filter(|&j| sets[j].basis < a.basis && a.aligns(&sets[j])) {
            for (one, other) in [(i, j), (j, i)] {
                if near[one].len() < TOO_MANY {
                    near[one].insert(other);
                }
            }
        }
    }
    let mut group: Vec<usize> = (0..sets.len()).collect();
    let mut seen = vec![false; sets.len()];
    for start in 0..sets.len() {
        let (mut connected, mut ahead) = (Vec::new(), vec![start]);
        while let Some(set) = ahead.pop() {
            if !std::mem::replace(&mut seen[set], true) {
                connected.push(set);
                ahead.extend(&near[set]);
            }
        }
        if connected.iter().all(|&set| near[set].len() + 1 == connected.len()) {
            for &set in &connected {
                group[set] = start;
            }
        }
    }
    let mut groups: BTreeMap<usize, PromptGroup> = BTreeMap::new();
    let mut best: Vec<usize> = (0..sets.len()).collect();
    best.sort_by_key(|&set| (sets[set].basis, set));
    let mut sets: Vec<Option<Set<'_>>> = sets.into_iter().map(Some).collect();
    for place in best {
        let Some(Set { prompt, members, .. }) = sets[place].take() else { continue };
        let group = groups.entry(group[place]).or_insert_with(|| PromptGroup { prompt, members: Vec::new() });
        group.members.extend(members);
        group.members.sort_unstable();
    }
    groups.into_values().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sample;

    /// A run with these ids (none for 0), text and label.
    fn run(ids: u32, text: &str, label: &str) -> Run {
        let mut run = sample::run();
        run.prompt_token_ids = if ids == 0 { Vec::new() } else { vec![ids] };
        run.prompt_text = text.to_owned();
        run.prompt_label = Some(label.to_owned()).filter(|label| !label.is_empty());
        run
    }

    fn groups(runs: &[Run]) -> Vec<Vec<usize>> {
        let record = sample::record(runs.to_vec());
        by_prompt(&sample::members(&record)).into_iter().map(|group| group.members).collect()
    }

    #[test]
    fn a_run_that_states_ids_and_a_text_joins_those_that_state_the_text_alone() {
        assert_eq!(groups(&[run(1, "p", ""), run(0, "p", "")]), [[0, 1]]);
        assert_eq!(groups(&[run(0, "", "x"), run(2, "q", "y"), run(1, "p", "x"), run(0, "p", "")]).len(), 4);
        assert_eq!(groups(&[run(0, "", "x"), run(1, "p", "x"), run(0, "p", "x")]), [[0, 1, 2]]);
        // Without ids, a label joins a text that carries it.
        assert_eq!(groups(&[run(0, "", "x"), run(0, "p", "x")]), [[0, 1]]);
        // A label is no text, whatever it says.
        assert_eq!(groups(&[run(0, "x", ""), run(0, "", "x")]), [[0], [1]]);
        assert_eq!(groups(&[run(0, "", ""), run(0, "", "")]), [[0], [1]]);
        let record = sample::record([run(0, "p", ""), run(1, "p", "")]);
        let found = by_prompt(&sample::members(&record));
        assert!(
            matches!(found[0].prompt, Prompt::Ids { tokens: 1, .. }),
            "the strongest basis names a group"
        );
    }

    #[test]
    fn a_bridge_between_prompts_that_part_joins_neither() {
        assert_eq!(groups(&[run(1, "p", ""), run(2, "p", ""), run(0, "p", "")]), [[0], [1], [2]]);
        assert_eq!(groups(&[run(0, "p", "x"), run(0, "", "x"), run(0, "q", "x")]), [[0], [1], [2]]);
        // One of two equal prompts has no text, and nothing says that it is that of run 2.
        assert_eq!(groups(&[run(1, "p", ""), run(1, "", ""), run(0, "p", "")]), [vec![0, 1], vec![2]]);
    }

    proptest! {
        #[test]
        fn members_of_a_group_align_and_those_that_align_are_apart_only_for_a_bridge(
            picks in prop::collection::vec((0_u32..3, 0_usize..3, 0_usize..3), 0..7),
        ) {
            let runs: Vec<Run> =
                picks.iter().map(|&(ids, p, x)| run(ids, ["", "p", "q"][p], ["", "x", "y"][x])).collect();
            let aligned = |a: usize, b: usize| {
                !matches!(Tokens::align(&runs[a], &runs[b]), Tokens::Unknown | Tokens::PromptsPart { .. })
            };
            let groups = groups(&runs);
            let mut all: Vec<usize> = groups.iter().flatten().copied().collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..runs.len()).collect::<Vec<_>>());
            for group in &groups {
                for (n, &a) in group.iter().enumerate() {
                    prop_assert!(group[n + 1..].iter().all(|&b| aligned(a, b)), "{group:?}");
                }
            }
            let group = |a: usize| groups.iter().position(|group| group.contains(&a));
            for a in 0..runs.len() {
                for b in (0..runs.len()).filter(|&b| aligned(a, b) && group(a) != group(b)) {
                    // What aligns with either, directly or by others, does not all align.
                    let mut connected = vec![a];
                    while let Some(next) = (0..runs.len())
                        .find(|c| !connected.contains(c) && connected.iter().any(|&d| aligned(*c, d)))
                    {
                        connected.push(next);
                    }
                    prop_assert!(connected.contains(&b));
                    prop_assert!(connected.iter().any(|&c| connected.iter().any(|&d| c != d && !aligned(c, d))));
                    let ids = |run: usize| &runs[run].prompt_token_ids;
                    prop_assert!(ids(a).is_empty() || ids(a) != ids(b), "the same ids are never apart");
                }
            }
        }
    }
}
