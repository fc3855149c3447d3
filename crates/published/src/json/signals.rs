//! Stored numbers as signals of a record: the narrowest format that holds a tensor, candidates of equal number.

use mantissa_evidence::Logprobs;
use mantissa_numerics::Dtype;

use super::entries::Position;
use super::numbers::Candidates;

/// Said where prefill lists predict the token of their own position.
pub(crate) const AHEAD: &str = "every prefill list at pos_-p has the prompt's own token there among its candidates, so it \
                                predicts that token and was computed one position earlier: taken as position -(p+1)";
/// Said where decode lists are placed by their name alone.
pub(crate) const DECODE_BY_NAME: &str = "decode lists are taken to predict the last generated tokens, so pos_-1 belongs to \
                                         the step that consumed the last but one";

/// Whether every list has the prompt's own token of its position among its candidates: an engine adds it when it
/// reports how likely each token of the prompt was.
pub(crate) fn list_own_token<'a>(
    prompt: &[u32],
    mut lists: impl Iterator<Item = (Position, &'a Candidates)>,
) -> bool {
    lists.all(|(position, row)| {
        let behind = usize::try_from(position.0.unsigned_abs()).unwrap_or(usize::MAX);
        let own = prompt.len().checked_sub(behind).map(|index| prompt[index]);
        own.is_some_and(|own| row.token_ids.contains(&own))
    })
}

/// The decode step whose list at `position` predicts output n − p of n: the one that consumed output n − p − 1.
pub(crate) fn step_by_name(position: Position, generated: u64) -> Option<u64> {
    generated.checked_sub(u64::from(position.0.unsigned_abs()) + 1)
}

/// The narrowest format that holds every value exactly, bf16 before f16 before f32; `None` when none does.
pub(crate) fn narrowest<'a>(values: &(impl Iterator<Item = &'a f64> + Clone)) -> Option<Dtype> {
    [Dtype::Bf16, Dtype::F16, Dtype::F32]
        .into_iter()
        .find(|&dtype| values.clone().all(|&value| exact(dtype, value).is_some()))
}

/// `value` in `dtype`, unless that would change it.
pub(crate) fn exact(dtype: Dtype, value: f64) -> Option<f32> {
    #[expect(clippy::cast_possible_truncation, reason = "checked on the next line")]
    let single = value as f32;
    let rounded = dtype.round(single);
    (value.is_nan() || f64::from(rounded).to_bits() == value.to_bits()).then_some(rounded)
}

/// Values as little-endian bytes of `dtype`.
pub(crate) fn encode<'a>(dtype: Dtype, values: impl IntoIterator<Item = &'a f64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for &value in values {
        #[expect(clippy::cast_possible_truncation, reason = "the caller chose a format that holds it")]
        dtype.encode(dtype.round(value as f32), &mut bytes);
    }
    bytes
}

/// Top-k candidates of equal k: of longer lists those with the largest values stay. Also tells how many were dropped.
pub(crate) fn logprobs(steps: usize, positions: usize, rows: &[&Candidates]) -> (Option<Logprobs>, usize) {
    let k = rows.iter().map(|row| row.token_ids.len()).min().unwrap_or(0);
    if k == 0 {
        return (None, rows.iter().map(|row| row.token_ids.len()).sum());
    }
    let (mut token_ids, mut log_probs, mut dropped) = (Vec::new(), Vec::new(), 0);
    for row in rows {
        let mut order: Vec<usize> = (0..row.token_ids.len()).collect();
        order.sort_by(|&a, &b| row.log_probs[b].total_cmp(&row.log_probs[a]));
        let mut kept = order[..k].to_vec();
        kept.sort_unstable();
        dropped += order.len() - k;
        for index in kept {
            token_ids.push(row.token_ids[index]);
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a recorder's binary32, or stated as rounded"
            )]
            log_probs.push(row.log_probs[index] as f32);
        }
    }
    (Some(Logprobs { steps, positions, k, vocab_size: None, token_ids, log_probs }), dropped)
}
