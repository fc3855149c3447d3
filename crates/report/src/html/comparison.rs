//! The page of a comparison: facts, without a judgement.

use std::collections::BTreeMap;

use mantissa_compare::{
    ComparedPair, ComparedPrompt, ComparedRepetitions, Comparison, Counts, RowState, SignalFacts, SignalKind,
    State,
};
use mantissa_numerics::Phase;
use mantissa_verdict::analysis::{self, Cell, Matrix, MatrixKind, Signal, Source};

use super::analysis::tables;
use super::limits::{CELLS, Cut};
use super::look::Look;
use super::matrices::matrices;
use super::own::{Axis, strips};
use super::parts::{Block, Group, Item, Lead, Mark, Overview, Parts, Rows, Section, Tone};
use super::rows::map;
use super::scale::Scale;
use super::stated::{about, warnings};
use super::strips::{Line, Means, Strip};
use crate::compared::{self, Named, beside_the_first};
use crate::grid::{Column, Grid, Kind, Row};
use crate::words;

/// Where everything stands that a page cuts.
const WHOLE: &str = "the output of --format json";
/// Runs of a prompt that has matrices, at least and at most.
const RUNS: std::ops::RangeInclusive<usize> = 3..=40;
/// Pairs whose rows are shown one by one, at most.
const SHOWN: usize = 6;
/// Of these, that are not folded.
const OPEN: usize = 2;

/// What is said of two runs, or setups.
const COMPARED: Means = &[
    (Look::Apart, "other: other bits"),
    (Look::Alike, "other: same bits as far as compared"),
    (Look::Same, "other: same bits"),
];

pub(super) fn parts<'a>(
    comparison: &'a Comparison,
    sources: &'a [Source],
    figures: &'a [Matrix],
) -> Parts<'a> {
    let of = Named::of(comparison);
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
            Section::new("matrices", "Matrices of distances", of.matrices(figures)),
            Section::new("where", "Where bits differ", of.maps()),
            Section::new("sites", "Site by site", of.sites()),
            Section::new("repetitions", "Repetitions of a setup", of.table_of_repetitions()),
        ],
        sources,
        whole: WHOLE,
    }
}

/// Runs against runs, one matrix per prompt, phase and signal.
pub(super) fn figures(comparison: &Comparison) -> Vec<Matrix> {
    let of = Named::of(comparison);
    let mut figures = Vec::new();
    for phase in [Phase::Prefill, Phase::Decode] {
        for kind in SignalKind::ALL {
            let signal = Signal::from(kind);
            for prompt in comparison.prompts.iter().filter(|prompt| RUNS.contains(&prompt.runs.len())) {
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
                let names: Vec<String> = prompt.runs.iter().map(|&run| of.name(run)).collect();
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
    /// What differs in a word, and what that means.
    fn answer(&self) -> (&'static str, &'static str) {
        let comparison = self.comparison;
        let pairs = || comparison.prompts.iter().flat_map(|prompt| &prompt.pairs);
        match comparison.state() {
            State::Different if pairs().any(|pair| pair.facts.counts(None).different > 0) => {
                ("Bits differ", "bits differ")
            }
            State::Different if pairs().any(|pair| pair.state == State::Different) => {
                ("Outputs differ", "outputs differ, and no compared bit does")
            }
            State::Different => ("Repetitions differ", "none of these differs from another"),
            State::Equal => ("No bit differs", "every run was compared, and no bit differs"),
            State::Missing | State::Incomparable => {
                ("Not everything could be compared", "none differs, and not everything could be compared")
            }
        }
    }

    fn lead(&self, files: &[&str]) -> Lead {
        let comparison = self.comparison;
        let (word, meaning) = self.answer();
        let tone = if comparison.state() == State::Missing { Tone::Open } else { Tone::Neutral };
        let of = words::listed(files, 3);
        let mut sentences = Vec::new();
        if comparison.prompts.is_empty() {
            sentences.push(format!(
                "Of {of}, no two runs are known to have consumed the same prompt: no two were compared."
            ));
        } else {
            sentences.extend(self.compared(&of, meaning));
        }
        let differ = comparison.repetitions.iter().filter(|one| compared::repetitions_differ(&one.found));
        let differ: Vec<&ComparedRepetitions> = differ.collect();
        // Of stored repetitions all is said above.
        if let Some(one) = differ.first().filter(|_| word == "Repetitions differ") {
            let more = differ.len() - 1;
            let more = if more > 0 {
                format!(", and those of {}", words::of(more, "other setup"))
            } else {
                String::new()
            };
            sentences.push(format!(
                "Repetitions of one setup differ: {}: outputs {}, signals {}{more}.",
                self.repeated(one),
                compared::outputs_agree(&one.found),
                compared::agree(one.found.signals)
            ));
        }
        sentences.push("Nothing is judged here; mantissa analyze does that.".to_owned());
        Lead { tone, word: word.to_owned(), sentences }
    }

    /// What was compared, how many rows differ, and where first.
    fn compared(&self, of: &str, meaning: &str) -> Vec<String> {
        let prompts = &self.comparison.prompts;
        let pairs = || prompts.iter().flat_map(|prompt| &prompt.pairs);
        let runs: usize = prompts.iter().map(|prompt| prompt.runs.len()).sum();
        let mut counts = Counts::default();
        pairs().for_each(|pair| counts.add(pair.facts.counts(None)));
        let classes: usize = prompts.iter().map(|prompt| prompt.classes.classes.len()).sum();
        let mut sentences = vec![
            format!(
                "Of {of}, {} of {} were compared bit by bit: {meaning}.",
                words::of(runs, "run"),
                words::of(prompts.len(), "prompt")
            ),
            format!(
                "Rows of {}: {}; runs fall into {} of equal bits.",
                words::of(pairs().count(), "pair"),
                compared::rows(counts),
                if classes == 1 { "1 class".to_owned() } else { format!("{classes} classes") }
            ),
        ];
        let firsts = pairs().filter_map(|pair| Some((pair, pair.facts.first?)));
        // Log-probabilities, which have no site, come last in a step.
        let first = firsts.min_by_key(|(pair, first)| {
            (first.phase, first.step, first.site.is_none(), first.site, pair.a, pair.b)
        });
        sentences.extend(first.map(|(pair, _)| {
            format!(
                "The first difference lies between {} and {}: {}.",
                self.name(pair.a),
                self.name(pair.b),
                compared::first(&pair.facts)
            )
        }));
        sentences
    }

    fn warnings(&self) -> Vec<String> {
        /// Runs that are named, at most.
        const NAMED: usize = 12;
        let mut warnings = Vec::new();
        let alone = &self.comparison.alone;
        if !alone.is_empty() {
            let names = self.names(alone.iter().copied());
            let shown = names.len().min(NAMED);
            let cut = Cut::of("names", shown, names.len()).map(|cut| format!(" {}", cut.said(WHOLE)));
            warnings.push(format!(
                "Not compared, because no other run is known to have consumed the same prompt: {}.{}",
                names[..shown].join(", "),
                cut.unwrap_or_default()
            ));
        }
        let conflicts = self.comparison.prompts.iter().flat_map(|prompt| self.conflicts(prompt));
        warnings.extend(conflicts.map(|conflict| format!("{}.", words::capital(&conflict))));
        warnings
    }

    fn matrices<'m>(&self, figures: &'m [Matrix]) -> Vec<Block<'m>> {
        let runs = || self.comparison.prompts.iter().map(|prompt| prompt.runs.len());
        let of = |most: usize| runs().filter(|runs| (*RUNS.start()..=most).contains(runs)).count();
        let mut blocks = matrices(figures);
        let what = format!("prompts with {} or more runs", RUNS.start());
        blocks.extend(Cut::of(what, of(*RUNS.end()), of(usize::MAX)).map(Block::Cut));
        blocks
    }

    fn lanes(&self) -> Vec<(Phase, Option<SignalKind>)> {
        let kinds = SignalKind::ALL.map(Some).into_iter().chain([None]);
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
        let name = |run| self.name_of(short.name(&self.setup(run)), run);
        let groups = self.comparison.prompts.iter().map(|prompt| {
            let rows = prompt.pairs.iter().map(|pair| {
                let marks = lanes.iter().map(|&(phase, kind)| pair.facts.signal(phase, kind).map(mark));
                let marks: Vec<Option<Mark>> = marks.collect();
                looks.extend(marks.iter().flatten().map(|mark| mark.look));
                (words::pair_name(&name(pair.a), &name(pair.b)), marks)
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
            let name = |kind: SignalKind| words::signal(kind.into()).to_owned();
            let signals = lanes.iter().map(|lane| lane.1.map_or_else(|| "other sites".to_owned(), name));
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
            let names = |runs: &[usize]| runs.iter().map(|&run| self.name(run)).collect::<Vec<_>>();
            blocks.push(Block::Heading(words::capital(&self.prompt(prompt))));
            let placed = prompt.classes.classes.iter().enumerate().map(|(i, class)| Group {
                heading: format!("class {} · {}", i + 1, words::of(class.len(), "run")),
                members: names(class),
                placed: true,
            });
            let mut boxes: Vec<Group> = placed.collect();
            let unplaced = self.unplaced(prompt);
            if !unplaced.is_empty() {
                let heading = "in no class".to_owned();
                boxes.push(Group { heading, members: unplaced, placed: false });
            }
            blocks.push(Block::Boxes(boxes));
            let outputs = self.outputs(prompt).into_iter().map(|(label, value)| Item {
                text: format!("{}: {value}.", words::capital(&label)),
                citations: &[],
            });
            blocks.push(Block::List(outputs.collect()));
        }
        blocks
    }

    /// Distances between setups beside those between repetitions of one.
    fn own_and_other(&self) -> Vec<Block<'a>> {
        let mut blocks = Vec::new();
        let (mut flat, mut unknown) = (Vec::new(), 0);
        let pairs = || self.comparison.prompts.iter().flat_map(|prompt| &prompt.pairs);
        for phase in [Phase::Prefill, Phase::Decode] {
            for kind in SignalKind::ALL {
                let facts = || pairs().filter_map(|pair| Some((pair, pair.facts.signal(phase, Some(kind))?)));
                let differ = |facts: &SignalFacts| facts.counts.state() == State::Different;
                unknown += facts().filter(|(_, facts)| differ(facts) && facts.largest.is_none()).count();
                let lane = words::lane_name(phase, kind.into());
                let Some(scale) = Scale::with_ticks(facts().filter_map(|(_, facts)| facts.largest)) else {
                    flat.extend(facts().any(|(_, facts)| differ(&facts)).then_some(lane));
                    continue;
                };
                let (lines, rows) = self.strips_of(facts());
                let axis = Axis { name: "largest L2 of a row", of: "pair", means: COMPARED, scale };
                strips(&lane, axis, lines, rows, &mut blocks);
            }
        }
        if !flat.is_empty() {
            blocks.push(Block::Text(format!(
                "Without a picture, because bits differ and no distance is above 0 (+0 and −0, or nothing finite): {}.",
                flat.join(" · ")
            )));
        }
        if unknown > 0 {
            blocks.push(Block::Text(format!(
                "Other bits at no known distance, and so no dot: {}, counted by phase and signal.",
                words::of(unknown, "time")
            )));
        }
        blocks
    }

    /// A strip for each pair of setups, whichever of its runs comes first, and the line of repetitions.
    fn strips_of<'p>(
        &self,
        facts: impl Iterator<Item = (&'p ComparedPair, SignalFacts)>,
    ) -> (Vec<Line>, Vec<Strip>) {
        let mut setups: BTreeMap<(String, String), Vec<(f64, Look)>> = BTreeMap::new();
        let mut owns: BTreeMap<String, (f64, f64)> = BTreeMap::new();
        for (pair, facts) in facts {
            let Some(value) = facts.largest else { continue };
            let (a, b) = (self.setup(pair.a), self.setup(pair.b));
            if a == b {
                let (least, most) = owns.entry(a).or_insert((value, value));
                (*least, *most) = (least.min(value), most.max(value));
            } else {
                let ends = if a <= b { (a, b) } else { (b, a) };
                setups.entry(ends).or_default().push((value, look(facts.counts)));
            }
        }
        let line = match owns.values().map(|own| own.1).reduce(f64::max) {
            Some(at) => Line {
                at,
                label: format!(
                    "{}: the largest distance between repetitions of one setup",
                    words::number(at, 3)
                ),
                decides: true,
            },
            None => Line {
                at: 0.0,
                label: "0: where equal bits lie; no repetitions are stored beside one another".to_owned(),
                decides: false,
            },
        };
        let short = self.short();
        let rows = setups.into_iter().map(|((a, b), dots)| {
            let own = [&a, &b].into_iter().filter_map(|one| owns.get(one)).copied();
            let most = words::number(dots.iter().map(|dot| dot.0).fold(0.0, f64::max), 3);
            Strip {
                label: words::pair_name(short.name(&a), short.name(&b)),
                own: own.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))),
                interval: None,
                said: format!(
                    "{} of runs, {} of them with other bits; the largest distance of a row is {most}.",
                    words::of(dots.len(), "pair"),
                    dots.iter().filter(|dot| dot.1 == Look::Apart).count()
                ),
                figure: most,
                dots,
            }
        });
        (vec![line], rows.collect())
    }

    /// One run of each class beside one of the first; or the only pair.
    fn chosen(&self) -> Vec<&'a ComparedPair> {
        let of = |prompt: &'a ComparedPrompt| match prompt.pairs.as_slice() {
            [only] => vec![only],
            _ => beside_the_first(prompt).into_iter().map(|(_, _, pair)| pair).collect(),
        };
        self.comparison.prompts.iter().flat_map(of).collect()
    }

    fn pair_name(&self, pair: &ComparedPair) -> String {
        words::pair_name(&self.name(pair.a), &self.name(pair.b))
    }

    /// Layers × positions of each kind, painted by distance.
    fn maps(&self) -> Vec<Block<'a>> {
        let chosen: Vec<_> =
            self.chosen().into_iter().filter(|pair| pair.facts.counts(None).different > 0).collect();
        let shown = &chosen[..chosen.len().min(SHOWN)];
        let sites = shown.iter().flat_map(|pair| &pair.facts.sites);
        let scale = Scale::of(sites.flat_map(|site| &site.rows).filter_map(|row| match row.state {
            RowState::Different(distance) => distance.l2,
            _ => None,
        }));
        let mut blocks = Vec::new();
        let (mut room, mut drawn, mut all) = (CELLS, 0, 0);
        for (i, pair) in shown.iter().enumerate() {
            let lanes = [Phase::Prefill, Phase::Decode].into_iter();
            let lanes = lanes.flat_map(|phase| {
                [SignalKind::HiddenStates, SignalKind::KeyVectors].map(|kind| (phase, kind))
            });
            let mut maps = Vec::new();
            for heat in lanes.filter_map(|(phase, kind)| map(&pair.facts, phase, kind, scale)) {
                all += 1;
                if let Some(left) = room.checked_sub(heat.cells()) {
                    room = left;
                    drawn += 1;
                    maps.push(Block::Heat(heat));
                }
            }
            if !maps.is_empty() {
                let title = format!("{}: first {}", self.pair_name(pair), compared::first(&pair.facts));
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
        blocks.extend(Cut::of("maps of these pairs", drawn, all).map(Block::Cut));
        blocks.extend(Cut::of("pairs that differ", shown.len(), chosen.len()).map(Block::Cut));
        blocks
    }

    fn sites(&self) -> Vec<Block<'a>> {
        let chosen = self.chosen();
        let folded = chosen.iter().take(SHOWN).map(|pair| {
            let name = self.pair_name(pair);
            Block::Folded {
                summary: format!("{name}: rows: {}", compared::rows(pair.facts.counts(None))),
                blocks: vec![Block::Grid(compared::site_table(name, &pair.facts))],
            }
        });
        folded.chain(Cut::of("pairs", SHOWN, chosen.len()).map(Block::Cut)).collect()
    }

    fn table_of_repetitions(&self) -> Vec<Block<'a>> {
        let rows = self.comparison.repetitions.iter().map(|one| {
            let found = &one.found;
            let cells = vec![
                found.config_id.clone(),
                one.record.clone(),
                format!("ref {}", found.reference_id),
                found.repetitions.to_string(),
                compared::outputs_agree(found),
                compared::agree(found.signals).to_owned(),
                compared::shown_by(found.basis).to_owned(),
            ];
            Row::new(cells, [])
        });
        let titles = ["setup", "record", "prompt", "repetitions", "outputs", "signals", "shown by"];
        tables(vec![Grid {
            caption: "Repetitions of each setup".to_owned(),
            columns: titles.iter().map(|title| Column::new(title, Kind::Words)).collect(),
            rows: rows.collect(),
            note: None,
        }])
    }
}

const fn look(counts: Counts) -> Look {
    match (counts.state(), counts) {
        (State::Different, _) => Look::Apart,
        (State::Equal, Counts { missing: 0, incomparable: 0, .. }) => Look::Same,
        (State::Equal, _) => Look::Alike,
        (State::Missing, _) => Look::Missing,
        (State::Incomparable, _) => Look::None,
    }
}

fn mark(facts: SignalFacts) -> Mark {
    let look = look(facts.counts);
    let word = match look {
        Look::Apart => "other bits",
        Look::Same => "same bits",
        Look::Alike => "same bits as far as compared",
        Look::Missing => "missing on one side",
        _ => "incomparable",
    };
    let figure = facts.largest.filter(|_| look == Look::Apart).map(|value| words::number(value, 2));
    Mark { figure: figure.unwrap_or_default(), ..Mark::new(look, word) }
}
