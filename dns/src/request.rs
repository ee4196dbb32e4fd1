//! Reads what a client asks.
//!
//! A message is looked at as a whole and without copying it, so that all that follows can rely on
//! its shape.

use std::net::IpAddr;

use weir_config::{RecordType, dns::MAX_NAME};

use crate::edns::Edns;

/// The octets of a message's header.
pub(crate) const HEADER: usize = 12;
pub(crate) const CLASS_IN: u16 = 1;

/// Bits of the header's second pair of octets (RFC 1035 section 4.1.1).
pub(crate) mod flag {
    pub(crate) const RESPONSE: u16 = 0x8000;
    pub(crate) const OPCODE: u16 = 0x7800;
    pub(crate) const AUTHORITATIVE: u16 = 0x0400;
    pub(crate) const TRUNCATED: u16 = 0x0200;
    pub(crate) const RECURSION_DESIRED: u16 = 0x0100;
    pub(crate) const CHECKING_DISABLED: u16 = 0x0010;
}

/// How an answer ends (RFC 1035 section 4.1.1, RFC 6891 section 9, RFC 7873 section 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Rcode {
    NoError = 0,
    FormErr = 1,
    ServFail = 2,
    NxDomain = 3,
    NotImp = 4,
    Refused = 5,
    YxDomain = 6,
    NotAuth = 9,
    BadVers = 16,
}

/// A message that is no response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'m> {
    pub(crate) message: &'m [u8],
    pub(crate) id: u16,
    pub(crate) flags: u16,
    /// `None` if there is none.
    pub(crate) question: Option<Question<'m>>,
    pub(crate) edns: Option<Edns<'m>>,
    /// Whether its last record is a signature (RFC 8945).
    pub(crate) is_signed: bool,
    /// Whether there is nothing in it but a question and perhaps EDNS.
    pub(crate) is_plain: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'m> {
    /// In wire form, as it was sent: uncompressed, in any case.
    pub(crate) name: &'m [u8],
    pub(crate) rtype: RecordType,
    pub(crate) class: u16,
}

/// Why a message gets no answer that says anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// It is a response, or shorter than a header: it gets no answer at all.
    Ignored,
    /// It gets its header back, with this code.
    Header(Rcode),
}

impl<'m> Request<'m> {
    pub(crate) fn parse(message: &'m [u8]) -> Result<Self, Unreadable> {
        let Some(header) = message.first_chunk::<HEADER>() else { return Err(Unreadable::Ignored) };
        let number = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let (id, flags) = (number(0), number(2));
        if flags & flag::RESPONSE != 0 {
            return Err(Unreadable::Ignored);
        }
        if flags & flag::OPCODE != 0 {
            // What is in it is not known.
            return Err(Unreadable::Header(Rcode::NotImp));
        }
        let mut request = Self {
            message,
            id,
            flags,
            question: None,
            edns: None,
            is_signed: false,
            is_plain: number(6) == 0 && number(8) == 0,
        };
        request.body([number(4), number(6), number(8), number(10)]).ok_or(BAD)?;
        Ok(request)
    }

    /// `None` if it is not well-formed.
    fn body(&mut self, [questions, answers, authorities, additionals]: [u16; 4]) -> Option<()> {
        let mut at = HEADER;
        match questions {
            0 => {}
            1 => self.question = Some(question(self.message, &mut at)?),
            // RFC 9619.
            _ => return None,
        }
        for _ in 0..u32::from(answers) + u32::from(authorities) {
            let record = record(self.message, &mut at)?;
            if matches!(record.rtype, RecordType::OPT | RecordType::TSIG) {
                return None;
            }
        }
        for i in 0..additionals {
            let record = record(self.message, &mut at)?;
            match record.rtype {
                RecordType::OPT if self.edns.is_some() || !record.is_of_root => return None,
                RecordType::OPT => {
                    self.edns = Some(Edns::parse(record.class, record.ttl, record.data)?);
                }
                RecordType::TSIG if i + 1 == additionals => self.is_signed = true,
                RecordType::TSIG => return None,
                _ => self.is_plain = false,
            }
        }
        self.is_plain &= !self.is_signed;
        (at == self.message.len()).then_some(())
    }

    /// How long an answer over UDP may be: what the client takes, but no more than passes every
    /// network unfragmented.
    pub(crate) fn udp_limit(&self) -> usize {
        const WITHOUT_EDNS: u16 = 512;
        let accepted = self.edns.map_or(WITHOUT_EDNS, |edns| edns.payload.max(WITHOUT_EDNS));
        accepted.min(crate::edns::PAYLOAD).into()
    }
}

const BAD: Unreadable = Unreadable::Header(Rcode::FormErr);

/// A part of the internet that a client says it asks for (RFC 7871).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientSubnet {
    pub(crate) address: IpAddr,
    pub(crate) prefix: u8,
}

fn question<'m>(message: &'m [u8], at: &mut usize) -> Option<Question<'m>> {
    let start = *at;
    loop {
        let len = *message.get(*at)?;
        // Nothing comes before it that a compressed name could point to.
        if len > 63 {
            return None;
        }
        *at += 1 + usize::from(len);
        if len == 0 {
            break;
        }
    }
    let name = message.get(start..*at).filter(|name| name.len() <= MAX_NAME)?;
    let [rtype, class] = [number(message, at)?, number(message, at)?];
    Some(Question { name, rtype: RecordType(rtype), class })
}

struct Record<'m> {
    is_of_root: bool,
    rtype: RecordType,
    class: u16,
    ttl: u32,
    data: &'m [u8],
}

fn record<'m>(message: &'m [u8], at: &mut usize) -> Option<Record<'m>> {
    let is_of_root = message.get(*at) == Some(&0);
    skip_name(message, at)?;
    let [rtype, class] = [number(message, at)?, number(message, at)?];
    let ttl = u32::from(number(message, at)?) << 16 | u32::from(number(message, at)?);
    let len = usize::from(number(message, at)?);
    let data = message.get(*at..*at + len)?;
    *at += len;
    Some(Record { is_of_root, rtype: RecordType(rtype), class, ttl, data })
}

/// A name that may be compressed; where that points to does not matter.
fn skip_name(message: &[u8], at: &mut usize) -> Option<()> {
    loop {
        let len = *message.get(*at)?;
        *at += 1;
        match len {
            0 => return Some(()),
            1..=63 => *at += usize::from(len),
            0xc0.. => {
                *at += 1;
                return Some(());
            }
            _ => return None,
        }
    }
}

fn number(message: &[u8], at: &mut usize) -> Option<u16> {
    let bytes = message.get(*at..*at + 2)?;
    *at += 2;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}
