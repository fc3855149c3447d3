//! The page of an audit.

use std::collections::{BTreeMap, BTreeSet};

use mantissa_numerics::Phase;
use mantissa_verdict::Audit;
use mantissa_verdict::analysis::{Outcome, Signal, Tier};
use mantissa_verdict::audit::{
    ClaimAnswer, ClaimVerdict, Contested, ReplayState, ReplayVerdict, SignalDistance,
};

use super::analysis::{columns, tables};
use super::heat::{HeatCell, Paint};
use super::look::Look;
use super::matrices::{LayerRow, layer_map, matrices};
use super::own::{Axis, strips};
use super::parts::{Block, Item, Lead, Mark, Overview, Parts, Rows, Section, Tone};
use super::scale::Scale;
use super::stated::{about, all, warnings};
use super::strips::{Line, Means, Strip};
use crate::audit as said;
use crate::foreign::push;
use crate::grid::{Column, Grid, Kind, Row};
use crate::short::Short;
use crate::words;

pub(super) fn parts(audit: &Audit) -> Parts<'_> {
    Parts {
        verb: "Verification",
        subject: subject(audit),
        about: about_evidence(audit),
        lead: lead(audit),
        warnings: contested(audit).chain(warnings(&audit.sources)).collect(),
        overview: overview(audit),
        sections: vec![
            Section::new("claims", "Each claim", claims(audit)),
            Section::new(
                "consistency",
                "What the evidence says of itself, without a replay",
                consistency(audit),
            ),
            Section::new("contested", "Stated twice, and not alike", statements(audit)),
            Section::new("own-and-other", "The claim's distance against others'", own_and_other(audit)),
            Section::new("matrices", "Matrices of distances", claimed_verified(audit)),
            Section::new("first", "Where evidence and replay first differ", first_differences(audit)),
            Section::new("replays", "Replays", tables(said::tables(audit))),
            Section::new("recomputed", "How the evidence was recomputed", cost(audit)),
            Section::new("notes", "Notes", list(&audit.notes)),
            Section::new("thresholds", "Thresholds", thresholds(audit)),
        ],
        sources: &audit.sources,
        whole: said::WHOLE,
    }
}

fn subject(audit: &Audit) -> String {
    match (&audit.model, audit.sources.is_empty()) {
        (_, false) => {
            let files: Vec<&str> = audit.sources.iter().map(|source| source.name.as_str()).collect();
            words::listed(&files, 2)
        }
        (Some(model), true) => format!("Self-test with {}", model.name),
        (None, true) => "Self-test".to_owned(),
    }
}

fn about_evidence(audit: &Audit) -> Vec<(&'static str, String)> {
    let mut facts = if audit.sources.is_empty() { Vec::new() } else { about(&audit.sources) };
    facts.extend(recomputed(audit).into_iter().filter(|(label, _)| *label == "Replayed with"));
    facts
}

/// With what, and how, evidence was recomputed.
fn recomputed(audit: &Audit) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    facts.extend(said::about(audit).into_iter().filter(|(label, _)| *label != "evidence").map(
        |(label, value)| match label {
            "model" => ("Replayed with", value),
            "replay" => ("Replay", value),
            _ => ("Recipes", value),
        },
    ));
    facts
}

/// The verdict, with what was claimed, of which evidence, and what was compared.
fn lead(audit: &Audit) -> Lead {
    let tone = match audit.outcome {
        Outcome::Consistent => Tone::Good,
        Outcome::Divergent => Tone::Bad,
        Outcome::NotEnoughEvidence => Tone::Open,
    };
    let meaning = said::meaning(audit);
    let files: Vec<&str> = audit.sources.iter().map(|source| source.name.as_str()).collect();
    let models = all(&audit.sources, |source| &source.models);
    let mut of =
        if models.is_empty() { String::new() } else { format!(", of {}", words::listed(&models, 3)) };
    let hardware = all(&audit.sources, |source| &source.hardware);
    if !hardware.is_empty() {
        push(&mut of, format_args!(" on {}", words::listed(&hardware, 3)));
    }
    if !of.is_empty() {
        of.push(',');
    }
    let mut sentences = Vec::new();
    if files.is_empty() {
        sentences.push(meaning.to_owned());
    } else {
        sentences.push(format!(
            "The evidence {}{of} states {}: {}",
            words::listed(&files, 3),
            words::of(audit.claims.len(), "setup"),
            words::uncapital(meaning)
        ));
    }
    match audit.claims.as_slice() {
        [] => {}
        [claim] => sentences.push(claim_said(claim)),
        claims => {
            let count = |answer| claims.iter().filter(|claim| claim.answer == answer).count();
            let counted = words::counted([
                (count(ClaimAnswer::Contradicted), "contradicted: another candidate leaves this evidence"),
                (count(ClaimAnswer::FitsNone), "fit by no candidate"),
                (count(ClaimAnswer::Consistent), "consistent with the evidence"),
                (count(ClaimAnswer::NotEnoughEvidence), "not checked to the end, for want of evidence"),
                (count(ClaimAnswer::ContradictsItself), "without a verdict: the evidence contradicts itself"),
            ]);
            sentences.push(format!("Of {} claims: {}.", claims.len(), counted));
            let worst = claims
                .iter()
                .find(|claim| matches!(claim.answer, ClaimAnswer::Contradicted | ClaimAnswer::FitsNone));
            sentences.extend(worst.map(claim_said));
        }
    }
    let [values, recorded] = audit
        .claims
        .iter()
        .fold([0, 0], |sum, claim| [sum[0] + claim.rests_on.values, sum[1] + claim.rests_on.recorded]);
    if values > 0 {
        let (digest, by) = (audit.model.as_ref(), said::replay(audit));
        let with = digest.map_or_else(String::new, |model| {
            let digest =
                model.weights_digest.as_deref().map(|d| format!(" (weights {}…)", d.get(..16).unwrap_or(d)));
            format!(" with {}{}", model.name, digest.unwrap_or_default())
        });
        sentences.push(format!(
            "It rests on {} of {} recorded values, recomputed{with} {by}.",
            words::count(values),
            words::count(recorded)
        ));
    }
    Lead { tone, word: words::capital(words::claim_outcome(audit.outcome)), sentences }
}

fn claim_said(claim: &ClaimVerdict) -> String {
    format!("{}: {}.", said::headline(claim), claim.sentence)
}

/// What is stated twice and not settled, before anything else.
fn contested(audit: &Audit) -> impl Iterator<Item = String> + '_ {
    let open = audit.contested.iter().filter(|one| !one.settled);
    open.map(|one| format!("The evidence contradicts itself: {}", one.sentence))
}

/// What a cell of the grid looks at.
type Lane = (Phase, Signal);

fn lanes(audit: &Audit) -> Vec<Lane> {
    let replays = || audit.claims.iter().flat_map(|claim| &claim.replays);
    let distances = replays().flat_map(|replay| &replay.distances).map(|one| (one.phase, one.signal));
    let mut lanes: Vec<Lane> = distances.chain(replays().filter_map(first_lane)).collect();
    lanes.sort_unstable();
    lanes.dedup();
    lanes
}

/// The phase and signal of a first difference; absent where it is a token, or a site that is no signal.
fn first_lane(replay: &ReplayVerdict) -> Option<Lane> {
    let first = replay.first.as_ref()?;
    Some((first.phase, first.signal()?))
}

/// Candidates × signals, claim by claim.
fn overview(audit: &Audit) -> Option<Overview> {
    if audit.claims.iter().all(|claim| claim.replays.is_empty()) {
        return None;
    }
    let (lanes, short) = (lanes(audit), said::short(audit));
    let mut looks: Vec<Look> = Vec::new();
    let groups = audit.claims.iter().map(|claim| {
        let mut rows: Vec<(String, Vec<Option<Mark>>)> = Vec::new();
        for replay in &claim.replays {
            let names: Vec<&str> = replay.class.iter().map(|name| short.name(name)).collect();
            let label = format!("{}{}", if replay.claimed { "claim: " } else { "" }, names.join(", "));
            let marks = std::iter::once(Some(answer_of(replay, claim)))
                .chain(lanes.iter().map(|&lane| lane_of(replay, lane)));
            rows.push((label, marks.collect()));
        }
        let replayed = |name: &&String| !claim.replays.iter().any(|replay| replay.class.contains(name));
        for name in audit.candidates.iter().filter(replayed) {
            let mut marks = vec![None; lanes.len() + 1];
            marks[0] = Some(Mark::new(Look::None, "not checked, or not asked for"));
            rows.push((short.name(name).to_owned(), marks));
        }
        looks.extend(rows.iter().flat_map(|(_, marks)| marks.iter().flatten().map(|mark| mark.look)));
        Rows { heading: Some(said::headline(claim)), rows }
    });
    let groups: Vec<Rows> = groups.collect();
    let legend = [
        (Look::Fits, "fits: every compared bit is equal"),
        (Look::Contradicted, "contradicted: bits differ"),
        (Look::Alike, "within the evidence's own noise"),
        (Look::Open, "too little to say"),
        (Look::Same, "same bits in this signal"),
        (Look::Apart, "other bits in this signal; the first of all is marked"),
        (Look::None, "not checked, or not asked for"),
    ];
    let legend = legend.into_iter().filter(|(look, _)| looks.contains(look));
    let mut columns = columns(&lanes);
    columns.insert(0, ("all".to_owned(), vec!["bits".to_owned()]));
    Some(Overview {
        heading: "Candidates by signal",
        caption: format!(
            "What each candidate's replay leaves, beside the evidence{}",
            short.said("candidates")
        ),
        corner: "candidates",
        columns,
        groups,
        legend: legend.map(|(look, means)| (Mark::new(look, ""), means)).collect(),
    })
}

fn answer_of(replay: &ReplayVerdict, claim: &ClaimVerdict) -> Mark {
    let look = match replay.state {
        ReplayState::Equal => Look::Fits,
        ReplayState::Different => Look::Contradicted,
        ReplayState::WithinNoise => Look::Alike,
        ReplayState::TooFewRepetitions => Look::Open,
        ReplayState::NotCompared => Look::None,
    };
    let figure = if claim.tier == Tier::Statistical {
        replay.p_adjusted.map_or_else(String::new, |p| format!("p {}", words::number(p, 2)))
    } else {
        String::new()
    };
    Mark { figure, ..Mark::new(look, said::state(replay.state)) }
}

/// One signal of a replay: its distance, or what the first difference says of a replay that ended there.
fn lane_of(replay: &ReplayVerdict, lane: Lane) -> Option<Mark> {
    let found = replay.distances.iter().find(|one| (one.phase, one.signal) == lane);
    match found {
        Some(SignalDistance { different: 0, .. }) => Some(Mark::new(Look::Same, "same bits")),
        Some(found) => {
            let figure = found.mean_l2.map_or_else(String::new, |value| words::number(value, 2));
            Some(Mark { figure, ..Mark::new(Look::Apart, "other bits") })
        }
        None if first_lane(replay) == Some(lane) => {
            Some(Mark { figure: "first".to_owned(), ..Mark::new(Look::Apart, "the first other bits") })
        }
        None if replay.state == ReplayState::Equal => Some(Mark::new(Look::Same, "same bits")),
        None => None,
    }
}

fn claims(audit: &Audit) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    for claim in &audit.claims {
        blocks.push(Block::Heading(said::headline(claim)));
        blocks.push(Block::Text(words::capital(&claim.sentence)));
        let facts = said::facts(claim);
        if !facts.is_empty() {
            blocks.push(Block::Facts(facts));
        }
    }
    blocks
}

fn consistency(audit: &Audit) -> Vec<Block<'_>> {
    let items = audit.consistency.iter().map(|finding| Item {
        text: format!("{}: {}", words::finding(finding.kind), finding.sentence),
        citations: &finding.citations,
    });
    let items: Vec<Item<'_>> = items.collect();
    if items.is_empty() { Vec::new() } else { vec![Block::List(items)] }
}

fn list(lines: &[String]) -> Vec<Block<'_>> {
    let items = lines.iter().map(|line| Item { text: line.clone(), citations: &[] });
    if lines.is_empty() { Vec::new() } else { vec![Block::List(items.collect())] }
}

fn statements(audit: &Audit) -> Vec<Block<'_>> {
    let grid = |one: &Contested| Grid {
        caption: words::capital(&format!(
            "{}{}{}",
            one.about,
            one.config_id.as_ref().map_or_else(String::new, |id| format!(", {id}")),
            if one.settled { ": settled by a claim" } else { ": not settled, so there is no verdict" }
        )),
        columns: vec![Column::new("place", Kind::Words), Column::new("states", Kind::Prose)],
        rows: one.statements.iter().map(|stated| Row::new(stated.to_vec(), [])).collect(),
        note: (one.more > 0)
            .then(|| format!("{} more of this kind in the same run.", words::count(one.more))),
    };
    tables(audit.contested.iter().map(grid).collect())
}

/// Claims × candidates. One setup beside itself alone is no matrix: its verdict says it all.
fn claimed_verified(audit: &Audit) -> Vec<Block<'_>> {
    let several = audit.matrices.iter().any(|matrix| matrix.rows.len() > 1 || matrix.columns.len() > 1);
    if several { matrices(&audit.matrices) } else { Vec::new() }
}

/// Distances of all replays of a claim, where they went on to their end: a strip per candidate of the only claim, or
/// a strip per claim.
fn own_and_other(audit: &Audit) -> Vec<Block<'_>> {
    let replays = || audit.claims.iter().flat_map(|claim| &claim.replays);
    let values = replays().flat_map(|replay| &replay.distances).filter_map(|one| one.mean_l2);
    let Some(scale) = Scale::with_ticks(values) else {
        let text = "Bits differ, and no distance is above 0 (+0 and −0, or nothing finite): there is nothing to draw.";
        let differ = replays().flat_map(|replay| &replay.distances).any(|one| one.different > 0);
        return if differ { vec![Block::Text(text.to_owned())] } else { Vec::new() };
    };
    let mut blocks = vec![Block::Text(
        "How far each candidate's replay lies from the evidence. Where the evidence repeats itself to the bit, one \
         different bit contradicts a candidate, so the line that decides is 0. Bits can differ there too: +0 and −0 \
         are no distance apart."
            .to_owned(),
    )];
    let (short, mut alike) = (said::short(audit), Vec::new());
    let exact = audit.claims.iter().all(|claim| claim.tier == Tier::Exact);
    for (phase, signal) in lanes(audit) {
        let of_claim = |claim: &ClaimVerdict| -> Vec<Strip> {
            claim.replays.iter().filter_map(|replay| strip(replay, (phase, signal), &short)).collect()
        };
        let rows: Vec<Strip> = match audit.claims.as_slice() {
            [claim] => of_claim(claim),
            claims => claims
                .iter()
                .map(|claim| Strip {
                    label: said::headline(claim),
                    own: None,
                    interval: None,
                    dots: claim_last(of_claim(claim).into_iter().flat_map(|strip| strip.dots).collect()),
                    figure: String::new(),
                    said: of_claim(claim)
                        .iter()
                        .map(|strip| strip.said.as_str())
                        .collect::<Vec<_>>()
                        .join(" "),
                })
                .collect(),
        };
        let here = replays().flat_map(|replay| &replay.distances);
        if here.filter(|one| (one.phase, one.signal) == (phase, signal)).all(|one| one.different == 0) {
            alike.push(words::lane_name(phase, signal));
            continue;
        }
        let label = if exact {
            "0: where equal bits lie, the line that decides"
        } else {
            "0: where equal bits lie; where repetitions differ, p decides"
        };
        let lines = vec![Line { at: 0.0, label: label.to_owned(), decides: exact }];
        let of = if audit.claims.len() == 1 { "replay" } else { "claim" };
        let axis = Axis { name: "mean L2 over rows", of, means: REPLAYED, scale };
        strips(&words::lane_name(phase, signal), axis, lines, rows, &mut blocks);
    }
    if !alike.is_empty() {
        let alike = alike.join(" · ");
        blocks.push(Block::Text(format!("Without a picture, because no compared bit differs: {alike}.")));
    }
    blocks
}

/// What a verification says of replays.
const REPLAYED: Means = &[
    (Look::Contradicted, "other: contradicted"),
    (Look::Fits, "the claim"),
    (Look::FitsNot, "the claim, contradicted"),
    (Look::Alike, "other: within the evidence's own noise"),
    (Look::Same, "other: same bits in this signal"),
    (Look::Open, "other: open"),
];

/// Dots in the order in which they are drawn: that of the claim lies on top.
fn claim_last(mut dots: Vec<(f64, Look)>) -> Vec<(f64, Look)> {
    dots.sort_by_key(|dot| matches!(dot.1, Look::Fits | Look::FitsNot));
    dots
}

fn strip(replay: &ReplayVerdict, lane: Lane, short: &Short) -> Option<Strip> {
    let found = replay.distances.iter().find(|one| (one.phase, one.signal) == lane)?;
    let value = found.mean_l2?;
    let look = match replay.state {
        ReplayState::Different if replay.claimed => Look::FitsNot,
        _ if replay.claimed => Look::Fits,
        _ if found.different == 0 => Look::Same,
        ReplayState::Different | ReplayState::Equal => Look::Contradicted,
        ReplayState::WithinNoise => Look::Alike,
        ReplayState::TooFewRepetitions | ReplayState::NotCompared => Look::Open,
    };
    let names: Vec<&str> = replay.class.iter().map(|name| short.name(name)).collect();
    let claim = if replay.claimed { "claim: " } else { "" };
    Some(Strip {
        label: format!("{claim}{}", names.join(", ")),
        own: None,
        interval: None,
        dots: vec![(value, look)],
        figure: words::number(value, 3),
        said: format!(
            "{claim}{}, {}: mean distance {} over {} rows.",
            names.join(", "),
            said::state(replay.state),
            words::number(value, 3),
            found.rows
        ),
    })
}

/// Layers × passes, and how many classes of candidates first differ from the evidence there.
fn first_differences(audit: &Audit) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    for phase in [Phase::Prefill, Phase::Decode] {
        let mut counts: BTreeMap<(Option<u32>, i64), u32> = BTreeMap::new();
        let replays = audit.claims.iter().flat_map(|claim| &claim.replays);
        for first in replays.filter_map(|replay| replay.first.as_ref()).filter(|first| first.phase == phase) {
            let layer = first.place().and_then(|site| site.layer).map(|layer| layer.0);
            let token = match phase {
                Phase::Prefill => i64::from(first.position.unwrap_or(-1)),
                Phase::Decode => i64::try_from(first.step).unwrap_or(i64::MAX),
            };
            *counts.entry((layer, token)).or_insert(0) += 1;
        }
        if counts.is_empty() {
            continue;
        }
        let mut layers: Vec<Option<u32>> = counts.keys().map(|key| key.0).collect();
        layers.sort_unstable_by_key(|layer| layer.unwrap_or(u32::MAX));
        layers.dedup();
        let tokens: BTreeSet<i64> = counts.keys().map(|key| key.1).collect();
        let tokens: Vec<i64> = tokens.into_iter().collect();
        let scale = Scale::of([1.0, f64::from(counts.values().copied().max().unwrap_or(1))]);
        let what = match phase {
            Phase::Prefill => "position of the prompt",
            Phase::Decode => "decode step",
        };
        let caption = format!("{}, by layer and {what}", words::capital(phase.name()));
        let rows = LayerRow::all(layers.iter().copied(), "outside the blocks");
        let cell = |row: usize, token| {
            counts.get(&(layers[row], token)).map_or_else(
                || HeatCell::new(Paint::Blank, ""),
                |&count| HeatCell::new(Paint::of(scale, f64::from(count)), count.to_string()),
            )
        };
        blocks.push(Block::Heat(layer_map(caption, &rows, &tokens, "without a first difference", cell)));
    }
    if !blocks.is_empty() {
        let text = "How many replays of classes of candidates first differ from the evidence at each place. Only \
            layers and steps at which some do have a row or a column; before a first difference every compared \
            bit is equal.";
        blocks.insert(0, Block::Text(text.to_owned()));
    }
    blocks
}

fn cost(audit: &Audit) -> Vec<Block<'_>> {
    let mut facts = recomputed(audit);
    if audit.cost.candidates > 0 {
        facts.extend(said::cost(audit));
    }
    vec![Block::Facts(facts)]
}

fn thresholds(audit: &Audit) -> Vec<Block<'_>> {
    tables(vec![crate::grid::threshold_list(&audit.thresholds)])
}
