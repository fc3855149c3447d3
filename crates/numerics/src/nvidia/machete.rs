//! Machete, vLLM's product with packed weights on a Hopper GPU: what a weight is worth, which tile and cluster a
//! product gets, and where CUTLASS' stream-K scheduler cuts its sums.
//!
//! Weights are the first operand of `wgmma`: the product is transposed, and a tile has 64 of `K`. *Source:* vLLM
//! 0.24's `csrc/quantization/machete` (`generate.py` has the rules) and CUTLASS 4's
//! `PersistentTileSchedulerSm90StreamK` with its defaults. Left out: weights of 8 bits, scales of channels and tokens.

use std::ops::Range;

use super::launch::{Launch, PartOrder};
use crate::Dtype;

/// Tiles of `K` that a part has at least.
const LEAST: usize = 8;
/// Groups of parts, at most.
const GROUPS: usize = 8;
/// `K` of a tile.
const DEPTH: usize = 64;
/// Multiprocessors of a cluster of processors, by which CUTLASS tells how many thread clusters fit.
const OF_CLUSTER: usize = 18;

/// A product.
///
/// Example: [`launch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Machete {
    /// Rows of the input.
    pub m: usize,
    /// Outputs.
    pub n: usize,
    /// Length of the sums.
    pub k: usize,
    /// Multiprocessors of the GPU.
    pub multiprocessors: usize,
}

/// The weight of an integer of 4 bits: around 8, or with a zero point.
///
/// *Rounding:* `round((q − 8) · s)`; with a zero point `fma(q, s, −round(s · z))`, rounded once: the product with the
/// zero point is made when weights are loaded.
///
/// ```
/// use mantissa_numerics::{Dtype, nvidia::machete::weight};
/// let scale = 0.01_f32.to_bits() & 0xFFFF_0000;
/// let scale = f32::from_bits(scale);
/// let apart = |q: u8, z: u8| Dtype::Bf16.round((f32::from(q) - f32::from(z)) * scale);
/// assert_eq!(weight(Dtype::Bf16, 3, None, scale), apart(3, 8));
/// // Where the zero point's product was rounded, even q = z leaves something.
/// assert_ne!(weight(Dtype::Bf16, 11, Some(11), scale), 0.0);
/// ```
#[must_use]
pub fn weight(dtype: Dtype, q: u8, zero: Option<u8>, scale: f32) -> f32 {
    let q = f32::from(q & 15);
    match zero {
        None => dtype.round((q - 8.0) * scale),
        Some(zero) => {
            let zero = dtype.round(-scale * f32::from(zero & 15));
            // Multiples of the scale's last place with 16 bits at most: exact in binary32 before they are rounded.
            dtype.round(q * scale + zero)
        }
    }
}

impl Machete {
    /// Outputs and rows of a tile, and tiles of a cluster, which lie along the outputs.
    const fn tile(self) -> ([usize; 2], usize) {
        let Self { m, n, k, .. } = self;
        match m {
            257.. if k <= 16_384 && n <= 4096 => ([128, 128], 2),
            257.. => ([128, 256], 2),
            129.. if k <= 4096 && n <= 4096 => ([128, 64], 2),
            129.. if k <= 8192 && n <= 8192 => ([128, 128], 2),
            129.. => ([128, 256], 2),
            // Not 4096: so it stands in the rules.
            65.. if k <= 4069 && n <= 4069 => ([128, 32], 2),
            65.. if k <= 4069 && n <= 8192 => ([128, 64], 2),
            65.. if k >= 8192 && n >= 12_288 => ([256, 128], 2),
            65.. => ([128, 128], 2),
            33.. if k <= 6144 && n <= 6144 => ([128, 16], 1),
            33.. if k >= 16_384 && n >= 12_288 => ([256, 64], 2),
            33.. => ([128, 64], 2),
            17.. if k <= 12_288 && n <= 8192 => ([128, 32], 2),
            17.. => ([256, 32], 2),
            _ if n >= 26_624 => ([256, 16], 1),
            _ => ([128, 16], 1),
        }
    }

    /// Blocks of threads that run at a time.
    const fn wave(self, cluster: usize) -> usize {
        let all = self.multiprocessors;
        if cluster == 1 || all < OF_CLUSTER {
            return if all < cluster { 0 } else { all / cluster * cluster };
        }
        let (whole, rest) = (all / OF_CLUSTER, all % OF_CLUSTER);
        whole * (OF_CLUSTER - OF_CLUSTER % cluster) + (rest - rest % cluster)
    }
}

/// Tiles of a product, numbered as the scheduler does.
#[derive(Debug, Clone, Copy)]
struct Tiles {
    /// Along outputs, whole clusters, and along rows.
    outputs: usize,
    rows: usize,
    cluster: usize,
    /// Tiles of `K`.
    depth: usize,
}

impl Tiles {
    fn count(self) -> usize {
        self.outputs * self.rows
    }

    /// Whether neighbours in the scheduler's order are neighbours along the rows.
    fn along_rows(self) -> bool {
        self.rows <= self.outputs
    }

    /// Row and output of tile `of` of a cluster.
    fn place(self, cluster: usize, of: usize) -> [usize; 2] {
        let clusters = self.outputs / self.cluster;
        if self.along_rows() {
            [cluster % self.rows, cluster / self.rows * self.cluster + of]
        } else {
            [cluster / clusters, cluster % clusters * self.cluster + of]
        }
    }

    /// Tiles whose sums are cut, the first in the scheduler's order.
    fn cut(self, wave: usize) -> usize {
        let full = self.count() / wave;
        let tail = self.count() - full * wave;
        if tail == 0 || self.depth <= LEAST || 2 * tail >= wave {
            return 0;
        }
        (self.count() - full.saturating_sub(1) * wave) / self.cluster * self.cluster
    }

    /// Groups of `units` parts of `cut` tiles.
    fn groups(self, cut: usize, units: usize) -> usize {
        let most = if self.along_rows() { self.rows } else { self.outputs / self.cluster };
        let (tiles, parts) = (cut / self.cluster, units / self.cluster);
        let is_valid = |groups: usize| {
            let of_part = tiles / groups * self.cluster * self.depth / (units / groups);
            parts.is_multiple_of(groups) && of_part >= LEAST
        };
        let candidates = || (2..=most.min(GROUPS)).rev().filter(|groups| is_valid(*groups));
        let ideal = candidates().find(|groups| tiles.is_multiple_of(*groups));
        ideal.or_else(|| candidates().next()).unwrap_or(1)
    }
}

/// The launch of a product: tiles, and where their sums are cut.
///
/// Full waves are not cut, nor is anything where the last wave is at least half full or `K` is short. Otherwise the
/// tiles of the last wave, and of the one before it, are a line of tiles of `K` that is dealt to one wave of blocks;
/// where these are a multiple of the tiles, each tile is cut in equal parts. No part has fewer than 8 tiles of `K`.
///
/// ```
/// use mantissa_numerics::nvidia::machete::{Machete, launch};
/// let shape = Machete { m: 9, n: 4096, k: 1024, multiprocessors: 132 };
/// // 32 tiles of 128 outputs: two equal parts of 8 tiles of K.
/// assert_eq!(launch(shape).cuts(0, 0), [0..512, 512..1024]);
/// // 40 rows are three times as many tiles: a wave that is more than half full.
/// assert_eq!(launch(Machete { m: 40, ..shape }).cuts(0, 0), [0..1024]);
/// ```
#[must_use]
pub fn launch(shape: Machete) -> Launch {
    let ([outputs, rows], cluster) = shape.tile();
    let tiles = Tiles {
        outputs: shape.n.div_ceil(outputs).next_multiple_of(cluster),
        rows: shape.m.div_ceil(rows),
        cluster,
        depth: shape.k.div_ceil(DEPTH),
    };
    let whole = 0..tiles.depth;
    let mut cuts: Vec<Vec<Range<usize>>> = vec![Vec::new(); tiles.count()];
    let wave = shape.wave(cluster);
    let cut = tiles.cut(wave.max(1));
    let units = wave.min(tiles.depth * cut / LEAST / cluster * cluster);
    if units > cut && cut > 0 && units.is_multiple_of(cut) {
        let parts = equal(tiles.depth, units / cut);
        cuts.fill(parts);
    } else if units > 0 {
        stream(tiles, cut, units, &mut cuts);
    }
    for parts in &mut cuts {
        if parts.is_empty() {
            parts.push(whole.clone());
        }
        parts.sort_by_key(|part| part.start);
        for part in parts {
            *part = part.start * DEPTH..shape.k.min(part.end * DEPTH);
        }
    }
    Launch::new(0..shape.m, [rows, outputs], PartOrder::Ascending, 1, tiles.outputs, cuts)
}

/// Ranges of `length` in `parts`, the first ones one longer where they are not equal.
fn equal(length: usize, parts: usize) -> Vec<Range<usize>> {
    let mut end = 0;
    (0..parts)
        .map(|part| {
            let start = end;
            end += length / parts + usize::from(part < length % parts);
            start..end
        })
        .collect()
}

/// Deals `cut` tiles to `units` blocks of threads.
fn stream(tiles: Tiles, cut: usize, units: usize, cuts: &mut [Vec<Range<usize>>]) {
    let Tiles { cluster, depth, .. } = tiles;
    let groups = tiles.groups(cut, units);
    let (cut_clusters, of_group) = (cut / cluster, units / groups);
    for unit in 0..units / cluster {
        let (index, group) = (unit / groups, unit % groups);
        let in_group = cut_clusters / groups + usize::from(group < cut_clusters % groups);
        let length = in_group * cluster * depth;
        let each = length / of_group;
        let longer = (length - each * of_group) / cluster;
        let start = each * index + index.min(longer);
        let end = start + each + usize::from(index < longer);
        // A border near that of a tile goes there.
        let [mut start, end] = [start, end].map(|border| match border % depth {
            near if near < LEAST => border - near,
            far if far > depth - LEAST => border + (depth - far),
            _ => border,
        });
        while start < end {
            let tile = start / depth;
            let stop = end.min((tile + 1) * depth);
            for of in 0..cluster {
                let [row, output] = tiles.place(tile * groups + group, of);
                cuts[row * tiles.outputs + output].push(start - tile * depth..stop - tile * depth);
            }
            start = stop;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What CUTLASS' own scheduler hands out, compiled for a CPU: of each shape the tile, and in tiles of `K` where the
    /// parts of how many tiles end, those of the first rows first.
    #[derive(serde::Deserialize)]
    struct Golden {
        shape: [usize; 4],
        tile: [usize; 2],
        runs: Vec<(usize, Vec<usize>)>,
    }

    #[test]
    fn the_cuts_are_those_of_the_scheduler() {
        let golden = include_str!("../../../../goldens/parallel/machete_cuts.json");
        let golden: Vec<Golden> = serde_json::from_str(golden).expect("JSON");
        assert!(golden.len() > 150);
        for Golden { shape, tile, runs } in golden {
            let [m, n, k, multiprocessors] = shape;
            let launch = launch(Machete { m, n, k, multiprocessors });
            assert_eq!(launch.tile, tile, "{shape:?}");
            let across = n.div_ceil(tile[1]);
            let across =
                across.next_multiple_of(runs.iter().map(|run| run.0).sum::<usize>() / m.div_ceil(tile[0]));
            let wanted = runs.iter().flat_map(|(count, ends)| std::iter::repeat_n(ends, *count));
            for (number, ends) in wanted.enumerate() {
                let (row, output) = (number / across * tile[0], number % across * tile[1]);
                let cuts = launch.cuts(row, output);
                let found: Vec<usize> = cuts.iter().map(|cut| cut.end.div_ceil(DEPTH)).collect();
                assert_eq!(found, *ends, "{shape:?} {row} {output}");
                assert!(
                    cuts.iter()
                        .map(|cut| cut.start)
                        .eq(std::iter::once(0).chain(cuts.iter().map(|cut| cut.end)).take(cuts.len()))
                );
            }
        }
    }
}
