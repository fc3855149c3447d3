//! Runs and prompts of a comparison, and what they are called.

use mantissa_compare::{ComparedPrompt, Comparison, Prompt};

use crate::foreign::push;
use crate::short::Short;

/// A comparison whose runs are called by their names.
pub(super) struct Named<'a> {
    pub(super) comparison: &'a Comparison,
}

impl Named<'_> {
    pub(super) fn prompt(&self, prompt: &ComparedPrompt) -> String {
        let title = match &prompt.prompt {
            Prompt::Ids { digest, tokens } => {
                let digest = digest.to_string();
                format!("prompt of {tokens} tokens, {}", digest.get(..12).unwrap_or(&digest))
            }
            Prompt::Declared { text } => {
                let start: String = text.chars().take(60).collect();
                format!("prompt declared as \"{start}\" (ids are not stated)")
            }
            Prompt::Unknown { .. } => "prompt that the record does not state".to_owned(),
        };
        let reference = self.reference(prompt).map_or_else(String::new, |id| format!(" (ref {id})"));
        format!("{title}{reference}")
    }

    /// The reference prompt, where all runs of a prompt call it the same.
    pub(super) fn reference(&self, prompt: &ComparedPrompt) -> Option<u32> {
        let mut ids = prompt.runs.iter().map(|&run| self.comparison.runs[run].reference_id);
        let first = ids.next()?;
        ids.all(|id| id == first).then_some(first)
    }

    /// A setup without its repetition.
    pub(super) fn setup(&self, run: usize) -> String {
        let one = &self.comparison.runs[run];
        let several = self.comparison.runs.iter().any(|other| other.record != one.record);
        if several { format!("{}: {}", one.record, one.config_id) } else { one.config_id.clone() }
    }

    /// Names of setups without what all begin and end with.
    pub(super) fn short(&self) -> Short {
        let setups: Vec<&str> = self.comparison.runs.iter().map(|run| run.config_id.as_str()).collect();
        let several = self.comparison.runs.iter().any(|other| other.record != self.comparison.runs[0].record);
        if several { Short::of(&[]) } else { Short::of(&setups) }
    }

    pub(super) fn name(&self, prompt: &ComparedPrompt, run: usize) -> String {
        self.name_of(&self.setup(run), prompt, run)
    }

    /// A setup with what tells its runs apart.
    pub(super) fn name_of(&self, setup: &str, prompt: &ComparedPrompt, run: usize) -> String {
        let one = &self.comparison.runs[run];
        let mut name = setup.to_owned();
        if self.reference(prompt).is_none() {
            push(&mut name, format_args!(" ref {}", one.reference_id));
        }
        if self.comparison.runs.iter().any(|other| other.rep_id != one.rep_id) {
            push(&mut name, format_args!(" rep {}", one.rep_id));
        }
        name
    }

    pub(super) fn whole_name(&self, run: usize) -> String {
        let one = &self.comparison.runs[run];
        format!("{} ref {} rep {}", self.setup(run), one.reference_id, one.rep_id)
    }
}
