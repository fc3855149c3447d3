//! Logits of a prompt's own positions, as vLLM computes them for `prompt_logprobs`: which positions share a product.
//!
//! Runner V2 goes through all positions of a step, of every request and the last one too, 1,024 at a time; runner V1
//! through those of one request but its last. The last position's logits, which the next token is chosen from, are a
//! product of their own in both.

use std::ops::Range;

use mantissa_model::ModelConfig;

use super::ranks::Undivided;
use super::rules::Dispatch;
use crate::shape::PassShape;

/// Positions that runner V2 takes at once. *Source:* `compute_prompt_logprobs_with_chunking` in
/// vllm/v1/worker/gpu/sample/prompt_logprob.py, 0.24.0; of V1 `_get_prompt_logprobs_dict` in
/// vllm/v1/worker/gpu_model_runner.py.
const AT_ONCE: usize = 1024;

/// Positions of a prompt whose logits are parts of one product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PromptProduct {
    /// The positions, without the prompt's last.
    pub positions: Range<usize>,
    /// Rows of the product, among them those of other requests and of the last position.
    pub m: usize,
}

impl Dispatch<'_> {
    /// The products that leave logits of all positions of a prompt but its last; none where they are parts of the
    /// pass's own product.
    ///
    /// *Errors:* a batch in which the place of a request decides which product it is in.
    pub(crate) fn prompt_products(
        self,
        config: &ModelConfig,
        shape: PassShape,
    ) -> Result<Vec<PromptProduct>, Undivided> {
        if !self.is_vllm() {
            return Ok(Vec::new());
        }
        let own = shape.positions.saturating_sub(1);
        let found = |positions: Range<usize>, m| PromptProduct { positions, m };
        if !self.is_second_runner(config) {
            return Ok(if own > 0 { vec![found(0..own, own)] } else { Vec::new() });
        }
        let rows = shape.rows();
        if shape.batch_size > 1 && rows > AT_ONCE {
            return Err((
                format!("the head over {rows} positions of {} prompts", shape.batch_size),
                "vLLM takes 1,024 at a time, and where in its batch a request stands is not known; ask for shorter \
                 prompts, or one at a time",
            ));
        }
        let starts = (0..own).step_by(AT_ONCE);
        Ok(starts.map(|start| found(start..own.min(start + AT_ONCE), AT_ONCE.min(rows - start))).collect())
    }
}

#[cfg(test)]
mod tests {
    use mantissa_model::Arch;
    use mantissa_model::synth::SynthSpec;
    use mantissa_numerics::Dtype;
    use mantissa_numerics::setup::{Attention, Hardware, ModelRunner, Program};

    use super::*;
    use crate::serving::Serving;

    fn products(
        runner: ModelRunner,
        batch_size: usize,
        positions: usize,
    ) -> Result<Vec<(usize, usize)>, String> {
        let serving = Serving { program: Program::Vllm024, runner, ..Serving::default() };
        let dispatch =
            Dispatch { serving, ..Dispatch::new(Hardware::H200, Dtype::Bf16, Attention::FlashAttention3) };
        let spec = SynthSpec::tiny(Arch::LLAMA, 0);
        let found = dispatch.prompt_products(spec.config(), PassShape::prefill(batch_size, positions));
        let mut next = 0;
        let found = found.map_err(|(what, why)| format!("{what}: {why}"))?;
        let pairs = found.into_iter().map(|product| {
            assert_eq!(product.positions.start, next, "no position is left out");
            next = product.positions.end;
            (product.positions.len(), product.m)
        });
        Ok(pairs.collect())
    }

    #[test]
    fn the_second_runner_takes_1024_positions_the_last_among_them() {
        use ModelRunner::{Auto, V1, V2};
        for runner in [Auto, V2] {
            let of = |positions| products(runner, 1, positions).expect("one request");
            assert_eq!(of(1), []);
            assert_eq!(of(2), [(1, 2)]);
            assert_eq!(of(1024), [(1023, 1024)]);
            // The last position is alone in the second product, and nothing of that is handed out.
            assert_eq!(of(1025), [(1024, 1024)]);
            assert_eq!(of(2500), [(1024, 1024), (1024, 1024), (451, 452)]);
            assert_eq!(products(runner, 8, 128).expect("they fit"), [(127, 1024)]);
            let said = products(runner, 8, 129).expect_err("they do not fit");
            assert!(said.contains("the head over 1032 positions of 8 prompts"), "{said}");
        }
        let first = |batch, positions| products(V1, batch, positions).expect("requests apart");
        assert_eq!(
            (first(1, 1), first(1, 2500), first(8, 333)),
            (vec![], vec![(2499, 2499)], vec![(332, 332)])
        );
    }
}
