//! Log lines, written by a thread of their own: no request waits for a terminal or a disk.

use std::io::IsTerminal;

use anyhow::{Context, bail};
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::EnvFilter;
use weir_config::{LogFormat, Settings};
use weir_proxy::{AccessLog, AccessLogGuard};

/// What libraries say that an operator has no use for, unless asked for by name: every
/// request that a scanner does not end as an error.
const QUIET: &str = "pingora_core=off,pingora_proxy=off,bollard=info";
/// What says more than `info` of itself, whatever is asked for, is what must not be logged: the
/// bodies of calls to the engine, with the secrets of apps in them.
const SECRETIVE: &str = "bollard";

/// Begins logging to standard output. Lines are written until the guard is dropped; when more come
/// than can be written, the newest are dropped and no one waits.
pub(crate) fn init(format: LogFormat, level: &str) -> anyhow::Result<WorkerGuard> {
    let filter = EnvFilter::try_new(format!("{QUIET},{level}")).with_context(|| {
        format!("`{level}` is not a log level; write it like info or weir=debug")
    })?;
    if level.contains(SECRETIVE) {
        bail!(
            "`{level}` asks for the bodies of calls to the engine, with the secrets of apps; \
               leave {SECRETIVE} out"
        );
    }
    let (writer, guard) = tracing_appender::non_blocking(std::io::stdout());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stdout().is_terminal())
        .with_writer(writer);
    match format {
        LogFormat::Json => log.json().flatten_event(true).with_current_span(false).init(),
        LogFormat::Text => log.with_target(false).compact().init(),
    }
    Ok(guard)
}

/// Begins the access log, if there is to be one, on standard output as well: each batch of lines is
/// one write, until the guard is dropped.
pub(crate) fn access(settings: &Settings) -> anyhow::Result<Option<(AccessLog, AccessLogGuard)>> {
    let start = || AccessLog::start(settings.log_format, std::io::stdout());
    settings.access_log.then(start).transpose().context("the access log cannot be started")
}
