//! What two processes say to each other over a socket: JSON, one value a line.

use std::{io, os::unix::net::UnixStream as StdUnixStream};

use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
};

#[derive(Debug)]
pub(crate) struct Channel {
    stream: BufReader<UnixStream>,
    /// A line of which only the beginning has arrived.
    begun: Vec<u8>,
}

impl Channel {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream: BufReader::new(stream), begun: Vec::new() }
    }

    pub(crate) fn from_std(stream: StdUnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self::new(UnixStream::from_std(stream)?))
    }

    pub(crate) async fn send(&mut self, message: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.stream.write_all(&line).await
    }

    /// The next message; `None` when the other side is gone. Nothing is lost if this is dropped
    /// before it returns.
    ///
    /// # Errors
    /// What was sent is not such a message.
    pub(crate) async fn receive<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        self.stream.read_until(b'\n', &mut self.begun).await?;
        if self.begun.last() != Some(&b'\n') {
            return Ok(None);
        }
        let message = serde_json::from_slice(&self.begun);
        self.begun.clear();
        Ok(Some(message?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_message_that_arrives_in_parts_is_whole_though_nobody_waited_for_it() {
        let (mut near, far) = UnixStream::pair().unwrap();
        let mut channel = Channel::new(far);
        near.write_all(b"[1,").await.unwrap();
        let impatient = std::time::Duration::from_millis(20);
        let early = tokio::time::timeout(impatient, channel.receive::<Vec<u8>>()).await;
        assert!(early.is_err());
        near.write_all(b"2]\n[3]\n[4").await.unwrap();
        drop(near);
        assert_eq!(channel.receive::<Vec<u8>>().await.unwrap(), Some(vec![1, 2]));
        assert_eq!(channel.receive::<Vec<u8>>().await.unwrap(), Some(vec![3]));
        assert_eq!(channel.receive::<Vec<u8>>().await.unwrap(), None);
    }
}
