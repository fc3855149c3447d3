//! The page of an analysis.

use std::collections::BTreeMap;

use mantissa_numerics::Phase;
use mantissa_verdict::Analysis;
use mantissa_verdict::analysis::{
    Answer, ClassSet, Comparison, FindingKind, FirstDifferences, Mode, Outcome, PairVerdict, Profile, Signal,
};

use super::heat::{HeatCell, Paint};
use super::limits::{CELLS, CHARTS, Cut};
use super::lines::{Lines, SERIES, Series};
use super::look::Look;
use super::matrices::{LayerRow, layer_map, matrices};
use super::own::{lanes, look, own_and_other};
use super::parts::{Block, Group, Item, Lead, Mark, Overview, Parts, Rows, Section, Tone};
use super::scale::Scale;
use super::stated::{about, all, warnings};
use crate::foreign::push;
use crate::grid;
use crate::short::Short;
use crate::words;

/// The file that has all of it, and the flag that writes it.
const WHOLE: &str = "analysis_results.json (--output)";

pub(super) fn parts(analysis: &Analysis) -> Parts<'_> {
    Parts {
        verb: "Analysis",
        subject: subject(analysis),
        about: about(&analysis.sources),
        lead: lead(analysis),
        warnings: warnings(&analysis.sources),
        overview: overview(analysis),
        sections: vec![
            Section::new("findings", "Findings", findings(analysis)),
            Section::new("own-and-other", "Own against other distance", own_and_other(analysis)),
            Section::new("matrices", "Matrices of distances", matrices(&analysis.matrices)),
            Section::new("first", "Where setups first differ", first_differences(analysis)),
            Section::new("profiles", "Distance along layers and tokens", profiles(analysis)),
            Section::new("classes", "Equivalence classes", classes(analysis)),
            Section::new("tokens", "Tokens", tables(vec![grid::tokens(analysis)])),
            Section::new("reproducibility", "Reproducibility", tables(vec![grid::reproducibility(analysis)])),
            Section::new("pairs", "Pairs of setups", pairs(analysis)),
            Section::new("bounds", "False alarms", tables(vec![grid::bounds(analysis)])),
            Section::new("published-definitions", "Published definitions", tables(grid::tables(analysis))),
            Section::new("published-figures", "Published figures", tables(vec![grid::published(analysis)])),
            Section::new("thresholds", "Thresholds", tables(vec![grid::thresholds(analysis)])),
        ],
        sources: &analysis.sources,
        whole: WHOLE,
    }
}

/// What varies, in words.
fn variable(analysis: &Analysis) -> String {
    analysis.question.variable.replace('_', " ").replace(',', ", ")
}

fn subject(analysis: &Analysis) -> String {
    let models = all(&analysis.sources, |source| &source.models);
    let of = if models.is_empty() { String::new() } else { format!(": {}", words::listed(&models, 3)) };
    format!("{}{of}", words::capital(&variable(analysis)))
}

/// What was compared, and what came of it.
fn lead(analysis: &Analysis) -> Lead {
    let (mode, outcome) = (analysis.mode, analysis.outcome);
    let tone = if outcome == Outcome::NotEnoughEvidence { Tone::Open } else { Tone::Neutral };
    let files: Vec<String> = analysis.sources.iter().map(|source| source.name.clone()).collect();
    let files = if files.is_empty() { "no file".to_owned() } else { words::listed(&files, 3) };
    let mut sentence =
        format!("Of {files}, {} were compared", words::signals_said(&analysis.question.signals));
    // A setup on two machines is one setup.
    let asked = analysis.pairs.iter().filter(|pair| pair.comparison != Comparison::CrossHardwareBaseline);
    let mut setups: Vec<&str> = asked.flat_map(|pair| [pair.a.as_str(), &pair.b]).collect();
    setups.sort_unstable();
    setups.dedup();
    if !setups.is_empty() {
        let variable = self::variable(analysis);
        push(
            &mut sentence,
            format_args!(" between {} that vary {variable}", words::of(setups.len(), "setup")),
        );
    }
    let with = analysis.question.reference.as_ref();
    sentence += &with.map_or_else(String::new, |reference| format!(", with {reference} as the reference"));
    let meaning = words::outcome_means(mode, outcome);
    let mut sentences = vec![format!("{sentence}: {}", words::uncapital(meaning))];
    let count = |answer| analysis.pairs.iter().filter(|pair| pair.answer == answer).count();
    let counted = words::counted([
        (count(Answer::Separable), "told apart"),
        (count(Answer::Identical), "found to have the same bits"),
        (count(Answer::NotSeparable), "not separable: a difference of the size asked for is excluded"),
        (count(Answer::Inconclusive), "left open, for want of evidence"),
        (count(Answer::Incomparable), "not comparable"),
    ]);
    if !counted.is_empty() {
        sentences.push(format!(
            "Of {} by one phase and signal each: {}.",
            words::of(analysis.pairs.len(), "comparison"),
            counted
        ));
    }
    if mode == Mode::AsPublished {
        sentences.push(
            "Not a verdict: these are the published definitions, kept to reproduce old tables.".to_owned(),
        );
    }
    Lead { tone, word: words::capital(words::headline(mode, outcome)), sentences }
}

/// Columns of a grid: phases, each with its signals.
pub(super) fn columns(lanes: &[(Phase, Signal)]) -> Vec<(String, Vec<String>)> {
    let phases = lanes.chunk_by(|a, b| a.0 == b.0);
    phases
        .map(|lanes| {
            (
                lanes[0].0.name().to_owned(),
                lanes.iter().map(|lane| words::signal(lane.1).to_owned()).collect(),
            )
        })
        .collect()
}

fn overview(analysis: &Analysis) -> Option<Overview> {
    if analysis.pairs.is_empty() {
        return None;
    }
    let lanes = lanes(&analysis.pairs, |pair| (pair.phase, pair.signal));
    let names: Vec<&str> = analysis.pairs.iter().flat_map(|pair| [pair.a.as_str(), &pair.b]).collect();
    let short = Short::of(&names);
    // The baseline says what hardware alone does; it comes after what was asked.
    let mut questions: Vec<Comparison> = analysis.pairs.iter().map(|pair| pair.comparison).collect();
    questions.sort_by_key(|&question| (question == Comparison::CrossHardwareBaseline, question));
    questions.dedup();
    let groups: Vec<Rows> = questions
        .into_iter()
        .map(|question| {
            let pairs = analysis.pairs.iter().filter(|pair| pair.comparison == question);
            let mut all: Vec<(&str, &str)> = Vec::new();
            let mut rows: Vec<Vec<Option<Mark>>> = Vec::new();
            let mut places: BTreeMap<(&str, &str), usize> = BTreeMap::new();
            for pair in pairs {
                let ends = (pair.a.as_str(), pair.b.as_str());
                let place = *places.entry(ends).or_insert(rows.len());
                if place == rows.len() {
                    all.push(ends);
                    rows.push(vec![None; lanes.len()]);
                }
                let lane = lanes.iter().position(|lane| *lane == (pair.phase, pair.signal));
                if let Some(cell) = lane.and_then(|lane| rows[place].get_mut(lane)) {
                    *cell = Some(mark(pair));
                }
            }
            let name = |(a, b)| words::pair_name(short.name(a), short.name(b));
            let rows = all.into_iter().map(name).zip(rows).collect();
            Rows { heading: Some(words::capital(words::comparison(question))), rows }
        })
        .collect();
    let used = |look: Look| analysis.pairs.iter().any(|pair| self::look(pair.answer) == look);
    let legend = [
        (Look::Same, "identical: same bits, no test can separate them"),
        (Look::Apart, "separable: told apart; ×: distance in units of the pair's own floor"),
        (Look::Alike, "not separable: the difference asked for is excluded"),
        (Look::Open, "inconclusive: too little evidence to say"),
        (Look::None, "incomparable"),
    ];
    let legend = legend.into_iter().filter(|(look, _)| used(*look));
    Some(Overview {
        heading: "Pairs by signal",
        caption: format!("The answer about each pair of setups, by phase and signal{}", short.said("setups")),
        corner: "pair",
        columns: columns(&lanes),
        groups,
        legend: legend.map(|(look, means)| (Mark::new(look, ""), means)).collect(),
    })
}

/// A list whose end is folded where it is long.
fn some_folded(mut items: Vec<Item<'_>>) -> Vec<Block<'_>> {
    /// Items in the open, where not all are.
    const OPEN: usize = 3;
    if items.len() <= OPEN + 1 {
        return vec![Block::List(items)];
    }
    let rest = items.split_off(OPEN);
    let summary = format!("{} more", rest.len());
    vec![Block::List(items), Block::Folded { summary, blocks: vec![Block::List(rest)] }]
}

fn mark(pair: &PairVerdict) -> Mark {
    let figure = pair.ratio.map_or_else(String::new, |ratio| format!("{}×", words::number(ratio, 2)));
    Mark { figure, ..Mark::new(look(pair.answer), words::answer(pair.answer)) }
}

/// Findings by what they are about, in the order of importance; those on pairs with every sentence about the pair.
fn findings(analysis: &Analysis) -> Vec<Block<'_>> {
    let mut kinds: Vec<FindingKind> = Vec::new();
    for finding in &analysis.findings {
        if !kinds.contains(&finding.kind) {
            kinds.push(finding.kind);
        }
    }
    let mut blocks = Vec::new();
    for kind in kinds {
        let items = analysis.findings.iter().filter(|finding| finding.kind == kind);
        let items =
            items.map(|finding| Item { text: finding.sentence.clone(), citations: &finding.citations });
        let items: Vec<Item<'_>> = items.collect();
        let heading = format!("{} ({})", words::capital(words::finding(kind)), items.len());
        blocks.push(Block::Heading(heading));
        blocks.extend(some_folded(items));
    }
    let mut pairs: Vec<((&str, &str), Vec<&PairVerdict>)> = Vec::new();
    let mut places: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for pair in &analysis.pairs {
        let ends = (pair.a.as_str(), pair.b.as_str());
        let place = *places.entry(ends).or_insert(pairs.len());
        if place == pairs.len() {
            pairs.push((ends, Vec::new()));
        }
        pairs[place].1.push(pair);
    }
    if !pairs.is_empty() {
        let by_pair = pairs.into_iter().map(|((a, b), verdicts)| {
            let item = |pair: &&'_ PairVerdict| Item { text: pair.sentence.clone(), citations: &[] };
            let apart = verdicts.iter().filter(|pair| pair.answer == Answer::Separable).count();
            let summary = format!("{}: told apart by {apart} of {}", words::pair_name(a, b), verdicts.len());
            Block::Folded { summary, blocks: vec![Block::List(verdicts.iter().map(item).collect())] }
        });
        let blocks_of_pairs: Vec<Block<'_>> = by_pair.collect();
        blocks.push(Block::Heading("Pair by pair".to_owned()));
        if blocks_of_pairs.len() > 8 {
            let summary = format!("Every sentence on {} pairs", blocks_of_pairs.len());
            blocks.push(Block::Folded { summary, blocks: blocks_of_pairs });
        } else {
            blocks.extend(blocks_of_pairs);
        }
    }
    blocks
}

fn first_differences(analysis: &Analysis) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let most = analysis.first_differences.iter().flat_map(|map| counts(map).into_values()).max().unwrap_or(0);
    let scale = Scale::of([1.0, f64::from(u32::try_from(most).unwrap_or(u32::MAX))]);
    let fits = |map: &&FirstDifferences| map.layers.len().max(1) * map.tokens.len() <= CELLS;
    for map in analysis.first_differences.iter().filter(fits) {
        let counted = counts(map);
        let mut layers: Vec<Option<u32>> = map.layers.iter().copied().map(Some).collect();
        if counted.keys().any(|(layer, _)| layer.is_none()) {
            layers.push(None);
        }
        let other = if map.layers.is_empty() { "logprobs" } else { "outside the blocks" };
        let cell = |row: usize, token: i64| match counted.get(&(layers[row], token)) {
            Some(&count) => {
                let painted = Paint::of(scale, f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
                HeatCell::new(painted, words::count(count as u64))
            }
            None => HeatCell::new(Paint::Blank, ""),
        };
        let caption = format!(
            "{}: in how many pairs of setups on one prompt the first different bit lies at this layer and token",
            words::lane_name(map.phase, map.signal)
        );
        blocks.push(Block::Heat(layer_map(
            caption,
            &LayerRow::all(layers.iter().copied(), other),
            &map.tokens,
            "not recorded",
            cell,
        )));
    }
    let (shown, all) = (blocks.len(), analysis.first_differences.len());
    blocks.extend(Cut::of("maps of first differences", shown, all).map(Block::Cut));
    if shown > 0 {
        blocks.insert(0, Block::Text(
            "Layers from top to bottom, tokens from left to right: 0 is the first output token, −1 the prompt's last. \
             Only what was recorded has a row or a column; a blank cell is recorded, and no pair differs there first."
                .to_owned(),
        ));
    }
    blocks
}

fn counts(map: &FirstDifferences) -> BTreeMap<(Option<u32>, i64), usize> {
    let mut counts = BTreeMap::new();
    for first in &map.found {
        *counts.entry((first.layer, first.token)).or_insert(0) += 1;
    }
    counts
}

fn profiles(analysis: &Analysis) -> Vec<Block<'_>> {
    /// Charts that are not folded.
    const OPEN: usize = 4;
    let values =
        |profile: &Profile| -> Vec<f64> { profile.points.iter().filter_map(|point| point.1).collect() };
    let above = |profile: &&Profile| values(profile).iter().any(|value| *value > 0.0);
    let (lines, flat): (Vec<&Profile>, Vec<&Profile>) = analysis.profiles.iter().partition(above);
    let groups = grid::profile_groups(lines.iter().copied(), SERIES);
    let scale = Scale::with_ticks(lines.iter().flat_map(|profile| values(profile)));
    let captions: Vec<String> = groups.iter().map(|group| grid::profile_caption(group)).collect();
    let (mut blocks, mut folded) = (Vec::new(), Vec::new());
    let mut drawn = 0;
    for (i, group) in groups.iter().enumerate() {
        let Some(scale) = scale else { continue };
        drawn += 1;
        if drawn > CHARTS {
            continue;
        }
        let caption = match captions.iter().filter(|caption| **caption == captions[i]).count() {
            1 => captions[i].clone(),
            all => {
                let before = captions[..i].iter().filter(|caption| **caption == captions[i]).count();
                format!("{} ({} of {all})", captions[i], before + 1)
            }
        };
        let series = group
            .iter()
            .map(|profile| Series { name: grid::profile_name(profile), points: profile.points.clone() });
        let axis = group.first().map_or("", |profile| words::axis(profile.axis));
        let to = if drawn > OPEN { &mut folded } else { &mut blocks };
        let series = series.collect();
        let lines = Lines { caption, axis: axis.to_owned(), scale, series, marked: None };
        let cut = lines.cut();
        to.push(Block::Lines(lines));
        to.extend(cut.map(Block::Cut));
        let summary = "Values as a table".to_owned();
        to.push(Block::Folded { summary, blocks: vec![Block::Grid(grid::profiles(group))] });
    }
    if !folded.is_empty() {
        let summary = words::of(drawn.min(CHARTS) - OPEN, "more chart");
        blocks.push(Block::Folded { summary, blocks: folded });
    }
    blocks.extend(Cut::of("charts", CHARTS, drawn).map(Block::Cut));
    if !flat.is_empty() {
        let flat = grid::profile_groups(flat, usize::MAX);
        let named = |group: &Vec<&Profile>| {
            format!("{} ({})", grid::profile_caption(group), words::of(group.len(), "pair"))
        };
        let flat: Vec<String> = flat.iter().map(named).collect();
        blocks.push(Block::Text(format!(
            "Without a picture, because no distance is above 0: {}.",
            flat.join(" · ")
        )));
    }
    blocks
}

fn classes(analysis: &Analysis) -> Vec<Block<'_>> {
    if analysis.classes.is_empty() {
        return Vec::new();
    }
    let mut blocks = vec![Block::Text(
        "Setups in one box have equal bits: no test on this evidence can tell them apart.".to_owned(),
    )];
    for set in &analysis.classes {
        blocks.push(Block::Heading(words::capital(&format!(
            "{} {}, {}",
            set.phase.name(),
            words::signals_said(&set.signals),
            set.scope
        ))));
        blocks.push(Block::Boxes(boxes(set)));
    }
    let summary = "The classes as a table".to_owned();
    blocks.push(Block::Folded { summary, blocks: vec![Block::Grid(grid::classes(analysis))] });
    blocks
}

fn boxes(set: &ClassSet) -> Vec<Group> {
    let placed = set.classes.iter().enumerate().map(|(i, class)| Group {
        heading: format!("class {} · {}", i + 1, words::of(class.len(), "setup")),
        members: class.clone(),
        placed: true,
    });
    let mut boxes: Vec<Group> = placed.collect();
    if !set.unplaced.is_empty() {
        let members = set.unplaced.iter().map(|(setup, why)| format!("{setup}: {why}")).collect();
        boxes.push(Group { heading: "in no class".to_owned(), members, placed: false });
    }
    boxes
}

/// Numbers of each pair; their sentences stand among the findings.
fn pairs(analysis: &Analysis) -> Vec<Block<'_>> {
    tables(grid::pairs(analysis).into_iter().map(|grid| grid.without("in a sentence")).collect())
}

/// Tables that have rows, folded where they are long.
pub(super) fn tables<'a>(grids: Vec<grid::Grid<'a>>) -> Vec<Block<'a>> {
    /// Rows of a table in the open.
    const OPEN: usize = 24;
    let block = |grid: grid::Grid<'a>| match grid.rows.len() {
        0..=OPEN => Block::Grid(grid),
        rows => {
            let summary = format!("{}: {}", grid.caption, words::of(rows, "row"));
            Block::Folded { summary, blocks: vec![Block::Grid(grid)] }
        }
    };
    grids.into_iter().filter(|grid| !grid.rows.is_empty()).map(block).collect()
}
