//! What two processes say to each other over a socket: JSON, one value a line.

use std::{io, os::unix::net::UnixStream as StdUnixStream};

use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};

#[derive(Debug)]
pub(crate) struct Channel {
    receiver: Receiver,
    sender: Sender,
}

#[derive(Debug)]
pub(crate) struct Receiver {
    stream: BufReader<OwnedReadHalf>,
    /// A line of which only the beginning has arrived.
    begun: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Sender {
    stream: OwnedWriteHalf,
    line: Vec<u8>,
    /// How much of the line is on its way.
    sent: usize,
}

impl Channel {
    pub(crate) fn new(stream: UnixStream) -> Self {
        let (read, write) = stream.into_split();
        let receiver = Receiver { stream: BufReader::new(read), begun: Vec::new() };
        Self { receiver, sender: Sender { stream: write, line: Vec::new(), sent: 0 } }
    }

    /// Both sides of it, for whoever must go on listening while the other side is slow to listen.
    pub(crate) fn split(&mut self) -> (&mut Receiver, &mut Sender) {
        (&mut self.receiver, &mut self.sender)
    }

    pub(crate) fn from_std(stream: StdUnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self::new(UnixStream::from_std(stream)?))
    }

    pub(crate) async fn send(&mut self, message: &impl Serialize) -> io::Result<()> {
        self.sender.begin(message)?;
        self.sender.flush().await
    }

    /// As [`Receiver::receive`].
    pub(crate) async fn receive<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        self.receiver.receive().await
    }
}

impl Sender {
    /// Whether nothing is on its way. Who waits for this before the next message has one message
    /// in memory, and tells the latest state, however slow the other side is.
    pub(crate) fn is_idle(&self) -> bool {
        self.line.is_empty()
    }

    /// Makes a message ready for [`flush`](Self::flush).
    pub(crate) fn begin(&mut self, message: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.line, message)?;
        self.line.push(b'\n');
        Ok(())
    }

    /// Sends what is ready. If this is dropped before it returns, the next call goes on with the
    /// rest.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        while self.sent < self.line.len() {
            match self.stream.write(&self.line[self.sent..]).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                sent => self.sent += sent,
            }
        }
        (self.line, self.sent) = (Vec::new(), 0);
        Ok(())
    }
}

impl Receiver {
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
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn both_sides_may_say_much_at_once_and_be_interrupted() {
        let (near, far) = UnixStream::pair().unwrap();
        // More than any socket's buffers hold.
        let much = "word ".repeat(1 << 20);
        let speak = async |stream| {
            let mut channel = Channel::new(stream);
            let (receiver, sender) = channel.split();
            sender.begin(&much).unwrap();
            let mut heard = None::<String>;
            let mut interruptions = tokio::time::interval(Duration::from_millis(1));
            while heard.is_none() || !sender.is_idle() {
                tokio::select! {
                    message = receiver.receive(), if heard.is_none() => heard = message.unwrap(),
                    sent = sender.flush(), if !sender.is_idle() => sent.unwrap(),
                    _ = interruptions.tick() => {}
                }
            }
            (heard.as_deref() == Some(&much), channel)
        };
        let both = async { tokio::join!(speak(near), speak(far)) };
        let ((one, _), (other, _)) =
            tokio::time::timeout(Duration::from_secs(20), both).await.expect("a deadlock");
        assert!(one && other);
    }

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
