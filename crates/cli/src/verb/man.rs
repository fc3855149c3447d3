//! `mantissa man`: the manual's pages, made from the same words as `--help`.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::Command;
use clap_mangen::Man;

use crate::failure::Exit;
use crate::output::written;
use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  mantissa man | man -l -
  mantissa man --out ~/.local/share/man/man1 && man mantissa-verify";

/// Print the manual page, or write one for every verb
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Write `mantissa.1` and a page for every verb into this folder
    #[arg(long, value_name = "DIR", value_parser = written())]
    out: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, command: Command, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let Some(out) = &args.out else {
        let mut page = Vec::new();
        Man::new(command).render(&mut page)?;
        terminal.raw(&page)?;
        return Ok(Exit::Consistent);
    };
    std::fs::create_dir_all(out)
        .and_then(|()| clap_mangen::generate_to(command, out))
        .map_err(|e| anyhow!("{}: cannot write the pages: {e}; choose another --out", out.display()))?;
    terminal.note(&format!("the pages are in {}", out.display()));
    Ok(Exit::Consistent)
}
