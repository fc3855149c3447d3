//! Experiments to test with: one written out in full, and random ones full of special values.

use std::collections::BTreeMap;

use mantissa_evidence::{
    CatalogBasis, Configuration, ConfigurationExtras, Decoding, Digest, Environment, Experiment,
    ExperimentMetadata, ExtractionConfig, FORMAT_VERSION, FixedParams, Logprobs, ModelIdentity, Neighbour,
    PhaseSignals, PromptSource, Provenance, Reproducibility, Run, Runtime, Setup, SignalTensor, UsedCatalog,
};
use mantissa_numerics::recipe::{KernelRecipe, Lanes, LinearSum, MatmulRecipe, ObservedKernel};
use mantissa_numerics::{Dtype, Phase, Point, Site};
use proptest::prelude::*;

/// The fixture of version 1 is made from these; a new pattern needs a new table.
///
/// Bit patterns where encodings go wrong: signed zeros, subnormals, extremes, infinities, NaNs of all kinds.
fn special(dtype: Dtype) -> &'static [u32] {
    match dtype {
        Dtype::F32 => &[
            0,
            0x8000_0000,
            1,
            0x8000_0001,
            0x007f_ffff,
            0x0080_0000,
            0x7f7f_ffff,
            0xff7f_ffff,
            0x7f80_0000,
            0xff80_0000,
            0x7fc0_0000,
            0xffc0_0001,
            0x7f80_0001,
            0xffbf_ffff,
            0x3f80_0001,
            0x15ae_43fd,
            0x4b80_0001,
            0x5015_02f9,
        ],
        Dtype::Bf16 => &[
            0, 0x8000, 1, 0x8001, 0x007f, 0x0080, 0x7f7f, 0xff7f, 0x7f80, 0xff80, 0x7fc0, 0xffc1, 0x7f81,
            0xffbf, 0x3f81,
        ],
        Dtype::F16 => &[
            0, 0x8000, 1, 0x8001, 0x03ff, 0x0400, 0x7bff, 0xfbff, 0x7c00, 0xfc00, 0x7e00, 0xfe01, 0x7c01,
            0xfdff, 0x3c01,
        ],
    }
}

/// A tensor of `shape` whose bit patterns come from `seed`, one in four of them special.
fn tensor(dtype: Dtype, shape: [usize; 3], mut seed: u64) -> SignalTensor {
    let mut data = Vec::new();
    for _ in 0..shape.iter().product::<usize>() {
        seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let random = u32::try_from(seed >> 32).unwrap();
        let special = special(dtype);
        let bits = if random % 4 == 0 {
            special[random as usize / 4 % special.len()]
        } else {
            random.rotate_left(7)
        };
        data.extend_from_slice(&bits.to_le_bytes()[..dtype.size()]);
    }
    SignalTensor { dtype, shape, data }
}

fn phase(steps: usize, sites: &[(Site, usize)], dtype: Dtype, k: usize, seed: u64) -> PhaseSignals {
    let positions = vec![-3, -2, -1];
    let tensors =
        sites.iter().zip(seed..).map(|(&(site, dim), seed)| (site, tensor(dtype, [steps, 3, dim], seed)));
    let logprobs = (k > 0).then(|| {
        let values = tensor(Dtype::F32, [steps, 3, k], seed ^ 7);
        Logprobs {
            steps,
            positions: 3,
            k,
            vocab_size: Some(49152),
            token_ids: (0..u32::try_from(steps * 3 * k).unwrap()).map(|i| i * 7919 % 49152).collect(),
            log_probs: (0..steps * 3 * k).map(|i| Dtype::F32.decode(&values.data, i)).collect(),
        }
    });
    PhaseSignals { first_step: 0, steps, positions, tensors: tensors.collect::<BTreeMap<_, _>>(), logprobs }
}

fn sites(hidden: usize, keys: usize) -> Vec<(Site, usize)> {
    let mut sites = vec![(Site::outside(Point::FinalNorm), hidden), (Site::outside(Point::EmbedOut), hidden)];
    for layer in [1, 2, 12] {
        sites.push((Site::at(layer, Point::XOut), hidden));
        sites.push((Site::at(layer, Point::K), keys));
    }
    sites.push((Site::at(2, Point::AttnOut), hidden));
    sites
}

pub(crate) fn run(rep_id: u32, dtype: Dtype, steps: usize, seed: u64) -> Run {
    let source = PromptSource {
        document: "report \"final\".pdf".to_owned(),
        document_digest: Digest::of_bytes(b"report"),
        start: 512,
        end: 1024,
        prefix_tokens: 20,
        suffix_tokens: 9,
    };
    let output_token_ids: Vec<u32> = (0..=u32::try_from(steps).unwrap()).map(|i| 1000 + i).collect();
    Run {
        config_id: "cpu bs/2".to_owned(),
        rep_id,
        reference_id: 0,
        timestamp: Some("2025-11-21 08:00:00".to_owned()),
        runtime_seconds: Some(0.1 + f64::from(rep_id)),
        prompt_text: "line\nbreak \u{1f600} \"quoted\" \u{0}".to_owned(),
        prompt_label: None,
        prompt_token_ids: vec![1, 2, 3, u32::MAX],
        output_token_texts: output_token_ids.iter().map(|id| format!(" t{id}")).collect(),
        output_token_ids,
        neighbours: vec![Neighbour {
            prompt_token_ids: vec![4, 5, 6, 7],
            output_token_ids: vec![8],
            source: Some(source.clone()),
        }],
        prompt_source: Some(source),
        prefill: Some(phase(1, &sites(6, 4), dtype, 5, seed)),
        decode: Some(phase(steps, &sites(6, 4), dtype, 5, seed + 100)),
    }
}

/// An experiment of `runs`, all of one configuration.
pub(crate) fn experiment(runs: Vec<Run>) -> Experiment {
    let weights_digest = Some(Digest::of_bytes(b"weights"));
    let setup = Setup {
        model: ModelIdentity { id: "smollm2-135m-instruct".to_owned(), weights_digest },
        hardware: "cpu".to_owned(),
        engine: "mantissa-cpu".to_owned(),
        engine_version: "0.1.0".to_owned(),
        dtype: Dtype::Bf16,
        batch_size: 2,
        attention: "eager".to_owned(),
        quantization: "none".to_owned(),
        compile: false,
        concurrent_streams: false,
        cuda_version: None,
        tp_size: 1,
        ep_size: 1,
        axes: std::collections::BTreeMap::new(),
        decoding: Decoding::Greedy,
        generation: None,
    };
    let recipe = KernelRecipe::Matmul(MatmulRecipe {
        summation: LinearSum::LaneChains { lanes: Lanes::L16 },
        output: Dtype::Bf16,
    });
    let extras = ConfigurationExtras {
        setup,
        environment: Environment {
            cpu: "a CPU".to_owned(),
            cpu_features: vec!["avx2".to_owned()],
            cores: 2,
            os: "linux".to_owned(),
            memory_bytes: 1 << 33,
            rustc: "1.95.0".to_owned(),
        },
        recipes: vec![ObservedKernel {
            phase: Phase::Decode,
            op: "q_proj".to_owned(),
            m: 2,
            n: 576,
            k: 576,
            recipe,
        }],
        catalogs: Vec::new(),
        observed: None,
        answers: None,
        reproducibility: Reproducibility::check(&runs),
        not_finite: Vec::new(),
        runtime: Runtime::of(&[0.1, 0.2, 0.4], Some(2)),
    };
    let configuration = Configuration {
        config_id: "cpu bs/2".to_owned(),
        hardware: "cpu".to_owned(),
        provider: Some("local".to_owned()),
        variable_value: serde_json::json!(2),
        cuda_version: None,
        torch_version: None,
        transformers_version: None,
        flash_attn_version: None,
        python_version: None,
        fixed_params: FixedParams {
            compile: false,
            attention_impl: "eager".to_owned(),
            quantization: "none".to_owned(),
            tp_size: 1,
            ep_size: 1,
            concurrent_streams: false,
        },
        mantissa: Some(extras),
    };
    let metadata = ExperimentMetadata {
        experiment_type: "batch_size".to_owned(),
        variable_tested: "batch_size".to_owned(),
        model: "SmolLM2-135M-Instruct".to_owned(),
        model_size: "135M".to_owned(),
        architecture: "dense".to_owned(),
        sequence_length: 4,
        decode_steps: 3,
        extraction_config: ExtractionConfig {
            layers: vec![1, 2, 12],
            positions: vec![-3, -2, -1],
            hidden_dim: 6,
            key_dim: 4,
            top_k_logprobs: 5,
        },
        date_created: Some("2025-11-21 08:00:00".to_owned()),
        mantissa: Some(Provenance {
            format_version: FORMAT_VERSION,
            tool: "mantissa 0.1.0".to_owned(),
            num_layers: 12,
            vocab_size: 49152,
            weights_digest,
            config_digest: None,
        }),
    };
    Experiment { metadata, configurations: vec![configuration], runs }
}

/// The experiment kept in `fixtures/evidence/v1`.
pub(crate) fn fixture() -> Experiment {
    experiment(vec![run(0, Dtype::Bf16, 2, 1), run(1, Dtype::F16, 2, 2), run(2, Dtype::F32, 2, 3)])
}

/// The experiment kept in `fixtures/evidence/v1-catalogs`: a prediction, with the catalogs it used.
pub(crate) fn predicted() -> Experiment {
    let mut experiment = fixture();
    for extras in experiment.configurations.iter_mut().filter_map(|c| c.mantissa.as_mut()) {
        let used = |basis, text: &str| UsedCatalog {
            hardware: "h200".to_owned(),
            cublas: "13.1.0".to_owned(),
            basis,
            asked: false,
            digest: Digest::of_bytes(text.as_bytes()),
        };
        extras.catalogs =
            vec![used(CatalogBasis::Verified, "built in"), used(CatalogBasis::Measured, "a file")];
    }
    experiment
}

/// Random experiments: any dtype, sizes, absent phases, missing clocks, arbitrary text.
pub(crate) fn any_experiment() -> impl Strategy<Value = Experiment> {
    let dtype = prop_oneof![Just(Dtype::F32), Just(Dtype::Bf16), Just(Dtype::F16)];
    let parts =
        (dtype, 0_usize..4, any::<u64>(), "\\PC{0,12}", any::<[bool; 9]>(), any::<f64>(), 1_usize..40);
    let run = parts.prop_map(|(dtype, steps, seed, text, flags, seconds, dim)| {
        let mut run = self::run(0, dtype, steps, seed >> 1);
        let [prefill, decode, texts, clock, logprobs, source, neighbours, later, label] = flags;
        run.prefill = prefill.then(|| phase(1, &sites(dim, 1), dtype, 5, seed >> 1));
        run.decode =
            decode.then(|| phase(steps, &sites(dim, 2), dtype, if logprobs { 3 } else { 0 }, seed >> 2));
        run.prompt_label = label.then(|| format!("label {text}"));
        run.prompt_text = text;
        if let Some(decode) = run.decode.as_mut().filter(|_| later) {
            // One output id more than there are steps: the recorder kept the later ones.
            decode.first_step = 1;
        }
        if !texts {
            run.output_token_texts.clear();
        }
        run.timestamp = run.timestamp.filter(|_| clock);
        run.runtime_seconds = Some(seconds).filter(|s| s.is_finite() && !clock);
        run.prompt_source = run.prompt_source.filter(|_| source);
        if neighbours {
            run.neighbours.clear();
        }
        run
    });
    (proptest::collection::vec(run, 0..4), any::<bool>(), any::<f64>()).prop_map(
        |(mut runs, clocks, value)| {
            for (rep, run) in (0..).zip(&mut runs) {
                run.rep_id = rep;
            }
            let mut experiment = experiment(runs);
            experiment.metadata.date_created = experiment.metadata.date_created.filter(|_| clocks);
            experiment.configurations[0].variable_value = serde_json::json!([value, {"b": null, "a": "x"}]);
            if let Some(extras) = &mut experiment.configurations[0].mantissa {
                extras.runtime = extras.runtime.take().filter(|_| clocks);
            }
            experiment
        },
    )
}
