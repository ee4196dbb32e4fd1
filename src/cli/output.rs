//! For people, or for programs.

use std::fmt::Display;

use clap::ValueEnum;
use serde::Serialize;
use weir_control::api::wire::List;

use super::{
    outcome::{Outcome, say, say_aside},
    table::Table,
};

/// How to show objects.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Output {
    /// Columns, for people
    Table,
    /// The API's own objects
    Json,
}

impl Output {
    /// Shows a list as it is, or as a table; of an empty one, that there is nothing.
    pub(super) fn list<T: Serialize, const N: usize>(
        self,
        list: List<T>,
        nothing: impl Display,
        table: impl FnOnce(Vec<T>) -> Table<N>,
    ) -> anyhow::Result<Outcome> {
        match self {
            Self::Json => say(serde_json::to_string_pretty(&list)?)?,
            Self::Table if list.items.is_empty() => say_aside(nothing)?,
            Self::Table => say(table(list.items))?,
        }
        Ok(Outcome::Done)
    }
}
