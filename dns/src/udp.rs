//! Questions over UDP: many at a time into and out of the kernel.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{IpAddr, UdpSocket},
    os::fd::AsRawFd,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use nix::{
    cmsg_space,
    errno::Errno,
    libc::{in_pktinfo, in6_pktinfo},
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg,
        sendmmsg, setsockopt, sockopt,
    },
};
use weir_config::Snapshots;

use crate::{
    counters::Counters,
    respond::{Client, Responder, Transport, now},
};

/// How many messages one call takes from the kernel.
const BATCH: usize = 32;
/// A longer question is ignored: none has a reason to be.
const LONGEST_QUESTION: usize = 2048;
/// How soon a thread that has nothing to do notices that it is to stop.
const STOP: Duration = Duration::from_millis(250);
/// What the kernel keeps for us while we are busy, in octets.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Readies a socket that may have been another process's.
pub(crate) fn prepare(socket: &UdpSocket) -> io::Result<()> {
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(STOP))?;
    // As much of it as the system allows.
    socket2::SockRef::from(socket).set_recv_buffer_size(RECEIVE_BUFFER)?;
    let address = socket.local_addr()?.ip();
    if address.is_unspecified() {
        // An answer has to come from the address that was asked.
        match address {
            IpAddr::V4(_) => setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?,
            IpAddr::V6(_) => setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?,
        }
    }
    Ok(())
}

/// Answers what comes to a socket until it is told to stop.
pub(crate) fn serve(
    socket: &UdpSocket,
    snapshots: &Snapshots,
    responder: &Responder,
    counters: &Counters,
    is_over: &AtomicBool,
) {
    let control = control_space(socket);
    let mut questions = Box::new([[0; LONGEST_QUESTION]; BATCH]);
    let mut answers = Answers::new(control.clone());
    let mut headers = MultiHeaders::preallocate(BATCH, control);
    let mut received = Vec::with_capacity(BATCH);
    while !is_over.load(Relaxed) {
        match receive(socket, &mut headers, &mut questions, &mut received) {
            Ok(()) => {}
            Err(Errno::EAGAIN | Errno::EINTR) => continue,
            Err(error) => {
                tracing::error!(%error, "cannot receive questions");
                std::thread::sleep(STOP);
                continue;
            }
        }
        let (snapshot, now) = (snapshots.current(), now());
        for (question, from) in questions.iter().zip(&received) {
            let Some(address) = from.answerable() else {
                counters.ignored();
                continue;
            };
            let client = Client { address, transport: Transport::Udp, now };
            let answer = answers.next(from);
            responder.respond(&snapshot, &question[..from.len], client, counters, answer);
            answers.keep_unless_empty();
        }
        answers.send(socket);
    }
}

/// Room for the address of ours that was asked, and for nothing else, where there are several.
fn control_space(socket: &UdpSocket) -> Option<Vec<u8>> {
    match socket.local_addr().ok()?.ip() {
        address if !address.is_unspecified() => None,
        IpAddr::V4(_) => Some(cmsg_space!(in_pktinfo)),
        IpAddr::V6(_) => Some(cmsg_space!(in6_pktinfo)),
    }
}

/// Where a question came from.
#[derive(Clone, Copy, Debug)]
struct From {
    len: usize,
    client: Option<SockaddrStorage>,
    local: Local,
}

/// The address of ours that was asked, where the socket has several.
#[derive(Clone, Copy, Debug)]
enum Local {
    Only,
    V4(in_pktinfo),
    V6(in6_pktinfo),
}

impl From {
    /// The address of a client that can be answered: nobody listens on port 0, and one answer that
    /// the kernel refuses to send would hold up the others.
    fn answerable(&self) -> Option<IpAddr> {
        let client = self.client?;
        let address = match (client.as_sockaddr_in(), client.as_sockaddr_in6()) {
            (Some(client), _) if client.port() > 0 => IpAddr::V4(client.ip()),
            (_, Some(client)) if client.port() > 0 => IpAddr::V6(client.ip()),
            _ => return None,
        };
        Some(address.to_canonical())
    }
}

impl PartialEq for Local {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Only, Self::Only) => true,
            (Self::V4(a), Self::V4(b)) => a.ipi_spec_dst.s_addr == b.ipi_spec_dst.s_addr,
            (Self::V6(a), Self::V6(b)) => {
                (a.ipi6_addr.s6_addr, a.ipi6_ifindex) == (b.ipi6_addr.s6_addr, b.ipi6_ifindex)
            }
            _ => false,
        }
    }
}

/// Waits for the first question and takes those that are there by then.
fn receive(
    socket: &UdpSocket,
    headers: &mut MultiHeaders<SockaddrStorage>,
    questions: &mut [[u8; LONGEST_QUESTION]; BATCH],
    received: &mut Vec<From>,
) -> Result<(), Errno> {
    received.clear();
    let mut slices = questions.each_mut().map(|question| [IoSliceMut::new(question)]);
    let flags = MsgFlags::MSG_WAITFORONE;
    let messages = recvmmsg(socket.as_raw_fd(), headers, slices.iter_mut(), flags, None)?;
    for message in messages {
        let is_whole = !message.flags.contains(MsgFlags::MSG_TRUNC);
        let mut local = Local::Only;
        for control in message.cmsgs().into_iter().flatten() {
            match control {
                // The way back is for the routes to say.
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    local = Local::V4(in_pktinfo { ipi_ifindex: 0, ..info });
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => local = Local::V6(info),
                _ => {}
            }
        }
        let client = message.address.filter(|_| is_whole);
        received.push(From { len: message.bytes, client, local });
    }
    Ok(())
}

/// The answers to one batch, with buffers that are used again.
#[derive(Debug)]
struct Answers {
    buffers: [Vec<u8>; BATCH],
    to: Vec<Option<SockaddrStorage>>,
    from: Vec<Local>,
    headers: MultiHeaders<SockaddrStorage>,
}

impl Answers {
    fn new(control: Option<Vec<u8>>) -> Self {
        Self {
            buffers: std::array::from_fn(|_| Vec::with_capacity(crate::edns::PAYLOAD.into())),
            to: Vec::with_capacity(BATCH),
            from: Vec::with_capacity(BATCH),
            headers: MultiHeaders::preallocate(BATCH, control),
        }
    }

    fn next(&mut self, question: &From) -> &mut Vec<u8> {
        self.to.push(question.client);
        self.from.push(question.local);
        &mut self.buffers[self.to.len() - 1]
    }

    fn keep_unless_empty(&mut self) {
        if self.to.last().is_some() && self.buffers[self.to.len() - 1].is_empty() {
            self.to.pop();
            self.from.pop();
        }
    }

    fn send(&mut self, socket: &UdpSocket) {
        let mut sent = 0;
        while sent < self.to.len() {
            // The kernel takes one address of ours for all messages of a call.
            let local = self.from[sent];
            let alike = self.from[sent..].iter().take_while(|from| **from == local).count();
            let range = sent..sent + alike;
            sent += match self.send_some(socket, range, local) {
                Ok(0) | Err(Errno::EINTR) => 0,
                Ok(count) => count,
                // That one cannot be sent: its client, or another, is waited for by nobody.
                Err(error) => {
                    tracing::debug!(%error, "an answer cannot be sent");
                    1
                }
            };
        }
        self.to.clear();
        self.from.clear();
    }

    fn send_some(
        &mut self,
        socket: &UdpSocket,
        range: std::ops::Range<usize>,
        local: Local,
    ) -> Result<usize, Errno> {
        let slices: [_; BATCH] = std::array::from_fn(|i| [IoSlice::new(&self.buffers[i])]);
        let control = match &local {
            Local::Only => None,
            Local::V4(info) => Some(ControlMessage::Ipv4PacketInfo(info)),
            Local::V6(info) => Some(ControlMessage::Ipv6PacketInfo(info)),
        };
        let sent = sendmmsg(
            socket.as_raw_fd(),
            &mut self.headers,
            &slices[range.clone()],
            &self.to[range],
            control.as_slice(),
            MsgFlags::empty(),
        )?;
        Ok(sent.count())
    }
}
