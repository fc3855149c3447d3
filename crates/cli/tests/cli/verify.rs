//! `verify` on small synthetic models: honest evidence fits, planted deviations are found where they were planted, and
//! what cannot be checked is said so.

use std::collections::BTreeSet;
use std::fs;

use mantissa_evidence::{Experiment, SignalTensor, container};
use mantissa_numerics::{Phase, Site};
use serde_json::Value;

use crate::session::{Session, repository};

/// A session with a tiny model and a record of it at `batches`, in binary32: every order of sums shows.
fn recorded(batches: &str, more: &[&str]) -> Session {
    let session = Session::new();
    assert!(session.output(&["synth", "--arch", "llama", "--seed", "3", "--out", "model"]).status.success());
    let document = repository().join("fixtures/documents/demo.pdf").display().to_string();
    let base = ["record", "--model", "model", "--document", &document, "--document-tokens", "24"];
    let setup =
        ["--decode", "6", "--reps", "2", "--dtype", "f32", "--batch-size", batches, "--out", "record"];
    let output = session.output(&[&base[..], &setup, more].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    session
}

/// What `verify` says of `evidence`, with its exit code.
pub(crate) fn verified(session: &Session, evidence: &str, more: &[&str]) -> (i32, Value) {
    let arguments = [&["--format", "json", "verify", evidence, "--model", "model"], more].concat();
    let output = session.output(&arguments);
    let text = session.text(&arguments, &output);
    let audit = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {text}"));
    (output.status.code().unwrap(), audit)
}

/// The record with `change` made to it, as a container of its own.
fn altered(session: &Session, name: &str, change: impl FnOnce(&mut Experiment)) {
    let mut experiment = mantissa_evidence::read(&session.path("record")).unwrap();
    change(&mut experiment);
    // What was altered is no longer what repetitions had.
    for configuration in &mut experiment.configurations {
        if let Some(extras) = &mut configuration.mantissa {
            extras.reproducibility.digests.clear();
            extras.reproducibility.repetitions = 0;
            extras.reproducibility.outcome = mantissa_evidence::Outcome::NotChecked;
        }
    }
    container::write(&session.path(name), &experiment).unwrap();
}

fn tensor<'e>(experiment: &'e mut Experiment, phase: Phase, site: &str) -> &'e mut SignalTensor {
    let site: Site = site.parse().unwrap();
    let run = &mut experiment.runs[0];
    let signals = if phase == Phase::Prefill { &mut run.prefill } else { &mut run.decode };
    signals.as_mut().unwrap().tensors.get_mut(&site).unwrap()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_batch_size_fits_its_class_and_no_other() {
    let session = recorded("1,2,4,5,8,9", &[]);
    let vary = ["--vary", "batch_size=1,2,4,5,8,9,16,17"];
    let (code, audit) = verified(&session, "record", &vary);
    assert_eq!((code, &audit["outcome"]), (0, &"consistent".into()));
    let class =
        |sizes: &[u32]| -> Vec<String> { sizes.iter().map(|n| format!("cpu_bs{n}_eager_f32")).collect() };
    let classes = [class(&[1]), class(&[2, 4]), class(&[5, 8]), class(&[9, 16, 17])];
    let claims = audit["claims"].as_array().unwrap();
    assert_eq!(claims.len(), 6);
    for claim in claims {
        let name = claim["config_id"].as_str().unwrap().to_owned();
        let own = classes.iter().find(|class| class.contains(&name)).unwrap();
        let mut fits: Vec<String> = texts(&claim["fits"][0]);
        fits.sort_by_key(String::len);
        assert_eq!(claim["fits"].as_array().unwrap().len(), 1, "{name}");
        assert_eq!(fits.len(), own.len(), "{name}: {fits:?}");
        assert!(own.iter().all(|member| fits.contains(member)), "{name}: {fits:?}");
        let rests_on = &claim["rests_on"];
        assert!(rests_on["values"].as_u64().unwrap() > 1_000, "{claim}");
        assert_eq!(rests_on["values"], rests_on["recorded"], "every recorded value, each once");
        // The other three classes were computed and differ.
        let states = claim["replays"].as_array().unwrap().iter().filter(|r| r["state"] == "different");
        assert_eq!(states.count(), 3, "{name}");
    }
    // 48 candidates are 24 classes; the prompt's pass is one for all of them.
    let cost = &audit["cost"];
    assert_eq!((&cost["candidates"], &cost["classes"]), (&48.into(), &24.into()));
    assert!(cost["passes_planned"].as_u64() < cost["passes_alone"].as_u64(), "{cost}");
    // The same claim, another setup: contradicted, and the right class is named.
    let (code, audit) = verified(&session, "record", &[&vary[..], &["--claim", "batch_size=17"]].concat());
    assert_eq!(code, 1);
    let claim = &audit["claims"][0];
    assert_eq!(
        (&claim["config_id"], &claim["answer"]),
        (&"cpu_bs1_eager_f32".into(), &"contradicted".into())
    );
    assert_eq!(texts(&claim["fits"][0]), ["cpu_bs1_eager_f32"]);
    let first = &claim["replays"][0]["first"];
    assert_eq!((&first["phase"], &first["step"]), (&"decode".into(), &0.into()), "{claim}");
}

#[test]
fn attention_dtype_and_hardware_that_were_not_used_are_contradicted() {
    let session = recorded("2", &[]);
    let (code, audit) = verified(&session, "record", &["--vary", "attention=eager,sdpa,flash_attention_2"]);
    assert_eq!(code, 0, "{audit}");
    for claim in ["attention=sdpa", "attention=flash_attention_2", "dtype=bf16", "dtype=f16"] {
        let field = claim.split('=').next().unwrap();
        let vary =
            if field == "dtype" { "dtype=f32,bf16,f16" } else { "attention=eager,sdpa,flash_attention_2" };
        let (code, audit) = verified(&session, "record", &["--claim", claim, "--vary", vary]);
        assert_eq!(code, 1, "{claim}");
        assert_eq!(audit["claims"][0]["answer"], "contradicted", "{claim}");
        assert_eq!(texts(&audit["claims"][0]["fits"][0]), ["cpu_bs2_eager_f32"], "{claim}");
    }
    // None of the candidates: the truth is left out.
    let (code, audit) = verified(&session, "record", &["--claim", "attention=sdpa"]);
    assert_eq!((code, &audit["claims"][0]["answer"]), (1, &"fits_none".into()));
    // No recipe covers this shape: not checked, and no contradiction.
    let (code, audit) = verified(&session, "record", &["--claim", "hardware=h200"]);
    assert_eq!((code, &audit["claims"][0]["answer"]), (3, &"not_enough_evidence".into()));
    let said = audit["claims"][0]["enough"].as_str().unwrap();
    assert!(said.contains("is not covered"), "{said}");
    let (code, audit) = verified(&session, "record", &["--vary", "hardware=cpu,h200"]);
    assert_eq!(code, 0);
    assert!(texts(&audit["claims"][0]["not_checked"])[0].starts_with("h200_bs2_eager_f32: "), "{audit}");
}

#[test]
fn a_flipped_bit_is_found_where_it_was_flipped() {
    // One position a pass: no row is stored twice.
    let session = recorded("2", &["--positions=-1"]);
    // Step 3 of layer 4's keys, element 5: the last bit of its significand.
    altered(&session, "flipped", |experiment| {
        let keys = tensor(experiment, Phase::Decode, "layer_4.k");
        let [_, _, dim] = keys.shape;
        keys.data[(3 * dim + 5) * 4] ^= 1;
    });
    let (code, audit) = verified(&session, "flipped", &["--vary", "batch_size=1,2,5,9"]);
    assert_eq!((code, &audit["claims"][0]["answer"]), (1, &"fits_none".into()));
    let claimed = audit["claims"][0]["replays"].as_array().unwrap().iter().find(|r| r["claimed"] == true);
    let first = &claimed.unwrap()["first"];
    assert_eq!(
        (&first["phase"], &first["step"], &first["position"]),
        (&"decode".into(), &3.into(), &(-1).into())
    );
    assert_eq!((&first["site"], &first["element"]), (&"layer_4.k".into(), &5.into()));
    assert_eq!(claimed.unwrap()["different"], 1);
    // The replay ended there: 5 of 7 passes.
    assert_eq!(claimed.unwrap()["passes"], serde_json::json!([5, 7]));

    altered(&session, "prompt", |experiment| {
        tensor(experiment, Phase::Prefill, "final_norm").data[0] ^= 1;
    });
    let (code, audit) = verified(&session, "prompt", &[]);
    assert_eq!((code, &audit["claims"][0]["replays"][0]["first"]["site"]), (1, &"final_norm".into()));

    altered(&session, "candidate", |experiment| {
        let logprobs = experiment.runs[0].decode.as_mut().unwrap().logprobs.as_mut().unwrap();
        logprobs.log_probs[0] = f32::from_bits(logprobs.log_probs[0].to_bits() ^ 1);
    });
    let (code, audit) = verified(&session, "candidate", &[]);
    assert_eq!((code, &audit["claims"][0]["replays"][0]["first"]["site"]), (1, &"logprobs".into()));
}

#[test]
fn a_replaced_token_is_found() {
    let session = recorded("1", &[]);
    altered(&session, "token", |experiment| {
        let id = &mut experiment.runs[0].output_token_ids[2];
        *id = (*id + 1) % 500;
        // Its text would say what it was.
        experiment.runs[0].output_token_texts.clear();
    });
    let (code, audit) = verified(&session, "token", &[]);
    assert_eq!((code, &audit["claims"][0]["answer"]), (1, &"fits_none".into()));
    // The replay of step 1 would have chosen another token than the evidence says.
    let first = &audit["claims"][0]["replays"][0]["first"];
    assert_eq!(
        (&first["site"], &first["phase"], &first["step"]),
        (&"output_token".into(), &"decode".into(), &1.into())
    );
}

#[test]
fn a_replay_by_prefill_cannot_see_batch_sizes_and_says_why() {
    let session = recorded("1,4", &[]);
    let (code, audit) = verified(
        &session,
        "record",
        &["--replay", "prefill", "--vary", "batch_size=1,2,4,5,8,9,16,17", "--full"],
    );
    assert_eq!(code, 0, "{audit}");
    let claims = audit["claims"].as_array().unwrap();
    assert_eq!(claims.len(), 2);
    for claim in claims {
        assert_eq!(texts(&claim["fits"][0]).len(), 8, "one class");
        assert!(
            texts(&claim["cannot_tell_apart"])
                .iter()
                .any(|line| line.starts_with("batch sizes, by a replay in one pass"))
        );
        assert!(texts(&claim["not_checked"]).iter().any(|line| line.starts_with("decode rows: ")), "{claim}");
    }
    assert_eq!(audit["cost"]["passes_planned"], 1, "both outputs are the same tokens: {}", audit["cost"]);
    // Attention shows in the prompt's own pass.
    let (code, audit) = verified(
        &session,
        "record",
        &["--replay", "prefill", "--claim", "attention=sdpa", "--vary", "attention=eager,sdpa"],
    );
    assert_eq!((code, &audit["claims"][0]["answer"]), (1, &"contradicted".into()));
}

#[test]
fn repetitions_that_differ_are_judged_by_statistics_or_not_at_all() {
    let session = recorded("1", &[]);
    let noisy = |experiment: &mut Experiment, repetitions: u32| {
        let run = experiment.runs[0].clone();
        experiment.runs.clear();
        for rep in 0..repetitions {
            let mut run = run.clone();
            run.rep_id = rep;
            let keys =
                run.decode.as_mut().unwrap().tensors.get_mut(&"layer_1.x_out".parse().unwrap()).unwrap();
            // Another element flips in each repetition: none has the replay's bits.
            let at = keys.data.len() / 4 - 1 - rep as usize;
            keys.data[at * 4] ^= 1;
            experiment.runs.push(run);
        }
    };
    altered(&session, "few", |experiment| noisy(experiment, 3));
    let (code, audit) = verified(&session, "few", &["--full"]);
    assert_eq!((code, &audit["claims"][0]["answer"]), (3, &"not_enough_evidence".into()), "{audit}");
    let said = audit["claims"][0]["enough"].as_str().unwrap();
    assert!(said.contains("repetitions differ") && said.contains("19 of each prompt"), "{said}");
    altered(&session, "many", |experiment| noisy(experiment, 24));
    let (code, audit) = verified(&session, "many", &["--full"]);
    assert_eq!((code, &audit["claims"][0]["answer"]), (0, &"consistent".into()), "{audit}");
    assert_eq!(
        (&audit["claims"][0]["tier"], &audit["thresholds"][0]["name"]),
        (&"statistical".into(), &"alpha".into())
    );
    // Another setup is far outside what repetitions show.
    let (code, audit) = verified(
        &session,
        "many",
        &["--full", "--claim", "attention=sdpa", "--vary", "attention=eager,sdpa"],
    );
    assert_eq!(
        (code, &audit["claims"][0]["answer"]),
        (3, &"not_enough_evidence".into()),
        "24 are too few for two: {audit}"
    );
    altered(&session, "most", |experiment| noisy(experiment, 40));
    let (code, audit) = verified(
        &session,
        "most",
        &["--full", "--claim", "attention=sdpa", "--vary", "attention=eager,sdpa"],
    );
    assert_eq!((code, &audit["claims"][0]["answer"]), (1, &"contradicted".into()), "{audit}");
}

#[test]
fn a_spot_check_finds_what_it_draws_and_says_what_it_would_miss() {
    let sites = "embed_out,x_in,q,k,v,attn_out,x_after_attn,ffn_norm,mlp_out,x_out,logits";
    let session = recorded("2", &["--layers", "1,2,3,4", "--sites", sites, "--positions=-1"]);
    let (code, audit) = verified(&session, "record", &["--spot-check", "700"]);
    assert_eq!((code, &audit["claims"][0]["answer"]), (0, &"consistent".into()), "{audit}");
    let spot = &audit["spot_checks"][0];
    assert_eq!((&spot["drawn"], &spot["different"]), (&700.into(), &0.into()));
    let missed = spot["missed"].as_array().unwrap().iter().find(|m| m["extent"] == 0.01).unwrap();
    assert!(missed["probability"].as_f64().unwrap() < 1e-3, "{spot}");
    let unreached = texts(&spot["out_of_reach"]);
    assert!(unreached.iter().any(|line| line.contains("values of attn_out")), "{unreached:?}");
    // The seed decides what is drawn, and nothing else does.
    assert!(verified(&session, "record", &["--spot-check", "700"]).1 == audit);
    // Another batch size computes other values from the same inputs.
    let (code, audit) = verified(&session, "record", &["--spot-check", "700", "--claim", "batch_size=9"]);
    assert_eq!((code, &audit["claims"][0]["answer"]), (1, &"fits_none".into()));
    assert!(audit["spot_checks"][0]["different"].as_u64().unwrap() > 10, "{audit}");
    // One value in a hundred of the MLP's outputs altered: found, at one of them.
    altered(&session, "sparse", |experiment| {
        for layer in 1..=4 {
            for site in ["q", "v", "ffn_norm", "mlp_out", "x_out"] {
                let tensor = tensor(experiment, Phase::Decode, &format!("layer_{layer}.{site}"));
                for value in tensor.data.chunks_exact_mut(4).step_by(33) {
                    value[0] ^= 1;
                }
            }
        }
    });
    let (code, audit) = verified(&session, "sparse", &["--spot-check", "700"]);
    assert_eq!(code, 1, "{audit}");
    // Without inputs there is nothing to recompute.
    let bare = recorded("2", &["--layers", "2"]);
    let (code, audit) = verified(&bare, "record", &["--spot-check", "10"]);
    assert_eq!(code, 3, "{audit}");
}

/// Where keys and values of all positions are recorded, attention and experts are drawn too.
#[test]
fn a_spot_check_recomputes_attention_and_experts() {
    let session = Session::new();
    assert!(
        session.output(&["synth", "--arch", "qwen3_moe", "--seed", "3", "--out", "model"]).status.success()
    );
    let sites = "embed_out,x_in,q,k,v,attn_out,x_after_attn,ffn_norm,router_logits,router_topk,mlp_out,x_out";
    let document = repository().join("fixtures/documents/demo.pdf").display().to_string();
    let base = ["record", "--model", "model", "--document", &document, "--document-tokens", "24"];
    let record = |more: &[&str]| {
        let output = session.output(&[&base[..], &["--decode", "6"], more].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    record(&["--out", "length", "--positions=-1"]);
    let tokens = mantissa_evidence::read(&session.path("length")).unwrap().runs[0].prompt_token_ids.len();
    let positions: Vec<String> = (1..=tokens).map(|back| format!("-{back}")).collect();
    let positions = format!("--positions={}", positions.join(","));
    record(&["--out", "record", "--layers", "1,2,3,4", "--sites", sites, &positions]);
    let (code, audit) = verified(&session, "record", &["--spot-check", "600"]);
    assert_eq!((code, &audit["claims"][0]["answer"]), (0, &"consistent".into()), "{audit}");
    let spot = &audit["spot_checks"][0];
    for point in ["attn_out", "router_topk", "mlp_out"] {
        let kernels = spot["kernels"].as_array().unwrap();
        assert!(
            kernels.iter().any(|drawn| drawn[0] == *point && drawn[1].as_u64() > Some(0)),
            "{point}: {spot}"
        );
        assert!(!texts(&spot["out_of_reach"]).iter().any(|line| line.contains(point)), "{spot}");
    }
    assert!(texts(&audit["notes"])[0].contains("all earlier tokens"), "{audit}");
    // Wrong attention, wrong experts.
    for point in ["attn_out", "mlp_out"] {
        altered(&session, point, |experiment| {
            // The same columns of every row: what two passes stored stays the same.
            for (layer, phase) in (1..=4).flat_map(|layer| [(layer, Phase::Prefill), (layer, Phase::Decode)])
            {
                let tensor = tensor(experiment, phase, &format!("layer_{layer}.{point}"));
                assert!(tensor.shape[2].is_multiple_of(4));
                tensor.data.chunks_exact_mut(2).step_by(4).for_each(|value| value[0] ^= 1);
            }
        });
        let (code, audit) = verified(&session, point, &["--spot-check", "600"]);
        assert_eq!(code, 1, "{audit}");
    }
}

#[test]
fn a_self_test_catches_what_it_plants_and_passes_what_is_honest() {
    let session = Session::new();
    let output = session.output(&["--format", "json", "verify", "--self-test"]);
    let text = session.text(&["verify", "--self-test"], &output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let audit: Value = serde_json::from_slice(&output.stdout).unwrap();
    let planted = audit["self_test"].as_array().unwrap();
    assert!(!planted.is_empty() && planted.iter().all(|row| row["passed"] == true), "{text}");
    let honest = planted.iter().filter(|row| row["dishonest"] == false);
    assert!(
        honest.clone().count() >= 2 && honest.into_iter().all(|row| row["answer"] == "consistent"),
        "{text}"
    );
    for words in ["cpu_bs1_", "_sdpa_", "flipped", "token", "one ULP", "quantized"] {
        let caught = planted.iter().any(|row| {
            row["deviation"].as_str().unwrap().contains(words)
                && ["contradicted", "fits_none"].contains(&row["answer"].as_str().unwrap())
        });
        assert!(caught, "{words}: {text}");
    }
    // In the setup of evidence, its table joins the report.
    let session = recorded("4", &[]);
    let (code, audit) = verified(&session, "record", &["--self-test"]);
    assert_eq!(code, 0);
    assert!(
        audit["self_test"].as_array().unwrap().len() > 8 && audit["claims"].as_array().unwrap().len() == 1
    );
}

#[test]
fn what_cannot_be_verified_is_refused_in_one_line() {
    let session = recorded("1", &[]);
    assert!(session.output(&["synth", "--arch", "llama", "--seed", "4", "--out", "other"]).status.success());
    let line = session.failure(&["verify", "record", "--model", "other"]);
    assert!(
        line.contains("was recorded with weights") && line.ends_with("give the model that was recorded"),
        "{line}"
    );
    let run = fs::read_dir(session.path("record")).unwrap().flatten().map(|entry| entry.path());
    let run = run.into_iter().find(|path| path.extension().is_some_and(|e| e == "safetensors")).unwrap();
    for (wrong, words) in [
        (["--vary", "batch_size=0"], "is no batch size"),
        (["--vary", "hardware=tpu"], "no hardware 'tpu'"),
        (["--vary", "colour=red"], "no axis 'colour'"),
        (["--claim", "batch_size"], "has no '='"),
        (["--claim", "hardware=a100"], "use literature-a100"),
        (["--claim", "modell=m"], "or model=NAME"),
        (["--claim", "model="], "give its name: model=NAME"),
    ] {
        let line = session.failure(&[&["verify", "record", "--model", "model"], &wrong[..]].concat());
        assert!(line.contains(words), "{line}");
    }
    let bytes = fs::read(&run).unwrap();
    fs::write(&run, &bytes[..bytes.len() - 8]).unwrap();
    let line = session.failure_of(4, &["verify", "record", "--model", "model"]);
    assert!(line.contains("the manifest states"), "{line}");
}

#[test]
fn a_state_file_holds_what_is_done_and_is_refused_for_another_question() {
    let session = recorded("1,2", &[]);
    let vary = ["--vary", "batch_size=1,2,5"];
    let (_, whole) = verified(&session, "record", &vary);
    let (_, first) = verified(&session, "record", &[&vary[..], &["--state", "state.json"]].concat());
    // Half of it, as a killed verification leaves it.
    let text = fs::read_to_string(session.path("state.json")).unwrap();
    let mut state: Value = serde_json::from_str(&text).unwrap();
    let kept = state["finished"].as_array_mut().unwrap();
    assert_eq!(kept.len(), 6);
    kept.truncate(3);
    fs::write(session.path("state.json"), state.to_string()).unwrap();
    let (_, resumed) = verified(&session, "record", &[&vary[..], &["--state", "state.json"]].concat());
    assert!(whole == first && whole == resumed);
    assert_eq!(fs::read_to_string(session.path("state.json")).unwrap(), text);
    let other = ["verify", "record", "--model", "model", "--state", "state.json"];
    let line = session.failure(&other);
    assert!(line.contains("another verification"), "{line}");
}

/// Files of other programs: nothing can be replayed, and the reasons are said.
#[test]
fn published_files_are_not_enough_and_say_what_would_be() {
    let session = Session::new();
    for (file, words) in [
        ("batch_generation.json", "no weights to replay with"),
        ("batch_verification.json", "somebody else measured"),
        ("activations.json", "token ids are not in the file"),
    ] {
        let path = mantissa_testkit::synthetic(file).display().to_string();
        let output = session.output(&["verify", &path]);
        let text = session.text(&["verify", file], &output);
        assert_eq!(output.status.code(), Some(3), "{text}");
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(words) && flat.contains("What the evidence says of itself"), "{text}");
    }
}

/// Evidence that stock transformers left on a GPU, verified here without one. Of the batch sizes, those that no kernel
/// tells apart are one class, and so are an H200 and an H100, whose libraries pick the same kernels for these shapes.
#[test]
fn evidence_of_a_gpu_is_verified_without_one() {
    let golden = repository().join("goldens/gpu/evidence_h200");
    let session = Session::new();
    let made = session.output(&["synth", "--arch", "llama", "--preset", "smollm2-135m", "--out", "model"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let golden = golden.display().to_string();
    let captured: [(&str, &[u32]); 6] = [
        ("h200_bs1_eager_bf16", &[1]),
        ("h200_bs2_eager_bf16", &[2]),
        ("h200_bs4_eager_bf16", &[4]),
        ("h200_bs5_eager_bf16", &[5]),
        ("h200_bs8_eager_bf16", &[8, 9]),
        ("h200_bs16_eager_bf16", &[16, 17]),
    ];
    let audits = |more: &[&str]| {
        let (code, audit) = verified(&session, &golden, more);
        let claims = audit["claims"].as_array().unwrap().clone();
        assert_eq!(claims.len(), captured.len());
        let find = move |name: &str| claims.iter().find(|claim| claim["config_id"] == name).unwrap().clone();
        (code, captured.map(|(name, sizes)| (name, sizes, find(name))))
    };
    let fits = |claim: &Value| -> BTreeSet<String> {
        claim["fits"].as_array().unwrap().iter().flat_map(texts).collect()
    };
    let (code, claims) = audits(&["--vary", "batch_size=1,2,4,5,8,9,16,17", "--vary", "hardware=h200,h100"]);
    assert_eq!(code, 0);
    for (name, sizes, claim) in claims {
        assert_eq!(claim["answer"], "consistent", "{claim}");
        let own = ["h200", "h100"]
            .iter()
            .flat_map(|gpu| sizes.iter().map(move |n| format!("{gpu}_bs{n}_eager_bf16")));
        assert_eq!(fits(&claim), own.collect(), "{name}");
        assert!(claim["rests_on"]["tokens_checked"].as_u64().unwrap() > 0);
    }
    let (code, claims) = audits(&[
        "--vary",
        "attention=eager,sdpa,sdpa_flash,sdpa_math",
        "--vary",
        "hardware=cpu,h200",
        "--vary",
        "dtype=bf16,f16",
    ]);
    assert_eq!(code, 0);
    for (name, sizes, claim) in claims {
        assert_eq!(fits(&claim), BTreeSet::from([name.to_owned()]), "{claim}");
        // Computed, and contradicted: the other attentions of the GPU, and the engine's own kernels in both formats.
        let state = |candidate: &str| {
            let replay = claim["replays"].as_array().unwrap().iter();
            let found = replay.clone().find(|replay| texts(&replay["class"]).contains(&candidate.to_owned()));
            found.map(|replay| replay["state"].as_str().unwrap().to_owned())
        };
        let size = sizes[0];
        for candidate in [
            "h200_bs#_sdpa_flash_bf16",
            "h200_bs#_sdpa_math_bf16",
            "cpu_bs#_eager_bf16",
            "cpu_bs#_eager_f16",
            "cpu_bs#_sdpa_bf16",
        ] {
            let candidate = candidate.replace('#', &size.to_string());
            assert_eq!(state(&candidate).as_deref(), Some("different"), "{name}: {candidate}");
        }
        assert_eq!(
            state(&format!("h200_bs{size}_sdpa_bf16")),
            None,
            "cuDNN's long decodes are not reproducible"
        );
    }
    // The same evidence under another claim.
    for claim in ["hardware=cpu", "batch_size=9", "attention=sdpa_flash"] {
        let (code, claims) = audits(&["--claim", claim]);
        assert_eq!(code, 1, "{claim}");
        for (name, _, verdict) in claims {
            let answer =
                if claim == "batch_size=9" && name.contains("bs8_") { "consistent" } else { "fits_none" };
            assert_eq!(verdict["answer"], answer, "{name} as {claim}");
        }
    }
}

/// What an H200 would leave, claimed to be of every other hardware there is: contradicted at a named site, and the
/// right one named.
#[test]
fn evidence_of_one_hardware_claimed_as_another_is_contradicted() {
    use std::fmt::Write as _;

    let session = Session::new();
    let mut text = String::new();
    for i in 0_u32..400 {
        write!(text, "{} measured roundings of word {i} differ from {}. ", i * 7919 % 10007, i * 31 % 997)
            .unwrap();
    }
    fs::write(session.path("document.txt"), text).unwrap();
    let run = |command: &str| {
        let output = session.output(&command.split(' ').collect::<Vec<_>>());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    run("synth --arch llama --preset smollm2-135m --out model");
    run(
        "record --hardware h200 --model model --document document.txt --document-tokens 7 --decode 2 --reps 1 --out record",
    );
    let all = mantissa_engine::Hardware::ALL.map(mantissa_engine::Hardware::name);
    let vary = format!("hardware={}", all.join(","));
    let mut contradicted = Vec::new();
    for other in all.into_iter().filter(|name| *name != "h200") {
        let claim = format!("hardware={other}");
        let (code, audit) = verified(&session, "record", &["--claim", &claim, "--vary", &vary]);
        let judged = &audit["claims"][0];
        if judged["answer"] == "not_enough_evidence" {
            // A hardware whose recipes do not cover this shape is not contradicted, it is not checked.
            assert!(judged["enough"].as_str().unwrap().contains("is not covered"), "{other}: {judged}");
            continue;
        }
        let class = texts(&judged["fits"][0]);
        if ["h200", other].iter().all(|name| class.contains(&format!("{name}_bs1_eager_bf16"))) {
            // One class by recipe, as H100 and H200 left the same bits in published experiments: no test can separate
            // them.
            assert_eq!((other, code), ("h100", 0), "{judged}");
            continue;
        }
        assert_eq!((code, &judged["answer"]), (1, &"contradicted".into()), "{other}: {judged}");
        let fits: Vec<String> = judged["fits"].as_array().unwrap().iter().flat_map(texts).collect();
        assert!(fits.contains(&"h200_bs1_eager_bf16".to_owned()), "{other}: {fits:?}");
        assert!(!fits.contains(&format!("{other}_bs1_eager_bf16")), "{other}: {fits:?}");
        let claimed = judged["replays"].as_array().unwrap().iter().find(|replay| replay["claimed"] == true);
        assert!(claimed.unwrap()["first"]["site"].as_str().unwrap().starts_with("layer_"), "{judged}");
        contradicted.push(other);
    }
    assert!(contradicted.contains(&"cpu"), "{contradicted:?}");
    // Beside no hardware that was compared, literature neither fits nor contradicts.
    let (code, audit) = verified(
        &session,
        "record",
        &["--claim", "hardware=literature-a100", "--vary", "hardware=literature-a100,literature-l40s"],
    );
    assert_eq!((code, &audit["claims"][0]["answer"]), (3, &"not_enough_evidence".into()), "{audit}");
    let said = texts(&audit["claims"][0]["not_checked"]).join(" ");
    assert!(said.contains("from literature"), "{said}");
    // 40 tokens and 2 more: on a GPU a pass of another length sums the prompt's rows otherwise, and must not speak
    // against them.
    let (code, audit) = verified(&session, "record", &["--replay", "prefill"]);
    assert_eq!((code, &audit["claims"][0]["answer"]), (0, &"consistent".into()), "{audit}");
}
