//! `weir logs`: what an app's processes write.

use clap::Args;
use reqwest::Method;
use weir_control::api::wire::LogRecord;

use super::{
    client::Connection,
    client_error::ClientError,
    outcome::{Outcome, say, say_aside},
};

/// Print what an app's processes write.
///
/// What they write to standard error is printed to standard error. If the app has several
/// instances, each line begins with the name of its instance.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir logs shop
  weir logs shop --tail 20 -f
  weir logs shop 2>/dev/null | grep GET")]
pub(crate) struct Logs {
    /// The name of the app
    app: String,
    /// Go on with the lines to come, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Begin with the last N lines of each instance [default: 100]
    #[arg(long, value_name = "N")]
    tail: Option<usize>,
    #[command(flatten)]
    connection: Connection,
}

impl Logs {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        let client = self.connection.open()?;
        let instances = client.instances_of(&self.app).await?;
        let several = instances.iter().filter(|i| i.container.is_some()).count() > 1;
        let tail = self.tail.map(|n| n.to_string());
        let mut query = vec![("follow", if self.follow { "true" } else { "false" })];
        query.extend(tail.as_deref().map(|n| ("tail", n)));
        let request = client.request(Method::GET, &["apps", &self.app, "logs"], &query);
        let mut answer = client.send(request).await?;
        let mut lines = Lines::default();
        while let Some(chunk) = answer.chunk().await.map_err(ClientError::interrupted)? {
            for line in lines.split(&chunk) {
                print(&serde_json::from_slice(&line)?, several)?;
            }
        }
        Ok(Outcome::Done)
    }
}

fn print(record: &LogRecord, with_instance: bool) -> std::io::Result<()> {
    let line = match with_instance {
        true => format!("{} | {}", record.instance, record.text),
        false => record.text.clone(),
    };
    if record.stream == "stderr" { say_aside(line) } else { say(line) }
}

/// Puts together the lines that the network has cut anywhere.
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// The lines that this chunk completes.
    fn split(&mut self, chunk: &[u8]) -> Vec<Vec<u8>> {
        self.rest.extend_from_slice(chunk);
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else {
            return Vec::new();
        };
        let rest = self.rest.split_off(end + 1);
        let whole = std::mem::replace(&mut self.rest, rest);
        let lines = whole.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(<[u8]>::to_vec).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_survive_being_cut_anywhere() {
        let text = b"{\"a\":1}\n{\"b\":\"\xc3\xa9\"}\n{\"c\":3}\n";
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let found: Vec<_> = text.chunks(size).flat_map(|chunk| lines.split(chunk)).collect();
            assert_eq!(found.join(&b'\n'), text[..text.len() - 1], "chunks of {size}");
        }
    }
}
