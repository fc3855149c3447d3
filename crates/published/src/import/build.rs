//! Evidence out of a tree, by a map.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path as File;

use mantissa_evidence::error::{Flaw, Result};
use mantissa_evidence::{
    Configuration, Experiment, ExperimentMetadata, FixedParams, Logprobs, PhaseSignals, Run, SignalTensor,
};
use mantissa_numerics::{Dtype, Phase, Site};
use serde_json::Value;

use super::map::{Dim, Given, ImportMap, LogprobMap, SignalMap};
use super::path::{Found, Path, Places};
use super::tree::Tree;

/// What was imported, and what a reader should know of it.
///
/// Example: [`super::import()`].
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// The evidence.
    pub experiment: Experiment,
    /// What was left out, each thing once.
    pub notes: Vec<String>,
}

/// The most rows, and the furthest position, that are no slip of a map.
const MOST: i64 = 1 << 24;

/// Numbers by what row they are of.
type Rows = BTreeMap<(i64, i64), Vec<f64>>;

/// Candidates that are not there.
#[derive(Default)]
struct LeftOut {
    not_finite: usize,
    /// More than every position of a phase has.
    beyond: usize,
}

impl LeftOut {
    fn notes(&self) -> Vec<String> {
        let told = [
            (self.not_finite, "candidates have no finite log-probability and are missing, not measured"),
            (self.beyond, "candidates beyond those that every position has were left out"),
        ];
        told.into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect()
    }
}

/// Signals of a phase before they are tensors.
#[derive(Default)]
struct Gathered {
    sites: BTreeMap<Site, (Dtype, Rows)>,
    token_ids: Rows,
    log_probs: Rows,
}

pub(super) fn build(map: &ImportMap, tree: &Tree, file: &File) -> Result<Imported> {
    let builder = Builder { map, tree, file };
    let mut left_out = LeftOut::default();
    let mut runs = Vec::new();
    for number in builder.runs()? {
        runs.push(builder.run(number, &mut left_out)?);
    }
    let configuration = builder.configuration()?;
    let mut metadata = ExperimentMetadata::bare("imported", "none");
    if let Some(model) = builder.setup("model")? {
        metadata.model = model;
    }
    let longest = runs.iter().map(|run| run.prompt_token_ids.len()).max().unwrap_or(0);
    metadata.sequence_length = u32::try_from(longest).unwrap_or(u32::MAX);
    let steps = runs.iter().filter_map(|run| run.phase(Phase::Decode)).map(|signals| signals.steps).max();
    metadata.decode_steps = steps.and_then(|steps| u32::try_from(steps).ok()).unwrap_or(0);
    let signals = || runs.iter().flat_map(|run| run.phases().map(|(_, signals)| signals));
    let layers: BTreeSet<u32> =
        signals().flat_map(|signals| signals.tensors.keys()).filter_map(|site| Some(site.layer?.0)).collect();
    let positions: BTreeSet<i32> = signals().flat_map(|signals| signals.positions.iter().copied()).collect();
    metadata.extraction_config.layers = layers.into_iter().collect();
    metadata.extraction_config.positions = positions.into_iter().collect();
    let top = signals().filter_map(|signals| signals.logprobs.as_ref()).map(|logprobs| logprobs.k).max();
    metadata.extraction_config.top_k_logprobs = top.and_then(|k| u32::try_from(k).ok()).unwrap_or(0);
    let experiment = Experiment { metadata, configurations: vec![configuration], runs };
    Ok(Imported { experiment, notes: left_out.notes() })
}

struct Builder<'b> {
    map: &'b ImportMap,
    tree: &'b Tree,
    file: &'b File,
}

impl<'b> Builder<'b> {
    fn flaw(
        &self,
        place: &str,
        problem: impl Into<String>,
        remedy: &'static str,
    ) -> mantissa_evidence::EvidenceError {
        Flaw::new(place, problem, remedy).in_file(self.file)
    }

    /// What a path leads to in a run. A map is checked when it is read.
    fn find(&self, path: &str, run: i64) -> Vec<(Places, Found<'b>)> {
        Path::parse(path).map(|path| path.at(self.tree, run)).unwrap_or_default()
    }

    /// The runs that `{run}` stands for; one where no path names it.
    fn runs(&self) -> Result<BTreeSet<i64>> {
        let paths = self.map.run.prompt_ids.iter().chain(&self.map.run.output_ids);
        let signals = self.map.signals.iter().map(|signal| &signal.path);
        let logprobs = self.map.logprobs.iter().map(|logprobs| &logprobs.log_probs);
        let mut runs = BTreeSet::new();
        for path in paths.chain(signals).chain(logprobs) {
            let found = Path::parse(path).map(|path| path.all(self.tree)).unwrap_or_default();
            if found.is_empty() {
                return Err(self.flaw(path, "leads to nothing", "mend the path in the map"));
            }
            runs.extend(found.iter().filter_map(|(places, _)| places.get("run")));
        }
        if runs.is_empty() {
            runs.insert(0);
        }
        Ok(runs)
    }

    /// The one thing that a path leads to.
    fn one(&self, path: Option<&String>, run: i64) -> Result<Option<Found<'b>>> {
        let Some(path) = path else { return Ok(None) };
        let mut found = self.find(path, run);
        match found.len() {
            0 => Err(self.flaw(path, "leads to nothing", "mend the path in the map")),
            1 => Ok(found.pop().map(|(_, found)| found)),
            many => Err(self.flaw(path, format!("leads to {many} things, not one"), "name the run: [{run}]")),
        }
    }

    fn ids(&self, path: Option<&String>, run: i64) -> Result<Vec<u32>> {
        let Some(found) = self.one(path, run)? else { return Ok(Vec::new()) };
        let place = path.map_or("", String::as_str);
        let array =
            found.array().map_err(|problem| self.flaw(place, problem, "point at a list of token ids"))?;
        // A batch of one is a list in a list.
        let id = |x: &f64| {
            whole(*x).ok_or_else(|| self.flaw(place, format!("{x} is no token id"), "point at ids"))
        };
        array.values.iter().map(id).collect()
    }

    fn text(&self, path: Option<&String>, run: i64) -> Result<Option<String>> {
        Ok(match self.one(path, run)? {
            Some(Found::Json(Value::String(text))) => Some(text.clone()),
            Some(Found::Json(other)) => Some(other.to_string()),
            Some(Found::Array(_)) | None => None,
        })
    }

    fn number(&self, path: Option<&String>, run: i64) -> Result<Option<u32>> {
        let Some(found) = self.one(path, run)? else { return Ok(None) };
        let place = path.map_or("", String::as_str);
        let number = found.array().ok().and_then(|array| array.values.first().copied()).and_then(whole);
        number.map(Some).ok_or_else(|| self.flaw(place, "no whole number", "point at one, counted from 0"))
    }

    /// A field of the setup as text.
    fn setup(&self, name: &str) -> Result<Option<String>> {
        Ok(match self.map.setup.get(name) {
            None => None,
            Some(Given::Constant(toml::Value::String(word))) => Some(word.clone()),
            Some(Given::Constant(toml::Value::Integer(number))) => Some(number.to_string()),
            Some(Given::Constant(toml::Value::Boolean(truth))) => Some(truth.to_string()),
            Some(Given::Constant(_)) => {
                return Err(self.flaw(
                    &format!("setup.{name}"),
                    "no word, number or truth value",
                    "write one of them",
                ));
            }
            Some(Given::At { path }) => {
                let first = self.runs()?.first().copied().unwrap_or(0);
                self.text(Some(path), first)?
            }
        })
    }

    fn configuration(&self) -> Result<Configuration> {
        let word = |name: &str| Ok(self.setup(name)?.unwrap_or_default());
        let count = |name: &str| match self.setup(name)? {
            None => Ok(1),
            Some(text) => text.parse::<u32>().map_err(|_| {
                self.flaw(&format!("setup.{name}"), format!("'{text}' is no number"), "write a whole number")
            }),
        };
        let truth = |name: &str| match self.setup(name)?.as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(self.flaw(
                &format!("setup.{name}"),
                format!("'{other}' is no truth value"),
                "write true or false",
            )),
        };
        let quantization = self.setup("quantization")?.unwrap_or_else(|| "none".to_owned());
        Ok(Configuration {
            config_id: "imported".to_owned(),
            hardware: word("hardware")?,
            provider: self.setup("provider")?,
            variable_value: match self.setup("batch_size")? {
                Some(_) => count("batch_size")?.into(),
                None => Value::from("none"),
            },
            cuda_version: self.setup("cuda_version")?,
            torch_version: None,
            transformers_version: None,
            flash_attn_version: None,
            python_version: None,
            fixed_params: FixedParams {
                compile: truth("compile")?,
                attention_impl: word("attention")?,
                quantization,
                tp_size: count("tp_size")?,
                ep_size: count("ep_size")?,
                concurrent_streams: truth("concurrent_streams")?,
            },
            mantissa: None,
        })
    }

    fn run(&self, run: i64, left_out: &mut LeftOut) -> Result<Run> {
        let paths = &self.map.run;
        let mut phases: BTreeMap<Phase, Gathered> = BTreeMap::new();
        for signal in &self.map.signals {
            self.signal(signal, run, phases.entry(signal.phase).or_default())?;
        }
        for logprobs in &self.map.logprobs {
            self.logprobs(logprobs, run, phases.entry(logprobs.phase).or_default())?;
        }
        let mut of = |phase: Phase| match phases.remove(&phase) {
            None => Ok(None),
            Some(gathered) => self.tensors(phase, gathered, left_out).map(Some),
        };
        let (prefill, decode) = (of(Phase::Prefill)?, of(Phase::Decode)?);
        let texts = match self.one(paths.output_texts.as_ref(), run)? {
            Some(Found::Json(Value::Array(items))) => {
                items.iter().map(|item| item.as_str().unwrap_or_default().to_owned()).collect()
            }
            _ => Vec::new(),
        };
        Ok(Run {
            config_id: "imported".to_owned(),
            rep_id: self.number(paths.repetition.as_ref(), run)?.unwrap_or(0),
            reference_id: self
                .number(paths.reference.as_ref(), run)?
                .unwrap_or_else(|| whole(as_f64(run)).unwrap_or(0)),
            timestamp: None,
            runtime_seconds: None,
            prompt_text: self.text(paths.prompt_text.as_ref(), run)?.unwrap_or_default(),
            prompt_label: self.text(paths.prompt_label.as_ref(), run)?,
            prompt_token_ids: self.ids(paths.prompt_ids.as_ref(), run)?,
            output_token_ids: self.ids(paths.output_ids.as_ref(), run)?,
            output_token_texts: texts,
            neighbours: Vec::new(),
            prompt_source: None,
            prefill,
            decode,
        })
    }

    fn signal(&self, signal: &SignalMap, run: i64, to: &mut Gathered) -> Result<()> {
        for (places, found) in self.find(&signal.path, run) {
            let layer = places.get("layer").map(|layer| layer - signal.layers_from + 1);
            let name = layer.map_or_else(
                || signal.site.clone(),
                |layer| signal.site.replace("{layer}", &layer.to_string()),
            );
            let site: Site = name.parse().map_err(|problem: String| {
                self.flaw(&signal.path, problem, "mend 'site' or 'layers_from' in the map")
            })?;
            let array = found.array().map_err(|problem| {
                self.flaw(&signal.path, problem, "point at numbers, and say their layout")
            })?;
            let rows = &mut to.sites.entry(site).or_insert_with(|| (signal.dtype, Rows::new())).1;
            let layout =
                Layout { dims: &signal.layout, positions: signal.positions.as_deref(), path: &signal.path };
            self.rows(&layout, &places, &array.shape, &array.values, rows)?;
        }
        Ok(())
    }

    fn logprobs(&self, map: &LogprobMap, run: i64, to: &mut Gathered) -> Result<()> {
        for (path, rows) in [(&map.token_ids, &mut to.token_ids), (&map.log_probs, &mut to.log_probs)] {
            for (places, found) in self.find(path, run) {
                let mut array = found
                    .array()
                    .map_err(|problem| self.flaw(path, problem, "point at a list of candidates"))?;
                for x in &mut array.values {
                    if map.missing.iter().any(|missing| missing.to_bits() == x.to_bits()) {
                        *x = f64::NAN;
                    }
                }
                let layout = Layout { dims: &map.layout, positions: map.positions.as_deref(), path };
                self.rows(&layout, &places, &array.shape, &array.values, rows)?;
            }
        }
        Ok(())
    }

    /// Puts numbers into rows by step and position.
    fn rows(
        &self,
        layout: &Layout<'_>,
        places: &Places,
        shape: &[usize],
        values: &[f64],
        rows: &mut Rows,
    ) -> Result<()> {
        let path = layout.path;
        // Axes of one in front are a batch of one.
        let extra = shape.len().saturating_sub(layout.dims.len());
        if shape.len() < layout.dims.len() || shape[..extra].iter().any(|size| *size != 1) {
            let problem = format!("numbers of shape {shape:?} in a layout of {} axes", layout.dims.len());
            return Err(self.flaw(path, problem, "mend 'layout' in the map"));
        }
        let shape = &shape[extra..];
        let width = shape.last().copied().unwrap_or(0);
        let size_of = |dim: Dim| layout.dims.iter().position(|known| *known == dim).map(|at| shape[at]);
        let (steps, positions) = (size_of(Dim::Step), size_of(Dim::Position));
        let order_is_steps_first = layout.dims.first() != Some(&Dim::Position);
        let counted = i64::try_from(positions.unwrap_or(1)).unwrap_or(i64::MAX);
        if let Some(listed) = layout.positions
            && listed.len() != positions.unwrap_or(1)
        {
            let problem =
                format!("{} positions are listed, {} are there", listed.len(), positions.unwrap_or(1));
            return Err(self.flaw(path, problem, "mend 'positions' in the map"));
        }
        for step in 0..steps.unwrap_or(1) {
            for position in 0..positions.unwrap_or(1) {
                let at = if order_is_steps_first {
                    step * positions.unwrap_or(1) + position
                } else {
                    position * steps.unwrap_or(1) + step
                };
                let row = values.get(at * width..(at + 1) * width).unwrap_or_default().to_vec();
                let named = |name: &str| places.get(name).copied();
                let index = i64::try_from(step).unwrap_or(i64::MAX);
                let step = if steps.is_some() { index } else { named("step").unwrap_or(0) };
                let place = i64::try_from(position).unwrap_or(i64::MAX);
                let position = match (layout.positions, named("position")) {
                    (Some(listed), _) => i64::from(listed[position]),
                    (None, Some(named)) => named,
                    (None, None) => place - counted,
                };
                if !(-MOST..0).contains(&position) || !(0..MOST).contains(&step) {
                    let problem = format!("position {position} of step {step}");
                    return Err(self.flaw(path, problem, "count positions from the end: -1 is the newest"));
                }
                if rows.insert((step, position), row).is_some() {
                    let problem = format!("step {step}, position {position} is there twice");
                    return Err(self.flaw(
                        path,
                        problem,
                        "name what varies in the path: {step}, {position}, {layer}",
                    ));
                }
            }
        }
        Ok(())
    }

    /// Tensors of a phase: the same steps and positions at every site.
    fn tensors(&self, phase: Phase, gathered: Gathered, left_out: &mut LeftOut) -> Result<PhaseSignals> {
        let Gathered { sites, token_ids, log_probs } = gathered;
        let keys = sites.values().flat_map(|(_, rows)| rows.keys()).chain(log_probs.keys());
        let (mut steps, mut positions) = (BTreeSet::new(), BTreeSet::new());
        for (step, position) in keys {
            steps.insert(*step);
            positions.insert(*position);
        }
        let first = steps.first().copied().unwrap_or(0);
        let expected: Vec<i64> = (first..).take(steps.len()).collect();
        if !steps.iter().eq(expected.iter()) {
            return Err(self.flaw(
                phase.name(),
                "steps are left out",
                "map every step between the first and the last",
            ));
        }
        let grid: Vec<(i64, i64)> =
            steps.iter().flat_map(|step| positions.iter().map(move |position| (*step, *position))).collect();
        let mut tensors = BTreeMap::new();
        for (site, (dtype, rows)) in sites {
            let width = rows.values().next().map_or(0, Vec::len);
            let mut data = Vec::with_capacity(grid.len() * width * dtype.size());
            for key in &grid {
                let Some(row) = rows.get(key).filter(|row| row.len() == width) else {
                    let problem = format!("no row of {width} numbers at step {}, position {}", key.0, key.1);
                    return Err(self.flaw(&site.to_string(), problem, "map each row, or leave the site out"));
                };
                for x in row {
                    self.encode(&site, dtype, *x, &mut data)?;
                }
            }
            tensors.insert(site, SignalTensor { dtype, shape: [steps.len(), positions.len(), width], data });
        }
        let logprobs = if log_probs.is_empty() {
            None
        } else {
            Some(self.candidates(&grid, [steps.len(), positions.len()], &token_ids, &log_probs, left_out)?)
        };
        let position = |at: &i64| i32::try_from(*at).unwrap_or(i32::MIN);
        Ok(PhaseSignals {
            first_step: u64::try_from(first).unwrap_or(0),
            steps: steps.len(),
            positions: positions.iter().map(position).collect(),
            tensors,
            logprobs,
        })
    }

    /// A number in its format. *Errors:* one that the format does not have.
    fn encode(&self, site: &Site, dtype: Dtype, x: f64, to: &mut Vec<u8>) -> Result<()> {
        #[expect(clippy::cast_possible_truncation, reason = "the nearest, and compared right below")]
        let narrow = x as f32;
        // Decimals of binary32 are written shorter than binary64's; of 16 bits nothing else is a number.
        let fits =
            dtype == Dtype::F32 || x.is_nan() || f64::from(dtype.round(narrow)).to_bits() == x.to_bits();
        if !fits {
            let problem = format!("{x} is no {dtype}");
            return Err(self.flaw(
                &site.to_string(),
                problem,
                "say the format that was computed in: dtype = \"f32\"",
            ));
        }
        dtype.encode(narrow, to);
        Ok(())
    }

    /// As many candidates for each row as all rows have.
    fn candidates(
        &self,
        grid: &[(i64, i64)],
        [steps, positions]: [usize; 2],
        token_ids: &Rows,
        log_probs: &Rows,
        left_out: &mut LeftOut,
    ) -> Result<Logprobs> {
        let mut rows = Vec::with_capacity(grid.len());
        let mut dropped = 0;
        for key in grid {
            let (Some(ids), Some(values)) = (token_ids.get(key), log_probs.get(key)) else {
                let problem = format!("no candidates at step {}, position {}", key.0, key.1);
                return Err(self.flaw(
                    "logprobs",
                    problem,
                    "map them for every step and position, or leave them out",
                ));
            };
            if ids.len() != values.len() {
                let problem = format!("{} ids beside {} log-probabilities", ids.len(), values.len());
                return Err(self.flaw("logprobs", problem, "point both paths at the same candidates"));
            }
            let mut row: Vec<(u32, f32)> = Vec::with_capacity(ids.len());
            for (id, value) in ids.iter().zip(values) {
                if !value.is_finite() {
                    dropped += 1;
                    continue;
                }
                let Some(id) = whole(*id) else {
                    return Err(self.flaw(
                        "logprobs",
                        format!("{id} is no token id"),
                        "point 'token_ids' at ids",
                    ));
                };
                if row.iter().any(|(known, _)| *known == id) {
                    let problem = format!("token {id} is listed twice at step {}, position {}", key.0, key.1);
                    return Err(self.flaw("logprobs", problem, "point both paths at distinct candidates"));
                }
                #[expect(clippy::cast_possible_truncation, reason = "a log-probability is of binary32")]
                row.push((id, *value as f32));
            }
            rows.push(row);
        }
        let k = rows.iter().map(Vec::len).min().unwrap_or(0);
        let cut: usize = rows.iter().map(|row| row.len() - k).sum();
        left_out.not_finite += dropped;
        left_out.beyond += cut;
        let all = || rows.iter().flat_map(|row| &row[..k]);
        Ok(Logprobs {
            steps,
            positions,
            k,
            vocab_size: None,
            token_ids: all().map(|(id, _)| *id).collect(),
            log_probs: all().map(|(_, value)| *value).collect(),
        })
    }
}

/// What the axes of some numbers are.
struct Layout<'l> {
    dims: &'l [Dim],
    positions: Option<&'l [i32]>,
    path: &'l str,
}

/// A number that is whole and not negative.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be whole and in range"
)]
fn whole(x: f64) -> Option<u32> {
    (x >= 0.0 && x <= f64::from(u32::MAX) && x.fract() == 0.0).then_some(x as u32)
}

#[expect(clippy::cast_precision_loss, reason = "the number of a run is small")]
const fn as_f64(number: i64) -> f64 {
    number as f64
}
