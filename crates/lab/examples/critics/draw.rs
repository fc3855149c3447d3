//! What is drawn: numbers from a seed, and from them a record to make.

use std::fmt;

use mantissa_lab::{Layer, SignalSpec};
use mantissa_model::Arch;
use mantissa_numerics::setup::{Attention, Hardware};
use mantissa_numerics::{Dtype, Point, Setup};

/// Which half of the suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Honest,
    Altered,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Honest { "honest" } else { "altered" })
    }
}

/// Numbers that a seed, a case and an attempt decide.
pub(crate) struct Draw(blake3::OutputReader);

impl Draw {
    pub(crate) fn new(seed: u64, kind: Kind, number: u64, attempt: u64) -> Self {
        let mut stream = blake3::Hasher::new_derive_key("mantissa critics 2026-11");
        stream.update(kind.to_string().as_bytes());
        [seed, number, attempt].iter().for_each(|n| {
            stream.update(&n.to_le_bytes());
        });
        Self(stream.finalize_xof())
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        let end = end.max(1) as u64;
        usize::try_from(u64::from_le_bytes(bytes) % end).unwrap_or_default()
    }

    /// A number of a range, both ends included.
    pub(crate) fn between(&mut self, least: usize, most: usize) -> usize {
        least + self.below(most - least + 1)
    }

    pub(crate) fn pick<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())].clone()
    }

    /// True in one of `n` draws.
    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// The files that a record becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Container,
    Json,
    JsonGz,
    /// To JSON and back.
    Converted,
}

/// A record to make.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) arch: Arch,
    pub(crate) model_seed: u64,
    pub(crate) cells: Vec<Setup>,
    pub(crate) documents: Vec<String>,
    pub(crate) document_tokens: usize,
    pub(crate) references: usize,
    pub(crate) chat_template: bool,
    pub(crate) decode_steps: usize,
    pub(crate) repetitions: usize,
    pub(crate) signals: SignalSpec,
    pub(crate) format: Format,
    /// Candidates beside the claim.
    pub(crate) vary_batch: Vec<usize>,
    pub(crate) vary_attention: Vec<Attention>,
    pub(crate) by_prefill: bool,
}

const BATCHES: [usize; 10] = [1, 2, 3, 4, 5, 7, 8, 9, 16, 17];

impl Wanted {
    /// A record; with `several` configurations or prompts where runs are to be swapped.
    pub(crate) fn draw(draw: &mut Draw, several: bool) -> Self {
        let gpu = draw.one_in(4);
        let families: Vec<Arch> = Arch::all().collect();
        let hardware = if gpu { Hardware::H200 } else { Hardware::Cpu };
        let attentions = if gpu {
            vec![Attention::Eager, Attention::Eager, Attention::SdpaFlash, Attention::SdpaMath]
        } else {
            Attention::OWN.to_vec()
        };
        let dtypes: &[Dtype] = if gpu {
            &[Dtype::Bf16, Dtype::Bf16, Dtype::F16]
        } else {
            &[Dtype::F32, Dtype::Bf16, Dtype::F16]
        };
        let first = Setup {
            hardware,
            batch_size: draw.pick(&BATCHES),
            attention: draw.pick(&attentions),
            dtype: draw.pick(dtypes),
            ..Setup::default()
        };
        let mut cells = vec![first];
        let mut references = 1;
        if several || draw.one_in(5) {
            if draw.one_in(2) {
                let second = Setup { batch_size: draw.pick(&BATCHES), ..first };
                let third = Setup { attention: draw.pick(&attentions), ..first };
                let other = if draw.one_in(2) { second } else { third };
                if other != first {
                    cells.push(other);
                }
            }
            if cells.len() == 1 {
                references = 2;
            }
        }
        let document_tokens = draw.between(3, if gpu { 90 } else { 60 });
        let most = cells.iter().map(|cell| cell.batch_size).max().unwrap_or(1);
        let words = (most + 2) * references * document_tokens;
        let documents = (0..3).map(|_| text(draw, words)).collect();
        Self {
            arch: if gpu {
                draw.pick(&[Arch::LLAMA, Arch::LLAMA, Arch::QWEN2, Arch::QWEN3, Arch::MISTRAL])
            } else {
                draw.pick(&families)
            },
            model_seed: draw.below(3) as u64,
            cells,
            documents,
            document_tokens,
            references,
            chat_template: draw.one_in(2),
            decode_steps: draw.between(1, if gpu { 4 } else { 6 }),
            repetitions: draw.between(1, 2),
            signals: signals(draw),
            format: draw.pick(&[Format::Container, Format::Json, Format::JsonGz, Format::Converted]),
            vary_batch: (0..2).map(|_| draw.pick(&BATCHES)).collect(),
            vary_attention: vec![draw.pick(&attentions)],
            by_prefill: draw.one_in(8),
        }
    }
}

fn signals(draw: &mut Draw) -> SignalSpec {
    let layers = match draw.below(4) {
        0 => None,
        1 => Some(vec![Layer::Last]),
        2 => Some(vec![Layer::Number(1)]),
        _ => Some(vec![Layer::Number(1), Layer::Last]),
    };
    let more =
        [Point::XIn, Point::Q, Point::V, Point::AttnOut, Point::XAfterAttn, Point::MlpOut, Point::EmbedOut];
    let mut points = Vec::new();
    for _ in 0..draw.below(3) {
        let point = draw.pick(&more);
        if !points.contains(&point) {
            points.push(point);
        }
    }
    let positions = draw.pick(&[vec![-1], vec![-2, -1], vec![-3, -2, -1], vec![-3, -1]]);
    SignalSpec { layers, positions, points, top_k: draw.between(1, 8) }
}

/// Words without meaning, enough for so many tokens.
fn text(draw: &mut Draw, words: usize) -> String {
    let letters: Vec<char> = "etaoinshrdlucmfwypvbgkjqxz".chars().collect();
    let mut text = String::new();
    for _ in 0..words {
        for _ in 0..draw.between(2, 7) {
            let place = draw.below(letters.len());
            text.push(letters[draw.below(place + 1)]);
        }
        text.push_str(draw.pick(&[" ", " ", " ", " ", ", ", ". ", "\n", " 7 ", "; "]));
    }
    text
}
