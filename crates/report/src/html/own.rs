//! Own against other distance of an analysis.

use mantissa_numerics::Phase;
use mantissa_verdict::Analysis;
use mantissa_verdict::analysis::{Answer, Comparison, PairVerdict, Signal};

use super::limits::Cut;
use super::look::Look;
use super::parts::Block;
use super::scale::Scale;
use super::strips::{Line, Means, Strip, Strips};
use crate::short::Short;
use crate::words;

/// Strips of each phase and signal, on one scale of quotients, and one of distances where nothing has a floor.
pub(super) fn own_and_other(analysis: &Analysis) -> Vec<Block<'_>> {
    let judged = |pair: &&PairVerdict| pair.comparison != Comparison::CrossHardwareBaseline;
    let with_ratio = |pair: &&PairVerdict| judged(pair) && pair.ratio.is_some();
    let exact = |pair: &&PairVerdict| judged(pair) && pair.ratio.is_none() && pair.distance.is_some();
    let effect = analysis.thresholds.iter().find(|threshold| threshold.name == "effect").map(|t| t.value);
    let mut blocks = Vec::new();
    let names: Vec<&str> = analysis.pairs.iter().flat_map(|pair| [pair.a.as_str(), &pair.b]).collect();
    let short = Short::of(&names);
    let ratios = analysis.pairs.iter().filter(with_ratio);
    let ends = ratios.flat_map(|pair| {
        let of = |value: f64| pair.floor.as_ref().map(|floor| value / floor.mean);
        [
            pair.ratio,
            pair.interval.map(|i| i.low),
            pair.interval.map(|i| i.high),
            pair.floor.as_ref().and_then(|f| of(f.max)),
        ]
    });
    if let Some(scale) = Scale::with_ticks(ends.flatten().chain(effect).chain([0.9, 1.1])) {
        if analysis.pairs.iter().any(|pair| with_ratio(&pair)) {
            blocks.push(Block::Text(
                "How far two setups lie apart, in units of the pair's own floor: the mean distance between what is \
                 the same."
                    .to_owned(),
            ));
        }
        for (phase, signal) in lanes(&analysis.pairs, |pair| (pair.phase, pair.signal)) {
            let here = |pair: &&PairVerdict| (pair.phase, pair.signal) == (phase, signal) && with_ratio(pair);
            let rows: Vec<Strip> =
                analysis.pairs.iter().filter(here).map(|pair| ratio_strip(pair, &short)).collect();
            let mut lines = vec![Line {
                at: 1.0,
                label: "1×: the pair's own floor".to_owned(),
                decides: effect.is_none(),
            }];
            lines.extend(effect.map(|at| Line {
                at,
                label: format!(
                    "{}×: the difference that counts; not separable only where it is excluded",
                    words::number(at, 2)
                ),
                decides: true,
            }));
            let axis = Axis { name: "× own floor", of: "pair", means: JUDGED, scale };
            strips(&words::lane_name(phase, signal), axis, lines, rows, &mut blocks);
        }
    }
    let distances = analysis.pairs.iter().filter(exact).filter_map(|pair| pair.distance);
    if let Some(scale) = Scale::with_ticks(distances) {
        blocks.push(Block::Text(
            "Setups without a noise floor: where a setup repeats itself to the bit its own distance is 0, and one \
             different bit tells it apart, also one that adds no distance (+0 and −0)."
                .to_owned(),
        ));
        for (phase, signal) in lanes(&analysis.pairs, |pair| (pair.phase, pair.signal)) {
            let here = |pair: &&PairVerdict| (pair.phase, pair.signal) == (phase, signal) && exact(pair);
            let rows: Vec<Strip> =
                analysis.pairs.iter().filter(here).map(|pair| exact_strip(pair, &short)).collect();
            if rows.iter().all(|row| row.dots.iter().all(|dot| dot.1 == Look::Same)) {
                continue;
            }
            let lines = vec![Line {
                at: 0.0,
                label: "0: where equal bits lie, the line that decides".to_owned(),
                decides: true,
            }];
            let axis = Axis { name: "mean distance", of: "pair", means: JUDGED, scale };
            strips(&words::lane_name(phase, signal), axis, lines, rows, &mut blocks);
        }
    }
    blocks
}

/// What a judgement says of two setups.
const JUDGED: Means = &[
    (Look::Apart, "other: told apart"),
    (Look::Alike, "other: not separable"),
    (Look::Same, "other: same bits"),
    (Look::Open, "other: open"),
];

/// What strips stand on.
#[derive(Clone, Copy)]
pub(super) struct Axis {
    /// What it counts.
    pub(super) name: &'static str,
    /// What a strip is of, where it is one of many.
    pub(super) of: &'static str,
    /// What dots mean.
    pub(super) means: Means,
    pub(super) scale: Scale,
}

/// Strips in the open, or folded where there are many.
pub(super) fn strips(
    caption: &str,
    axis: Axis,
    lines: Vec<Line>,
    mut rows: Vec<Strip>,
    blocks: &mut Vec<Block<'_>>,
) {
    /// Rows in the open.
    const OPEN: usize = 14;
    /// Rows at all.
    const SHOWN: usize = 100;
    if rows.is_empty() {
        return;
    }
    let count = rows.len();
    let all = words::of(count, axis.of);
    let summary = format!("{caption}: each of {all}");
    let Axis { name, means, scale, of } = axis;
    let together = count > OPEN;
    let draw = |lines, rows| {
        let (caption, axis) = (caption.to_owned(), name.to_owned());
        Block::Strips(Strips { caption, axis, scale, means, lines, rows })
    };
    if together {
        let dots = rows.iter().flat_map(|row| row.dots.clone()).collect();
        let own = rows.iter().filter_map(|row| row.own);
        let own = own.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        let one = Strip {
            label: all.clone(),
            own,
            interval: None,
            dots,
            figure: String::new(),
            said: format!("{all} on one axis; each of them below"),
        };
        let lines = lines.iter().map(|line| Line { label: line.label.clone(), ..*line }).collect();
        blocks.push(draw(lines, vec![one]));
    }
    rows.truncate(SHOWN);
    let mut each = vec![draw(lines, rows)];
    each.extend(Cut::of(format!("{of}s"), SHOWN, count).map(Block::Cut));
    if together {
        blocks.push(Block::Folded { summary, blocks: each });
    } else {
        blocks.append(&mut each);
    }
}

fn ratio_strip(pair: &PairVerdict, short: &Short) -> Strip {
    let floor = pair.floor.as_ref().filter(|floor| floor.mean > 0.0);
    let ratio = pair.ratio.unwrap_or(0.0);
    let own = floor.map(|floor| (1.0_f64.min(floor.max / floor.mean), (floor.max / floor.mean).max(1.0)));
    let most = floor
        .map_or_else(String::new, |floor| format!(", the largest of them {}", words::number(floor.max, 3)));
    Strip {
        label: words::pair_name(short.name(&pair.a), short.name(&pair.b)),
        own,
        interval: pair.interval.map(|interval| (interval.low, interval.high)),
        dots: vec![(ratio, look(pair.answer))],
        figure: format!("{}×", words::number(ratio, 3)),
        said: format!(
            "{}: {} times the own floor{most}; distance {}.",
            words::answer(pair.answer),
            words::number(ratio, 3),
            words::some(pair.distance)
        ),
    }
}

fn exact_strip(pair: &PairVerdict, short: &Short) -> Strip {
    let distance = pair.distance.unwrap_or(0.0);
    Strip {
        label: words::pair_name(short.name(&pair.a), short.name(&pair.b)),
        own: None,
        interval: None,
        dots: vec![(distance, look(pair.answer))],
        figure: words::number(distance, 3),
        said: format!("{}: mean distance {}.", words::answer(pair.answer), words::number(distance, 3)),
    }
}

pub(super) const fn look(answer: Answer) -> Look {
    match answer {
        Answer::Identical => Look::Same,
        Answer::Separable => Look::Apart,
        Answer::NotSeparable => Look::Alike,
        Answer::Inconclusive => Look::Open,
        Answer::Incomparable => Look::None,
    }
}

/// Phases and signals that anything is said about, in order.
pub(super) fn lanes<T>(all: &[T], lane: impl Fn(&T) -> (Phase, Signal)) -> Vec<(Phase, Signal)> {
    let mut lanes: Vec<(Phase, Signal)> = all.iter().map(lane).collect();
    lanes.sort_unstable();
    lanes.dedup();
    lanes
}
