//! What is said of a [`Drift`], in sentences and tables, whoever lays them out.

use std::collections::BTreeMap;

use mantissa_numerics::{LayerIdx, Phase, Point};
use mantissa_verdict::drift::{
    AgainstBaseline, BaselineChange, Drift, DriftAnswer, DriftPlace, DriftSite, Hypothesis,
};

use crate::foreign::push;
use crate::grid::{Column, Grid, Kind, Row};
use crate::words;

/// Rows of a table that are shown; all are in the JSON.
const SHOWN: usize = 24;
/// What the numbers of a site are.
const MEASURED: &str = "arose here: distance from the same rows recomputed from their own inputs. spread: what other \
    orders of the same sums explain. smallest: the smallest effect that is found, as a share of the rows.";
/// What is allowed beside a baseline.
const ALLOWED: &str =
    "allowed: the effect then, and what other orders of the same sums may add then and now.";
/// Sites without a hypothesis that are named.
const UNNAMED: usize = 6;

/// The answer in two sentences.
pub(crate) fn meaning(drift: &Drift) -> String {
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

pub(crate) fn counted(drift: &Drift) -> Vec<(&'static str, u64)> {
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

/// What each side is, and whether its recipes are known.
pub(crate) fn sides(drift: &Drift) -> [String; 2] {
    drift.sides.each_ref().map(|side| {
        let reproduced = match side.reproduced {
            Some(true) => "; reproduced to the bit by this setup's recipes",
            Some(false) => "; not reproduced to the bit, its recipes are not known",
            None => "",
        };
        format!("{} ({}){reproduced}", side.name, side.setup)
    })
}

pub(crate) fn about(drift: &Drift) -> Vec<(&'static str, String)> {
    let [a, b] = sides(drift);
    let mut about = vec![("a", a), ("b", b), ("pairs", counts(drift))];
    if let Some(first) = &drift.first {
        about.push(("first", placed(drift, first)));
    }
    if let Some(first) = first_unexplained(drift) {
        about.push(("unexplained", format!("first at {}", placed(drift, first))));
    }
    about.extend(left_out(drift));
    about.extend(drift.baseline.as_ref().map(|against| ("baseline", beside(against))));
    about
}

/// Whether anything is new beside a baseline.
pub(crate) fn beside(against: &AgainstBaseline) -> String {
    let what = match against.worst() {
        None => "Nothing is new",
        Some(DriftAnswer::NotLocalized) => "It cannot be said that nothing is new",
        Some(_) => "Something is new",
    };
    let counts = against.counts().into_iter().map(|(change, sites)| (sites, change.words()));
    let counts = words::counted(counts);
    let counts = if counts.is_empty() { "no site is listed or amiss".to_owned() } else { counts };
    format!("{what} beside the baseline {}: {counts}.", against.file)
}

/// Whether a change is what a baseline is for.
pub(crate) const fn is_news(change: BaselineChange) -> bool {
    !matches!(change, BaselineChange::Known | BaselineChange::Resolved)
}

/// A size, in as many digits as tables have.
pub(crate) fn size(value: Option<f64>) -> String {
    value.map_or_else(String::new, |value| format!("{value:.3e}"))
}

/// What became of the sites of a baseline, `most` of them: what is new first.
pub(crate) fn changed(against: &AgainstBaseline, most: usize) -> Grid<'static> {
    let mut sites: Vec<_> = against.sites.iter().collect();
    sites.sort_by_key(|site| !is_news(site.change));
    let answer = |answer: Option<DriftAnswer>, none: &str| {
        answer.map_or_else(|| none.to_owned(), |answer| answer.words().to_owned())
    };
    let rows = sites.iter().take(most).map(|found| {
        Row::new(
            vec![
                site(found.layer, found.point),
                found.change.words().to_owned(),
                answer(found.was, "not listed"),
                answer(found.is, "not compared"),
                size(found.effect_was),
                size(found.effect),
                size(found.allowed),
            ],
            [],
        )
    });
    let column = |title: &str, kind| Column { title: title.into(), kind, wide: false };
    let cut = sites.len().saturating_sub(most);
    let cut = if cut > 0 { format!(" {cut} sites more are in the JSON.") } else { String::new() };
    Grid {
        caption: "Beside the baseline".to_owned(),
        columns: vec![
            column("site", Kind::Words),
            column("change", Kind::Words),
            column("then", Kind::Words),
            column("now", Kind::Words),
            column("effect then", Kind::Number),
            column("effect", Kind::Number),
            column("allowed", Kind::Number),
        ],
        rows: rows.collect(),
        note: Some(format!("{ALLOWED}{cut}")),
    }
    .lean()
}

/// How many pairs of each answer.
pub(crate) fn counts(drift: &Drift) -> String {
    let counts: Vec<String> = counted(drift)
        .iter()
        .filter(|(_, number)| *number > 0)
        .map(|(word, number)| format!("{number} {word}"))
        .collect();
    counts.join(", ")
}

/// Where the first unexplained pair is, unless it is the first of all that differ.
pub(crate) fn first_unexplained(drift: &Drift) -> Option<&DriftPlace> {
    drift.first_unexplained.as_ref().filter(|first| drift.first.as_ref() != Some(*first))
}

/// Rows that were not compared, and why.
pub(crate) fn left_out(drift: &Drift) -> Vec<(&'static str, String)> {
    let mut about = Vec::new();
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

pub(crate) fn placed(drift: &Drift, place: &DriftPlace) -> String {
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

pub(crate) fn site(layer: Option<LayerIdx>, point: Point) -> String {
    layer.map_or_else(|| point.name().to_owned(), |LayerIdx(layer)| format!("layer {layer} {}", point.name()))
}

/// What explains it, and what does not.
pub(crate) fn sentences(drift: &Drift) -> Vec<String> {
    let mut all = Vec::new();
    for cause in &drift.causes {
        let layers: Vec<u32> = cause.layers.iter().map(|LayerIdx(layer)| *layer).collect();
        let place =
            if layers.is_empty() { String::new() } else { format!(" of layers {}", words::ranges(&layers)) };
        all.push(format!("{}{place}: a is {}; b is {}", cause.node, cause.a, cause.b));
    }
    all.extend(explained(&drift.hypotheses));
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

/// A sentence for each hypothesis that explains something, with all sites that it does so for.
fn explained(hypotheses: &[Hypothesis]) -> Vec<String> {
    let mut kinds: Vec<(&str, &str)> = Vec::new();
    for found in hypotheses {
        let kind = (found.name.as_str(), found.detail.as_str());
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let sentence = |(name, detail): (&str, &str)| {
        let of = |equal: bool| {
            let all = hypotheses.iter().filter(|found| found.name == name && found.detail == detail);
            places(all.filter(|found| (found.answer == DriftAnswer::Equal) == equal))
        };
        let rest = match (of(true), of(false)) {
            (Some(vanishes), Some(rounding)) => {
                format!("vanishes at {vanishes}, and is no more than rounding at {rounding}")
            }
            (Some(vanishes), None) => format!("vanishes at {vanishes}"),
            (None, rounding) => format!("is no more than rounding at {}", rounding.unwrap_or_default()),
        };
        format!("with {detail} ({name}), the difference {rest}")
    };
    kinds.into_iter().map(sentence).collect()
}

/// Sites by point, then by layer: `q, k of layers 2-5, v of layer 7, final_norm`.
fn places<'h>(found: impl Iterator<Item = &'h Hypothesis>) -> Option<String> {
    let mut points: BTreeMap<Point, Vec<u32>> = BTreeMap::new();
    for one in found {
        points.entry(one.point).or_default().extend(one.layer.map(|LayerIdx(layer)| layer));
    }
    let mut groups: Vec<(Vec<u32>, Vec<&str>)> = Vec::new();
    for (point, layers) in points {
        match groups.iter_mut().find(|(known, _)| *known == layers) {
            Some((_, names)) => names.push(point.name()),
            None => groups.push((layers, vec![point.name()])),
        }
    }
    let words = groups.iter().map(|(layers, names)| match layers.as_slice() {
        [] => names.join(", "),
        [layer] => format!("{} of layer {layer}", names.join(", ")),
        layers => format!("{} of layers {}", names.join(", "), words::ranges(layers)),
    });
    let all = words.collect::<Vec<_>>().join("; ");
    (!all.is_empty()).then_some(all)
}

/// One sign for an answer.
pub(crate) const fn sign(answer: DriftAnswer) -> char {
    match answer {
        DriftAnswer::Equal => '=',
        DriftAnswer::Explained => '+',
        DriftAnswer::WithinRounding => '~',
        DriftAnswer::NotLocalized => '?',
        DriftAnswer::Unexplained => '!',
    }
}

/// Layer by layer, what each point is.
pub(crate) fn propagation(drift: &Drift) -> String {
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

pub(crate) fn tables(drift: &Drift) -> Vec<Grid<'static>> {
    let against = drift.baseline.iter().filter(|against| !against.sites.is_empty());
    let mut tables = vec![map(drift), measured(drift, SHOWN)];
    tables.extend(against.map(|against| changed(against, SHOWN)));
    tables
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

/// Sites that differ, with the numbers that decide; `most` of them.
pub(crate) fn measured(drift: &Drift, most: usize) -> Grid<'static> {
    let differing: Vec<&DriftSite> =
        drift.sites.iter().filter(|site| site.answer != DriftAnswer::Equal).collect();
    numbers("Sites that differ", &differing, most)
}

/// The numbers that decide of `differing`; `most` of them.
pub(crate) fn numbers(caption: &str, differing: &[&DriftSite], most: usize) -> Grid<'static> {
    let rows = differing.iter().take(most).map(|known| {
        Row::new(
            vec![
                site(known.layer, known.point),
                known.counts.pairs.to_string(),
                known.counts.equal.to_string(),
                known.arrived.to_string(),
                size(known.distance),
                size(known.deviation),
                size(known.spread),
                known.smallest.map_or_else(String::new, |share| format!("{share:.1e}")),
                known.answer.words().to_owned(),
            ],
            [],
        )
    });
    let column = |title: &str, kind, wide| Column { title: title.into(), kind, wide };
    let cut = differing.len().saturating_sub(most);
    let cut = if cut > 0 { format!(" {cut} sites more are in the JSON.") } else { String::new() };
    let recomputed = differing.iter().any(|known| known.deviation.is_some());
    Grid {
        caption: caption.to_owned(),
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
