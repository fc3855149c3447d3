//! The printed figures of the three founding logs, recomputed from their own cells.

use std::path::Path;

use mantissa_published::{Agreement, Figure, FindingTopic, Published, Sheet, parse};
use mantissa_testkit::published as fixture;

const BATCH: &str = "prefill_decode_batch_matrix.log";
const ATTENTION: &str = "attention_cross_hardware_verification.log";
const QUANTIZATION: &str = "quantization_format_generation.log";

fn text(name: &str) -> String {
    std::fs::read_to_string(fixture(name)).unwrap()
}

fn figures(text: &str, companion: Option<&Published>) -> Sheet {
    let log = parse(text.as_bytes(), Path::new("x.log")).unwrap().unwrap();
    log.sheet(companion.as_slice())
}

fn companion(name: &str) -> Published {
    parse(&std::fs::read(fixture(name)).unwrap(), Path::new(name)).unwrap().unwrap()
}

fn count(found: &Sheet, agreement: Agreement) -> usize {
    assert!(!found.figures.is_empty());
    found.figures.iter().filter(|figure| figure.agreement == agreement).count()
}

fn named<'a>(found: &'a Sheet, name: &str) -> &'a Figure {
    found.figures.iter().find(|figure| figure.name == name).unwrap_or_else(|| {
        panic!(
            "{name} is not among {:#?}",
            found.figures.iter().map(|figure| &figure.name).collect::<Vec<_>>()
        )
    })
}

fn agreement(found: &Sheet, name: &str) -> (String, String, Agreement) {
    let figure = named(found, name);
    (figure.printed.clone(), figure.recomputed.clone().unwrap_or_default(), figure.agreement)
}

fn every_digit(found: &Sheet, name: &str, text: &str) {
    assert_eq!(agreement(found, name), (text.to_owned(), text.to_owned(), Agreement::EveryDigit), "{name}");
}

fn says(found: &Sheet, sentence: &str) {
    let sentences: Vec<&str> = found.findings.iter().map(|finding| finding.sentence.as_str()).collect();
    assert!(sentences.contains(&sentence), "{sentence}\nis not among\n{sentences:#?}");
    assert!(found.findings.iter().all(|one| one.about == FindingTopic::Figure && !one.places.is_empty()));
}

pub(super) fn the_batch_matrix_follows_from_its_cells() {
    let found = figures(&text(BATCH), None);
    every_digit(&found, "SNR of key vectors, decode × prefill", "0.91");
    every_digit(&found, "SNR of log-probabilities, decode × prefill", "0.98");
    every_digit(&found, "mean distance of key vectors within decode", "1.79e+00");
    every_digit(&found, "largest distance of log-probabilities within prefill", "8.23e-01");
    every_digit(&found, "diagonal deviation of key vectors", "3.17e-01");
    every_digit(&found, "key comparisons that are exactly zero", "2/45");
    every_digit(&found, "word for the SNR of log-probabilities", "NOT DETECTABLE");
    every_digit(&found, "logprob zeros of ref_1", "[(5, 9)]");
    every_digit(&found, "total tokens of the documents", "248993");
    every_digit(&found, "slices (references and their neighbours)", "51");
    every_digit(&found, "tokens of ref_2 at batch size 9", "✗ DIFFERENT");
    let rounded = |signal: &str| {
        let prefix = format!("average of {signal}, ");
        let cells = found.figures.iter().filter(|figure| figure.name.starts_with(&prefix));
        let (mut all, mut rounded) = (0, 0);
        for cell in cells {
            all += 1;
            rounded += usize::from(cell.agreement == Agreement::WithinRounding);
            assert_ne!(cell.agreement, Agreement::DoesNotFollow, "{cell:?}");
        }
        (all, rounded)
    };
    assert_eq!((rounded("key vectors"), rounded("log-probabilities")), ((36, 18), (36, 5)));
    assert_eq!(
        agreement(&found, "off-diagonal deviation of key vectors"),
        ("2.45e-01".to_owned(), "2.46e-01".to_owned(), Agreement::WithinRounding)
    );
    assert_eq!(count(&found, Agreement::DoesNotFollow), 0);
    assert_eq!(found.tables.len(), 8);
}

pub(super) fn the_batch_matrix_misleads_where_tokens_part() {
    let found = figures(&text(BATCH), None);
    says(
        &found,
        "Prefill at batch sizes 5 and 9 is one class that the log does not name: their columns agree to the printed \
         digit in all 36 rows, over 3 references and both signals.",
    );
    says(
        &found,
        "The key zeros of batch sizes 5 and 9 are called coincidental because ref_2 does not show them, but there the \
         two runs consumed different tokens; they are zero in all 2 references that can be compared.",
    );
    says(
        &found,
        "The mean distance of key vectors within decode, 1.79e+00, averages 11 of 45 comparisons in which the two \
         runs had consumed different tokens; the 34 on equal tokens have mean 6.54e-01 and maximum 2.04e+00.",
    );
    says(
        &found,
        "The SNR of key vectors is a quotient of pooled averages; row by row, the claimed batch size is the nearest \
         of 6 replays (ties included) in 3 of 18 rows.",
    );
    says(
        &found,
        "Diagonal replays (18) kept the neighbours of the decode run and all others (90) had arbitrary ones, so the \
         SNR varies batch size and neighbours together; the diagonal called noise holds decode against prefill and \
         no repetition of either.",
    );
}

pub(super) fn the_attention_log_follows_from_its_companion() {
    let file = companion("attention_verification_H100_on_A100.json");
    let found = figures(&text(ATTENTION), Some(&file));
    for (name, text) in [
        ("SNR of key vectors, prefill", "10.94"),
        ("SNR of log-probabilities, prefill", "10.34"),
        ("SNR of key vectors, decode", "4.43"),
        ("SNR of log-probabilities, decode", "5.76"),
    ] {
        every_digit(&found, &format!("{name}, stored by the companion file"), text);
        assert_ne!(named(&found, name).agreement, Agreement::DoesNotFollow, "{name}");
    }
    every_digit(&found, "distance of key vectors, prefill, sdpa verified as flash_attention_2", "5.94e-01");
    assert_eq!(count(&found, Agreement::DoesNotFollow), 0);
    assert_eq!(count(&found, Agreement::NotInFile), 0);
    says(
        &found,
        "The pooled SNR of key vectors, prefill, 10.94×, hides sdpa against flash_attention_2: 0.82× its own baseline.",
    );
    says(
        &found,
        "Mirrored cells of log-probabilities, prefill are not alike, 8.38e+00 against 3.52e+00 (2.4×) for sdpa and \
         eager: what was claimed and what was verified are different questions, averaged into one figure.",
    );
    says(
        &found,
        "For key vectors, prefill, evidence of sdpa is nearer to the replay with flash_attention_2 (5.94e-01) than to \
         the one with sdpa itself (7.23e-01).",
    );
    let alone = figures(&text(ATTENTION), None);
    assert_eq!(count(&alone, Agreement::NotInFile), 36);
    assert_eq!(alone.findings, found.findings);
}

pub(super) fn the_quantization_log_follows_from_its_companion() {
    let file = companion("quant_generation_A100.json");
    let found = figures(&text(QUANTIZATION), Some(&file));
    every_digit(&found, "SNR of quantization", "4.9");
    every_digit(&found, "SNR of quantization, stored by the companion file", "4.9");
    every_digit(&found, "word for the SNR of quantization", "MARGINALLY");
    every_digit(&found, "off-diagonal mean, prefill", "3.79e+00");
    every_digit(&found, "off-diagonal mean, decode", "5.70e-02");
    every_digit(&found, "word for gptq_marlin against gptq, prefill", "MODERATE");
    every_digit(&found, "word for gptq_marlin against gptq, decode", "SMALL");
    every_digit(&found, "word for awq against gptq, decode", "LARGE");
    every_digit(
        &found,
        "kernel equivalence classes, prefill",
        r#"[["awq"], ["awq_marlin"], ["gptq_marlin"], ["gptq"]]"#,
    );
    let stored = found.figures.iter().filter(|figure| figure.name.contains("stored by the companion file"));
    let (mut all, mut digits) = (0, 0);
    for figure in stored {
        all += 1;
        digits += usize::from(figure.agreement == Agreement::EveryDigit);
        assert_eq!(figure.agreement, Agreement::EveryDigit, "{figure:?}");
    }
    assert_eq!((all, digits), (185, 185));
    assert_eq!(count(&found, Agreement::DoesNotFollow), 0);
    says(
        &found,
        "SNR 4.9× drops 8 cells that are inf from its signal, so only kernels for the same weights are left, and \
         averages 3 floors of exactly zero with 1 that are not.",
    );
    says(
        &found,
        "The noise floor of gptq, 4.67e-02, rests on 1 of 3 pairs of identical passes: the other 2 are inf, their \
         passes had no token in common where they were compared, and were dropped. gptq is not deterministic.",
    );
    says(
        &found,
        "awq and awq_marlin are both printed as deterministic and differ by 2.82e-02: on this machine they are told \
         apart exactly, not marginally.",
    );
    says(
        &found,
        "gptq_marlin and gptq differ by 8.58e-02, 1.8× the larger of their own floors (4.67e-02), not 4.9×.",
    );
    says(
        &found,
        "Where the outputs of two configurations part within their first tokens, decode prints inf in 8 pairs and a \
         finite distance in 8 (ref_1, ref_2): the finite ones only mean that ids of different texts happened to \
         coincide. None of them compares equal tokens.",
    );
}

pub(super) fn an_altered_figure_does_not_follow() {
    let cases = [
        (
            BATCH,
            "SNR (signal/noise): 0.91×",
            "SNR (signal/noise): 0.95×",
            "SNR of key vectors, decode × prefill",
        ),
        (BATCH, "μ = 1.79e+00", "μ = 1.69e+00", "mean distance of key vectors within decode"),
        (BATCH, "→ 29497 tokens", "→ 29498 tokens", "total tokens of the documents"),
        (BATCH, "2/45 key", "3/45 key", "key comparisons that are exactly zero"),
        (BATCH, "✗ DIFFERENT", "✓", "tokens of ref_2 at batch size 5"),
        (ATTENTION, "SNR: 10.94×", "SNR: 11.94×", "SNR of key vectors, prefill"),
        (ATTENTION, "vs 12.8 ✓", "vs 12.9 ✓", "cuda_version on both machines"),
        (QUANTIZATION, "SNR: 4.9×", "SNR: 9.9×", "SNR of quantization"),
        (
            QUANTIZATION,
            "2.57e-01 → MODERATE",
            "2.57e-01 → SMALL",
            "word for gptq_marlin against gptq, prefill",
        ),
        (
            QUANTIZATION,
            "gptq noise floor: decode=4.67",
            "gptq noise floor: decode=4.77",
            "noise floor of gptq, decode",
        ),
    ];
    for (name, old, new, figure) in cases {
        let text = text(name);
        assert!(text.contains(old), "{old}");
        let found = figures(&text.replacen(old, new, 1), None);
        assert_eq!(named(&found, figure).agreement, Agreement::DoesNotFollow, "{figure}");
        assert!(
            found
                .findings
                .iter()
                .any(|finding| finding.sentence.starts_with(&format!("{figure} is printed as")))
        );
    }
}
