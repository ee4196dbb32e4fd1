//! What becomes of a message.

use std::{net::IpAddr, time::SystemTime};

use weir_config::{RecordType, Snapshot};

use crate::{
    answer::{Verdict, answer},
    cookies::Cookies,
    counters::Counters,
    edns::{self, Options},
    name::NameBuf,
    rate_limit::{RateLimit, Ruling},
    request::{CLASS_IN, Question, Rcode, Request, Unreadable},
    slow,
    transfer::signer,
    writer::Writer,
};

/// The longest message over TCP.
pub(crate) const MOST: usize = u16::MAX as usize;

/// Answers messages, one at a time, for any number of sockets.
#[derive(Debug)]
pub(crate) struct Responder {
    pub(crate) cookies: Cookies,
    /// What we call ourselves when asked (RFC 5001).
    pub(crate) nsid: Option<Box<[u8]>>,
    pub(crate) rate_limit: Option<RateLimit>,
    /// Whether the fast path is left out.
    pub(crate) is_slow: bool,
}

/// Who asks, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    pub(crate) address: IpAddr,
    pub(crate) transport: Transport,
    /// When it asks, in microseconds since 1970.
    pub(crate) now: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// The address is what the datagram says.
    Udp,
    /// The address is the client's.
    Tcp,
}

impl Responder {
    /// Writes the answer to a message into `out`, which is left empty if there is none.
    pub(crate) fn respond(
        &self,
        snapshot: &Snapshot,
        message: &[u8],
        client: Client,
        counters: &Counters,
        out: &mut Vec<u8>,
    ) {
        out.clear();
        let request = match Request::parse(message) {
            Ok(request) => request,
            Err(Unreadable::Ignored) => return counters.ignored(),
            Err(Unreadable::Header(rcode)) => {
                let header = slow::header(message, rcode).unwrap_or_default();
                out.extend_from_slice(&header);
                return counters.answered(Verdict::error(rcode));
            }
        };
        let (options, is_known) = self.options(&request, client);
        let limit = limit(&request, client);
        let verdict = match ordinary(&request).filter(|_| !self.is_slow) {
            _ if request.is_signed => {
                self.respond_signed(snapshot, &request, client, limit, &options, out)
            }
            Some(question) => {
                let (name, subject) = (NameBuf::new(question.name), subject(&request, client));
                let mut writer = Writer::new(out, *question, limit, reserved(&request, &options));
                let verdict = answer(snapshot, &name, question.rtype, subject, &mut writer);
                writer.finish(&request, verdict, &options.of(verdict));
                verdict
            }
            None => self.respond_slowly(snapshot, &request, client, limit, &options, out),
        };
        let is_free = client.transport == Transport::Tcp || is_known || request.is_signed;
        match self.rate_limit.as_ref().filter(|_| !is_free) {
            Some(rates) => match rates.rule(&request, verdict, client.address, client.now) {
                Ruling::Answer => counters.answered(verdict),
                Ruling::Slip => {
                    truncate(&request, &options, verdict, out);
                    counters.answered(verdict);
                    counters.slipped();
                }
                Ruling::Drop => {
                    out.clear();
                    counters.dropped();
                }
            },
            None => counters.answered(verdict),
        }
    }

    /// The options of the answer, and whether the client has shown that it is at its address.
    fn options(&self, request: &Request<'_>, client: Client) -> (Options<'_>, bool) {
        let Some(edns) = &request.edns else { return Default::default() };
        let (mut cookie, mut is_known) = (None, false);
        let now = (client.now / 1_000_000) as u32;
        if let Some(sent) = &edns.cookie {
            is_known = self.cookies.is_ours(sent, client.address, now);
            cookie = Some(self.cookies.make(sent.client, client.address, now));
        }
        let nsid = self.nsid.as_deref().filter(|_| edns.asks_nsid);
        let subnet = edns.subnet.map(|subnet| (subnet, 0));
        (Options { nsid, cookie, subnet }, is_known)
    }

    /// To somebody who shares a secret with us, or says so. What it is told then is hardly longer
    /// than what it said, so that this needs no rate.
    fn respond_signed(
        &self,
        snapshot: &Snapshot,
        request: &Request<'_>,
        client: Client,
        limit: usize,
        options: &Options<'_>,
        out: &mut Vec<u8>,
    ) -> Verdict {
        let now = client.now / 1_000_000;
        let Some(question) = request.question else {
            return self.respond_slowly(snapshot, request, client, limit, options, out);
        };
        let zone = snapshot.zone_of(NameBuf::new(question.name).wire());
        match signer(zone.map(|zone| &**zone), request, now) {
            Ok(mut signer) => {
                let limit = limit.saturating_sub(signer.len());
                let verdict = self.respond_slowly(snapshot, request, client, limit, options, out);
                signer.sign(out, now);
                verdict
            }
            Err(denied) => denied.write(request, question, now, out),
        }
    }

    fn respond_slowly(
        &self,
        snapshot: &Snapshot,
        request: &Request<'_>,
        client: Client,
        limit: usize,
        options: &Options<'_>,
        out: &mut Vec<u8>,
    ) -> Verdict {
        let question = request.question.as_ref();
        let built = slow::Builder::new(request, question).ok().and_then(|mut builder| {
            let verdict = match (refusal(request), question) {
                (None, Some(question)) => {
                    let name = NameBuf::new(question.name);
                    let subject = subject(request, client);
                    answer(snapshot, &name, question.rtype, subject, &mut builder)
                }
                (refusal, _) => Verdict::error(refusal.unwrap_or(Rcode::NoError)),
            };
            Some((builder.finish(request, verdict, &options.of(verdict), limit).ok()?, verdict))
        });
        let (bytes, verdict) = built.unwrap_or_else(|| {
            let header = slow::header(request.message, Rcode::ServFail).unwrap_or_default();
            (header.to_vec(), Verdict::error(Rcode::ServFail))
        });
        *out = bytes;
        verdict
    }
}

/// The question of a message that the fast path answers.
fn ordinary<'r, 'm>(request: &'r Request<'m>) -> Option<&'r Question<'m>> {
    let question = request.question.as_ref().filter(|_| request.is_plain)?;
    refusal(request).is_none().then_some(question)
}

/// Why a message is not answered from a zone.
fn refusal(request: &Request<'_>) -> Option<Rcode> {
    if request.edns.is_some_and(|edns| edns.version > 0) {
        return Some(Rcode::BadVers);
    }
    let Some(question) = &request.question else {
        // Without a question, it is a cookie that is asked for (RFC 7873 section 5.4).
        let asks_cookie = request.edns.is_some_and(|edns| edns.cookie.is_some());
        return Some(if asks_cookie { Rcode::NoError } else { Rcode::FormErr });
    };
    if question.class != CLASS_IN {
        // Which includes who asks for our version in class CH.
        return Some(Rcode::Refused);
    }
    match question.rtype {
        RecordType::ANY => None,
        RecordType::OPT => Some(Rcode::FormErr),
        RecordType::AXFR | RecordType::IXFR => Some(Rcode::Refused),
        rtype => rtype.is_meta().then_some(Rcode::NotImp),
    }
}

/// For whom an answer is chosen: a resolver may tell for which network it asks.
fn subject(request: &Request<'_>, client: Client) -> IpAddr {
    let subnet = request.edns.and_then(|edns| edns.subnet);
    subnet.filter(|subnet| subnet.prefix > 0).map_or(client.address, |subnet| subnet.address)
}

fn limit(request: &Request<'_>, client: Client) -> usize {
    match client.transport {
        Transport::Udp => request.udp_limit(),
        Transport::Tcp => MOST,
    }
}

/// What our OPT record takes.
fn reserved(request: &Request<'_>, options: &Options<'_>) -> usize {
    request.edns.map_or(0, |_| edns::BARE + options.len())
}

/// Tells nothing but that there is more over TCP.
fn truncate(request: &Request<'_>, options: &Options<'_>, verdict: Verdict, out: &mut Vec<u8>) {
    let Some(question) = request.question else { return };
    let mut writer = Writer::new(out, question, MOST, 0);
    writer.fill();
    writer.finish(request, verdict, options);
}

/// Microseconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as u64)
}
