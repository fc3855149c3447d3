//! Runs, prompts and facts of a comparison in words, once for the terminal and the page.
//!
//! Left out: how they are laid out ([`crate::comparison`] for a terminal, `html` for the page).

use std::collections::BTreeMap;

use mantissa_compare::{
    ComparedPair, ComparedPrompt, ComparedRepetitions, Comparison, Counts, LogprobDistance, LogprobFacts,
    PairFacts, Prompt, Repetitions, RowState, ShownBy, SiteFacts, State, TokenConsistency, UnplacedReason,
};

use crate::foreign::push;
use crate::grid::{Column, Grid, Kind, Row};
use crate::short::Short;
use crate::words;

/// A comparison whose runs are called by their names.
pub(crate) struct Named<'a> {
    pub(crate) comparison: &'a Comparison,
    /// Whether the runs come from several records.
    several: bool,
    /// Whether runs have different repetitions.
    repeated: bool,
    /// By run: the reference prompt, where all runs of its prompt call it the same.
    references: Vec<Option<u32>>,
}

impl<'a> Named<'a> {
    pub(crate) fn of(comparison: &'a Comparison) -> Self {
        let runs = &comparison.runs;
        let mut references = vec![None; runs.len()];
        for prompt in &comparison.prompts {
            let mut ids = prompt.runs.iter().map(|&run| runs[run].reference_id);
            let first = ids.next();
            let same = first.filter(|first| ids.all(|id| id == *first));
            prompt.runs.iter().for_each(|&run| references[run] = same);
        }
        let differ = |different: &dyn Fn(usize) -> bool| (1..runs.len()).any(different);
        Self {
            comparison,
            several: differ(&|run| runs[run].record != runs[0].record),
            repeated: differ(&|run| runs[run].rep_id != runs[0].rep_id),
            references,
        }
    }

    /// `prompt of 5 tokens, 839619031524 (ref 0)`.
    pub(crate) fn prompt(&self, prompt: &ComparedPrompt) -> String {
        /// Characters of a prompt that is known by its text.
        const START: usize = 60;
        let mut title = match &prompt.prompt {
            Prompt::Ids { digest, tokens } => {
                let digest = digest.to_string();
                format!("prompt of {tokens} tokens, {}", digest.get(..12).unwrap_or(&digest))
            }
            Prompt::Declared { text } => {
                let start: String = text.chars().take(START).collect();
                let more = if text.chars().nth(START).is_some() { "…" } else { "" };
                format!("prompt declared as \"{start}{more}\" (ids are not stated)")
            }
            Prompt::Unknown { .. } => "prompt that the record does not state".to_owned(),
        };
        if let Some(id) = prompt.runs.first().and_then(|&run| self.references[run]) {
            push(&mut title, format_args!(" (ref {id})"));
        }
        title
    }

    /// What is in a record, with the record where there are several.
    fn in_record(&self, record: &str, name: &str) -> String {
        if self.several { format!("{record}: {name}") } else { name.to_owned() }
    }

    /// A setup without its repetition.
    pub(crate) fn setup(&self, run: usize) -> String {
        let one = &self.comparison.runs[run];
        self.in_record(&one.record, &one.config_id)
    }

    /// Names of setups without what all begin and end with.
    pub(crate) fn short(&self) -> Short {
        let setups = self.comparison.runs.iter().map(|run| run.config_id.as_str());
        Short::of(&setups.filter(|_| !self.several).collect::<Vec<_>>())
    }

    /// A setup with its reference prompt, unless the heading of its prompt has that.
    fn with_reference(&self, setup: &str, run: usize) -> String {
        match self.references[run] {
            Some(_) => setup.to_owned(),
            None => format!("{setup} ref {}", self.comparison.runs[run].reference_id),
        }
    }

    pub(crate) fn name(&self, run: usize) -> String {
        self.name_of(&self.setup(run), run)
    }

    /// A setup with what tells its runs apart.
    pub(crate) fn name_of(&self, setup: &str, run: usize) -> String {
        let name = self.with_reference(setup, run);
        if self.repeated { format!("{name} rep {}", self.comparison.runs[run].rep_id) } else { name }
    }

    /// Runs in order, repetitions of one setup together.
    pub(crate) fn names(&self, runs: impl IntoIterator<Item = usize>) -> Vec<String> {
        let mut setups: Vec<(String, Vec<u32>)> = Vec::new();
        for run in runs {
            let (setup, rep) = (self.with_reference(&self.setup(run), run), self.comparison.runs[run].rep_id);
            match setups.last_mut().filter(|(last, _)| *last == setup) {
                Some((_, reps)) => reps.push(rep),
                None => setups.push((setup, vec![rep])),
            }
        }
        let name = |(setup, reps): (String, Vec<u32>)| {
            if self.repeated { format!("{setup} rep {}", words::ranges(&reps)) } else { setup }
        };
        setups.into_iter().map(name).collect()
    }

    /// Each run in no class, and why.
    pub(crate) fn unplaced(&self, prompt: &ComparedPrompt) -> Vec<String> {
        let unplaced = prompt.classes.unplaced.iter().map(|one| {
            let why = match one.why {
                UnplacedReason::Alone => "there is no other",
                UnplacedReason::Missing => "equal to no other as far as is known: rows are missing",
                UnplacedReason::Incomparable => {
                    "equal to no other as far as is known: rows could not be compared"
                }
            };
            format!("{}: {why}", self.name(one.member))
        });
        unplaced.collect()
    }

    /// Chains of equal runs whose ends differ.
    pub(crate) fn conflicts(&self, prompt: &ComparedPrompt) -> Vec<String> {
        let conflicts = prompt.classes.conflicts.iter().map(|conflict| {
            let names = self.names(conflict.chain.iter().copied());
            format!("each equals the next, and the ends differ: {}", names.join(", "))
        });
        let more = prompt.classes.more_conflicts;
        conflicts.chain((more > 0).then(|| format!("and {more} more of the kind"))).collect()
    }

    /// Groups of equal outputs: what each is called, and which runs it holds.
    pub(crate) fn outputs(&self, prompt: &ComparedPrompt) -> Vec<(String, String)> {
        let TokenConsistency { groups, unknown } = &prompt.outputs;
        let all = || "outputs".to_owned();
        match groups.as_slice() {
            [] => return vec![(all(), "not stated".to_owned())],
            [one] if unknown.is_empty() => {
                return vec![(
                    all(),
                    format!("the same {} tokens in all {} runs", one.tokens, one.members.len()),
                )];
            }
            _ => {}
        }
        let mut said: Vec<(String, String)> = Vec::new();
        for (number, group) in groups.iter().enumerate() {
            let part = group.part_at.map_or_else(String::new, |at| format!(", part from the first at {at}"));
            let names = self.names(group.members.iter().copied()).join(", ");
            said.push((format!("outputs {}", number + 1), format!("{names}: {} tokens{part}", group.tokens)));
        }
        if !unknown.is_empty() {
            let names = self.names(unknown.iter().copied()).join(", ");
            said.push((all(), format!("{names}: not stated")));
        }
        said
    }

    /// A setup whose repetitions were looked at: `bs1 ref 0 (3 by stored runs)`.
    pub(crate) fn repeated(&self, one: &ComparedRepetitions) -> String {
        let Repetitions { config_id, reference_id, repetitions, basis, .. } = &one.found;
        let name = format!("{config_id} ref {reference_id} ({repetitions} by {})", shown_by(*basis));
        self.in_record(&one.record, &name)
    }
}

/// One run of each class, and each run in no class, beside one of the first class: the number of the class, where it
/// is in one, and the pair.
pub(crate) fn beside_the_first(prompt: &ComparedPrompt) -> Vec<(usize, Option<usize>, &ComparedPair)> {
    let classes = prompt.classes.classes.iter().enumerate();
    let mut chosen: BTreeMap<usize, Option<usize>> =
        classes.filter_map(|(number, class)| Some((*class.first()?, Some(number + 1)))).collect();
    chosen.extend(prompt.classes.unplaced.iter().map(|unplaced| (unplaced.member, None)));
    let first = prompt.classes.classes.first().and_then(|class| class.first()).or(prompt.runs.first());
    let Some(&first) = first else { return Vec::new() };
    let pairs = chosen.into_iter().filter(|(run, _)| *run != first).filter_map(|(run, class)| {
        // Pairs stand in the order of their runs.
        let ends = (first.min(run), first.max(run));
        let place = prompt.pairs.binary_search_by_key(&ends, |pair| (pair.a, pair.b)).ok()?;
        Some((run, class, &prompt.pairs[place]))
    });
    pairs.collect()
}

/// What an answer about repetitions rests on.
pub(crate) const fn shown_by(basis: ShownBy) -> &'static str {
    match basis {
        ShownBy::Stored => "stored runs",
        ShownBy::Digests => "stated digests",
        ShownBy::Stated | ShownBy::Nothing => "the record's word",
    }
}

/// Whether signals of repetitions agree.
pub(crate) const fn agree(state: State) -> &'static str {
    match state {
        State::Equal => "agree",
        State::Different => "differ",
        State::Missing => "missing",
        State::Incomparable => "incomparable",
    }
}

/// Whether outputs of repetitions agree.
pub(crate) fn outputs_agree(found: &Repetitions) -> String {
    match (found.outputs, found.part_at) {
        (State::Missing, _) => "not stated".to_owned(),
        (State::Different, Some(at)) => format!("part at {at}"),
        (outputs, _) => agree(outputs).to_owned(),
    }
}

/// Whether outputs or signals of repetitions differ.
pub(crate) const fn repetitions_differ(found: &Repetitions) -> bool {
    matches!((found.outputs, found.signals), (State::Different, _) | (_, State::Different))
}

/// Rows by state.
pub(crate) fn rows(counts: Counts) -> String {
    let [equal, different, missing, incomparable] = by_state(counts);
    format!("{equal} equal, {different} different, {missing} missing, {incomparable} incomparable")
}

pub(crate) fn by_state(counts: Counts) -> [String; 4] {
    let Counts { equal, different, missing, incomparable } = counts;
    [equal, different, missing, incomparable].map(words::count)
}

/// Where two runs first differ, or that no compared value does.
pub(crate) fn first(facts: &PairFacts) -> String {
    if let Some(first) = facts.first {
        let site = first.site.map_or_else(|| "logprobs".to_owned(), |site| site.to_string());
        let (step, position, element) = (first.step, first.position, first.element);
        return format!("{} step {step}, position {position}, {site}[{element}]", first.phase.name());
    }
    let Counts { equal, different, missing, incomparable } = facts.counts(None);
    match (equal + different, missing + incomparable) {
        (0, _) => "nothing could be compared".to_owned(),
        (_, 0) => "no compared value differs".to_owned(),
        (_, 1) => "no compared value differs; 1 row could not be compared".to_owned(),
        (_, rows) => format!("no compared value differs; {} rows could not be compared", words::count(rows)),
    }
}

/// The titles of [`by_state`].
pub(crate) const BY_STATE: [&str; 4] = ["equal", "differ", "missing", "incomp."];

/// A pair of runs, site by site.
pub(crate) fn site_table<'a>(caption: String, facts: &PairFacts) -> Grid<'a> {
    let titles = BY_STATE.into_iter().chain(["max ULP", "L2", "max |a−b|", "cosine"]);
    let columns = titles.map(|title| Column::new(title, Kind::Number));
    let rows = facts.sites.iter().map(site_row).chain(facts.logprobs.iter().map(logprobs_row));
    Grid {
        caption,
        columns: std::iter::once(Column::new("site", Kind::Words)).chain(columns).collect(),
        rows: rows.collect(),
        note: None,
    }
}

fn site_row<'a>(site: &SiteFacts) -> Row<'a> {
    let differs = site.total.filter(|total| total.different > 0);
    let distances = [
        differs.and_then(|d| d.max_ulps).map_or_else(String::new, |ulps| words::count(u64::from(ulps))),
        words::some(differs.and_then(|d| d.l2)),
        words::some(differs.and_then(|d| d.max_abs)),
        differs.and_then(|d| d.cosine).map_or_else(String::new, |cosine| words::number(cosine, 6)),
    ];
    let name = [format!("{} {}", site.phase.name(), site.site)];
    Row::new([name.as_slice(), &by_state(site.counts), &distances].concat(), [])
}

fn logprobs_row<'a>(logprobs: &LogprobFacts) -> Row<'a> {
    let largest = |of: fn(&LogprobDistance) -> Option<f64>| {
        let rows = logprobs.rows.iter().filter_map(|row| match &row.state {
            RowState::Different(distance) => of(distance),
            RowState::Equal | RowState::Missing | RowState::Incomparable => None,
        });
        words::some(rows.reduce(f64::max))
    };
    let distances = [String::new(), largest(|d| d.l2), largest(|d| d.max_abs), String::new()];
    let name = [format!("{} logprobs", logprobs.phase.name())];
    Row::new([name.as_slice(), &by_state(logprobs.counts), &distances].concat(), [])
}
