use std::path::{Path, PathBuf};

use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::flash3::{Request, Step};
use mantissa_numerics::tensor_core::{Architecture, Operand};

use super::super::hashed::{bytes_of, digest, hashed};
use super::super::heads::usual_heads;
use super::super::matrix::{Format, Matrix};
use super::*;

/// Keys of a page.
const PAGE: usize = 16;

fn number(value: &serde_json::Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

/// One case of `goldens/parallel/flash3.py`: rows compared, and those that differ.
fn compared(case: &serde_json::Value) -> [usize; 2] {
    let [heads, kv_heads, dim] = ["heads", "kv_heads", "width"].map(|name| number(&case[name]));
    let f16 = case["type"] == "f16";
    let (dtype, operand) = if f16 { (Dtype::F16, Operand::F16) } else { (Dtype::Bf16, Operand::Bf16) };
    let group = heads / kv_heads;
    let of = |pair: &serde_json::Value| Request { queries: number(&pair[0]), keys: number(&pair[1]) };
    let requests: Vec<Request> = case["requests"].as_array().unwrap().iter().map(of).collect();
    let step = Step { query_heads: heads, kv_heads, dim, multiprocessors: 132, requests: &requests };
    let recipe = VllmFlash3::of(Architecture::Hopper.block(operand).unwrap(), step).unwrap();
    let tile = tile_of(recipe);
    let instructions = Instructions::ALL.into_iter().rfind(|one| one.is_available()).unwrap();
    let (mut first_token, mut first_page, mut counts) = (0, 0, [0; 2]);
    for (request, parts) in requests.iter().zip(case["parts"].as_array().unwrap()) {
        let tiles = request.keys.div_ceil(tile);
        assert_eq!(recipe.cut.map_or(1, |cut| cut.parts(tiles)), number(parts), "{request:?} of {case}");
        for row in case["rows"].as_array().unwrap() {
            let (token, head) = (number(&row[0]), number(&row[1]));
            if !(first_token..first_token + request.queries).contains(&token) {
                continue;
            }
            let position = token - first_token;
            let limit = request.keys - request.queries + position + 1;
            let q = hashed(dtype, (token * heads + head) * dim, dim, 3, 4.0);
            let [k, v] = [5, 11].map(|seed| {
                let key = |key| {
                    hashed(dtype, ((first_page * PAGE + key) * kv_heads + head / group) * dim, dim, seed, 2.0)
                };
                bytes_of(dtype, &(0..request.keys).flat_map(key).collect::<Vec<f32>>())
            });
            let [k, v] = [&k, &v].map(|data| Matrix {
                format: Format::Plain(dtype),
                rows: request.keys,
                cols: dim,
                row_bytes: 2 * dim,
                data,
            });
            let cached = Cached::new(usual_heads(group, dim), [k, v]);
            let packed = position * group + head % group;
            let seen = recipe
                .cut
                .map_or(tiles, |cut| cut.seen(packed, group, request.keys - request.queries, tile, tiles));
            let found = attend(instructions, recipe, cached, [seen, tiles], &[(&q, limit)]);
            counts[0] += 1;
            counts[1] += usize::from(digest(dtype, &found) != row[2].as_str().unwrap());
        }
        first_token += request.queries;
        first_page += request.keys.div_ceil(PAGE);
    }
    counts
}

/// Digests of rows that an H200 left, 62 steps (`goldens/parallel/flash3.py`); `FLASH3` names another file.
#[test]
fn rows_are_those_of_an_h200() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens/parallel/flash3.json");
    let file = std::env::var_os("FLASH3").map_or(here, PathBuf::from);
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let mut differing = Vec::new();
    for case in json["cases"].as_array().unwrap() {
        let [rows, off] = compared(case);
        assert!(rows > 0, "{case}");
        if off > 0 {
            differing.push(format!("{off} of {rows} rows of {} {}", case["width"], case["requests"]));
        }
    }
    assert!(differing.is_empty(), "{differing:#?}");
}
