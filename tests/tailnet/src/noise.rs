//! The control server's side of the handshake with a device.

use base64::{Engine, engine::general_purpose::STANDARD};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_util::{
    codec::{FramedRead, FramedWrite},
    io::{SinkWriter, StreamReader},
};
use ts_control_noise::{Codec, Rx, Tx};
use ts_keys::MachineKeyPair;
use ts_noise::ik::ReceivedHandshake;

/// Before the handshake: the version, the type of the message, and its length.
const VERSION: usize = 2;
const HEADER: usize = 3;
/// The type of the message that answers an initiation.
const RESPONSE: u8 = 2;

/// A handshake that a device began.
pub(crate) struct Begun(ReceivedHandshake);

/// Reads what a device sends in the header `X-Tailscale-Handshake`.
pub(crate) fn begin(header: &[u8], keys: &MachineKeyPair) -> Option<Begun> {
    let mut message = STANDARD.decode(header).ok()?;
    let version = u16::from_be_bytes(message.get(..VERSION)?.try_into().ok()?);
    let prologue = format!("Tailscale Control Protocol v{version}");
    let packet = message.get_mut(VERSION + HEADER..)?;
    let keys = keys.to_x25519_dalek();
    ReceivedHandshake::new(packet, prologue.as_bytes(), &keys).map(Begun)
}

impl Begun {
    /// Answers on the upgraded connection; what follows on it is sealed.
    pub(crate) async fn finish(
        self,
        mut connection: impl AsyncRead + AsyncWrite + Send + Unpin,
    ) -> std::io::Result<impl AsyncRead + AsyncWrite + Send + Unpin> {
        let mut answer = [0; ReceivedHandshake::RESP_SIZE];
        let session = self.0.finish(&mut answer);
        let length = u16::try_from(answer.len()).map_err(std::io::Error::other)?.to_be_bytes();
        connection.write_all(&[RESPONSE, length[0], length[1]]).await?;
        connection.write_all(&answer).await?;
        connection.flush().await?;
        let (read, write) = tokio::io::split(connection);
        let read = FramedRead::new(read, Codec::<Rx>::from(session.initiator_to_responder));
        let write = FramedWrite::new(write, Codec::<Tx>::from(session.responder_to_initiator));
        Ok(tokio::io::join(StreamReader::new(read), SinkWriter::new(write)))
    }
}
