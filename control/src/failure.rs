//! Why an instance does not run as it should.

use weir_config::SecretName;
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
    SecretUnavailable,
    EngineUnreachable,
    EngineRefused,
}

impl FailureReason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::InstanceExited => "InstanceExited",
            Self::HealthCheckFailed => "HealthCheckFailed",
            Self::ImageUnavailable => "ImageUnavailable",
            Self::SecretUnavailable => "SecretUnavailable",
            Self::EngineUnreachable => "EngineUnreachable",
            Self::EngineRefused => "EngineRefused",
        }
    }
}

/// Why an action was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ActionError {
    #[error(transparent)]
    Engine(#[from] ProviderError),
    #[error("the secret {name} cannot be had: {why}")]
    Secret { name: SecretName, why: String },
}

impl Failure {
    pub(crate) fn of_action(action: &Action, error: &ActionError) -> Self {
        let reason = match error {
            ActionError::Secret { .. } => FailureReason::SecretUnavailable,
            ActionError::Engine(ProviderError::Image { .. }) => FailureReason::ImageUnavailable,
            ActionError::Engine(
                ProviderError::Unreachable { .. } | ProviderError::TimedOut { .. },
            ) => FailureReason::EngineUnreachable,
            ActionError::Engine(
                ProviderError::NoContainer(_)
                | ProviderError::NameTaken { .. }
                | ProviderError::Refused(_),
            ) => FailureReason::EngineRefused,
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
