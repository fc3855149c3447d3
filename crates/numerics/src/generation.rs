//! Settings of generation: what changes logits before a token is chosen, under the names of transformers'
//! `generation_config.json` (and of an OpenAI-compatible request or of vLLM, where transformers has no such setting).
//!
//! Left out: what they do to logits (engine), reading files (model), and settings that change no token (lengths,
//! caches, outputs).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Settings that act on the choice of tokens; those that are absent do nothing.
///
/// *Source:* `GenerationConfig` of transformers 5.17; penalties of presence and frequency as in the API of OpenAI and
/// in vLLM.
///
/// ```
/// use mantissa_numerics::Generation;
///
/// let settings = Generation { repetition_penalty: Some(1.05), ..Generation::default() };
/// assert_eq!(settings.to_string(), "repetition_penalty 1.05");
/// assert!(!settings.is_plain() && settings.not_computed().is_none());
/// assert_eq!(Generation::default().to_string(), "none");
/// let sampled = Generation { do_sample: true, temperature: Some(0.7), seed: Some(3), ..settings };
/// assert_eq!(sampled.to_string(), "do_sample, temperature 0.7, seed 3, repetition_penalty 1.05");
/// let why = sampled.not_computed().expect("a draw");
/// assert!(why.starts_with("they were sampled (do_sample, temperature 0.7, seed 3)"), "{why}");
/// // What a greedy choice is left with: `other` keeps no setting of draws either.
/// assert_eq!(sampled.greedy(), Generation { repetition_penalty: Some(1.05), ..Generation::default() });
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Generation {
    /// Tokens are drawn, not chosen greedily.
    #[serde(skip_serializing_if = "is_false")]
    pub do_sample: bool,
    /// Divisor of logits before a draw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Tokens that a draw is from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// Probability that a draw is from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Least probability that a draw is from, as a part of the largest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f64>,
    /// Seed of draws.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// What is added to the logit that would complete a sequence.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sequence_bias: Vec<(Vec<u32>, f64)>,
    /// Divisor of logits of tokens that the prompt or the output holds (factor, where they are negative).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetition_penalty: Option<f64>,
    /// Subtracted for each time that the output holds a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f64>,
    /// Subtracted where the output holds a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f64>,
    /// Length of runs of tokens that occur once at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_repeat_ngram_size: Option<u32>,
    /// Sequences that are not completed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bad_words_ids: Vec<Vec<u32>>,
    /// Length of prompt and output before which nothing ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_length: Option<u32>,
    /// Length of the output before which nothing ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_new_tokens: Option<u32>,
    /// The token behind a prompt of one token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forced_bos_token_id: Option<u32>,
    /// The last token of the longest output.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forced_eos_token_id: Vec<u32>,
    /// NaN counts as 0, infinities as the largest numbers.
    #[serde(skip_serializing_if = "is_false")]
    pub remove_invalid_values: bool,
    /// From which output token on, and how fast, logits of ends grow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exponential_decay_length_penalty: Option<(u32, f64)>,
    /// Tokens that are never chosen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub suppress_tokens: Vec<u32>,
    /// Tokens that are not chosen first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub begin_suppress_tokens: Vec<u32>,
    /// Tokens that end an output: stated where another setting reads them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub eos_token_id: Vec<u32>,
    /// Outputs go on behind a token of `eos_token_id`.
    #[serde(skip_serializing_if = "is_false")]
    pub ignore_eos: bool,
    /// Further settings that change tokens, by name; nothing here computes them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub other: BTreeMap<String, String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

impl Generation {
    /// Settings that only draws read, by name; the first five have a place of their own.
    pub const OF_DRAWS: [&'static str; 9] = [
        "temperature",
        "top_k",
        "top_p",
        "min_p",
        "seed",
        "typical_p",
        "epsilon_cutoff",
        "eta_cutoff",
        "top_h",
    ];

    /// Whether tokens are those of the largest logits as they are.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// How many of the first output tokens behind a prompt of `prompt` tokens end nothing.
    ///
    /// *Source:* transformers 5.17, where `min_new_tokens` takes the place of `min_length`.
    ///
    /// ```
    /// use mantissa_numerics::Generation;
    ///
    /// let settings = Generation { min_length: Some(10), ..Generation::default() };
    /// assert_eq!(settings.without_end(8), 2);
    /// assert_eq!(Generation { min_new_tokens: Some(5), ..settings }.without_end(8), 5);
    /// ```
    #[must_use]
    pub fn without_end(&self, prompt: usize) -> usize {
        match (self.min_new_tokens, self.min_length) {
            (Some(new), _) => new as usize,
            (None, Some(length)) => (length as usize).saturating_sub(prompt),
            (None, None) => 0,
        }
    }

    /// What these settings do to a greedy choice: without those of draws, and without ends that nothing reads.
    #[must_use]
    pub fn greedy(&self) -> Self {
        let mut greedy = Self {
            do_sample: false,
            temperature: None,
            top_k: None,
            top_p: None,
            min_p: None,
            seed: None,
            ..self.clone()
        };
        greedy.other.retain(|name, _| !Self::OF_DRAWS.contains(&name.as_str()));
        let ends = greedy.min_length.is_some()
            || greedy.min_new_tokens.is_some()
            || !greedy.bad_words_ids.is_empty()
            || greedy.exponential_decay_length_penalty.is_some();
        if !ends {
            greedy.eos_token_id.clear();
            greedy.ignore_eos = false;
        }
        greedy
    }

    /// Whether a greedy choice under them is the token of the largest logit as it is.
    ///
    /// ```
    /// use mantissa_numerics::Generation;
    ///
    /// let drawn = Generation { do_sample: true, top_k: Some(4), eos_token_id: vec![2], ..Generation::default() };
    /// assert!(drawn.keep_the_largest());
    /// assert!(!Generation { min_new_tokens: Some(1), ..drawn }.keep_the_largest());
    /// ```
    #[must_use]
    pub fn keep_the_largest(&self) -> bool {
        let Self {
            do_sample: _,
            temperature: _,
            top_k: _,
            top_p: _,
            min_p: _,
            seed: _,
            sequence_bias,
            repetition_penalty,
            frequency_penalty,
            presence_penalty,
            no_repeat_ngram_size,
            bad_words_ids,
            min_length,
            min_new_tokens,
            forced_bos_token_id,
            forced_eos_token_id,
            remove_invalid_values,
            exponential_decay_length_penalty,
            suppress_tokens,
            begin_suppress_tokens,
            // Only others read them.
            eos_token_id: _,
            ignore_eos: _,
            other,
        } = self;
        let numbers = [repetition_penalty, frequency_penalty, presence_penalty];
        let counts = [no_repeat_ngram_size, min_length, min_new_tokens, forced_bos_token_id];
        let lists = [forced_eos_token_id, suppress_tokens, begin_suppress_tokens];
        numbers.iter().all(|number| number.is_none())
            && counts.iter().all(|count| count.is_none())
            && lists.iter().all(|list| list.is_empty())
            && sequence_bias.is_empty()
            && bad_words_ids.is_empty()
            && !remove_invalid_values
            && exponential_decay_length_penalty.is_none()
            && other.keys().all(|name| Self::OF_DRAWS.contains(&name.as_str()))
    }

    /// Whether what is fed beside a prompt (padding) changes what they do.
    #[must_use]
    pub fn reads_the_prompt(&self) -> bool {
        self.repetition_penalty.is_some()
            || self.no_repeat_ngram_size.is_some()
            || self.min_length.is_some()
            || self.forced_bos_token_id.is_some()
            || self.sequence_bias.iter().any(|(ids, _)| ids.len() > 1)
            || self.bad_words_ids.iter().any(|ids| ids.len() > 1)
    }

    /// Why tokens that were chosen with them cannot be set against logits.
    #[must_use]
    pub fn not_computed(&self) -> Option<String> {
        if self.do_sample {
            let Self { do_sample, temperature, top_k, top_p, min_p, seed, .. } = *self;
            let draws = Self { do_sample, temperature, top_k, top_p, min_p, seed, ..Self::default() };
            return Some(format!("they were sampled ({draws}), and draws are not computed again"));
        }
        (!self.other.is_empty()).then(|| {
            let other: Vec<String> =
                self.other.iter().map(|(name, value)| format!("{name} {value}")).collect();
            format!("nothing here computes {}", other.join(", "))
        })
    }
}

impl std::fmt::Display for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut said = Vec::new();
        let mut number =
            |name: &str, value: Option<String>| said.extend(value.map(|value| format!("{name} {value}")));
        let flag = |flag: bool| flag.then(String::new);
        number("do_sample", flag(self.do_sample));
        number("temperature", self.temperature.map(|x| x.to_string()));
        number("top_k", self.top_k.map(|x| x.to_string()));
        number("top_p", self.top_p.map(|x| x.to_string()));
        number("min_p", self.min_p.map(|x| x.to_string()));
        number("seed", self.seed.map(|x| x.to_string()));
        let counted = |list: usize| (list > 0).then(|| format!("of {list}"));
        number("sequence_bias", counted(self.sequence_bias.len()));
        number("repetition_penalty", self.repetition_penalty.map(|x| x.to_string()));
        number("frequency_penalty", self.frequency_penalty.map(|x| x.to_string()));
        number("presence_penalty", self.presence_penalty.map(|x| x.to_string()));
        number("no_repeat_ngram_size", self.no_repeat_ngram_size.map(|x| x.to_string()));
        number("bad_words_ids", counted(self.bad_words_ids.len()));
        number("min_length", self.min_length.map(|x| x.to_string()));
        number("min_new_tokens", self.min_new_tokens.map(|x| x.to_string()));
        number("forced_bos_token_id", self.forced_bos_token_id.map(|x| x.to_string()));
        number("forced_eos_token_id", ids(&self.forced_eos_token_id));
        number("remove_invalid_values", flag(self.remove_invalid_values));
        let decay =
            self.exponential_decay_length_penalty.map(|(from, factor)| format!("from {from} by {factor}"));
        number("exponential_decay_length_penalty", decay);
        number("suppress_tokens", counted(self.suppress_tokens.len()));
        number("begin_suppress_tokens", counted(self.begin_suppress_tokens.len()));
        number("ignore_eos", flag(self.ignore_eos));
        said.extend(self.other.iter().map(|(name, value)| format!("{name} {value}")));
        let said: Vec<&str> = said.iter().map(|setting| setting.trim_end()).collect();
        if said.is_empty() { f.write_str("none") } else { f.write_str(&said.join(", ")) }
    }
}

fn ids(ids: &[u32]) -> Option<String> {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    (!ids.is_empty()).then(|| ids.join(" or "))
}
