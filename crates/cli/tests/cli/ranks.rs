//! Evidence of several GPUs and of vLLM, verified here without any.

use serde_json::Value;

use crate::session::{Session, repository};
use crate::verify::verified;

/// Qwen3-0.6B's widths in two layers, as `goldens/parallel/gpu/plan.py` makes them.
const MODEL: &str = "synth --arch qwen3 --hidden-size 1024 --intermediate-size 3072 --num-attention-heads 16 \
    --num-key-value-heads 8 --head-dim 128 --num-hidden-layers 2 --vocab-size 151936 \
    --max-position-embeddings 40960 --tie-word-embeddings true --seed 17 --out model";

/// Captured on two H200 with PyTorch 2.11.0+cu130: transformers 5.17 (`tp_plan="auto"`) and vLLM 0.24 (eager), four
/// sequences of 32 tokens and four steps. Of each, the setup that ran is the only one of all candidates that fits; an
/// all-reduce leaves no trace among two ranks, which is known before anything is computed.
#[test]
fn engine_and_ranks_are_named() {
    let session = Session::new();
    let made = session.output(&MODEL.split_whitespace().collect::<Vec<_>>());
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    for (capture, fits, values) in [
        ("tf-tp2", "h200_bs4_eager_bf16_tp2", 122_940),
        ("vllm-tp1", "h200_bs4_flash_attention_3_bf16_vllm-0.24", 122_880),
        ("vllm-tp2", "h200_bs4_flash_attention_3_bf16_vllm-0.24_tp2", 122_880),
    ] {
        let golden = repository().join("goldens/parallel/evidence_h200").join(capture);
        let varied = ["engine=transformers,vllm-0.24", "attention=eager,flash_attention_3", "tp_size=1,2,4"];
        let more: Vec<&str> = varied.iter().flat_map(|varied| ["--vary", varied]).collect();
        let (code, audit) = verified(&session, &golden.display().to_string(), &more);
        let claim = &audit["claims"][0];
        assert_eq!((code, &claim["answer"]), (0, &Value::from("consistent")), "{claim}");
        assert_eq!(claim["fits"], serde_json::json!([[fits]]), "{capture}");
        let own =
            claim["replays"].as_array().unwrap().iter().find(|replay| replay["claimed"] == true).unwrap();
        assert_eq!((&own["values"], &own["different"]), (&Value::from(values), &Value::from(0)));
    }
    let golden = repository().join("goldens/parallel/evidence_h200/tf-tp2").display().to_string();
    let (_, audit) = verified(&session, &golden, &["--vary", "all_reduce=none,ring,tree,one_shot,symm_mem"]);
    let class = audit["claims"][0]["fits"][0].as_array().unwrap();
    assert_eq!((class.len(), &audit["cost"]["classes"]), (5, &Value::from(1)), "{class:?}");
    // A claim of one rank is contradicted.
    let (_, audit) = verified(&session, &golden, &["--claim", "tp_size=1"]);
    assert_eq!(audit["claims"][0]["answer"], "fits_none");
}

/// The same widths with AWQ's weights, served by vLLM 0.24 on an H200, left to itself, with Machete disabled, on two
/// ranks, and in f16. Kernels, ranks and formats multiply by other weights or in other orders, and the evidence says
/// which ones ran.
#[test]
fn the_kernel_of_packed_weights_is_named() {
    let [whole, half] = ["bf16", "f16"].map(|dtype| {
        let session = Session::new();
        let packed = format!("{MODEL} --quantization awq --dtype {dtype}");
        let made = session.output(&packed.split_whitespace().collect::<Vec<_>>());
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        session
    });
    let name = |batch, dtype, more| format!("h200_bs{batch}_flash_attention_3_{dtype}_vllm-0.24{more}");
    for (capture, session, varied, fits) in [
        (
            "vllm-awq-machete",
            &whole,
            "linear_backend=auto,machete,marlin",
            vec![name(4, "bf16", ""), name(4, "bf16", "_machete")],
        ),
        ("vllm-awq-marlin", &whole, "linear_backend=auto,machete,marlin", vec![name(4, "bf16", "_marlin")]),
        ("vllm-awq-tp2", &whole, "tp_size=1,2", vec![name(9, "bf16", "_tp2")]),
        ("vllm-awq-f16", &half, "dtype=bf16,f16", vec![name(9, "f16", "")]),
    ] {
        let golden = repository().join("goldens/parallel/evidence_h200").join(capture);
        let (code, audit) = verified(session, &golden.display().to_string(), &["--vary", varied]);
        let claim = &audit["claims"][0];
        assert_eq!((code, &claim["answer"]), (0, &Value::from("consistent")), "{claim}");
        assert_eq!(claim["fits"], serde_json::json!([fits]), "{capture}");
        let own =
            claim["replays"].as_array().unwrap().iter().find(|replay| replay["claimed"] == true).unwrap();
        assert_eq!((&own["values"], &own["different"]), (&Value::from(122_880), &Value::from(0)));
    } // What a server of that model answered: nobody has to say that its weights are quantized.
    let answers = repository().join("goldens/audit/answers_h200/awq.jsonl").display().to_string();
    let claim = ["--claim", "engine=vllm-0.24", "--claim", "hardware=h200"];
    for (more, fits) in [("linear_backend=auto", "consistent"), ("linear_backend=marlin", "fits_none")] {
        let (_, audit) = verified(&whole, &answers, &[&claim[..], &["--claim", more]].concat());
        assert_eq!(audit["claims"][0]["answer"], fits, "{more}");
    }
    // Of the same integers in a model of f16 it is f16 that is served.
    let (_, audit) = verified(&half, &answers, &claim);
    assert_eq!(audit["claims"][0]["answer"], "fits_none");
}

/// What turns out not to be covered when a weight is read, or when tokens have chosen their experts, is a claim that
/// was not checked: the others are judged, and the verdict is written.
#[test]
fn a_claim_that_cannot_be_replayed_to_its_end_is_not_checked() {
    let session = Session::new();
    let packed = format!("{MODEL} --quantization gptq --dtype bf16");
    let made = session.output(&packed.split_whitespace().collect::<Vec<_>>());
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let config = session.path("model").join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    let answers = repository().join("goldens/audit/answers_h200/awq.jsonl").display().to_string();
    let claim = ["--claim", "engine=vllm-0.24", "--claim", "hardware=h200"];
    for (said, other, word) in [
        ("\"desc_act\": false", "\"desc_act\": true", "desc_act"),
        ("\"sym\": true", "\"sym\": false", "exllama"),
    ] {
        assert!(text.contains(said), "{text}");
        std::fs::write(&config, text.replace(said, other)).unwrap();
        let (code, audit) = verified(&session, &answers, &claim);
        assert_eq!(
            (code, &audit["claims"][0]["answer"]),
            (3, &Value::from("not_enough_evidence")),
            "{audit}"
        );
        assert!(audit["claims"][0]["not_checked"].to_string().contains(word), "{audit}");
    }
}
