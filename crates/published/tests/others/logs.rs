//! The three founding logs: how each cut or altered copy is refused. What is read from them, their readers test.

use std::path::Path;

use mantissa_evidence::EvidenceError;
use mantissa_published::{Published, parse as parse_any};
use mantissa_testkit::published as fixture;

const BATCH: &str = "prefill_decode_batch_matrix.log";
const ATTENTION: &str = "attention_cross_hardware_verification.log";
const QUANTIZATION: &str = "quantization_format_generation.log";

fn text(name: &str) -> String {
    std::fs::read_to_string(fixture(name)).unwrap()
}

fn parse(text: &[u8]) -> Result<Published, EvidenceError> {
    parse_any(text, Path::new("x.log")).map(|log| log.expect("recognized"))
}

/// The message of a refusal: one line of bounded length, with file, line and remedy.
fn refusal(result: Result<Published, EvidenceError>, context: &str) -> String {
    let message = result.err().unwrap_or_else(|| panic!("accepted: {context}")).to_string();
    assert!(!message.contains(char::is_control), "{message:?}");
    assert!(
        message.starts_with("x.log: line ") && message.contains("; ") && message.len() < 1500,
        "{message}"
    );
    message
}

pub(super) fn a_log_cut_after_any_line_is_refused_by_what_is_missing() {
    for name in [BATCH, ATTENTION, QUANTIZATION] {
        let text = text(name);
        let lines: Vec<&str> = text.trim_end().lines().collect();
        for count in 2..lines.len() {
            let cut = lines[..count].join("\n");
            let message = refusal(parse(cut.as_bytes()), &format!("{name} cut to {count} lines"));
            let missing = message.contains("the log ends before '") && message.contains(" of section '");
            // A loop over documents or versions that ends early is noticed by its count.
            assert!(missing || message.contains("elsewhere in the log"), "{message}");
        }
    }
    let cut: Vec<String> = text(BATCH).lines().take(720).map(str::to_owned).collect();
    assert_eq!(
        refusal(parse(cut.join("\n").as_bytes()), "cut"),
        "x.log: line 720: the log ends before 'Decode bs=17 …' of section 'REF_0'; \
         give the log as the experiment wrote it, whole and unedited"
    );
}

pub(super) fn a_log_that_lost_any_line_is_refused() {
    // Lines that nothing else in the log announces or counts.
    let batch = [
        "hostname: c895fe420c2d",
        "platform: Linux-5.15.0-140-generic-x86_64-with-glibc2.35",
        "python_version: 3.10.18",
        "torch_version: 2.6.0+cu118",
        "cuda_version: 11.8",
        "transformers_version: 4.57.1",
        "gpu_name: NVIDIA A100-SXM4-80GB",
        "gpu_count: 1",
        "⚠ 2/45 key comparisons are EXACTLY ZERO",
        "⚠ 2/45 logprob comparisons are EXACTLY ZERO",
        "✗ BATCH SIZE MISMATCHES NOT RELIABLY DETECTABLE",
        "→ Off-diagonal distances similar to diagonal distances",
        "→ Cannot reliably detect decode batch size from prefill",
    ];
    let attention = [
        "torch_version: 2.8.0+cu128 vs 2.8.0+cu128 ✓",
        "transformers_version: 4.57.3 vs 4.57.3 ✓",
        "cuda_version: 12.8 vs 12.8 ✓",
    ];
    let quantization = ["Class 4: ['gptq']", "Class 4: ['gptq']"];
    for (name, free) in [(BATCH, &batch[..]), (ATTENTION, &attention), (QUANTIZATION, &quantization)] {
        let text = text(name);
        let lines: Vec<&str> = text.lines().collect();
        let mut accepted = Vec::new();
        for gone in 1..lines.len() {
            if lines[gone].trim().is_empty() {
                continue;
            }
            let kept: Vec<&str> =
                lines.iter().enumerate().filter(|&(at, _)| at != gone).map(|(_, line)| *line).collect();
            if let Ok(Some(_)) = parse_any(kept.join("\n").as_bytes(), Path::new("x.log")) {
                accepted.push(lines[gone].trim());
            }
        }
        assert_eq!(accepted, free, "{name}");
    }
}

pub(super) fn each_alteration_is_named_with_its_line() {
    let cases: [(&str, &str, &str, &str); 14] = [
        (BATCH, "2.54e-01", "2.54e-O1", "line 378: '2.54e-O1' is not a figure"),
        (BATCH, "2.54e-01", "nan", "'nan' is not a figure"),
        (BATCH, "2.54e-01", "-2.54e-01", "'-2.54e-01' is not a figure"),
        (BATCH, "Decode bs=8   ", "Decode bs=7   ", "stands where 'Decode bs=8 …' is expected"),
        (BATCH, "20, 624]", "624]", "the number of generated tokens is 19 here and 20 elsewhere"),
        (BATCH, "[1096, ", "[99999999999, ", "a token id beyond 32 bits"),
        (BATCH, "[1096, ", "[99999999999999999999, ", "is too large a count"),
        (BATCH, "bs=4 vs bs=8:", "bs=4 vs bs=4:", "stands where 'bs=4 vs bs=8:' is expected"),
        (BATCH, "with 16 dummies", "with many dummies", "'many' is not a count"),
        (BATCH, "Extract positions: [528,", "Extract positions: [530,", "positions that do not ascend"),
        (ATTENTION, "Claimed sdpa:", "Claimed spda:", "the list of claimed implementations"),
        (ATTENTION, "Verifier GPU:  NVIDIA A100", "Verifier GPU:  NVIDIA A10", "the verifier's GPU"),
        (
            QUANTIZATION,
            "Class 2: ['awq_marlin']",
            "Class 3: ['awq_marlin']",
            "the number of the class is 3 here",
        ),
        (QUANTIZATION, "awq_vs_gptq_marlin", "awq_vs_gguf", "a pair of unknown configurations"),
    ];
    for (name, old, new, expected) in cases {
        let text = text(name);
        assert!(text.contains(old), "{old}");
        let message = refusal(parse(text.replacen(old, new, 1).as_bytes()), new);
        assert!(message.contains(expected), "{message}\n{expected}");
    }
}

pub(super) fn white_space_means_nothing() {
    let text = text(BATCH);
    let loose = text.replace('\n', " \r\n\n").replace("  ", " \t ");
    let (loose, strict) = (parse(loose.as_bytes()).unwrap(), parse(text.as_bytes()).unwrap());
    let ids = |log: &Published| log.tokens().into_iter().map(|run| run.ids).collect::<Vec<_>>();
    assert_eq!(ids(&loose), ids(&strict));
    let means = |log: &Published| -> Vec<u64> {
        let verifications = log.verifications();
        verifications.iter().flat_map(|one| one.cells.values().map(|cell| cell.mean.to_bits())).collect()
    };
    assert_eq!(means(&loose), means(&strict));
}

pub(super) fn junk_is_refused_with_bounded_memory() {
    let text = text(ATTENTION);
    let mut junk = text.clone().into_bytes();
    junk.splice(900..910, [0xff, 0xfe, 0x00]);
    assert!(refusal(parse(&junk), "junk").contains("the line is not UTF-8 text"));
    let long = text.replacen("Saved to: ", &format!("Saved to: {}", "x".repeat(1 << 20)), 1);
    assert!(refusal(parse(long.as_bytes()), "a long line").contains("a line of 1048"));
    let endless = text.clone() + &"\n".repeat(17 << 20);
    assert!(refusal(parse(endless.as_bytes()), "a long log").contains("longer than 16777216 bytes"));
    let many = text.replacen("Created 6 prompts", "Created 18446744073709551615 prompts", 1);
    assert!(refusal(parse(many.as_bytes()), "many prompts").contains("'ref_6: done' is expected"));
    let control = text.replacen("Claimed sdpa:", "Claimed \u{1b}[2J\u{7}:", 1);
    refusal(parse(control.as_bytes()), "control characters");
    assert!(parse_any(b"", Path::new("x.log")).unwrap().is_none());
    assert!(parse_any(&junk[200..], Path::new("x.log")).unwrap().is_none());
}
