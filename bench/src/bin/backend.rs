//! The web server behind every proxy that is measured: as little work as HTTP/1.1 allows, so that
//! the proxy is what is seen.
//!
//! `/large` is 100 KB, `/echo` echoes after an upgrade to WebSocket, and everything else is 100
//! bytes that start with the address that was connected to.
//!
//! `backend` prints the port that it listens on, at every address of this machine.

use std::{io, net::Ipv4Addr, sync::LazyLock};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const SMALL: usize = 100;
const LARGE: usize = 100_000;

/// The longest head that is understood; a request that has none in so many bytes is no request.
const LONGEST_HEAD: usize = 8 << 10;

/// The answer to the example key of RFC 6455, section 1.3, which is the only one that our load
/// sends.
const UPGRADED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

static LARGE_ANSWER: LazyLock<Vec<u8>> = LazyLock::new(|| answer(&"x".repeat(LARGE)));

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    println!("{}", listener.local_addr()?.port());
    loop {
        // A connection that is gone before it is taken concerns nobody else.
        let Ok((stream, _)) = listener.accept().await else { continue };
        tokio::spawn(serve(stream));
    }
}

/// Until the other side goes, which is how every connection here ends.
async fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let small = answer(&format!("{:<SMALL$}", stream.local_addr()?.ip()));
    let mut head = Vec::with_capacity(LONGEST_HEAD);
    loop {
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() > LONGEST_HEAD || stream.read_buf(&mut head).await? == 0 {
                return Ok(());
            }
        }
        let path = head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        match path {
            b"/echo" => return echo(stream).await,
            b"/large" => stream.write_all(&LARGE_ANSWER).await?,
            _ => stream.write_all(&small).await?,
        }
        head.clear();
    }
}

/// Frames go back as they came: to a proxy, what follows the upgrade is a tunnel.
async fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(UPGRADED.as_bytes()).await?;
    let (mut reader, mut writer) = stream.split();
    tokio::io::copy(&mut reader, &mut writer).await?;
    Ok(())
}

fn answer(body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}
