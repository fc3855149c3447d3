//! Settings of generation as files and requests state them → [`Generation`]: those that act on the choice of tokens,
//! as transformers 5.17 applies a `generation_config.json`.
//!
//! Left out: settings that change no token of a record (lengths, caches, outputs, what ends an output), and what
//! settings do to logits (engine).

use std::path::Path;

use mantissa_numerics::Generation;
use serde_json::{Map, Value, json};

use crate::config::ModelConfig;
use crate::config_json::token_ids;
use crate::decision::{Decisions, some};
use crate::error::{LARGEST_JSON, ModelError, read_small, shown, shown_path};

/// Settings, and what was found beside them.
///
/// Example: [`settings`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Stated {
    /// The settings, draws included.
    pub generation: Generation,
    /// Keys that transformers has no setting for.
    pub unknown: Vec<String>,
    /// Settings of draws that are not read, since tokens are chosen greedily.
    pub unread: Vec<String>,
    /// Settings of draws, with their values, that nothing can be drawn by.
    pub undrawable: Vec<String>,
}

/// Keys without an effect on which token is chosen next.
const WITHOUT_EFFECT: &str = "max_length max_new_tokens max_time stop_strings early_stopping num_return_sequences \
     use_cache cache_implementation cache_config bos_token_id pad_token_id decoder_start_token_id length_penalty \
     output_attentions output_hidden_states output_scores output_logits return_dict_in_generate token_healing \
     is_assistant num_assistant_tokens num_assistant_tokens_schedule assistant_confidence_threshold \
     assistant_lookbehind assistant_early_exit target_lookbehind prompt_lookup_num_tokens max_matching_ngram_size \
     prefill_chunk_size compile_config disable_compile low_memory transformers_version trust_remote_code \
     continuous_batching_config";

/// Keys with an effect that nothing here computes.
const NOT_COMPUTED: &str = "num_beams num_beam_groups diversity_penalty penalty_alpha guidance_scale \
     encoder_repetition_penalty encoder_no_repeat_ngram_size dola_layers constraints force_words_ids \
     watermarking_config renormalize_logits use_mtp";

/// Of the settings that only draws read, those with a place of their own.
const WITH_A_PLACE: usize = 5;

/// Settings of requests, which transformers does not have.
const OF_REQUESTS: &str = "frequency_penalty presence_penalty ignore_eos";

/// The settings that a greedy choice is computed under.
const COMPUTED: &str = "sequence_bias repetition_penalty frequency_penalty presence_penalty no_repeat_ngram_size \
     bad_words_ids min_length min_new_tokens forced_bos_token_id forced_eos_token_id remove_invalid_values \
     exponential_decay_length_penalty suppress_tokens begin_suppress_tokens eos_token_id ignore_eos";

/// Whether a setting acts on draws alone.
///
/// ```
/// use mantissa_model::generation::is_of_draws;
///
/// assert!(is_of_draws("top_k") && is_of_draws("do_sample") && !is_of_draws("repetition_penalty"));
/// ```
#[must_use]
pub fn is_of_draws(key: &str) -> bool {
    key == "do_sample" || Generation::OF_DRAWS.contains(&key)
}

/// Whether a setting of this name acts on the choice of tokens.
///
/// ```
/// use mantissa_model::generation::is_setting;
///
/// assert!(is_setting("repetition_penalty") && is_setting("num_beams") && is_setting("top_h"));
/// assert!(!is_setting("max_length") && !is_setting("batch_size"));
/// ```
#[must_use]
pub fn is_setting(key: &str) -> bool {
    is_of_draws(key) || is_one(COMPUTED, key) || is_one(NOT_COMPUTED, key)
}

/// The setting that `name` may be a slip of: at most two letters away, and less than half of it.
///
/// ```
/// use mantissa_model::generation::meant;
///
/// assert_eq!(meant("repetion_penalty"), Some("repetition_penalty"));
/// assert_eq!(meant("repetition-penalty"), Some("repetition_penalty"));
/// assert_eq!(meant("nonsense"), None);
/// ```
#[must_use]
pub fn meant(name: &str) -> Option<&'static str> {
    const MOST: usize = 2;
    let names = COMPUTED.split_whitespace().chain(NOT_COMPUTED.split_whitespace());
    let names = names.chain(Generation::OF_DRAWS).chain(["do_sample"]);
    let near = names.map(|known| (strsim::damerau_levenshtein(name, known), known)).min()?;
    (near.0 <= MOST && 2 * near.0 < name.chars().count()).then_some(near.1)
}

fn is_one(names: &str, key: &str) -> bool {
    names.split_whitespace().any(|name| name == key)
}

/// Whether a setting does nothing at this value.
fn is_idle(key: &str, value: &Value) -> bool {
    let idle = match key {
        "repetition_penalty"
        | "encoder_repetition_penalty"
        | "guidance_scale"
        | "num_beams"
        | "num_beam_groups"
        | "typical_p" => json!(1.0),
        _ => json!(0.0),
    };
    let number = match value {
        Value::Bool(false) => Some(0.0),
        value => value.as_f64(),
    };
    // Token 0 is a token, and the seed 0 a seed.
    let zero_is_a_value = key == "seed" || key.ends_with("token_id") || key.ends_with("suppress_tokens");
    value.is_null()
        || (!zero_is_a_value && number.zip(idle.as_f64()).is_some_and(|(a, b)| a.to_bits() == b.to_bits()))
}

/// Reads settings: of a `generation_config.json`, or of a request, which has penalties that transformers lacks. `file`
/// names them in errors; tokens lie in a vocabulary of `tokens`.
///
/// ```
/// use mantissa_model::generation::settings;
/// use serde_json::json;
///
/// let json = json!({"do_sample": true, "temperature": 0.7, "repetition_penalty": 1.05, "max_length": 20, "own": 1});
/// let map = json.as_object().expect("an object");
/// let stated = settings("generation_config.json", map, 512, false)?;
/// assert_eq!(stated.generation.to_string(), "do_sample, temperature 0.7, repetition_penalty 1.05");
/// assert_eq!(stated.unknown, ["own"]);
/// let json = json!({"repetition_penalty": "high"});
/// let error = settings("generation_config.json", json.as_object().expect("an object"), 512, false);
/// assert!(error.is_err_and(|e| e.to_string().contains("repetition_penalty: invalid type: string \"high\"")));
/// # Ok::<(), mantissa_model::ModelError>(())
/// ```
pub fn settings(
    file: &str,
    map: &Map<String, Value>,
    tokens: usize,
    of_request: bool,
) -> Result<Stated, ModelError> {
    let wrong = |key: &str, fault: String| Err(ModelError::damaged(file, key, fault));
    let mut known = Map::new();
    let (mut other, mut unknown) = (Map::new(), Vec::new());
    let (mut unread, mut undrawable) = (Vec::new(), Vec::new());
    let drawn = map.get("do_sample").is_some_and(|flag| !is_idle("do_sample", flag));
    for (key, value) in map {
        let of_draws = Generation::OF_DRAWS.iter().position(|name| name == key);
        if is_one(WITHOUT_EFFECT, key) && of_request {
            unknown.push(key.clone());
            continue;
        }
        if is_one(WITHOUT_EFFECT, key)
            || key.starts_with('_')
            || (is_idle(key, value) && key != "temperature")
        {
            continue;
        }
        match of_draws {
            Some(_) if !drawn => {
                if !is_usual(key, value) {
                    unread.push(key.clone());
                }
                continue;
            }
            Some(place) if place >= WITH_A_PLACE => {
                other.insert(key.clone(), shown(&value.to_string()).into());
                continue;
            }
            _ => {}
        }
        if is_one(NOT_COMPUTED, key) {
            other.insert(key.clone(), shown(&value.to_string()).into());
            continue;
        }
        if is_one(OF_REQUESTS, key) && !of_request {
            unknown.push(key.clone());
            continue;
        }
        let lists = ["eos_token_id", "forced_eos_token_id", "suppress_tokens", "begin_suppress_tokens"];
        let value = match value {
            Value::Number(_) if lists.contains(&key.as_str()) => json!([value]),
            value => value.clone(),
        };
        match serde_json::from_value::<Generation>(json!({key.as_str(): value})) {
            Ok(_) => drop(known.insert(key.clone(), value)),
            Err(error) if error.to_string().starts_with("unknown field") || key == "other" => {
                unknown.push(key.clone());
            }
            // A greedy choice does not read it, so it refuses no model.
            Err(_) if of_draws.is_some() => {
                undrawable.push(format!("{key} {}", shown(&value.to_string())));
                other.insert(key.clone(), shown(&value.to_string()).into());
            }
            Err(error) => return wrong(key, shown(&error.to_string())),
        }
    }
    known.insert("other".to_owned(), Value::Object(other));
    let generation: Generation = match serde_json::from_value(Value::Object(known)) {
        Ok(generation) => generation,
        Err(error) => return wrong("settings", shown(&error.to_string())),
    };
    if let Some(penalty) = generation.repetition_penalty.filter(|penalty| *penalty <= 0.0) {
        return wrong("repetition_penalty", format!("must be above 0, is {penalty}"));
    }
    let lists = [
        ("forced_bos_token_id", generation.forced_bos_token_id.as_slice()),
        ("forced_eos_token_id", generation.forced_eos_token_id.as_slice()),
    ];
    for (key, ids) in lists {
        if let Some(id) = ids.iter().find(|id| **id as usize >= tokens) {
            return wrong(key, format!("{id} must be a token of a vocabulary of {tokens}"));
        }
    }
    let sequences = generation.sequence_bias.iter().map(|(ids, _)| ids).chain(&generation.bad_words_ids);
    for ids in sequences {
        if ids.is_empty() || ids.iter().any(|id| *id as usize >= tokens) {
            let key = if generation.bad_words_ids.contains(ids) { "bad_words_ids" } else { "sequence_bias" };
            return wrong(key, format!("{ids:?} must be tokens of a vocabulary of {tokens}"));
        }
    }
    if generation.temperature.is_some_and(|temperature| temperature <= 0.0) {
        undrawable.extend(generation.temperature.map(|temperature| format!("temperature {temperature}")));
    }
    Ok(Stated { generation, unknown, unread, undrawable })
}

/// Whether a setting of draws has the value that it has where nothing is said of it, or none.
fn is_usual(key: &str, value: &Value) -> bool {
    let usual = match key {
        "temperature" | "top_p" | "typical_p" => 1.0,
        "top_k" => 50.0,
        _ => return is_idle(key, value),
    };
    value.is_null() || value.as_f64().is_some_and(|value| value.to_bits() == f64::to_bits(usual))
}

/// The settings of a `generation_config.json`, whose ends take the place of those in `config`.
pub(crate) fn of_file(
    path: &Path,
    config: &mut ModelConfig,
    decisions: &Decisions,
) -> Result<Generation, ModelError> {
    let json = read_small(path, LARGEST_JSON)?;
    let file = shown_path(path);
    let Ok(map) = serde_json::from_slice::<Map<_, _>>(&json) else {
        return Err(ModelError::damaged(&file, "line 1", "not a JSON object"));
    };
    let Some(ids) = token_ids(&map, "eos_token_id") else {
        return Err(ModelError::damaged(&file, "eos_token_id", "must be a token id or a list of them"));
    };
    let Stated { generation, unknown, unread, undrawable } = settings(&file, &map, config.vocab_size, false)?;
    if !ids.is_empty() {
        // transformers stops at these, which are often more than config.json names.
        config.eos_token_ids = ids;
    }
    if !unknown.is_empty() {
        let rule = "transformers 5.17 has no setting of this name";
        decisions.add(&file, format!("{} is there", some(&unknown)), "not applied", rule);
    }
    if !unread.is_empty() {
        let rule = "transformers 5.17 reads it only with do_sample";
        decisions.add(&file, format!("{} without do_sample", some(&unread)), "not read", rule);
    }
    if !undrawable.is_empty() {
        let rule = "transformers 5.17 refuses to draw by it, and a greedy choice does not read it";
        decisions.add(&file, format!("{} with do_sample", some(&undrawable)), "kept as stated", rule);
    }
    Ok(generation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_a_name_and_every_name_a_setting() {
        let names: Vec<&str> = COMPUTED.split_whitespace().chain(Generation::OF_DRAWS).collect();
        for name in &names[..names.len() - (Generation::OF_DRAWS.len() - WITH_A_PLACE)] {
            let error = serde_json::from_value::<Generation>(json!({*name: {}})).unwrap_err().to_string();
            assert!(!error.starts_with("unknown field"), "{error}");
        }
        let error = serde_json::from_value::<Generation>(json!({"none": 0})).unwrap_err().to_string();
        let fields =
            error.split_once("expected one of ").unwrap().1.split(", ").map(|name| name.trim_matches('`'));
        for field in fields {
            assert!(field == "other" || is_setting(field), "{field}");
        }
    }

    fn of(json: &Value, of_request: bool) -> Result<Stated, ModelError> {
        settings("generation_config.json", json.as_object().unwrap(), 8, of_request)
    }

    #[test]
    fn what_changes_no_token_is_nothing() {
        let idle = json!({"do_sample": false, "temperature": 0.6, "top_p": 0.9, "top_k": 0, "repetition_penalty": 1,
            "no_repeat_ngram_size": 0, "num_beams": 1, "guidance_scale": 1.0, "max_new_tokens": 20, "min_length": 0,
            "eos_token_id": null, "bad_words_ids": null, "typical_p": 0.5, "_from_model_config": true,
            "remove_invalid_values": false, "seed": 0, "transformers_version": "5.17.0", "renormalize_logits": false});
        let unread = ["temperature", "top_p", "typical_p", "seed"].map(str::to_owned).to_vec();
        assert_eq!(of(&idle, false).unwrap(), Stated { unread, ..Stated::default() });
        let zero = json!({"eos_token_id": 0, "forced_bos_token_id": 0, "suppress_tokens": 0});
        let stated = of(&zero, false).unwrap().generation;
        assert_eq!(
            (stated.eos_token_id, stated.forced_bos_token_id, stated.suppress_tokens),
            (vec![0], Some(0), vec![0])
        );
        // Who asks for one of them is told.
        assert_eq!(of(&json!({"max_new_tokens": 3}), true).unwrap().unknown, ["max_new_tokens"]);
    }

    #[test]
    fn each_setting_has_its_place_and_a_fault_its_key() {
        let all = json!({"do_sample": true, "temperature": 1.0, "top_k": 3, "typical_p": 0.5, "seed": 0,
            "bad_words_ids": [[1, 2]], "sequence_bias": [[[3], 0.5]], "eos_token_id": 7, "suppress_tokens": [4],
            "exponential_decay_length_penalty": [2, 1.5], "num_beams": 4, "presence_penalty": 0.5});
        let stated = of(&all, true).unwrap().generation;
        assert_eq!((stated.temperature, stated.top_k, stated.seed), (Some(1.0), Some(3), Some(0)));
        assert_eq!((stated.eos_token_id.as_slice(), stated.suppress_tokens.as_slice()), (&[7][..], &[4][..]));
        assert_eq!(stated.sequence_bias, [(vec![3], 0.5)]);
        assert_eq!(stated.exponential_decay_length_penalty, Some((2, 1.5)));
        assert_eq!(stated.other.keys().collect::<Vec<_>>(), ["num_beams", "typical_p"]);
        assert_eq!(stated.presence_penalty, Some(0.5));
        assert_eq!(of(&all, false).unwrap().unknown, ["presence_penalty"]);
        for (json, want) in [
            (json!({"bad_words_ids": [[8]]}), "bad_words_ids: [8] must be tokens of a vocabulary of 8"),
            (json!({"bad_words_ids": [[]]}), "bad_words_ids: [] must be tokens"),
            (json!({"sequence_bias": [[[9], 1.0]]}), "sequence_bias: [9] must be tokens"),
            (json!({"repetition_penalty": -1.0}), "repetition_penalty: must be above 0, is -1"),
            (json!({"no_repeat_ngram_size": -1}), "no_repeat_ngram_size: invalid value"),
            (json!({"suppress_tokens": "x"}), "suppress_tokens: invalid type"),
            (json!({"repetition_penalty": true}), "repetition_penalty: invalid type"),
            (
                json!({"forced_bos_token_id": 8}),
                "forced_bos_token_id: 8 must be a token of a vocabulary of 8",
            ),
            (json!({"forced_eos_token_id": [1, 9]}), "forced_eos_token_id: 9 must be a token"),
        ] {
            let error = of(&json, false).unwrap_err().to_string();
            assert!(error.contains(want), "{error} / {want}");
        }
    }
}
