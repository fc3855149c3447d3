//! The page of a comparison: facts, without a judgement.

use std::collections::{BTreeMap, BTreeSet};

use mantissa_compare::{
    ComparedPair, ComparedPrompt, Comparison, Counts, RowState, ShownBy, SignalFacts, SignalKind, State,
    UnplacedReason,
};
use mantissa_numerics::Phase;
use mantissa_verdict::analysis::{self, Cell, Matrix, MatrixKind, Signal, Source};

use super::analysis::tables;
use super::limits::CELLS;
use super::look::Look;
use super::matrices::matrices;
use super::named::Named;
use super::own::strips;
use super::parts::{Block, Group, Item, Lead, Mark, Overview, Parts, Rows, Section, Tone};
use super::rows::{column, first_text, map, site_table};
use super::scale::Scale;
use super::stated::{about, warnings};
use super::strips::{Line, Strip};
use crate::grid::{Grid, Kind, Row};
use crate::words;

/// Pairs whose rows are shown one by one, at most.
const SHOWN: usize = 6;
/// Of these, that are not folded.
const OPEN: usize = 2;

const KINDS: [(SignalKind, Signal); 3] = [
    (SignalKind::HiddenStates, Signal::HiddenStates),
    (SignalKind::KeyVectors, Signal::KeyVectors),
    (SignalKind::Logprobs, Signal::Logprobs),
];

pub(super) fn parts<'a>(
    comparison: &'a Comparison,
    sources: &'a [Source],
    figures: &'a [Matrix],
) -> Parts<'a> {
    let of = Named { comparison };
    let files: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
    Parts {
        verb: "Comparison",
        subject: words::listed(&files, 2),
        about: about(sources),
        lead: of.lead(&files),
        warnings: of.warnings().into_iter().chain(warnings(sources)).collect(),
        overview: of.overview(),
        sections: vec![
            Section::new("classes", "Classes of equal bits, and outputs", of.classes()),
            Section::new("own-and-other", "Own against other distance", of.own_and_other()),
            Section::new("matrices", "Matrices of distances", matrices(figures, None)),
            Section::new("where", "Where bits differ", of.maps()),
            Section::new("sites", "Site by site", of.sites()),
            Section::new("repetitions", "Repetitions of a setup", of.repetitions()),
        ],
        sources,
        whole: "the output of --format json",
    }
}

/// Runs against runs, one matrix per prompt, phase and signal.
pub(super) fn figures(comparison: &Comparison) -> Vec<Matrix> {
    /// Runs of a prompt, at most.
    const RUNS: usize = 40;
    let of = Named { comparison };
    let mut figures = Vec::new();
    for phase in [Phase::Prefill, Phase::Decode] {
        for (kind, signal) in KINDS {
            for prompt in comparison.prompts.iter().filter(|prompt| (3..=RUNS).contains(&prompt.runs.len())) {
                let facts: BTreeMap<(usize, usize), SignalFacts> = prompt
                    .pairs
                    .iter()
                    .filter_map(|pair| Some(((pair.a, pair.b), pair.facts.signal(phase, Some(kind))?)))
                    .collect();
                if facts.is_empty() {
                    continue;
                }
                let cell = |a: usize, b: usize| {
                    let found = facts.get(&(a.min(b), a.max(b)));
                    let (state, value) = match found {
                        _ if a == b => (analysis::State::Equal, Some(0.0)),
                        None => (analysis::State::Missing, None),
                        Some(found) => match (found.counts.state(), found.largest) {
                            (State::Different, value) => (analysis::State::Different, value),
                            (State::Equal, _) => (analysis::State::Equal, Some(0.0)),
                            (State::Missing, _) => (analysis::State::Missing, None),
                            (State::Incomparable, _) => (analysis::State::Incomparable, None),
                        },
                    };
                    Cell { state, value, n: 1, citation: None }
                };
                let names: Vec<String> = prompt.runs.iter().map(|&run| of.name(prompt, run)).collect();
                let reference = of.prompt(prompt);
                figures.push(Matrix {
                    title: format!("{} {}", phase.name(), words::signal(signal)),
                    kind: MatrixKind::WithinMode,
                    phase,
                    signal,
                    reference: Some(reference),
                    statistic: "largest L2 of a row".to_owned(),
                    rows: names.clone(),
                    columns: names,
                    cells: prompt
                        .runs
                        .iter()
                        .map(|&a| prompt.runs.iter().map(|&b| cell(a, b)).collect())
                        .collect(),
                });
            }
        }
    }
    figures
}

impl<'a> Named<'a> {
    fn lead(&self, files: &[&str]) -> Lead {
        let comparison = self.comparison;
        let (word, meaning) = match comparison.state() {
            State::Different => ("Bits differ", "bits or outputs differ"),
            State::Equal => ("No bit differs", "every run was compared, and no bit differs"),
            State::Missing | State::Incomparable => {
                ("Not everything could be compared", "none differs, and not everything could be compared")
            }
        };
        let tone = if comparison.state() == State::Missing { Tone::Open } else { Tone::Neutral };
        let prompts = comparison.prompts.len();
        if prompts == 0 {
            let sentence = format!(
                "Of {}, no two runs are known to have consumed the same prompt: nothing was compared.",
                words::listed(files, 3)
            );
            return Lead { tone, word: word.to_owned(), sentences: vec![sentence] };
        }
        let runs: usize = comparison.prompts.iter().map(|prompt| prompt.runs.len()).sum();
        let mut counts = Counts::default();
        comparison
            .prompts
            .iter()
            .flat_map(|prompt| &prompt.pairs)
            .for_each(|pair| counts.add(pair.facts.counts(None)));
        let pairs: usize = comparison.prompts.iter().map(|prompt| prompt.pairs.len()).sum();
        let classes: usize = comparison.prompts.iter().map(|prompt| prompt.classes.classes.len()).sum();
        let mut sentences = vec![
            format!(
                "Of {}, {} of {} were compared bit by bit: {meaning}.",
                words::listed(files, 3),
                words::of(runs, "run"),
                words::of(prompts, "prompt")
            ),
            format!(
                "In {}, {} rows are equal, {} different, {} missing and {} incomparable; runs fall into {} of equal \
                 bits.",
                words::of(pairs, "pair"),
                words::count(counts.equal),
                words::count(counts.different),
                words::count(counts.missing),
                words::count(counts.incomparable),
                if classes == 1 { "1 class".to_owned() } else { format!("{classes} classes") }
            ),
        ];
        let firsts =
            comparison.prompts.iter().flat_map(|prompt| prompt.pairs.iter().map(move |pair| (prompt, pair)));
        let first = firsts.filter_map(|(prompt, pair)| Some((prompt, pair, pair.facts.first?)));
        // Log-probabilities, which have no site, come last in a step.
        let first = first.min_by_key(|(_, pair, first)| {
            (first.phase, first.step, first.site.is_none(), first.site, pair.a, pair.b)
        });
        sentences.extend(first.map(|(prompt, pair, _)| {
            format!(
                "The first difference lies between {} and {}: {}.",
                self.name(prompt, pair.a),
                self.name(prompt, pair.b),
                first_text(&pair.facts)
            )
        }));
        sentences.push("Nothing is judged here; mantissa analyze does that.".to_owned());
        Lead { tone, word: word.to_owned(), sentences }
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let alone: Vec<String> = self.comparison.alone.iter().map(|&run| self.whole_name(run)).collect();
        if !alone.is_empty() {
            warnings.push(format!(
                "Not compared, because no other run is known to have consumed the same prompt: {}.",
                words::listed(&alone, 12)
            ));
        }
        for prompt in &self.comparison.prompts {
            for conflict in &prompt.classes.conflicts {
                let names: Vec<String> = conflict.chain.iter().map(|&run| self.name(prompt, run)).collect();
                warnings.push(format!(
                    "Each of these equals the next, and the ends differ: {}.",
                    names.join(", ")
                ));
            }
        }
        warnings
    }

    fn lanes(&self) -> Vec<(Phase, Option<SignalKind>)> {
        let kinds = KINDS.map(|(kind, _)| Some(kind)).into_iter().chain([None]);
        let all = [Phase::Prefill, Phase::Decode]
            .into_iter()
            .flat_map(|phase| kinds.clone().map(move |kind| (phase, kind)));
        let facts =
            || self.comparison.prompts.iter().flat_map(|prompt| &prompt.pairs).map(|pair| &pair.facts);
        all.filter(|&(phase, kind)| facts().any(|facts| facts.signal(phase, kind).is_some())).collect()
    }

    fn overview(&self) -> Option<Overview> {
        let lanes = self.lanes();
        if lanes.is_empty() {
            return None;
        }
        let mut looks: Vec<Look> = Vec::new();
        let short = self.short();
        let name = |prompt, run| self.name_of(short.name(&self.setup(run)), prompt, run);
        let groups = self.comparison.prompts.iter().map(|prompt| {
            let rows = prompt.pairs.iter().map(|pair| {
                let marks = lanes.iter().map(|&(phase, kind)| pair.facts.signal(phase, kind).map(mark));
                let marks: Vec<Option<Mark>> = marks.collect();
                looks.extend(marks.iter().flatten().map(|mark| mark.look));
                (words::pair_name(&name(prompt, pair.a), &name(prompt, pair.b)), marks)
            });
            Rows { rows: rows.collect(), heading: Some(words::capital(&self.prompt(prompt))) }
        });
        let groups: Vec<Rows> = groups.collect();
        let legend = [
            (Look::Same, "same bits in every row"),
            (Look::Apart, "other bits; the largest L2 of a row"),
            (Look::Alike, "same bits as far as rows could be compared"),
            (Look::Missing, "missing on one side"),
            (Look::None, "incomparable"),
        ];
        let legend = legend.into_iter().filter(|(look, _)| looks.contains(look));
        let columns = lanes.chunk_by(|a, b| a.0 == b.0).map(|lanes| {
            let signals = lanes.iter().map(|lane| match KINDS.iter().find(|kind| Some(kind.0) == lane.1) {
                Some((_, signal)) => words::signal(*signal).to_owned(),
                None => "other sites".to_owned(),
            });
            (lanes[0].0.name().to_owned(), signals.collect())
        });
        Some(Overview {
            heading: "Pairs by signal",
            caption: format!("Which bits differ between each two runs of a prompt{}", short.said("setups")),
            corner: "pair",
            columns: columns.collect(),
            groups,
            legend: legend.map(|(look, means)| (Mark::new(look, ""), means)).collect(),
        })
    }

    fn classes(&self) -> Vec<Block<'a>> {
        let mut blocks = Vec::new();
        for prompt in &self.comparison.prompts {
            let names = |runs: &[usize]| runs.iter().map(|&run| self.name(prompt, run)).collect::<Vec<_>>();
            blocks.push(Block::Heading(words::capital(&self.prompt(prompt))));
            let placed = prompt.classes.classes.iter().enumerate().map(|(i, class)| Group {
                heading: format!("class {} · {}", i + 1, words::of(class.len(), "run")),
                members: names(class),
                placed: true,
            });
            let mut boxes: Vec<Group> = placed.collect();
            if !prompt.classes.unplaced.is_empty() {
                let unplaced = prompt.classes.unplaced.iter().map(|one| {
                    let why = match one.why {
                        UnplacedReason::Alone => "there is no other",
                        UnplacedReason::Missing => "equal to no other as far as is known: rows are missing",
                        UnplacedReason::Incomparable => {
                            "equal to no other as far as is known: rows could not be compared"
                        }
                    };
                    format!("{}: {why}", self.name(prompt, one.member))
                });
                boxes.push(Group {
                    heading: "in no class".to_owned(),
                    members: unplaced.collect(),
                    placed: false,
                });
            }
            blocks.push(Block::Boxes(boxes));
            let mut outputs: Vec<String> = Vec::new();
            match (prompt.outputs.groups.as_slice(), prompt.outputs.unknown.is_empty()) {
                ([], _) => outputs.push("Outputs are not stated.".to_owned()),
                ([all], true) => outputs.push(format!(
                    "The same {} output tokens in all {} runs.",
                    all.tokens,
                    all.members.len()
                )),
                (groups, _) => outputs.extend(groups.iter().map(|group| {
                    let part = group
                        .part_at
                        .map_or_else(String::new, |at| format!(", part from the first at output {at}"));
                    format!("{} output tokens{part}: {}", group.tokens, names(&group.members).join(", "))
                })),
            }
            if !prompt.outputs.groups.is_empty() && !prompt.outputs.unknown.is_empty() {
                outputs.push(format!("Outputs not stated: {}", names(&prompt.outputs.unknown).join(", ")));
            }
            blocks.push(Block::List(outputs.into_iter().map(|text| Item { text, citations: &[] }).collect()));
        }
        blocks
    }

    /// Distances between setups beside those between repetitions of one.
    fn own_and_other(&self) -> Vec<Block<'a>> {
        let mut blocks = Vec::new();
        let distance = |pair: &ComparedPair, phase, kind| {
            pair.facts.signal(phase, Some(kind)).and_then(|facts| facts.largest)
        };
        let pairs = || self.comparison.prompts.iter().flat_map(|prompt| &prompt.pairs);
        let own = |pair: &ComparedPair| self.setup(pair.a) == self.setup(pair.b);
        for phase in [Phase::Prefill, Phase::Decode] {
            for (kind, signal) in KINDS {
                let Some(scale) = Scale::with_ticks(pairs().filter_map(|pair| distance(pair, phase, kind)))
                else {
                    continue;
                };
                let mut setups: Vec<((String, String), Vec<f64>)> = Vec::new();
                let mut owns: BTreeMap<String, Vec<f64>> = BTreeMap::new();
                for pair in pairs() {
                    let Some(value) = distance(pair, phase, kind) else { continue };
                    if own(pair) {
                        owns.entry(self.setup(pair.a)).or_default().push(value);
                        continue;
                    }
                    // One pair of setups, whichever of its runs comes first.
                    let (a, b) = (self.setup(pair.a), self.setup(pair.b));
                    let ends = if a <= b { (a, b) } else { (b, a) };
                    match setups.iter_mut().find(|(known, _)| *known == ends) {
                        Some((_, values)) => values.push(value),
                        None => setups.push((ends, vec![value])),
                    }
                }
                let largest = owns.values().flatten().copied().reduce(f64::max);
                let lines = match largest {
                    Some(at) => vec![Line {
                        at,
                        label: format!(
                            "{}: the largest distance between repetitions of one setup",
                            words::number(at, 3)
                        ),
                        decides: true,
                    }],
                    None => vec![Line {
                        at: 0.0,
                        label: "0: same bits; no repetitions are stored beside one another".to_owned(),
                        decides: false,
                    }],
                };
                let short = self.short();
                let rows = setups.into_iter().map(|((a, b), values)| {
                    let both: Vec<f64> =
                        [&a, &b].into_iter().filter_map(|one| owns.get(one)).flatten().copied().collect();
                    let band =
                        both.iter().copied().reduce(f64::min).zip(both.iter().copied().reduce(f64::max));
                    let most = values.iter().copied().fold(0.0, f64::max);
                    let look = |value: f64| if value > 0.0 { Look::Apart } else { Look::Same };
                    Strip {
                        label: words::pair_name(short.name(&a), short.name(&b)),
                        own: band,
                        interval: None,
                        dots: values.iter().map(|&value| (value, look(value))).collect(),
                        figure: words::number(most, 3),
                        said: format!(
                            "{} of runs, the largest distance of a row {}.",
                            words::of(values.len(), "pair"),
                            words::number(most, 3)
                        ),
                    }
                });
                strips(
                    (words::lane_name(phase, signal), "largest L2 of a row", "other: other bits"),
                    scale,
                    lines,
                    rows.collect(),
                    &mut blocks,
                );
            }
        }
        blocks
    }

    /// One run of each class beside one of the first; or the only pair.
    fn chosen(&self) -> Vec<(&'a ComparedPrompt, &'a ComparedPair)> {
        let mut chosen = Vec::new();
        for prompt in &self.comparison.prompts {
            let classes = prompt.classes.classes.iter().filter_map(|class| class.first().copied());
            let unplaced = prompt.classes.unplaced.iter().map(|one| one.member);
            let beside: BTreeSet<usize> = classes.chain(unplaced).collect();
            let first =
                prompt.classes.classes.first().and_then(|class| class.first()).or(prompt.runs.first());
            let Some(&first) = first else { continue };
            let pairs = prompt.pairs.iter().filter(|pair| {
                prompt.runs.len() == 2
                    || (pair.a == first && beside.contains(&pair.b))
                    || (pair.b == first && beside.contains(&pair.a))
            });
            chosen.extend(pairs.map(|pair| (prompt, pair)));
        }
        chosen
    }

    /// Layers × positions of each kind, painted by distance.
    fn maps(&self) -> Vec<Block<'a>> {
        let chosen: Vec<_> =
            self.chosen().into_iter().filter(|(_, pair)| pair.facts.counts(None).different > 0).collect();
        let shown = || chosen.iter().take(SHOWN);
        let sites = || shown().flat_map(|(_, pair)| &pair.facts.sites);
        let scale = Scale::of(sites().flat_map(|site| &site.rows).filter_map(|row| match row.state {
            RowState::Different(distance) => distance.l2,
            _ => None,
        }));
        let mut blocks = Vec::new();
        let mut room = CELLS;
        for (i, (prompt, pair)) in shown().enumerate() {
            let mut maps = Vec::new();
            for phase in [Phase::Prefill, Phase::Decode] {
                for (kind, signal) in &KINDS[..2] {
                    let Some(map) = map(&pair.facts, phase, (*kind, *signal), scale, &mut room) else {
                        continue;
                    };
                    maps.push(map);
                }
            }
            if !maps.is_empty() {
                let names = words::pair_name(&self.name(prompt, pair.a), &self.name(prompt, pair.b));
                let title = format!("{names}: first {}", first_text(&pair.facts));
                if i < OPEN {
                    blocks.push(Block::Heading(title));
                    blocks.extend(maps);
                } else {
                    blocks.push(Block::Folded { summary: title, blocks: maps });
                }
            }
        }
        if !blocks.is_empty() {
            blocks.insert(0, Block::Key(scale));
            blocks.insert(0, Block::Text(
                "Layers from top to bottom in the order of computation, positions or steps from left to right. A cell \
                 is one row: its L2, or its state. The first difference is framed. Only what was recorded has a row or \
                 a column."
                    .to_owned(),
            ));
        }
        if chosen.len() > SHOWN {
            blocks.push(Block::Text(format!("The first {SHOWN} of {} pairs that differ.", chosen.len())));
        }
        blocks
    }

    fn sites(&self) -> Vec<Block<'a>> {
        let chosen = self.chosen();
        let mut blocks: Vec<Block<'a>> = Vec::new();
        for (prompt, pair) in chosen.iter().take(SHOWN) {
            let names = words::pair_name(&self.name(prompt, pair.a), &self.name(prompt, pair.b));
            let counts = pair.facts.counts(None);
            let summary = format!(
                "{names}: {} equal, {} different, {} missing, {} incomparable rows",
                words::count(counts.equal),
                words::count(counts.different),
                words::count(counts.missing),
                words::count(counts.incomparable)
            );
            blocks.push(Block::Folded { summary, blocks: vec![Block::Grid(site_table(names, &pair.facts))] });
        }
        if chosen.len() > SHOWN {
            blocks.push(Block::Text(format!("The first {SHOWN} of {} pairs.", chosen.len())));
        }
        blocks
    }

    fn repetitions(&self) -> Vec<Block<'a>> {
        let state = |state: State| match state {
            State::Equal => "agree",
            State::Different => "differ",
            State::Missing => "missing",
            State::Incomparable => "incomparable",
        };
        let rows = self.comparison.repetitions.iter().map(|one| {
            let found = &one.found;
            let basis = match found.basis {
                ShownBy::Stored => "stored runs",
                ShownBy::Digests => "stated digests",
                ShownBy::Stated | ShownBy::Nothing => "the record's word",
            };
            let outputs = match (found.outputs, found.part_at) {
                (State::Missing, _) => "not stated".to_owned(),
                (State::Different, Some(at)) => format!("part at {at}"),
                (outputs, _) => state(outputs).to_owned(),
            };
            let cells = vec![
                found.config_id.clone(),
                one.record.clone(),
                format!("ref {}", found.reference_id),
                found.repetitions.to_string(),
                outputs,
                state(found.signals).to_owned(),
                basis.to_owned(),
            ];
            Row::new(cells, [])
        });
        let titles = ["setup", "record", "prompt", "repetitions", "outputs", "signals", "shown by"];
        tables(vec![Grid {
            caption: "Repetitions of each setup".to_owned(),
            columns: titles.iter().map(|title| column(title, Kind::Words)).collect(),
            rows: rows.collect(),
            note: None,
        }])
    }
}

fn mark(facts: SignalFacts) -> Mark {
    let (look, word) = match (facts.counts.state(), facts.counts) {
        (State::Different, _) => (Look::Apart, "other bits"),
        (State::Equal, Counts { missing: 0, incomparable: 0, .. }) => (Look::Same, "same bits"),
        (State::Equal, _) => (Look::Alike, "same bits as far as compared"),
        (State::Missing, _) => (Look::Missing, "missing on one side"),
        (State::Incomparable, _) => (Look::None, "incomparable"),
    };
    let figure = facts.largest.filter(|_| look == Look::Apart).map(|value| words::number(value, 2));
    Mark { figure: figure.unwrap_or_default(), ..Mark::new(look, word) }
}
