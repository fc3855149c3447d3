//! What adding up the sums of ranks costs, as a share of a block's products.
//!
//! `cargo bench -p mantissa-engine --bench ranks -- [--threads N] [--rounds N]`
//!
//! The products of a block of Qwen2.5-7B, at 1 and 512 rows, by the engine's own kernels: those behind attention and
//! activation once in as many parts of `K` as there are ranks, and once with each rank's sum rounded and all of them
//! added by an all-reduce. What the second costs more is the collective. All are measured in turn, round by round, and
//! the best of each counts. Attention, norms and the rest of a pass are left out, so its share of a pass is smaller.
#![expect(clippy::print_stdout, reason = "a benchmark reports on standard output")]
#![expect(clippy::unwrap_used, reason = "a benchmark, not a library")]

use std::hint::black_box;
use std::time::Instant;

use mantissa_engine::{Isa, Products};
use mantissa_numerics::Dtype;
use mantissa_numerics::recipe::{AllReduceSum, LinearSum, MatmulRecipe, RankOrder, RankSum, TensorCoreSum};
use mantissa_numerics::tensor_core::{Architecture, Operand};

const HIDDEN: usize = 3584;
const INNER: usize = 18_944;
/// Outputs and `K` of products that ranks divide by their outputs, and of those that they divide by `K`.
const APART: [[usize; 2]; 2] = [[4608, HIDDEN], [2 * INNER, HIDDEN]];
const ADDED: [[usize; 2]; 2] = [[HIDDEN, HIDDEN], [HIDDEN, INNER]];

/// Numbers about 0 in bf16.
struct Drawn(u64);

impl Drawn {
    fn bits(&mut self) -> u16 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bits = u16::try_from(self.0 >> 48).unwrap();
        bits & 0x807F | u16::try_from(127 - (self.0 >> 40 & 0xFF).trailing_ones().min(20)).unwrap() << 7
    }
}

/// A product, its operands, and the shortest time that it took.
struct Case {
    recipe: MatmulRecipe,
    rows: usize,
    x: Vec<f32>,
    weight: Vec<u8>,
    out: Vec<f32>,
    best: f64,
}

impl Case {
    fn new(summation: LinearSum, rows: usize, [n, k]: [usize; 2]) -> Self {
        let mut drawn = Drawn(1);
        Self {
            recipe: MatmulRecipe { summation, output: Dtype::Bf16 },
            rows,
            x: (0..rows * k).map(|_| f32::from_bits(u32::from(drawn.bits()) << 16)).collect(),
            weight: (0..n * k).flat_map(|_| drawn.bits().to_le_bytes()).collect(),
            out: vec![0.0; rows * n],
            best: f64::INFINITY,
        }
    }

    fn measure(&mut self, products: &Products) {
        let from = Instant::now();
        products.run(self.recipe, self.rows, &self.x, &self.weight, black_box(&mut self.out));
        self.best = self.best.min(from.elapsed().as_secs_f64());
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |name: &str, default: usize| {
        arguments.iter().position(|a| a == name).map_or(default, |i| arguments[i + 1].parse().unwrap())
    };
    let products = Products::new(Isa::detect(), number("--threads", 2)).unwrap();
    let each = TensorCoreSum::uncut(Architecture::Hopper.block(Operand::Bf16).unwrap());
    for (ranks, order) in [(2, RankOrder::Once), (4, RankOrder::EachAlongRing), (8, RankOrder::Once)] {
        let cut = LinearSum::TensorCore(TensorCoreSum { parts: ranks.try_into().unwrap(), ..each });
        let reduce = AllReduceSum::new(ranks, order).unwrap();
        let added = LinearSum::Ranks(RankSum { each, reduce });
        for rows in [1, 512] {
            let mut apart = APART.map(|shape| Case::new(LinearSum::TensorCore(each), rows, shape));
            let mut alone = ADDED.map(|shape| Case::new(cut, rows, shape));
            let mut together = ADDED.map(|shape| Case::new(added, rows, shape));
            for _ in 0..number("--rounds", 5) {
                for case in apart.iter_mut().chain(&mut alone).chain(&mut together) {
                    case.measure(&products);
                }
            }
            let sum = |cases: &[Case]| cases.iter().map(|case| case.best).sum::<f64>();
            let (others, alone, together) = (sum(&apart), sum(&alone), sum(&together));
            let share = 100.0 * (together - alone) / (others + together);
            println!(
                "{ranks} ranks, {order:?}, {rows} rows: {:.1} ms of products, {:.2} ms more to add them: {share:.2}%",
                1e3 * (others + alone),
                1e3 * (together - alone)
            );
        }
    }
}
