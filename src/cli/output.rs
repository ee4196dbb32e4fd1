//! For people, or for programs.

use clap::ValueEnum;

/// How to show objects.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Output {
    /// Columns, for people
    Table,
    /// The API's own objects
    Json,
}
