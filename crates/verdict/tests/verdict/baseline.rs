//! Drifts beside a baseline: new, worse, larger, known, resolved, not compared, of something else, damaged.

use mantissa_evidence::Digest;
use mantissa_numerics::{LayerIdx, Phase, Point};
use mantissa_verdict::drift::{
    BaselineChange, BaselineOf, BaselineSide, Drift, DriftAnswer, DriftBaseline, DriftCounts, DriftPair,
    DriftPlace, DriftSide,
};
use proptest::prelude::*;

use DriftAnswer::{Equal, Explained, NotLocalized, Unexplained, WithinRounding};

/// A site of a block: its answer, effect, spread, and how many rows were compared.
type Site = (u32, DriftAnswer, Option<f64>, f64, u64);

fn drift(sites: &[Site]) -> Drift {
    let side = || DriftSide { name: "a".into(), setup: "cpu_bs1".into(), digest: None, reproduced: None };
    let mut pairs = Vec::new();
    for (layer, answer, effect, _, rows) in sites {
        for position in 0..*rows {
            pairs.push(DriftPair {
                place: DriftPlace {
                    prompt: "0".into(),
                    position,
                    layer: Some(LayerIdx(*layer)),
                    point: Point::MlpOut,
                },
                phases: [Phase::Prefill; 2],
                steps: [0; 2],
                answer: *answer,
                arrived: false,
                differing: None,
                width: 64,
                distance: *effect,
                relative: None,
                deviation: None,
                bound: None,
                spread: None,
                smallest: None,
            });
        }
    }
    let mut drift = Drift::of([side(), side()], pairs, DriftCounts::default());
    for site in &mut drift.sites {
        let (_, _, effect, spread, _) = sites.iter().find(|one| Some(LayerIdx(one.0)) == site.layer).unwrap();
        if *spread > 0.0 {
            (site.deviation, site.spread) = (*effect, Some(*spread));
        }
    }
    drift
}

fn of(model: &str, setup: &str) -> BaselineOf {
    let side = |setup: &str| BaselineSide { setup: setup.into(), digest: None };
    BaselineOf {
        model: Some(model.into()),
        weights_digest: None,
        tokens_digest: Some(Digest::of_ids(&[3, 5, 6, 7])),
        sides: [side("cpu_bs1"), side(setup)],
    }
}

fn known(sites: &[Site], strict: bool) -> DriftBaseline {
    DriftBaseline::of(&drift(sites), of("smollm2", "cpu_bs8"), strict)
}

fn changes(baseline: &DriftBaseline, sites: &[Site], strict: bool) -> Vec<BaselineChange> {
    let against = baseline.against(&drift(sites), "known.json", strict);
    against.sites.iter().map(|site| site.change).collect()
}

#[test]
fn only_what_fails_is_listed() {
    let sites = [
        (1, Equal, Some(0.0), 0.0, 2),
        (2, Explained, Some(1.0), 0.0, 2),
        (3, WithinRounding, Some(1.0), 2.0, 2),
        (4, NotLocalized, Some(1.0), 0.0, 2),
        (5, Unexplained, Some(9.0), 2.0, 2),
    ];
    let layers = |strict| known(&sites, strict).sites.iter().map(|site| site.layer.unwrap().0).collect();
    let (usual, strict): (Vec<u32>, Vec<u32>) = (layers(false), layers(true));
    assert_eq!((usual, strict), (vec![4, 5], vec![3, 4, 5]));
    let baseline = known(&sites, false);
    assert_eq!((baseline.sites[1].effect, baseline.sites[1].spread), (Some(9.0), Some(2.0)));
    assert_eq!(
        baseline.sites[0].effect,
        Some(2.0_f64.sqrt()),
        "both rows together, where nothing is recomputed"
    );
}

/// What a baseline was made of is known beside it, whatever it holds.
#[test]
fn a_drift_beside_itself_is_known() {
    let sites = [
        (1, Explained, Some(1.0), 0.0, 2),
        (3, WithinRounding, Some(1.0), 2.0, 2),
        (4, NotLocalized, None, 0.0, 2),
        (5, Unexplained, Some(9.0), 2.0, 2),
    ];
    for strict in [false, true] {
        let found = changes(&known(&sites, strict), &sites, strict);
        assert!(found.iter().all(|change| *change == BaselineChange::Known), "{found:?}");
    }
    // A baseline of a strict run serves one that is not.
    assert_eq!(known(&sites, true).against(&drift(&sites), "known.json", false).worst(), None);
    // The reverse has more to say.
    let strict = known(&sites, false).against(&drift(&sites), "known.json", true);
    assert_eq!(strict.worst(), Some(WithinRounding));
}

#[test]
fn what_is_new_worse_larger_resolved_or_lost_is_told_apart() {
    use BaselineChange::{Known, Larger, New, NotCompared, Resolved, Worse};
    let then = [(5, Unexplained, Some(9.0), 2.0, 4)];
    let baseline = known(&then, false);
    for (now, expected) in [
        (vec![(5, Unexplained, Some(9.0), 2.0, 4), (6, Unexplained, Some(1.0), 0.5, 4)], vec![Known, New]),
        // Both spreads together, and not more.
        (vec![(5, Unexplained, Some(12.5), 1.5, 4)], vec![Known]),
        (vec![(5, Unexplained, Some(12.6), 1.5, 4)], vec![Larger]),
        (vec![(5, Unexplained, None, 1.5, 4)], vec![Larger]),
        (vec![(5, Unexplained, Some(1.0), 1.5, 4)], vec![Known]),
        (vec![(5, Explained, Some(1.0), 0.0, 4)], vec![Resolved]),
        (vec![(5, WithinRounding, Some(1.0), 2.0, 4)], vec![Resolved]),
        // Fewer rows: the bug may be in the others.
        (vec![(5, Equal, Some(0.0), 0.0, 3)], vec![NotCompared]),
        (vec![(5, Unexplained, Some(9.0), 2.0, 3)], vec![NotCompared]),
        (vec![(5, NotLocalized, Some(9.0), 0.0, 4)], vec![NotCompared]),
        (vec![], vec![NotCompared]),
    ] {
        assert_eq!(changes(&baseline, &now, false), expected, "{now:?}");
    }
    let open = known(&[(5, NotLocalized, Some(1.0), 0.0, 1)], false);
    assert_eq!(changes(&open, &[(5, Unexplained, Some(1.0), 0.0, 1)], false), [Worse]);
    // Where no spread is known nothing is added to what is stated.
    assert_eq!(changes(&open, &[(5, NotLocalized, Some(1.0), 0.0, 1)], false), [Known]);
    assert_eq!(changes(&open, &[(5, NotLocalized, Some(1.000_000_1), 0.0, 1)], false), [Larger]);
    // Hashes have no distance: rows that differ are counted.
    let hashes = known(&[(5, NotLocalized, None, 0.0, 2)], false);
    assert_eq!(changes(&hashes, &[(5, NotLocalized, None, 0.0, 3)], false), [Larger]);
}

#[test]
fn the_worst_of_what_is_new_decides() {
    let baseline = known(&[(5, Unexplained, Some(9.0), 2.0, 4)], false);
    let worst = |now: &[Site]| baseline.against(&drift(now), "known.json", false).worst();
    assert_eq!(worst(&[(5, Unexplained, Some(9.0), 2.0, 4)]), None);
    assert_eq!(worst(&[(5, Equal, Some(0.0), 0.0, 4)]), None);
    assert_eq!(worst(&[]), Some(NotLocalized), "nothing was compared");
    let open = (6, NotLocalized, Some(1.0), 0.0, 4);
    assert_eq!(worst(&[(5, Unexplained, Some(9.0), 2.0, 4), open]), Some(NotLocalized));
    assert_eq!(worst(&[(5, Unexplained, Some(99.0), 2.0, 4), open]), Some(Unexplained));
}

#[test]
fn a_baseline_of_something_else_is_refused_by_name() {
    let own = known(&[], false);
    let refused = |other: &BaselineOf| own.is_of(other, "known.json".as_ref()).unwrap_err().to_string();
    let remedy = "; give the baseline of this comparison, or write one with --write-baseline";
    assert!(own.is_of(&of("smollm2", "cpu_bs8"), "known.json".as_ref()).is_ok());
    assert_eq!(
        refused(&of("qwen\n", "cpu_bs8")),
        format!("known.json: made_of.model: smollm2, and this is qwen\\n{remedy}")
    );
    assert_eq!(
        refused(&of("smollm2", "cpu_bs16")),
        format!("known.json: made_of.sides[1].setup: cpu_bs8, and this is cpu_bs16{remedy}")
    );
    let tokens = BaselineOf { tokens_digest: None, ..of("smollm2", "cpu_bs8") };
    assert!(refused(&tokens).starts_with("known.json: made_of.tokens_digest: of other prompts"));
    // Weights decide where both are known: a name is only a name.
    let mut weighed = known(&[], false);
    let with = |bytes: &[u8], name: &str| BaselineOf {
        weights_digest: Some(Digest::of_bytes(bytes)),
        ..of(name, "cpu_bs8")
    };
    weighed.made_of = with(b"a", "smollm2");
    assert!(weighed.is_of(&with(b"a", "a copy"), "known.json".as_ref()).is_ok());
    let other = weighed.is_of(&with(b"b", "smollm2"), "known.json".as_ref()).unwrap_err().to_string();
    assert!(other.starts_with("known.json: made_of.weights_digest: smollm2 with weights "), "{other}");
    // Then a new capture may have other bits: that is what is looked for.
    let mut captured = of("smollm2", "cpu_bs8");
    captured.sides[1].digest = Some(Digest::of_bytes(b"other"));
    assert!(own.is_of(&captured, "known.json".as_ref()).is_ok());
}

#[test]
fn a_damaged_baseline_is_one_error_with_its_place() {
    let text = serde_json::to_string_pretty(&known(&[(5, Unexplained, Some(9.0), 2.0, 4)], false)).unwrap();
    let error =
        |text: &str| DriftBaseline::parse(text.as_bytes(), "known.json".as_ref()).unwrap_err().to_string();
    assert!(DriftBaseline::parse(text.as_bytes(), "known.json".as_ref()).is_ok());
    let swapped = |from: &str, to: &str| {
        assert!(text.contains(from), "{text}");
        error(&text.replacen(from, to, 1))
    };
    for (said, expected) in [
        (
            error(""),
            "known.json: line 1, column 0: no baseline of a drift: EOF while parsing a value; restore",
        ),
        (error("[]"), "known.json: line 1, column "),
        (swapped("\"unexplained\"", "\"fine\""), "known.json: line 22, column "),
        (
            swapped("\"unexplained\"", "\"equal\""),
            "known.json: sites[0]: layer_5.mlp_out is equal, which fails",
        ),
        (swapped("\"layer\": 5", "\"layer\": null"), "known.json: sites[0]: mlp_out is no site; "),
        (swapped("\"layer\": 5", "\"layer\": 0"), "known.json: sites[0]: layer_0.mlp_out is no site; "),
        (
            swapped("\"effect\": 9.0", "\"effect\": -9.0"),
            "known.json: sites[0]: layer_5.mlp_out has a size below 0",
        ),
        (swapped("\"effect\": 9.0", "\"effect\": 1e999"), "known.json: line 25, column "),
        (swapped("\"differing\": 4", "\"differing\": 5"), "known.json: sites[0]: 5 of 4 rows differ; "),
        (swapped("\"pairs\"", "\"rows\""), "known.json: line 23, column "),
        (swapped("version\": 1", "version\": 2"), "known.json: format version 2 is newer than 1, the newest"),
        (swapped("version\": 1", "version\": 0"), "known.json: drift_baseline_version: it is 0; restore"),
    ] {
        assert!(said.starts_with(expected) && said.contains("; ") && !said.contains('\n'), "{said}");
    }
    let site = &text[text.find("    {\n      \"layer\"").unwrap()..text.rfind("\n  ]").unwrap()];
    let twice = error(&text.replace(site, &format!("{site},\n{site}")));
    assert_eq!(
        twice,
        "known.json: sites[1]: layer_5.mlp_out stands there twice; restore the file, or write it anew with \
         --write-baseline"
    );
}

proptest! {
    /// Two runs of one bug differ by their roundings: that is never news, and what exceeds it always is.
    #[test]
    fn rounding_alone_is_no_news(
        bug in 0.0..1e6_f64,
        spreads in [1e-9..10.0_f64, 1e-9..10.0_f64],
        shares in [-1.0..1.0_f64, -1.0..1.0_f64],
    ) {
        let [then, now] = [0, 1].map(|run| (bug + spreads[run] * shares[run]).max(0.0));
        let baseline = known(&[(5, Unexplained, Some(then), spreads[0], 4)], false);
        // The last bits of the sums themselves.
        let rounded = now * (1.0 - 1e-12);
        let same = changes(&baseline, &[(5, Unexplained, Some(rounded), spreads[1], 4)], false);
        prop_assert_eq!(same, [BaselineChange::Known]);
        let more = then + spreads[0] + spreads[1];
        let more = (more * (1.0 + 1e-12)).max(f64::MIN_POSITIVE);
        let larger = changes(&baseline, &[(5, Unexplained, Some(more), spreads[1], 4)], false);
        prop_assert_eq!(larger, [BaselineChange::Larger]);
    }

    /// Whatever bytes a file has, reading it ends with a baseline or with one line.
    #[test]
    fn no_bytes_bring_the_reader_down(cut in 0..900_usize, at in 0..900_usize, byte in any::<u8>()) {
        let baseline = known(&[(5, Unexplained, Some(9.0), 2.0, 4)], false);
        let mut text = serde_json::to_vec_pretty(&baseline).unwrap();
        text.truncate(text.len().saturating_sub(cut % text.len()));
        let at = at % text.len();
        text[at] = byte;
        if let Err(error) = DriftBaseline::parse(&text, "known.json".as_ref()) {
            prop_assert!(!error.to_string().contains('\n'));
        }
    }
}
