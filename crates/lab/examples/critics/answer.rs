//! What verification says of a record, and whether that is right.

use std::path::Path;

use mantissa_engine::{Catalogs, Engine};
use mantissa_evidence::{PhaseSignals, Run, SignalTensor};
use mantissa_lab::replay::{Replay, Wanted as Produced, produce};
use mantissa_lab::verify::{Method, Model as Given, Request, Varied, verify};
use mantissa_numerics::Setup;
use mantissa_numerics::setup::{Hardware, Padding};
use mantissa_verdict::Audit;
use mantissa_verdict::audit::{ClaimAnswer, ClaimVerdict};

use crate::alter::{self, Alteration, Altered};
use crate::draw::{Draw, Wanted};
use crate::make::{Made, Model, Models, NAME, Refusal, machine, record, stored};

/// How a case ended.
#[derive(Debug, Clone)]
pub(crate) enum Judged {
    Right { group: String, how: &'static str },
    Failed { group: String, what: String },
}

/// An honest record: consistent with its claim, whatever else it is set beside.
pub(crate) fn honest(draw: &mut Draw, models: &Models, place: &Path) -> Made<Judged> {
    let wanted = Wanted::draw(draw, false);
    let model = models.of(&wanted)?;
    let made = record(&wanted, &model, &place.join("record"))?;
    let path = stored(&made, wanted.format, place)?;
    let group = group(&wanted);
    let replay = if wanted.by_prefill { Replay::Prefill } else { Replay::Decode };
    Ok(match audit(&model, &path, &candidates(&wanted), replay) {
        Err(error) => Judged::Failed { group, what: format!("{wanted:?}: {error}") },
        Ok(audit) => honest_claims(group, &audit.claims, &format!("{:?}", wanted.cells)),
    })
}

/// Every claim of honest evidence.
fn honest_claims(group: String, claims: &[ClaimVerdict], what: &str) -> Judged {
    let wrong = claims.iter().find(|claim| claim.answer != ClaimAnswer::Consistent);
    match wrong {
        Some(claim) => {
            Judged::Failed { group, what: format!("{what}, {}: {}", claim.config_id, claim.sentence) }
        }
        None if claims.is_empty() => Judged::Failed { group, what: format!("{what}: no claim") },
        None => Judged::Right { group, how: "consistent" },
    }
}

/// What a GPU left: one case per claim.
pub(crate) fn capture(models: &Models, path: &Path) -> Made<Vec<Judged>> {
    let model = models.captured()?;
    let vary = vec![varied("batch_size=1,2,4,5,8,9,16,17")?];
    let audit = audit(&model, path, &vary, Replay::Decode).map_err(Refusal)?;
    let judged = audit
        .claims
        .iter()
        .map(|claim| honest_claims("captured on an H200".to_owned(), std::slice::from_ref(claim), "capture"));
    Ok(judged.collect())
}

/// A record with one alteration: contradicted, or the contradiction named; else nothing was altered.
pub(crate) fn altered(draw: &mut Draw, models: &Models, place: &Path) -> Made<Judged> {
    let alteration = Alteration::draw(draw);
    let mut wanted = Wanted::draw(draw, alteration == Alteration::Swap);
    wanted.by_prefill = false;
    let model = models.of(&wanted)?;
    let Altered { experiment, what, concerns, setups, in_one_place } =
        alter::altered(alteration, draw, &wanted, &model, place)?;
    let path = stored(&experiment, wanted.format, place)?;
    let group = alteration.to_string();
    let fail = |said: String| Judged::Failed { group: group.clone(), what: format!("{what}: {said}") };
    let audit = match audit(&model, &path, &candidates(&wanted), Replay::Decode) {
        Ok(audit) => audit,
        // A file that its reader refuses for what it says gets no verdict.
        Err(error) => return Ok(fail(error)),
    };
    let mut how = None;
    for (index, claim) in audit.claims.iter().enumerate() {
        let setup = setups[index];
        let runs = experiment.runs.iter().filter(|run| run.config_id == claim.config_id);
        let whole = claim.answer == ClaimAnswer::ContradictsItself;
        if !concerns.contains(&index) {
            if !whole && claim.answer != ClaimAnswer::Consistent {
                return Ok(fail(format!("{}, which was not altered: {}", claim.config_id, claim.sentence)));
            }
            continue;
        }
        let this = match claim.answer {
            ClaimAnswer::ContradictsItself => "contradicts itself",
            _ if in_one_place => return Ok(fail(format!("a statement in one place: {}", claim.sentence))),
            ClaimAnswer::Contradicted => "contradicted",
            ClaimAnswer::FitsNone => "fits none",
            // A claim without recipes is not one that can be verified; another is drawn.
            ClaimAnswer::NotEnoughEvidence if alteration == Alteration::Claim && uncovered(claim) => {
                return Err(Refusal("the altered claim has no recipes".to_owned()));
            }
            ClaimAnswer::NotEnoughEvidence => return Ok(fail(claim.sentence.clone())),
            ClaimAnswer::Consistent => {
                for run in runs {
                    if !leaves(&model, setup, run)? {
                        return Ok(fail(format!("{setup} leaves other bits, and: {}", claim.sentence)));
                    }
                }
                "changes no recorded bit"
            }
        };
        // Of several claims, what was found counts.
        how = Some(if how.is_none() || how == Some("changes no recorded bit") {
            this
        } else {
            how.unwrap_or(this)
        });
    }
    Ok(how.map_or_else(|| fail("no claim".to_owned()), |how| Judged::Right { group: group.clone(), how }))
}

fn uncovered(claim: &ClaimVerdict) -> bool {
    let why = claim.enough.as_deref().unwrap_or_default();
    why.contains("not covered") || why.contains("no recipes") || why.contains("no verified recipe")
}

fn group(wanted: &Wanted) -> String {
    let cell = wanted.cells[0];
    let whose = if cell.hardware == Hardware::Cpu { "own engine" } else { "predicted H200" };
    format!("{whose}, {}", cell.dtype)
}

fn candidates(wanted: &Wanted) -> Vec<Varied> {
    let batches: Vec<String> = wanted.vary_batch.iter().map(ToString::to_string).collect();
    let attentions: Vec<&str> = wanted.vary_attention.iter().map(|attention| attention.name()).collect();
    let lists = [format!("batch_size={}", batches.join(",")), format!("attention={}", attentions.join(","))];
    lists.iter().filter_map(|list| varied(list).ok()).collect()
}

fn varied(list: &str) -> Made<Varied> {
    list.parse().map_err(Refusal)
}

/// What `mantissa verify` would say: nothing but the file, the model and the candidates goes in.
fn audit(model: &Model, path: &Path, vary: &[Varied], replay: Replay) -> Result<Audit, String> {
    let opened = mantissa_published::open(path).map_err(|error| error.to_string())?;
    let (checkpoint, tokenizer) = (&model.checkpoint, Some(&model.tokenizer));
    let request = Request {
        evidence: Some(&opened),
        model: Some(Given { name: NAME, checkpoint, tokenizer }),
        vary,
        method: Method::Replay { replay, full: false, state: None },
        catalogs: Catalogs::built_in().clone(),
        ..Request::new(machine())
    };
    verify(&request, &|_| {}).map_err(|error| error.to_string())
}

/// Whether `setup`, computed as a recorder does, leaves every bit of `run` for its tokens, and would choose them.
fn leaves(model: &Model, setup: Setup, run: &Run) -> Made<bool> {
    let context = run.prompt_token_ids.len() + run.output_token_ids.len();
    let alone = Setup { batch_size: 1, padding: Padding::None, ..setup };
    let engine = Engine::load(&model.checkpoint, machine().engine(&alone, context, Catalogs::built_in()))?;
    let Some(first) = run.prefill.as_ref().or(run.decode.as_ref()) else { return Ok(false) };
    // The rows beside it are its neighbours as far as they are known: rows do not mix.
    let mut prompts = vec![run.prompt_token_ids.clone()];
    prompts.extend(run.neighbours.iter().map(|beside| beside.prompt_token_ids.clone()));
    prompts.resize(setup.batch_size, run.prompt_token_ids.clone());
    let sites: Vec<_> = first.tensors.keys().copied().collect();
    let again = produce(
        &engine,
        Produced {
            prompts: &prompts,
            padding: Padding::None,
            forced: &run.output_token_ids,
            sites: &sites,
            positions: &first.positions,
            top_k: first.logprobs.as_ref().map_or(1, |logprobs| logprobs.k),
        },
    )?;
    let chosen = |signals: &PhaseSignals| -> Vec<u32> {
        let Some(logprobs) = &signals.logprobs else { return Vec::new() };
        let last = logprobs.positions.saturating_sub(1);
        let step =
            |step: usize| logprobs.token_ids.get((step * logprobs.positions + last) * logprobs.k).copied();
        (0..logprobs.steps).filter_map(step).collect()
    };
    let tokens: Vec<u32> = again.phases().flat_map(|(_, signals)| chosen(signals)).collect();
    let greedy = tokens.iter().zip(&run.output_token_ids).all(|(a, b)| a == b);
    let same = run.phases().all(|(phase, stored)| again.phase(phase).is_some_and(|made| equal(stored, made)));
    Ok(greedy && same)
}

/// Whether two phases hold the same bits, widened to binary32, and the same candidates.
fn equal(a: &PhaseSignals, b: &PhaseSignals) -> bool {
    let values = |tensor: &SignalTensor| -> Vec<u32> {
        let count = tensor.data.len() / tensor.dtype.size();
        (0..count).map(|i| tensor.dtype.decode(&tensor.data, i).to_bits()).collect()
    };
    let tensors = a.tensors.iter().all(|(site, tensor)| {
        b.tensors
            .get(site)
            .is_some_and(|other| tensor.shape == other.shape && values(tensor) == values(other))
    });
    tensors && a.logprobs == b.logprobs
}
