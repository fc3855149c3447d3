//! Opening evidence as the flags ask: files that were altered or damaged, several files of one experiment, prompts that
//! are known as text alone.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::bail;
use mantissa_evidence::{Experiment, Record};
use mantissa_model::{Message, Tokenizer};
use mantissa_published::answers::Vocabulary;
use mantissa_published::{Content, Opened, open, open_despite_damage, together};

use crate::failure::Exit;
use crate::terminal::Terminal;

/// What is done about evidence that is not what its digests say.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Damage {
    /// Go on with evidence that was altered or damaged, and show what its contents say (exit code 4)
    #[arg(long)]
    despite_damage: bool,
}

impl Damage {
    /// Opens a file.
    pub(crate) fn open(self, path: &Path) -> mantissa_evidence::Result<Opened> {
        if self.despite_damage { open_despite_damage(path) } else { open(path) }
    }

    /// Opens several files as one experiment.
    pub(crate) fn open_together(self, paths: &[PathBuf]) -> mantissa_evidence::Result<Opened> {
        match paths {
            [one] => self.open(one),
            several => together(several, self.despite_damage),
        }
    }

    /// The whole experiment of a file.
    pub(crate) fn read(self, path: &Path, terminal: &Terminal) -> anyhow::Result<(Experiment, bool)> {
        if !self.despite_damage {
            return Ok((mantissa_published::read(path)?, false));
        }
        let (experiment, damage) = mantissa_published::read_despite_damage(path)?;
        for part in &damage {
            terminal.note(part);
        }
        Ok((experiment, !damage.is_empty()))
    }

    /// How a verb ends that would end with `exit`: evidence that was altered is never just consistent.
    pub(crate) fn exit<'o>(opened: impl IntoIterator<Item = &'o Opened>, exit: Exit) -> Exit {
        if opened.into_iter().all(|one| one.damage.is_empty()) { exit } else { Exit::Altered }
    }
}

/// The record in a file of another program, where it has one.
fn of_published(opened: &Opened) -> Option<Record> {
    let Content::Published(published) = &opened.content else { return None };
    published.experiment().map(|experiment| Record::from_experiment(experiment.clone(), &opened.path))
}

/// The record in a file of any kind; `None` where it holds no signals.
pub(crate) fn into_record(opened: Opened) -> Option<Record> {
    match of_published(&opened) {
        Some(record) => Some(record),
        None => match opened.content {
            Content::Record(record) => Some(record),
            Content::Published(_) => None,
        },
    }
}

/// What a model's tokenizer makes of the texts of an API.
struct Texts<'t> {
    tokenizer: &'t Tokenizer,
    /// Tokens by what they are shown as; `None` where several are.
    names: HashMap<String, Option<u32>>,
}

impl<'t> Texts<'t> {
    fn new(tokenizer: &'t Tokenizer) -> Self {
        let mut names: HashMap<String, Option<u32>> = HashMap::new();
        for id in 0..u32::try_from(tokenizer.vocab_size()).unwrap_or(u32::MAX) {
            let Ok(text) = tokenizer.decode(&[id], false) else { continue };
            names.entry(text).and_modify(|known| *known = None).or_insert(Some(id));
        }
        Self { tokenizer, names }
    }
}

impl Vocabulary for Texts<'_> {
    /// A part of a character is shown as servers complete it from the tokens before: only ASCII is sure.
    fn id(&self, text: &str) -> Option<u32> {
        self.names.get(text).copied().flatten().filter(|_| !text.is_empty() && text.is_ascii())
    }

    fn of_text(&self, text: &str) -> Result<Vec<u32>, String> {
        self.tokenizer.encode(text, true).map_err(|error| error.to_string())
    }

    fn of_chat(&self, turns: &[(String, String)]) -> Result<Vec<u32>, String> {
        if !self.tokenizer.has_chat_template() {
            return Err("the model has no chat template".to_owned());
        }
        let turns: Vec<Message> = turns.iter().map(|(role, said)| Message::new(role, said)).collect();
        let text = self.tokenizer.apply_chat_template(&turns, true).map_err(|error| error.to_string())?;
        self.tokenizer.encode(&text, false).map_err(|error| error.to_string())
    }
}

/// Reads answers of an API with a model's vocabulary, made of `files`: tokens shown as texts get their ids, and with
/// `tokenize` prompts that were sent as texts or messages.
pub(crate) fn name_tokens(
    opened: &mut Opened,
    tokenizer: &Tokenizer,
    files: &str,
    tokenize: bool,
    terminal: &Terminal,
) -> anyhow::Result<()> {
    let Some(answers) = &opened.answers else { return Ok(()) };
    let made = answers.experiment(Some(&Texts::new(tokenizer)), tokenize)?;
    opened.warnings = made.warnings;
    if answers.names_tokens() || tokenize {
        opened.warnings.push(format!("texts were made ids by the model's {files}"));
    }
    for warning in &opened.warnings {
        terminal.note(&format!("{}: {warning}", opened.name));
    }
    opened.content = Content::Record(Record::from_experiment(made.experiment, &opened.path));
    Ok(())
}

/// Makes ids of the prompts that are known as text alone, with the tokenizer of the model called `name`, and says so.
pub(crate) fn tokenize_prompts(
    opened: &mut Opened,
    tokenizer: &Tokenizer,
    name: &str,
    terminal: &Terminal,
) -> anyhow::Result<()> {
    if let Some(record) = of_published(opened) {
        opened.content = Content::Record(record);
    }
    let Content::Record(record) = &mut opened.content else {
        bail!("--tokenize-prompt: {} holds no prompts", opened.name);
    };
    let mut made = 0;
    for run in 0..record.shell().runs.len() {
        let stored = &record.shell().runs[run];
        if !stored.prompt_token_ids.is_empty() || stored.prompt_text.is_empty() {
            continue;
        }
        let ids = tokenizer.encode(&stored.prompt_text, true).map_err(|error| {
            anyhow::anyhow!("--tokenize-prompt: runs[{run}].prompt_text: {error}; give ids in the file")
        })?;
        record.set_prompt_ids(run, ids);
        made += 1;
    }
    if made == 0 {
        bail!("--tokenize-prompt: no run of {} has a prompt text and no ids; leave it out", opened.name);
    }
    let warning = format!(
        "prompt ids of {made} run(s) were made from their text by the tokenizer of {name} (--tokenize-prompt): whether \
         these ids were fed, the file does not say"
    );
    terminal.note(&format!("{}: {warning}", opened.name));
    opened.warnings.push(warning);
    Ok(())
}
