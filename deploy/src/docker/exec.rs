//! Running a command inside an instance.

use std::time::Duration;

use bollard::{
    errors::Error,
    exec::{CreateExecOptions, StartExecOptions, StartExecResults},
};
use futures::StreamExt;
use tokio::time::sleep;

use super::{Docker, POLL, errors::Failure, logs::Lines};
use crate::provider::{ExecOutput, LogLine, LogStream};

/// The most memory that a command's output may take; the rest is dropped.
const LARGEST_OUTPUT: usize = 1 << 20;

impl Docker {
    /// The engine cannot end a command it has begun: one that outlives `limit` runs on until it, or
    /// its container, ends.
    pub(crate) async fn exec_in(
        &self,
        id: &str,
        command: &[String],
        limit: Duration,
    ) -> Result<ExecOutput, Failure> {
        let options = CreateExecOptions {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(command.to_vec()),
            ..CreateExecOptions::default()
        };
        let request = async |client: bollard::Docker| {
            let exec = client.create_exec(id, options).await?.id;
            let attached = client.start_exec(&exec, None::<StartExecOptions>).await?;
            let lines = collect(attached).await?;
            let exit_code = exit_code(&client, &exec).await?;
            Ok(ExecOutput { exit_code, lines })
        };
        self.call("exec", limit, request).await
    }
}

/// Reads to the end, so that the command never waits for us, and keeps what there is room for.
async fn collect(attached: StartExecResults) -> Result<Vec<LogLine>, Error> {
    let StartExecResults::Attached { mut output, .. } = attached else { return Ok(Vec::new()) };
    let (mut lines, mut kept) = (Lines::default(), Vec::new());
    let mut room = LARGEST_OUTPUT;
    let mut keep = |line: LogLine| {
        let size = line.text.len() + size_of::<LogLine>();
        if size <= room {
            room -= size;
            kept.push(line);
        } else if room > 0 {
            room = 0;
            let text = format!("weir: the output is longer than {LARGEST_OUTPUT} bytes; cut here");
            kept.push(LogLine { stream: LogStream::Err, text });
        }
    };
    while let Some(chunk) = output.next().await {
        lines.push(chunk?).into_iter().for_each(&mut keep);
    }
    lines.finish().into_iter().for_each(&mut keep);
    Ok(kept)
}

/// The output may end a moment before the engine knows of the command's end.
async fn exit_code(client: &bollard::Docker, exec: &str) -> Result<i64, Error> {
    loop {
        let seen = client.inspect_exec(exec).await?;
        if let (Some(false), Some(code)) = (seen.running, seen.exit_code) {
            return Ok(code);
        }
        sleep(POLL).await;
    }
}
