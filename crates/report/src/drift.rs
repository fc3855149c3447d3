//! A [`Drift`] for people and programs: text, Markdown, JSON.
//!
//! Sentences first, then tables laid out once for text and Markdown.

use std::collections::BTreeMap;
use std::io::{self, Write};

use mantissa_numerics::schema::without_examples;
use mantissa_numerics::{LayerIdx, Phase, Point};
use mantissa_verdict::drift::{Drift, DriftAnswer, DriftPlace, DriftSite};
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::Value;

use crate::foreign::{markdown as escape, push};
use crate::grid::{Column, Grid, Kind, Row};
use crate::markdown::table;
use crate::text::{Page, Style};
use crate::words;

/// Rows of a table that are shown; all are in the JSON.
const SHOWN: usize = 24;
/// What the numbers of a site are.
const MEASURED: &str = "arose here: distance from the same rows recomputed from their own inputs. spread: what other \
    orders of the same sums explain. smallest: the smallest effect that is found, as a share of the rows.";
/// Sites without a hypothesis that are named.
const UNNAMED: usize = 6;

/// The drift for a terminal.
///
/// ```
/// # use mantissa_verdict::drift::{Drift, DriftCounts, DriftSide};
/// # let side = || DriftSide { name: "a".into(), setup: "cpu_bs1".into(), digest: None, reproduced: None };
/// let drift = Drift::of([side(), side()], Vec::new(), DriftCounts::default());
/// let page = mantissa_report::drift_text(&drift, mantissa_report::Style::default());
/// assert!(page.starts_with("cannot be localized  Nothing could be compared."), "{page}");
/// ```
#[must_use]
pub fn drift_text(drift: &Drift, style: Style) -> String {
    let mut page = Page::new(style);
    page.drift(drift.answer, &meaning(drift));
    for (label, value) in about(drift) {
        page.field(label, &value);
    }
    let sentences = sentences(drift);
    if !sentences.is_empty() {
        page.heading("Why");
        for sentence in &sentences {
            page.hanging("  - ", sentence);
        }
    }
    for grid in tables(drift) {
        page.grid(&grid);
    }
    if !drift.notes.is_empty() {
        page.heading("Notes");
        drift.notes.iter().for_each(|note| page.hanging("  - ", note));
    }
    page.finish()
}

/// Writes the drift as Markdown: the sections of a drift report, for a pull request.
///
/// ```
/// # use mantissa_verdict::drift::{Drift, DriftCounts, DriftSide};
/// # let side = || DriftSide { name: "a".into(), setup: "cpu_bs1".into(), digest: None, reproduced: None };
/// let drift = Drift::of([side(), side()], Vec::new(), DriftCounts::default());
/// let mut page = Vec::new();
/// mantissa_report::drift_markdown(&drift, &mut page)?;
/// assert!(page.starts_with(b"# Drift: cannot be localized"));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn drift_markdown(drift: &Drift, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "# Drift: {}\n\n{}\n", drift.answer.words(), escape(&meaning(drift)))?;
    for (label, value) in about(drift) {
        writeln!(out, "- {}: {}", words::capital(label), escape(&value))?;
    }
    writeln!(out, "\n## Summary\n")?;
    let (titles, numbers): (Vec<&str>, Vec<String>) =
        counted(drift).into_iter().map(|(word, number)| (word, number.to_string())).unzip();
    writeln!(out, "| pairs | {} |\n|{}", titles.join(" | "), " ---: |".repeat(titles.len() + 1))?;
    writeln!(out, "| {} | {} |", drift.counts.pairs, numbers.join(" | "))?;
    let sentences = sentences(drift);
    if !sentences.is_empty() {
        writeln!(out, "\n## Why\n")?;
        for sentence in &sentences {
            writeln!(out, "- {}", escape(sentence))?;
        }
    }
    writeln!(out, "\n## Propagation\n\n```\n{}```", propagation(drift))?;
    for grid in tables(drift) {
        if !grid.rows.is_empty() {
            writeln!(out, "\n## {}", escape(&grid.caption))?;
            table(out, &grid)?;
        }
    }
    if !drift.notes.is_empty() {
        writeln!(out, "\n## Notes\n")?;
        for note in &drift.notes {
            writeln!(out, "- {}", escape(note))?;
        }
    }
    Ok(())
}

/// Writes `drift.json`.
///
/// ```
/// # use mantissa_verdict::drift::{Drift, DriftCounts, DriftSide};
/// # let side = || DriftSide { name: "a".into(), setup: "cpu_bs1".into(), digest: None, reproduced: None };
/// let drift = Drift::of([side(), side()], Vec::new(), DriftCounts::default());
/// let mut file = Vec::new();
/// mantissa_report::drift_json(&drift, &mut file)?;
/// assert_eq!(serde_json::from_slice::<serde_json::Value>(&file)?["answer"], "not_localized");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn drift_json(drift: &Drift, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, drift)?;
    out.write_all(b"\n")
}

/// The JSON Schema of `drift.json`, as published in `docs/format`.
///
/// ```
/// let file = std::fs::read("../../docs/format/drift.schema.json")?;
/// assert_eq!(mantissa_report::drift_schema(), serde_json::from_slice::<serde_json::Value>(&file)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn drift_schema() -> Value {
    SchemaSettings::draft2020_12()
        .for_serialize()
        .with_transform(RecursiveTransform(without_examples))
        .into_generator()
        .into_root_schema_for::<Drift>()
        .to_value()
}

/// The answer in two sentences.
fn meaning(drift: &Drift) -> String {
    let counts = drift.counts;
    let pairs = words::of(usize::try_from(counts.pairs).unwrap_or(usize::MAX), "pair");
    let unequal = format!("Not equal: {} of {pairs}.", counts.pairs - counts.equal);
    match drift.answer {
        _ if counts.pairs == 0 => "Nothing could be compared.".to_owned(),
        DriftAnswer::Equal => format!("Equal to the bit: {pairs}."),
        DriftAnswer::Explained => {
            format!("{unequal} Recipes explain every one: both sides are recomputed to the bit.")
        }
        DriftAnswer::WithinRounding => {
            format!("{unequal} None by more than other orders of the same sums; no recipe proves it.")
        }
        DriftAnswer::NotLocalized if drift.sides.iter().all(|side| side.reproduced.is_none()) => {
            format!("{unequal} Nothing was recomputed, so it is not known why.")
        }
        DriftAnswer::NotLocalized => format!(
            "{unequal} Of {} the inputs that it takes to recompute them were not recorded.",
            counts.not_localized
        ),
        DriftAnswer::Unexplained => {
            format!("{unequal} {} by more than any order of the same sums explains.", counts.unexplained)
        }
    }
}

fn counted(drift: &Drift) -> Vec<(&'static str, u64)> {
    let counts = drift.counts;
    vec![
        ("equal", counts.equal),
        ("explained", counts.explained),
        ("within rounding", counts.within_rounding),
        ("unexplained", counts.unexplained),
        ("not localized", counts.not_localized),
        ("missing", counts.missing + counts.missing_in_a),
    ]
}

pub(crate) fn about(drift: &Drift) -> Vec<(&'static str, String)> {
    let side = |side: usize| {
        let side = &drift.sides[side];
        let reproduced = match side.reproduced {
            Some(true) => "; reproduced to the bit by this setup's recipes",
            Some(false) => "; not reproduced to the bit, its recipes are not known",
            None => "",
        };
        format!("{} ({}){reproduced}", side.name, side.setup)
    };
    let counts: Vec<String> = counted(drift)
        .iter()
        .filter(|(_, number)| *number > 0)
        .map(|(word, number)| format!("{number} {word}"))
        .collect();
    let mut about = vec![("a", side(0)), ("b", side(1)), ("pairs", counts.join(", "))];
    if let Some(first) = &drift.first {
        about.push(("first", placed(drift, first)));
    }
    if let Some(first) = drift.first_unexplained.as_ref().filter(|first| drift.first.as_ref() != Some(*first))
    {
        about.push(("unexplained", format!("first at {}", placed(drift, first))));
    }
    if drift.counts.incomparable > 0 {
        let number = drift.counts.incomparable;
        about.push((
            "hashes",
            format!("{number} rows have hashes of other kinds or formats, which say nothing"),
        ));
    }
    if drift.counts.other_tokens > 0 {
        let number = drift.counts.other_tokens;
        about.push(("tokens", format!("{number} rows lie behind the first token that is not the same")));
    }
    about
}

fn placed(drift: &Drift, place: &DriftPlace) -> String {
    let pair = drift.pairs.iter().find(|pair| pair.place == *place);
    let answer = pair.map_or("", |pair| pair.answer.words());
    let what = pair.map_or_else(String::new, |pair| {
        let phases = match pair.phases {
            [Phase::Prefill, Phase::Decode] => ", prefill beside decode",
            [Phase::Decode, Phase::Prefill] => ", decode beside prefill",
            _ => "",
        };
        let elements = pair.differing.map(|differing| format!(": {differing} of {} elements", pair.width));
        format!("{phases}{}", elements.unwrap_or_default())
    });
    format!(
        "prompt {}, position {}, {}{what}; {answer}",
        place.prompt,
        place.position,
        site(place.layer, place.point)
    )
}

fn site(layer: Option<LayerIdx>, point: Point) -> String {
    layer.map_or_else(|| point.name().to_owned(), |LayerIdx(layer)| format!("layer {layer} {}", point.name()))
}

/// What explains it, and what does not.
fn sentences(drift: &Drift) -> Vec<String> {
    let mut all = Vec::new();
    for cause in &drift.causes {
        let layers: Vec<u32> = cause.layers.iter().map(|LayerIdx(layer)| *layer).collect();
        let place =
            if layers.is_empty() { String::new() } else { format!(" of layers {}", words::ranges(&layers)) };
        all.push(format!("{}{place}: a is {}; b is {}", cause.node, cause.a, cause.b));
    }
    for found in &drift.hypotheses {
        let rest = match found.answer {
            DriftAnswer::Equal => "vanishes".to_owned(),
            _ => "is no more than rounding".to_owned(),
        };
        all.push(format!(
            "{}: with {}, the difference {rest} ({})",
            site(found.layer, found.point),
            found.detail,
            found.name
        ));
    }
    let named = |open: &DriftSite| {
        drift.hypotheses.iter().any(|found| (found.layer, found.point) == (open.layer, open.point))
    };
    let open: Vec<String> = drift
        .sites
        .iter()
        .filter(|site| site.answer == DriftAnswer::Unexplained && !named(site))
        .map(|open| site(open.layer, open.point))
        .collect();
    if !open.is_empty() && !drift.tried.is_empty() {
        let more = open.len().saturating_sub(UNNAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let shown = open.into_iter().take(UNNAMED).collect::<Vec<_>>().join(", ");
        all.push(format!("{shown}{more}: no hypothesis explains it; tried {}", drift.tried.join(", ")));
    }
    let lacking: Vec<&DriftSite> = drift.sites.iter().filter(|site| site.needs.is_some()).collect();
    for open in lacking.iter().take(4) {
        if let Some(needs) = &open.needs {
            all.push(format!("{}: {needs}", site(open.layer, open.point)));
        }
    }
    if lacking.len() > 4 {
        all.push(format!("{} sites more lack inputs; all are in the JSON", lacking.len() - 4));
    }
    all
}

/// One sign for an answer.
const fn sign(answer: DriftAnswer) -> char {
    match answer {
        DriftAnswer::Equal => '=',
        DriftAnswer::Explained => '+',
        DriftAnswer::WithinRounding => '~',
        DriftAnswer::NotLocalized => '?',
        DriftAnswer::Unexplained => '!',
    }
}

/// Layer by layer, what each point is.
fn propagation(drift: &Drift) -> String {
    let mut text = String::new();
    let mut layer = None;
    for known in &drift.sites {
        if layer != Some(known.layer) {
            layer = Some(known.layer);
            let title = known
                .layer
                .map_or_else(|| "outside blocks".to_owned(), |LayerIdx(layer)| format!("layer {layer}"));
            text.push_str(&title);
            text.push('\n');
        }
        let arrived = if known.arrived > 0 && known.answer != DriftAnswer::Equal {
            ", arrived with its inputs"
        } else {
            ""
        };
        let (sign, point, answer) = (sign(known.answer), known.point.name(), known.answer.words());
        push(&mut text, format_args!("  {sign} {point}: {answer}{arrived}\n"));
    }
    text
}

fn tables(drift: &Drift) -> Vec<Grid<'static>> {
    vec![map(drift), measured(drift)]
}

/// Points × layers, a sign each.
fn map(drift: &Drift) -> Grid<'static> {
    let mut layers: Vec<u32> =
        drift.sites.iter().filter_map(|site| site.layer.map(|LayerIdx(layer)| layer)).collect();
    layers.sort_unstable();
    layers.dedup();
    let mut points: BTreeMap<Point, BTreeMap<u32, DriftAnswer>> = BTreeMap::new();
    for known in &drift.sites {
        if let Some(LayerIdx(layer)) = known.layer {
            points.entry(known.point).or_default().insert(layer, known.answer);
        }
    }
    let rows = points.iter().map(|(point, answers)| {
        let signs = layers.iter().map(|layer| answers.get(layer).map_or(' ', |answer| sign(*answer)));
        Row::new(vec![point.name().to_owned(), signs.collect()], [])
    });
    Grid {
        caption: format!("Sites by layer (layers {})", words::ranges(&layers)),
        columns: vec![
            Column { title: "point".into(), kind: Kind::Words, wide: false },
            Column { title: "from the first layer to the last".into(), kind: Kind::Words, wide: false },
        ],
        rows: rows.collect(),
        note: Some(
            "= equal, + explained, ~ within rounding, ? cannot be localized, ! unexplained".to_owned(),
        ),
    }
}

/// Sites that differ, with the numbers that decide.
fn measured(drift: &Drift) -> Grid<'static> {
    let differing: Vec<&DriftSite> =
        drift.sites.iter().filter(|site| site.answer != DriftAnswer::Equal).collect();
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.3e}"));
    let rows = differing.iter().take(SHOWN).map(|known| {
        Row::new(
            vec![
                site(known.layer, known.point),
                known.counts.pairs.to_string(),
                known.counts.equal.to_string(),
                known.arrived.to_string(),
                number(known.distance),
                number(known.deviation),
                number(known.spread),
                known.smallest.map_or_else(String::new, |share| format!("{share:.1e}")),
                known.answer.words().to_owned(),
            ],
            [],
        )
    });
    let column = |title: &str, kind, wide| Column { title: title.into(), kind, wide };
    let cut = differing.len().saturating_sub(SHOWN);
    let cut = if cut > 0 { format!(" {cut} sites more are in the JSON.") } else { String::new() };
    let recomputed = differing.iter().any(|known| known.deviation.is_some());
    Grid {
        caption: "Sites that differ".to_owned(),
        columns: vec![
            column("site", Kind::Words, false),
            column("pairs", Kind::Number, false),
            column("equal", Kind::Number, false),
            column("arrived", Kind::Number, true),
            column("mean L2", Kind::Number, false),
            column("arose here", Kind::Number, false),
            column("spread", Kind::Number, false),
            column("smallest", Kind::Number, true),
            column("answer", Kind::Words, false),
        ],
        rows: rows.collect(),
        note: Some(format!("{}{cut}", if recomputed { MEASURED } else { "" }))
            .filter(|note| !note.is_empty()),
    }
    .lean()
}
