//! What a pass would run, told without running it, and one row of a batch without the others.

use mantissa_engine::plan::{Computation, PassShape, kernels};
use mantissa_engine::{
    Attention, Catalogs, Dispatch, Engine, EngineSetup, Forced, Hardware, Isa, NoTap, Override, Overrides,
    QuantizedWeights, RowId, Serving, SpotRow, Tap, View, spot_inputs,
};
use mantissa_numerics::setup::Padding;
use mantissa_numerics::{Dtype, Phase};

use crate::models;

fn setup(attention: Attention) -> EngineSetup {
    EngineSetup {
        serving: Serving::default(),
        hardware: Hardware::Cpu,
        dtype: Dtype::Bf16,
        attention,
        quantized: QuantizedWeights::Keep,
        catalogs: Catalogs::default(),
        context: 64,
        threads: 1,
        isa: Isa::detect(),
    }
}

/// Every value of row 0, in the order seen.
#[derive(Default)]
struct RowZero(Vec<u32>);

impl Tap for RowZero {
    fn wants(&self, _site: mantissa_numerics::Site) -> bool {
        true
    }

    fn tap(&mut self, view: View<'_>) {
        let rows = view.rows.iter().zip(view.data.chunks_exact(view.width));
        for (_, values) in rows.filter(|(row, _): &(&RowId, _)| row.sequence == 0) {
            self.0.extend(values.iter().map(|x| x.to_bits()));
        }
    }
}

#[test]
fn a_plan_lists_what_runs_in_the_order_it_runs() {
    for (arch, name) in models::ARCHS {
        for attention in Attention::OWN {
            let checkpoint = models::tiny(arch);
            let setup = setup(attention);
            let engine = Engine::load(&checkpoint, setup.clone()).expect("engine");
            let dispatch = Dispatch::new(setup.hardware, setup.dtype, setup.attention);
            let planned = |phase, positions, keys| {
                let shape = PassShape { phase, batch_size: 3, positions, keys, padded: false };
                kernels(dispatch, &checkpoint.config().graph(), shape).expect("the CPU covers everything")
            };
            let mut cache = engine.new_cache(21);
            engine.prefill(&mut cache, &models::ids(20), 3, 0, 1, &mut NoTap).expect("prefill");
            assert_eq!(planned(Phase::Prefill, 20, 20), engine.take_observed(), "{name} {attention:?}");
            engine.decode_row(&mut cache, 7, 3, &mut NoTap).expect("decode");
            assert_eq!(planned(Phase::Decode, 1, 21), engine.take_observed(), "{name} {attention:?}");
        }
    }
}

/// The other rows of a batch are there for dispatch alone: computing them changes no bit of this one, whatever they
/// hold.
#[test]
fn one_row_alone_has_the_bits_it_has_in_its_batch() {
    for (arch, name) in models::ARCHS {
        let checkpoint = models::tiny(arch);
        let engine = Engine::load(&checkpoint, setup(Attention::Eager)).expect("engine");
        for batch in [1, 2, 5, 9] {
            for neighbours in [0, 3] {
                let (mut whole, mut alone) = (RowZero::default(), RowZero::default());
                let mut caches: Vec<_> = (0..batch).map(|_| engine.new_cache(24)).collect();
                for (sequence, cache) in caches.iter_mut().enumerate() {
                    let mut ids = models::ids(20);
                    ids.rotate_left(sequence * neighbours % 20);
                    engine.prefill(cache, &ids, batch, sequence, 2, &mut whole).expect("prefill");
                }
                let mut cache = engine.new_cache(24);
                engine.prefill(&mut cache, &models::ids(20), batch, 0, 2, &mut alone).expect("prefill");
                for token in 0..4_u32 {
                    let mut tokens = vec![token + 100; batch];
                    tokens[0] = token;
                    engine.decode(&mut caches, &tokens, &mut whole).expect("decode");
                    engine.decode_row(&mut cache, token, batch, &mut alone).expect("decode");
                }
                assert!(whole.0 == alone.0, "{name}, batch {batch}");
            }
        }
    }
}

#[test]
fn computations_drop_the_rows_and_keep_what_they_decide() {
    let checkpoint = models::tiny(mantissa_model::Arch::LLAMA);
    let dispatch = Dispatch::new(Hardware::Cpu, Dtype::Bf16, Attention::Eager);
    let of = |batch_size| -> Vec<Computation> {
        let shape = PassShape::decode(batch_size, 8);
        let kernels =
            kernels(dispatch, &checkpoint.config().graph(), shape).expect("the CPU covers everything");
        kernels.iter().map(Computation::of).collect()
    };
    assert!(of(2) == of(4) && of(5) == of(8) && of(9) == of(17));
    assert!(of(1) != of(2) && of(4) != of(5) && of(8) != of(9));
    // SmolLM2's width: 576 is no power of two, so the quotient could depend on the rows; these have the same.
    let torch = Dispatch { hardware: Hardware::H200, ..dispatch };
    let norm = |rows: usize| {
        let recipe = mantissa_numerics::recipe::KernelRecipe::RmsNorm(torch.norm(rows, 576));
        let kernel = mantissa_numerics::recipe::ObservedKernel {
            phase: Phase::Decode,
            op: "norm".to_owned(),
            m: rows as u64,
            n: 576,
            k: 576,
            recipe,
        };
        Computation::of(&kernel)
    };
    assert_eq!(norm(1), norm(2));
}

/// Every row of every site, as a pass leaves it.
#[derive(Default)]
struct Rows(std::collections::BTreeMap<mantissa_numerics::Site, Vec<Vec<f32>>>);

impl Tap for Rows {
    fn wants(&self, _site: mantissa_numerics::Site) -> bool {
        true
    }

    fn tap(&mut self, view: View<'_>) {
        let rows = self.0.entry(view.site).or_default();
        rows.extend(view.data.chunks_exact(view.width).map(<[f32]>::to_vec));
    }
}

/// Each value that a spot check can reach, recomputed alone from recorded inputs, has the bits of the pass.
#[test]
fn single_values_have_the_bits_of_their_pass() {
    let mut attended = 0;
    for (arch, name) in models::ARCHS {
        let checkpoint = models::tiny(arch);
        let engine = Engine::load(&checkpoint, setup(Attention::Eager)).expect("engine");
        let ids = models::ids(20);
        for batch in [1, 3, 6, 9] {
            let mut cache = engine.new_cache(21);
            let (mut prefill, mut decode) = (Rows::default(), Rows::default());
            engine.prefill(&mut cache, &ids, batch, 0, 20, &mut prefill).expect("prefill");
            engine.decode_row(&mut cache, 77, batch, &mut decode).expect("decode");
            for (seen, phase, position, token) in
                [(&prefill, Phase::Prefill, 13, ids[13]), (&decode, Phase::Decode, 20, 77)]
            {
                let index = if phase == Phase::Prefill { position } else { 0 };
                let padding = Padding::None;
                let row = SpotRow { phase, batch_size: batch, prompt: 20, position, token, padding };
                let mut reached = 0;
                for (&site, values) in &seen.0 {
                    let Some(inputs) = spot_inputs(engine.graph(), site) else { continue };
                    let earlier: Vec<Vec<f32>> =
                        inputs.earlier.iter().map(|site| prefill.0[site][..position].concat()).collect();
                    let earlier: Vec<&[f32]> = earlier.iter().map(Vec::as_slice).collect();
                    attended += usize::from(!earlier.is_empty());
                    let inputs: Vec<&[f32]> =
                        inputs.row.iter().map(|site| seen.0[site][index].as_slice()).collect();
                    let width = values[index].len();
                    for column in [0, width / 3, width - 1] {
                        let found = engine.spot(row, site, column, &inputs, &earlier).expect("spot");
                        let Some(found) = found else { continue };
                        assert_eq!(
                            found.to_bits(),
                            values[index][column].to_bits(),
                            "{name} batch {batch} {phase:?} {site}[{column}]"
                        );
                        reached += 1;
                    }
                }
                assert!(reached > 60, "{name}: {reached}");
            }
        }
    }
    assert!(attended > 200, "{attended}");
}

/// Steps whose tokens are known go through the model together and leave the bits that they leave one by one: of one
/// sequence and of several, in batches of every class.
#[test]
fn forced_steps_in_lockstep_have_the_bits_of_single_steps() {
    for (arch, name) in models::ARCHS {
        let checkpoint = models::tiny(arch);
        for attention in Attention::OWN {
            let engine = Engine::load(&checkpoint, setup(attention)).expect("engine");
            let batches = [1, 3, 6, 9, 1];
            let tokens: Vec<Vec<u32>> =
                (0..batches.len()).map(|i| models::ids(40)[i..i + 5 + i % 3].to_vec()).collect();
            let prompt = models::ids(20);
            let filled = |batch| {
                let mut cache = engine.new_cache(32);
                engine.prefill(&mut cache, &prompt, batch, 0, 1, &mut NoTap).expect("prefill");
                cache
            };
            let mut caches: Vec<_> = batches.iter().map(|batch| filled(*batch)).collect();
            let forced: Vec<Forced<'_>> = batches
                .iter()
                .zip(&tokens)
                .map(|(batch_size, tokens)| Forced { tokens, batch_size: *batch_size })
                .collect();
            let mut together = BySequence::default();
            let found = engine.forced(&mut caches, &forced, &mut together).expect("forced");
            let (mut logits, mut observed) = (Vec::new(), Vec::new());
            for (sequence, (batch, tokens)) in batches.iter().zip(&tokens).enumerate() {
                let mut cache = filled(*batch);
                let mut alone = BySequence::default();
                engine.take_observed();
                for token in tokens {
                    logits.extend(engine.decode_row(&mut cache, *token, *batch, &mut alone).expect("decode"));
                    observed.push(engine.take_observed());
                }
                for ((site, _), values) in &alone.0 {
                    assert!(
                        together.0[&(*site, sequence)] == *values,
                        "{name} {attention:?} {sequence} {site}"
                    );
                }
                assert_eq!(cache.len(), caches[sequence].len());
            }
            let bits = |logits: &[f32]| -> Vec<u32> { logits.iter().map(|x| x.to_bits()).collect() };
            assert!(bits(&found.logits) == bits(&logits), "{name} {attention:?}: logits");
            assert_eq!(found.observed, observed, "{name} {attention:?}");
        }
    }
}

/// Every value of each site and sequence, in the order of positions.
#[derive(Default)]
struct BySequence(std::collections::BTreeMap<(mantissa_numerics::Site, usize), Vec<u32>>);

impl Tap for BySequence {
    fn wants(&self, _site: mantissa_numerics::Site) -> bool {
        true
    }

    fn tap(&mut self, view: View<'_>) {
        for (row, values) in view.rows.iter().zip(view.data.chunks_exact(view.width)) {
            let kept = self.0.entry((view.site, row.sequence)).or_default();
            kept.extend(values.iter().map(|x| x.to_bits()));
        }
    }
}

/// A recipe put in place of the planned one runs, is reported by the backend, and differs from the plan.
#[test]
fn what_ran_is_reported_and_not_what_was_planned() {
    use mantissa_numerics::recipe::{KernelRecipe, Lanes, LinearSum, MatmulRecipe};
    let checkpoint = models::tiny(mantissa_model::Arch::LLAMA);
    let setup = EngineSetup { dtype: Dtype::F32, ..setup(Attention::Eager) };
    let dispatch = Dispatch::new(setup.hardware, setup.dtype, setup.attention);
    let shape = PassShape::prefill(1, 20);
    let planned = kernels(dispatch, &checkpoint.config().graph(), shape).expect("a plan");
    let other = KernelRecipe::Matmul(MatmulRecipe {
        summation: LinearSum::LaneChains { lanes: Lanes::L16 },
        output: Dtype::F32,
    });
    let ran = |recipe| {
        let replaced = Override { layer: Some(2), node: "o_proj".to_owned(), phase: None, recipe };
        let engine = Engine::load(&checkpoint, setup.clone())
            .expect("engine")
            .with_overrides(Overrides(vec![replaced]));
        let mut cache = engine.new_cache(20);
        let logits = engine.prefill(&mut cache, &models::ids(20), 1, 0, 1, &mut NoTap).expect("prefill");
        (engine.take_observed(), logits)
    };
    let own = planned.iter().find(|kernel| kernel.op == "o_proj").expect("o_proj").recipe;
    let (same, logits) = ran(own);
    assert_eq!(same, planned);
    let (found, changed) = ran(other);
    let foreign: Vec<_> = found.iter().filter(|kernel| !planned.contains(kernel)).collect();
    assert!(foreign.len() == 1 && foreign[0].op == "o_proj" && foreign[0].recipe == other, "{foreign:?}");
    assert!(logits != changed, "sixteen lanes are no chain");
    // A rotation is no product: such an override is not used.
    let rotary = planned.iter().find(|kernel| kernel.op == "rotary_q").expect("rotary").recipe;
    assert_eq!(ran(rotary).0, planned);
}

/// What of routing a model keeps in binary32 is seen in it and told to taps; the rest is rounded to the storage format.
#[test]
fn routing_keeps_the_width_that_the_model_gives_it() {
    #[derive(Default)]
    struct Formats(std::collections::BTreeMap<mantissa_numerics::Point, (Dtype, bool)>);
    impl Tap for Formats {
        fn wants(&self, _site: mantissa_numerics::Site) -> bool {
            true
        }

        fn tap(&mut self, view: View<'_>) {
            let narrow = view.data.iter().all(|x| x.to_bits().trailing_zeros() >= 16);
            let (_, all) = self.0.entry(view.site.point).or_insert((view.dtype, true));
            *all &= narrow;
        }
    }
    use mantissa_model::Arch;
    use mantissa_numerics::Point::{MlpOut, RouterLogits, RouterTopk};
    let (narrow, wide) = ((Dtype::Bf16, true), (Dtype::F32, false));
    for (arch, logits, weights) in [
        (Arch::QWEN3_MOE, narrow, narrow),
        (Arch::GPT_OSS, narrow, narrow),
        (Arch::MIXTRAL, narrow, wide),
        (Arch::DEEPSEEK_V2, wide, wide),
    ] {
        let checkpoint = models::tiny(arch);
        let engine = Engine::load(&checkpoint, setup(Attention::Eager)).expect("engine");
        let mut seen = Formats::default();
        engine.prefill(&mut engine.new_cache(20), &models::ids(20), 1, 0, 1, &mut seen).expect("prefill");
        let found = [RouterLogits, RouterTopk, MlpOut].map(|point| seen.0[&point]);
        assert_eq!(found, [logits, weights, narrow], "{arch:?}");
    }
}

/// What was compared with no GPU is refused there in one line.
#[test]
fn families_of_the_cpu_alone_are_refused_on_a_gpu() {
    use mantissa_model::Arch;
    for arch in [Arch::GPT_OSS, Arch::DEEPSEEK_V2, Arch::MIXTRAL] {
        let checkpoint = models::tiny(arch);
        for hardware in [Hardware::H200, Hardware::H100] {
            let dispatch = Dispatch::new(hardware, Dtype::Bf16, Attention::Eager);
            let refused = dispatch.check(&checkpoint.config().graph(), PassShape::prefill(1, 20));
            let why = refused.expect_err("not covered").to_string();
            assert!(why.contains("is not covered") && !why.contains('\n'), "{why}");
        }
    }
}
