//! For people, or for programs.

use std::fmt::Display;

use clap::{Args, ValueEnum};
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

/// What every `ls` can be told.
#[derive(Debug, Args)]
// Its name is also that of commands which have more arguments.
#[group(skip)]
pub(super) struct Ls {
    /// How to show them
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(super) output: Output,
}

/// What every `show` is told.
#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct Show {
    pub(super) name: String,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(super) output: Output,
}

impl Output {
    /// Shows one object as it is, or in words.
    pub(super) fn one<T: Serialize>(
        self,
        object: &T,
        words: impl FnOnce(&T) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        match self {
            Self::Json => Ok(say(serde_json::to_string_pretty(object)?)?),
            Self::Table => words(object),
        }
    }

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
