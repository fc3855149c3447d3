//! The last block leaves out rows that nobody reads: those that are read keep their bits.

use std::collections::BTreeMap;

use mantissa_engine::{
    Attention, Catalogs, Engine, EngineSetup, Hardware, Isa, NoTap, Override, Overrides, QuantizedWeights,
    RowId, Serving, Tap, View,
};
use mantissa_model::Arch;
use mantissa_numerics::nvidia::flash3::Cut;
use mantissa_numerics::recipe::{
    AttentionRecipe, BatchedSum, CudnnKernel, KernelRecipe, PlainSum, ScoreBound, TorchCudnn, TorchEager,
    TorchFlash, TorchMath, TorchSoftmax, VllmFlash3,
};
use mantissa_numerics::tensor_core::{Architecture, Operand};
use mantissa_numerics::{Dtype, LayerIdx, Point, Site};

use crate::models;

/// The bits of chosen positions at chosen sites. `Some` positions are told to the engine.
struct Chosen<'c> {
    sites: &'c dyn Fn(Site) -> bool,
    positions: Option<&'c [usize]>,
    bits: BTreeMap<(Site, usize), Vec<u32>>,
    /// Rows that were shown at each block's output.
    shown: BTreeMap<Site, usize>,
}

impl<'c> Chosen<'c> {
    fn new(sites: &'c dyn Fn(Site) -> bool, positions: Option<&'c [usize]>) -> Self {
        Self { sites, positions, bits: BTreeMap::new(), shown: BTreeMap::new() }
    }
}

impl Tap for Chosen<'_> {
    fn wants(&self, site: Site) -> bool {
        (self.sites)(site)
    }

    fn wants_row(&self, row: RowId) -> bool {
        self.positions.is_none_or(|positions| positions.contains(&row.position))
    }

    fn tap(&mut self, view: View<'_>) {
        assert!(!view.rows.is_empty(), "{} is shown without rows", view.site);
        if view.site.point == Point::XOut {
            *self.shown.entry(view.site).or_default() += view.rows.len();
        }
        for (row, values) in view.rows.iter().zip(view.data.chunks_exact(view.width)) {
            let bits = values.iter().map(|x| x.to_bits()).collect();
            assert!(self.bits.insert((view.site, row.position), bits).is_none(), "shown twice");
        }
    }
}

fn engine(checkpoint: &mantissa_model::Checkpoint, attention: Attention) -> Engine<'_> {
    let setup = EngineSetup {
        serving: Serving::default(),
        hardware: Hardware::Cpu,
        dtype: Dtype::Bf16,
        attention,
        quantized: QuantizedWeights::Keep,
        catalogs: Catalogs::default(),
        context: 700,
        threads: 2,
        isa: Isa::detect(),
    };
    Engine::load(checkpoint, setup).expect("engine")
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|x| x.to_bits()).collect()
}

/// A prompt of `length` of which all rows are computed, and the same prompt of which some are; then a step of each.
fn compare(engine: &Engine<'_>, length: usize, positions: &[usize], what: &str) {
    let ids = models::ids(u32::try_from(length).expect("small"));
    let vocabulary = engine.config().vocab_size;
    let everything = |_: Site| true;
    let mut all = Chosen::new(&everything, None);
    let mut cache = engine.new_cache(length + 1);
    engine.take_observed();
    let logits = bits(&engine.prefill(&mut cache, &ids, 3, 0, length, &mut all).expect("prefill"));
    let ran = engine.take_observed();
    let step = bits(&engine.decode_row(&mut cache, 5, 3, &mut NoTap).expect("decode"));
    let last = LayerIdx(u32::try_from(engine.config().num_hidden_layers).expect("few"));
    let last_block = |site: Site| site.layer == Some(last);
    let others = |site: Site| !last_block(site);
    for (sites, keep) in
        [(&everything as &dyn Fn(Site) -> bool, 1), (&everything, 3), (&last_block, 1), (&others, 2)]
    {
        let mut some = Chosen::new(sites, Some(positions));
        let mut cache = engine.new_cache(length + 1);
        engine.take_observed();
        let found = bits(&engine.prefill(&mut cache, &ids, 3, 0, keep, &mut some).expect("prefill"));
        assert_eq!(engine.take_observed(), ran, "{what}: the kernels in another order");
        assert!(found == logits[(length - keep) * vocabulary..], "{what}: logits");
        for (place, values) in &some.bits {
            assert!(all.bits[place] == *values, "{what}: {} at {}", place.0, place.1);
        }
        for (site, position) in all.bits.keys().filter(|(site, _)| sites(*site)) {
            let kept = site.layer.is_some() || *position + keep >= length;
            let wanted = positions.contains(position) && kept;
            assert!(!wanted || some.bits.contains_key(&(*site, *position)), "{what}: {site} at {position}");
        }
        if sites(Site::at(last.0, Point::XOut)) {
            let read = (0..length).filter(|at| positions.contains(at) || at + keep >= length).count();
            assert_eq!(
                some.shown[&Site::at(last.0, Point::XOut)],
                read,
                "{what}: rows that nobody reads are computed"
            );
        }
        let found = engine.decode_row(&mut cache, 5, 3, &mut NoTap).expect("decode");
        assert!(bits(&found) == step, "{what}: the cache differs");
    }
}

#[test]
fn rows_that_are_read_keep_their_bits_in_every_family() {
    for (arch, name) in models::ARCHS {
        let checkpoint = models::tiny(arch);
        for attention in Attention::OWN {
            let engine = engine(&checkpoint, attention);
            compare(&engine, 20, &[19], &format!("{name} {attention:?}"));
            compare(&engine, 53, &[0, 1, 17, 49, 52], &format!("{name} {attention:?}, several"));
        }
    }
}

#[test]
fn a_prompt_of_several_chunks_keeps_its_bits() {
    let checkpoint = models::tiny(Arch::QWEN2);
    compare(&engine(&checkpoint, Attention::Eager), 530, &[3, 4, 511, 512, 529], "the engine's own");
    compare(&engine(&checkpoint, Attention::Eager), 530, &[3], "the last chunk is not tapped");
}

/// Attention as a GPU computes it, in place of the engine's own.
#[test]
fn attention_of_gpus_keeps_its_bits() {
    let checkpoint = models::tiny(Arch::LLAMA);
    let block = Architecture::Hopper.block(Operand::Bf16).expect("tensor cores");
    let (sum, chain) = (BatchedSum::TensorCore { block, tile: None }, PlainSum::FmaChain);
    let (softmax, storage) = (TorchSoftmax::Warp, Dtype::Bf16);
    let recipes = [
        AttentionRecipe::TorchEager(TorchEager {
            scores: sum,
            bound: ScoreBound::None,
            sinks: false,
            softmax,
            values: sum,
            storage,
        }),
        AttentionRecipe::TorchFlash(TorchFlash {
            block,
            key_tile: 128.try_into().expect("a size"),
            splits: 1.try_into().expect("a count"),
        }),
        AttentionRecipe::TorchCudnn(TorchCudnn { block, kernel: CudnnKernel::Prefill }),
        AttentionRecipe::TorchCudnn(TorchCudnn { block, kernel: CudnnKernel::Middle }),
        AttentionRecipe::TorchMath(TorchMath { scores: chain, softmax, values: chain, storage }),
        AttentionRecipe::VllmFlash3(VllmFlash3 {
            block,
            key_tile: 128.try_into().expect("a size"),
            cut: Some(Cut { rows: 64, most: 3, share: 1 }),
        }),
    ];
    for recipe in recipes {
        let replaced = Override {
            layer: None,
            node: "attention".to_owned(),
            phase: None,
            recipe: KernelRecipe::Attention(recipe),
        };
        let engine = engine(&checkpoint, Attention::Eager).with_overrides(Overrides(vec![replaced]));
        compare(&engine, 53, &[0, 1, 17, 49, 52], &format!("{recipe:?}"));
        compare(&engine, 530, &[0, 1, 2, 511, 512, 529], &format!("{recipe:?}, two chunks"));
    }
}
