//! `weir check`: whether files would be accepted, without a server.

use std::path::PathBuf;

use clap::Args;

use super::{
    manifests::Manifests,
    outcome::{Outcome, say},
};

/// Check files of apps without a server.
///
/// Prints every problem of every file as FILE:LINE:COLUMN: field: what is wrong. What only the
/// server knows, such as a host name that another app has, is not checked.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir check shop.yaml
  weir check apps/*.yaml

Exit codes: 0 no problems, 1 problems.")]
pub(crate) struct Check {
    /// Files to check; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl Check {
    pub(super) fn run(self) -> anyhow::Result<Outcome> {
        let manifests = Manifests::read(&self.files);
        for problem in &manifests.problems {
            say(problem)?;
        }
        if !manifests.problems.is_empty() {
            return Ok(Outcome::Invalid);
        }
        for (file, apps) in &manifests.files {
            let apps = match apps {
                1 => "1 app".to_owned(),
                n => format!("{n} apps"),
            };
            say(format_args!("{file}: {apps}, no problems"))?;
        }
        Ok(Outcome::Done)
    }
}
