//! Recipes in the form that records and catalogs hold.

use mantissa_engine::{Attention, Dispatch, Hardware};
use mantissa_numerics::recipe::{
    AttentionRecipe, KernelRecipe, NormRecipe, NormWeight, OwnAttention, RotaryPairs, RouterChoice,
    ScoreBound, TorchEager, wire,
};
use mantissa_numerics::{Dtype, Phase};

/// Reads the flat JSON that a record holds and writes it again: the same text.
fn unchanged(json: &str) {
    let flat: wire::KernelRecipe = serde_json::from_str(json).expect(json);
    let recipe: KernelRecipe = serde_json::from_str(json).expect(json);
    assert_eq!(serde_json::to_string(&recipe).expect(json), serde_json::to_string(&flat).expect(json));
    assert_eq!(serde_json::to_string(&recipe).expect(json), json);
}

/// Written by earlier versions, one of each kernel.
#[test]
fn recipes_of_earlier_records_are_written_as_they_were() {
    const CUDNN: &str = r#""score_rounding":"f32","softmax":{"softmax":"cudnn","scalings":2}"#;
    const STEP: &str = r#"{"operand":"bf16","width":16,"fraction_bits":25,"result_bits":23}"#;
    let cut = format!(r#"{{"order":"tensor_core","block":{STEP},"parts":1}}"#);
    let threads = r#"{"order":"threads","threads":16,"vector":4}"#;
    let attention = |rest: &str| format!(r#"{{"kernel":"attention",{rest},"output":"bf16"}}"#);
    let lines = [
        r#"{"kernel":"matmul","summation":{"order":"lane_chains","lanes":16},"output":"bf16"}"#.to_owned(),
        r#"{"kernel":"matmul","summation":{"order":"fma_chain"},"output":"f32"}"#.to_owned(),
        format!(r#"{{"kernel":"matmul","summation":{cut},"output":"bf16"}}"#),
        r#"{"kernel":"bias","output":"bf16"}"#.to_owned(),
        r#"{"kernel":"rms_norm","reduction":{"lanes":16},"output":"bf16"}"#.to_owned(),
        r#"{"kernel":"rms_norm","reduction":{"torch":{"threads":128},"rows":9},"output":"bf16","functions":"nvidia"}"#
            .to_owned(),
        r#"{"kernel":"rotary","output":"bf16"}"#.to_owned(),
        r#"{"kernel":"rotary","output":"bf16","functions":"nvidia"}"#.to_owned(),
        r#"{"kernel":"swi_glu","output":"bf16"}"#.to_owned(),
        r#"{"kernel":"swi_glu","output":"bf16","functions":"nvidia"}"#.to_owned(),
        r#"{"kernel":"residual","output":"bf16"}"#.to_owned(),
        r#"{"kernel":"expert_sum","output":"bf16"}"#.to_owned(),
        r#"{"kernel":"expert_sum","output":"bf16","sums":4}"#.to_owned(),
        r#"{"kernel":"router","renormalize":true,"reduction":{"lanes":16},"output":"bf16"}"#.to_owned(),
        r#"{"kernel":"router","renormalize":true,"reduction":{"warp":32},"output":"bf16","functions":"nvidia"}"#
            .to_owned(),
        r#"{"kernel":"log_softmax"}"#.to_owned(),
        r#"{"kernel":"torch_log_softmax","reduction":{"vector":4,"threads":1024,"shifted":true}}"#.to_owned(),
        r#"{"kernel":"torch_log_softmax","reduction":{"across":32}}"#.to_owned(),
        r#"{"kernel":"rms_norm","reduction":{"torch":{"threads":32,"shared":16},"rows":9},"output":"bf16","functions":"nvidia"}"#
            .to_owned(),
        attention(&format!(
            r#""scores":{cut},"score_rounding":"bf16","softmax":{{"softmax":"exact","reduction":{{"warp":32}},"normalize_first":true}},"probability_rounding":"bf16","key_tile":null,"values":{threads},"functions":"nvidia""#
        )),
        attention(&format!(
            r#""scores":{cut},"score_rounding":"f32","softmax":{{"softmax":"flash","splits":3}},"probability_rounding":"bf16","key_tile":128,"values":{cut},"functions":"nvidia""#
        )),
        attention(&format!(
            r#""scores":{cut},{CUDNN},"probability_rounding":"bf16","key_tile":64,"values":{cut},"functions":"nvidia""#
        )),
        attention(&format!(
            r#""scores":{threads},"score_rounding":"f32","scaled_operands":true,"softmax":{{"softmax":"exact","reduction":{{"warp":32}},"normalize_first":true}},"probability_rounding":"f32","key_tile":null,"values":{{"order":"fma_chain"}},"functions":"nvidia""#
        )),
        attention(
            r#""scores":{"order":"fma_chain"},"score_rounding":"f32","softmax":{"softmax":"online","reduction":{"lanes":16}},"probability_rounding":"bf16","key_tile":64"#,
        ),
        attention(
            r#""scores":{"order":"lane_chains","lanes":16},"score_rounding":"f32","softmax":{"softmax":"exact","reduction":{"lanes":16},"normalize_first":false},"probability_rounding":"bf16","key_tile":512"#,
        ),
    ];
    for line in lines {
        unchanged(&line);
    }
}

#[test]
fn what_no_kernel_computes_is_not_read() {
    let cudnn = |tile: u32, scalings: u16| {
        let step = r#"{"operand":"bf16","width":16,"fraction_bits":25,"result_bits":23}"#;
        let cut = format!(r#"{{"order":"tensor_core","block":{step},"parts":1}}"#);
        let softmax = format!(r#""softmax":{{"softmax":"cudnn","scalings":{scalings}}}"#);
        let rest = r#""functions":"nvidia","output":"bf16""#;
        [
            format!(r#"{{"kernel":"attention","scores":{cut},"score_rounding":"f32",{softmax},"#),
            format!(r#""probability_rounding":"bf16","key_tile":{tile},"values":{cut},{rest}}}"#),
        ]
        .concat()
    };
    unchanged(&cudnn(128, 1));
    for (tile, scalings) in [(64, 1), (128, 2), (32, 1), (256, 2), (0, 2)] {
        let json = cudnn(tile, scalings);
        let read = serde_json::from_str::<KernelRecipe>(&json).map_err(|error| error.to_string());
        assert!(read.as_ref().is_err_and(|why| why.starts_with("no kernel computes")), "{json}: {read:?}");
    }
    for json in [
        r#"{"kernel":"matmul","summation":{"order":"lane_chains","lanes":24},"output":"bf16"}"#,
        r#"{"kernel":"torch_log_softmax","reduction":{"lanes":16}}"#,
        r#"{"kernel":"torch_log_softmax","reduction":{"vector":3,"threads":1024,"shifted":true}}"#,
        r#"{"kernel":"torch_log_softmax","reduction":{"across":48}}"#,
        r#"{"kernel":"rms_norm","reduction":{"torch":{"threads":0},"rows":9},"output":"bf16","functions":"nvidia"}"#,
        r#"{"kernel":"matmul","summation":{"order":"threads","threads":16,"vector":4},"output":"bf16"}"#,
        r#"{"kernel":"rms_norm","reduction":{"lanes":16},"output":"bf16","functions":"nvidia"}"#,
        r#"{"kernel":"rms_norm","reduction":{"warp":32},"output":"bf16"}"#,
        r#"{"kernel":"router","renormalize":true,"reduction":{"warp":16},"output":"bf16","functions":"nvidia"}"#,
        r#"{"kernel":"expert_sum","output":"bf16","sums":0}"#,
        r#"{"kernel":"rotary","output":"bf16","neighbours":true,"wide":true}"#,
        r#"{"kernel":"rotary","output":"bf16","wide":true,"rounded_tables":true}"#,
        r#"{"kernel":"rms_norm","reduction":{"vllm":{"threads":72}},"output":"bf16"}"#,
        r#"{"kernel":"rms_norm","reduction":{"vllm":{"threads":2048}},"output":"bf16","functions":"nvidia"}"#,
        r#"{"kernel":"router","renormalize":true,"reduction":{"gating":{"load":8}},"output":"f32"}"#,
        r#"{"kernel":"attention","scores":{"order":"fma_chain"},"score_rounding":"f32","softmax":{"softmax":"exact","reduction":{"lanes":16},"normalize_first":true},"probability_rounding":"bf16","key_tile":null,"output":"bf16"}"#,
        r#"{"kernel":"attention","scores":{"order":"fma_chain"},"score_rounding":"f32","softmax":{"softmax":"flash","splits":1},"probability_rounding":"bf16","key_tile":64,"output":"bf16"}"#,
    ] {
        let read = serde_json::from_str::<KernelRecipe>(json).map_err(|error| error.to_string());
        assert!(read.as_ref().is_err_and(|why| why.starts_with("no kernel computes")), "{json}: {read:?}");
    }
}

/// vLLM's kernels are written so.
#[test]
fn recipes_of_vllm_are_written_and_read() {
    const STEP: &str = r#"{"operand":"bf16","width":16,"fraction_bits":25,"result_bits":23}"#;
    let product = format!(r#"{{"order":"tensor_core","block":{STEP},"parts":1}}"#);
    let flash = |softmax: &str, tile: u16| {
        let rounding = r#""probability_rounding":"bf16""#;
        let ends = format!(r#""key_tile":{tile},"values":{product},"functions":"nvidia","output":"bf16""#);
        let scores = format!(r#""scores":{product},"score_rounding":"f32""#);
        format!(
            r#"{{"kernel":"attention",{scores},"softmax":{{"softmax":"flash3"{softmax}}},{rounding},{ends}}}"#
        )
    };
    let norm = |sum: &str| {
        let ends = r#""output":"bf16","functions":"nvidia","weighting":"before_cast""#;
        format!(r#"{{"kernel":"rms_norm","reduction":{{"vllm":{sum}}},{ends}}}"#)
    };
    let router = |load: &str| {
        let ends = r#""output":"f32","functions":"nvidia""#;
        format!(
            r#"{{"kernel":"router","renormalize":true,"reduction":{{"gating":{{"load":{load}}}}},{ends}}}"#
        )
    };
    for line in [
        norm(r#"{"threads":72}"#),
        norm(r#"{"threads":256,"fused":true}"#),
        r#"{"kernel":"rotary","output":"bf16","rounded_tables":true,"functions":"nvidia"}"#.to_owned(),
        flash("", 128),
        flash(r#","cut":{"rows":64,"most":11,"share":1}"#, 192),
        router("8"),
    ] {
        unchanged(&line);
    }
    let own = flash("", 128).replace(&product, r#"{"order":"fma_chain"}"#);
    assert!(serde_json::from_str::<KernelRecipe>(&own).is_err(), "sums of the engine's own");
    for (cut, tile) in [
        (r#","cut":{"rows":64,"most":1,"share":1}"#, 192),
        (r#","cut":{"rows":64,"most":2,"share":0}"#, 192),
        (r#","cut":{"rows":65,"most":2,"share":1}"#, 192),
        ("", 64),
    ] {
        let line = flash(cut, tile);
        let read = serde_json::from_str::<KernelRecipe>(&line).map_err(|error| error.to_string());
        assert!(read.as_ref().is_err_and(|why| why.starts_with("no kernel computes")), "{line}: {read:?}");
    }
    assert!(serde_json::from_str::<KernelRecipe>(&router("6")).is_err(), "no kernel loads six elements");
    let chosen_first =
        router("8").replace(r#""renormalize":true"#, r#""renormalize":false,"chosen_first":true"#);
    assert!(serde_json::from_str::<KernelRecipe>(&chosen_first).is_err(), "the softmax is of all logits");
}

/// Whatever dispatch names comes back from a record as it was.
#[test]
fn what_dispatch_names_survives_a_record() {
    use Attention::{Eager, FlashAttention2, Sdpa, SdpaFlash, SdpaMath};
    let mut seen = 0;
    let mut hold = |recipe: KernelRecipe| {
        let flat = wire::KernelRecipe::from(recipe);
        assert_eq!(KernelRecipe::try_from(flat), Ok(recipe));
        let json = serde_json::to_string(&recipe).expect("JSON");
        assert_eq!(serde_json::from_str::<KernelRecipe>(&json).expect("JSON"), recipe, "{json}");
        assert_eq!(json, serde_json::to_string(&flat).expect("JSON"));
        seen += 1;
    };
    for (hardware, attentions) in [
        (Hardware::Cpu, &[Eager, Sdpa, FlashAttention2][..]),
        (Hardware::H200, &[Eager, Sdpa, SdpaFlash, SdpaMath]),
        (Hardware::H100, &[Eager, SdpaFlash, SdpaMath]),
    ] {
        for (attention, dtype) in attentions.iter().flat_map(|a| Dtype::ALL.map(|dtype| (*a, dtype))) {
            if hardware != Hardware::Cpu && dtype != Dtype::Bf16 {
                continue;
            }
            let dispatch = Dispatch::new(hardware, dtype, attention);
            for pairs in [
                RotaryPairs::Halves,
                RotaryPairs::WideHalves,
                RotaryPairs::RoundedTables,
                RotaryPairs::Neighbours,
            ] {
                hold(KernelRecipe::Rotary(dispatch.rotary(pairs)));
            }
            hold(KernelRecipe::SwiGlu(dispatch.swiglu()));
            hold(KernelRecipe::GeGlu(dispatch.geglu()));
            hold(KernelRecipe::ClampedSwiGlu(dispatch.clamped_swiglu()));
            hold(KernelRecipe::Cap(dispatch.cap()));
            for weight in [NormWeight::BeforeCast, NormWeight::OnePlus] {
                hold(KernelRecipe::RmsNorm(NormRecipe { weight, ..dispatch.norm(5, 128) }));
            }
            hold(KernelRecipe::Residual(dispatch.residual()));
            hold(KernelRecipe::Bias(dispatch.bias()));
            hold(KernelRecipe::ExpertSum(dispatch.expert_sum(false)));
            hold(KernelRecipe::ExpertSum(dispatch.expert_sum(true)));
            for renormalize in [false, true] {
                hold(KernelRecipe::Router(
                    dispatch.router(RouterChoice::Probabilities { renormalize }, false),
                ));
                hold(KernelRecipe::Router(
                    dispatch.router(RouterChoice::Probabilities { renormalize }, true),
                ));
            }
            hold(KernelRecipe::Router(dispatch.router(RouterChoice::Logits, false)));
            for rows in [0, 1, 2, 5, 9, 17, 512, 4096] {
                for length in [64, 128, 576, 2048, 3584] {
                    hold(KernelRecipe::RmsNorm(dispatch.norm(rows, length)));
                }
            }
            for m in [1, 2, 5, 8, 9, 17, 32] {
                hold(KernelRecipe::Matmul(dispatch.expert(m, 768, 2048, false)));
                hold(KernelRecipe::Matmul(dispatch.matmul(m, 576, 576, false)));
            }
            for (phase, keys) in [(Phase::Prefill, 32), (Phase::Prefill, 512), (Phase::Decode, 540)] {
                let rows = if phase == Phase::Prefill { keys } else { 1 };
                // Longer decodes of cuDNN have no recipe.
                let keys = if attention == Sdpa && phase == Phase::Decode { 100 } else { keys };
                let recipe = dispatch.attention(phase, 8 * 9 * rows, 3, 64, keys);
                assert_eq!(matches!(recipe, AttentionRecipe::Own(_)), hardware == Hardware::Cpu);
                if let AttentionRecipe::Own(own) = recipe {
                    let bound = OwnAttention { bound: ScoreBound::Tanh, ..own };
                    hold(KernelRecipe::Attention(AttentionRecipe::Own(bound)));
                    hold(KernelRecipe::Attention(AttentionRecipe::Own(OwnAttention { sinks: true, ..own })));
                }
                if let AttentionRecipe::TorchEager(eager) = recipe {
                    let bound = TorchEager { bound: ScoreBound::Tanh, ..eager };
                    hold(KernelRecipe::Attention(AttentionRecipe::TorchEager(bound)));
                    let sinks = TorchEager { sinks: true, ..eager };
                    hold(KernelRecipe::Attention(AttentionRecipe::TorchEager(sinks)));
                }
                hold(KernelRecipe::Attention(recipe));
            }
        }
    }
    assert!(seen > 900, "{seen}");
}
