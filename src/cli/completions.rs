//! `weir completions`: what a shell needs to complete commands.

use std::io::{self, Write};

use clap::Args;
use clap_complete::Shell;

use super::outcome::Outcome;

/// Print completions for a shell.
///
/// The shell must read what is printed, at its start or once.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir completions bash > /etc/bash_completion.d/weir
  weir completions zsh > ~/.zfunc/_weir
  weir completions fish > ~/.config/fish/completions/weir.fish")]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self, mut whole: clap::Command) -> anyhow::Result<Outcome> {
        // Into memory first: the generator panics when it cannot write.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut whole, "weir", &mut script);
        io::stdout().lock().write_all(&script)?;
        Ok(Outcome::Done)
    }
}
