//! What a comparison found, for people.

use std::collections::BTreeMap;
use std::io;

use mantissa_compare::{
    ComparedPair, ComparedPrompt, ComparedRepetitions, ComparedRun, Counts, First, LogprobFacts, Prompt,
    Repetitions, RowState, ShownBy, SiteFacts, State, TokenConsistency, Tokens, UnplacedReason,
};
use mantissa_numerics::Phase;

use super::facts::Compared;
use crate::terminal::{Column, Page, Report};

impl Report for Compared {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let prompts = self.found.prompts.len();
        if prompts == 0 {
            return page.line("No two runs are known to have consumed the same prompt: nothing to compare.");
        }
        for (number, prompt) in self.found.prompts.iter().enumerate() {
            if number > 0 {
                page.line("")?;
            }
            self.prompt(prompt, page)?;
        }
        if !self.found.alone.is_empty() {
            page.line("")?;
            let names = self.names(self.found.alone.iter().copied());
            page.field(
                "not compared",
                format!("{names}: no other run is known to have consumed the same prompt"),
            )?;
        }
        self.repetitions(page)
    }
}

impl Compared {
    fn prompt(&self, prompt: &ComparedPrompt, page: &mut Page<'_>) -> io::Result<()> {
        let title = match &prompt.prompt {
            Prompt::Ids { digest, tokens } => {
                format!("A prompt of {tokens} tokens, {}", &digest.to_string()[..12])
            }
            Prompt::Declared { text } => {
                let start: String = text.chars().take(60).collect();
                format!("The prompt declared as \"{start}\" (ids are not stated)")
            }
            Prompt::Unknown { .. } => "A prompt that the record does not state".to_owned(),
        };
        page.heading(&format!("{title}{}", self.reference(prompt)))?;
        let several = prompt.runs.len() > 2;
        if several {
            self.classes(prompt, page)?;
            self.outputs(prompt, page)?;
        }
        if several && !self.full {
            return self.beside_the_first(prompt, page);
        }
        for pair in &prompt.pairs {
            if several {
                page.line("")?;
            }
            page.field("runs", format!("{}  |  {}", self.name(pair.a), self.name(pair.b)))?;
            let outputs = self.found.runs[pair.a].outputs && self.found.runs[pair.b].outputs;
            pair_text(pair, outputs, page)?;
        }
        Ok(())
    }

    /// The reference prompt, where all runs of a prompt call it the same.
    fn reference(&self, prompt: &ComparedPrompt) -> String {
        let mut ids = prompt.runs.iter().map(|&run| self.found.runs[run].reference_id);
        let first = ids.next();
        let same = first.filter(|first| ids.all(|id| id == *first));
        same.map_or_else(String::new, |id| format!(" (ref {id})"))
    }

    /// One run of each class, and each run in no class, compared with one of the first class; a line each.
    fn beside_the_first(&self, prompt: &ComparedPrompt, page: &mut Page<'_>) -> io::Result<()> {
        let classes = prompt.classes.classes.iter().enumerate();
        let mut chosen: BTreeMap<usize, String> = classes
            .filter_map(|(number, class)| Some((*class.first()?, format!("class {}", number + 1))))
            .collect();
        let unplaced = prompt.classes.unplaced.iter().map(|unplaced| unplaced.member);
        chosen.extend(unplaced.map(|run| (run, self.name(run))));
        let first = prompt.classes.classes.first().and_then(|class| class.first()).or(prompt.runs.first());
        let mut rows = Vec::new();
        for (&run, name) in chosen.iter().filter(|(run, _)| Some(*run) != first) {
            // Pairs stand in the order of their runs.
            let found = first.map(|&first| (first.min(run), first.max(run)));
            let place =
                found.and_then(|ends| prompt.pairs.binary_search_by_key(&ends, |pair| (pair.a, pair.b)).ok());
            let Some(pair) = place.map(|place| &prompt.pairs[place]) else { continue };
            let counts = pair.facts.counts(None);
            let difference = pair.facts.first.map_or_else(|| none_text(counts), first_text);
            let Counts { equal, different, missing, incomparable } = counts;
            let counts = [equal, different, missing, incomparable].map(|count| count.to_string());
            rows.push([vec![name.clone(), difference], counts.to_vec()].concat());
        }
        if rows.is_empty() {
            return Ok(());
        }
        let columns = [
            Column::Left("beside the first"),
            Column::Left("first difference"),
            Column::Right("equal"),
            Column::Right("differ"),
            Column::Right("missing"),
            Column::Right("incomp."),
        ];
        page.line("")?;
        page.table(&columns, &rows)
    }

    /// Groups of equal outputs.
    fn outputs(&self, prompt: &ComparedPrompt, page: &mut Page<'_>) -> io::Result<()> {
        let TokenConsistency { groups, unknown } = &prompt.outputs;
        match groups.as_slice() {
            [] => return page.field("outputs", "not stated"),
            [all] if unknown.is_empty() => {
                let runs = all.members.len();
                return page.field("outputs", format!("the same {} tokens in all {runs} runs", all.tokens));
            }
            _ => {}
        }
        for (number, group) in groups.iter().enumerate() {
            let part = group.part_at.map_or_else(String::new, |at| format!(", part from the first at {at}"));
            let names = self.names(group.members.iter().copied());
            page.field(
                &format!("outputs {}", number + 1),
                format!("{names}: {} tokens{part}", group.tokens),
            )?;
        }
        if !unknown.is_empty() {
            page.field("outputs", format!("{}: not stated", self.names(unknown.iter().copied())))?;
        }
        Ok(())
    }

    /// Whether repetitions of each setup agree: those that do in a line, the others in one each.
    fn repetitions(&self, page: &mut Page<'_>) -> io::Result<()> {
        if self.found.repetitions.is_empty() {
            return Ok(());
        }
        page.line("")?;
        page.heading("Repetitions of a setup")?;
        let name = |repeated: &ComparedRepetitions| {
            let Repetitions { config_id, reference_id, basis, repetitions, .. } = &repeated.found;
            let basis = match basis {
                ShownBy::Stored => "stored",
                ShownBy::Digests => "by stated digests",
                ShownBy::Stated | ShownBy::Nothing => "by the record's word",
            };
            let record = self.record(&repeated.record);
            let stated = if repeated.found.outputs == State::Missing { ", outputs not stated" } else { "" };
            format!("{record}{config_id} ref {reference_id} ({repetitions} {basis}{stated})")
        };
        let (agree, others): (Vec<_>, Vec<_>) =
            self.found.repetitions.iter().partition(|ComparedRepetitions { found, .. }| {
                found.signals == State::Equal && found.outputs != State::Different
            });
        if !agree.is_empty() {
            page.field("agree", agree.into_iter().map(name).collect::<Vec<_>>().join("; "))?;
        }
        for repeated in others {
            let Repetitions { outputs, part_at, signals, .. } = repeated.found;
            let outputs = match (outputs, part_at) {
                (State::Different, Some(at)) => format!("outputs part at {at}; "),
                (State::Missing, _) => String::new(),
                (outputs, _) => format!("outputs {}; ", state_text(outputs)),
            };
            let differ = [repeated.found.outputs, signals].contains(&State::Different);
            let label = if differ { "differ" } else { "open" };
            let found = format!("{}: {outputs}signals {}", name(repeated), state_text(signals));
            page.field(label, found)?;
        }
        Ok(())
    }

    /// Classes of equal bits, a line each.
    fn classes(&self, prompt: &ComparedPrompt, page: &mut Page<'_>) -> io::Result<()> {
        let names = |runs: &[usize]| self.names(runs.iter().copied());
        for (number, class) in prompt.classes.classes.iter().enumerate() {
            page.field(&format!("class {}", number + 1), names(class))?;
        }
        for unplaced in &prompt.classes.unplaced {
            let why = match unplaced.why {
                UnplacedReason::Alone => "there is no other",
                UnplacedReason::Missing => "equal to no other as far as is known: rows are missing",
                UnplacedReason::Incomparable => {
                    "equal to no other as far as is known: rows could not be compared"
                }
            };
            page.field("in no class", format!("{}: {why}", names(&[unplaced.member])))?;
        }
        for conflict in &prompt.classes.conflicts {
            page.field(
                "conflict",
                format!("each equals the next, the ends differ: {}", names(&conflict.chain)),
            )?;
        }
        if prompt.classes.more_conflicts > 0 {
            page.field("conflict", format!("and {} more of the kind", prompt.classes.more_conflicts))?;
        }
        Ok(())
    }

    fn name(&self, run: usize) -> String {
        self.names([run].into_iter())
    }

    /// A record as it stands before what is in it, where there are several.
    fn record(&self, record: &str) -> String {
        let several = self.found.runs.iter().any(|other| other.record != *record);
        if several { format!("{record}:") } else { String::new() }
    }

    /// A run without its repetition, and without its reference prompt where the prompt's heading has that.
    fn setup(&self, run: usize) -> String {
        let ComparedRun { record, config_id, reference_id, .. } = &self.found.runs[run];
        let prompt = self.found.prompts.iter().find(|prompt| prompt.runs.contains(&run));
        let said = prompt.is_some_and(|prompt| !self.reference(prompt).is_empty());
        let reference = if said { String::new() } else { format!(" ref {reference_id}") };
        format!("{}{config_id}{reference}", self.record(record))
    }

    /// Runs in order, repetitions of one setup together.
    fn names(&self, runs: impl Iterator<Item = usize>) -> String {
        let mut setups: Vec<(String, Vec<u32>)> = Vec::new();
        for run in runs {
            let (setup, rep) = (self.setup(run), self.found.runs[run].rep_id);
            match setups.last_mut().filter(|(last, _)| *last == setup) {
                Some((_, reps)) => reps.push(rep),
                None => setups.push((setup, vec![rep])),
            }
        }
        let repeated = self.found.runs.iter().any(|run| run.rep_id != self.found.runs[0].rep_id);
        let names = setups
            .into_iter()
            .map(|(setup, reps)| if repeated { format!("{setup} rep {}", ranges(&reps)) } else { setup });
        names.collect::<Vec<_>>().join(", ")
    }
}

/// `0-2,5` for 0, 1, 2, 5.
fn ranges(numbers: &[u32]) -> String {
    let ranges = numbers.chunk_by(|a, b| a.checked_add(1) == Some(*b)).map(|range| match range {
        [first, .., last] => format!("{first}-{last}"),
        range => range.iter().map(u32::to_string).collect(),
    });
    ranges.collect::<Vec<_>>().join(",")
}

const fn state_text(state: State) -> &'static str {
    match state {
        State::Equal => "agree",
        State::Different => "differ",
        State::Missing => "missing",
        State::Incomparable => "incomparable",
    }
}

fn pair_text(pair: &ComparedPair, outputs: bool, page: &mut Page<'_>) -> io::Result<()> {
    let facts = &pair.facts;
    let stated = if outputs { "" } else { "; not both state their outputs" };
    page.field("tokens", format!("{}{stated}", tokens_text(facts.tokens)))?;
    let counts = facts.counts(None);
    page.field("first", facts.first.map_or_else(|| none_text(counts), first_text))?;
    let Counts { equal, different, missing, incomparable } = counts;
    let rows =
        format!("{equal} equal, {different} different, {missing} missing, {incomparable} incomparable");
    page.field("rows", rows)?;
    let columns = [
        Column::Left("phase"),
        Column::Left("site"),
        Column::Right("equal"),
        Column::Right("differ"),
        Column::Right("missing"),
        Column::Right("incomp."),
        Column::Right("max ULP"),
        Column::Right("L2"),
        Column::Right("max |a-b|"),
        Column::Right("cosine"),
    ];
    let rows = facts.sites.iter().map(site_row).chain(facts.logprobs.iter().map(logprobs_row));
    page.table(&columns, &rows.collect::<Vec<_>>())
}

fn tokens_text(tokens: Tokens) -> String {
    match tokens {
        Tokens::Unknown => "unknown".to_owned(),
        Tokens::Equal => "the same".to_owned(),
        Tokens::PromptsPart { index } => format!("prompts part at {index}; nothing is compared"),
        Tokens::OutputsPart { index } => format!("outputs part at {index}; nothing after that is compared"),
        Tokens::Declared { outputs_part: None } => "declared to be the same, not proved".to_owned(),
        Tokens::Declared { outputs_part: Some(index) } => {
            format!("prompts declared to be the same; outputs part at {index}")
        }
    }
}

fn none_text(counts: Counts) -> String {
    let Counts { equal, different, missing, incomparable } = counts;
    match (equal + different, missing + incomparable) {
        (0, _) => "nothing could be compared".to_owned(),
        (_, 0) => "no compared value differs".to_owned(),
        (_, 1) => "no compared value differs; 1 row could not be compared".to_owned(),
        (_, rows) => format!("no compared value differs; {rows} rows could not be compared"),
    }
}

fn first_text(first: First) -> String {
    let First { phase, step, position, site, element } = first;
    let site = site.map_or_else(|| "logprobs".to_owned(), |site| site.to_string());
    format!("{} step {step}, position {position}, {site}[{element}]", phase.name())
}

fn site_row(facts: &SiteFacts) -> Vec<String> {
    let dash = || "-".to_owned();
    let differs = facts.total.filter(|total| total.different > 0);
    let of = |value: Option<String>| value.unwrap_or_else(dash);
    let distances = [
        of(differs.and_then(|d| d.max_ulps).map(|ulps| ulps.to_string())),
        of(differs.and_then(|d| d.l2).map(|l2| format!("{l2:.3e}"))),
        of(differs.and_then(|d| d.max_abs).map(|largest| format!("{largest:.3e}"))),
        of(differs.and_then(|d| d.cosine).map(|cosine| format!("{cosine:.6}"))),
    ];
    [name_and_counts(facts.phase, facts.site.to_string(), facts.counts), distances.to_vec()].concat()
}

fn logprobs_row(facts: &LogprobFacts) -> Vec<String> {
    let largest = |of: fn(&mantissa_compare::LogprobDistance) -> Option<f64>| {
        let rows = facts.rows.iter().filter_map(|row| match &row.state {
            RowState::Different(distance) => of(distance),
            RowState::Equal | RowState::Missing | RowState::Incomparable => None,
        });
        rows.reduce(f64::max).map_or_else(|| "-".to_owned(), |value| format!("{value:.3e}"))
    };
    let distances = ["-".to_owned(), largest(|d| d.l2), largest(|d| d.max_abs), "-".to_owned()];
    [name_and_counts(facts.phase, "logprobs".to_owned(), facts.counts), distances.to_vec()].concat()
}

fn name_and_counts(phase: Phase, site: String, counts: Counts) -> Vec<String> {
    let Counts { equal, different, missing, incomparable } = counts;
    let counts = [equal, different, missing, incomparable].map(|count| count.to_string());
    [vec![phase.name().to_owned(), site], counts.to_vec()].concat()
}
