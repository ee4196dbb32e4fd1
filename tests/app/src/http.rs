//! As much of HTTP/1.1 as a server behind a proxy meets.

use std::{
    fmt,
    io::{self, BufRead, Read, Write},
    net::TcpStream,
};

/// A head longer than this is nonsense.
const HEAD_MAX: u64 = 256 * 1024;

pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    target: String,
    version: String,
    headers: Vec<(String, String)>,
}

pub(crate) struct Response {
    pub(crate) status: &'static str,
    pub(crate) body: String,
}

impl Request {
    /// The next request's head; `None` if the client is done.
    pub(crate) fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut head = reader.take(HEAD_MAX);
        let first = line(&mut head)?;
        if first.is_empty() {
            return Ok(None);
        }
        let mut parts = first.split(' ');
        let (Some(method), Some(target), Some(version)) =
            (parts.next(), parts.next(), parts.next())
        else {
            return Err(nonsense("request line"));
        };
        let path = target.split('?').next().unwrap_or_default();
        let mut request = Self {
            method: method.to_owned(),
            path: path.to_owned(),
            target: target.to_owned(),
            version: version.to_owned(),
            headers: Vec::new(),
        };
        loop {
            let line = line(&mut head)?;
            if line.is_empty() {
                return Ok(Some(request));
            }
            let (name, value) = line.split_once(':').ok_or_else(|| nonsense("header"))?;
            request.headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn keeps_alive(&self) -> bool {
        match self.header("connection") {
            Some(value) => !value.eq_ignore_ascii_case("close"),
            None => self.version != "HTTP/1.0",
        }
    }

    pub(crate) fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| percent_decode(value))
    }

    pub(crate) fn query_number(&self, name: &str) -> Option<u64> {
        self.query(name)?.parse().ok()
    }

    /// Reads the body to its end and says how long it was.
    pub(crate) fn skip_body(&self, reader: &mut impl BufRead) -> io::Result<u64> {
        if self.header("transfer-encoding").is_some_and(|value| value.contains("chunked")) {
            return skip_chunks(reader);
        }
        match self.header("content-length") {
            Some(text) => {
                let len = text.parse().map_err(|_| nonsense("content-length"))?;
                skip(reader, len)
            }
            None => Ok(0),
        }
    }
}

/// As it arrived, without its body.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {} {}", self.method, self.target, self.version)?;
        self.headers.iter().try_for_each(|(name, value)| writeln!(f, "{name}: {value}"))
    }
}

impl Response {
    pub(crate) fn ok(body: String) -> Self {
        Self { status: "200 OK", body }
    }

    pub(crate) fn write(&self, request: &Request, mut stream: &TcpStream) -> io::Result<()> {
        let connection = if request.keeps_alive() { "keep-alive" } else { "close" };
        let mut text = format!(
            "HTTP/1.1 {}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
             Connection: {connection}\r\n\r\n",
            self.status,
            self.body.len(),
        );
        if request.method != "HEAD" {
            text.push_str(&self.body);
        }
        stream.write_all(text.as_bytes())
    }
}

fn skip_chunks(reader: &mut impl BufRead) -> io::Result<u64> {
    let mut total = 0;
    loop {
        let size = line(reader)?;
        let size = size.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).map_err(|_| nonsense("chunk size"))?;
        if size == 0 {
            while !line(reader)?.is_empty() {} // trailers
            return Ok(total);
        }
        total += skip(reader, size)?;
        line(reader)?;
    }
}

fn skip(reader: &mut impl BufRead, len: u64) -> io::Result<u64> {
    match io::copy(&mut reader.take(len), &mut io::sink())? {
        read if read == len => Ok(len),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Without its end; empty also at the end of the stream.
fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn nonsense(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("bad {what}"))
}

fn percent_decode(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [bytes.next().unwrap_or(b'0'), bytes.next().unwrap_or(b'0')];
                let digits = String::from_utf8_lossy(&digits);
                u8::from_str_radix(&digits, 16).unwrap_or(b'?')
            }
            byte => byte,
        });
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Request, u64) {
        let mut reader = text.as_bytes();
        let request = Request::read(&mut reader).unwrap().unwrap();
        let body_len = request.skip_body(&mut reader).unwrap();
        assert!(reader.is_empty(), "left unread: {reader:?}");
        (request, body_len)
    }

    #[test]
    fn reads_bodies_of_both_kinds() {
        let (request, len) = parse("POST /echo?a=1 HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!((request.path.as_str(), len), ("/echo", 5));
        let (_, len) =
            parse("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
        assert_eq!(len, 3);
    }

    #[test]
    fn reads_the_query() {
        let (request, _) = parse("GET /stdout?n=7&text=a+b%21%C3%A4 HTTP/1.1\r\n\r\n");
        assert_eq!(request.query("text").as_deref(), Some("a b!ä"));
        assert_eq!(request.query_number("n"), Some(7));
        assert_eq!(request.query("none"), None);
    }
}
