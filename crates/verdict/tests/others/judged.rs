//! Goldens on the published files: what their data support, as strings and exact values.

use mantissa_numerics::Phase;
use mantissa_published::{Opened, open};
use mantissa_testkit::{PUBLISHED, published};
use mantissa_verdict::analysis::{
    Answer, ClassSet, Comparison, FindingKind, Outcome, PairVerdict, Signal, Source, State, Tier,
};
use mantissa_verdict::{Analysis, Options, VerdictError, judge};

use crate::contradictions::contradictions;

const ACTIVATIONS: [&str; 5] = [
    "activations_A100-80GB-PCIe.json",
    "activations_A100-SXM4-80GB.json",
    "activations_H100-NVL.json",
    "activations_H200.json",
    "activations_L40S.json",
];

fn judged(names: &[&str], options: &Options) -> Result<Analysis, VerdictError> {
    let opened: Vec<Opened> = names.iter().map(|name| open(&published(name)).unwrap()).collect();
    let sources: Vec<_> = opened.iter().map(|file| (Source::from(file), &file.content)).collect();
    let analysis = judge(&sources, options)?;
    assert_eq!(contradictions(&analysis), Vec::<String>::new(), "{names:?}");
    Ok(analysis)
}

fn one(name: &str) -> Analysis {
    judged(&[name], &Options::default()).unwrap()
}

fn by_hardware() -> Analysis {
    judged(&ACTIVATIONS, &Options { variable: Some("hardware".into()), ..Options::default() }).unwrap()
}

fn pair<'a>(
    analysis: &'a Analysis,
    question: (Comparison, Phase, Signal),
    a: &str,
    b: &str,
) -> &'a PairVerdict {
    let found: Vec<&PairVerdict> = analysis
        .pairs
        .iter()
        .filter(|pair| (pair.comparison, pair.phase, pair.signal) == question && pair.a == a && pair.b == b)
        .collect();
    assert_eq!(found.len(), 1, "{question:?} {a} {b}");
    found[0]
}

fn classes<'a>(analysis: &'a Analysis, phase: Phase, scope: &str) -> &'a ClassSet {
    let mut found = analysis.classes.iter().filter(|set| set.phase == phase && set.scope == scope);
    let set = found.next().unwrap_or_else(|| panic!("{scope} in {:?}", scopes(analysis)));
    assert!(found.next().is_none(), "{scope}");
    set
}

fn scopes(analysis: &Analysis) -> Vec<&str> {
    analysis.classes.iter().map(|set| set.scope.as_str()).collect()
}

/// `1|2 3|4 5`: classes in one line.
fn short(set: &ClassSet) -> String {
    let classes: Vec<String> = set.classes.iter().map(|class| class.join(" ")).collect();
    classes.join("|")
}

fn sentences(analysis: &Analysis, kind: FindingKind) -> Vec<&str> {
    let of_kind = analysis.findings.iter().filter(|finding| finding.kind == kind);
    of_kind.map(|finding| finding.sentence.as_str()).collect()
}

/// Every number of a pair verdict has a place.
fn cited(analysis: &Analysis) {
    assert!(!analysis.pairs.is_empty() && !analysis.findings.is_empty());
    for pair in &analysis.pairs {
        assert!(pair.distance.is_none() || !pair.citations.is_empty(), "{pair:#?}");
        assert!(pair.sentence.ends_with('.'), "{}", pair.sentence);
    }
    for finding in &analysis.findings {
        assert!(!finding.citations.is_empty(), "{finding:#?}");
    }
}

pub(super) fn prefill_at_batch_5_and_9_is_one_class() {
    let analysis = one("prefill_decode_batch_matrix.log");
    let replays = classes(&analysis, Phase::Prefill, "batch_size, replays on NVIDIA A100-SXM4-80GB");
    assert_eq!(short(replays), "4|5 9|8|16|17");
    assert_eq!(replays.signals, [Signal::KeyVectors, Signal::Logprobs]);
    assert_eq!((replays.references, replays.basis.as_str()), (3, "columns equal in every cell as printed"));
    // Within prefill the zeros are exact on the two references whose tokens agree.
    let within = classes(&analysis, Phase::Prefill, "batch_size on NVIDIA A100-SXM4-80GB");
    assert_eq!((short(within).as_str(), within.references), ("4|5 9|8|16|17", 2));
    let decode = classes(&analysis, Phase::Decode, "batch_size on NVIDIA A100-SXM4-80GB");
    assert_eq!(short(decode), "4|5|8|9|16|17");
    cited(&analysis);
}

pub(super) fn ref_2_is_divergent_and_not_noisy() {
    let analysis = one("prefill_decode_batch_matrix.log");
    assert_eq!(
        sentences(&analysis, FindingKind::TokensDiverge),
        [
            "ref_2 is divergent, not noisy: its outputs part at index 17 into {4, 16, 17}, {5, 8}, {9}; distances behind that \
         are over other texts and are left out."
        ]
    );
    let parted: Vec<_> = analysis.tokens.iter().map(|one| (one.reference.as_str(), one.part_at)).collect();
    assert_eq!(parted, [("ref_0", None), ("ref_1", None), ("ref_2", Some(17))]);
    // Its distances enter no average and no pair of setups that emitted other tokens.
    let average = analysis
        .matrices
        .iter()
        .find(|matrix| matrix.title.contains("key vectors, decode × prefill, average over"))
        .unwrap();
    assert!(average.title.ends_with("average over ref_0 and ref_1"), "{}", average.title);
    assert_eq!(average.cells[0][0].n, 2);
    // (0.300 + 1.54) / 2
    assert!((average.cells[0][0].value.unwrap() - 0.92).abs() < 1e-12);
    let keys = (Comparison::DecodeByPrefill, Phase::Prefill, Signal::KeyVectors);
    let of_replays = |a: &str, b: &str| {
        let found = analysis.pairs.iter().find(|pair| {
            (pair.comparison, pair.phase, pair.signal) == keys
                && pair.a == a
                && pair.b == b
                && pair.floor.is_some()
        });
        found.unwrap().clone()
    };
    assert_eq!((of_replays("4", "5").n, of_replays("4", "5").incomparable), (2, 1));
    assert_eq!((of_replays("4", "16").n, of_replays("4", "16").incomparable), (3, 0));
    assert_eq!((of_replays("5", "8").n, of_replays("5", "8").incomparable), (3, 0));
    assert_eq!(analysis.outcome, Outcome::Divergent);
}

pub(super) fn batch_size_is_not_told_from_prefill_replays_of_any_pair() {
    let analysis = one("prefill_decode_batch_matrix.log");
    let replayed: Vec<&PairVerdict> = analysis.pairs.iter().filter(|pair| pair.floor.is_some()).collect();
    assert_eq!(replayed.len(), 30);
    // No pair is told apart, and two or three references exclude no difference either.
    assert!(replayed.iter().all(|pair| (pair.answer, pair.ratio_bound) == (Answer::Inconclusive, None)));
    let five_nine = replayed.iter().find(|pair| pair.a == "5" && pair.b == "9").unwrap();
    assert_eq!((five_nine.ratio, five_nine.p_value), (Some(1.0), Some(1.0)));
}

pub(super) fn averages_tell_how_far_each_pair_is_and_decide_nothing() {
    for name in ["attention_verification_H100_on_A100.json", "attention_cross_hardware_verification.log"] {
        let analysis = one(name);
        for phase in [Phase::Prefill, Phase::Decode] {
            for signal in [Signal::KeyVectors, Signal::Logprobs] {
                let question = (Comparison::CrossHardware, phase, signal);
                let close = pair(&analysis, question, "flash_attention_2", "sdpa");
                assert!(close.ratio < Some(1.3), "{}", close.sentence);
                for other in ["sdpa", "flash_attention_2"] {
                    let far = pair(&analysis, question, "eager", other);
                    assert!(far.ratio > Some(3.0), "{}", far.sentence);
                    for one in [close, far] {
                        assert_eq!((one.answer, one.tier), (Answer::Inconclusive, Tier::Aggregate));
                        assert_eq!((one.p_value, one.n), (None, 0), "averages give no p-value");
                    }
                }
            }
        }
        cited(&analysis);
    }
    let analysis = one("attention_verification_H100_on_A100.json");
    let keys = (Comparison::CrossHardware, Phase::Prefill, Signal::KeyVectors);
    assert_eq!(
        pair(&analysis, keys, "flash_attention_2", "sdpa").sentence,
        "flash_attention_2 and sdpa are shown neither to differ nor to agree by prefill key vectors across NVIDIA H100 NVL \
         and NVIDIA A100-SXM4-80GB: flash_attention_2 evidence lies 0.687 from sdpa replays and 0.834 from its own \
         (0.823×), sdpa evidence lies 0.594 from flash_attention_2 replays and 0.723 from its own (0.821×); the smaller \
         quotient is 0.821, and only averages over references are stored, so nothing can be tested; distances by \
         reference would do."
    );
    assert!(analysis.thresholds.is_empty(), "nothing was tested");
}

pub(super) fn gpus_of_one_family_are_one_class() {
    let analysis = by_hardware();
    let all =
        "across NVIDIA A100 80GB PCIe, NVIDIA A100-SXM4-80GB, NVIDIA H100 NVL, NVIDIA H200 and NVIDIA L40S";
    let set = classes(&analysis, Phase::Prefill, all);
    let hopper: Vec<String> = ["NVIDIA H100 NVL", "NVIDIA H200"]
        .iter()
        .flat_map(|gpu| [1, 2, 4].map(|batch| format!("batch_size_{batch}@{gpu}")))
        .collect();
    let ampere = |batch: u32| {
        ["NVIDIA A100 80GB PCIe", "NVIDIA A100-SXM4-80GB"]
            .map(|gpu| format!("batch_size_{batch}@{gpu}"))
            .to_vec()
    };
    let ada = |batch: u32| vec![format!("batch_size_{batch}@NVIDIA L40S")];
    assert_eq!(set.classes, [ampere(1), ampere(2), ampere(4), hopper, ada(1), ada(2), ada(4)]);
    assert!(set.unplaced.is_empty());
    let shown = analysis
        .reproducibility
        .iter()
        .filter(|one| one.state == State::Equal && one.repetitions == Some(10));
    assert_eq!(shown.count(), 15);
    let bound = &analysis.bounds[0];
    // Ten repetitions of one prompt are one draw: five GPUs of three batch sizes.
    assert_eq!((bound.honest_units, bound.alarms), (15, 0));
    assert_eq!(
        bound.of,
        "exact comparison of the repetitions of a setup; a unit is one setup on one reference prompt, however often \
         repeated; of setups that do not repeat themselves, only prompts that differ count, as alarms"
    );
    let alone = one(ACTIVATIONS[0]);
    assert_eq!((alone.bounds[0].honest_units, alone.bounds[0].alarms), (3, 0));
    cited(&analysis);
}

pub(super) fn a100_h100_and_l40s_are_separable_at_batch_1() {
    let analysis = by_hardware();
    let question = (Comparison::CrossHardwareBaseline, Phase::Prefill, Signal::HiddenStates);
    let gpus =
        ["NVIDIA A100-SXM4-80GB", "NVIDIA H100 NVL", "NVIDIA L40S"].map(|gpu| format!("batch_size_1@{gpu}"));
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        let verdict = pair(&analysis, question, &gpus[a], &gpus[b]);
        assert_eq!((verdict.answer, verdict.tier, verdict.n), (Answer::Separable, Tier::Exact, 1));
        assert!(!verdict.sentence.contains("was not shown"), "ten repetitions are: {}", verdict.sentence);
    }
    let same = pair(&analysis, question, "batch_size_1@NVIDIA H100 NVL", "batch_size_1@NVIDIA H200");
    assert_eq!((same.answer, same.tier), (Answer::Identical, Tier::Exact));
    assert_eq!(analysis.question.variable, "hardware");
}

pub(super) fn gptq_decode_does_not_repeat_itself() {
    let from_log = one("quantization_format_generation.log");
    assert_eq!(
        sentences(&from_log, FindingKind::NonDeterministic),
        [
            "gptq is non-deterministic in decode: the stated distances between its 3 repetitions are 0.0467, infinity and \
         infinity; in 2 of 3 pairs the outputs parted until nothing was left in common."
        ]
    );
    for analysis in [from_log, one("quant_generation_A100.json")] {
        let differing: Vec<_> = analysis
            .reproducibility
            .iter()
            .filter(|one| one.state == State::Different)
            .map(|one| (one.setup.as_str(), one.phase))
            .collect();
        assert_eq!(differing, [("gptq", Some(Phase::Decode))]);
        let question = (Comparison::WithinHardware, Phase::Decode, Signal::Logprobs);
        let verdict = pair(&analysis, question, "gptq", "gptq_marlin");
        assert_eq!(
            (verdict.answer, verdict.tier),
            (Answer::Inconclusive, Tier::None),
            "{}",
            verdict.sentence
        );
        cited(&analysis);
    }
}

pub(super) fn awq_and_gptq_differ_in_weights() {
    let analysis = one("quant_generation_A100.json");
    assert_eq!(
        sentences(&analysis, FindingKind::OtherWeights),
        [
            "awq and gptq; awq and gptq_marlin; awq_marlin and gptq; awq_marlin and gptq_marlin declare other weights \
         (Qwen/Qwen3-8B-AWQ and JunHowie/Qwen3-8B-GPTQ-Int4), and the prefill log-probabilities of each of 4 such pairs \
         lie farther apart than those of all 2 pairs that share weights: the nearest (awq_marlin and gptq) 3.05 nats \
         apart (root mean square over common token ids, 4 references), 25.7 times the largest distance between kernels \
         that share weights (gptq and gptq_marlin: 0.118), with 0.0950 of the probability outside the common candidates."
        ]
    );
    let from_log = one("quantization_format_generation.log");
    assert_eq!(sentences(&from_log, FindingKind::OtherWeights).len(), 1);
    // Tokens parted, so decode distances between the two are no distances.
    let question = (Comparison::WithinHardware, Phase::Decode, Signal::Logprobs);
    for analysis in [&analysis, &from_log] {
        let parted = pair(analysis, question, "awq", "gptq_marlin");
        assert_eq!((parted.answer, parted.distance, parted.incomparable), (Answer::Incomparable, None, 4));
    }
    let parted: Vec<_> = analysis.tokens.iter().map(|one| one.part_at).collect();
    assert_eq!(parted, [Some(11), Some(11), Some(11), Some(5)]);
}

pub(super) fn four_references_neither_separate_marlin_from_plain_kernels_nor_exclude_it() {
    let analysis = one("quant_verification_A100_on_H100.json");
    let ratios = [
        (Phase::Prefill, "awq", "awq_marlin", "0.99"),
        (Phase::Decode, "awq", "awq_marlin", "0.95"),
        (Phase::Prefill, "gptq", "gptq_marlin", "1.03"),
        (Phase::Decode, "gptq", "gptq_marlin", "1.26"),
    ];
    for (phase, a, b, ratio) in ratios {
        let verdict = pair(&analysis, (Comparison::CrossHardware, phase, Signal::Logprobs), a, b);
        assert_eq!((verdict.answer, verdict.tier, verdict.n), (Answer::Inconclusive, Tier::Statistical, 4));
        assert_eq!(format!("{:.2}", verdict.ratio.unwrap()), ratio);
    }
    // Every gptq claim goes to gptq_marlin, and every gptq_marlin claim to itself.
    let decode = (Comparison::CrossHardware, Phase::Decode, Signal::Logprobs);
    let one_way = pair(&analysis, decode, "gptq", "gptq_marlin");
    assert_eq!(one_way.p_value, Some(1.0), "the larger of both directions");
    assert_eq!(
        one_way.sentence,
        "gptq and gptq_marlin are shown neither to differ nor to agree by decode log-probabilities across NVIDIA \
         A100-SXM4-80GB and NVIDIA H100 NVL: gptq evidence lies 0.0940 from gptq_marlin replays and 0.175 from its own \
         (0.538×), gptq_marlin evidence lies 0.156 from gptq replays and 0.0233 from its own (6.72×); the other lies \
         farther in 4 of 8 comparisons, the least 0.274 times as far; p = 1.00 over 4 references (the larger of both \
         directions), 1.00 after Holm's correction for 6 pairs; no such p-value is small enough below 7 references."
    );
    let question = (Comparison::CrossHardware, Phase::Prefill, Signal::Logprobs);
    let weights = pair(&analysis, question, "awq", "gptq_marlin");
    // Four references never reach 0.05, however far the other replays: no threshold overrules the test.
    assert_eq!(
        (weights.answer, weights.tier, weights.p_value, weights.p_adjusted),
        (Answer::Inconclusive, Tier::Statistical, Some(0.0625), Some(0.375))
    );
    assert!(
        weights.sentence.contains("no such p-value is small enough below 7 references"),
        "{}",
        weights.sentence
    );
    let used: Vec<&str> = analysis.thresholds.iter().map(|threshold| threshold.name.as_str()).collect();
    assert_eq!(used, ["alpha", "confidence", "effect"]);
    let summaries = sentences(&analysis, FindingKind::NotEnoughEvidence);
    assert_eq!(
        summaries[0],
        "By prefill log-probabilities across NVIDIA A100-SXM4-80GB and NVIDIA H100 NVL, 6 of 6 pairs are shown neither \
         to differ nor to agree; distances in units of each pair's own floor: 0.986× to 105×; Holm-corrected p for 6 pairs \
         is at least 0.375 over 4 references or more; at least 7 references are needed; torch_version differs too: awq and \
         awq_marlin; awq and gptq; awq and gptq_marlin; awq_marlin and gptq; awq_marlin and gptq_marlin; gptq and \
         gptq_marlin."
    );
    let baselines = sentences(&analysis, FindingKind::Separable);
    assert_eq!(
        baselines[0],
        "The same setup on two machines, by prefill log-probabilities: 4 of 4 pairs differ between NVIDIA A100-SXM4-80GB \
         and NVIDIA H100 NVL, by 0.0461 to 0.382 on average; torch_version differs too; whether either machine repeats \
         itself to the bit, the file does not say."
    );
    assert!(
        sentences(&analysis, FindingKind::Confounded)[0]
            .contains("torch_version (2.9.1+cu128 and 2.9.0+cu128)")
    );
    cited(&analysis);
}

pub(super) fn matching_replays_on_the_same_a100_are_exact_and_group_batch_sizes() {
    let analysis = one("batch_verification_A100_on_A100.json");
    assert!(analysis.matrices.iter().all(|matrix| matrix.cells.len() == 9) && !analysis.matrices.is_empty());
    for matrix in &analysis.matrices {
        for (index, row) in matrix.cells.iter().enumerate() {
            let (state, zero) = (row[index].state, row[index].value.map(f64::to_bits));
            assert_eq!((state, zero), (State::Equal, Some(0)), "{}", matrix.title);
        }
    }
    let scope = "batch_size on NVIDIA A100 80GB PCIe";
    assert_eq!(short(classes(&analysis, Phase::Prefill, scope)), "1|2 3|4 5 8 9 16 17");
    assert_eq!(short(classes(&analysis, Phase::Decode, scope)), "1|2 3|4 5|8 9|16|17");
    assert!(analysis.pairs.iter().all(|pair| pair.tier == Tier::Exact && pair.n == 3));
    let bound = &analysis.bounds[0];
    assert_eq!((bound.honest_units, bound.alarms, bound.needed_for_one_in_thousand), (27, 0, 2996));
    assert_eq!(
        bound.of,
        "exact comparison with the replay of the claimed batch_size on NVIDIA A100 80GB PCIe; a unit is one setup on one \
         reference prompt"
    );
    // The classes say what the pairs would say again.
    assert_eq!(sentences(&analysis, FindingKind::Separable).len(), 2);
    cited(&analysis);
}

pub(super) fn distances_of_an_exact_verifier_show_that_tokens_parted() {
    let analysis = one("batch_verification_A100_on_A100.json");
    assert_eq!(
        sentences(&analysis, FindingKind::TokensDiverge),
        [
            "ref_2 is divergent in decode, although the file states no tokens: matching replays are exactly 0 away, so a \
             distance must be the same both ways where tokens are the same, but distances of key vectors in 26 of 36 pairs \
             and log-probabilities in 30 of 36 pairs are not (they differ by up to 0.550, for 2 and 8); the outputs part \
             into at least {1, 8, 9}, {2, 3, 16, 17}, {4, 5}, and its decode distances are left out of averages."
        ]
    );
    let averages: Vec<&str> = analysis
        .matrices
        .iter()
        .filter(|matrix| matrix.reference.is_none() && matrix.signal == Signal::KeyVectors)
        .map(|matrix| matrix.title.as_str())
        .collect();
    assert_eq!(averages.len(), 2);
    assert!(averages[0].ends_with("average over ref_0, ref_1 and ref_2"), "{}", averages[0]);
    assert!(averages[1].ends_with("average over ref_0 and ref_1"), "{}", averages[1]);
    let keys = (Comparison::WithinHardware, Phase::Decode, Signal::KeyVectors);
    let parted = pair(&analysis, keys, "1", "2");
    assert!(
        parted.sentence.contains("on average without ref_2, where their tokens part"),
        "{}",
        parted.sentence
    );
    let kept = pair(&analysis, keys, "1", "8");
    assert!(!kept.sentence.contains("without"), "same both ways: {}", kept.sentence);
    // Across machines nothing is exact, so nothing can be concluded from distances that differ both ways.
    let across = one("batch_verification_A100_on_H100.json");
    assert!(sentences(&across, FindingKind::TokensDiverge).is_empty());
}

pub(super) fn prefill_replays_on_the_h100_are_one_class() {
    let analysis = one("batch_verification_A100_on_H100.json");
    let replays = "batch_size, replays on NVIDIA H100 PCIe";
    assert_eq!(short(classes(&analysis, Phase::Prefill, replays)), "1 2 3 4 5 8 9 16 17");
    assert_eq!(short(classes(&analysis, Phase::Decode, replays)), "1 2 3|4 5|8|9|16|17");
    let claimed = "batch_size, evidence of NVIDIA A100 80GB PCIe";
    assert_eq!(short(classes(&analysis, Phase::Prefill, claimed)), "1|2 3|4 5 8 9 16 17");
    assert_eq!(short(classes(&analysis, Phase::Decode, claimed)), "1|2 3|4 5|8 9|16|17");
    let prefill = analysis
        .pairs
        .iter()
        .filter(|pair| pair.comparison == Comparison::CrossHardware && pair.phase == Phase::Prefill);
    // 36 pairs of nine batch sizes by two signals.
    assert_eq!(prefill.clone().count(), 72);
    for pair in prefill {
        assert_eq!(
            (pair.answer, pair.ratio, pair.p_value),
            (Answer::NotSeparable, Some(1.0), Some(1.0)),
            "{pair:#?}"
        );
    }
    // Three references tell nothing apart and exclude nothing; equal replays are one class.
    let decode = analysis.pairs.iter().filter(|pair| {
        (pair.comparison, pair.phase, pair.signal)
            == (Comparison::CrossHardware, Phase::Decode, Signal::KeyVectors)
    });
    let count = |answer: Answer| decode.clone().filter(|pair| pair.answer == answer).count();
    assert_eq!((count(Answer::NotSeparable), count(Answer::Inconclusive)), (4, 32));
    assert_eq!(
        sentences(&analysis, FindingKind::NotEnoughEvidence)[0],
        "By decode key vectors across NVIDIA A100 80GB PCIe and NVIDIA H100 PCIe, 32 of 36 pairs are shown neither to \
         differ nor to agree; distances in units of each pair's own floor: 1.00× to 1.40×; Holm-corrected p for 36 pairs is \
         at least 1.00 over 3 references or more; at least 10 references are needed."
    );
    cited(&analysis);
}

pub(super) fn batch_sizes_of_the_h100_group_by_raw_signals() {
    let analysis = one("batch_generation_H100_sdpa_short.json");
    let prefixed = |classes: &[&[u32]]| -> Vec<Vec<String>> {
        classes
            .iter()
            .map(|class| class.iter().map(|batch| format!("batch_size_{batch}")).collect())
            .collect()
    };
    let scope = "on NVIDIA H100 80GB HBM3";
    let prefill = classes(&analysis, Phase::Prefill, scope);
    assert_eq!(prefill.classes, prefixed(&[&[1], &[2], &[3, 4, 5, 8, 9, 16, 17]]));
    let decode = classes(&analysis, Phase::Decode, scope);
    assert_eq!(decode.classes, prefixed(&[&[1], &[2], &[3], &[4, 5, 8], &[9, 16], &[17]]));
    assert_eq!((prefill.references, decode.references), (3, 3));
    assert_eq!(analysis.tokens.len(), 3);
    assert!(analysis.tokens.iter().all(|one| one.part_at.is_none() && one.groups.len() == 1));
    // One repetition each: bits differ, and that they would repeat was not shown.
    assert!(!analysis.reproducibility.is_empty());
    assert!(analysis.reproducibility.iter().all(|one| one.state == State::Missing));
    assert_eq!(analysis.question.reference, None);
    cited(&analysis);
}

pub(super) fn a_reference_comes_first_and_one_that_is_not_there_is_refused() {
    let options = Options { reference: Some("sdpa".into()), ..Options::default() };
    let ordered = judged(&["attention_verification_H100_on_A100.json"], &options).unwrap();
    let firsts: Vec<_> =
        ordered.pairs.iter().take(3).map(|pair| (pair.a.as_str(), pair.b.as_str())).collect();
    assert_eq!(firsts, [("sdpa", "eager"), ("sdpa", "flash_attention_2"), ("eager", "flash_attention_2")]);
    assert_eq!(ordered.question.reference.as_deref(), Some("sdpa"));
    let options = Options { reference: Some("awqq".into()), ..Options::default() };
    let error = judged(&["quant_verification_A100_on_H100.json"], &options).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no configuration is called 'awqq'; use one of awq, awq_marlin, gptq_marlin, gptq"
    );
}

pub(super) fn published_files_give_the_same_bytes_twice() {
    for name in ["quant_verification_A100_on_H100.json", "prefill_decode_batch_matrix.log"] {
        let bytes = || serde_json::to_string(&one(name)).unwrap();
        assert_eq!(bytes(), bytes());
    }
}

pub(super) fn nothing_said_of_any_file_contradicts_another() {
    let folders = std::env::var_os(PUBLISHED).unwrap();
    let files = std::env::split_paths(&folders).flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let mut judged = 0;
    for path in files.map(|entry| entry.unwrap().path()) {
        let Ok(file) = open(&path) else { continue };
        let Ok(analysis) = judge(&[(Source::from(&file), &file.content)], &Options::default()) else {
            continue;
        };
        assert_eq!(contradictions(&analysis), Vec::<String>::new(), "{}", path.display());
        judged += 1;
    }
    assert!(judged >= 31, "{judged} files");
}
