//! How a command ends, and how it says things.

use std::{
    fmt::Display,
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

/// How a command ended. An error that is none of these (the server refuses, or is not there) ends
/// with 2. Ordered: of several, the greatest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    Done,
    /// The time was up, but the server goes on.
    TimedOut,
    /// What was asked for was tried and failed.
    Failed,
    /// What was asked for makes no sense; nothing was tried.
    Invalid,
}

impl Outcome {
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Invalid => 1,
            Self::Failed => 3,
            Self::TimedOut => 4,
        }
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(outcome.code())
    }
}

/// Prints a line. Unlike `println!` it survives a reader that has gone.
pub(super) fn say(line: impl Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{line}")
}

/// Prints a line for people, apart from what other programs read.
pub(super) fn say_aside(line: impl Display) -> io::Result<()> {
    writeln!(io::stderr().lock(), "{line}")
}

/// A time that something took, as exact as it is worth: `25ms`, `1.2s`, `75s`.
pub(super) fn took(time: Duration) -> String {
    match time.as_secs_f64() {
        short if short < 1.0 => format!("{}ms", time.as_millis()),
        middling if middling < 10.0 => format!("{middling:.1}s"),
        long => format!("{long:.0}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_several_counts() {
        let worst = [Outcome::Done, Outcome::Failed, Outcome::TimedOut].into_iter().max();
        assert_eq!(worst.map(Outcome::code), Some(3));
    }

    #[test]
    fn times_are_as_exact_as_they_are_worth() {
        let cases = [(25, "25ms"), (999, "999ms"), (1240, "1.2s"), (75_400, "75s")];
        for (milliseconds, expected) in cases {
            assert_eq!(took(Duration::from_millis(milliseconds)), expected);
        }
    }
}
