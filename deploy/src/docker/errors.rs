//! What the engine's refusals, and its silence, mean to control.

use std::{error::Error as _, io, time::Duration};

use bollard::errors::Error;
use weir_config::InstanceId;

use super::Docker;
use crate::provider::ProviderError;

/// Why a request failed, before it is said what it was about.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The engine's own words, and the HTTP status that came with them.
    Refused {
        status: u16,
        message: String,
    },
    Known(ProviderError),
}

impl Failure {
    /// The failure of a request about an instance's container.
    pub(crate) fn of(self, instance: &InstanceId) -> ProviderError {
        match self {
            // A 404 may also be about something else: an exec, a network, a volume's plugin.
            Self::Refused { status: 404, message }
                if message.to_lowercase().contains("container") =>
            {
                ProviderError::NoContainer(instance.clone())
            }
            other => other.into(),
        }
    }
}

impl From<Failure> for ProviderError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused { message, .. } => Self::Refused(message),
            Failure::Known(error) => error,
        }
    }
}

impl Docker {
    pub(crate) fn failure(&self, error: Error, call: &'static str, limit: Duration) -> Failure {
        let unreachable = |reason| {
            let endpoint = self.endpoint.to_string();
            Failure::Known(ProviderError::Unreachable { endpoint, reason })
        };
        match error {
            Error::DockerResponseServerError { status_code, message } => {
                Failure::Refused { status: status_code, message }
            }
            Error::DockerStreamError { error } => Failure::Refused { status: 500, message: error },
            Error::RequestTimeoutError => {
                Failure::Known(ProviderError::TimedOut { call: call.into(), limit })
            }
            Error::IOError { err } => unreachable(reason(&err)),
            Error::HyperResponseError { .. } => unreachable(broken(&error)),
            other => Failure::Known(ProviderError::Refused(format!(
                "its answer was not understood: {other}"
            ))),
        }
    }
}

/// Why a connection could not be made or broke.
fn broken(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(error) = inner.downcast_ref::<io::Error>() {
            return reason(error);
        }
        text = inner.to_string();
        cause = inner.source();
    }
    format!("the connection broke: {text}")
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such socket; is dockerd running?".to_owned(),
        io::ErrorKind::ConnectionRefused => "nothing listens there; is dockerd running?".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "permission denied; add this user to the `docker` group, or run as root".to_owned()
        }
        // In the words of TLS, of SSH, or of a file that is needed for them.
        io::ErrorKind::Other | io::ErrorKind::InvalidData => error.to_string(),
        _ => format!("the connection broke: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener, path::Path};

    use weir_config::HostName;

    use super::*;
    use crate::Provider;

    async fn reason_at(socket: &Path) -> String {
        match Docker::new(HostName::local(), socket, "test").info().await {
            Err(ProviderError::Unreachable { endpoint, reason }) => {
                assert_eq!(endpoint, socket.display().to_string());
                reason
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn whoever_cannot_reach_the_engine_learns_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing.sock");
        assert!(reason_at(&missing).await.contains("no such socket; is dockerd running?"));

        let abandoned = directory.path().join("abandoned.sock");
        drop(UnixListener::bind(&abandoned).unwrap());
        assert!(reason_at(&abandoned).await.contains("nothing listens"));

        let denied = reason(&io::ErrorKind::PermissionDenied.into());
        assert!(denied.contains("`docker` group"), "{denied}");
    }

    #[tokio::test]
    async fn an_engine_that_hangs_up_is_out_of_reach() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("rude.sock");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move { while listener.accept().await.is_ok() {} });
        assert!(reason_at(&socket).await.contains("the connection broke"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_never_answers_becomes_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("hung.sock");
        let _listener = UnixListener::bind(&socket).unwrap();
        let docker = Docker::new(HostName::local(), &socket, "test");
        let limit = super::super::CALL;
        for result in [docker.info().await.err(), docker.events().await.err()] {
            assert!(
                matches!(result, Some(ProviderError::TimedOut { limit: l, .. }) if l == limit),
                "{result:?}"
            );
        }
    }
}
