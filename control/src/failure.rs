//! Why an instance does not run as it should.

use weir_deploy::ProviderError;

use crate::action::Action;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failure {
    pub(crate) reason: FailureReason,
    /// A sentence for the operator.
    pub(crate) message: String,
    /// Of the process, if it ended.
    pub(crate) exit_code: Option<i64>,
    /// The last lines that it wrote.
    pub(crate) log_tail: Vec<String>,
}

/// A stable word for programs: the `reason` of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureReason {
    InstanceExited,
    HealthCheckFailed,
    ImageUnavailable,
    EngineUnreachable,
    EngineRefused,
}

impl FailureReason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::InstanceExited => "InstanceExited",
            Self::HealthCheckFailed => "HealthCheckFailed",
            Self::ImageUnavailable => "ImageUnavailable",
            Self::EngineUnreachable => "EngineUnreachable",
            Self::EngineRefused => "EngineRefused",
        }
    }
}

impl Failure {
    pub(crate) fn of_action(action: &Action, error: &ProviderError) -> Self {
        let reason = match error {
            ProviderError::Image { .. } => FailureReason::ImageUnavailable,
            ProviderError::Unreachable { .. } | ProviderError::TimedOut { .. } => {
                FailureReason::EngineUnreachable
            }
            ProviderError::NoContainer(_)
            | ProviderError::NameTaken { .. }
            | ProviderError::Refused(_) => FailureReason::EngineRefused,
        };
        let message = format!("{} failed: {error}", action.verb());
        Self { reason, message, exit_code: None, log_tail: Vec::new() }
    }

    pub(crate) fn not_healthy(after: std::time::Duration, error: Option<&str>) -> Self {
        let detail = error.unwrap_or("no check has ended");
        let message = format!("not ready {} after its start: {detail}", weir_config::Span(after));
        let reason = FailureReason::HealthCheckFailed;
        Self { reason, message, exit_code: None, log_tail: Vec::new() }
    }
}
