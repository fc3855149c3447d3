//! What cuBLAS would launch for attention's products, by size: `choices OUT SHARD SHARDS SECONDS PAIRS SPEC …`.
//!
//! PAIRS is a file of lines `heads dim`; a SPEC is `dtype:phase:product:sizes` such as `bf16:decode:scores:1-4096`.
//! Each line of OUT is one product: runs `size:kernel:grid`, of kernels that lines with `#` name.

use std::collections::HashMap;
use std::io::Write;
use std::time::Instant;

use mantissa_cuda::{Device, Launches};
use mantissa_engine::catalog::parse_sizes;
use mantissa_numerics::Dtype;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, out, shard, shards, seconds, pairs, specs @ ..] = &arguments[..] else {
        return Err("arguments".into());
    };
    let (shard, shards): (usize, usize) = (shard.parse()?, shards.parse()?);
    let limit: f64 = seconds.parse()?;
    let start = Instant::now();
    let pairs: Vec<[usize; 2]> = std::fs::read_to_string(pairs)?
        .lines()
        .filter_map(|line| {
            let mut numbers = line.split(' ').filter_map(|n| n.parse().ok());
            Some([numbers.next()?, numbers.next()?])
        })
        .collect();
    let launches = Launches::new(&Device::open()?.place())?;
    let mut file = std::io::BufWriter::new(std::fs::File::create(out)?);
    let raw = std::env::var_os("RAW").is_some();
    let full = std::env::var_os("FULL").is_some();
    let mut kernels: HashMap<String, usize> = HashMap::new();
    let (mut number, mut asked) = (0, 0_usize);
    for spec in specs {
        let parts: Vec<&str> = spec.split(':').collect();
        let [dtype, phase, product, sizes] = parts[..] else { return Err("spec".into()) };
        let format = match dtype {
            "bf16" => Dtype::Bf16,
            "f16" => Dtype::F16,
            _ => Dtype::F32,
        };
        let sizes = parse_sizes(sizes)?;
        for [heads, dim] in &pairs {
            number += 1;
            if number % shards != shard {
                continue;
            }
            if start.elapsed().as_secs_f64() > limit {
                writeln!(file, "! stopped at {dtype} {phase} {product} {dim} {heads}")?;
                file.flush()?;
                println!("shard {shard}: stopped after {asked} questions");
                return Ok(());
            }
            let longest = ((20e9 / *heads as f64).sqrt() as usize).min(32_768);
            let longest = if phase == "decode" { longest + 1024 } else { longest };
            // By the rest of 8: runs of the same kernels, with the grid of their first and last size.
            let mut runs: Vec<Vec<(usize, usize, Vec<[u32; 3]>, usize, Vec<[u32; 3]>)>> = vec![Vec::new(); 8];
            for size in sizes.iter().filter(|size| **size <= longest) {
                let queries = if phase == "prefill" { *size } else { 1 };
                let scores = product == "scores";
                let shape = if scores { [queries, *size, *dim] } else { [queries, *dim, *size] };
                let found = match launches.of_batched(format, *heads, shape, scores) {
                    Ok(found) => found,
                    Err(error) => {
                        writeln!(file, "! {dtype} {phase} {product} {dim} {heads} {size}: {error}")?;
                        break;
                    }
                };
                asked += 1;
                if raw {
                    for launch in &found {
                        let words: Vec<String> = launch.argument.iter().map(u32::to_string).collect();
                        writeln!(
                            file,
                            "R {dtype} {phase} {product} {dim} {heads} {size} {} {:?} {:?} | {}",
                            launch.name,
                            launch.grid,
                            launch.block,
                            words.join(" ")
                        )?;
                    }
                    continue;
                }
                let name: Vec<String> = found
                    .iter()
                    .map(|launch| {
                        let known = [*dim, *heads, *size, queries].map(|x| x as u32);
                        let small = |(at, word): (usize, &u32)| {
                            let odd = launch.name.contains("gemvx")
                                && (2..=128).contains(word)
                                && !known.contains(word);
                            odd.then(|| format!(" p{at}={word}"))
                        };
                        let words: String = launch.argument.iter().enumerate().filter_map(small).collect();
                        format!("{} {:?}{words}", launch.name, launch.block)
                    })
                    .collect();
                let name = name.join(" + ");
                let next = kernels.len();
                let id = match kernels.get(&name) {
                    Some(id) => *id,
                    None => {
                        writeln!(file, "#{next} {name}")?;
                        kernels.insert(name, next);
                        next
                    }
                };
                let grids: Vec<[u32; 3]> = found.iter().map(|launch| launch.grid).collect();
                let runs = &mut runs[size % 8];
                match runs.last_mut() {
                    Some(run) if run.1 == id && (!full || run.4 == grids) => (run.3, run.4) = (*size, grids),
                    _ => runs.push((*size, id, grids.clone(), *size, grids)),
                }
            }
            let grid = |grids: &[[u32; 3]]| {
                grids.iter().map(|[x, y, z]| format!("{x},{y},{z}")).collect::<Vec<_>>().join("+")
            };
            for (rest, runs) in runs.iter().enumerate() {
                write!(file, "{dtype} {phase} {product} {dim} {heads} {rest} |")?;
                for (first, id, from, last, to) in runs {
                    write!(file, " {first}-{last}:{id}:{}", grid(from))?;
                    if from != to {
                        write!(file, ">{}", grid(to))?;
                    }
                }
                writeln!(file)?;
            }
        }
    }
    file.flush()?;
    println!("shard {shard}: {asked} questions in {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}
