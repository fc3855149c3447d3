//! A side that is given: a record, or a trace with its values beside it. Rows of both are read site by site.

use std::borrow::Cow;
use std::cell::RefCell;
use std::path::Path;

use mantissa_evidence::trace::{StageTrace, TensorReader, Trace};
use mantissa_evidence::{
    Configuration, ConfigurationExtras, Environment, FixedParams, Outcome, Record, Reproducibility,
};
use mantissa_numerics::setup::SomeAxes;
use mantissa_numerics::{Phase, Site};

use super::fault::DriftFault;
use super::pairs::Columns;
use super::request::Side;
use super::sheet::{Origin, Sheet};
use crate::column::Column;
use crate::error::LabError;

/// What a configuration of a trace is called.
const OF_TRACE: &str = "a trace";

/// Where rows come from.
#[derive(Clone, Copy)]
enum Source<'r> {
    Record(&'r Record),
    Trace(&'r Trace, &'r Path),
}

/// A side that is given.
#[derive(Clone, Copy)]
pub(crate) struct Given<'r> {
    source: Source<'r>,
    config: &'r str,
    pub claimed: &'r SomeAxes,
}

/// One run of a side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GivenRun {
    /// What its prompt is called.
    pub name: String,
    /// The whole sequence: prompt, then what was fed in decode.
    pub ids: Vec<u32>,
    /// Tokens of its prompt.
    pub prompt: usize,
    /// Its place in the record, or in the header of the trace.
    place: usize,
}

/// The rows of a run, read when they are asked for.
pub(crate) struct GivenRows<'g> {
    given: Given<'g>,
    run: &'g GivenRun,
    reader: RefCell<Option<TensorReader>>,
}

impl<'r> Given<'r> {
    /// What is given of a side, under the configuration `config`; `None` where it is computed.
    pub(crate) fn of(side: &Side<'r>, config: &'r str) -> Option<Self> {
        match *side {
            Side::Recorded { record, claimed, .. } => {
                Some(Self { source: Source::Record(record), config, claimed })
            }
            Side::Traced { trace, path, claimed } => {
                Some(Self { source: Source::Trace(trace, path), config: OF_TRACE, claimed })
            }
            Side::Computed(_) => None,
        }
    }

    /// The file.
    pub(crate) fn origin(&self) -> &'r Path {
        match self.source {
            Source::Record(record) => record.origin(),
            Source::Trace(_, path) => path,
        }
    }

    /// What it states of its setup; of a trace, its header's.
    pub(crate) fn configuration(&self) -> Option<Cow<'r, Configuration>> {
        match self.source {
            Source::Record(record) => {
                let mut all = record.shell().configurations.iter();
                all.find(|one| one.config_id == self.config).map(Cow::Borrowed)
            }
            Source::Trace(trace, _) => of_header(trace).map(Cow::Owned),
        }
    }

    /// What the experiment tests, where it is one.
    pub(crate) fn tested(&self) -> &'r str {
        match self.source {
            Source::Record(record) => &record.shell().metadata.variable_tested,
            Source::Trace(..) => "",
        }
    }

    /// The first repetition of each prompt.
    ///
    /// *Errors:* a run without ids of its prompt.
    pub(crate) fn runs(&self) -> Result<Vec<GivenRun>, LabError> {
        let mut runs: Vec<GivenRun> = Vec::new();
        let mut add = |run: GivenRun| {
            if run.prompt == 0 {
                let file = self.origin().display().to_string();
                return Err(DriftFault::WithoutIds { file, run: run.place });
            }
            if !runs.iter().any(|known| known.ids[..known.prompt] == run.ids[..run.prompt]) {
                runs.push(run);
            }
            Ok(())
        };
        match self.source {
            Source::Record(record) => {
                for (place, run) in record.shell().runs.iter().enumerate() {
                    if run.config_id == self.config {
                        let ids = [&run.prompt_token_ids[..], &run.output_token_ids].concat();
                        let (name, prompt) = (run.reference_id.to_string(), run.prompt_token_ids.len());
                        add(GivenRun { name, ids, prompt, place })?;
                    }
                }
            }
            Source::Trace(trace, _) => {
                let prompts = trace.header.iter().flat_map(|header| &header.prompts);
                for (place, prompt) in prompts.enumerate() {
                    let mut ids = prompt.token_ids.clone();
                    let events = trace.events.iter().filter(|event| event.prompt_id == prompt.prompt_id);
                    // Steps come in their order, one token each.
                    for event in events.filter(|event| event.phase == Phase::Decode) {
                        if event.pos_id == ids.len() as u64 {
                            ids.extend(event.token(event.pos_id));
                        }
                    }
                    let (name, prompt) = (prompt.prompt_id.clone(), prompt.token_ids.len());
                    add(GivenRun { name, ids, prompt, place })?;
                }
            }
        }
        Ok(runs)
    }

    /// The rows of a run.
    pub(crate) fn rows<'g>(&'g self, run: &'g GivenRun) -> GivenRows<'g> {
        let reader = match self.source {
            Source::Record(_) => None,
            Source::Trace(_, path) => Some(TensorReader::beside(path)),
        };
        GivenRows { given: *self, run, reader: RefCell::new(reader) }
    }

    /// All rows of a run at once.
    pub(crate) fn sheet(&self, run: &GivenRun) -> Result<Sheet, LabError> {
        let rows = self.rows(run);
        let mut sheet = Sheet::new(run.ids.clone(), run.prompt);
        for site in rows.sites() {
            if let Some(column) = rows.column(site)? {
                sheet.columns.insert(site, column.into_owned());
            }
        }
        Ok(sheet)
    }
}

impl Columns for GivenRows<'_> {
    fn sites(&self) -> Vec<Site> {
        let mut sites: Vec<Site> = match self.given.source {
            Source::Record(record) => {
                let layouts =
                    [Phase::Prefill, Phase::Decode].map(|phase| record.layout(self.run.place, phase));
                layouts.into_iter().flatten().flat_map(|layout| layout.tensors.keys().copied()).collect()
            }
            Source::Trace(trace, _) => {
                let of_run = trace.events.iter().filter(|event| event.prompt_id == self.run.name);
                of_run.filter(|event| event.tensor.is_some()).filter_map(StageTrace::site).collect()
            }
        };
        sites.sort_unstable();
        sites.dedup();
        sites
    }

    fn column(&self, site: Site) -> Result<Option<Cow<'_, Column>>, LabError> {
        let column = match self.given.source {
            Source::Record(record) => {
                let GivenRun { place, prompt, ids, .. } = self.run;
                Column::of_record(record, *place, [*prompt, ids.len()], site)?
            }
            Source::Trace(trace, _) => {
                let mut reader = self.reader.borrow_mut();
                match reader.as_mut() {
                    Some(reader) => of_trace(trace, reader, self.run, site)?,
                    None => None,
                }
            }
        };
        Ok(column.map(Cow::Owned))
    }

    fn origin(&self, position: usize) -> Origin {
        Origin::of(position, self.run.prompt)
    }
}

/// The rows of a site beside a trace.
fn of_trace(
    trace: &Trace,
    reader: &mut TensorReader,
    run: &GivenRun,
    site: Site,
) -> Result<Option<Column>, LabError> {
    let positions = run.ids.len();
    let mut found: Option<Column> = None;
    let of_run =
        trace.events.iter().filter(|event| event.prompt_id == run.name && event.site() == Some(site));
    for event in of_run {
        let (Some(dtype), Some([_, width])) = (event.dtype, event.shape) else { continue };
        let (Some(values), Ok(width)) = (reader.values(event)?, usize::try_from(width)) else { continue };
        let bytes = values.chunks_exact((width * dtype.size()).max(1));
        for (position, bytes) in event.positions.iter().zip(bytes) {
            let Some(position) = usize::try_from(*position).ok().filter(|at| *at < positions) else {
                continue;
            };
            let new = || Column::new(dtype, width, positions);
            found.get_or_insert_with(new).put_stored(position, dtype, bytes);
        }
    }
    Ok(found)
}

/// The header of a trace as a configuration of a record.
fn of_header(trace: &Trace) -> Option<Configuration> {
    let setup = trace.header.as_ref()?.setup.clone()?;
    let fixed_params = FixedParams {
        compile: setup.compile,
        attention_impl: setup.attention.clone(),
        quantization: setup.quantization.clone(),
        tp_size: setup.tp_size,
        ep_size: setup.ep_size,
        concurrent_streams: setup.concurrent_streams,
    };
    let environment = Environment {
        cpu: String::new(),
        cpu_features: Vec::new(),
        cores: 0,
        os: String::new(),
        memory_bytes: 0,
        rustc: String::new(),
    };
    let reproducibility =
        Reproducibility { repetitions: 1, outcome: Outcome::NotChecked, digests: Vec::new() };
    Some(Configuration {
        config_id: OF_TRACE.to_owned(),
        hardware: setup.hardware.clone(),
        provider: None,
        variable_value: serde_json::Value::Null,
        cuda_version: setup.cuda_version.clone(),
        torch_version: None,
        transformers_version: None,
        flash_attn_version: None,
        python_version: None,
        fixed_params,
        mantissa: Some(ConfigurationExtras {
            setup,
            environment,
            recipes: Vec::new(),
            catalogs: Vec::new(),
            observed: None,
            answers: None,
            reproducibility,
            not_finite: Vec::new(),
            runtime: None,
        }),
    })
}
