//! Dumps of other programs: files as SGLang writes them (`fixtures/dumps/make.py`), and what llama.cpp prints.

use std::fs;
use std::path::{Path, PathBuf};

use mantissa_evidence::trace::StageTrace;
use mantissa_evidence::{Digest, EvidenceError};
use mantissa_numerics::{Dtype, Phase, Point, Site};
use mantissa_published::dump::Dump;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/dumps").join(name)
}

fn events(dump: &Dump) -> Vec<(StageTrace, Vec<u8>)> {
    let mut all = Vec::new();
    dump.events(true, &mut |event, values| {
        all.push((event, values));
        Ok::<(), EvidenceError>(())
    })
    .unwrap();
    all
}

/// Element i is (first + i) mod 100, as the script writes it.
fn numbers(first: u16, count: usize, dtype: Dtype) -> Vec<u8> {
    let mut bytes = Vec::new();
    for i in 0..u16::try_from(count).unwrap() {
        dtype.encode(f32::from((first + i) % 100), &mut bytes);
    }
    bytes
}

fn of(events: &[(StageTrace, Vec<u8>)], site: Site, step: u64) -> &(StageTrace, Vec<u8>) {
    events.iter().find(|(event, _)| event.site() == Some(site) && event.step == step).unwrap()
}

#[test]
fn passes_of_sglang_have_their_sites_tokens_and_values() {
    let path = fixture("sglang_hook");
    assert!(Dump::is_one(&path));
    let dump = Dump::open(&path).unwrap();
    let [prompt] = &dump.header("test").prompts[..] else { panic!() };
    assert_eq!((prompt.prompt_id.as_str(), &prompt.token_ids[..]), ("p0", &[3, 1, 4][..]));
    let all = events(&dump);
    for (site, first, width) in [
        (Site::outside(Point::EmbedOut), 0, 8),
        (Site::at(2, Point::XIn), 21, 8),
        (Site::at(1, Point::AttnOut), 13, 8),
        (Site::at(2, Point::FfnNorm), 24, 8),
        (Site::at(2, Point::XAfterAttn), 25, 8),
        // Stored column by column.
        (Site::at(1, Point::MlpOut), 16, 8),
        (Site::at(2, Point::XOut), 41, 8),
        (Site::outside(Point::FinalNorm), 40, 8),
    ] {
        for (step, base, rows) in [(0, 0, 3), (1, 1000, 1)] {
            let (event, values) = of(&all, site, step);
            assert_eq!(*values, numbers(base + first, rows * width, Dtype::Bf16), "{site} {step}");
            assert_eq!(event.shape, Some([rows as u64, width as u64]));
        }
    }
    // Logits are of the last token, and stand in the file of the next pass.
    let (event, values) = of(&all, Site::outside(Point::Logits), 0);
    assert_eq!(
        (&event.positions[..], &event.token_ids[..], event.dtype),
        (&[2][..], &[4][..], Some(Dtype::F32))
    );
    assert_eq!(*values, numbers(50, 16, Dtype::F32));
    let (event, _) = of(&all, Site::at(1, Point::AttnOut), 1);
    assert_eq!(
        (event.phase, &event.positions[..], &event.token_ids[..]),
        (Phase::Decode, &[3][..], &[1][..])
    );
    assert_eq!(event.hash.unwrap().to_string(), Digest::of_bytes(&numbers(1013, 8, Dtype::Bf16)).to_string());
    let left_out: Vec<&str> = dump.left_out().keys().map(String::as_str).collect();
    assert_eq!(left_out, ["model", "model.layers.*.input_layernorm", "model.layers.*.self_attn.qkv_proj"]);
    assert!(dump.has_values());
}

#[test]
fn files_of_the_dumper_are_read_by_their_names() {
    let dump = Dump::open(&fixture("sglang_dumper")).unwrap();
    let all = events(&dump);
    let sites: Vec<String> = all.iter().map(|(event, _)| event.site().unwrap().to_string()).collect();
    assert_eq!(sites, ["layer_1.attn_out", "layer_1.x_after_attn", "logits"].repeat(2));
    assert_eq!(of(&all, Site::at(1, Point::XAfterAttn), 1).1, numbers(1015, 8, Dtype::Bf16));
    assert_eq!(of(&all, Site::outside(Point::Logits), 1).0.positions, [3]);
    assert_eq!(dump.left_out().keys().collect::<Vec<_>>(), ["model.layers.*.mlp.act_fn"]);
}

#[test]
fn a_pickle_that_would_run_code_is_refused_by_name() {
    let refused = Dump::open(&fixture("hostile")).unwrap_err().to_string();
    assert!(
        refused.contains("it names __builtin__.print") || refused.contains("it names builtins.print"),
        "{refused}"
    );
    // Cut anywhere, and with any byte of the pickle another: an error or a dump, never a panic.
    let file = fixture("sglang_hook/TP0_PP0_Rank0_pid7/Pass00000.pt");
    let whole = fs::read(file).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("Pass00000.pt");
    let tried = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        if let Ok(dump) = Dump::open(&path) {
            let _ = dump.events(true, &mut |_, _| Ok::<(), EvidenceError>(()));
        }
    };
    (0..whole.len()).step_by(97).for_each(|end| tried(&whole[..end]));
    for at in (0..1800).step_by(3) {
        let mut other = whole.clone();
        other[at] ^= 0x55;
        tried(&other);
    }
}

/// As llama.cpp prints a prompt of seven tokens and a step, its last block on the last row alone.
fn callback() -> String {
    let block = |name: &str, operation: &str, sources: &str, rows: usize, first: f64| {
        let row = |row: usize| {
            let value = |column: usize| {
                format!("{:12.4}", first + f64::from(u32::try_from(row * 8 + column).unwrap()) / 16.0)
            };
            let shown = |columns: [usize; 3]| columns.map(value).join(", ");
            format!("            [{},    ..., {}  ],\n", shown([0, 1, 2]), shown([5, 6, 7]))
        };
        let all: String = match rows {
            7 => {
                let [top, bottom] = [[0, 1, 2], [4, 5, 6]].map(|rows| rows.map(row).concat());
                format!("{top}            ..., \n{bottom}")
            }
            rows => (0..rows).map(row).collect(),
        };
        format!(
            "common_debug_cb_eval: {name:>24} = (f32) {operation:>10}({sources}}}) = {{8, {rows}, 1, 1}}\n    [\n\
             [\n{all}        ],\n    ]\n    sum = 1.500000\n"
        )
    };
    let pass = |rows: usize, first: f64| {
        let last = rows.min(1);
        [
            block("embd", "GET_ROWS", "token_embd.weight{8, 99, 1, 1}, inp_tokens{7, 1, 1, 1}", rows, first),
            block(
                "attn_norm-0",
                "MUL",
                "norm-0{8, 7, 1, 1}, blk.0.attn_norm.weight{8, 1, 1, 1}",
                rows,
                first,
            ),
            block(
                "Qcur-0",
                "MUL_MAT",
                "blk.0.attn_q.weight{8, 8, 1, 1}, attn_norm-0{8, 7, 1, 1}",
                rows,
                first,
            ),
            block(
                "Vcur-0",
                "MUL_MAT",
                "blk.0.attn_v.weight{8, 8, 1, 1}, attn_norm-0{8, 7, 1, 1}",
                rows,
                first,
            ),
            block("Vcur-0", "ADD", "Vcur-0{8, 7, 1, 1}, blk.0.attn_v.bias{8, 1, 1, 1}", rows, first + 1.0),
            block(
                "attn_out-0",
                "MUL_MAT",
                "blk.0.attn_output.weight{8, 8, 1, 1}, kqv_out-0{8, 7, 1, 1}",
                rows,
                first,
            ),
            block("l_out-0", "ADD", "ffn_out-0{8, 7, 1, 1}, ffn_inp-0{8, 7, 1, 1}", last, first),
            block("result_norm", "MUL", "norm{8, 1, 1, 1}, output_norm.weight{8, 1, 1, 1}", last, first),
        ]
        .concat()
    };
    let ids = (10..17).fold(String::new(), |all, id| all + &format!("  {id}\n"));
    format!("build: 9999\nnumber of input tokens = 7\n{ids}{}{}\nmain: done\n", pass(7, 0.0), pass(1, 100.0))
}

#[test]
fn what_llama_cpp_prints_is_shown_and_has_no_hash() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("callback.txt");
    fs::write(&path, callback()).unwrap();
    assert!(Dump::is_one(&path));
    let dump = Dump::open(&path).unwrap();
    assert_eq!(dump.header("test").prompts[0].token_ids, [10, 11, 12, 13, 14, 15, 16]);
    let all = events(&dump);
    let sites: Vec<String> = all.iter().map(|(event, _)| event.site().unwrap().to_string()).collect();
    let expected = ["embed_out", "layer_1.v", "layer_1.attn_out", "layer_1.x_out", "final_norm"];
    assert_eq!(sites, expected.repeat(2));
    assert!(
        all.iter().all(|(event, values)| event.hash.is_none() && values.is_empty()) && !dump.has_values()
    );
    let (embedding, _) = of(&all, Site::outside(Point::EmbedOut), 0);
    assert_eq!((embedding.shape, embedding.sum.as_deref()), (Some([7, 8]), Some("1.500000")));
    let shown = embedding.shown.as_ref().unwrap();
    assert_eq!(shown.columns, [0, 1, 2, 5, 6, 7]);
    assert_eq!(shown.rows.iter().map(|row| row.position).collect::<Vec<_>>(), [0, 1, 2, 4, 5, 6]);
    assert_eq!(shown.row(4).unwrap().values, ["2.0000", "2.0625", "2.1250", "2.3125", "2.3750", "2.4375"]);
    // The sum with its bias, and the last row alone.
    assert_eq!(of(&all, Site::at(1, Point::V), 0).0.shown.as_ref().unwrap().rows[0].values[0], "1.0000");
    assert_eq!(of(&all, Site::at(1, Point::XOut), 0).0.positions, [6]);
    assert_eq!(of(&all, Site::at(1, Point::XOut), 1).0.positions, [7]);
    assert_eq!(
        dump.left_out().iter().map(|(name, n)| (name.as_str(), *n)).collect::<Vec<_>>(),
        [("Qcur.*", 2), ("attn_norm.*", 2)]
    );
    // Two prompts in one text cannot be told apart.
    fs::write(&path, callback() + &callback()).unwrap();
    let refused = Dump::open(&path).unwrap_err().to_string();
    assert!(refused.contains("a second pass of 7 tokens"), "{refused}");
}
