//! From logits to tokens and log probabilities.

use mantissa_numerics::recipe::LogSoftmaxRecipe;

use crate::kernel::rows::sum_exp;
use crate::simd::Isa;

/// A token and the natural logarithm of its probability.
///
/// Example: [`crate::Engine`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenLogprob {
    /// Token id.
    pub token: u32,
    /// `ln p`, in binary32.
    pub logprob: f32,
}

/// The largest logit, ties to the lower id; a NaN is larger than anything, and the first one is chosen.
///
/// *Shape:* `logits` holds one row of the vocabulary. Returns 0 for an empty row.
///
/// *Source:* `torch.argmax`, whose comparison of a maximum takes NaN over any number and the lower index among equals
/// (PyTorch 2.11, `aten/src/ATen/native/SharedReduceOps.h`, `GreaterOrNan`).
///
/// ```
/// assert_eq!(mantissa_engine::greedy(&[0.5, 2.0, 1.0, 2.0]), 1);
/// assert_eq!(mantissa_engine::greedy(&[0.5, 2.0, f32::NAN, f32::INFINITY, f32::NAN]), 2);
/// ```
#[must_use]
pub fn greedy(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (i, logit) in logits.iter().enumerate() {
        if !logits[best].is_nan() && (*logit > logits[best] || logit.is_nan()) {
            best = i;
        }
    }
    u32::try_from(best).unwrap_or(u32::MAX)
}

/// The `k` most probable tokens, most probable first, ties to the lower id. A NaN comes before any number, as in
/// `torch.topk`, so that a row always has its candidates.
///
/// *Rounding:* as the recipe says. A log-probability that is not a number is the quiet NaN without sign and payload.
#[must_use]
pub(crate) fn top_logprobs(
    isa: Isa,
    recipe: LogSoftmaxRecipe,
    logits: &[f32],
    k: usize,
) -> Vec<TokenLogprob> {
    let mut top: Vec<usize> = Vec::with_capacity(k + 1);
    let before = |other: usize, logit: f32| logits[other].is_nan() || logits[other] >= logit;
    for (i, logit) in logits.iter().enumerate() {
        if top.len() == k && top.last().is_none_or(|last| before(*last, *logit)) {
            continue;
        }
        let at = top.partition_point(|other| before(*other, *logit));
        top.insert(at, i);
        top.truncate(k);
    }
    let token = |i: usize, logprob: f32| TokenLogprob {
        token: u32::try_from(i).unwrap_or(u32::MAX),
        logprob: if logprob.is_nan() { f32::NAN } else { logprob },
    };
    let row = logprobs_by(isa, recipe, logits);
    top.into_iter().map(|i| token(i, row.at(i))).collect()
}

/// Log-probabilities of a row of logits, of which any may be asked for.
///
/// Example: [`logprobs_by`].
#[derive(Debug, Clone, Copy)]
pub struct RowLogprobs<'l> {
    logits: &'l [f32],
    max: f32,
    log_sum: LogSum,
}

/// The logarithm of a sum of exponentials, in the format it is subtracted in.
#[derive(Debug, Clone, Copy)]
enum LogSum {
    Wide(f64),
    Single(f32),
}

/// Log-probabilities of a row of logits by `recipe`.
///
/// *Shape:* `logits` is the vocabulary. *Rounding:* as the recipe says.
///
/// ```
/// use mantissa_engine::{Isa, logprobs_by};
/// use mantissa_numerics::nvidia::triton::TritonLogSoftmax;
/// use mantissa_numerics::recipe::LogSoftmaxRecipe;
///
/// let recipe = LogSoftmaxRecipe::Triton(TritonLogSoftmax { load: 8 });
/// let row = logprobs_by(Isa::detect(), recipe, &[2.0, 2.0]);
/// assert_eq!((row.of(1), row.of(2)), (Some(-0.693_147_2), None));
/// ```
#[must_use]
pub fn logprobs_by(isa: Isa, recipe: LogSoftmaxRecipe, logits: &[f32]) -> RowLogprobs<'_> {
    logprobs_at(isa, recipe, logits, 0)
}

/// The same of a row that `before` logits stand before, which PyTorch's kernels read from an address that is not
/// aligned where they divide nothing.
///
/// ```
/// use mantissa_engine::{Isa, logprobs_at};
/// use mantissa_numerics::recipe::{LogSoftmaxRecipe, TorchSoftmax};
///
/// let recipe = LogSoftmaxRecipe::Torch(TorchSoftmax::Shifted(4));
/// let logits: Vec<f32> = (0..4099_u16).map(|i| f32::from(i % 101) / 8.0).collect();
/// let row = |before| logprobs_at(Isa::detect(), recipe, &logits, before).of(0);
/// assert_eq!(row(0), row(4 * 4099));
/// ```
#[must_use]
pub fn logprobs_at(isa: Isa, recipe: LogSoftmaxRecipe, logits: &[f32], before: usize) -> RowLogprobs<'_> {
    let (max, log_sum) = match recipe {
        LogSoftmaxRecipe::Own => {
            let max = logits.iter().fold(f32::NEG_INFINITY, |max, x| if *x > max { *x } else { max });
            (max, LogSum::Wide(libm::log(sum_exp(isa, logits, max))))
        }
        LogSoftmaxRecipe::Torch(kernel) => {
            let (max, log_sum) = kernel.log_sum(logits, before);
            (max, LogSum::Single(log_sum))
        }
        LogSoftmaxRecipe::Triton(kernel) => {
            let (max, log_sum) = kernel.log_sum(logits);
            (max, LogSum::Single(log_sum))
        }
    };
    RowLogprobs { logits, max, log_sum }
}

impl RowLogprobs<'_> {
    /// Of token `id`; `None` beyond the vocabulary.
    ///
    /// Example: [`logprobs_by`].
    #[must_use]
    pub fn of(&self, id: u32) -> Option<f32> {
        let place = usize::try_from(id).ok().filter(|place| *place < self.logits.len())?;
        Some(self.at(place))
    }

    /// How many tokens outside `listed` are more likely than the least likely one of it; the first of it is the chosen
    /// one, which may be anywhere.
    ///
    /// ```
    /// use mantissa_engine::{Isa, logprobs_by};
    /// use mantissa_numerics::recipe::LogSoftmaxRecipe;
    ///
    /// let row = logprobs_by(Isa::detect(), LogSoftmaxRecipe::Own, &[3.0, 2.0, 2.0, 1.0]);
    /// // Of equals either may be listed.
    /// assert_eq!([&[3, 0, 2][..], &[0, 2], &[0, 3], &[2, 1]].map(|listed| row.passed_over(listed)), [0, 0, 2, 1]);
    /// ```
    #[must_use]
    pub fn passed_over(&self, listed: &[u32]) -> u64 {
        let logit = |id: &u32| self.logits.get(usize::try_from(*id).unwrap_or(usize::MAX)).copied();
        let Some(least) = listed.iter().skip(1).filter_map(logit).reduce(f32::min) else { return 0 };
        let above = self.logits.iter().filter(|logit| **logit > least).count();
        let of_listed = listed.iter().filter_map(logit).filter(|logit| *logit > least).count();
        above.saturating_sub(of_listed) as u64
    }

    fn at(&self, place: usize) -> f32 {
        match self.log_sum {
            #[expect(clippy::cast_possible_truncation, reason = "the one rounding to binary32")]
            LogSum::Wide(log_sum) => (f64::from(self.logits[place]) - f64::from(self.max) - log_sum) as f32,
            LogSum::Single(log_sum) => self.logits[place] - self.max - log_sum,
        }
    }
}

#[cfg(test)]
mod tests {
    use mantissa_numerics::Dtype;
    use mantissa_numerics::recipe::TorchSoftmax;

    use super::*;

    #[test]
    fn ties_go_to_the_lower_id_and_probabilities_sum_to_one() {
        assert_eq!(greedy(&[1.0, 3.0, 3.0, -2.0]), 1);
        let logits: Vec<f32> = (0..3000_u16).map(|i| f32::from(i % 977) / 100.0).collect();
        for isa in [Isa::Scalar, Isa::Avx2, Isa::Avx512].into_iter().filter(|isa| isa.is_available()) {
            let top_logprobs = |isa, logits, k| top_logprobs(isa, LogSoftmaxRecipe::Own, logits, k);
            let all = top_logprobs(isa, &logits, logits.len());
            let sum: f64 = all.iter().map(|t| f64::from(t.logprob).exp()).sum();
            assert!((sum - 1.0).abs() < 1e-5, "{sum}");
            assert!(all.is_sorted_by(|a, b| (b.logprob, a.token) <= (a.logprob, b.token)));
            assert_eq!(top_logprobs(isa, &logits, 10), all[..10], "{isa:?}");
            assert_eq!(all, top_logprobs(Isa::Scalar, &logits, logits.len()));
        }
    }

    /// Against `torch.argmax` and `torch.topk` (2.15, CPU): NaN before anything, the first of several.
    #[test]
    fn what_is_not_a_number_comes_first_and_makes_every_probability_none() {
        let nan = f32::NAN;
        assert_eq!(greedy(&[1.0, 3.0, nan, 3.0, nan]), 2);
        assert_eq!(greedy(&[nan; 4]), 0);
        assert_eq!(greedy(&[f32::NEG_INFINITY, f32::INFINITY, f32::INFINITY]), 1);
        let kernel = TorchSoftmax::of(6, Dtype::F32);
        for recipe in [LogSoftmaxRecipe::Own, LogSoftmaxRecipe::Torch(kernel)] {
            for isa in [Isa::Scalar, Isa::Avx2, Isa::Avx512].into_iter().filter(|isa| isa.is_available()) {
                let top = top_logprobs(isa, recipe, &[1.0, 3.0, nan, 3.0, -nan, 0.0], 4);
                assert_eq!(top.iter().map(|one| one.token).collect::<Vec<_>>(), [2, 4, 1, 3]);
                assert!(top.iter().all(|one| one.logprob.to_bits() == 0x7fc0_0000), "{top:?}");
                let all = top_logprobs(isa, recipe, &[nan; 6], 5);
                assert_eq!(all.iter().map(|one| one.token).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
                // One infinite logit: nothing is known of its probability, and that of the others is 0.
                let infinite = top_logprobs(isa, recipe, &[1.0, f32::INFINITY, 0.0, 0.0, 0.0, 0.0], 2);
                assert_eq!((infinite[0].token, infinite[0].logprob.is_nan()), (1, true));
            }
        }
    }

    #[test]
    fn those_of_torch_are_a_row_of_its_log_softmax() {
        let logits: Vec<f32> = (0..3000_u16).map(|i| f32::from(i.wrapping_mul(7919) % 977) / 100.0).collect();
        let kernel = TorchSoftmax::of(logits.len(), Dtype::F32);
        let row = kernel.log_softmax(&logits, 0);
        let [torch, own] = [LogSoftmaxRecipe::Torch(kernel), LogSoftmaxRecipe::Own]
            .map(|recipe| top_logprobs(Isa::detect(), recipe, &logits, logits.len()));
        assert!(torch.iter().all(|top| top.logprob.to_bits() == row[top.token as usize].to_bits()));
        assert_eq!(
            torch.iter().map(|top| top.token).collect::<Vec<_>>(),
            own.iter().map(|top| top.token).collect::<Vec<_>>()
        );
        assert_ne!(torch, own, "another order of sums, another logarithm, another rounding");
    }
}
