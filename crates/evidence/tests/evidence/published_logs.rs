//! The three founding logs: what is read from them, and how each cut or altered copy is refused.

use std::path::Path;

use mantissa_evidence::EvidenceError;
use mantissa_evidence::published::{self, AttentionLog, BatchMatrixLog, Published, QuantizationLog};
use mantissa_evidence::verification::{CellKey, Relation};
use mantissa_numerics::Phase;
use mantissa_testkit::published as fixture;

const BATCH: &str = "prefill_decode_batch_matrix.log";
const ATTENTION: &str = "attention_cross_hardware_verification.log";
const QUANTIZATION: &str = "quantization_format_generation.log";

fn text(name: &str) -> String {
    std::fs::read_to_string(fixture(name)).unwrap()
}

fn parse(text: &[u8]) -> Result<Published, EvidenceError> {
    published::parse_log(text, Path::new("x.log")).expect("recognized")
}

fn batch() -> BatchMatrixLog {
    match parse(text(BATCH).as_bytes()).unwrap() {
        Published::BatchMatrixLog(log) => *log,
        other => panic!("{}", other.layout()),
    }
}

fn attention() -> AttentionLog {
    match parse(text(ATTENTION).as_bytes()).unwrap() {
        Published::AttentionLog(log) => *log,
        other => panic!("{}", other.layout()),
    }
}

fn quantization() -> QuantizationLog {
    match parse(text(QUANTIZATION).as_bytes()).unwrap() {
        Published::QuantizationLog(log) => *log,
        other => panic!("{}", other.layout()),
    }
}

#[test]
fn the_batch_matrix_is_read() {
    let log = batch();
    assert_eq!(log.model, "Qwen/Qwen2.5-7B-Instruct");
    assert_eq!(log.environment["gpu_name"], "NVIDIA A100-SXM4-80GB");
    assert_eq!(log.environment.len(), 8);
    assert_eq!((log.layers.as_slice(), log.batch_sizes.as_slice()), (&[28][..], &[4, 5, 8, 9, 16, 17][..]));
    let tokens: Vec<u64> = log.documents.iter().map(|(_, tokens)| tokens.value).collect();
    assert_eq!(tokens, [120_214, 29_497, 99_282]);
    assert_eq!((log.total_tokens.value, log.slices.value, log.slice_tokens), (248_993, 51, 512));
    assert_eq!(log.references.len(), 3);
    for reference in &log.references {
        assert_eq!(log.output_indices(reference), [16, 17, 18]);
        assert_eq!((reference.decode.len(), reference.prefill.len(), reference.replays.len()), (15, 15, 36));
        assert_eq!(reference.replays.iter().filter(|replay| replay.exact_neighbours).count(), 6);
    }
    let tokens = log.tokens();
    let at_17: Vec<(u64, u32)> = tokens["ref_2"].iter().map(|(&size, ids)| (size, ids[17])).collect();
    assert_eq!(at_17, [(4, 16), (5, 17), (8, 17), (9, 19), (16, 16), (17, 16)]);
    assert!(tokens["ref_2"].values().all(|ids| ids[..17] == tokens["ref_2"][&4][..17]));
    assert!(tokens["ref_0"].values().chain(tokens["ref_1"].values()).all(|ids| ids.len() == 20));
    assert_eq!((log.keys.snr.text.as_str(), log.logprobs.snr.text.as_str()), ("0.91", "0.98"));
    assert_eq!((log.keys.word.as_str(), log.keys.snr.line), ("NOT DETECTABLE", 796));
    let zeros = log.within[1].zeros.as_ref().unwrap();
    assert_eq!(zeros.counts[0].as_ref().unwrap().value, (2, 45));
    assert_eq!(zeros.by_reference[1].1[1].value, [(5, 9)]);
    assert!(log.within[0].zeros.is_none());
}

#[test]
fn printed_cells_become_distances_with_their_rounding() {
    let verifications = batch().verifications();
    let relations: Vec<Relation> = verifications.iter().map(|verification| verification.relation).collect();
    assert_eq!(relations, [Relation::DecodePrefill, Relation::WithinMode, Relation::WithinMode]);
    let counts: Vec<usize> = verifications.iter().map(|verification| verification.cells.len()).collect();
    assert_eq!(counts, [216, 90, 90]);
    let key = CellKey {
        phase: Phase::Prefill,
        signal: "key_vectors".to_owned(),
        reference: Some("ref_1".to_owned()),
        claimed: 1,
        verified: 3,
    };
    let zero = &verifications[2].cells[&key];
    assert_eq!((zero.mean.to_bits(), zero.rounding.to_bits()), (0, 0));
    let replayed = &verifications[0].cells[&key];
    assert_eq!(
        (replayed.mean.to_bits(), replayed.rounding.to_bits()),
        (1.17f64.to_bits(), 0.005f64.to_bits())
    );
    assert_eq!(replayed.max, Some(1.17));
}

#[test]
fn the_attention_log_is_read() {
    let log = attention();
    assert_eq!(log.implementations, ["eager", "sdpa", "flash_attention_2"]);
    assert_eq!(
        (log.generator_gpu.as_str(), log.verifier_gpu.as_str()),
        ("NVIDIA H100 NVL", "NVIDIA A100-SXM4-80GB")
    );
    assert_eq!(log.prompt.value, [33, 10_000, 34, 10_067]);
    assert_eq!((log.prompts.value, log.versions.len()), (6, 3));
    let snr = log.phases.iter().flat_map(|phase| [&phase.keys.snr.text, &phase.logprobs.snr.text]);
    assert_eq!(snr.collect::<Vec<_>>(), ["10.94", "10.34", "4.43", "5.76"]);
    let [verification] = log.verifications().try_into().unwrap();
    assert_eq!(verification.cells.len(), 36);
    assert!(
        verification.mismatches.is_empty() && verification.cells.keys().all(|key| key.reference.is_none())
    );
}

#[test]
fn the_quantization_log_is_read() {
    let log = quantization();
    assert_eq!(log.names(), ["awq", "awq_marlin", "gptq_marlin", "gptq"]);
    assert_eq!(log.configurations[3].dtype, "float16");
    let decode: Vec<&str> = log.repetitions[3].pairs.iter().map(|pair| pair.decode.text.as_str()).collect();
    assert_eq!(decode, ["4.67e-02", "inf", "inf"]);
    let deterministic: Vec<bool> = log.repetitions.iter().map(|of| of.deterministic).collect();
    assert_eq!(deterministic, [true, true, true, false]);
    for reference in 0..4 {
        assert_eq!(log.text_groups(reference), [["awq", "awq_marlin"], ["gptq_marlin", "gptq"]]);
    }
    assert!(log.generations[0][0].opening.value.starts_with("<think>\nOkay, let me"));
    assert_eq!((log.snr.text.as_str(), log.word.value.as_str()), ("4.9", "MARGINALLY"));
    let [prefill, decode] = log.verifications().try_into().unwrap();
    assert_eq!((prefill.cells.len(), decode.cells.len()), (64, 64));
    assert_eq!(decode.cells.values().filter(|cell| cell.mean.is_infinite()).count(), 16);
    assert_eq!(prefill.cells.values().filter(|cell| cell.mean.is_infinite()).count(), 0);
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

#[test]
fn a_log_cut_after_any_line_is_refused_by_what_is_missing() {
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

#[test]
fn a_log_that_lost_any_line_is_refused() {
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
            match published::parse_log(kept.join("\n").as_bytes(), Path::new("x.log")) {
                None | Some(Err(_)) => {}
                Some(Ok(_)) => accepted.push(lines[gone].trim()),
            }
        }
        assert_eq!(accepted, free, "{name}");
    }
}

#[test]
fn each_alteration_is_named_with_its_line() {
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

#[test]
fn white_space_means_nothing() {
    let text = text(BATCH);
    let loose = text.replace('\n', " \r\n\n").replace("  ", " \t ");
    let (loose, strict) = (parse(loose.as_bytes()).unwrap(), batch());
    let Published::BatchMatrixLog(loose) = loose else { panic!() };
    assert_eq!(loose.tokens(), strict.tokens());
    assert_eq!(loose.keys.matrix.cells[2][3].text, strict.keys.matrix.cells[2][3].text);
}

#[test]
fn junk_is_refused_with_bounded_memory() {
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
    assert!(published::parse_log(b"", Path::new("x.log")).is_none());
    assert!(published::parse_log(&junk[200..], Path::new("x.log")).is_none());
}

/// Found by fuzzing: a heading with a control character, of which the expected text of the next line is made.
#[test]
fn a_control_character_in_a_heading_is_escaped_wherever_it_is_quoted() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/published/control_character_in_a_log.log");
    let message = refusal(parse(&std::fs::read(path).unwrap()), "a control character");
    assert!(message.contains("flash_atte\\u{14}ntion_2"), "{message}");
}
