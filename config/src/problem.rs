//! What is wrong with something an operator wrote: every problem, each with its place.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A position in a text, both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

/// One thing wrong, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Problem {
    /// The field, as a JSON Pointer (RFC 6901) into the object; empty for the object itself.
    pub pointer: String,
    /// A stable word for programs, such as `unknown_field`.
    pub code: String,
    /// A sentence for people: what is wrong and what would be right.
    pub message: String,
    /// Where it stands, when it was read from a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

impl Problem {
    pub fn new(pointer: impl Into<String>, code: &str, message: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            code: code.to_owned(),
            message: message.into(),
            place: None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Place { line, column }) = self.place {
            write!(f, "{line}:{column}: ")?;
        }
        match self.pointer.as_str() {
            "" => write!(f, "{}", self.message),
            pointer => write!(f, "{}: {}", &pointer[1..].replace('/', "."), self.message),
        }
    }
}

/// Every problem found, never empty when it is an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// `Ok(value)` when nothing was found, the problems otherwise.
    pub fn or_value<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }

    pub fn push(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    /// Adds what a later check found, but for fields that have a problem already: what stands in
    /// for one that could not be read is nobody's problem.
    pub fn also(&mut self, found: Self) {
        let known: Vec<_> = self.0.iter().map(|p| p.pointer.clone()).collect();
        self.0.extend(found.0.into_iter().filter(|p| !known.contains(&p.pointer)));
    }

    /// Notes a failed conversion at `pointer` and carries on, so that later problems are seen too.
    pub fn take<T>(&mut self, pointer: &str, code: &str, result: Result<T, String>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(message) => {
                self.push(Problem::new(pointer, code, message));
                None
            }
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
