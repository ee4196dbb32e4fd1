//! A zone as a whole, for those that keep a copy of it (RFC 5936; RFC 1995 as far as it lets a
//! server send the whole).

use std::{
    net::IpAddr,
    sync::{Arc, atomic::AtomicU64},
};

use hickory_proto::{op::Message, rr::RData};
use weir_config::{DnsName, RecordSet, RecordType, Snapshot, Zone};

use crate::{
    answer::{Kind, Verdict, done},
    edns::Options,
    name::NameBuf,
    request::{CLASS_IN, Question, Rcode, Request},
    respond::MOST,
    tsig::{Rejected, Signer, verify},
    writer::Writer,
};

/// How long messages are: compressed names can point to all of one, and clients that read one at a
/// time do not wait long.
const MESSAGE: usize = 16 << 10;

/// What has come of transfers and of telling secondaries.
#[derive(Debug, Default)]
pub(crate) struct TransferCounters {
    pub(crate) sent: AtomicU64,
    pub(crate) denied: AtomicU64,
    pub(crate) heard: AtomicU64,
    pub(crate) silent: AtomicU64,
}

/// A zone on its way.
#[derive(Debug)]
pub(crate) struct Transfer {
    zone: Arc<Zone>,
    /// Whether the client has it already, and gets its SOA only.
    is_current: bool,
    signer: Option<Signer>,
}

/// Why a zone is not sent.
#[derive(Debug)]
pub(crate) enum Denied {
    Rcode(Rcode),
    Signature(Rejected),
}

/// Whether a question asks for a zone as a whole.
pub(crate) fn is_asked_for(question: &Question<'_>) -> bool {
    question.class == CLASS_IN && matches!(question.rtype, RecordType::AXFR | RecordType::IXFR)
}

/// Looks whether a client may have a zone: one of its secondaries, and if that has a key, only with
/// its signature. `now` is in seconds since 1970.
pub(crate) fn begin(
    snapshot: &Snapshot,
    request: &Request<'_>,
    question: &Question<'_>,
    client: IpAddr,
    now: u64,
) -> Result<Transfer, Denied> {
    let name = NameBuf::new(question.name);
    let zone = snapshot.zone_of(name.wire()).filter(|zone| zone.name().wire() == name.wire());
    // A zone that is not ready, or not ours, is none that we could send.
    let Some(zone) = zone.filter(|zone| zone.soa().is_some()) else {
        return Err(Denied::Rcode(Rcode::NotAuth));
    };
    let signer = request.is_signed.then(|| signer(Some(&**zone), request, now)).transpose()?;
    let may = zone.secondaries().iter().any(|secondary| {
        let is_key = secondary.key.as_deref() == signer.as_ref().map(Signer::key);
        secondary.address.ip().to_canonical() == client && is_key
    });
    if !may {
        return Err(Denied::Rcode(Rcode::Refused));
    }
    let is_current = question.rtype == RecordType::IXFR
        && known_serial(request.message).is_some_and(|known| is_at_least(known, zone.serial()));
    Ok(Transfer { zone: zone.clone(), is_current, signer })
}

/// Who has signed a question about a zone.
pub(crate) fn signer(
    zone: Option<&Zone>,
    request: &Request<'_>,
    now: u64,
) -> Result<Signer, Denied> {
    let secondaries = zone.into_iter().flat_map(|zone| zone.secondaries().iter());
    let keys = secondaries.filter_map(|secondary| secondary.key.as_ref());
    verify(request.message, keys, now).map_err(|rejected| match rejected {
        Some(rejected) => Denied::Signature(rejected),
        None => Denied::Rcode(Rcode::FormErr),
    })
}

impl Denied {
    /// The answer. `now` is in seconds since 1970.
    pub(crate) fn write(
        self,
        request: &Request<'_>,
        question: Question<'_>,
        now: u64,
        out: &mut Vec<u8>,
    ) -> Verdict {
        let rcode = match &self {
            Self::Rcode(rcode) => *rcode,
            Self::Signature(_) => Rcode::NotAuth,
        };
        let verdict = Verdict::error(rcode);
        Writer::new(out, question, MOST, 0).finish(request, verdict, &Options::default());
        if let Self::Signature(rejected) = self {
            rejected.append(out, now);
        }
        verdict
    }
}

/// The serial number of the zone as a client knows it (RFC 1995 section 3).
fn known_serial(message: &[u8]) -> Option<u32> {
    let message = Message::from_vec(message).ok()?;
    message.authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(soa.serial),
        _ => None,
    })
}

/// Serial number arithmetic (RFC 1982).
fn is_at_least(known: u32, ours: Option<u32>) -> bool {
    ours.is_some_and(|ours| known.wrapping_sub(ours) < 1 << 31)
}

impl Transfer {
    /// The messages of the answer, one after the other, each as long as it may be.
    pub(crate) fn messages<'t>(
        &'t mut self,
        request: &'t Request<'t>,
        question: &'t Question<'t>,
    ) -> impl FnMut(&mut Vec<u8>, u64) -> bool + 't {
        let Self { zone, is_current, signer } = self;
        let soa = zone.soa().map(|soa| (zone.name(), soa));
        let is_other = |name: &DnsName, set: &RecordSet| {
            set.rtype() != RecordType::SOA && set.is_told(zone.sets_at(name))
        };
        let sets = zone.iter().filter(move |(name, set)| is_other(name, set));
        let others = sets.chain(soa).skip(if *is_current { usize::MAX } else { 0 });
        let mut records = soa.into_iter().chain(others).flat_map(records).peekable();
        let reserved = signer.as_ref().map_or(0, Signer::len);
        move |out, now| {
            if records.peek().is_none() {
                return false;
            }
            let mut writer = Writer::new(out, *question, MOST, reserved);
            while records.next_if(|(name, record)| writer.add(name, record, MESSAGE)).is_some() {}
            let verdict = done(Rcode::NoError, Kind::Data);
            writer.finish(request, verdict, &Options::default());
            if let Some(signer) = signer {
                signer.sign(out, now);
            }
            true
        }
    }
}

/// Each record of a set, from its type on.
fn records<'z>(
    (name, set): (&'z DnsName, &'z RecordSet),
) -> impl Iterator<Item = (&'z DnsName, &'z [u8])> {
    set.ownerless().map(move |record| (name, record))
}
