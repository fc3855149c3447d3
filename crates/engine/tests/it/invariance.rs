//! What may not change a bit: threads, instruction set, taps, neighbours. And one digest per setup that every
//! machine must reproduce (`goldens/engine_digests.json`).

use std::collections::BTreeMap;

use mantissa_engine::{
    Attention, Catalogs, Engine, EngineSetup, Isa, KvCache, NoTap, QuantizedWeights, Serving, Tap, View,
};
use mantissa_model::{Arch, Checkpoint};
use mantissa_numerics::{Dtype, Site};

use crate::models;

/// Hashes every bit of every site.
struct HashAll(blake3::Hasher);

impl Tap for HashAll {
    fn wants(&self, _site: Site) -> bool {
        true
    }

    fn tap(&mut self, view: View<'_>) {
        self.0.update(view.site.to_string().as_bytes());
        view.data.iter().for_each(|x| {
            self.0.update(&x.to_bits().to_le_bytes());
        });
    }
}

fn setup(dtype: Dtype, attention: Attention) -> EngineSetup {
    EngineSetup {
        serving: Serving::default(),
        hardware: mantissa_engine::Hardware::Cpu,
        dtype,
        attention,
        quantized: QuantizedWeights::Keep,
        catalogs: Catalogs::default(),
        context: 700,
        threads: 1,
        isa: Isa::Scalar,
    }
}

/// A prefill of `length` tokens and three steps of a batch of `batch`: the logits' bits.
fn run(
    checkpoint: &Checkpoint,
    setup: EngineSetup,
    length: u32,
    batch: usize,
    taps: &mut dyn Tap,
) -> Vec<u32> {
    let engine = Engine::load(checkpoint, setup).expect("engine");
    let ids = models::ids(length);
    let mut caches: Vec<KvCache> = (0..batch).map(|_| engine.new_cache(length as usize + 3)).collect();
    let mut bits = Vec::new();
    for (sequence, cache) in caches.iter_mut().enumerate() {
        // Row 0 is the reference; its neighbours are the same text turned by their index.
        let mut ids = ids.clone();
        ids.rotate_left(sequence);
        let logits = engine.prefill(cache, &ids, batch, sequence, 2, taps).expect("prefill");
        bits.extend(logits.iter().map(|x| x.to_bits()));
    }
    for step in 0..3 {
        let tokens: Vec<u32> = (0..u32::try_from(batch).expect("small")).map(|row| 17 * step + row).collect();
        let logits = engine.decode(&mut caches, &tokens, taps).expect("decode");
        bits.extend(logits.iter().map(|x| x.to_bits()));
    }
    bits
}

fn isas() -> impl Iterator<Item = Isa> {
    [Isa::Scalar, Isa::Avx2, Isa::Avx512].into_iter().filter(|isa| isa.is_available())
}

#[test]
fn threads_instruction_sets_and_taps_change_no_bit_and_every_machine_agrees() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../goldens/engine_digests.json");
    let golden: BTreeMap<String, String> = std::fs::read(path)
        .map_or_else(|_| BTreeMap::new(), |bytes| serde_json::from_slice(&bytes).expect("golden"));
    let mut digests = BTreeMap::new();
    for (arch, name) in models::ARCHS {
        let checkpoint = models::tiny(arch);
        // Llama runs every combination; the others, what they have of their own.
        let whole = arch == Arch::LLAMA;
        let dtypes = if whole { &Dtype::ALL[..] } else { &[Dtype::Bf16] };
        let attentions = if whole { &Attention::OWN[..] } else { &[Attention::Eager] };
        for dtype in dtypes.iter().copied() {
            for attention in attentions.iter().copied() {
                for batch in [1, 3, 6, 9] {
                    let base = setup(dtype, attention);
                    let mut reference = None;
                    for (threads, isa) in isas().enumerate() {
                        let setup = EngineSetup { threads: threads + 1, isa, ..base.clone() };
                        let mut hash = HashAll(blake3::Hasher::new());
                        let seen = (run(&checkpoint, setup.clone(), 20, batch, &mut hash), hash.0.finalize());
                        let what = format!("{name} {dtype} {attention:?} batch {batch} {isa:?}");
                        if isa == Isa::detect() {
                            let single = EngineSetup { threads: 1, ..setup };
                            let bare = run(&checkpoint, single, 20, batch, &mut NoTap);
                            assert!(bare == seen.0, "taps or threads changed a logit: {what}");
                        }
                        let reference = reference.get_or_insert_with(|| seen.clone());
                        assert!(reference.0 == seen.0, "logits differ: {what}");
                        assert!(reference.1 == seen.1, "a site differs: {what}");
                    }
                    let (_, digest) = reference.expect("scalar runs everywhere");
                    let key = format!("{name}/{dtype}/{}/batch {batch}", attention.name());
                    digests.insert(key, digest.to_hex().to_string());
                }
            }
        }
    }
    if std::env::var_os("MANTISSA_UPDATE_GOLDENS").is_some() {
        let mut text = serde_json::to_string_pretty(&digests).expect("digests");
        text.push('\n');
        std::fs::write(path, text).expect("golden");
    } else {
        assert_eq!(digests, golden, "another machine, or an earlier build, computed other bits");
    }
}

/// More tokens than a chunk, more keys than a tile: the blocked paths against the scalar reference.
#[test]
fn long_prompts_keep_their_bits() {
    let checkpoint = models::tiny(Arch::QWEN2);
    for attention in Attention::OWN {
        let base = setup(Dtype::Bf16, attention);
        let expected = run(&checkpoint, base.clone(), 650, 1, &mut NoTap);
        // Where there is no other, the scalar one with two threads.
        let mut others: Vec<Isa> = isas().filter(|isa| *isa != Isa::Scalar).collect();
        if others.is_empty() {
            others.push(Isa::Scalar);
        }
        for isa in others {
            let other = EngineSetup { isa, threads: 2, ..base.clone() };
            assert!(run(&checkpoint, other, 650, 1, &mut NoTap) == expected, "{attention:?} {isa:?}");
        }
    }
}

/// The rows of a pass never mix: what stands beside the reference cannot change it, only how many stand there can.
#[test]
fn neighbours_change_nothing_but_batch_size_does() {
    let checkpoint = models::tiny(Arch::QWEN3_MOE);
    let engine =
        Engine::load(&checkpoint, EngineSetup { isa: Isa::detect(), ..setup(Dtype::F32, Attention::Eager) })
            .expect("engine");
    let row = |batch: usize, turn: usize| {
        let mut caches: Vec<KvCache> = (0..batch).map(|_| engine.new_cache(50)).collect();
        for (sequence, cache) in caches.iter_mut().enumerate() {
            let mut ids = models::ids(40);
            ids.rotate_left(sequence * turn);
            engine.prefill(cache, &ids, batch, sequence, 1, &mut NoTap).expect("prefill");
        }
        let tokens: Vec<u32> =
            (0..batch).map(|i| if i == 0 { 7 } else { u32::try_from(turn * i).expect("small") }).collect();
        let logits = engine.decode(&mut caches, &tokens, &mut NoTap).expect("decode");
        logits[..checkpoint.config().vocab_size].iter().map(|x| x.to_bits()).collect::<Vec<_>>()
    };
    let mut classes = Vec::new();
    for batch in [1, 2, 4, 5, 8, 9, 12] {
        assert!(row(batch, 1) == row(batch, 3), "batch {batch}: a neighbour changed the reference");
        classes.push(row(batch, 1));
    }
    assert!(
        classes[1] == classes[2] && classes[3] == classes[4] && classes[5] == classes[6],
        "documented classes"
    );
    assert!(
        classes[0] != classes[1] && classes[1] != classes[3] && classes[3] != classes[5],
        "batch size has no effect"
    );
}

/// Every quantized layout, kept as stored: the fast decoders against the scalar reference, and equal to decoding
/// the weights first, since the decoded values are the same numbers.
#[test]
fn quantized_weights_multiply_as_their_exact_values() {
    use mantissa_numerics::BlockFormat::{Q4_0, Q4_1, Q4K, Q6K, Q8_0};
    for format in [Q8_0, Q4_0, Q4_1, Q4K, Q6K] {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, models::tiny_gguf(format)).expect("model");
        let checkpoint = Checkpoint::open(&path).expect("model");
        let base = setup(Dtype::F32, Attention::Eager);
        for batch in [1, 3, 9] {
            let expected = run(&checkpoint, base.clone(), 20, batch, &mut NoTap);
            let decoded = EngineSetup { quantized: QuantizedWeights::Dequantize, ..base.clone() };
            assert!(
                run(&checkpoint, decoded, 20, batch, &mut NoTap) == expected,
                "{format:?}: decoding first differs"
            );
            for isa in isas() {
                assert!(
                    run(&checkpoint, EngineSetup { isa, ..base.clone() }, 20, batch, &mut NoTap) == expected,
                    "{format:?} {isa:?}"
                );
            }
        }
    }
}
