//! What a setup leaves for given tokens, computed as a recorder would: every row of the batch. Used to plant known
//! deviations, and to check that replays which compute one row alone give the same result.

use mantissa_engine::{Engine, Hardware};
use mantissa_evidence::Run;
use mantissa_numerics::setup::Padding;
use mantissa_numerics::{Generation, Site};

use crate::capture::Capture;
use crate::error::LabError;
use crate::session::{Kept, Session};

/// What to compute, and what to keep of it.
///
/// Example: [`produce`].
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'w> {
    /// Prompts of all rows of the batch; row 0 is the reference.
    pub prompts: &'w [Vec<u32>],
    /// Padding of each row.
    pub padding: Padding,
    /// Tokens forced on row 0; the others go on greedily.
    pub forced: &'w [u32],
    /// Sites to keep, ascending.
    pub sites: &'w [Site],
    /// Positions relative to the end, ascending and negative.
    pub positions: &'w [i32],
    /// Candidates per position.
    pub top_k: usize,
}

/// Computes `wanted` on `engine`: a run with ids and signals and nothing else.
///
/// ```
/// use mantissa_engine::{Catalogs, Engine, Isa};
/// use mantissa_lab::Machine;
/// use mantissa_lab::replay::{Wanted, produce};
/// use mantissa_numerics::setup::Padding;
/// use mantissa_numerics::{Phase, Point, Setup, Site};
///
/// # use mantissa_model::synth::{SynthSpec, write};
/// # use mantissa_model::{Arch, Checkpoint};
/// # let folder = tempfile::tempdir()?;
/// # let model = folder.path().join("model");
/// # write(&SynthSpec::tiny(Arch::LLAMA, 7), &model, &|_| {})?;
/// # let checkpoint = Checkpoint::open(&model)?;
/// let machine = Machine { threads: 1, isa: Isa::detect() };
/// let setup = machine.engine(&Setup::default(), 64, Catalogs::built_in());
/// let wanted = Wanted {
///     prompts: &[vec![1, 2, 3, 4]],
///     padding: Padding::None,
///     forced: &[5, 6],
///     sites: &[Site::at(1, Point::K)],
///     positions: &[-1],
///     top_k: 2,
/// };
/// let run = produce(&Engine::load(&checkpoint, setup)?, wanted)?;
/// assert_eq!(run.output_token_ids, [5, 6]);
/// let decode = run.phase(Phase::Decode).expect("two steps");
/// assert_eq!(decode.tensors[&Site::at(1, Point::K)].shape[..2], [2, 1]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn produce(engine: &Engine<'_>, wanted: Wanted<'_>) -> Result<Run, LabError> {
    let Some(reference) = wanted.prompts.first() else { return Err(LabError::Nothing { what: "prompt" }) };
    let vocabulary = engine.config().vocab_size;
    let reach = wanted.positions.first().map_or(1, |p| p.unsigned_abs() as usize);
    let (length, steps) = (reference.len(), wanted.forced.len());
    let first = length.saturating_sub(reach);
    let mut capture = Capture::new(wanted.sites.to_vec(), first);
    let prompts: Vec<&[u32]> = wanted.prompts.iter().map(Vec::as_slice).collect();
    let (batch_size, padding, forced) = (prompts.len(), wanted.padding, Some(wanted.forced));
    let (settings, hardware) = (&Generation::default(), Hardware::Cpu);
    let session = Session { prompts: &prompts, batch_size, padding, steps, forced, settings, hardware };
    session.run(engine, Some(Kept { capture: &mut capture, reach, top_k: wanted.top_k }), &|_, _| {})?;
    let ends: Vec<usize> = (1..=steps).map(|step| length + step).collect();
    Ok(Run {
        config_id: String::new(),
        rep_id: 0,
        reference_id: 0,
        timestamp: None,
        runtime_seconds: None,
        prompt_text: String::new(),
        prompt_label: None,
        prompt_token_ids: reference.clone(),
        output_token_ids: wanted.forced.to_vec(),
        output_token_texts: Vec::new(),
        neighbours: Vec::new(),
        prompt_source: None,
        prefill: Some(capture.windows(&[length], wanted.positions, vocabulary)),
        decode: (steps > 0).then(|| capture.windows(&ends, wanted.positions, vocabulary)),
    })
}
