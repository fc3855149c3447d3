//! Models whose blocks are nf4, kept as they are stored.

use std::collections::BTreeMap;

use mantissa_engine::{Engine, EngineError, EngineSetup, Hardware, NoTap, QuantizedWeights};
use mantissa_model::Checkpoint;
use mantissa_model::quantized::Quantization;
use mantissa_model::synth::{Preset, SynthRequest, SynthSpec, write};
use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::bnb::Nf4Way;
use mantissa_numerics::recipe::{KernelRecipe, LinearSum};

use super::models::{ids, on_cpu};

/// The ways that products of a prompt of `tokens` went.
fn ways(engine: &Engine<'_>, tokens: u32) -> BTreeMap<String, Option<Nf4Way>> {
    let mut cache = engine.new_cache(64);
    let logits = engine.prefill(&mut cache, &ids(tokens), 1, 0, 1, &mut NoTap).expect("covered");
    assert!(logits.iter().all(|x| x.is_finite()));
    let products = engine.take_observed().into_iter().filter_map(|kernel| match kernel.recipe {
        KernelRecipe::Matmul(product) => Some((kernel.op, product.summation)),
        _ => None,
    });
    let way = |sum| match sum {
        LinearSum::Nf4(sum) => Some(sum.way()),
        _ => None,
    };
    products.map(|(op, sum)| (op, way(sum))).collect()
}

#[test]
fn rows_choose_the_way_and_the_head_is_not_quantized() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let request = SynthRequest {
        preset: Some(Preset::SmolLm2_135M),
        num_hidden_layers: Some(1),
        quantization: Some(Quantization::BnbNf4Double),
        ..SynthRequest::default()
    };
    write(&SynthSpec::new(&request).expect("a preset"), folder.path(), &|_| {}).expect("synthetic model");
    let checkpoint = Checkpoint::open(folder.path()).expect("opens");
    let cpu = EngineSetup { dtype: Dtype::Bf16, ..on_cpu(64) };
    let refused = Engine::load(&checkpoint, cpu.clone());
    assert!(matches!(refused, Err(EngineError::Packed { quantization: Quantization::BnbNf4Double })));
    let gpu = EngineSetup { hardware: Hardware::H200, ..cpu };
    let engine = Engine::load(&checkpoint, gpu.clone()).expect("kept");
    let few = ways(&engine, 9);
    let (head, blocks): (Vec<_>, Vec<_>) = few.iter().partition(|(op, _)| *op == "lm_head");
    assert!(head.iter().all(|(_, way)| way.is_none()) && head.len() == 1);
    assert!(blocks.iter().all(|(_, way)| **way == Some(Nf4Way::Simt)) && blocks.len() == 7, "{few:?}");
    let many = ways(&engine, 40);
    assert_eq!([many["q_proj"], many["gate_proj"]], [Some(Nf4Way::Decoded), Some(Nf4Way::Mma)]);
    let decoded = EngineSetup { quantized: QuantizedWeights::Dequantize, ..gpu };
    let engine = Engine::load(&checkpoint, decoded).expect("decoded");
    assert!(ways(&engine, 9).values().all(Option::is_none));
}
