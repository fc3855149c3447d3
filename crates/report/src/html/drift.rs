//! The page of a drift: what differs, why, and how it travels from layer to layer.

use std::collections::BTreeMap;

use mantissa_numerics::{LayerIdx, Point};
use mantissa_verdict::drift::{Drift, DriftAnswer, DriftSite};

use super::lines::{Lines, Series};
use super::look::Look;
use super::parts::{Block, Item, Lead, Mark, Overview, Parts, Rows, Section, Tone};
use super::scale::Scale;
use crate::drift::said;
use crate::grid::{Column, Grid, Kind, Row, threshold_list};
use crate::words;

/// Where everything stands that a page cuts.
const WHOLE: &str = "drift.json (--output)";

/// Rows of a table that is not folded.
const OPEN: usize = 24;

/// Points of a block, as many as one chart has lines for.
const CHARTS: [(&str, &[Point]); 2] = [
    ("attention", &[Point::XIn, Point::Q, Point::K, Point::V, Point::AttnOut, Point::XAfterAttn]),
    (
        "behind attention",
        &[Point::FfnNorm, Point::RouterLogits, Point::RouterTopk, Point::MlpOut, Point::XOut],
    ),
];

/// What marks mean, in the order of a legend.
const LEGEND: [(DriftAnswer, &str); 5] = [
    (DriftAnswer::Equal, "equal: the same bits"),
    (DriftAnswer::Explained, "explained: named recipes give both sides to the bit"),
    (DriftAnswer::WithinRounding, "within rounding, not proven"),
    (DriftAnswer::Unexplained, "unexplained; the first of all is marked"),
    (DriftAnswer::NotLocalized, "cannot be localized"),
];

pub(super) fn parts(drift: &Drift) -> Parts<'_> {
    let names: Vec<&str> = drift.sides.iter().map(|side| side.name.as_str()).collect();
    let [a, b] = said::sides(drift);
    Parts {
        verb: "Drift",
        subject: names.join(" beside "),
        about: vec![("a", a), ("b", b)],
        lead: lead(drift),
        warnings: Vec::new(),
        overview: overview(drift),
        sections: vec![
            Section::new("why", "Why", why(drift)),
            Section::new("propagation", "Propagation, layer by layer", propagation(drift)),
            Section::new("numbers", "The numbers that decide", numbers(drift)),
            Section::new("baseline", "Beside the baseline", against(drift)),
            Section::new("notes", "Notes", list(drift.notes.clone())),
            Section::new("thresholds", "Thresholds", thresholds(drift)),
        ],
        sources: &[],
        whole: WHOLE,
    }
}

fn lead(drift: &Drift) -> Lead {
    let tone = match drift.answer {
        DriftAnswer::Equal | DriftAnswer::Explained => Tone::Good,
        DriftAnswer::WithinRounding => Tone::Neutral,
        DriftAnswer::NotLocalized => Tone::Open,
        DriftAnswer::Unexplained => Tone::Bad,
    };
    let mut sentences = vec![said::meaning(drift)];
    let first = drift.first.as_ref().map(|place| ("First difference", place));
    let unexplained = said::first_unexplained(drift).map(|place| ("First unexplained", place));
    for (what, place) in first.into_iter().chain(unexplained) {
        sentences.push(format!("{what}: {}.", said::placed(drift, place)));
    }
    sentences.extend(drift.baseline.as_ref().map(said::beside));
    Lead { tone, word: words::capital(drift.answer.words()), sentences }
}

const fn look(answer: DriftAnswer) -> Look {
    match answer {
        DriftAnswer::Equal => Look::Same,
        DriftAnswer::Explained => Look::Explained,
        DriftAnswer::WithinRounding => Look::Rounding,
        DriftAnswer::NotLocalized => Look::Open,
        DriftAnswer::Unexplained => Look::Unexplained,
    }
}

/// Sites of blocks: by layer, then by point.
fn blocks(drift: &Drift) -> BTreeMap<u32, BTreeMap<Point, &DriftSite>> {
    let mut layers: BTreeMap<u32, BTreeMap<Point, &DriftSite>> = BTreeMap::new();
    for site in &drift.sites {
        if let Some(LayerIdx(layer)) = site.layer {
            layers.entry(layer).or_default().insert(site.point, site);
        }
    }
    layers
}

/// Points that any layer has, in the order of computation.
fn points(layers: &BTreeMap<u32, BTreeMap<Point, &DriftSite>>, of: &[Point]) -> Vec<Point> {
    let known = |point: &&Point| layers.values().any(|sites| sites.contains_key(point));
    of.iter().filter(known).copied().collect()
}

/// The answer of every site: layers × points.
fn overview(drift: &Drift) -> Option<Overview> {
    let layers = blocks(drift);
    if layers.is_empty() {
        return None;
    }
    let first = drift.first_unexplained.as_ref().map(|place| (place.layer, place.point));
    let columns: Vec<(&str, Vec<Point>)> = CHARTS
        .iter()
        .map(|(name, of)| (*name, points(&layers, of)))
        .filter(|(_, points)| !points.is_empty())
        .collect();
    let mark = |site: &DriftSite| {
        let is_first = first == Some((site.layer, site.point));
        let figure = if is_first { "first".to_owned() } else { String::new() };
        Mark { figure, ..Mark::new(look(site.answer), site.answer.words()) }
    };
    let rows = layers.iter().map(|(layer, sites)| {
        let all = columns.iter().flat_map(|(_, points)| points);
        (layer.to_string(), all.map(|point| sites.get(point).map(|site| mark(site))).collect())
    });
    let there = |answer: DriftAnswer| layers.values().flat_map(BTreeMap::values).any(|s| s.answer == answer);
    let legend = LEGEND.into_iter().filter(|(answer, _)| there(*answer));
    Some(Overview {
        heading: "Sites by layer",
        caption: "The worst answer of a site's rows, by layer and point".to_owned(),
        corner: "layer",
        columns: columns
            .iter()
            .map(|(name, points)| {
                ((*name).to_owned(), points.iter().map(|point| point.name().to_owned()).collect())
            })
            .collect(),
        groups: vec![Rows { heading: None, rows: rows.collect() }],
        legend: legend.map(|(answer, means)| (Mark::new(look(answer), ""), means)).collect(),
    })
}

fn list<'a>(texts: Vec<String>) -> Vec<Block<'a>> {
    if texts.is_empty() {
        return Vec::new();
    }
    vec![Block::List(texts.into_iter().map(|text| Item { text, citations: &[] }).collect())]
}

fn why(drift: &Drift) -> Vec<Block<'_>> {
    let mut facts = vec![("pairs", said::counts(drift))];
    facts.extend(said::left_out(drift));
    let mut all: Vec<Block<'_>> = Vec::new();
    if drift.counts.pairs + drift.counts.missing + drift.counts.missing_in_a > 0 || facts.len() > 1 {
        all.push(Block::Facts(facts));
    }
    all.extend(list(said::sentences(drift)));
    all
}

/// Lines along layers: how far the sides are apart.
fn propagation(drift: &Drift) -> Vec<Block<'_>> {
    let mut all = Vec::new();
    let outside: Vec<String> = drift
        .sites
        .iter()
        .filter(|site| site.layer.is_none())
        .map(|site| format!("{}: {}", site.point, site.answer.words()))
        .collect();
    if !outside.is_empty() {
        all.push(Block::Text(format!("Outside blocks: {}.", outside.join("; "))));
    }
    let layers = blocks(drift);
    if layers.is_empty() {
        return all;
    }
    let measured = drift.sites.iter().any(|site| site.relative.is_some_and(|relative| relative > 0.0));
    let (what, means) = if measured {
        ("Relative difference", "mean distance of two rows as a share of the first side's length")
    } else {
        ("Share of rows that differ", "no distances are known")
    };
    let value =
        |site: &DriftSite| -> Option<f64> { if measured { site.relative } else { Some(unequal(site)) } };
    let scale = Scale::with_ticks(layers.values().flat_map(BTreeMap::values).filter_map(|site| value(site)));
    let Some(scale) = scale else {
        all.push(Block::Text("Without a picture, because no row in a block differs.".to_owned()));
        return all;
    };
    let first = drift.first_unexplained.as_ref();
    let marked = first.and_then(|place| {
        let LayerIdx(layer) = place.layer?;
        Some((i64::from(layer), format!("first unexplained: {}", said::site(place.layer, place.point))))
    });
    for (name, of) in CHARTS {
        let points = points(&layers, of);
        let series: Vec<Series> = points
            .iter()
            .map(|point| Series {
                name: point.name().to_owned(),
                points: layers
                    .iter()
                    .map(|(layer, sites)| (i64::from(*layer), sites.get(point).and_then(|site| value(site))))
                    .collect(),
            })
            .collect();
        if series.is_empty() {
            continue;
        }
        let caption = format!("{what} by layer, {name} ({means})");
        let axis = "layer".to_owned();
        let lines = Lines { caption, axis, scale, series, marked: marked.clone() };
        let cut = lines.cut();
        all.push(Block::Lines(lines));
        all.extend(cut.map(Block::Cut));
    }
    let every = points(&layers, &Point::ALL);
    let mut columns = vec![Column::new("layer", Kind::Words)];
    columns.extend(every.iter().map(|point| Column::new(point.name(), Kind::Number)));
    let rows = layers.iter().map(|(layer, sites)| {
        let cells = every.iter().map(|point| {
            let found = sites.get(point).and_then(|site| value(site));
            found.map_or_else(String::new, |value| words::number(value, 3))
        });
        Row::new(std::iter::once(layer.to_string()).chain(cells).collect(), [])
    });
    let values = Grid { caption: format!("{what} by layer"), columns, rows: rows.collect(), note: None };
    let summary = "Values as a table".to_owned();
    all.push(Block::Folded { summary, blocks: vec![Block::Grid(values)] });
    all
}

/// The share of a site's rows that are not equal.
#[expect(clippy::cast_precision_loss, reason = "a place in a picture")]
fn unequal(site: &DriftSite) -> f64 {
    (site.counts.pairs - site.counts.equal) as f64 / site.counts.pairs.max(1) as f64
}

/// The numbers of all sites that differ; where these are many, those that are amiss stand open above them.
fn numbers(drift: &Drift) -> Vec<Block<'_>> {
    let all = said::measured(drift, usize::MAX);
    if all.rows.len() <= OPEN {
        return grids(vec![all]);
    }
    let amiss = [DriftAnswer::Unexplained, DriftAnswer::NotLocalized];
    let amiss: Vec<&DriftSite> = drift.sites.iter().filter(|site| amiss.contains(&site.answer)).collect();
    let mut blocks = Vec::new();
    if amiss.len() <= OPEN {
        blocks = grids(vec![said::numbers("Sites that are not explained", &amiss, usize::MAX)]);
    }
    let summary = words::of(all.rows.len(), "site") + " that differ";
    blocks.push(Block::Folded { summary, blocks: vec![Block::Grid(all)] });
    blocks
}

fn against(drift: &Drift) -> Vec<Block<'_>> {
    grids(drift.baseline.iter().map(|against| said::changed(against, usize::MAX)).collect())
}

fn thresholds(drift: &Drift) -> Vec<Block<'_>> {
    grids(vec![threshold_list(&drift.thresholds)])
}

fn grids(grids: Vec<Grid<'_>>) -> Vec<Block<'_>> {
    grids.into_iter().filter(|grid| !grid.rows.is_empty()).map(Block::Grid).collect()
}
