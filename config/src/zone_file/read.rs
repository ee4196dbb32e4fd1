//! Reading a zone file, with every problem and its line.

use super::{Entry, WrittenType, seconds};
use crate::{
    DnsName, Place, Problem, Problems,
    rdata::{self, Scanner, Token, relative},
};

/// More problems than this in one file are not worth printing.
const MAX_PROBLEMS: usize = 100;

/// Reads a zone file. Names are relative to `origin` until the file says another one. `found` is
/// given each record, and may find something wrong with it.
///
/// # Errors
/// Every problem with its line, up to a hundred. `found` was given what could be read.
pub fn read(
    text: &str,
    origin: &DnsName,
    mut found: impl FnMut(Entry) -> Result<(), String>,
) -> Result<(), Problems> {
    let mut reader = Reader { origin: origin.clone(), owner: None, ttl: None };
    let mut problems = Problems::default();
    for line in (Lines { text, at: 0 }) {
        if let Err(why) =
            line.words.and_then(|words| match reader.entry(&words, line.is_indented, line.at)? {
                Some(entry) => found(entry),
                None => Ok(()),
            })
        {
            let place = Some(Place { line: line.at, column: 1 });
            problems.push(Problem { place, ..Problem::new("", "bad_record", why) });
        }
        if problems.0.len() == MAX_PROBLEMS {
            let place = Some(Place { line: line.at, column: 1 });
            let why = "there are too many problems; the rest of the file was not read";
            problems.push(Problem { place, ..Problem::new("", "too_many", why) });
            break;
        }
    }
    problems.or_value(())
}

/// What one line hands on to the next.
struct Reader {
    origin: DnsName,
    owner: Option<DnsName>,
    /// Of `$TTL`, else of the record before (RFC 1035 section 5.1).
    ttl: Option<Ttl>,
}

#[derive(Clone, Copy)]
enum Ttl {
    Default(u32),
    Former(u32),
}

impl Reader {
    fn entry(
        &mut self,
        words: &[Token],
        is_indented: bool,
        line: usize,
    ) -> Result<Option<Entry>, String> {
        let mut words = words;
        let Some(first) = words.first() else { return Ok(None) };
        if first.text.starts_with('$') && !is_indented && !first.is_quoted {
            self.directive(&first.text.clone(), &words[1..])?;
            return Ok(None);
        }
        if !is_indented {
            // A record that is wrong still says whose the lines below it are.
            self.owner = None;
            self.owner = Some(relative(&first.text, &self.origin)?);
            words = &words[1..];
        }
        let (mut ttl, mut has_class) = (None, false);
        let rtype = loop {
            let Some((word, rest)) = words.split_first() else {
                return Err("a record has a name, a type and data, as `www A 192.0.2.1`".to_owned());
            };
            words = rest;
            match word.text.as_str() {
                text if text.eq_ignore_ascii_case("IN") && !has_class => has_class = true,
                text if ["CH", "HS", "CS"].iter().any(|c| text.eq_ignore_ascii_case(c)) => {
                    return Err(format!("the class {text} is not served, only IN"));
                }
                text if ttl.is_none() && text.starts_with(|c: char| c.is_ascii_digit()) => {
                    ttl = Some(seconds(text)?);
                }
                text => break text.parse::<WrittenType>()?,
            }
        };
        let Some(name) = self.owner.clone() else {
            return Err("no line above says whose record this is".to_owned());
        };
        let data = rdata::parse(rtype.form(), words, &self.origin)?;
        let ttl = match (ttl, self.ttl) {
            (Some(own), Some(Ttl::Default(_))) => Some(own),
            (Some(own), _) => {
                self.ttl = Some(Ttl::Former(own));
                Some(own)
            }
            (None, known) => known.map(|(Ttl::Default(ttl) | Ttl::Former(ttl))| ttl),
        };
        Ok(Some(Entry { name, ttl, rtype, data, line }))
    }

    fn directive(&mut self, name: &str, words: &[Token]) -> Result<(), String> {
        match (name.to_ascii_uppercase().as_str(), words) {
            ("$ORIGIN", [origin]) => self.origin = relative(&origin.text, &self.origin)?,
            ("$TTL", [ttl]) => self.ttl = Some(Ttl::Default(seconds(&ttl.text)?)),
            ("$ORIGIN", _) => return Err("write one name, as `$ORIGIN example.com.`".to_owned()),
            ("$TTL", _) => return Err("write one time, as `$TTL 1h`".to_owned()),
            ("$INCLUDE", _) => {
                return Err("other files are not read; put its lines here".to_owned());
            }
            _ => return Err(format!("`{name}` is not known; there are $ORIGIN and $TTL")),
        }
        Ok(())
    }
}

/// The lines of a file, those in parentheses as one.
struct Lines<'a> {
    text: &'a str,
    at: usize,
}

struct Line {
    words: Result<Vec<Token>, String>,
    /// Whether it begins with a blank, and so has no name of its own.
    is_indented: bool,
    at: usize,
}

impl Iterator for Lines<'_> {
    type Item = Line;

    fn next(&mut self) -> Option<Line> {
        if self.text.is_empty() {
            return None;
        }
        let begun = self.at + 1;
        let is_indented = self.text.starts_with([' ', '\t']);
        let (mut scanner, mut depth, mut trouble) = (Scanner::default(), 0_usize, None);
        loop {
            let (line, rest) = self.text.split_once('\n').unwrap_or((self.text, ""));
            self.at += 1;
            for c in line.strip_suffix('\r').unwrap_or(line).chars() {
                match c {
                    ';' if !scanner.is_literal() => break,
                    '(' | ')' if !scanner.is_literal() => {
                        scanner.end_word();
                        match depth.checked_add_signed(if c == '(' { 1 } else { -1 }) {
                            Some(next) => depth = next,
                            None => trouble = Some("a `)` closes nothing"),
                        }
                    }
                    c => scanner.take(c),
                }
            }
            let is_last = rest.is_empty();
            // In quotes a line may end: the text goes on in the next one (RFC 1035 section 5.1).
            // Hardly anybody means that, so it is an error, and found where it began.
            self.text = rest;
            if depth == 0 || is_last || scanner.is_literal() {
                break;
            }
            scanner.end_word();
        }
        if depth > 0 && !scanner.is_literal() {
            trouble = Some("a `(` is not closed");
        }
        let words = scanner.finish();
        let words = trouble.map_or(words, |why| Err(why.to_owned()));
        Some(Line { words, is_indented, at: begun })
    }
}
