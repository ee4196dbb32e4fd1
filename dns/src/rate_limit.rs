//! Response rate limiting: nobody is flooded with answers to questions that others ask in its name.
//!
//! Who gets an answer is a network, and answers that differ only in what a stranger can choose
//! freely are the same one: every name that does not exist below another, say. So the table needs
//! no names, and what strangers ask does not make it grow.

use std::{
    hash::{BuildHasher, Hash, Hasher},
    net::IpAddr,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
};

use foldhash::quality::RandomState;

use crate::{
    answer::{Kind, Verdict},
    name::NameBuf,
    request::Request,
};

/// How many answers of a kind a network may get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Of the same answer to a network (IPv4: /24, IPv6: /56) in a second; at least one.
    pub per_second: u32,
    /// One in so many of the others is told to come by TCP, so that who is asking truly gets its
    /// answer; 0 for none.
    pub slip: u32,
}

impl Default for Rate {
    fn default() -> Self {
        Self { per_second: 20, slip: 2 }
    }
}

/// What is done with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ruling {
    Answer,
    Slip,
    Drop,
}

/// 512 KiB.
const SLOTS: usize = 1 << 16;
/// A network may get so many seconds' worth of answers at once.
const BURST_SECONDS: u64 = 1;
const MICROS: u64 = 1_000_000;

#[derive(Debug)]
pub(crate) struct RateLimit {
    rate: Rate,
    /// Keyed, so that nobody can aim at another's slots.
    key: RandomState,
    /// When each would be full again, in microseconds: the generic cell rate algorithm.
    slots: Box<[AtomicU64]>,
    refused: AtomicU32,
}

impl RateLimit {
    pub(crate) fn new(rate: Rate) -> Self {
        let slots = (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        Self { rate, key: RandomState::default(), slots, refused: AtomicU32::new(0) }
    }

    /// `now` is in microseconds.
    pub(crate) fn rule(
        &self,
        request: &Request<'_>,
        verdict: Verdict,
        client: IpAddr,
        now: u64,
    ) -> Ruling {
        let hash = self.hash(request, verdict, client);
        // An answer has two slots and needs room in one. So those that meet in a slot by chance do
        // not take each other's room, unless they do in both.
        let slots = [hash as usize % SLOTS, (hash >> 32) as usize % SLOTS];
        let has_room = slots.map(|slot| self.take(slot, now)).contains(&true);
        if has_room {
            return Ruling::Answer;
        }
        let refused = self.refused.fetch_add(1, Relaxed);
        match self.rate.slip {
            0 => Ruling::Drop,
            slip if refused.is_multiple_of(slip) => Ruling::Slip,
            _ => Ruling::Drop,
        }
    }

    fn take(&self, slot: usize, now: u64) -> bool {
        let interval = MICROS / u64::from(self.rate.per_second.max(1));
        let slot = &self.slots[slot];
        let full_at = slot.load(Relaxed).max(now);
        if full_at + interval > now + BURST_SECONDS * MICROS {
            return false;
        }
        // Two threads may take the same place: then one answer more is given.
        slot.store(full_at + interval, Relaxed);
        true
    }

    fn hash(&self, request: &Request<'_>, verdict: Verdict, client: IpAddr) -> u64 {
        let mut hasher = self.key.build_hasher();
        match client {
            IpAddr::V4(address) => hasher.write_u32(address.to_bits() >> 8),
            IpAddr::V6(address) => hasher.write_u128(address.to_bits() >> 72),
        }
        verdict.rcode.hash(&mut hasher);
        std::mem::discriminant(&verdict.kind).hash(&mut hasher);
        let (common, rtype) = match verdict.kind {
            Kind::Data => (Some(0), request.question.map(|question| question.rtype)),
            Kind::Synthesized(at) => (Some(at), request.question.map(|question| question.rtype)),
            Kind::Negative(at) | Kind::Referral(at) => (Some(at), None),
            Kind::Error => (None, None),
        };
        rtype.hash(&mut hasher);
        if let (Some(at), Some(question)) = (common, request.question) {
            NameBuf::new(&question.name[at..]).wire().hash(&mut hasher);
        }
        hasher.finish()
    }
}
