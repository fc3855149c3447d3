//! Every family against Hugging Face transformers in f32, with float64 as the judge (`goldens/transformers_f32.json`).
//!
//! Two correct f32 implementations differ by the rounding of different orders of sums. What is asked: at every recorded
//! site Mantissa is no further from the float64 truth than four times what transformers' own f32 is (on a CPU or on an
//! H200, whichever is further), and every greedy token is the same.

use std::collections::{BTreeMap, BTreeSet};

use mantissa_engine::{Attention, Engine, EngineSetup, Tap, View, greedy};
use mantissa_model::Arch;
use mantissa_numerics::{Point, Site};
use serde_json::Value;

use crate::models;

/// The last row seen at every site.
#[derive(Default)]
struct LastRow(BTreeMap<Site, Vec<f32>>);

impl Tap for LastRow {
    fn wants(&self, _site: Site) -> bool {
        true
    }

    fn tap(&mut self, view: View<'_>) {
        self.0.insert(view.site, view.data[view.data.len() - view.width..].to_vec());
    }
}

/// Concatenated big-endian bit patterns of 8 or 16 digits.
fn floats(hex: &Value, digits: usize) -> Vec<f64> {
    let text = hex.as_str().expect("hex").as_bytes();
    text.chunks_exact(digits)
        .map(|chunk| {
            let bits = u64::from_str_radix(std::str::from_utf8(chunk).expect("ascii"), 16).expect("hex");
            if digits == 8 {
                f64::from(f32::from_bits(u32::try_from(bits).expect("8 digits")))
            } else {
                f64::from_bits(bits)
            }
        })
        .collect()
}

fn largest_difference(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// Site of a golden's name: `x_out.4`, `keys.1`, `embed_out`.
fn site(name: &str) -> Site {
    let (point, layer) = name.split_once('.').map_or((name, None), |(p, l)| (p, Some(l)));
    let point: Point = if point == "keys" { Point::K } else { point.parse().expect(name) };
    layer.map_or(Site::outside(point), |layer| Site::at(layer.parse().expect(name), point))
}

#[test]
fn every_family_agrees_with_transformers_to_f32_rounding() {
    let golden: Value = serde_json::from_slice(
        &std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../goldens/transformers_f32.json"))
            .expect("golden"),
    )
    .expect("golden");
    // A family without a golden is noticed here.
    let compared: BTreeSet<&str> =
        golden["models"].as_object().expect("models").keys().map(String::as_str).collect();
    assert_eq!(compared, Arch::all().map(Arch::name).collect());
    assert_eq!(compared, models::ARCHS.map(|(_, name)| name).into());
    for (arch, name) in models::ARCHS {
        let checkpoint = models::tiny(arch);
        let variants = &golden["models"][name]["variants"];
        // Models that were added on a machine without a GPU have transformers' f32 of the CPU alone.
        let truth = &variants["cpu:float64"];
        let theirs = ["cpu:float32", "cuda:float32"].map(|name| variants.get(name));
        let theirs: Vec<&Value> = theirs.into_iter().flatten().collect();
        assert!(!theirs.is_empty(), "{name}: no f32 of transformers to compare with");
        let setup = models::on_cpu(128);
        let engine = Engine::load(&checkpoint, setup).expect("engine");
        let mut caches = vec![engine.new_cache(128)];
        let mut seen = LastRow::default();
        let ids = models::ids(48);
        let mut logits = engine.prefill(&mut caches[0], &ids, 1, 0, 1, &mut seen).expect("prefill");
        compare(name, "prefill", &seen, &truth["prefill_last"], &theirs);
        let tokens: Vec<u32> = serde_json::from_value(truth["tokens"].clone()).expect("tokens");
        assert_eq!(tokens.len(), 16);
        for (step, token) in tokens.iter().enumerate() {
            assert_eq!(greedy(&logits), *token, "{name}: greedy token {step}");
            logits = engine.decode(&mut caches, &[*token], &mut seen).expect("decode");
        }
        compare(name, "decode", &seen, &truth["decode_last"], &theirs);
    }
}

fn compare(model: &str, phase: &str, seen: &LastRow, truth: &Value, theirs: &[&Value]) {
    let truth = truth.as_object().expect("sites");
    assert!(truth.len() >= 15, "the golden holds every site");
    let mut worst = 0.0_f64;
    for (name, exact) in truth {
        let exact = floats(exact, 16);
        let ours: Vec<f64> = seen.0[&site(name)].iter().map(|x| f64::from(*x)).collect();
        let own = largest_difference(&ours, &exact);
        let their = |their: &&Value| floats(&their[format!("{phase}_last")][name], 8);
        let allowed = theirs.iter().map(|f32s| largest_difference(&their(f32s), &exact)).fold(0.0, f64::max);
        worst = worst.max(own / allowed.max(f64::MIN_POSITIVE));
        assert!(
            own <= 4.0 * allowed,
            "{model} {phase} {name}: {own:e} from float64, transformers {allowed:e}"
        );
        let largest = exact.iter().map(|x| x.abs()).fold(0.0, f64::max);
        assert!(
            allowed < 1e-5 * largest.max(1.0),
            "{model} {phase} {name}: the golden itself is off by {allowed:e}"
        );
    }
    #[expect(clippy::print_stdout, reason = "how close it is, for whoever asks with --nocapture")]
    {
        println!("{model} {phase}: at most {worst:.2} times as far from float64 as transformers' f32");
    }
}

/// Tiles of keys that lie before a window, in whole and in part, take no part whatever walks them.
#[test]
fn every_attention_leaves_out_what_is_before_a_window() {
    let checkpoint = models::tiny(Arch::MISTRAL);
    let ids = models::ids(400);
    let of = |attention, ids: &[u32]| {
        let setup = EngineSetup { attention, ..models::on_cpu(512) };
        let engine = Engine::load(&checkpoint, setup).expect("engine");
        let mut caches = vec![engine.new_cache(512)];
        let mut seen = LastRow::default();
        let mut logits = engine.prefill(&mut caches[0], ids, 1, 0, 1, &mut seen).expect("prefill");
        logits.extend(engine.decode(&mut caches, &[7], &mut seen).expect("decode"));
        logits.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>()
    };
    let eager = of(Attention::Eager, &ids);
    for attention in [Attention::Sdpa, Attention::FlashAttention2] {
        let off = largest_difference(&eager, &of(attention, &ids));
        assert!(off < 1e-3, "{attention:?}: {off:e}");
    }
    // What all windows together do not reach back to has no bit's influence, whatever it is.
    let config = checkpoint.config();
    let reach = config.num_hidden_layers * config.extra_size("sliding_window").expect("a window");
    assert!(reach + 64 < ids.len());
    let mut other = ids.clone();
    other[..ids.len() - reach - 1].rotate_left(1);
    for attention in Attention::OWN {
        assert!(of(attention, &ids) == of(attention, &other), "{attention:?}");
    }
}
