//! Drifts to show: one pair of each answer, many layers, hashes alone, names that attack.

use mantissa_numerics::{LayerIdx, Phase, Point};
use mantissa_verdict::drift::{
    BaselineOf, BaselineSide, Cause, Drift, DriftAnswer, DriftBaseline, DriftCounts, DriftPair, DriftPlace,
    DriftSide, Hypothesis, false_alarm,
};

use super::sample::HOSTILE;

fn pair(layer: u32, point: Point, answer: DriftAnswer) -> DriftPair {
    let equal = answer == DriftAnswer::Equal;
    DriftPair {
        place: DriftPlace { prompt: "0".into(), position: 37, layer: Some(LayerIdx(layer)), point },
        phases: [Phase::Prefill, Phase::Decode],
        steps: [0, 0],
        answer,
        arrived: !equal && layer > 1,
        differing: Some(if equal { 0 } else { 12 }),
        width: 576,
        distance: Some(if equal { 0.0 } else { 0.25 }),
        relative: Some(if equal { 0.0 } else { 0.004 }),
        deviation: (!equal).then_some(0.125),
        bound: (answer == DriftAnswer::Unexplained).then_some(8.0),
        spread: (!equal).then_some(0.03125),
        smallest: (!equal).then_some(0.001),
    }
}

/// One pair of each answer, a cause and a hypothesis.
pub(crate) fn drift() -> Drift {
    let side = |name: &str, reproduced| DriftSide {
        name: name.into(),
        setup: "h200_bs1_eager_bf16".into(),
        digest: None,
        reproduced: Some(reproduced),
    };
    let pairs = vec![
        pair(1, Point::XIn, DriftAnswer::Equal),
        pair(1, Point::AttnOut, DriftAnswer::Explained),
        pair(2, Point::Q, DriftAnswer::WithinRounding),
        pair(2, Point::AttnOut, DriftAnswer::Unexplained),
        pair(3, Point::MlpOut, DriftAnswer::NotLocalized),
    ];
    let counts = DriftCounts { missing: 2, ..DriftCounts::default() };
    let mut drift = Drift::of([side("a|b.json", true), side("capture", false)], pairs, counts);
    drift.causes.push(Cause {
        node: "o_proj".into(),
        layers: vec![LayerIdx(1), LayerIdx(2), LayerIdx(4)],
        rows: 3,
        a: "prefill of 38 rows, parts 1".into(),
        b: "decode of 1 row, parts 4".into(),
    });
    drift.hypotheses.push(Hypothesis {
        name: "attention_scale".into(),
        layer: Some(LayerIdx(2)),
        point: Point::AttnOut,
        detail: "no scale of the scores".into(),
        answer: DriftAnswer::Equal,
        deviation: 0.0,
    });
    drift.sites.iter_mut().filter(|site| site.point == Point::MlpOut).for_each(|site| {
        site.needs = Some("record layer_3.ffn_norm".into());
    });
    drift
}

/// Points of a block that has experts.
const POINTS: [Point; 11] = [
    Point::XIn,
    Point::Q,
    Point::K,
    Point::V,
    Point::AttnOut,
    Point::XAfterAttn,
    Point::FfnNorm,
    Point::RouterLogits,
    Point::RouterTopk,
    Point::MlpOut,
    Point::XOut,
];

fn outside(point: Point, answer: DriftAnswer) -> DriftPair {
    let mut pair = pair(1, point, answer);
    pair.place.layer = None;
    pair
}

/// A bug in layer 20 of a model of 64 layers.
pub(crate) fn large() -> Drift {
    let mut pairs = vec![outside(Point::EmbedOut, DriftAnswer::Equal)];
    for layer in 1..=64 {
        for (place, point) in (0_u32..).zip(POINTS) {
            let answer = match (layer, point) {
                (..=3, _) => DriftAnswer::Equal,
                (20, Point::AttnOut) | (41, Point::MlpOut) => DriftAnswer::Unexplained,
                (_, Point::XIn | Point::FfnNorm) => DriftAnswer::Explained,
                (60.., Point::RouterTopk) => DriftAnswer::NotLocalized,
                _ => DriftAnswer::WithinRounding,
            };
            let mut pair = pair(layer, point, answer);
            if answer != DriftAnswer::Equal {
                let size = if layer < 20 { 1e-4 } else { 0.01 };
                pair.relative = Some(size * (1.0 + f64::from(layer) / 30.0) / (1.0 + f64::from(place)));
            }
            pairs.push(pair);
        }
    }
    pairs.push(outside(Point::FinalNorm, DriftAnswer::WithinRounding));
    pairs.push(outside(Point::Logits, DriftAnswer::WithinRounding));
    let side = |name: &str| DriftSide { name: name.into(), ..drift().sides[0].clone() };
    let mut large = Drift::of([side("computed: prefill"), side("capture")], pairs, DriftCounts::default());
    large.tried = ["attention_scale", "mask_off_by_one", "rope_base"].map(str::to_owned).to_vec();
    large.thresholds.push(false_alarm());
    large
}

/// Two traces: hashes alone, of layers that are not all recorded.
pub(crate) fn hashes() -> Drift {
    let mut pairs = Vec::new();
    for layer in [1, 2, 3, 5, 9] {
        for point in [Point::XIn, Point::AttnOut, Point::MlpOut] {
            for position in 0..4 {
                let same = layer == 1 && point == Point::XIn || position > layer.min(3);
                let answer = if same { DriftAnswer::Equal } else { DriftAnswer::NotLocalized };
                let mut pair = pair(layer, point, answer);
                pair.place.position = u64::from(position);
                (pair.deviation, pair.spread, pair.smallest) = (None, None, None);
                if !same {
                    (pair.distance, pair.relative, pair.differing) = (None, None, None);
                }
                pairs.push(pair);
            }
        }
    }
    let side = |name: &str, phase: &str| DriftSide {
        name: name.into(),
        setup: phase.into(),
        digest: None,
        reproduced: None,
    };
    let left_out = DriftCounts { incomparable: 3, other_tokens: 5, ..DriftCounts::default() };
    let sides = [side("b366.jsonl", "prefill"), side("b366.jsonl", "decode")];
    let mut hashes = Drift::of(sides, pairs, left_out);
    hashes.notes.push("a trace holds hashes".to_owned());
    hashes
}

/// Names and sentences from files that attack whoever shows them.
pub(crate) fn hostile() -> Drift {
    let mut hostile = drift();
    let name = || HOSTILE.to_owned();
    for side in &mut hostile.sides {
        (side.name, side.setup) = (name(), name());
    }
    for place in hostile.first.iter_mut().chain(&mut hostile.first_unexplained) {
        place.prompt = name();
    }
    for pair in &mut hostile.pairs {
        pair.place.prompt = name();
    }
    for site in &mut hostile.sites {
        site.needs = Some(name());
    }
    for cause in &mut hostile.causes {
        (cause.node, cause.a, cause.b) = (name(), name(), name());
    }
    for found in &mut hostile.hypotheses {
        (found.name, found.detail) = (name(), name());
    }
    hostile.notes.push(name());
    hostile.baseline = Some(baseline().against(&hostile, HOSTILE, false));
    hostile
}

/// What was known before: three sites of [`beside`], of which one was no bug then and one is resolved.
pub(crate) fn baseline() -> DriftBaseline {
    let side = || BaselineSide { setup: "h200_bs1_eager_bf16".into(), digest: None };
    let sides = [side(), side()];
    let made_of = BaselineOf { model: Some("m".into()), weights_digest: None, tokens_digest: None, sides };
    let answers = [
        pair(2, Point::AttnOut, DriftAnswer::NotLocalized),
        pair(3, Point::MlpOut, DriftAnswer::NotLocalized),
        pair(2, Point::Q, DriftAnswer::Unexplained),
    ];
    let drift = Drift::of(drift().sides, answers.to_vec(), DriftCounts::default());
    DriftBaseline::of(&drift, made_of, false)
}

/// A drift beside its baseline.
pub(crate) fn beside() -> Drift {
    let mut beside = drift();
    let mut pairs = beside.pairs.clone();
    pairs.push(pair(4, Point::AttnOut, DriftAnswer::Unexplained));
    let of = Drift::of(beside.sides.clone(), pairs, DriftCounts::default());
    (beside.pairs, beside.counts, beside.sites) = (of.pairs, of.counts, of.sites);
    beside.baseline = Some(baseline().against(&beside, "known.json", false));
    beside
}
