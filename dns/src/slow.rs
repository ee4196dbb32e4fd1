//! The slow path: answers that are put together out of hickory's types and written by hickory.
//!
//! It answers whatever is asked, in the same octets as the fast path does where that answers too.

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record,
        rdata::{
            NULL,
            opt::{EdnsCode, EdnsOption},
        },
    },
    serialize::binary::{BinDecodable, BinDecoder, DecodeError, Restrict},
};
use weir_config::{RecordSet, RecordType};

use crate::{
    answer::{Owner, Section, Sink, Verdict},
    edns::{self, Options},
    request::{HEADER, Question, Rcode, Request, flag},
    writer::{header_flags, names_in},
};

/// An answer that is being put together.
#[derive(Debug)]
pub(crate) struct Builder<'q> {
    message: Message,
    question: &'q [u8],
}

impl<'q> Builder<'q> {
    /// # Errors
    /// Hickory cannot read the question.
    pub(crate) fn new(
        request: &Request<'_>,
        question: Option<&Question<'q>>,
    ) -> Result<Self, DecodeError> {
        let mut message = Message::new(request.id, MessageType::Response, OpCode::Query);
        if let Some(question) = question {
            let mut query = Query::query(name(question.name)?, question.rtype.0.into());
            query.set_query_class(DNSClass::from(question.class));
            message.add_query(query);
        }
        let question = question.map_or(&[0][..], |question| question.name);
        Ok(Self { message, question })
    }

    /// The whole answer, or that it is longer than `limit`.
    ///
    /// # Errors
    /// Hickory cannot write it.
    pub(crate) fn finish(
        mut self,
        request: &Request<'_>,
        verdict: Verdict,
        options: &Options<'_>,
        limit: usize,
    ) -> Result<Vec<u8>, hickory_proto::ProtoError> {
        let flags = header_flags(request.flags, verdict, false);
        let metadata = &mut self.message.metadata;
        metadata.authoritative = verdict.authoritative;
        metadata.recursion_desired = flags & flag::RECURSION_DESIRED != 0;
        metadata.checking_disabled = flags & flag::CHECKING_DISABLED != 0;
        metadata.response_code = ResponseCode::from(
            (verdict.rcode as u16 >> 4) as u8,
            (verdict.rcode as u16 & 0xf) as u8,
        );
        if let Some(asked) = &request.edns {
            let mut edns = Edns::new();
            edns.set_max_payload(edns::PAYLOAD).set_dnssec_ok(asked.dnssec_ok);
            options.each(|code, value| {
                let option = EdnsOption::Unknown(code, value.concat());
                edns.options_mut().options.push((EdnsCode::from(code), option));
            });
            self.message.set_edns(edns);
        }
        let whole = self.message.to_vec()?;
        // Hickory leaves out what does not fit into any message, and says so.
        let is_whole =
            whole.get(2).is_some_and(|flags| u16::from(*flags) << 8 & flag::TRUNCATED == 0);
        if is_whole && whole.len() <= limit { Ok(whole) } else { self.message.truncate().to_vec() }
    }

    fn add(&mut self, section: Section, record: Record) {
        match section {
            Section::Answer => self.message.add_answer(record),
            Section::Authority => self.message.add_authority(record),
            Section::Additional => self.message.add_additional(record),
        };
    }

    fn owner(&self, owner: Owner<'_>) -> Result<Name, DecodeError> {
        name(match owner {
            Owner::Question(at) => &self.question[at..],
            Owner::Name(name) => name,
        })
    }
}

impl Sink for Builder<'_> {
    fn put(&mut self, section: Section, owner: Owner<'_>, set: &RecordSet) {
        // Every name of a zone and every set was checked when it was made.
        let Ok(owner) = self.owner(owner) else { return };
        for record in set.data() {
            let Ok(data) = data(set.rtype(), record) else { continue };
            self.add(section, Record::from_rdata(owner.clone(), set.ttl(), data));
        }
    }

    fn put_alias(&mut self, owner: Owner<'_>, ttl: u32, target: &[u8]) {
        let (Ok(owner), Ok(data)) = (self.owner(owner), data(RecordType::CNAME, target)) else {
            return;
        };
        self.add(Section::Answer, Record::from_rdata(owner, ttl, data));
    }
}

/// A header alone: what there is to say to a message that cannot be read.
pub(crate) fn header(message: &[u8], rcode: Rcode) -> Option<[u8; HEADER]> {
    let mut header = *message.first_chunk::<HEADER>()?;
    let request = u16::from_be_bytes([header[2], header[3]]);
    let flags = header_flags(request, Verdict::error(rcode), false);
    header[2..4].copy_from_slice(&flags.to_be_bytes());
    header[4..].fill(0);
    Some(header)
}

pub(crate) fn name(wire: &[u8]) -> Result<Name, DecodeError> {
    Name::read(&mut BinDecoder::new(wire))
}

/// Where names may be compressed, hickory has to know them; the rest it takes as it is.
pub(crate) fn data(rtype: RecordType, data: &[u8]) -> Result<RData, DecodeError> {
    let code = rtype.0.into();
    if names_in(rtype) > 0 {
        let len = Restrict::new(data.len() as u16);
        return RData::read(&mut BinDecoder::new(data), code, len);
    }
    let rdata = if data.is_empty() { NULL::new() } else { NULL::with(data.to_vec()) };
    Ok(RData::Unknown { code, rdata })
}
