//! Merges catalogs of one GPU and version: `merge_catalogs OUT LAUNCHED IN …`.
//!
//! What the first file compared of attention, all that was compared of weights and what the heuristic names goes to
//! OUT, what the library launches to LAUNCHED. A compared recipe of attention that is another computation than the
//! kernel launched has is left out where the two give the same sums of ones, and printed.

#![expect(clippy::print_stdout, clippy::too_many_lines, reason = "a tool that prints what it left out")]

use std::collections::BTreeMap;

use mantissa_engine::catalog::{Batched, Catalog};
use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::products::remainder_first;
use mantissa_numerics::recipe::{BatchedSum, PlainSum, ThreadSum};

/// Which elements each thread adds, in order; none of a thread that has none.
fn threads(sum: ThreadSum, length: usize) -> Vec<Vec<usize>> {
    let (count, vector) = (usize::from(sum.threads()), usize::from(sum.vector().get()));
    let mut threads = vec![Vec::new(); count];
    for k in 0..length {
        threads[k / vector % count].push(k);
    }
    if sum.in_order() {
        threads.retain(|thread| !thread.is_empty());
    }
    while threads.len() > 1
        && threads.len() % 2 == 0
        && threads[threads.len() / 2..].iter().all(Vec::is_empty)
    {
        threads.truncate(threads.len() / 2);
    }
    threads
}

fn same(a: ThreadSum, b: ThreadSum, length: usize) -> bool {
    let (x, y) = (threads(a, length), threads(b, length));
    x == y && (a.in_order() == b.in_order() || x.len() < 3)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, out, launched, first, others @ ..] = &arguments[..] else {
        return Err("OUT LAUNCHED IN …".into());
    };
    let read = |path: &String| -> Result<Catalog, Box<dyn std::error::Error>> {
        Ok(Catalog::parse(&std::fs::read_to_string(path)?)?)
    };
    let before = read(first)?;
    let mut all = before.clone();
    for other in others {
        all.merge(&read(other)?);
    }
    let (mut compared, mut asked) = (Catalog::new(all.origin.clone()), Catalog::new(all.origin.clone()));
    for (shape, steps) in all.all_asked() {
        compared.add_asked(shape, steps.clone());
    }
    for (dtype, shape, kernels) in all.all_launched() {
        asked.add_launched(dtype, shape, kernels.clone());
    }
    for (shape, rows, recipe) in all.all_linear() {
        compared.add_linear(shape, rows, recipe);
    }
    let mut other: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let (mut agree, mut alone, mut left_out) = (0, 0, 0);
    let length = |shape: Batched, keys: usize| if shape.product.is_scores() { shape.dim } else { keys };
    for (dtype, shape, keys, recipe) in all.all_eager() {
        let length = length(shape, keys);
        let kernel = all.launched(dtype, shape, keys).and_then(|kernel| kernel.batched(dtype, length));
        let equal = match (kernel, recipe) {
            (None, _) => {
                alone += 1;
                true
            }
            (Some(BatchedSum::Threads(a)), BatchedSum::Threads(b)) => same(a, b, length),
            (
                Some(BatchedSum::TensorCore { block: a, tile: x }),
                BatchedSum::TensorCore { block: b, tile: y },
            ) => {
                // Where all comes first, nothing is cut.
                let first = |block, tile| match remainder_first(block, tile, length) {
                    (early, _) if early == length => (0, 0),
                    cut => cut,
                };
                a == b && first(a, x) == first(b, y)
            }

            _ => length < 2,
        };
        agree += usize::from(kernel.is_some() && equal);
        let kept = before.eager(dtype, shape, keys).is_some();
        if equal && kept {
            compared.add_eager(dtype, shape, keys, recipe);
        }
        if !equal {
            left_out += 1;
            other
                .entry(format!(
                    "{dtype} {} {} dim {} length {length}: compared {recipe:?}, launched {kernel:?}",
                    shape.phase.name(),
                    shape.product.name(),
                    shape.dim
                ))
                .or_default()
                .push(shape.heads);
        }
    }
    for (shape, keys, recipe) in all.all_math() {
        let length = length(shape, keys);
        let kernel = all.launched(Dtype::F32, shape, keys).and_then(|kernel| kernel.plain(length));
        let one = ThreadSum::new(1, 1, false);
        let of = |sum: PlainSum| match sum {
            PlainSum::FmaChain => one,
            PlainSum::Threads(sum) => Some(sum),
        };
        let equal = if let (Some(a), Some(b)) = (kernel.and_then(of), of(recipe)) {
            same(a, b, length)
        } else {
            alone += 1;
            true
        };
        agree += usize::from(kernel.is_some() && equal);
        let kept = before.math(shape, keys).is_some();
        if equal && kept {
            compared.add_math(shape, keys, recipe);
        }
        if !equal {
            left_out += 1;
            other
                .entry(format!(
                    "f32 {} {} dim {} length {length}: compared {recipe:?}, launched {kernel:?}",
                    shape.phase.name(),
                    shape.product.name(),
                    shape.dim
                ))
                .or_default()
                .push(shape.heads);
        }
    }
    for (what, heads) in &other {
        println!("{what}: heads {heads:?}");
    }
    println!("{agree} compared as launched, {alone} where nothing was asked, {left_out} left out");
    std::fs::write(out, compared.write())?;
    std::fs::write(launched, asked.write())?;
    Ok(())
}
