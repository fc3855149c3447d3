//! `mantissa completions`: scripts that complete the command line in a shell.

use clap::Command;
use clap_complete::Shell;

use crate::failure::Exit;
use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  mantissa completions bash > ~/.local/share/bash-completion/completions/mantissa
  mantissa completions zsh > ~/.zfunc/_mantissa
  mantissa completions fish > ~/.config/fish/completions/mantissa.fish";

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(args: &Args, mut command: Command, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "mantissa", &mut script);
    terminal.raw(&script)?;
    Ok(Exit::Consistent)
}
