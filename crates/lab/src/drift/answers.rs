//! The answer of each pair.

use std::collections::{BTreeMap, BTreeSet};

use mantissa_engine::{Engine, EngineError};
use mantissa_model::Checkpoint;
use mantissa_model::graph::Graph;
use mantissa_numerics::setup::QuantizedWeights;
use mantissa_numerics::{Dtype, LayerIdx, Point, Setup, Site};
use mantissa_verdict::drift::{Drift, DriftAnswer, DriftCounts, DriftPair, DriftSide, Spread, false_alarm};

use super::align::{Aligned, aligned};
use super::bound::{Bounds, Weights};
use super::causes::causes;
use super::fault::DriftFault;
use super::fed::{Schedule, kept};
use super::given::Given;
use super::hypotheses::hypotheses;
use super::known::{Localized, localized};
use super::local::{LocalRows, experts, judge, spread};
use super::pairs::compared;
use super::prompt::Prompt;
use super::request::{Computed, PrefillPasses, Request, Side};
use super::sheet::Sheet;
use super::side::{computed, configuration, dtype, engine, name, stated};
use super::trial::Trial;
use crate::error::LabError;
use crate::replay::Claim;
use crate::uncovered::{Unreadable, uncovered};
use crate::verify::weights::same_weights;
use crate::verify::{Event, Model};

/// What is known of a side's arithmetic.
struct Judged<'c> {
    engine: Engine<'c>,
    /// The setup that it is recomputed by.
    setup: Setup,
    /// Each recorded row beside the same row recomputed.
    rows: BTreeMap<Site, LocalRows>,
    /// Whether every one that can be recomputed is equal to the bit; `None` where none can.
    reproduced: Option<bool>,
    /// What can be recomputed, by prompt.
    localized: Vec<BTreeMap<Site, Localized>>,
    spreads: BTreeMap<Site, Spread>,
}

/// Compares the two sides of `request`; `progress` is told how much is done.
///
/// *Errors:* sides without common tokens, a configuration that is not there, rows of another model.
///
/// Example: [`Request`].
pub fn drift(request: &Request<'_>, progress: &dyn Fn(&str, u64)) -> Result<Drift, LabError> {
    for side in &request.sides {
        if let Side::Computed(computed) = side {
            uncovered(&computed.setup)
                .map_err(|Unreadable { what, remedy }| LabError::Uncovered { what, remedy })?;
        }
    }
    let configs = [side_config(&request.sides[0])?, side_config(&request.sides[1])?];
    let Some(checkpoint) = request.model else { return without_model(request, &configs, progress) };
    weights_fit(request, checkpoint, &configs, progress)?;
    let (prompts, unmatched) = prompts(request, checkpoint, &configs, progress)?;
    let graph = checkpoint.config().graph();
    for prompt in &prompts {
        for (sheet, side) in prompt.sheets.iter().zip(&request.sides) {
            fits(&graph, sheet, &name(side))?;
        }
    }
    let mut left_out = DriftCounts::default();
    let mut pairs = Vec::new();
    let mut of_pairs = Vec::new();
    let experts = experts(&checkpoint.config().graph());
    for (number, prompt) in prompts.iter().enumerate() {
        let [a, b] = &prompt.sheets;
        let found = compared(&prompt.name, [a, b], prompt.tokens, experts, &mut left_out)?;
        of_pairs.extend(std::iter::repeat_n(number, found.len()));
        pairs.extend(found);
    }
    progress("compared", pairs.len() as u64);
    let mut judged: Vec<Judged<'_>> = Vec::new();
    for (place, (side, config)) in request.sides.iter().zip(&configs).enumerate() {
        let setup = match side {
            Side::Computed(computed) => Some(computed.setup),
            side => Given::of(side, config).and_then(|given| stated(&given, checkpoint)),
        };
        judged.push(judged_side(request, checkpoint, (&prompts, place), setup, progress)?);
    }
    let mut needs: BTreeMap<Site, String> = BTreeMap::new();
    let mut weights = [0, 1].map(|side: usize| Weights::new(&judged[side].engine));
    for (number, (pair, prompt)) in pairs.iter_mut().zip(&of_pairs).enumerate() {
        answer(pair, *prompt, &prompts[*prompt], &judged, &mut needs);
        bounded(pair, (*prompt, &prompts[*prompt], checkpoint), &judged, &mut weights)?;
        progress("answers", number as u64 + 1);
    }
    drop(weights);
    let sides = [0, 1].map(|side| DriftSide {
        name: name(&request.sides[side]).into_owned(),
        setup: judged[side].setup.to_string(),
        digest: digest(&request.sides[side], &configs[side]),
        reproduced: judged[side].reproduced,
    });
    let mut found = Drift::of(sides, pairs, left_out);
    for site in &mut found.sites {
        let at = site.site();
        site.needs = needs.get(&at).cloned();
        let worst = worse(&judged, at);
        let rows = judged[worst].rows.get(&at);
        if let (Some(rows), Some(spread)) = (rows, judged[worst].spreads.get(&at)) {
            site.deviation = Some(rows.values().map(|row| row.squared).sum::<f64>().sqrt());
            site.spread = Some(spread.site);
            site.smallest = Some(spread.smallest);
        }
    }
    if judged.iter().all(|side| side.reproduced == Some(true)) {
        found.causes = causes(&prompts, [&judged[0].engine, &judged[1].engine], progress)?;
    }
    let unexplained: Vec<Site> = found
        .sites
        .iter()
        .filter(|site| site.answer == DriftAnswer::Unexplained)
        .map(mantissa_verdict::drift::DriftSite::site)
        .collect();
    for side in 0..2 {
        let own: Vec<Site> =
            unexplained.iter().copied().filter(|site| worse(&judged, *site) == side).collect();
        if own.is_empty() {
            continue;
        }
        let Judged { engine, spreads, rows, .. } = &mut judged[side];
        let trial = Trial { checkpoint, prompts: &prompts, side, sites: &own, spreads, rows };
        let (hypotheses, tried) = hypotheses(engine, &trial, progress)?;
        found.hypotheses.extend(hypotheses);
        found.tried.extend(tried);
    }
    found.tried.sort();
    found.tried.dedup();
    found.notes.extend(unmatched_note(unmatched));
    if judged.iter().any(|side| !side.spreads.is_empty()) {
        found.thresholds.push(false_alarm());
    }
    Ok(found)
}

/// What is said of runs whose tokens the other side has not.
fn unmatched_note(unmatched: usize) -> Option<String> {
    (unmatched > 0)
        .then(|| format!("prompts that one side alone has, and that are not compared: {unmatched}"))
}

/// Refuses a model of other weights than a recorded side states.
fn weights_fit(
    request: &Request<'_>,
    checkpoint: &Checkpoint,
    configs: &[String; 2],
    progress: &dyn Fn(&str, u64),
) -> Result<(), LabError> {
    let name = checkpoint.path().display().to_string();
    let model = Model { name: &name, checkpoint, tokenizer: None };
    for (side, config) in request.sides.iter().zip(configs) {
        let Some(given) = Given::of(side, config) else { continue };
        let stated = given.configuration();
        let claims: Vec<Claim> = stated.iter().map(|one| Claim::of(one, given.claimed, checkpoint)).collect();
        same_weights(given.origin(), model, &claims, &|event| {
            if let Event::Hashing { done, .. } = event {
                progress("digest of the weights", done);
            }
        })?;
    }
    Ok(())
}

/// Refuses rows that the model has no site for, or another width of.
fn fits(graph: &Graph, sheet: &Sheet, file: &str) -> Result<(), LabError> {
    for (site, column) in &sheet.columns {
        let layer = match site.layer {
            Some(LayerIdx(layer)) => usize::try_from(layer).ok().and_then(|layer| layer.checked_sub(1)),
            None => None,
        };
        let expected = graph.width(layer, site.point).unwrap_or(0);
        if column.width != expected {
            let (file, site, found) = (file.to_owned(), site.to_string(), column.width);
            return Err(DriftFault::OtherWidth { file, site, found, expected }.into());
        }
        if site.point == Point::RouterTopk {
            let experts = experts(graph).unwrap_or(0);
            #[expect(clippy::cast_precision_loss, reason = "a number of an expert")]
            let known = |expert: &f32| expert.fract() == 0.0 && *expert >= 0.0 && *expert < experts as f32;
            let fits = |position: usize| {
                column.row(position).is_some_and(|row| row[..row.len() / 2].iter().all(known))
            };
            if let Some(position) = column.positions().find(|position| !fits(*position)) {
                let (file, site) = (file.to_owned(), site.to_string());
                return Err(DriftFault::NoExpert { file, site, position, experts }.into());
            }
        }
    }
    Ok(())
}

fn digest(side: &Side<'_>, config: &str) -> Option<mantissa_evidence::Digest> {
    let Side::Recorded { record, .. } = side else { return None };
    let run = record.shell().runs.iter().position(|run| run.config_id == config)?;
    record.signals_digest(run).ok()
}

fn side_config(side: &Side<'_>) -> Result<String, LabError> {
    match side {
        Side::Recorded { record, config, .. } => configuration(record, *config),
        Side::Traced { .. } => Ok("a trace".to_owned()),
        Side::Computed(computed) => Ok(computed.setup.to_string()),
    }
}

/// Rows of records compared, and nothing recomputed.
fn without_model(
    request: &Request<'_>,
    configs: &[String; 2],
    progress: &dyn Fn(&str, u64),
) -> Result<Drift, LabError> {
    let [Some(a), Some(b)] = given(request, configs) else { return Err(DriftFault::NoModel.into()) };
    let mut left_out = DriftCounts::default();
    let mut pairs = Vec::new();
    let (all, unmatched) = aligned([&a, &b])?;
    for Aligned { prompt, runs, tokens } in all {
        let (left, right) = (a.rows(&runs[0]), b.rows(&runs[1]));
        pairs.extend(compared(&prompt, [&left, &right], tokens, None, &mut left_out)?);
        progress("compared", pairs.len() as u64);
    }
    let sides = [0, 1].map(|side| DriftSide {
        name: name(&request.sides[side]).into_owned(),
        setup: configs[side].clone(),
        digest: digest(&request.sides[side], &configs[side]),
        reproduced: None,
    });
    let mut found = Drift::of(sides, pairs, left_out);
    found
        .notes
        .push("no model was given (--model), so no row was recomputed and none is explained".to_owned());
    found.notes.extend(unmatched_note(unmatched));
    Ok(found)
}

fn given<'r>(request: &Request<'r>, configs: &'r [String; 2]) -> [Option<Given<'r>>; 2] {
    [0, 1].map(|side| Given::of(&request.sides[side], &configs[side]))
}

/// The rows of both sides, prompt by prompt.
fn prompts(
    request: &Request<'_>,
    checkpoint: &Checkpoint,
    configs: &[String; 2],
    progress: &dyn Fn(&str, u64),
) -> Result<(Vec<Prompt>, usize), LabError> {
    let given = given(request, configs);
    if let [Some(a), Some(b)] = &given {
        let (all, unmatched) = aligned([a, b])?;
        let of = |Aligned { prompt, runs, tokens }: Aligned| {
            let sheets = [a.sheet(&runs[0])?, b.sheet(&runs[1])?];
            let schedules =
                [0, 1].map(|side| schedule(request, checkpoint, configs, (side, sheets[side].prompt)));
            Ok(Prompt { name: prompt, tokens, sheets, schedules })
        };
        return Ok((all.into_iter().map(of).collect::<Result<_, LabError>>()?, unmatched));
    }
    // Sequences, and what to keep of a computed side: what the other recorded, or every site of all tokens.
    let of_given = usize::from(given[0].is_none());
    let sequences: Vec<(String, Option<Sheet>, Vec<u32>)> = match (&given[of_given], &request.sides) {
        (Some(given), _) => {
            let mut all = Vec::new();
            for run in given.runs()? {
                let sheet = given.sheet(&run)?;
                all.push((run.name, Some(sheet), run.ids));
            }
            all
        }
        (None, [Side::Computed(a), Side::Computed(b)]) => {
            let lists = if a.prompts.is_empty() { b.prompts } else { a.prompts };
            lists.iter().enumerate().map(|(number, ids)| (number.to_string(), None, ids.clone())).collect()
        }
        (None, _) => Vec::new(),
    };
    let tokens = sequences.iter().map(|(_, _, ids)| ids.len()).max().unwrap_or(0);
    let mut engines = Vec::new();
    for side in &request.sides {
        engines.push(match side {
            Side::Computed(Computed { setup, .. }) => Some(engine(request, checkpoint, setup, tokens)?),
            Side::Recorded { .. } | Side::Traced { .. } => None,
        });
    }
    let mut all = Vec::new();
    for (name, other, ids) in sequences {
        let mut sheets = Vec::new();
        let mut schedules = Vec::new();
        for (side, engine) in request.sides.iter().zip(&engines) {
            let (sheet, schedule) = if let (Side::Computed(own), Some(engine)) = (side, engine) {
                if own.decoded >= ids.len() {
                    let (tokens, decoded) = (ids.len(), own.decoded);
                    return Err(DriftFault::TooShort { prompt: name, tokens, decoded }.into());
                }
                let prompt = match &other {
                    Some(other) if own.decoded == 0 => other.prompt,
                    _ => ids.len().saturating_sub(own.decoded).max(1),
                };
                if let PrefillPasses::Chunks(tokens) | PrefillPasses::Cached(tokens) = own.prefill
                    && (tokens == 0 || (own.prefill == PrefillPasses::Cached(tokens) && tokens >= prompt))
                {
                    return Err(DriftFault::NoPart { prompt: name, tokens, prefill: prompt }.into());
                }
                let Computed { setup: Setup { batch_size, padding, .. }, prefill, .. } = *own;
                let schedule = Schedule { prompt, batch_size, padding, prefill };
                let wanted = |site: Site, position: usize| {
                    other.as_ref().is_none_or(|other| other.row(site, position).is_some())
                };
                let keep = other.as_ref().map_or(ids.len(), kept);
                (computed(engine, schedule, &ids, keep, &wanted)?, schedule)
            } else {
                let sheet = other.clone().unwrap_or_else(|| Sheet::new(ids.clone(), ids.len()));
                let schedule = schedule(request, checkpoint, configs, (of_given, sheet.prompt));
                (sheet, schedule)
            };
            sheets.push(sheet);
            schedules.push(schedule);
            progress("computed", ids.len() as u64);
        }
        let (Ok(sheets), Ok(schedules)) = (sheets.try_into(), schedules.try_into()) else { continue };
        all.push(Prompt { name, tokens: ids.len(), sheets, schedules });
    }
    Ok((all, 0))
}

/// How a recorded side was fed, as far as it states that.
fn schedule(
    request: &Request<'_>,
    checkpoint: &Checkpoint,
    configs: &[String; 2],
    (side, prompt): (usize, usize),
) -> Schedule {
    let setup = match &request.sides[side] {
        Side::Computed(computed) => Some(computed.setup),
        given => Given::of(given, &configs[side]).and_then(|given| stated(&given, checkpoint)),
    };
    let Setup { batch_size, padding, .. } = setup.unwrap_or_default();
    Schedule { prompt, batch_size, padding, prefill: PrefillPasses::Whole }
}

/// Recomputes every row of a side from its own inputs.
fn judged_side<'c>(
    request: &Request<'c>,
    checkpoint: &'c Checkpoint,
    (prompts, side): (&[Prompt], usize),
    setup: Option<Setup>,
    progress: &dyn Fn(&str, u64),
) -> Result<Judged<'c>, LabError> {
    let tokens = prompts.iter().map(|prompt| prompt.sheets[side].ids.len()).max().unwrap_or(0);
    let storage = prompts.first().map_or(Dtype::Bf16, |prompt| dtype(&prompt.sheets[side]));
    let quantization = match checkpoint.packed() {
        Some(_) => QuantizedWeights::Dequantize,
        None => QuantizedWeights::Keep,
    };
    let own = Setup { dtype: storage, quantization, ..Setup::default() };
    let localized: Vec<_> =
        prompts.iter().map(|prompt| localized(&checkpoint.config().graph(), &prompt.sheets[side])).collect();
    let mut tried = setup.into_iter().chain(std::iter::once(own)).peekable();
    while let Some(setup) = tried.next() {
        let mut engine = match engine(request, checkpoint, &setup, tokens) {
            // Nor are weights computed as they are stored where nobody does.
            Err(EngineError::Packed { .. } | EngineError::Uncovered { .. }) if tried.peek().is_some() => {
                continue;
            }
            engine => engine?,
        };
        let mut rows = BTreeMap::new();
        let done = each(&mut engine, prompts, side, false, &mut rows);
        match done {
            // A shape that no recipe covers: the engine's own stand in for it.
            Err(LabError::Engine(EngineError::Uncovered { .. })) if tried.peek().is_some() => continue,
            done => done?,
        }
        forget(&mut rows, &localized);
        let all = || rows.values().flat_map(|rows| rows.values());
        let reproduced = all().next().is_some().then(|| all().all(|row| row.equal));
        let mut spreads = BTreeMap::new();
        if reproduced == Some(false) {
            rows.clear();
            each(&mut engine, prompts, side, true, &mut rows)?;
            forget(&mut rows, &localized);
            spreads = rows.iter().map(|(site, rows)| (*site, spread(rows, |_| true))).collect();
        }
        progress("recomputed", rows.values().map(|rows| rows.len() as u64).sum());
        return Ok(Judged { engine, setup, rows, reproduced, localized, spreads });
    }
    unreachable!("the last setup is the engine's own")
}

fn each(
    engine: &mut Engine<'_>,
    prompts: &[Prompt],
    side: usize,
    spread: bool,
    rows: &mut BTreeMap<Site, LocalRows>,
) -> Result<(), LabError> {
    for (number, prompt) in prompts.iter().enumerate() {
        judge(engine, prompt.schedules[side], (number, &prompt.sheets[side]), spread, rows)?;
    }
    Ok(())
}

/// Drops rows that were not computed from recorded inputs alone.
fn forget(rows: &mut BTreeMap<Site, LocalRows>, localized: &[BTreeMap<Site, Localized>]) {
    for (site, rows) in rows.iter_mut() {
        rows.retain(|(prompt, position), _| {
            let known = localized[*prompt].get(site);
            known.is_some_and(|known| known.rows.get(*position).copied().unwrap_or(false))
        });
    }
    rows.retain(|_, rows| !rows.is_empty());
}

/// The side whose rows of a site lie further from what its inputs give.
fn worse(judged: &[Judged<'_>], site: Site) -> usize {
    let share = |side: &Judged<'_>| -> f64 {
        let (Some(rows), Some(spread)) = (side.rows.get(&site), side.spreads.get(&site)) else { return 0.0 };
        let deviation = rows.values().map(|row| row.squared).sum::<f64>().sqrt();
        if deviation == 0.0 { 0.0 } else { deviation / spread.site }
    };
    usize::from(share(&judged[1]) >= share(&judged[0]))
}

/// Fills in the answer of a pair that differs.
fn answer(
    pair: &mut DriftPair,
    number: usize,
    prompt: &Prompt,
    judged: &[Judged<'_>],
    needs: &mut BTreeMap<Site, String>,
) {
    let site = Site { layer: pair.place.layer, point: pair.place.point };
    let position = usize::try_from(pair.place.position).unwrap_or(usize::MAX);
    let known = judged[1].localized[number].get(&site);
    pair.arrived = known.is_some_and(|known| {
        known.inputs.iter().any(|input| {
            // Of earlier positions keys and values are read, and nothing else.
            let cached = matches!(input.point, Point::K | Point::V);
            let earlier = if known.earlier && cached { 0..position + 1 } else { position..position + 1 };
            earlier.into_iter().any(|position| {
                let [a, b] = prompt.sheets.each_ref().map(|sheet| sheet.row(*input, position));
                a.zip(b).is_some_and(|(a, b)| a.iter().zip(b).any(|(a, b)| a.to_bits() != b.to_bits()))
            })
        })
    });
    if pair.answer == DriftAnswer::Equal {
        return;
    }
    let (mut answer, mut worst) = (DriftAnswer::Explained, None);
    for side in judged {
        let row = side.rows.get(&site).and_then(|rows| rows.get(&(number, position)));
        let Some(row) = row else {
            answer = answer.max(DriftAnswer::NotLocalized);
            if let Some(lacking) = side.localized[number].get(&site) {
                needs.entry(site).or_insert_with(|| lacks(lacking));
            }
            continue;
        };
        if row.equal {
            continue;
        }
        let Some(of_site) = side.spreads.get(&site) else { continue };
        let deviation = row.squared.sqrt();
        let whole =
            side.rows.get(&site).map_or(0.0, |rows| rows.values().map(|row| row.squared).sum::<f64>());
        let inside = deviation.is_finite() && deviation <= of_site.rows && whole.sqrt() <= of_site.site;
        let found = if inside { DriftAnswer::WithinRounding } else { DriftAnswer::Unexplained };
        answer = answer.max(found);
        if worst.is_none_or(|worst| found >= worst) {
            worst = Some(found);
            pair.deviation = Some(deviation);
            pair.spread = Some(of_site.rows);
            let length = row.length.sqrt();
            pair.smallest = (length > 0.0).then(|| (of_site.rows + of_site.seen) / length);
        }
    }
    pair.answer = answer;
}

/// Fills in how much of the bound of any order of sums a row's deviation takes; above 1 it is unexplained.
fn bounded(
    pair: &mut DriftPair,
    (number, prompt, checkpoint): (usize, &Prompt, &Checkpoint),
    judged: &[Judged<'_>],
    weights: &mut [Weights; 2],
) -> Result<(), LabError> {
    if pair.deviation.is_none() {
        return Ok(());
    }
    let site = Site { layer: pair.place.layer, point: pair.place.point };
    let position = usize::try_from(pair.place.position).unwrap_or(usize::MAX);
    let deviates = |judged: &Judged<'_>| {
        let row = judged.rows.get(&site).and_then(|rows| rows.get(&(number, position)));
        row.is_some_and(|row| !row.equal)
    };
    for (side, judged) in judged.iter().enumerate().filter(|(_, judged)| deviates(judged)) {
        let (sheet, weights) = (&prompt.sheets[side], &mut weights[side]);
        let mut bounds = Bounds { engine: &judged.engine, checkpoint, sheet, weights };
        if let Some(share) = bounds.share(site, position)? {
            pair.bound = Some(pair.bound.map_or(share, |known: f64| known.max(share)));
        }
    }
    if pair.bound.is_some_and(|share| share > 1.0) {
        pair.answer = DriftAnswer::Unexplained;
    }
    Ok(())
}

/// What it takes to recompute a site, and the flags that record it.
fn lacks(lacking: &Localized) -> String {
    let joined = |parts: BTreeSet<String>| parts.into_iter().collect::<Vec<_>>().join(",");
    let sites: Vec<String> = lacking.lacks.iter().map(ToString::to_string).collect();
    let points = joined(lacking.lacks.iter().map(|site| site.point.name().to_owned()).collect());
    let layers = joined(lacking.lacks.iter().filter_map(|site| Some(site.layer?.0.to_string())).collect());
    let layers = if layers.is_empty() { layers } else { format!(" --layers {layers}") };
    let earlier = if lacking.earlier { " at every position" } else { "" };
    format!("record {}{earlier} (--sites {points}{layers})", sites.join(", "))
}
