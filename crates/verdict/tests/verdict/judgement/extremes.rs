//! Distances at the ends of what a number can hold: an analysis holds finite figures, or none.

use std::collections::BTreeMap;

use mantissa_evidence::Verification;
use mantissa_evidence::verification::{CellDistance, CellKey, Machine, Relation};
use mantissa_numerics::Phase;
use mantissa_verdict::Analysis;
use mantissa_verdict::judge::{Evidence, Options, judge_evidence};

use super::synthetic::source;

/// Claims of one machine replayed on another: twelve references whose wrong replays are spread by an eighth.
fn replayed(wrong: f64, right: f64) -> Analysis {
    let machine = |gpu: &str| Machine { gpu: gpu.into(), ..Machine::default() };
    let mut cells = BTreeMap::new();
    for reference in 0..12_u8 {
        for (claimed, verified) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let mean =
                if claimed == verified { right } else { wrong - f64::from(reference) * (wrong / 100.0) };
            let key = CellKey {
                phase: Phase::Prefill,
                signal: "logprobs".into(),
                reference: Some(format!("ref_{reference}")),
                claimed,
                verified,
            };
            cells.insert(
                key,
                CellDistance { mean, max: None, rounding: 0.0, place: format!("[{reference}]") },
            );
        }
    }
    let verification = Verification {
        variable: "attention".into(),
        values: vec!["eager".into(), "sdpa".into()],
        generator: machine("A"),
        verifier: machine("B"),
        mismatches: vec![],
        relation: Relation::ClaimedVerified,
        cells,
    };
    let source = source("distances.json");
    let evidence = Evidence::of_verifications(&source, vec![verification]);
    judge_evidence(&[evidence], &Options::default()).unwrap()
}

#[test]
fn figures_are_finite_or_absent() {
    let plain = &replayed(2.0, 1.0);
    let verdict = plain.pairs.iter().find(|pair| pair.floor.is_some()).unwrap();
    assert!(verdict.interval.is_some() && verdict.ratio.is_some(), "{verdict:#?}");
    for (wrong, right) in [(1e308, 1.0), (1e308, 1e308), (1.0, 5e-324), (1e308, 5e-324), (5e-324, 1e308)] {
        let analysis = replayed(wrong, right);
        assert!(!analysis.pairs.is_empty() && !analysis.matrices.is_empty(), "{wrong} {right}");
        for pair in &analysis.pairs {
            let interval = pair.interval.map(|interval| [interval.low, interval.high]);
            let floor = pair.floor.as_ref().map(|floor| [floor.mean, floor.max]);
            let figures = [pair.distance, pair.ratio, pair.p_value, pair.p_adjusted];
            let all = figures.into_iter().flatten();
            let all = all.chain(interval.into_iter().flatten()).chain(floor.into_iter().flatten());
            assert!(all.into_iter().all(f64::is_finite), "{wrong} {right}: {pair:#?}");
        }
        let cells = analysis.matrices.iter().flat_map(|matrix| matrix.cells.iter().flatten());
        assert!(cells.filter_map(|cell| cell.value).all(f64::is_finite));
    }
}
