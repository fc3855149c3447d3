//! Everything that can go wrong in the lab, one variant each.
//!
//! Display is one line: file or subject, what was found where, and the remedy after the last "; ".
//! Left out: errors of the model, engine and evidence crates, which carry their own.

use std::io;

use crate::drift::DriftFault;
use crate::prompt::PromptFault;

/// An error of this crate.
///
/// Example: [`crate::SignalSpec`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// A prompt cannot be made or fed.
    #[error(transparent)]
    Prompt(#[from] PromptFault),

    /// Two sides cannot be compared.
    #[error(transparent)]
    Drift(#[from] DriftFault),

    /// The operating system refused to read the document.
    #[error("{document}: cannot be read ({source}); check the path and its permissions")]
    DocumentRead {
        /// Document name.
        document: String,
        /// What the system said.
        source: io::Error,
    },

    /// The document is larger than anything a prompt is cut from.
    #[error("{document}: larger than the limit of {limit} bytes; cut out the part to use")]
    DocumentTooLarge {
        /// Document name.
        document: String,
        /// Largest accepted size.
        limit: u64,
    },

    /// A pointer of Git LFS in place of a document.
    #[error("{document}: a pointer of Git LFS, not the file itself; run `git lfs pull` in its repository")]
    DocumentPointer {
        /// Document name.
        document: String,
    },

    /// Nothing but white space.
    #[error("{document}: no text in {bytes} bytes; give a document with text")]
    DocumentEmpty {
        /// Document name.
        document: String,
        /// Size of the file.
        bytes: u64,
    },

    /// Neither PDF nor UTF-8: the first byte that is wrong.
    #[error("{document}: {found} at byte {offset}, neither PDF nor UTF-8 text; {remedy}")]
    DocumentEncoding {
        /// Document name.
        document: String,
        /// What stands there.
        found: &'static str,
        /// Offset of the first offending byte.
        offset: u64,
        /// How to make it readable.
        remedy: &'static str,
    },

    /// The PDF's structure cannot be followed, not even by searching for its objects.
    #[error(
        "{document}: damaged or truncated PDF ({reason}); download it again, or repair it with `qpdf IN.pdf OUT.pdf`"
    )]
    PdfMalformed {
        /// Document name.
        document: String,
        /// What is missing.
        reason: &'static str,
    },

    /// The PDF asks for a password, or for a cipher that is not read here.
    #[error(
        "{document}: encrypted PDF ({reason}); remove the protection with `qpdf --decrypt --password=… IN.pdf OUT.pdf`"
    )]
    PdfEncrypted {
        /// Document name.
        document: String,
        /// Password or cipher.
        reason: &'static str,
    },

    /// No page shows any text: a scan.
    #[error(
        "{document}: none of its {pages} pages holds text, only images or drawings; recognize the text first, for instance with `ocrmypdf IN.pdf OUT.pdf`"
    )]
    PdfNoText {
        /// Document name.
        document: String,
        /// Number of pages.
        pages: usize,
    },

    /// The fonts do not say which characters their glyphs are.
    #[error(
        "{document}: {unmapped} of {glyphs} glyphs have no character that can be read (first on page {page}), \
         more than one in {one_in}; recognize the text anew with `ocrmypdf --force-ocr IN.pdf OUT.pdf`"
    )]
    PdfUnmapped {
        /// Document name.
        document: String,
        /// Glyphs without a character.
        unmapped: u64,
        /// All glyphs.
        glyphs: u64,
        /// First page with such a glyph, counted from 1.
        page: usize,
        /// The share above which a document is refused.
        one_in: u64,
    },

    /// A bound on the reading of PDFs was met.
    #[error(
        "{document}: {what} passes the limit of {limit} on page {page}; split it with `qpdf IN.pdf --pages . 1-20 -- OUT.pdf`, or give its text"
    )]
    PdfLimit {
        /// Document name.
        document: String,
        /// Which quantity.
        what: &'static str,
        /// The bound, with its unit.
        limit: String,
        /// Page that was being read, counted from 1.
        page: usize,
    },

    /// The process that reads PDFs could not be started or broke its protocol.
    #[error(
        "{document}: the PDF reader `{program}` failed on page {page} ({reason}); report the file, and meanwhile give its text"
    )]
    PdfReader {
        /// Document name.
        document: String,
        /// The program that was started.
        program: String,
        /// Page that was being read, counted from 1.
        page: usize,
        /// What happened.
        reason: String,
    },

    /// A prompt needs at least one document and one token of it.
    #[error("prompt: {what} is zero; give at least one")]
    PromptEmpty {
        /// Which quantity.
        what: &'static str,
    },

    /// The reference document is too short.
    #[error(
        "{document}: {tokens} tokens, but {references} reference(s) of {document_tokens} document tokens need {needed}; give a longer document, fewer references or fewer document tokens"
    )]
    DocumentTooShort {
        /// Document name.
        document: String,
        /// Tokens it has.
        tokens: usize,
        /// References asked for.
        references: usize,
        /// Document tokens of each.
        document_tokens: usize,
        /// Tokens needed in all.
        needed: u128,
    },

    /// Two references would be the same prompt.
    #[error(
        "{document}: references {first} and {second} are the same {document_tokens} tokens; give a document that does not repeat itself, or fewer references"
    )]
    ReferencesEqual {
        /// Document name.
        document: String,
        /// Earlier reference, counted from 0.
        first: usize,
        /// Later reference, counted from 0.
        second: usize,
        /// Document tokens of each.
        document_tokens: usize,
    },

    /// The documents do not hold enough distinct slices for the batch.
    #[error(
        "neighbours: {found} distinct slices of {document_tokens} tokens are left in {documents} document(s), but {references} reference(s) in batches of {batch_size} need {needed}; add documents, or lower the batch size, the references or the document tokens"
    )]
    NeighboursTooFew {
        /// Slices found.
        found: usize,
        /// Slices needed.
        needed: u128,
        /// Document tokens of each.
        document_tokens: usize,
        /// Documents searched.
        documents: usize,
        /// References asked for.
        references: usize,
        /// Largest batch.
        batch_size: usize,
    },

    /// The document spells one of the model's control tokens.
    #[error(
        "{document}: tokens {start}..{end} spell a control token of this model; remove it from the text, or choose other document tokens"
    )]
    ControlToken {
        /// Document name.
        document: String,
        /// First token of the slice.
        start: usize,
        /// One past the last token of the slice.
        end: usize,
    },

    /// The model brings no chat template.
    #[error(
        "model: no chat template; prompt without it (--no-chat-template; in a plan, chat_template = false)"
    )]
    NoChatTemplate,

    /// The chat template does not pass the user's text through unchanged, once.
    #[error(
        "model: its chat template shows the user's text {times} times instead of once; prompt without it (--no-chat-template; in a plan, chat_template = false)"
    )]
    ChatTemplateOpaque {
        /// How often the placeholder came out.
        times: usize,
    },

    /// A layer that the model does not have.
    #[error("layer {layer}: the model has layers 1 to {layers}; choose among them, or 'last'")]
    LayerAbsent {
        /// What was asked for.
        layer: u32,
        /// How many there are.
        layers: u32,
    },

    /// A site that the model does not have.
    #[error(
        "{site}: this model does not route there, so there is nothing to record; leave the point out, or choose sparse layers"
    )]
    SiteAbsent {
        /// What was asked for.
        site: mantissa_numerics::Site,
    },

    /// A trace of several setups.
    #[error("{setups} setups: a trace is of one; give one value for each flag of the setup")]
    TraceSetups {
        /// What was asked for.
        setups: usize,
    },

    /// An unfinished record of another machine or instruction set.
    #[error("{}: its finished repetitions ran elsewhere ({found}, now {now}); resume it there, choose the same --isa, or use --fresh", path.display())]
    OtherMachine {
        /// The repetition.
        path: std::path::PathBuf,
        /// Where it ran.
        found: String,
        /// Where this process runs.
        now: String,
    },

    /// Positions that are not relative to the end, or not in order.
    #[error("positions {positions}: not ascending negative numbers; give them like -3,-2,-1")]
    Positions {
        /// What was asked for.
        positions: String,
    },

    /// A setup without recipes.
    #[error("{what}; {remedy}")]
    Uncovered {
        /// What has none.
        what: String,
        /// What is covered.
        remedy: String,
    },

    /// A count of zero, or beyond what there is.
    #[error("the {what} is out of range; give at least 1 and no more than the model has")]
    Nothing {
        /// What is out of range.
        what: &'static str,
    },

    /// Forced tokens of another number than there are steps.
    #[error("forced tokens: list {list} of {lists} has {tokens} tokens for {steps} decode steps; {remedy}")]
    ForcedLength {
        /// The list, counted from 1.
        list: usize,
        /// How many lists there are.
        lists: usize,
        /// What to do.
        remedy: String,
        /// Tokens given.
        tokens: usize,
        /// Decode steps.
        steps: usize,
    },

    /// A forced token outside the vocabulary.
    #[error(
        "forced tokens: id {token} at index {index}, but the vocabulary has {vocabulary} entries; force ids of this model's own tokenizer"
    )]
    ForcedToken {
        /// The id.
        token: u32,
        /// Its place.
        index: usize,
        /// Size of the vocabulary.
        vocabulary: usize,
    },

    /// More positions than the model was made for.
    #[error(
        "{tokens} positions (prompt and output), but the model was trained for {context}; ask for fewer document tokens or decode steps"
    )]
    ContextLong {
        /// Positions asked for.
        tokens: usize,
        /// Positions of the model.
        context: usize,
    },

    /// KV caches larger than the machine's memory.
    #[error("the KV caches of a batch need {} MB, but this machine has {} MB; lower the batch size, the document tokens or the decode steps", bytes / 1_000_000, memory / 1_000_000)]
    CachesLarge {
        /// Bytes of all caches.
        bytes: u64,
        /// Bytes of the machine.
        memory: u64,
    },

    /// Another process records into the folder.
    #[error("{}: another process is recording into it; wait for it, or choose another folder", path.display())]
    Busy {
        /// The folder.
        path: std::path::PathBuf,
    },

    /// A plan's folder holds a configuration of the same name that was told something else.
    #[error("{}: a configuration of this name was begun with another plan; --fresh discards it", path.display())]
    OtherPlan {
        /// What it was told.
        path: std::path::PathBuf,
    },

    /// A setting of generation claimed where no token is set against a choice.
    #[error(
        "--claim: {setting} acts on the choice of tokens, which only a replay of passes here checks; leave it out"
    )]
    ChoiceNotChecked {
        /// The setting.
        setting: String,
    },

    /// Another program cannot be told this axis.
    #[error("--replay-with cannot set {axis}; it sets batch_size, attention and dtype")]
    NotReplayedElsewhere {
        /// The axis.
        axis: &'static str,
    },

    /// Another program's replay left nothing.
    #[error(
        "replay by {python}: {reason}; check that mantissa-forensics, torch and transformers are installed there"
    )]
    Elsewhere {
        /// The interpreter.
        python: String,
        /// Its last words.
        reason: String,
    },

    /// A plan says what cannot be done.
    #[error(transparent)]
    Plan(#[from] crate::plan::PlanError),

    /// A prompt shorter than the positions to keep.
    #[error(
        "the prompt has {tokens} tokens, but position -{reach} is to be kept; ask for more document tokens"
    )]
    PromptShort {
        /// Tokens of the prompt.
        tokens: usize,
        /// Furthest position from the end.
        reach: usize,
    },

    /// The output folder holds a record by other catalogs.
    #[error(
        "{}: the record there uses {found}, and this one uses {wanted}; give the same --catalog and --cublas, or \
         choose another folder",
        path.display()
    )]
    OtherCatalogs {
        /// The folder's plan.
        path: std::path::PathBuf,
        /// The catalogs that it names.
        found: String,
        /// Those that are used now.
        wanted: String,
    },

    /// The output folder holds a record of something else.
    #[error("{}: holds a record of another setup (see its plan.json); choose another folder, or remove this one", path.display())]
    OtherRecord {
        /// The folder.
        path: std::path::PathBuf,
    },

    /// The output folder holds files of other origin.
    #[error("{}: is not empty and holds no record; choose another folder", path.display())]
    NotEmpty {
        /// The folder.
        path: std::path::PathBuf,
    },

    /// The operating system refused something.
    #[error("{}: cannot {action} it ({source}); check the path, its permissions and the room on the disk", path.display())]
    Io {
        /// The file or folder.
        path: std::path::PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },

    /// A digest that is not one.
    #[error("a digest is malformed ({reason}); this is a bug, report it")]
    Digest {
        /// What is wrong.
        reason: String,
    },

    /// Whoever took the results asked to stop, and knows why.
    #[error("the replay was stopped; run it again")]
    Stopped,

    /// A replay ran other kernels than were planned for it.
    #[error("replay of {setup}: pass {pass} ran {kernel}, which was not planned; this is a bug, report it")]
    Unplanned {
        /// The setup.
        setup: String,
        /// The forward pass, counted from 0.
        pass: usize,
        /// The first kernel that was not planned.
        kernel: String,
    },

    /// One axis or setting claimed twice.
    #[error("--claim: {what} is given twice; give it once")]
    ClaimedTwice {
        /// The axis or the setting.
        what: String,
    },

    /// One axis varied twice.
    #[error("--vary: {axis} is given twice; give all its values at once")]
    VariedTwice {
        /// The axis.
        axis: &'static str,
    },

    /// More candidates than anybody means.
    #[error("--vary: more than {most} candidates; vary less at once")]
    CandidatesTooMany {
        /// How many there may be.
        most: usize,
    },

    /// A model of other weights than the evidence states.
    #[error(
        "{}: {config_id} was recorded with weights {stated}, but {model} has {found}; give the model that was recorded",
        evidence.display()
    )]
    OtherWeights {
        /// The evidence.
        evidence: std::path::PathBuf,
        /// Its configuration.
        config_id: String,
        /// Digest that it states.
        stated: Box<mantissa_evidence::Digest>,
        /// Name of the model that was given.
        model: String,
        /// Digest of its weights.
        found: Box<mantissa_evidence::Digest>,
    },

    /// A state of a verification that cannot be read.
    #[error("{}: cannot read: {source}; choose another --state", path.display())]
    StateRead {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// A file that is no state of a verification.
    #[error(
        "{}: is no state of a verification ({source}); choose another --state, or remove it",
        path.display()
    )]
    StateMalformed {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },

    /// The state of another verification.
    #[error(
        "{}: holds the state of another verification (other evidence, model, candidates or version); choose another --state, or remove it",
        path.display()
    )]
    OtherState {
        /// The file.
        path: std::path::PathBuf,
    },

    /// Nowhere to put a model that is made for a self-test.
    #[error("no temporary folder; set TMPDIR to one")]
    NoTemporaryFolder {
        /// What the system said.
        source: io::Error,
    },

    /// A synthetic model.
    #[error(transparent)]
    Synth(#[from] mantissa_model::synth::SynthError),

    /// The judgement.
    #[error(transparent)]
    Verdict(#[from] mantissa_verdict::VerdictError),

    /// The model.
    #[error(transparent)]
    Model(#[from] mantissa_model::ModelError),

    /// The engine.
    #[error(transparent)]
    Engine(#[from] mantissa_engine::EngineError),

    /// The evidence.
    #[error(transparent)]
    Evidence(#[from] mantissa_evidence::EvidenceError),

    /// The tokenizer failed.
    #[error("tokenizer: {what} failed ({reason}); check that the tokenizer belongs to the model")]
    Tokenizer {
        /// Which step.
        what: String,
        /// What it said.
        reason: String,
    },
}

impl LabError {
    pub(crate) fn io(path: &std::path::Path, action: &'static str, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), action, source }
    }
}
