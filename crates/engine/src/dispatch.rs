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

    use mantissa_numerics::recipe::TensorCoreSum;

    use super::*;
    use crate::catalog::Catalog;
    use crate::catalogs::Catalogs;
    use crate::shape::PassShape;

    fn config(preset: Preset, experts: Option<usize>) -> ModelConfig {
        let request =
            SynthRequest { preset: Some(preset), moe_intermediate_size: experts, ..SynthRequest::default() };
        SynthSpec::new(&request).expect("a preset").config().clone()
    }

    fn why_refused(
        dispatch: Dispatch<'_>,
        config: &ModelConfig,
        phase: Phase,
        batch_size: usize,
        keys: usize,
    ) -> Option<String> {
        let positions = if phase == Phase::Prefill { keys } else { 1 };
        let shape = PassShape { phase, batch_size, positions, keys };
        dispatch.check(&config.graph(), shape).err().map(|error| error.to_string())
    }

    /// What a GPU does with f16 stands in catalogs of f16 alone; experts of f16 go another way.
    #[test]
    fn f16_takes_nothing_from_bf16() {
        use Attention::{Eager, SdpaFlash};
        let small = config(Preset::SmolLm2_135M, None);
        let products = crate::catalog::products(&small.graph(), Dtype::F16);
        let mut catalog =
            Catalog::new(Catalogs::built_in().of(Hardware::H200).expect("built in").origin().clone());
        for product in products {
            let block = crate::catalog::block(Hardware::H200.architecture(), Dtype::F16);
            catalog.add_linear(product, 9, TensorCoreSum::uncut(block));
        }
        let with = Catalogs::default().with(&catalog.write()).expect("a catalog");
        let of = |catalogs, attention| Dispatch {
            catalogs,
            ..Dispatch::new(Hardware::H200, Dtype::F16, attention)
        };
        let decode = |dispatch, config: &ModelConfig| why_refused(dispatch, config, Phase::Decode, 9, 512);
        let said = decode(of(Catalogs::built_in(), SdpaFlash), &small).expect("no catalog");
        assert!(
            said.contains(" of f16 is not covered")
                && said.contains("build --model MODEL --out FILE --dtype f16"),
            "{said}"
        );
        assert_eq!(decode(of(&with, SdpaFlash), &small), None);
        let said = decode(of(&with, Eager), &small).expect("no products of attention");
        assert!(
            said.contains("eager attention (scores of f16)")
                && said.contains(" --dtype f16 --attention eager"),
            "{said}"
        );
        let said = decode(of(&with, Eager), &config(Preset::Qwen3_30BA3B, None)).expect("experts");
        assert!(said.contains("8 of 128 experts") && said.contains("a product for each expert"), "{said}");
        let said = decode(Dispatch { dtype: Dtype::F32, ..of(&with, Eager) }, &small).expect("32 bits");
        assert!(said.contains("f32 with eager attention is not covered"), "{said}");
    }

    #[test]
    fn what_was_compared_is_covered_and_nothing_else() {
        use Attention::{Eager, SdpaFlash, SdpaMath};
        use Hardware::{A100, H100, H200};
        use Phase::{Decode, Prefill};
        let refused = |hardware, attention, preset, phase, batch, keys, experts| {
            let dispatch = Dispatch::new(hardware, Dtype::Bf16, attention);
            why_refused(dispatch, &config(preset, experts), phase, batch, keys)
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
