//! What `vllm serve` answered on an H200, verified here from its JSON alone.

use serde_json::Value;

use crate::session::{Session, repository};
use crate::verify::verified;

/// SmolLM2-135M's widths in four blocks, as `goldens/audit/gpu/serve.py` makes them.
const MODEL: &str = "synth --preset smollm2-135m --num-hidden-layers 4 --seed 17 --out model";
const CLAIM: [&str; 4] = ["--claim", "engine=vllm-0.24", "--claim", "hardware=h200"];

fn session() -> Session {
    let session = Session::new();
    let made = session.output(&MODEL.split_whitespace().collect::<Vec<_>>());
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    session
}

fn golden(name: &str) -> String {
    repository().join("goldens/audit/answers_h200").join(name).display().to_string()
}

#[test]
fn answers_alone_tell_what_served() {
    let session = session();
    for (name, answer, values) in [
        ("honest.jsonl", "consistent", 331),
        ("honest-streamed.jsonl", "consistent", 320),
        ("batch-invariant.jsonl", "fits_none", 20),
        ("one-step-of-training.jsonl", "fits_none", 20),
        ("runner-v1.jsonl", "fits_none", 140),
    ] {
        let (code, audit) = verified(&session, &golden(name), &CLAIM);
        let claim = &audit["claims"][0];
        assert_eq!(
            (code, claim["answer"].as_str()),
            (i32::from(answer != "consistent"), Some(answer)),
            "{claim}"
        );
        assert_eq!(claim["rests_on"]["values"], Value::from(values), "{name}");
    }
    // A server may run the other model runner: nothing but log-probabilities shows it.
    let other = [&CLAIM[..], &["--vary", "model_runner=auto,v1,v2"]].concat();
    let (_, audit) = verified(&session, &golden("runner-v1.jsonl"), &other);
    let claim = &audit["claims"][0];
    assert_eq!(claim["answer"], "contradicted");
    assert_eq!(
        claim["fits"],
        serde_json::json!([["h200_bs1_flash_attention_3_bf16_vllm-0.24_runner-v1"]]),
        "{claim}"
    );
}

/// A prompt's own log-probabilities are evidence as those of outputs are, and more of it: here 840 of 920 values.
#[test]
fn a_prompts_own_tokens_tell_what_served() {
    let session = session();
    let judged = |path: &str, claim: &[&str]| {
        let (code, audit) = verified(&session, path, &[&CLAIM[..], claim].concat());
        let claim = &audit["claims"][0];
        let replay = &claim["replays"][0];
        let answer = claim["answer"].as_str().unwrap_or_default().to_owned();
        (
            code,
            answer,
            claim["rests_on"]["values"].clone(),
            replay["different"].clone(),
            replay["first"].clone(),
        )
    };
    let (code, answer, values, different, first) = judged(&golden("prompt.jsonl"), &[]);
    assert_eq!((code, answer.as_str()), (0, "consistent"), "{first}");
    assert_eq!((values, different), (Value::from(920), Value::from(0)));
    // The other model runner: another sum of exponentials, seen in the prompt's pass already.
    let (code, answer, values, different, first) =
        judged(&golden("prompt.jsonl"), &["--claim", "model_runner=v1"]);
    assert_eq!((code, answer.as_str(), values), (1, "fits_none", Value::from(860)), "{first}");
    assert_eq!((different, &first["position"]), (Value::from(158), &Value::from(-41)), "{first}");
    // The prompt alone is enough, and one other bit in it is found where it is.
    let mut whole: Value =
        serde_json::from_str(&std::fs::read_to_string(golden("prompt.jsonl")).unwrap()).unwrap();
    whole["response"]["choices"][0]["logprobs"] = Value::Null;
    let path = session.path("prompt.jsonl");
    std::fs::write(&path, whole.to_string()).unwrap();
    let (code, answer, values, ..) = judged("prompt.jsonl", &[]);
    assert_eq!((code, answer.as_str(), values), (0, "consistent", Value::from(840)));
    let value = whole["response"]["choices"][0]["prompt_logprobs"][7]
        .as_object_mut()
        .and_then(|entry| entry.values_mut().last())
        .expect("a candidate");
    let bits = value["logprob"].as_f64().expect("a number");
    #[expect(clippy::cast_possible_truncation, reason = "it is a binary32 value")]
    let next = f64::from((bits as f32).next_up());
    value["logprob"] = next.into();
    std::fs::write(&path, whole.to_string()).unwrap();
    let (code, answer, _, different, first) = judged("prompt.jsonl", &[]);
    assert_eq!((code, answer.as_str(), different), (1, "fits_none", Value::from(1)));
    // Token 7 of 41 is told by the position before it.
    assert_eq!(
        (&first["phase"], &first["position"]),
        (&Value::from("prefill"), &Value::from(-35)),
        "{first}"
    );
    // Ids that are not the prompt's.
    whole["response"]["choices"][0]["prompt_logprobs"].as_array_mut().unwrap().pop();
    std::fs::write(&path, whole.to_string()).unwrap();
    let arguments = ["verify", "prompt.jsonl", "--model", "model"];
    let refused = session.output(&[&arguments[..], &CLAIM[..]].concat());
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("40 entries of prompt_logprobs beside 41 prompt ids"), "{said}");
}

/// The same answers with fewer digits, without ids, and changed in one digit.
#[test]
fn rounded_values_are_equal_at_their_decimals() {
    let session = session();
    let whole = std::fs::read_to_string(golden("honest.jsonl")).unwrap();
    let value: Value = serde_json::from_str(&whole).unwrap();
    let rounded = rounded(value, &|x| (x * 1e4).round() / 1e4);
    let path = session.path("rounded.jsonl");
    std::fs::write(&path, rounded.to_string()).unwrap();
    let (code, audit) = verified(&session, "rounded.jsonl", &CLAIM);
    assert_eq!((code, &audit["claims"][0]["answer"]), (0, &Value::from("consistent")), "{audit}");
    let note = audit["notes"].to_string();
    assert!(note.contains("rounded to 4 decimals, which leaves out"), "{note}");
    let text = rounded.to_string();
    let at = text.find("token_logprobs\":[-").unwrap() + "token_logprobs\":[-".len();
    let digit = if text.as_bytes()[at] == b'9' { "8" } else { "9" };
    let end = at + text[at..].find([',', ']']).unwrap();
    let (said, changed) = (&text[at..end], format!("{digit}{}", &text[at + 1..end]));
    // Alone it is a contradiction of the answer with itself.
    std::fs::write(&path, format!("{}{changed}{}", &text[..at], &text[end..])).unwrap();
    let refused = session.output(&[&["verify", "rounded.jsonl", "--model", "model"][..], &CLAIM].concat());
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(2) && error.contains("and, among its candidates,"), "{error}");
    std::fs::write(&path, text.replace(said, &changed)).unwrap();
    let (code, audit) = verified(&session, "rounded.jsonl", &CLAIM);
    assert_eq!((code, &audit["claims"][0]["answer"]), (1, &Value::from("fits_none")), "{audit}");
    // Nobody knows what was fed.
    let mut unfed: Value = serde_json::from_str(&whole).unwrap();
    unfed["request"].as_object_mut().unwrap().remove("prompt");
    unfed["response"]["choices"][0].as_object_mut().unwrap().remove("prompt_token_ids");
    std::fs::write(&path, unfed.to_string()).unwrap();
    let (code, audit) = verified(&session, "rounded.jsonl", &CLAIM);
    assert_eq!((code, &audit["claims"][0]["answer"]), (3, &Value::from("not_enough_evidence")), "{audit}");
}

/// Every log-probability by `with`.
fn rounded(value: Value, with: &dyn Fn(f64) -> f64) -> Value {
    match value {
        Value::Number(number) if number.as_f64().is_some_and(|x| x < 0.0) => {
            Value::from(with(number.as_f64().unwrap()))
        }
        Value::Array(list) => list.into_iter().map(|value| rounded(value, with)).collect(),
        Value::Object(object) => {
            Value::Object(object.into_iter().map(|(key, value)| (key, rounded(value, with))).collect())
        }
        other => other,
    }
}
