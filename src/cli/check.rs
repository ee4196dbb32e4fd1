//! `weir check`: whether files would be accepted, without a server.

use std::path::PathBuf;

use clap::Args;

use super::{
    change::counted,
    manifests::Manifests,
    outcome::{Outcome, say},
};

/// Check files of objects without a server.
///
/// Prints every problem of every file as FILE:LINE:COLUMN: field: what is wrong. What only the
/// server knows, such as a host name that another app has or a shard that only it has, is not
/// checked.
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
        for (file, documents) in &manifests.files {
            let documents = counted(*documents, "object");
            say(format_args!("{file}: {documents}, no problems"))?;
        }
        Ok(Outcome::Done)
    }
}
