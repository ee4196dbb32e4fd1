//! What an instance wrote, line by line.

use std::{collections::VecDeque, time::Duration};

use bollard::{container::LogOutput, query_parameters::LogsOptions};
use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio::time::timeout;
use weir_config::InstanceId;

use super::{CALL, Docker};
use crate::provider::{LogLine, LogStream, ProviderError, Stream};

/// A longer line is told in pieces: nothing is lost, and one that never ends costs no more memory.
const LONGEST_LINE: usize = 16 << 10;

impl Docker {
    pub(crate) async fn log_lines(
        &self,
        instance: &InstanceId,
        tail: Option<usize>,
        follow: bool,
    ) -> Result<Stream<LogLine>, ProviderError> {
        let container = self.get(instance).await?;
        let options = LogsOptions {
            follow,
            stdout: true,
            stderr: true,
            tail: tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string()),
            ..LogsOptions::default()
        };
        let docker = self.clone();
        let chunks = self.client(CALL)?.logs(&container.id, Some(options));
        let chunks = chunks
            .map(move |chunk| Ok(chunk.map_err(|error| docker.failure(error, "logs", CALL))?));
        // An app may be silent for as long as it likes, but what is written already comes at once.
        let silence = if follow { Duration::MAX } else { CALL };
        let reader = Reader {
            chunks: chunks.boxed(),
            silence,
            lines: Lines::default(),
            ready: VecDeque::new(),
            ended: false,
        };
        let next = async |mut reader: Reader| Some((reader.next().await?, reader));
        Ok(stream::unfold(reader, next).boxed())
    }
}

/// Turns the engine's chunks into lines, one at a time.
struct Reader {
    chunks: Stream<LogOutput>,
    silence: Duration,
    lines: Lines,
    ready: VecDeque<LogLine>,
    ended: bool,
}

impl Reader {
    async fn next(&mut self) -> Option<Result<LogLine, ProviderError>> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(Ok(line));
            }
            if self.ended {
                return None;
            }
            match timeout(self.silence, self.chunks.next()).await {
                Ok(Some(Ok(chunk))) => self.ready.extend(self.lines.push(chunk)),
                Ok(None) => {
                    self.ended = true;
                    self.ready.extend(self.lines.finish());
                }
                Ok(Some(Err(error))) => {
                    self.ended = true;
                    return Some(Err(error));
                }
                Err(_) => {
                    self.ended = true;
                    let (call, limit) = ("logs", self.silence);
                    return Some(Err(ProviderError::TimedOut { call: call.into(), limit }));
                }
            }
        }
    }
}

/// Cuts the chunks of two streams into lines. A chunk may hold a part of a line, or many lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    out: Vec<u8>,
    err: Vec<u8>,
}

impl Lines {
    /// The lines that are complete with this chunk.
    pub(crate) fn push(&mut self, chunk: LogOutput) -> Vec<LogLine> {
        let (stream, message) = split(chunk);
        let partial = match stream {
            LogStream::Out => &mut self.out,
            LogStream::Err => &mut self.err,
        };
        let mut lines = Vec::new();
        for piece in message.split_inclusive(|byte| *byte == b'\n') {
            partial.extend_from_slice(piece);
            while partial.len() > LONGEST_LINE && partial.get(LONGEST_LINE) != Some(&b'\n') {
                let rest = partial.split_off(char_boundary(partial, LONGEST_LINE));
                lines.push(line(stream, partial));
                *partial = rest;
            }
            if partial.last() == Some(&b'\n') {
                lines.push(line(stream, partial));
                partial.clear();
            }
        }
        lines
    }

    /// The lines that nobody ended.
    pub(crate) fn finish(&mut self) -> Vec<LogLine> {
        let rest = [(LogStream::Out, &mut self.out), (LogStream::Err, &mut self.err)];
        let unfinished = rest.into_iter().filter(|(_, partial)| !partial.is_empty());
        unfinished.map(|(stream, partial)| line(stream, &std::mem::take(partial))).collect()
    }
}

/// The engine's own errors ("Error grabbing logs") come in a third stream that bollard does not
/// know: it hands them out with their header.
fn split(chunk: LogOutput) -> (LogStream, Bytes) {
    match chunk {
        LogOutput::StdOut { message } | LogOutput::StdIn { message } => (LogStream::Out, message),
        LogOutput::StdErr { message } => (LogStream::Err, message),
        LogOutput::Console { message } if message.starts_with(&[3, 0, 0, 0]) => {
            (LogStream::Err, message.slice(message.len().min(8)..))
        }
        LogOutput::Console { message } => (LogStream::Err, message),
    }
}

fn line(stream: LogStream, bytes: &[u8]) -> LogLine {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    LogLine { stream, text: String::from_utf8_lossy(bytes).into_owned() }
}

/// The last place at or before `at` that does not cut a character of UTF-8 in two.
fn char_boundary(bytes: &[u8], at: usize) -> usize {
    let starts = |i: &usize| bytes[*i] & 0b1100_0000 != 0b1000_0000;
    (at - 3..=at).rev().find(starts).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(message: impl Into<Bytes>) -> LogOutput {
        LogOutput::StdOut { message: message.into() }
    }

    fn err(message: impl Into<Bytes>) -> LogOutput {
        LogOutput::StdErr { message: message.into() }
    }

    fn read(chunks: Vec<LogOutput>) -> Vec<(LogStream, String)> {
        let mut lines = Lines::default();
        let mut read: Vec<_> = chunks.into_iter().flat_map(|chunk| lines.push(chunk)).collect();
        read.extend(lines.finish());
        read.into_iter().map(|line| (line.stream, line.text)).collect()
    }

    #[test]
    fn lines_are_whole_whatever_the_chunks_are() {
        use LogStream::{Err, Out};
        let chunks = vec![
            out("one\r\ntw"),
            err("oh"),
            out("o\n\nthr"),
            err(" no\n"),
            out(&b"\xff\n"[..]),
            LogOutput::Console { message: (&b"\x03\0\0\0\0\0\0\x05error\n"[..]).into() },
            out("last"),
        ];
        let expected = [
            (Out, "one"),
            (Out, "two"),
            (Out, ""),
            (Err, "oh no"),
            (Out, "thr\u{fffd}"),
            (Err, "error"),
            (Out, "last"),
        ];
        assert_eq!(read(chunks), expected.map(|(stream, text)| (stream, text.to_owned())));
    }

    #[test]
    fn a_line_without_end_comes_in_pieces_and_none_of_it_is_lost() {
        // Two bytes each, and an odd start, so that every limit falls within a character.
        let text = format!("a{}", "é".repeat(LONGEST_LINE));
        let chunks = text.as_bytes().chunks(1000).map(|chunk| out(chunk.to_vec())).collect();
        let pieces = read(chunks);
        assert_eq!(pieces.len(), 3);
        assert!(pieces.iter().all(|(_, piece)| piece.len() <= LONGEST_LINE));
        assert_eq!(pieces.into_iter().map(|(_, piece)| piece).collect::<String>(), text);
    }

    #[test]
    fn a_line_of_just_the_limit_is_one_line() {
        let text = "x".repeat(LONGEST_LINE);
        let pieces = read(vec![out(format!("{text}\nnext\n"))]);
        assert_eq!(pieces.len(), 2);
        assert_eq!(pieces[0].1, text);
    }
}
