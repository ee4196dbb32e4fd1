//! A WebSocket (RFC 6455) that sends back what it gets.

use std::{
    io::{self, BufRead, Read, Write},
    net::TcpStream,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    http::{Request, Response},
    ledger,
};

/// Section 1.3.
const KEY_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const FRAME_MAX: u64 = 16 * 1024 * 1024;

const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

pub(crate) fn serve(
    request: &Request,
    reader: &mut impl BufRead,
    mut stream: &TcpStream,
) -> io::Result<()> {
    let (true, Some(key)) = (asks_for_websocket(request), request.header("sec-websocket-key"))
    else {
        let body = "this path is a WebSocket\n".to_owned();
        return Response { status: "426 Upgrade Required", body }.write(request, stream);
    };
    let accept = accept(key);
    stream.write_all(
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        )
        .as_bytes(),
    )?;
    loop {
        let (first, payload) = read_frame(reader)?;
        match first & 0x0f {
            CLOSE => return stream.write_all(&frame(first, &payload)),
            PING => stream.write_all(&frame(first & 0xf0 | PONG, &payload))?,
            PONG => {}
            _ => {
                ledger::note(&String::from_utf8_lossy(&payload))?;
                stream.write_all(&frame(first, &payload))?;
            }
        }
    }
}

fn asks_for_websocket(request: &Request) -> bool {
    request.header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
}

fn accept(key: &str) -> String {
    STANDARD.encode(sha1_smol::Sha1::from(format!("{key}{KEY_SUFFIX}")).digest().bytes())
}

/// A frame's first byte (its kind, and whether it ends a message) and its payload, unmasked.
fn read_frame(reader: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let [first, second] = bytes(reader)?;
    let len = match second & 0x7f {
        126 => u16::from_be_bytes(bytes(reader)?).into(),
        127 => u64::from_be_bytes(bytes(reader)?),
        short => short.into(),
    };
    if len > FRAME_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mask = if second & 0x80 == 0 { [0; 4] } else { bytes(reader)? };
    let mut payload = vec![0; len as usize];
    reader.read_exact(&mut payload)?;
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Ok((first, payload))
}

/// Servers do not mask.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ ..126 => frame.push(len as u8),
        len @ 126..=0xffff => {
            frame.push(126);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend(payload);
    frame
}

fn bytes<const N: usize>(reader: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_as_in_the_rfc() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn unmasks_as_in_the_rfc() {
        let masked = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        let (first, payload) = read_frame(&mut masked.as_slice()).unwrap();
        assert_eq!((first, payload.as_slice()), (0x81, b"Hello".as_slice()));
        assert_eq!(frame(first, &payload), b"\x81\x05Hello");
    }

    #[test]
    fn frames_of_all_lengths_survive() {
        for len in [0, 125, 126, 0xffff, 0x1_0000] {
            let payload = vec![7; len];
            let (_, read) = read_frame(&mut frame(0x82, &payload).as_slice()).unwrap();
            assert_eq!(read, payload, "{len} bytes");
        }
    }
}
