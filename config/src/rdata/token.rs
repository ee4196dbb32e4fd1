//! Words as they stand in zone files, and what their escapes mean (RFC 1035 section 5.1).

use crate::DnsName;

/// A word of presentation form. Quotes are taken off, escapes are kept: what a `\.` means depends
/// on what the word is read as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Token {
    pub text: String,
    /// Whether any of it stood in quotes.
    pub is_quoted: bool,
}

impl Token {
    /// The bytes that are meant.
    pub(super) fn bytes(&self) -> Result<Vec<u8>, String> {
        unescape(&self.text)
    }
}

/// Splits one line into words.
///
/// # Errors
/// A quote that is not closed.
pub fn tokens(line: &str) -> Result<Vec<Token>, String> {
    let mut scanner = Scanner::default();
    line.chars().for_each(|c| scanner.take(c));
    scanner.finish()
}

/// Makes words out of characters. What separates words, and what is a comment, its user decides.
#[derive(Debug, Default)]
pub(crate) struct Scanner {
    words: Vec<Token>,
    open: Option<Token>,
    in_quotes: bool,
    after_backslash: bool,
}

impl Scanner {
    /// Whether a character now means itself and nothing else.
    pub(crate) fn is_literal(&self) -> bool {
        self.in_quotes || self.after_backslash
    }

    pub(crate) fn take(&mut self, c: char) {
        if !self.is_literal() && c.is_ascii_whitespace() {
            return self.end_word();
        }
        let word = self.open.get_or_insert_with(Token::default);
        match c {
            '"' if !self.after_backslash => {
                word.is_quoted = true;
                self.in_quotes = !self.in_quotes;
            }
            c => word.text.push(c),
        }
        self.after_backslash = c == '\\' && !self.after_backslash;
    }

    pub(crate) fn end_word(&mut self) {
        self.words.extend(self.open.take());
    }

    /// The words so far; it begins anew.
    pub(crate) fn finish(&mut self) -> Result<Vec<Token>, String> {
        self.end_word();
        let Self { words, in_quotes, after_backslash, .. } = std::mem::take(self);
        match (in_quotes, after_backslash) {
            (true, _) => Err("a quote is not closed; write `\"` at the end of the text".to_owned()),
            (_, true) => Err("nothing follows a `\\`".to_owned()),
            _ => Ok(words),
        }
    }
}

/// Resolves `\DDD` and `\X`.
pub(super) fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = match (first, tail) {
            (b'\\', [a, b, c, tail @ ..]) if [a, b, c].iter().all(|d| d.is_ascii_digit()) => {
                let digits = [a, b, c].iter().fold(0_u16, |n, d| n * 10 + u16::from(**d - b'0'));
                let byte = u8::try_from(digits)
                    .map_err(|_| format!("`\\{digits}` is not a byte; write \\000 to \\255"))?;
                bytes.push(byte);
                tail
            }
            (b'\\', [digit, ..]) if digit.is_ascii_digit() => {
                return Err(format!("`{text}`: write three digits after `\\`, as \\032"));
            }
            (b'\\', [escaped, tail @ ..]) => {
                bytes.push(*escaped);
                tail
            }
            (b'\\', []) => return Err(format!("`{text}`: nothing follows the `\\`")),
            (byte, tail) => {
                bytes.push(*byte);
                tail
            }
        };
    }
    Ok(bytes)
}

/// A name; without a final dot it is relative to `origin`, and `@` is that itself.
pub(crate) fn relative(text: &str, origin: &DnsName) -> Result<DnsName, String> {
    if text == "@" {
        return Ok(origin.clone());
    }
    let before_dot = text.strip_suffix('.');
    // An even number of backslashes is that of escaped ones.
    let escapes = |text: &str| text.len() - text.trim_end_matches('\\').len();
    let is_absolute = before_dot.is_some_and(|before| escapes(before) % 2 == 0);
    if is_absolute || origin.is_root() { text.parse() } else { format!("{text}.{origin}").parse() }
}

/// A name with its final dot.
pub(crate) fn absolute(name: &DnsName) -> String {
    if name.is_root() { ".".to_owned() } else { format!("{name}.") }
}

/// Writes bytes so that a reader takes them for one word in quotes.
pub(super) fn quote(bytes: &[u8], text: &mut String) {
    text.push('"');
    escape(bytes, b"\"\\", text);
    text.push('"');
}

/// Writes bytes with `\` before each of `special`, and what is not printable as `\DDD`.
pub(super) fn escape(bytes: &[u8], special: &[u8], text: &mut String) {
    for byte in bytes {
        match byte {
            byte if special.contains(byte) => {
                text.push('\\');
                text.push(char::from(*byte));
            }
            b' '..=b'~' => text.push(char::from(*byte)),
            byte => text.push_str(&format!("\\{byte:03}")),
        }
    }
}
