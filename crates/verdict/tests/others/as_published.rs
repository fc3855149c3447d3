//! Every stored aggregate of the published JSON files, and what the report says about them.

use mantissa_published::{Content, open, parse};
use mantissa_testkit::published;
use mantissa_verdict::analysis::{Agreement, Analysis, FindingKind, Mode, Outcome, Source};
use mantissa_verdict::{Options, as_published};

fn analyze(name: &str) -> Analysis {
    let opened = open(&published(name)).unwrap();
    let analysis = as_published(&[(Source::from(&opened), &opened.content)], &Options::default()).unwrap();
    assert_eq!(analysis.mode, Mode::AsPublished);
    analysis
}

/// `(name, printed, recomputed)` of a figure.
fn figure(analysis: &Analysis, name: &str) -> (String, String) {
    let figure = analysis.published.iter().find(|figure| figure.name == name);
    let figure = figure.unwrap_or_else(|| panic!("no figure '{name}'"));
    (figure.printed.clone(), figure.recomputed.clone().unwrap())
}

fn says(analysis: &Analysis, words: &str) {
    let sentences: Vec<&str> = analysis.findings.iter().map(|finding| finding.sentence.as_str()).collect();
    assert!(sentences.iter().any(|sentence| sentence.contains(words)), "'{words}' is not in {sentences:#?}");
}

pub(super) fn every_stored_aggregate_of_every_file_comes_out_in_every_bit() {
    for (name, figures, not_in_file) in [
        ("activations_A100-80GB-PCIe.json", 15, 0),
        ("activations_A100-SXM4-80GB.json", 15, 0),
        ("activations_H100-NVL.json", 15, 0),
        ("activations_H200.json", 15, 0),
        ("activations_L40S.json", 15, 0),
        ("attention_verification_H100_on_A100.json", 16, 0),
        ("batch_generation_H100_sdpa_short.json", 24, 0),
        ("batch_verification_A100_on_A100.json", 42, 0),
        ("batch_verification_A100_on_H100.json", 42, 0),
        ("quant_generation_A100.json", 38, 8),
        ("quant_verification_A100_on_H100.json", 60, 0),
    ] {
        let analysis = analyze(name);
        let count = |agreement| analysis.published.iter().filter(|one| one.agreement == agreement).count();
        let wrong: Vec<_> =
            analysis.published.iter().filter(|one| one.agreement == Agreement::DoesNotFollow).collect();
        assert!(wrong.is_empty(), "{name}: {wrong:#?}");
        assert_eq!(count(Agreement::NotInFile), not_in_file, "{name}");
        assert_eq!(analysis.published.len(), figures, "{name}");
        assert_eq!(analysis.outcome, Outcome::Consistent);
        assert!(analysis.findings.iter().all(|finding| finding.kind == FindingKind::Published));
        assert!(analysis.findings.iter().all(|finding| !finding.citations.is_empty()));
    }
}

pub(super) fn attention_prints_its_four_quotients_and_hides_one_pair() {
    let analysis = analyze("attention_verification_H100_on_A100.json");
    for (about, snr) in [
        ("key vectors, prefill", "10.94×"),
        ("log-probabilities, prefill", "10.34×"),
        ("key vectors, decode", "4.43×"),
        ("log-probabilities, decode", "5.76×"),
    ] {
        let (printed, recomputed) = figure(&analysis, &format!("SNR as printed, {about}"));
        assert_eq!((printed.as_str(), recomputed.as_str()), (snr, snr));
    }
    says(
        &analysis,
        "the pooled SNR of 10.94× for key vectors, prefill hides that sdpa against flash_attention_2 is 0.82×",
    );
    says(&analysis, "no distance of a single reference is stored");
}

pub(super) fn quantization_prints_its_words_and_drops_what_differs_most() {
    let analysis = analyze("quant_generation_A100.json");
    let (printed, recomputed) = figure(&analysis, "SNR as printed");
    assert_eq!((printed.as_str(), recomputed.as_str()), ("4.9×", "4.9×"));
    let table = |title: &str| {
        let table = analysis.tables.iter().find(|table| table.title.ends_with(title)).unwrap();
        table.rows.iter().map(|row| row.join(" ")).collect::<Vec<_>>()
    };
    assert_eq!(
        table("pairwise distances, prefill"),
        [
            "awq_vs_awq_marlin 3.99e-02 SMALL",
            "awq_vs_gptq_marlin 5.54e+00 LARGE",
            "awq_vs_gptq 5.69e+00 LARGE",
            "awq_marlin_vs_gptq_marlin 5.54e+00 LARGE",
            "awq_marlin_vs_gptq 5.69e+00 LARGE",
            "gptq_marlin_vs_gptq 2.57e-01 MODERATE",
        ]
    );
    assert_eq!(
        table("pairwise distances, decode"),
        [
            "awq_vs_awq_marlin 2.82e-02 SMALL",
            "awq_vs_gptq_marlin inf LARGE",
            "awq_vs_gptq inf LARGE",
            "awq_marlin_vs_gptq_marlin inf LARGE",
            "awq_marlin_vs_gptq inf LARGE",
            "gptq_marlin_vs_gptq 8.58e-02 SMALL",
        ]
    );
    assert_eq!(table("signal to noise"), ["1.17e-02 5.70e-02 4.9× MARGINALLY detectable"]);
    says(&analysis, "SNR 4.9× drops every inf cell, so that only 4 of 12 ordered pairs are left");
    says(&analysis, "ref_0 at output 11, ref_1 at output 11, ref_2 at output 11, ref_3 at output 5");
    says(&analysis, "it predicts that token and belongs one position earlier");
    says(&analysis, "in the order of the file only 55 of 64");
    says(&analysis, "the configurations are not kernels of one model");
}

pub(super) fn quantization_across_hardware_pools_what_its_own_pairs_deny() {
    let analysis = analyze("quant_verification_A100_on_H100.json");
    says(&analysis, "hides that awq against awq_marlin is 0.99× and gptq_marlin against gptq is 1.03×");
    says(&analysis, "hides that awq against awq_marlin is 0.95× and gptq_marlin against gptq is 1.26×");
    says(
        &analysis,
        "environment_validation says valid: false (torch_version 2.9.1+cu128 against 2.9.0+cu128)",
    );
    assert_eq!(figure(&analysis, "SNR awq_vs_gptq_marlin, prefill").0, "105.20002681172373");
}

pub(super) fn batch_classes_come_out_and_the_figures_without_meaning_are_named() {
    let generation = analyze("batch_generation_H100_sdpa_short.json");
    let (printed, _) = figure(&generation, "kernel classes, decode");
    assert_eq!(printed, "[[1], [2], [3], [4, 5, 8], [9, 16], [17]]");
    let (printed, _) = figure(&generation, "kernel classes, prefill");
    assert_eq!(printed, "[[1], [2], [3, 4, 5, 8, 9, 16, 17]]");
    says(&generation, "the matrix of log-probabilities, prefill is not symmetric (8 of 36 pairs)");
    says(&generation, "20 candidates are stored per position, but a distance takes only the first 5");

    let same = analyze("batch_verification_A100_on_A100.json");
    says(&same, "are Infinity because the baseline is exactly 0");
    assert_eq!(figure(&same, "SNR, key vectors, decode").0, "inf");

    let other = analyze("batch_verification_A100_on_H100.json");
    says(&other, "is 1 by construction; snr_meaningful 1.048 only reflects");
    says(&other, "reference by reference it is 0.99, 1.07, 1.61");
}

pub(super) fn activations_are_rounded_to_binary16() {
    let analysis = analyze("activations_A100-80GB-PCIe.json");
    let (stored, recomputed) = figure(&analysis, "distance, batch sizes 1 and 2");
    assert_eq!((stored.as_str(), recomputed.as_str()), ("0.6591796875", "0.6591796875"));
    says(&analysis, "0.6591796875 for 0.65911 (1 and 2)");
    says(&analysis, "coarser than the whole spread between batch sizes");
}

pub(super) fn a_figure_that_was_changed_does_not_follow() {
    let text = std::fs::read_to_string(published("attention_verification_H100_on_A100.json")).unwrap();
    let damaged = text.replace("10.9421302102936", "10.9421302102937");
    assert_ne!(damaged, text);
    let file = parse(damaged.as_bytes(), "changed.json".as_ref()).unwrap().unwrap();
    let source = Source {
        name: "changed.json".to_owned(),
        layout: "attention_verification".to_owned(),
        ..Source::default()
    };
    let analysis = as_published(&[(source, &Content::Published(file))], &Options::default()).unwrap();
    let wrong: Vec<_> =
        analysis.published.iter().filter(|one| one.agreement == Agreement::DoesNotFollow).collect();
    assert_eq!(wrong.len(), 1);
    assert_eq!(wrong[0].name, "SNR, key vectors, prefill");
    assert_eq!(analysis.outcome, Outcome::Divergent);
}
