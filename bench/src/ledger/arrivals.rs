//! What apps in containers tell of the requests that reach them: one number a line, before each is
//! answered.

use std::{net::TcpListener as StdListener, ops::Range, sync::Arc};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
};

use super::book::Book;

/// The containers of a machine have numbers of this range, one for each of their processes.
pub(super) fn numbers(machine: usize) -> Range<u16> {
    let first = machine as u16 * 1000;
    first..first + 1000
}

/// Writes down what the processes on one machine tell, until it is dropped.
pub(super) struct Arrivals(AbortHandle);

impl Arrivals {
    pub(super) fn of(
        machine: usize,
        listener: StdListener,
        book: &Arc<Book>,
    ) -> anyhow::Result<Self> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        Ok(Self(tokio::spawn(accept(numbers(machine), listener, book.clone())).abort_handle()))
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn accept(numbers: Range<u16>, listener: TcpListener, book: Arc<Book>) {
    // They end with it.
    let mut connections = JoinSet::new();
    for number in numbers {
        let Ok((stream, _)) = listener.accept().await else { return };
        connections.spawn(read(number, stream, book.clone()));
    }
}

async fn read(number: u16, stream: TcpStream, book: Arc<Book>) {
    let mut lines = BufReader::new(stream).lines();
    // A container that is ended in the middle of a line has not told of that request.
    while let Ok(Some(line)) = lines.next_line().await {
        if let Ok(id) = line.parse() {
            book.arrive(id, number);
        }
    }
}
