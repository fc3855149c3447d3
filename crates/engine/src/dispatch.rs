//! Dispatch: which recipe an operation of a given shape runs by. A pure function, so that it can be read, tested,
//! and asked about a setup that is not running.
//!
//! The choice follows what each shape is short of. One row waits for memory: sixty-four lanes along the weight's own
//! rows. Two to eight rows share what was read, with as many lanes as leave registers for every row. From nine rows
//! on the product is bound by arithmetic: one chain per output, blocked. So the batch size of a decode shows in its
//! bits as the classes {1}, {2–4}, {5–8}, {9…}, and every prefill of nine tokens or more is of one class.

mod attention;
mod node;
mod planned;
mod rules;
mod sdpa;

pub(crate) use node::pairs_of;
pub(crate) use planned::Planned;
pub use rules::Dispatch;

#[cfg(test)]
mod tests {
    use mantissa_model::ModelConfig;
    use mantissa_model::synth::{Preset, SynthRequest, SynthSpec};

    use mantissa_numerics::Dtype;
    use mantissa_numerics::setup::{Attention, Hardware};
    use mantissa_numerics::site::Phase;

    use super::*;
    use crate::shape::PassShape;

    fn config(preset: Preset, experts: Option<usize>) -> ModelConfig {
        let request =
            SynthRequest { preset: Some(preset), moe_intermediate_size: experts, ..SynthRequest::default() };
        SynthSpec::new(&request).expect("a preset").config().clone()
    }

    #[test]
    fn what_was_compared_is_covered_and_nothing_else() {
        use Attention::{Eager, SdpaFlash, SdpaMath};
        use Hardware::{A100, H100, H200};
        use Phase::{Decode, Prefill};
        let refused = |hardware, attention, preset, phase, batch, keys, experts| {
            let dispatch = Dispatch::new(hardware, Dtype::Bf16, attention);
            let positions = if phase == Prefill { keys } else { 1 };
            let shape = PassShape { phase, batch_size: batch, positions, keys };
            let found = dispatch.check(&config(preset, experts).graph(), shape);
            found.err().map(|error| error.to_string())
        };
        let (small, wide, moe) = (Preset::SmolLm2_135M, Preset::Qwen2_5_7B, Preset::Qwen3_30BA3B);
        for hardware in [H200, H100] {
            for (attention, preset, phase, batch, keys) in [
                (Eager, small, Prefill, 17, 512),
                (Eager, small, Decode, 9, 2078),
                (Eager, wide, Prefill, 5, 32),
                (Eager, moe, Decode, 17, 540),
                (SdpaFlash, small, Decode, 17, 540),
                (SdpaMath, small, Prefill, 8, 512),
                (SdpaMath, wide, Decode, 2, 540),
            ] {
                let found = refused(hardware, attention, preset, phase, batch, keys, None);
                assert_eq!(found, None, "{hardware:?} {attention:?} {preset:?} {phase:?} {batch} {keys}");
            }
        }
        for (hardware, attention, preset, phase, batch, keys, experts, why) in [
            (H200, SdpaMath, small, Prefill, 3, 512, None, "order of sums was not measured"),
            (H200, SdpaMath, moe, Decode, 17, 540, None, "order of sums was not measured"),
            (H200, SdpaMath, small, Decode, 1, 40_001, None, "at most 40,000 keys"),
            (H200, SdpaFlash, small, Decode, 1, 32_769, None, "at most 32,768 keys"),
            (A100, SdpaMath, small, Decode, 1, 100, None, "an H200 and an H100 alone"),
            (H100, Eager, moe, Decode, 1, 100, Some(1024), "8 of 128 experts of 1024 over 2048"),
            (H200, Eager, small, Decode, 3, 100, None, "order of sums was not measured"),
            (H200, Eager, small, Prefill, 1, 643, None, "split-K was not measured"),
        ] {
            let found = refused(hardware, attention, preset, phase, batch, keys, experts);
            assert!(found.as_ref().is_some_and(|found| found.contains(why)), "{why}: {found:?}");
        }
    }
}
