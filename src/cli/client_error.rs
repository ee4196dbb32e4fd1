//! Why a request to the server came to nothing.

use std::{error::Error, fmt};

use weir_control::api::wire::ProblemDetails;

#[derive(Debug)]
pub(super) enum ClientError {
    NoAnswer {
        url: String,
        source: reqwest::Error,
    },
    Interrupted {
        source: Box<dyn Error + Send + Sync>,
    },
    NotUnderstood {
        url: String,
        why: String,
    },
    Refused {
        problem: Box<ProblemDetails>,
        /// Where the token came from, if it is the token that is refused.
        token_from: Option<String>,
    },
}

impl ClientError {
    pub(super) fn interrupted(source: reqwest::Error) -> Self {
        Self::Interrupted { source: source.into() }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswer { url, source } => write!(
                f,
                "no Weir answers at {url}; is `weir serve` running? ({})",
                root_cause(source)
            ),
            Self::Interrupted { source } => {
                write!(f, "the connection broke off: {}", root_cause(source.as_ref()))
            }
            Self::NotUnderstood { url, why } => {
                write!(f, "what answers at {url} does not speak like Weir: {why}")
            }
            Self::Refused { problem, token_from } => refusal(f, problem, token_from.as_deref()),
        }
    }
}

impl Error for ClientError {}

fn refusal(
    f: &mut fmt::Formatter<'_>,
    problem: &ProblemDetails,
    token_from: Option<&str>,
) -> fmt::Result {
    f.write_str(&problem.detail)?;
    if let Some(place) = token_from {
        write!(f, " (the token came from {place})")?;
    }
    match problem.errors.as_slice() {
        // The detail says it already.
        [one] if problem.detail.contains(&one.message) => Ok(()),
        errors => errors.iter().try_for_each(|error| write!(f, "\n  {error}")),
    }
}

/// The innermost reason: the ones around it say no more than that a request failed.
fn root_cause<'a>(error: &'a (dyn Error + 'static)) -> &'a dyn Error {
    let mut cause: &dyn Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause
}

#[cfg(test)]
mod tests {
    use weir_config::Problem;

    use super::*;

    fn refused(detail: &str, errors: Vec<Problem>) -> String {
        let problem = Box::new(ProblemDetails {
            r#type: "urn:weir:problem:invalid".to_owned(),
            title: "The object is not valid".to_owned(),
            status: 422,
            detail: detail.to_owned(),
            code: "invalid".to_owned(),
            errors,
        });
        ClientError::Refused { problem, token_from: None }.to_string()
    }

    #[test]
    fn every_problem_has_its_line_and_none_is_told_twice() {
        let image = || Problem::new("/spec/image", "bad_image", "no image");
        let port = Problem::new("/spec/port", "out_of_range", "a port is 1 to 65535");
        assert_eq!(
            refused("2 problems; see `errors`", vec![image(), port]),
            "2 problems; see `errors`\n  spec.image: no image\n  spec.port: a port is 1 to 65535"
        );
        assert_eq!(refused("spec.image: no image", vec![image()]), "spec.image: no image");
    }
}
