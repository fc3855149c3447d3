//! Dispatch: which recipe an operation of a given shape runs by. A pure function, so that it can be read, tested,
//! and asked about a setup that is not running.
//!
//! The choice follows what each shape is short of. One row waits for memory: sixty-four lanes along the weight's own
//! rows. Two to eight rows share what was read, with as many lanes as leave registers for every row. From nine rows
//! on the product is bound by arithmetic: one chain per output, blocked. So the batch size of a decode shows in its
//! bits as the classes {1}, {2–4}, {5–8}, {9…}, and every prefill of nine tokens or more is of one class.

mod attention;
mod nf4;
mod node;
mod packed;
mod planned;
mod prompt;
mod ranks;
mod rules;
mod sdpa;
mod vllm;

pub(crate) use planned::{InSection, Planned};
pub(crate) use prompt::PromptProduct;
pub use rules::Dispatch;

#[cfg(test)]
mod tests {
    use mantissa_model::synth::{Preset, SynthRequest, SynthSpec};
    use mantissa_model::{Arch, ModelConfig};

    use mantissa_numerics::Dtype;
    use mantissa_numerics::setup::{Attention, Hardware};
    use mantissa_numerics::site::Phase;

    use mantissa_numerics::recipe::TensorCoreSum;

    use super::*;
    use crate::catalog::Catalog;
    use crate::catalogs::Catalogs;
    use crate::missing::Missing;
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
        let shape = PassShape { phase, batch_size, positions, keys, padded: false };
        dispatch.check(&config.graph(), shape).err().map(|error| error.to_string())
    }

    /// What a GPU does with f16 stands in catalogs of f16 alone; experts of f16 go another way.
    #[test]
    fn f16_takes_nothing_from_bf16() {
        use Attention::{Eager, SdpaFlash};
        // Numbers of heads and widths that no catalog of the program has.
        let odd = ModelConfig {
            hidden_size: 584,
            num_attention_heads: 1009,
            num_key_value_heads: 1009,
            intermediate_size: 1544,
            vocab_size: 1000,
            ..config(Preset::SmolLm2_135M, None)
        };
        let with = |dtype| {
            let mut catalog =
                Catalog::new(Catalogs::built_in().of(Hardware::H200).expect("built in").origin().clone());
            for product in crate::catalog::products(&odd.graph(), dtype) {
                let block = crate::catalog::block(Hardware::H200.architecture(), dtype);
                catalog.add_linear(product, 9, TensorCoreSum::uncut(block));
            }
            Catalogs::default().with(&catalog.write()).expect("a catalog")
        };
        let (with, of_bf16) = (with(Dtype::F16), with(Dtype::Bf16));
        let of = |catalogs, attention| Dispatch {
            catalogs,
            ..Dispatch::new(Hardware::H200, Dtype::F16, attention)
        };
        let decode = |dispatch, config: &ModelConfig| why_refused(dispatch, config, Phase::Decode, 9, 512);
        assert_eq!(decode(Dispatch { dtype: Dtype::Bf16, ..of(&of_bf16, SdpaFlash) }, &odd), None);
        let said = decode(of(&of_bf16, SdpaFlash), &odd).expect("no catalog of f16");
        assert!(
            said.contains(" of f16 is not covered")
                && said.contains("build --model MODEL --out FILE --dtype f16"),
            "{said}"
        );
        assert_eq!(decode(of(&with, SdpaFlash), &odd), None);
        let said = decode(of(&with, Eager), &odd).expect("no products of attention");
        assert!(
            said.contains("eager attention (scores of f16)")
                && said.contains(" --dtype f16 --no-weights --attention eager"),
            "{said}"
        );
        let said = decode(of(&with, Eager), &config(Preset::Qwen3_30BA3B, None)).expect("experts");
        assert!(said.contains("8 of 128 experts") && said.contains("a product for each expert"), "{said}");
        let said = decode(Dispatch { dtype: Dtype::F32, ..of(&with, Eager) }, &odd).expect("32 bits");
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
            (H200, SdpaMath, small, Decode, 1009, 512, None, "order of sums was not measured"),
            (H200, SdpaMath, moe, Decode, 1009, 540, None, "order of sums was not measured"),
            (H200, SdpaMath, small, Decode, 1, 40_001, None, "at most 40,000 keys"),
            (H200, SdpaFlash, small, Decode, 1, 32_769, None, "at most 32,768 keys"),
            (A100, SdpaMath, small, Decode, 1, 100, None, "an H200 and an H100 alone"),
            (H100, Eager, moe, Decode, 1, 100, Some(1020), "8 of 128 experts of 1020 over 2048"),
            (H200, Eager, small, Decode, 1009, 100, None, "order of sums was not measured"),
            (H100, Eager, small, Prefill, 1, 643, None, "split-K was not measured"),
        ] {
            let found = refused(hardware, attention, preset, phase, batch, keys, experts);
            assert!(found.as_ref().is_some_and(|found| found.contains(why)), "{why}: {found:?}");
        }
    }

    /// What keeps a pass of a family's tiny model, widened to sums that are known, from being predicted once its
    /// products are measured.
    fn unknown(arch: Arch, attention: Attention, shape: PassShape) -> Vec<&'static str> {
        let tiny = SynthSpec::tiny(arch, 0).config().clone();
        let config = ModelConfig { hidden_size: 256, head_dim: 128, ..tiny };
        let dispatch = Dispatch::new(Hardware::H200, Dtype::Bf16, attention);
        let kernels =
            dispatch.refusals(&config.graph(), shape).into_iter().filter_map(|missing| match missing {
                Missing::Kernel(what) => Some(what),
                Missing::Linear(_) | Missing::Batched(..) => None,
            });
        kernels.collect()
    }

    #[test]
    fn kernels_of_families_are_known_but_these() {
        use Attention::{Eager, SdpaFlash, SdpaMath};
        // Windows of tiny models are from 12 to 30.
        let decode = PassShape::decode(2, 40);
        for shape in [PassShape::prefill(2, 40), decode] {
            for arch in [
                Arch::LLAMA,
                Arch::QWEN2,
                Arch::QWEN3,
                Arch::QWEN3_MOE,
                Arch::MISTRAL,
                Arch::MIXTRAL,
                Arch::OLMO2,
                Arch::PHI3,
                Arch::GEMMA2,
                Arch::GEMMA3_TEXT,
            ] {
                for attention in [Eager, SdpaMath] {
                    // The tiny Phi-3 turns a part, as Phi-4-mini.
                    let known: &[&str] = match arch {
                        Arch::PHI3 => &["a rotation of parts of heads"],
                        _ => &[],
                    };
                    assert_eq!(unknown(arch, attention, shape), known, "{arch:?} {attention:?} {shape:?}");
                }
            }
            assert_eq!(unknown(Arch::GPT_OSS, Eager, shape), [""; 0]);
            assert_eq!(unknown(Arch::GPT_OSS, SdpaMath, shape), ["attention with sinks"]);
            assert!(unknown(Arch::DEEPSEEK_V2, Eager, shape).contains(&"a compressed cache"));
        }
        for arch in [Arch::MISTRAL, Arch::PHI3, Arch::GEMMA2, Arch::GEMMA3_TEXT] {
            let part: &[&str] = if arch == Arch::PHI3 { &["a rotation of parts of heads"] } else { &[] };
            assert_eq!(unknown(arch, SdpaFlash, PassShape::prefill(2, 11)), part, "{arch:?}");
            let masked = unknown(arch, SdpaFlash, decode);
            assert!(masked.iter().any(|why| why.contains("mask")), "{arch:?}: {masked:?}");
        }
    }

    /// In decode a layer with a window asks for as many keys as the window has.
    #[test]
    fn a_full_window_is_all_that_decode_sees() {
        let graph = SynthSpec::tiny(Arch::MISTRAL, 0).config().graph();
        let dispatch = Dispatch::new(Hardware::H200, Dtype::Bf16, Attention::Eager);
        let decode = |keys| PassShape::decode(1, keys);
        let check = |keys| dispatch.check(&graph, decode(keys)).expect_err("not measured").to_string();
        let of_attention = |keys: usize| {
            let attention = graph.nodes().find(|node| node.name == "attention").expect("attention");
            let mut used = crate::catalogs::CatalogUse::new(Hardware::H200);
            let block = InSection { section: graph.block(0).expect("a block"), first: true };
            dispatch.recipe(block, attention, decode(keys), &mut used).expect_err("not measured").to_string()
        };
        assert!(of_attention(15).contains("over 15 keys") && of_attention(90).contains("over 20 keys"));
        assert!(of_attention(90).contains("--keys 20"), "{}", of_attention(90));
        assert!(!check(90).is_empty());
    }
}
