//! The command line as clap reads it, and its refusals as one line.
//!
//! Left out: what the words mean (each verb's file; [`crate::output`] for flags of every verb) and the environment
//! ([`crate::settings`]).

use std::ffi::OsString;
use std::io::IsTerminal as _;

use clap::error::{ContextKind, ErrorKind};
use clap::{CommandFactory as _, Parser, ValueEnum as _};

use crate::failure::EarlyExit;
use crate::output::{Global, When};
use crate::settings::colored;
use crate::verb::Verb;

/// Floating-point forensics for LLM inference.
///
/// Records the low bits of what a model computed, so that a claimed setup can be checked against them.
#[derive(Debug, Parser)]
#[command(name = "mantissa", version, max_term_width = 100, subcommand_value_name = "VERB")]
#[command(subcommand_help_heading = "Verbs", disable_help_subcommand = true, after_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

const EXIT_CODES: &str = "\
Exit codes: 0 consistent, 1 divergent, 2 usage or tool failure, 3 not enough evidence,
4 a file that was altered or damaged, 130 interrupted.
`mantissa demo` needs nothing and shows the whole.";

/// The definition of the command line.
pub(crate) fn command() -> clap::Command {
    Args::command()
}

/// Reads the command line. Help and version come back as [`EarlyExit`], refusals as errors of one line.
pub(crate) fn parse() -> anyhow::Result<Args> {
    let words: Vec<OsString> = std::env::args_os().collect();
    Args::try_parse_from(&words).map_err(|error| {
        let ansi = color_of_help(&words, &error);
        let text = || if ansi { error.render().ansi().to_string() } else { error.render().to_string() };
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => EarlyExit::Answer(text()).into(),
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => EarlyExit::Help(text()).into(),
            _ => anyhow::anyhow!(condensed(&error, &words)),
        }
    })
}

/// Help is printed before `--color` is known to clap, so the flag is looked for by itself.
fn color_of_help(words: &[OsString], error: &clap::Error) -> bool {
    let mut when = When::Auto;
    for (i, word) in words.iter().enumerate() {
        let value = match word.to_str() {
            Some("--color") => words.get(i + 1).and_then(|next| next.to_str()),
            Some(word) => word.strip_prefix("--color="),
            None => None,
        };
        if let Some(parsed) = value.and_then(|value| When::from_str(value, false).ok()) {
            when = parsed;
        }
    }
    colored(when) && (when == When::Always || !error.use_stderr() || std::io::stderr().is_terminal())
}

/// clap's message without its usage text: what is wrong, what would be right, where to read more.
fn condensed(error: &clap::Error, words: &[OsString]) -> String {
    let text = error.render().to_string().replace("invalid digit found in string", "use a whole number");
    let mut parts: Vec<String> = Vec::new();
    for line in text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:")) {
        let values = line.strip_prefix("[possible values: ").and_then(|rest| rest.strip_suffix(']'));
        match (values, line.strip_prefix("tip: "), parts.last_mut()) {
            _ if line.is_empty() || line.starts_with("For more information") => {}
            (Some(values), ..) => parts.push(format!("use one of {values}")),
            (None, Some(tip), _) => parts.push(tip.to_owned()),
            (None, None, Some(last)) if part_of_a_list(line) => last.extend([" ", line]),
            (None, None, _) => parts.push(line.trim_start_matches("error: ").to_owned()),
        }
    }
    if error.kind() == ErrorKind::InvalidValue && error.get(ContextKind::InvalidValue).is_none() {
        parts.push("give a value".to_owned());
    }
    let command = command();
    let verb =
        words.iter().skip(1).filter_map(|word| word.to_str()).find(|word| {
            command.get_subcommands().any(|verb| !verb.is_hide_set() && verb.get_name() == *word)
        });
    let verb = verb.map(|verb| format!(" {verb}")).unwrap_or_default();
    parts.push(format!("see `mantissa{verb} --help`"));
    parts.join("; ")
}

/// clap lists missing arguments one a line.
fn part_of_a_list(line: &str) -> bool {
    line.starts_with(['<', '-', '['])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn every_verb_shows_examples() {
        let mut command = command();
        let verbs: Vec<_> = command.get_subcommands_mut().filter(|verb| !verb.is_hide_set()).collect();
        assert!(verbs.len() > 1);
        for verb in verbs {
            let help = verb.render_long_help().to_string();
            let name = verb.get_name();
            assert!(
                help.contains("Examples:") && help.contains(&format!("mantissa {name}")),
                "{name}: {help}"
            );
        }
    }
}
