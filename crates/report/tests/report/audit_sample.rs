//! Audits: one with something in each of its places, and such as a verification of many claims gives.

use mantissa_evidence::{CatalogBasis, Digest, UsedCatalog};
use mantissa_numerics::Phase;
use mantissa_verdict::Audit;
use mantissa_verdict::analysis::{Cell, Matrix, MatrixKind, Outcome, Signal, Source, State, Threshold, Tier};
use mantissa_verdict::audit::{
    AUDIT_VERSION, AuditedModel, ClaimAnswer, ClaimVerdict, Contested, Cost, Difference, Planted,
    ReplayState, ReplayVerdict, RestsOn, SignalDistance, SpotCheck,
};

const HOSTILE: &str = "a\u{1b}[2J | <b>`b`</b> \u{202e}";

/// A conflict that a claim settled.
fn contested() -> Vec<Contested> {
    vec![Contested {
        about: "the batch_size".to_owned(),
        config_id: Some(HOSTILE.to_owned()),
        statements: vec![["here".to_owned(), HOSTILE.to_owned()], ["there".to_owned(), "2".to_owned()]],
        more: 0,
        settled: true,
        sentence: format!("the file contradicts itself about the batch_size: here says '{HOSTILE}'"),
    }]
}

fn spot_check(first: Difference) -> SpotCheck {
    SpotCheck {
        config_id: "c".to_owned(),
        seed: 7,
        population: 1_000_000,
        recorded: 4_000_000,
        drawn: 700,
        distinct: 699,
        different: 1,
        first: Some(first),
        missed: SpotCheck::missed(700),
        kernels: vec![("mlp_out".to_owned(), 700)],
        out_of_reach: vec!["attn_out".to_owned()],
    }
}

/// An audit with something in each of its places.
pub(crate) fn audit() -> Audit {
    let first = Difference {
        run: "ref 0 rep 2".to_owned(),
        phase: Phase::Decode,
        step: 3,
        position: Some(-1),
        site: "layer_4.attn_out".to_owned(),
        element: Some(17),
        evidence: "0x3f80".to_owned(),
        replay: "0x3f81".to_owned(),
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    Audit {
        audit_version: AUDIT_VERSION,
        sources: vec![Source {
            name: HOSTILE.to_owned(),
            digest: "ab".repeat(32),
            layout: "container".to_owned(),
            warnings: vec!["read leniently".to_owned()],
            ..Source::default()
        }],
        model: Some(AuditedModel {
            name: "model".to_owned(),
            claimed: vec![HOSTILE.to_owned()],
            weights_digest: Some("cd".repeat(32)),
            stated_by_evidence: true,
        }),
        replay: "decode".to_owned(),
        outcome: Outcome::Divergent,
        candidates: names(&["cpu_bs1_eager_bf16", "cpu_bs2_eager_bf16", "cpu_bs4_eager_bf16"]),
        claims: vec![ClaimVerdict {
            config_id: HOSTILE.to_owned(),
            claim: Some("cpu_bs1_eager_bf16".to_owned()),
            answer: ClaimAnswer::Contradicted,
            tier: Tier::Exact,
            sentence: "contradicted: fits {cpu_bs2_eager_bf16, cpu_bs4_eager_bf16} instead".to_owned(),
            fits: vec![names(&["cpu_bs2_eager_bf16", "cpu_bs4_eager_bf16"])],
            cannot_tell_apart: names(&["{cpu_bs2_eager_bf16, cpu_bs4_eager_bf16}: the same is computed"]),
            not_checked: names(&["h200_bs1_eager_bf16: not covered"]),
            enough: None,
            rests_on: RestsOn {
                runs: 1,
                values: 12_345,
                recorded: 12_345,
                rows: 60,
                tokens_fed: 542,
                tokens_checked: 30,
            },
            replays: vec![ReplayVerdict {
                class: names(&["cpu_bs1_eager_bf16"]),
                claimed: true,
                state: ReplayState::Different,
                first: Some(first.clone()),
                values: 4_000,
                different: 12,
                passes: [5, 31],
                distances: vec![SignalDistance {
                    phase: Phase::Decode,
                    signal: Signal::KeyVectors,
                    rows: 30,
                    different: 4,
                    mean_l2: Some(0.125),
                }],
                p_value: None,
                p_adjusted: None,
            }],
        }],
        matrices: Vec::new(),
        cost: Cost {
            candidates: 8,
            classes: 4,
            passes_planned: 60,
            passes_alone: 248,
            rows_planned: 900,
            rows_alone: 28_520,
            stopped_early: 3,
        },
        consistency: Vec::new(),
        contested: contested(),
        spot_checks: vec![spot_check(first)],
        self_test: vec![Planted {
            deviation: "one bit".to_owned(),
            dishonest: true,
            answer: ClaimAnswer::FitsNone,
            changed: true,
            passed: true,
            found: "fits none of the candidates".to_owned(),
        }],
        notes: names(&["A note."]),
        thresholds: Vec::new(),
        catalogs: [(CatalogBasis::Verified, "part of the program"), (CatalogBasis::Measured, "a file")]
            .map(|(basis, text)| UsedCatalog {
                hardware: "h200".to_owned(),
                cublas: "13.1.0".to_owned(),
                basis,
                asked: basis == CatalogBasis::Verified,
                digest: Digest::of_bytes(text.as_bytes()),
            })
            .to_vec(),
    }
}

const SIZES: [u32; 6] = [1, 2, 4, 8, 16, 32];

fn candidate(size: u32, attention: &str) -> String {
    format!("h200_bs{size}_{attention}_bf16")
}

/// Batches of 2 and 4, and of 16 and 32, run the same kernels.
fn class(size: u32) -> Vec<u32> {
    match size {
        1 => vec![1],
        2 | 4 => vec![2, 4],
        8 => vec![8],
        _ => vec![16, 32],
    }
}

/// How far keys of two setups lie apart; nothing where they run the same kernels.
fn apart(ran: u32, size: u32, eager: bool) -> f64 {
    let far = f64::from(ran.abs_diff(size)) * 0.003 + 0.000_8;
    match (eager, class(ran) == class(size)) {
        (true, true) => 0.0,
        (true, false) => far,
        (false, _) => 1.5 + far,
    }
}

/// One claim is not true: it was run as a batch of 1.
const fn ran_as(size: u32) -> u32 {
    if size == 8 { 1 } else { size }
}

/// The replay of a candidate and its class beside a claim.
fn replay(claim: u32, size: u32, attention: &str) -> ReplayVerdict {
    let eager = attention == "eager";
    let far = apart(ran_as(claim), size, eager);
    let prefill = if eager { 0.0 } else { far };
    let lanes = [
        (Phase::Prefill, Signal::HiddenStates, prefill * 40.0),
        (Phase::Prefill, Signal::KeyVectors, prefill),
        (Phase::Decode, Signal::HiddenStates, far * 30.0),
        (Phase::Decode, Signal::KeyVectors, far),
        (Phase::Decode, Signal::Logprobs, far * 0.05),
    ];
    let distance = |(phase, signal, far)| SignalDistance {
        phase,
        signal,
        rows: 84,
        different: if far > 0.0 { 84 } else { 0 },
        mean_l2: Some(far),
    };
    let equal = far <= 0.0;
    let first = Difference {
        run: "ref 0 rep 0".to_owned(),
        phase: if eager { Phase::Decode } else { Phase::Prefill },
        step: if eager { u64::from(size % 7) } else { 0 },
        position: Some(if eager { -1 } else { -3 }),
        site: if eager { format!("layer_{}.k", 4 + size % 5) } else { "layer_1.attn_out".to_owned() },
        element: Some(5),
        evidence: "0x3f80".to_owned(),
        replay: "0x3f81".to_owned(),
    };
    ReplayVerdict {
        class: class(size).into_iter().map(|size| candidate(size, attention)).collect(),
        claimed: eager && class(claim).contains(&size),
        state: if equal { ReplayState::Equal } else { ReplayState::Different },
        first: (!equal).then_some(first),
        values: 196_350,
        different: if equal { 0 } else { 9_411 },
        passes: [17, 17],
        distances: lanes.map(distance).to_vec(),
        p_value: None,
        p_adjusted: None,
    }
}

fn claim(size: u32) -> ClaimVerdict {
    let honest = ran_as(size) == size;
    let own: Vec<String> = class(size).into_iter().map(|size| candidate(size, "eager")).collect();
    let sentence = if honest {
        format!("consistent with class {{{}}}", own.join(", "))
    } else {
        format!("contradicted: fits {{{}}} instead; first difference: decode step 1", candidate(1, "eager"))
    };
    let alike = format!("{{{}}}: every kernel of every pass computes the same", own.join(", "));
    ClaimVerdict {
        config_id: candidate(size, "eager"),
        claim: Some(candidate(size, "eager")),
        answer: if honest { ClaimAnswer::Consistent } else { ClaimAnswer::Contradicted },
        tier: Tier::Exact,
        sentence,
        fits: vec![class(ran_as(size)).into_iter().map(|size| candidate(size, "eager")).collect()],
        cannot_tell_apart: if own.len() > 1 { vec![alike] } else { vec![] },
        not_checked: vec![format!("{}: no recipe covers this attention", candidate(1, "flash_attention_2"))],
        enough: None,
        rests_on: RestsOn {
            runs: 3,
            values: 196_350,
            recorded: 196_350,
            rows: 918,
            tokens_fed: 177,
            tokens_checked: 16,
        },
        replays: ["eager", "sdpa_flash"]
            .into_iter()
            .flat_map(|attention| [1, 2, 8, 16].map(|other| replay(size, other, attention)))
            .collect(),
    }
}

/// Of all prompts, or of one; on prompt 2 no batch differs.
fn matrix(reference: Option<u32>, signal: Signal, scale: f64, candidates: &[String]) -> Matrix {
    let scale = match reference {
        Some(2) => 0.0,
        Some(prompt) => scale * (0.6 + 0.3 * f64::from(prompt)),
        None => scale,
    };
    let cell = |size: u32, candidate: &String| {
        let other = SIZES.into_iter().find(|size| candidate.contains(&format!("bs{size}_")));
        let Some(other) = other.filter(|_| !candidate.contains("flash_attention_2")) else {
            return Cell { state: State::Missing, value: None, n: 0, citation: None };
        };
        let far = scale * apart(ran_as(size), other, candidate.contains("eager"));
        let state = if far > 0.0 { State::Different } else { State::Equal };
        Cell { state, value: Some(far), n: 3, citation: None }
    };
    Matrix {
        title: "Claimed × verified".to_owned(),
        kind: MatrixKind::ClaimedVerified,
        phase: Phase::Decode,
        signal,
        reference: reference.map(|prompt| prompt.to_string()),
        statistic: "mean L2 over rows".to_owned(),
        rows: SIZES.map(|size| candidate(size, "eager")).to_vec(),
        columns: candidates.to_vec(),
        cells: SIZES.map(|size| candidates.iter().map(|one| cell(size, one)).collect()).to_vec(),
    }
}

/// Batch sizes as claims, each replayed as every other and by other attention: matrices, distances, candidates that no
/// recipe covers.
pub(crate) fn full() -> Audit {
    let candidates: Vec<String> = ["eager", "sdpa_flash"]
        .into_iter()
        .flat_map(|attention| SIZES.map(|size| candidate(size, attention)))
        .chain([1, 2].map(|size| candidate(size, "flash_attention_2")))
        .collect();
    let scales = [(Signal::HiddenStates, 30.0), (Signal::KeyVectors, 1.0), (Signal::Logprobs, 0.05)];
    Audit {
        sources: vec![Source {
            name: "claimed_batches.json".to_owned(),
            digest: "5f1b0c7d".repeat(8),
            layout: "experiment_json".to_owned(),
            models: vec!["Qwen/Qwen2.5-7B-Instruct".to_owned()],
            hardware: vec!["NVIDIA H200".to_owned()],
            date: Some("2026-11-02".to_owned()),
            warnings: vec!["the file states no storage format: taken as bf16".to_owned()],
        }],
        model: Some(AuditedModel {
            name: "qwen2.5-7b-instruct".to_owned(),
            claimed: vec!["Qwen/Qwen2.5-7B-Instruct".to_owned()],
            weights_digest: Some("23e7a30f".repeat(8)),
            stated_by_evidence: true,
        }),
        outcome: Outcome::Divergent,
        claims: SIZES.map(claim).to_vec(),
        matrices: scales
            .into_iter()
            .flat_map(|(signal, scale)| {
                [None, Some(0), Some(1), Some(2)].map(|prompt| matrix(prompt, signal, scale, &candidates))
            })
            .collect(),
        candidates,
        contested: Vec::new(),
        spot_checks: Vec::new(),
        self_test: Vec::new(),
        ..audit()
    }
}

/// What contradicts itself, or says too little: no replay went to its end, and repetitions differ.
pub(crate) fn open() -> Audit {
    let mut audit = full();
    audit.outcome = Outcome::NotEnoughEvidence;
    audit.matrices.clear();
    audit.claims.truncate(2);
    for (claim, answer) in
        audit.claims.iter_mut().zip([ClaimAnswer::ContradictsItself, ClaimAnswer::NotEnoughEvidence])
    {
        claim.answer = answer;
        claim.tier = Tier::Statistical;
        "not enough evidence about the claim: 2 repetitions are too few for any corrected p-value below 0.05"
            .clone_into(&mut claim.sentence);
        for replay in &mut claim.replays {
            replay.distances.clear();
            replay.passes = [3, 17];
            if replay.state == ReplayState::Equal {
                replay.state = ReplayState::WithinNoise;
                replay.p_adjusted = Some(0.42);
            }
        }
        claim.replays[1].state = ReplayState::TooFewRepetitions;
    }
    audit.contested = contested();
    audit.contested[0].settled = false;
    audit.thresholds = vec![Threshold {
        name: "alpha".to_owned(),
        value: 0.05,
        decides: "largest Holm-corrected p-value that contradicts a candidate".to_owned(),
        source: "convention (Fisher 1925)".to_owned(),
    }];
    audit
}
