//! What llama.cpp's eval-callback prints: of each tensor its name, type, operation, sources and shape, the first and
//! last three values of each axis with four decimals, and the sum of all values.
//!
//! *Source:* llama.cpp, examples/eval-callback and common/debug.cpp (`ggml_debug:` in older versions,
//! `common_debug_cb_eval:` later; `number of input tokens` and the ids before them).
//!
//! Queries and keys are not read: a converter may have changed the order of their elements, and the text does not say.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;

use mantissa_evidence::EvidenceError;
use mantissa_evidence::trace::{Printed, Shown, ShownRow, StageTrace, TracedPrompt};
use mantissa_numerics::{Dtype, Phase, Point, Site};

use super::found::{Found, Held, refused};

/// What the line of a tensor begins with, behind what a logger puts before it.
const MARKS: [&str; 2] = ["ggml_debug:", "common_debug_cb_eval:"];
/// Lines that are looked through for the first tensor.
const LOG_LINES: usize = 10_000;
/// Longest line that is read, in bytes.
const MAX_LINE: u64 = 1 << 16;
/// Values of an axis before and after what is left out.
const SHOWN: u64 = 3;
/// The prompt: a text of eval-callback has one.
const PROMPT: &str = "p0";

pub(super) fn is_log(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    let mut lines = Lines { input: BufReader::new(file), path };
    (0..LOG_LINES).map_while(|_| lines.next().ok().flatten()).any(|line| header(&line).is_some())
}

struct Lines<'p, R> {
    input: R,
    path: &'p Path,
}

impl<R: BufRead> Lines<'_, R> {
    fn next(&mut self) -> Result<Option<String>, EvidenceError> {
        let mut line = Vec::new();
        let read = self.input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
        let read = read.map_err(|source| EvidenceError::Io {
            path: self.path.to_owned(),
            action: "read it",
            source,
            remedy: "check the path and its permissions",
        })?;
        Ok((read > 0).then(|| String::from_utf8_lossy(&line).trim_end().to_owned()))
    }
}

/// A tensor as its line names it.
#[derive(Debug, PartialEq)]
struct Named {
    name: String,
    dtype: Option<Dtype>,
    operation: String,
    sources: [String; 2],
    /// Elements of each axis, the innermost first.
    shape: [u64; 4],
}

/// Reads `ggml_debug: l_out-0 = (f32) ADD(a{4, 2, 1, 1}, b{4, 2, 1, 1}}) = {4, 2, 1, 1}`.
fn header(line: &str) -> Option<Named> {
    let line = MARKS.iter().find_map(|mark| line.split_once(mark))?.1;
    let (name, rest) = line.split_once(" = (")?;
    let (dtype, rest) = rest.split_once(')')?;
    let (call, shape) = rest.rsplit_once(" = {")?;
    let mut sizes = shape.strip_suffix('}')?.split(',').map(|size| size.trim().parse::<u64>());
    let mut shape = [1; 4];
    for size in &mut shape {
        *size = sizes.next()?.ok()?;
    }
    let (operation, sources) = call.trim().split_once('(')?;
    let source = |text: &str| text.split_once('{').map_or("", |(name, _)| name).trim().to_owned();
    let (first, second) = sources.split_once("}, ").unwrap_or((sources, ""));
    let dtype = match dtype {
        "f32" => Some(Dtype::F32),
        "f16" => Some(Dtype::F16),
        "bf16" => Some(Dtype::Bf16),
        _ => None,
    };
    let (name, operation) = (name.trim().to_owned(), operation.trim().to_owned());
    Some(Named { name, dtype, operation, sources: [source(first), source(second)], shape })
}

impl Named {
    /// Whether it is the embedding of the tokens, which begins a pass.
    fn begins(&self) -> bool {
        self.operation == "GET_ROWS" && self.sources[0] == "token_embd.weight"
    }

    /// The site of a tensor, where there is one.
    fn site(&self) -> Option<Site> {
        if self.begins() {
            return Some(Site::outside(Point::EmbedOut));
        }
        let operation = self.operation.as_str();
        match self.name.as_str() {
            "result_norm" if operation == "MUL" => return Some(Site::outside(Point::FinalNorm)),
            "result_output" => return Some(Site::outside(Point::Logits)),
            _ => {}
        }
        let (name, number) = self.name.rsplit_once('-')?;
        let number: u32 = number.parse().ok()?;
        let weight = |of: &str, kind: &str| format!("blk.{number}.{of}.{kind}");
        // The product with this weight, or the sum with its bias that follows.
        let projects = |of: &str| match operation {
            "MUL_MAT" => self.sources[0] == weight(of, "weight"),
            "ADD" => self.sources[1] == weight(of, "bias"),
            _ => false,
        };
        let point = match name {
            "Vcur" if projects("attn_v") => Point::V,
            _ if projects("attn_output") => Point::AttnOut,
            "ffn_inp" if operation == "ADD" => Point::XAfterAttn,
            "ffn_norm" if operation == "MUL" => Point::FfnNorm,
            "ffn_moe_logits" => Point::RouterLogits,
            "ffn_out" if projects("ffn_down") => Point::MlpOut,
            "l_out" if operation == "ADD" => Point::XOut,
            _ => return None,
        };
        Some(Site::at(number.checked_add(1)?, point))
    }
}

/// What was printed of a tensor: values by row and column, and the sum.
#[derive(Debug, Default)]
struct Block {
    rows: BTreeMap<u64, BTreeMap<u64, String>>,
    sum: Option<String>,
    /// Where the next value stands: axes 3, 2, 1, 0.
    at: [u64; 4],
    depth: usize,
    /// Whether it cannot be what the line of its tensor says.
    wrong: bool,
}

impl Block {
    /// Reads a line of values; `false` where it is none.
    fn read(&mut self, line: &str, shape: [u64; 4]) -> bool {
        if let Some(sum) = line.trim().strip_prefix("sum = ") {
            self.sum = Some(sum.trim().to_owned());
            return true;
        }
        let spaced = line.replace('[', " [ ").replace(']', " ] ").replace(',', " ");
        for word in spaced.split_whitespace() {
            match word {
                "[" if self.depth < 3 => {
                    self.depth += 1;
                    self.at[self.depth] = 0;
                }
                "]" if self.depth > 0 => {
                    self.depth -= 1;
                    self.at[self.depth] += 1;
                }
                "..." => {
                    let size = shape[3 - self.depth];
                    self.at[self.depth] = size.saturating_sub(SHOWN);
                }
                number if self.depth == 3 && Printed::read(number).is_some() => {
                    let [_, outer, row, column] = self.at;
                    self.wrong |= outer > 0 || row >= shape[1] || column >= shape[0];
                    self.rows.entry(row).or_default().insert(column, number.to_owned());
                    self.at[3] += 1;
                }
                _ => return false,
            }
        }
        true
    }
}

/// Where a pass stands.
struct Pass {
    /// Tokens before it.
    before: u64,
    tokens: u64,
    step: u64,
}

pub(super) fn read(path: &Path, dump: &mut Found) -> Result<(), EvidenceError> {
    let file = File::open(path).map_err(|source| EvidenceError::Io {
        path: path.to_owned(),
        action: "read it",
        source,
        remedy: "check the path and its permissions",
    })?;
    let mut lines = Lines { input: BufReader::new(file), path };
    let mut ids: Vec<u32> = Vec::new();
    let mut pass: Option<Pass> = None;
    let mut found: BTreeMap<Site, StageTrace> = BTreeMap::new();
    let mut next = lines.next()?;
    let mut prompt = 0;
    while let Some(line) = next {
        let Some(named) = header(&line) else {
            if let Some(count) =
                line.split_once("number of input tokens = ").and_then(|(_, n)| n.trim().parse().ok())
            {
                (ids, next) = token_ids(&mut lines, count)?;
            } else {
                next = lines.next()?;
            }
            continue;
        };
        if named.begins() {
            flush(dump, &mut found);
            let tokens = named.shape[1];
            pass = Some(match &pass {
                None => {
                    prompt = tokens;
                    Pass { before: 0, tokens, step: 0 }
                }
                Some(last) if tokens == 1 => {
                    Pass { before: last.before + last.tokens, tokens, step: last.step + 1 }
                }
                Some(_) => {
                    let what = format!("a text of llama.cpp with a second pass of {tokens} tokens");
                    let remedy = "print one prompt, in one pass: -b and -ub of at least its tokens";
                    return Err(refused(path, &what, remedy));
                }
            });
        }
        let mut block = Block::default();
        next = lines.next()?;
        while let Some(line) = &next {
            if header(line).is_some()
                || line.contains("number of input tokens")
                || !block.read(line, named.shape)
            {
                break;
            }
            next = lines.next()?;
        }
        let known = if ids.len() as u64 == prompt { &ids[..] } else { &[] };
        match pass.as_ref().and_then(|pass| event(&named, block, pass, known)) {
            // A sum with a bias follows the product, under the same name.
            Some((site, event)) => drop(found.insert(site, event)),
            None => dump.leave_out(&named.name.replace('-', ".")),
        }
    }
    flush(dump, &mut found);
    if prompt > 0 {
        let ids = if ids.len() as u64 == prompt { ids } else { Vec::new() };
        dump.prompts.push(TracedPrompt::of_ids(PROMPT, ids));
    }
    Ok(())
}

fn flush(dump: &mut Found, found: &mut BTreeMap<Site, StageTrace>) {
    dump.events.extend(std::mem::take(found).into_values().map(|event| Held::Shown(Box::new(event))));
}

/// As many lines with an id each as there are tokens, and the line behind them.
fn token_ids<R: BufRead>(
    lines: &mut Lines<'_, R>,
    count: usize,
) -> Result<(Vec<u32>, Option<String>), EvidenceError> {
    let mut ids = Vec::new();
    let mut next = lines.next()?;
    while let Some(line) = &next {
        let id = line.split_whitespace().last().and_then(|word| word.parse().ok());
        let Some(id) = id.filter(|_| ids.len() < count) else { break };
        ids.push(id);
        next = lines.next()?;
    }
    if ids.len() != count {
        ids.clear();
    }
    Ok((ids, next))
}

/// The event of a tensor, where it has a site and rows of known positions.
fn event(named: &Named, block: Block, pass: &Pass, ids: &[u32]) -> Option<(Site, StageTrace)> {
    let (site, dtype) = (named.site()?, named.dtype?);
    let [width, rows, outer, outermost] = named.shape;
    let last = pass.before + pass.tokens;
    // Behind the last block's attention llama.cpp keeps the rows whose logits are asked for: the last.
    let first = match rows {
        rows if rows == pass.tokens => pass.before,
        1 => last - 1,
        _ => return None,
    };
    if outer * outermost != 1 || block.wrong || block.rows.is_empty() {
        return None;
    }
    let columns: Vec<u64> = block.rows.values().next()?.keys().copied().collect();
    if block.rows.values().any(|row| !row.keys().eq(&columns)) {
        return None;
    }
    let shown = block
        .rows
        .into_iter()
        .map(|(row, values)| ShownRow { position: first + row, values: values.into_values().collect() });
    let shown = Shown { columns, rows: shown.collect() };
    let positions: Vec<u64> = (first..last).collect();
    let token = |position: &u64| ids.get(usize::try_from(*position).ok()?).copied();
    let event = StageTrace {
        prompt_id: PROMPT.to_owned(),
        phase: if pass.step == 0 { Phase::Prefill } else { Phase::Decode },
        point: site.point,
        layer: site.layer,
        step: pass.step,
        pos_id: last - 1,
        seq_len: pass.tokens,
        hash: None,
        min: None,
        max: None,
        mean: None,
        abs_sum: None,
        sum: block.sum.filter(|sum| Printed::read(sum).is_some()),
        nan: None,
        inf: None,
        nonzero: None,
        shape: Some([rows, width]),
        dtype: Some(dtype),
        token_ids: positions.iter().map_while(token).collect::<Vec<u32>>(),
        positions,
        rows: Vec::new(),
        shown: Some(shown),
        tensor: None,
    };
    let complete = event.token_ids.len() == event.positions.len();
    Some((site, StageTrace { token_ids: if complete { event.token_ids } else { Vec::new() }, ..event }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_tensor_is_read() {
        let line = "0.00.1 D common_debug_cb_eval:           Vcur-3 (reshaped) = (f16)    RESHAPE(Vcur-3{96, 5, 1, \
                    1}, }) = {32, 3, 5, 1}";
        let named = header(line).unwrap();
        assert_eq!((named.name.as_str(), named.operation.as_str()), ("Vcur-3 (reshaped)", "RESHAPE"));
        assert_eq!((named.sources, named.shape), (["Vcur-3".to_owned(), String::new()], [32, 3, 5, 1]));
        assert_eq!(header("ggml_debug: a = (f32) ADD(b{1}, c{1}}) = {1, x, 1, 1}"), None);
    }

    #[test]
    fn values_that_are_left_out_keep_their_places() {
        let mut block = Block::default();
        let row =
            "[      0.1000,       0.2000,       0.3000,    ...,       0.4000,       0.5000,       -nan  ],";
        for line in
            ["    [", "        [", row, row, row, "            ..., ", row, row, row, "        ],", "    ]"]
        {
            assert!(block.read(line, [100, 9, 1, 1]), "{line}");
        }
        assert!(block.read("    sum = 1.500000", [100, 9, 1, 1]) && !block.wrong);
        assert_eq!(block.rows.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 6, 7, 8]);
        assert_eq!(block.rows[&7].keys().copied().collect::<Vec<_>>(), [0, 1, 2, 97, 98, 99]);
        assert!(!block.read("main: done", [100, 9, 1, 1]));
    }
}
