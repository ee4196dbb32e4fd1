//! What is counted while messages are answered.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::{answer::Verdict, request::Rcode};

/// Of one socket, so that its thread shares them with whoever reads them and with no other.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    answered: [AtomicU64; Rcode::ALL.len()],
    ignored: AtomicU64,
    dropped: AtomicU64,
    slipped: AtomicU64,
}

impl Rcode {
    pub(crate) const ALL: [(Self, &str); 9] = [
        (Self::NoError, "NOERROR"),
        (Self::FormErr, "FORMERR"),
        (Self::ServFail, "SERVFAIL"),
        (Self::NxDomain, "NXDOMAIN"),
        (Self::NotImp, "NOTIMP"),
        (Self::Refused, "REFUSED"),
        (Self::YxDomain, "YXDOMAIN"),
        (Self::NotAuth, "NOTAUTH"),
        (Self::BadVers, "BADVERS"),
    ];

    fn index(self) -> usize {
        Self::ALL.iter().position(|(rcode, _)| *rcode == self).unwrap_or_default()
    }
}

impl Counters {
    pub(crate) fn answered(&self, verdict: Verdict) {
        self.answered[verdict.rcode.index()].fetch_add(1, Relaxed);
    }

    /// A response, or no message at all.
    pub(crate) fn ignored(&self) {
        self.ignored.fetch_add(1, Relaxed);
    }

    /// By the rate limit.
    pub(crate) fn dropped(&self) {
        self.dropped.fetch_add(1, Relaxed);
    }

    /// Answered by nothing but that there is more over TCP.
    pub(crate) fn slipped(&self) {
        self.slipped.fetch_add(1, Relaxed);
    }

    pub(crate) fn read(&self) -> Reading {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        Reading {
            answered: std::array::from_fn(|i| read(&self.answered[i])),
            ignored: read(&self.ignored),
            dropped: read(&self.dropped),
            slipped: read(&self.slipped),
        }
    }
}

/// What counters were at a moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reading {
    pub(crate) answered: [u64; Rcode::ALL.len()],
    pub(crate) ignored: u64,
    pub(crate) dropped: u64,
    pub(crate) slipped: u64,
}

impl std::ops::Add for Reading {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            answered: std::array::from_fn(|i| self.answered[i] + other.answered[i]),
            ignored: self.ignored + other.ignored,
            dropped: self.dropped + other.dropped,
            slipped: self.slipped + other.slipped,
        }
    }
}
