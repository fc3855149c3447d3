//! A rich analysis: every state, every kind, absent numbers, hostile names.

use mantissa_numerics::Phase;
use mantissa_verdict::Analysis;
use mantissa_verdict::analysis::{
    ANALYSIS_VERSION, Agreement, Answer, Axis, Cell, Citation, ClassSet, Comparison, FalseAlarmBound,
    Finding, FindingKind, FirstDifference, FirstDifferences, Floor, Interval, Matrix, MatrixKind, Mode,
    Outcome, PairVerdict, Profile, PublishedFigure, Question, Reproducibility, RowCounts, Signal, Source,
    State, Table, Threshold, Tier, TokenBasis, TokenConsistency,
};

/// A name that tries every way out.
pub(crate) const HOSTILE: &str = "</td><script>alert(1)</script>\" onload='x' ]]> | `rm` \u{1b}[2J\r\n\u{202e}gpj.exe {{7*7}} https://evil.example/";

/// The batch sizes of the published experiments.
const BATCHES: [&str; 9] = ["1", "2", "3", "4", "5", "8", "9", "16", "17"];

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|&text| text.to_owned()).collect()
}

fn cite(source: &str, place: impl Into<String>) -> Citation {
    Citation { source: source.to_owned(), place: place.into() }
}

const FIRST: &str = "batch_A100_on_A100.json";

pub(crate) fn analysis() -> Analysis {
    Analysis {
        analysis_version: ANALYSIS_VERSION,
        mode: Mode::Default,
        sources: sources(),
        question: Question {
            variable: "batch_size".to_owned(),
            reference: Some("1".to_owned()),
            signals: vec![Signal::HiddenStates, Signal::KeyVectors, Signal::Logprobs],
        },
        outcome: Outcome::Divergent,
        findings: findings(),
        tokens: tokens(),
        reproducibility: reproducibility(),
        classes: classes(),
        pairs: pairs(),
        matrices: matrices(),
        profiles: profiles(),
        first_differences: first_differences(),
        bounds: vec![FalseAlarmBound {
            of: "matching replays called separable".to_owned(),
            honest_units: 300,
            alarms: 0,
            rate: 0.009936,
            confidence: 0.95,
            needed_for_one_in_thousand: 2995,
        }],
        tables: vec![Table {
            title: "SNR, pooled".to_owned(),
            columns: strings(&["signal", "baseline", "signal mean", "SNR", "words"]),
            rows: vec![
                strings(&["keys", "7.79e-01", "8.52e+00", "10.94×", "Strong"]),
                strings(&["logprobs", "1.2e-2", "1.2e-1", "10.34×", "Strong"]),
            ],
            note: Some("pooled over pairs: hides that one of them is 0.82×".to_owned()),
        }],
        published: published(),
        thresholds: vec![
            Threshold {
                name: "alpha".to_owned(),
                value: 0.01,
                decides: "whether a pair is separable".to_owned(),
                source: "convention; corrected for multiplicity by Holm (1979)".to_owned(),
            },
            Threshold {
                name: "rounding_ratio".to_owned(),
                value: 20.0,
                decides: "whether a difference is too large to be rounding".to_owned(),
                source: "measured: other kernels stay below 2, other weights start at 21".to_owned(),
            },
        ],
    }
}

fn sources() -> Vec<Source> {
    vec![
        Source {
            name: FIRST.to_owned(),
            digest: "5f1b0c7d".repeat(8),
            layout: "batch_verification".to_owned(),
            models: strings(&["Qwen/Qwen2.5-7B-Instruct"]),
            hardware: strings(&["NVIDIA A100-SXM4-80GB"]),
            date: Some("2025-10-01T12:00:00".to_owned()),
            warnings: strings(&["13 numbers were written as Infinity, which is not JSON; read as absent"]),
        },
        Source {
            name: HOSTILE.to_owned(),
            digest: "00ff11ee".repeat(8),
            layout: "activations".to_owned(),
            models: strings(&[HOSTILE]),
            hardware: strings(&["NVIDIA H100 NVL", HOSTILE]),
            date: None,
            warnings: vec![HOSTILE.to_owned()],
        },
    ]
}

fn findings() -> Vec<Finding> {
    let finding =
        |kind, sentence: &str, citations| Finding { kind, sentence: sentence.to_owned(), citations };
    vec![
        finding(
            FindingKind::OneClass,
            "Prefill at batch 4, 5, 8, 9, 16 and 17 is one equivalence class: all 3 references have equal bits, so no test on this evidence can tell them apart.",
            vec![
                cite(FIRST, "matrices.prefill_key_vectors[3..9]"),
                cite(FIRST, "matrices.prefill_logprobs[3..9]"),
            ],
        ),
        finding(
            FindingKind::NotSeparable,
            "sdpa and flash_attention_2 are not separable across GPUs: their distance is 0.82 times their own noise floor.",
            vec![cite(FIRST, "comparisons[17].prefill_distances.key_vectors_mean")],
        ),
        finding(FindingKind::Separable, "eager is told apart from both.", vec![]),
        finding(
            FindingKind::TokensDiverge,
            "ref_2 emits other tokens from output 11 on.",
            vec![cite(FIRST, "line 412")],
        ),
        finding(FindingKind::NonDeterministic, "gptq decode differs between repetitions.", vec![]),
        finding(FindingKind::OtherWeights, "AWQ and GPTQ differ by 21 to 105 floors: other weights.", vec![]),
        finding(
            FindingKind::Published,
            "The printed 4.9× averages three zeros with one floor.",
            vec![cite("unlisted.log", "line 7")],
        ),
        finding(FindingKind::Missing, HOSTILE, vec![cite(HOSTILE, HOSTILE)]),
    ]
}

fn tokens() -> Vec<TokenConsistency> {
    let row = |reference: &str, groups: Vec<Vec<String>>, part_at, basis| TokenConsistency {
        reference: reference.to_owned(),
        groups,
        part_at,
        stopped: if reference == "ref_1" { vec![("9".to_owned(), 12)] } else { vec![] },
        basis,
        citations: vec![cite(FIRST, format!("measurements.{reference}"))],
    };
    vec![
        row("ref_0", vec![strings(&BATCHES)], None, TokenBasis::Ids),
        row("ref_1", vec![strings(&BATCHES)], None, TokenBasis::Declared),
        row(
            "ref_2",
            vec![strings(&BATCHES[..7]), strings(&["16"]), vec![HOSTILE.to_owned()]],
            Some(11),
            TokenBasis::Ids,
        ),
        row("ref_3", vec![], None, TokenBasis::Unknown),
    ]
}

fn reproducibility() -> Vec<Reproducibility> {
    let row = |setup: &str, phase, repetitions, state, distance, tokens_part, note: &str| Reproducibility {
        setup: setup.to_owned(),
        phase,
        repetitions: (repetitions > 0).then_some(repetitions),
        state,
        distance,
        tokens_part: (repetitions > 0).then_some(tokens_part),
        note: note.to_owned(),
        citations: vec![cite(FIRST, format!("runs of {setup}"))],
    };
    vec![
        row("awq", Some(Phase::Prefill), 10, State::Equal, Some(0.0), false, "all ten are equal to the bit"),
        row(
            "gptq",
            Some(Phase::Decode),
            3,
            State::Different,
            Some(0.0467),
            true,
            "one of three pairs can be compared",
        ),
        row("awq_marlin", None, 1, State::Missing, None, false, "one repetition stored"),
        row("模型-eager", Some(Phase::Decode), 2, State::Incomparable, None, true, "tokens part at output 0"),
    ]
}

fn classes() -> Vec<ClassSet> {
    let set = |phase, scope: &str, classes: &[&[&str]], unplaced| ClassSet {
        phase,
        signals: vec![Signal::KeyVectors, Signal::Logprobs],
        scope: scope.to_owned(),
        classes: classes.iter().map(|class| strings(class)).collect(),
        unplaced,
        basis: "bits of signals".to_owned(),
        references: 3,
        citations: vec![cite(FIRST, format!("matrices.{}_key_vectors", phase.name()))],
    };
    vec![
        set(Phase::Prefill, "A100-SXM", &[&["1"], &["2", "3"], &["4", "5", "8", "9", "16", "17"]], vec![]),
        set(
            Phase::Decode,
            "H100-NVL, claimed",
            &[&["1", "2", "3"], &["4", "5"], &["8"], &["9"], &["16"], &["17"]],
            vec![
                ("32".to_owned(), "its tokens part at output 0".to_owned()),
                (HOSTILE.to_owned(), "no signals stored".to_owned()),
            ],
        ),
    ]
}

fn pairs() -> Vec<PairVerdict> {
    let floor = |mean: f64| Floor {
        mean,
        max: mean * 1.5,
        n: 6,
        of: "matching replays on other hardware".to_owned(),
    };
    let pair = |comparison, a: &str, b: &str, signal, answer, tier| PairVerdict {
        comparison,
        a: a.to_owned(),
        b: b.to_owned(),
        phase: Phase::Prefill,
        signal,
        answer,
        tier,
        distance: None,
        floor: None,
        ratio: None,
        interval: None,
        ratio_bound: None,
        needed: None,
        p_value: None,
        p_adjusted: None,
        n: 6,
        incomparable: 0,
        rows: None,
        sentence: format!("{a} and {b}: see the numbers."),
        citations: vec![],
    };
    vec![
        PairVerdict {
            distance: Some(0.6398),
            floor: Some(floor(0.7792)),
            ratio: Some(0.8211),
            sentence: "sdpa and flash_attention_2 cannot be told apart: 0.82 times their own floor over 6 references.".to_owned(),
            citations: vec![cite(FIRST, "matrix[1][2]"), cite(FIRST, "matrix[2][1]"), cite(FIRST, "matrix[1][1]"), cite(FIRST, "matrix[2][2]"), cite(FIRST, "notes")],
            ..pair(Comparison::CrossHardware, "sdpa on H100-NVL", "flash_attention_2 on A100-SXM", Signal::KeyVectors, Answer::NotSeparable, Tier::Aggregate)
        },
        PairVerdict {
            distance: Some(8.5201),
            floor: Some(floor(0.7786)),
            ratio: Some(10.943),
            interval: Some(Interval { low: 9.8, high: 12.2, confidence: 0.95 }),
            p_value: Some(0.0000123),
            p_adjusted: Some(0.0000369),
            incomparable: 2,
            citations: vec![cite(FIRST, "matrix[0][1]")],
            ..pair(Comparison::CrossHardware, "eager on H100-NVL", "sdpa on A100-SXM", Signal::KeyVectors, Answer::Separable, Tier::Statistical)
        },
        PairVerdict {
            distance: Some(0.0),
            citations: vec![cite(FIRST, "matrix[4][5]")],
            ..pair(Comparison::WithinHardware, "5", "9", Signal::Logprobs, Answer::Identical, Tier::Exact)
        },
        PairVerdict {
            distance: Some(0.25),
            citations: vec![cite(FIRST, "matrix[0][5]")],
            ..pair(Comparison::WithinHardware, "1", "8", Signal::HiddenStates, Answer::Inconclusive, Tier::Statistical)
        },
        PairVerdict {
            n: 0,
            incomparable: 1_234,
            rows: Some(RowCounts { equal: 40, different: 0, missing: 4_096, incomparable: 2 }),
            ..pair(Comparison::CrossHardwareBaseline, HOSTILE, "模型-eager", Signal::Logprobs, Answer::Incomparable, Tier::None)
        },
    ]
}

fn matrices() -> Vec<Matrix> {
    let cell = |state, value, place: String| Cell { state, value, n: 3, citation: Some(cite(FIRST, place)) };
    let batch = |i: usize, j: usize| {
        let place = format!("matrices.prefill_key_vectors[{i}][{j}]");
        match (i.min(j), i.max(j)) {
            (i, j) if i == j || i >= 3 => cell(State::Equal, Some(0.0), place),
            (0, 7) => cell(State::Missing, None, place),
            (0, 8) => cell(State::Incomparable, None, place),
            (1, 2) => cell(State::Different, None, place),
            (i, j) => {
                let distance = [0.000_213, 0.041_7, 7.25][i] * f64::from(u32::try_from(j).expect("small"));
                cell(State::Different, Some(distance), place)
            }
        }
    };
    let hostile = strings(&["A100-SXM", HOSTILE]);
    vec![
        Matrix {
            title: "Batch sizes".to_owned(),
            kind: MatrixKind::DecodePrefill,
            phase: Phase::Prefill,
            signal: Signal::KeyVectors,
            reference: None,
            statistic: "mean L2 over positions".to_owned(),
            rows: strings(&BATCHES),
            columns: strings(&BATCHES),
            cells: (0..9).map(|i| (0..9).map(|j| batch(i, j)).collect()).collect(),
        },
        Matrix {
            title: HOSTILE.to_owned(),
            kind: MatrixKind::CrossHardware,
            phase: Phase::Decode,
            signal: Signal::HiddenStates,
            reference: Some("ref_2".to_owned()),
            statistic: "mean L2 over positions".to_owned(),
            rows: hostile.clone(),
            columns: hostile,
            cells: vec![
                vec![
                    cell(State::Equal, Some(0.0), "a".to_owned()),
                    Cell { citation: None, ..cell(State::Different, Some(1.5), String::new()) },
                ],
                vec![
                    cell(State::Different, Some(2.5), "b".to_owned()),
                    cell(State::Missing, None, "c".to_owned()),
                ],
            ],
        },
    ]
}

fn profiles() -> Vec<Profile> {
    let layers = |scale: f64, gap: i64| {
        (1..=28_u32)
            .map(|layer| {
                let grown = scale * f64::from(layer) * f64::from(layer);
                let at = i64::from(layer);
                (
                    at,
                    if at == gap {
                        None
                    } else if layer < 3 {
                        Some(0.0)
                    } else {
                        Some(grown)
                    },
                )
            })
            .collect()
    };
    let profile = |a: &str, b: &str, axis, points| Profile {
        a: a.to_owned(),
        b: b.to_owned(),
        phase: Phase::Decode,
        signal: Signal::HiddenStates,
        axis,
        points,
        citation: Some(cite(FIRST, format!("runs of {a}"))),
    };
    vec![
        profile("1", "8", Axis::Layer, layers(0.000_02, 0)),
        profile("1", "17", Axis::Layer, layers(0.003, 12)),
        profile("eager", HOSTILE, Axis::Layer, layers(0.08, 0)),
        profile(
            "1",
            "2",
            Axis::Token,
            vec![(0, Some(0.125)), (1, Some(0.25)), (2, None), (3, Some(0.1875)), (4, Some(0.5))],
        ),
    ]
}

fn first_differences() -> Vec<FirstDifferences> {
    let first = |b: &str, layer: u32, token| FirstDifference {
        a: "1".to_owned(),
        b: b.to_owned(),
        reference: "ref_0".to_owned(),
        site: Some(format!("layer_{layer}.k")),
        layer: Some(layer),
        token,
    };
    vec![FirstDifferences {
        phase: Phase::Decode,
        signal: Signal::KeyVectors,
        layers: vec![1, 2, 7, 14, 21, 28],
        tokens: vec![1, 2, 3, 8, 16],
        found: vec![first("2", 7, 1), first("8", 7, 1), first(HOSTILE, 28, 16)],
    }]
}

fn published() -> Vec<PublishedFigure> {
    let figure = |name: &str, printed: &str, recomputed: Option<&str>, agreement, note: Option<&str>| {
        PublishedFigure {
            name: name.to_owned(),
            printed: printed.to_owned(),
            recomputed: recomputed.map(str::to_owned),
            agreement,
            note: note.map(str::to_owned),
            citation: cite(FIRST, format!("line of {name}")),
        }
    };
    vec![
        figure("SNR of key vectors", "10.94×", Some("10.94×"), Agreement::EveryDigit, None),
        figure(
            "σ of the diagonal",
            "1.23e-02",
            Some("1.22e-02 to 1.24e-02"),
            Agreement::WithinRounding,
            Some("inputs have 3 digits"),
        ),
        figure(
            "snr_meaningful",
            "1.048",
            Some("1.000"),
            Agreement::DoesNotFollow,
            Some("all columns are equal"),
        ),
        figure(HOSTILE, "4.9×", None, Agreement::NotInFile, Some(HOSTILE)),
    ]
}
