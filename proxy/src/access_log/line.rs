//! One line of a log, written field by field into a buffer.

use std::{fmt::Display, io::Write, time::SystemTime};

use weir_config::LogFormat;

/// Writes fields in the order given. Writing to a vector cannot fail, so its results are dropped.
pub(super) struct Line<'a> {
    buffer: &'a mut Vec<u8>,
    format: LogFormat,
}

impl<'a> Line<'a> {
    /// Begins with what every line of the program's log begins with.
    pub(super) fn begin(buffer: &'a mut Vec<u8>, format: LogFormat, now: SystemTime) -> Self {
        let time = humantime::format_rfc3339_micros(now);
        let _ = match format {
            LogFormat::Json => {
                write!(buffer, r#"{{"timestamp":"{time}","level":"INFO","target":"access""#)
            }
            LogFormat::Text => write!(buffer, "{time}  INFO access:"),
        };
        Self { buffer, format }
    }

    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        self.buffer.push(b'"');
        escape(value, self.buffer);
        self.buffer.push(b'"');
    }

    /// A text that has no character to escape, such as an address.
    pub(super) fn plain(&mut self, name: &str, value: impl Display) {
        self.name(name);
        let _ = write!(self.buffer, "\"{value}\"");
    }

    pub(super) fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        let _ = write!(self.buffer, "{value}");
    }

    pub(super) fn millis(&mut self, name: &str, value: std::time::Duration) {
        self.name(name);
        let micros = value.as_micros();
        let _ = write!(self.buffer, "{}.{:03}", micros / 1000, micros % 1000);
    }

    pub(super) fn end(self) {
        self.buffer.extend_from_slice(match self.format {
            LogFormat::Json => b"}\n",
            LogFormat::Text => b"\n",
        });
    }

    fn name(&mut self, name: &str) {
        let (before, after): (&[u8], &[u8]) = match self.format {
            LogFormat::Json => (b",\"", b"\":"),
            LogFormat::Text => (b" ", b"="),
        };
        self.buffer.extend_from_slice(before);
        self.buffer.extend_from_slice(name.as_bytes());
        self.buffer.extend_from_slice(after);
    }
}

/// Escapes as JSON does, which also keeps a line one line.
fn escape(text: &str, buffer: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | ..b' ' | 0x7f);
    while let Some(at) = rest.iter().position(special) {
        buffer.extend_from_slice(&rest[..at]);
        match rest[at] {
            byte @ (b'"' | b'\\') => buffer.extend([b'\\', byte]),
            byte => drop(write!(buffer, "\\u{byte:04x}")),
        }
        rest = &rest[at + 1..];
    }
    buffer.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_write_cannot_begin_a_line_or_a_field() {
        let text = "a\"b\\c\nd\u{1b}[31m\u{7f}é";
        let mut buffer = Vec::new();
        let mut line = Line::begin(&mut buffer, LogFormat::Json, SystemTime::UNIX_EPOCH);
        line.text("path", text);
        line.end();
        let written = String::from_utf8(buffer).unwrap();
        assert_eq!(written.matches('\n').count(), 1);
        assert!(!written.contains(['\u{1b}', '\u{7f}']), "{written}");
        let entry: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!(entry["path"], text);
        assert_eq!(entry["timestamp"], "1970-01-01T00:00:00.000000Z");
    }

    #[test]
    fn the_format_for_people_has_the_same_fields() {
        let mut buffer = Vec::new();
        let mut line = Line::begin(&mut buffer, LogFormat::Text, SystemTime::UNIX_EPOCH);
        line.text("path", "/a b");
        line.number("status", 200);
        line.millis("held_ms", std::time::Duration::from_micros(1_050));
        line.end();
        assert_eq!(
            String::from_utf8(buffer).unwrap(),
            "1970-01-01T00:00:00.000000Z  INFO access: path=\"/a b\" status=200 held_ms=1.050\n"
        );
    }
}
