//! Writes an answer on the fast path.
//!
//! Names are compressed in the way in which hickory does it, so that the slow path gives the same
//! octets: a name points to the first place where the longest part of it that was written before
//! begins, and letters match in their own case only.

use weir_config::{DnsName, RecordSet, RecordType};

use crate::{
    answer::{Owner, Section, Sink, Verdict},
    edns::{self, Options},
    request::{CLASS_IN, HEADER, Question, Request, flag},
};

/// Hickory remembers so many places and compresses so many names.
const MOST_PLACES: usize = 64;
const MOST_NAMES: usize = 120;
/// The octets of a record's type, class and TTL.
const FIELDS: usize = 8;
/// Places from here on cannot be pointed to.
const UNREACHABLE: usize = 0x3fff;

/// An answer that is being written.
#[derive(Debug)]
pub(crate) struct Writer<'o> {
    out: &'o mut Vec<u8>,
    question: Question<'o>,
    /// Where the question ends.
    start: usize,
    /// How long the answer may be, without our OPT record.
    limit: usize,
    counts: [u16; 3],
    is_full: bool,
    /// Where parts of names are, and how long these are.
    places: [(u16, u8); MOST_PLACES],
    placed: usize,
    /// How many names were compressed, or could have been.
    names: usize,
}

impl<'o> Writer<'o> {
    /// Begins an answer of at most `limit` octets, of which `reserved` are for our OPT record.
    pub(crate) fn new(
        out: &'o mut Vec<u8>,
        question: Question<'o>,
        limit: usize,
        reserved: usize,
    ) -> Self {
        out.clear();
        out.extend_from_slice(&[0; HEADER]);
        out.extend_from_slice(question.name);
        out.extend_from_slice(&question.rtype.0.to_be_bytes());
        out.extend_from_slice(&question.class.to_be_bytes());
        let (start, limit) = (out.len(), limit.saturating_sub(reserved));
        let (counts, places) = ([0; 3], [(0, 0); MOST_PLACES]);
        Self { out, question, start, limit, counts, is_full: false, places, placed: 0, names: 1 }
    }

    /// Ends it. If not everything had room, nothing is told but that.
    pub(crate) fn finish(self, request: &Request<'_>, verdict: Verdict, options: &Options<'_>) {
        let Self { out, start, is_full, mut counts, .. } = self;
        if is_full {
            out.truncate(start);
            counts = [0; 3];
        }
        let mut additionals = counts[2];
        if let Some(edns) = &request.edns {
            out.extend_from_slice(&edns::head(verdict.rcode, edns.dnssec_ok));
            let at = out.len();
            out.extend_from_slice(&[0; 2]);
            options.write(|part| out.extend_from_slice(part));
            let len = (out.len() - at - 2) as u16;
            out[at..at + 2].copy_from_slice(&len.to_be_bytes());
            additionals += 1;
        }
        let flags = header_flags(request.flags, verdict, is_full);
        let header = [request.id, flags, 1, counts[0], counts[1], additionals];
        for (place, number) in out.as_chunks_mut::<2>().0.iter_mut().zip(header) {
            *place = number.to_be_bytes();
        }
    }

    /// Whether an answer of one record set at the question's name can be copied in one piece.
    fn is_plain(&self, owner: Owner<'_>, set: &RecordSet) -> bool {
        let is_question = matches!(owner, Owner::Question(0)) && self.question.name.len() > 1;
        is_question && names_in(set.rtype()) == 0 && self.names + set.len() <= MOST_NAMES
    }

    fn record(&mut self, owner: Owner<'_>, fields: &[u8], rtype: RecordType, data: &[u8]) {
        let question = self.question.name;
        self.name(match owner {
            Owner::Question(at) => &question[at..],
            Owner::Name(name) => name,
        });
        self.out.extend_from_slice(fields);
        let at = self.out.len();
        self.out.extend_from_slice(&[0; 2]);
        self.data(rtype, data);
        let len = (self.out.len() - at - 2) as u16;
        self.out[at..at + 2].copy_from_slice(&len.to_be_bytes());
    }

    fn data(&mut self, rtype: RecordType, data: &[u8]) {
        // An MX record's name comes after its preference.
        let (before, mut rest) = data.split_at(if rtype == RecordType::MX { 2 } else { 0 });
        self.out.extend_from_slice(before);
        for _ in 0..names_in(rtype) {
            let (name, after) = rest.split_at(name_len(rest));
            self.name(name);
            rest = after;
        }
        self.out.extend_from_slice(rest);
    }

    fn name(&mut self, name: &[u8]) {
        if self.placed == 0 {
            let question = self.question.name;
            self.place_all(question, HEADER);
        }
        let is_compressed = self.names < MOST_NAMES;
        if !is_compressed {
            self.place_all(name, self.out.len());
            self.out.extend_from_slice(name);
            return;
        }
        self.names += 1;
        let start = self.out.len();
        let mut at = 0;
        while name[at] > 0 {
            if let Some(place) = self.find(&name[at..]) {
                self.out.extend_from_slice(&name[..at]);
                self.out.extend_from_slice(&(0xc000 | place).to_be_bytes());
                return;
            }
            self.place(start + at, &name[at..], start + name.len() - 1);
            at += 1 + usize::from(name[at]);
        }
        self.out.extend_from_slice(name);
    }

    fn place_all(&mut self, name: &[u8], start: usize) {
        let mut at = 0;
        while name[at] > 0 {
            self.place(start + at, &name[at..], start + name.len() - 1);
            at += 1 + usize::from(name[at]);
        }
    }

    fn place(&mut self, at: usize, part: &[u8], end: usize) {
        if end < UNREACHABLE && self.placed < MOST_PLACES {
            self.places[self.placed] = (at as u16, part.len() as u8);
            self.placed += 1;
        }
    }

    /// Where a name was written before.
    fn find(&self, name: &[u8]) -> Option<u16> {
        let places = self.places[..self.placed].iter();
        let mut alike = places.filter(|(_, len)| usize::from(*len) == name.len());
        alike.find(|(at, _)| self.is_at(*at, name)).map(|(at, _)| *at)
    }

    /// Whether this name, and no other, is written at a place.
    fn is_at(&self, at: u16, name: &[u8]) -> bool {
        let (mut at, mut rest) = (usize::from(at), name);
        loop {
            let Some(&len) = self.out.get(at) else { return false };
            if len >= 0xc0 {
                let Some(&low) = self.out.get(at + 1) else { return false };
                at = usize::from(len & 0x3f) << 8 | usize::from(low);
                continue;
            }
            let label = usize::from(len) + 1;
            if self.out.get(at..at + label) != rest.get(..label) {
                return false;
            }
            if len == 0 {
                return true;
            }
            rest = &rest[label..];
            at += label;
        }
    }

    /// Adds a record of a transfer, from its type on, unless the message would become longer than
    /// this; its first record is added in any case. Says whether it was.
    pub(crate) fn add(&mut self, owner: &DnsName, record: &[u8], limit: usize) -> bool {
        // Uncompressed, it is the longest that it can be.
        let len = self.out.len() + owner.wire().len() + record.len();
        let counted = &mut self.counts[Section::Answer as usize];
        if *counted > 0 && len > limit {
            return false;
        }
        *counted += 1;
        let rtype = RecordType(u16::from_be_bytes([record[0], record[1]]));
        let (fields, data) = (&record[..FIELDS], &record[FIELDS + 2..]);
        self.record(Owner::Name(owner.wire()), fields, rtype, data);
        true
    }

    /// Leaves no room for anything.
    pub(crate) fn fill(&mut self) {
        self.is_full = true;
    }

    fn bound(&mut self) {
        self.is_full |= self.out.len() > self.limit;
    }
}

impl Sink for Writer<'_> {
    fn put(&mut self, section: Section, owner: Owner<'_>, set: &RecordSet) {
        if self.is_full {
            return;
        }
        self.counts[section as usize] += set.len() as u16;
        if self.is_plain(owner, set) {
            self.names += set.len();
            self.out.extend_from_slice(set.encoded());
            return self.bound();
        }
        for (record, data) in set.ownerless().zip(set.data()) {
            // Without the length of the data, which compression changes.
            self.record(owner, &record[..FIELDS], set.rtype(), data);
            self.bound();
            if self.is_full {
                return;
            }
        }
    }

    fn put_alias(&mut self, owner: Owner<'_>, ttl: u32, target: &[u8]) {
        if self.is_full {
            return;
        }
        self.counts[Section::Answer as usize] += 1;
        let mut fields = [0; FIELDS];
        fields[..2].copy_from_slice(&RecordType::CNAME.0.to_be_bytes());
        fields[2..4].copy_from_slice(&CLASS_IN.to_be_bytes());
        fields[4..].copy_from_slice(&ttl.to_be_bytes());
        self.record(owner, &fields, RecordType::CNAME, target);
        self.bound();
    }
}

/// The second pair of an answer's octets.
pub(crate) fn header_flags(request: u16, verdict: Verdict, is_truncated: bool) -> u16 {
    let kept = request & (flag::OPCODE | flag::RECURSION_DESIRED | flag::CHECKING_DISABLED);
    let authoritative = if verdict.authoritative { flag::AUTHORITATIVE } else { 0 };
    let truncated = if is_truncated { flag::TRUNCATED } else { 0 };
    kept | flag::RESPONSE | authoritative | truncated | (verdict.rcode as u16 & 0xf)
}

/// How many names the data of a type begins with that may be compressed (RFC 3597 section 4); an MX
/// record's preference is not counted.
pub(crate) fn names_in(rtype: RecordType) -> usize {
    match rtype {
        RecordType::NS | RecordType::CNAME | RecordType::PTR | RecordType::MX => 1,
        RecordType::SOA => 2,
        _ => 0,
    }
}

fn name_len(wire: &[u8]) -> usize {
    let mut at = 0;
    while let Some(&len) = wire.get(at).filter(|len| **len > 0) {
        at += 1 + usize::from(len);
    }
    (at + 1).min(wire.len())
}
