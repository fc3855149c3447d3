//! Opening evidence as the flags ask: files that were altered or damaged, several files of one experiment, prompts that
//! are known as text alone.

use std::path::{Path, PathBuf};

use anyhow::bail;
use mantissa_evidence::{Experiment, Record};
use mantissa_model::Tokenizer;
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
