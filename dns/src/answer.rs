//! What a zone answers to a question (RFC 1034 section 4.3.2, RFC 4592, RFC 6672).
//!
//! One walk through the zone, for every path that an answer takes. What it finds it puts into a
//! [`Sink`] in the order of the message.

use std::net::IpAddr;

use weir_config::{
    Moment, RecordSet, RecordType, Snapshot, Zone,
    dns::{Chosen, Node, is_at_or_below, parent},
};

use crate::{name::NameBuf, request::Rcode};

/// How many aliases are followed for one question.
const MOST_ALIASES: usize = 16;

/// Where the parts of an answer go.
pub(crate) trait Sink {
    fn put(&mut self, section: Section, owner: Owner<'_>, set: &RecordSet);

    /// A CNAME record that a DNAME record stands for.
    fn put_alias(&mut self, owner: Owner<'_>, ttl: u32, target: &[u8]);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Answer,
    Authority,
    Additional,
}

/// Whose a set is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Owner<'n> {
    /// The question's name, without so many octets at its begin.
    Question(usize),
    Name(&'n [u8]),
}

/// What an answer comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) rcode: Rcode,
    pub(crate) authoritative: bool,
    /// Whether another client may get another answer.
    pub(crate) is_steered: bool,
    pub(crate) kind: Kind,
}

/// What an answer is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Records of the name that was asked for.
    Data,
    /// Records that any name below another one would get. So many octets at the begin of the
    /// question's name make no difference.
    Synthesized(usize),
    /// There are no such records, or there is no such name.
    Negative(usize),
    Referral(usize),
    /// The question cannot be answered here.
    Error,
}

impl Verdict {
    pub(crate) fn error(rcode: Rcode) -> Self {
        Self { rcode, authoritative: false, is_steered: false, kind: Kind::Error }
    }
}

/// Answers a question of class IN. `name` is the question's, `client` whoever asks, or for whom he
/// asks.
pub(crate) fn answer(
    snapshot: &Snapshot,
    name: &NameBuf,
    rtype: RecordType,
    client: IpAddr,
    sink: &mut impl Sink,
) -> Verdict {
    let Some(zone) = zone_of(snapshot, name.wire(), rtype) else {
        return Verdict::error(Rcode::Refused);
    };
    let Some(soa) = zone.negative_soa() else { return Verdict::error(Rcode::ServFail) };
    let apex = name.wire().len() - zone.name().wire().len();
    let (followed, dnames) = (Vec::new(), Vec::new());
    let mut walk = Walk {
        snapshot,
        zone,
        soa,
        apex,
        rtype,
        client,
        sink,
        followed,
        dnames,
        is_steered: false,
    };
    let verdict = walk.from(name);
    Verdict { is_steered: walk.is_steered, ..verdict }
}

fn zone_of<'s>(snapshot: &'s Snapshot, name: &[u8], rtype: RecordType) -> Option<&'s Zone> {
    let zone = snapshot.zone_of(name)?;
    // What its parent says of a zone is in the parent (RFC 4035 section 3.1.4.1).
    let above = parent(name).filter(|_| rtype == RecordType::DS && zone.name().wire() == name);
    Some(above.and_then(|above| snapshot.zone_of(above)).unwrap_or(zone))
}

struct Walk<'w, S> {
    snapshot: &'w Snapshot,
    zone: &'w Zone,
    soa: &'w RecordSet,
    /// How many octets of the question's name come before the zone's.
    apex: usize,
    rtype: RecordType,
    client: IpAddr,
    sink: &'w mut S,
    /// What aliases have led to.
    followed: Vec<NameBuf>,
    /// Those that are in the answer.
    dnames: Vec<&'w RecordSet>,
    is_steered: bool,
}

/// What there is for a name.
enum Found<'z> {
    Node(&'z Node),
    /// The records of the wildcard below the closest name that exists, which has so many octets less.
    Wildcard(usize, &'z Node),
    /// Another zone begins so many octets from the begin of the name, and this is its NS set.
    Cut(usize, &'z RecordSet),
    /// The name that begins so many octets from its begin has this DNAME record.
    Dname(usize, &'z RecordSet),
    Nothing(usize),
}

impl<'w, S: Sink> Walk<'w, S> {
    fn from(&mut self, question: &NameBuf) -> Verdict {
        let mut name = *question;
        let mut kind = Kind::Data;
        loop {
            let zone = self.zone;
            let next = match find(zone, name.wire(), self.rtype) {
                Found::Node(node) => self.node(&name, node),
                Found::Wildcard(closest, node) => {
                    if self.followed.is_empty() {
                        kind = Kind::Synthesized(closest);
                    }
                    self.node(&name, node)
                }
                Found::Cut(at, ns) => return self.referral(&name, at, ns, kind),
                Found::Dname(at, dname) => {
                    if self.followed.is_empty() {
                        kind = Kind::Synthesized(at);
                    }
                    match self.dname(&name, at, dname) {
                        Some(next) => next,
                        None => return done(Rcode::YxDomain, kind),
                    }
                }
                Found::Nothing(closest) => return self.negative(Rcode::NxDomain, closest, kind),
            };
            name = match next {
                Next::Done => return done(Rcode::NoError, kind),
                Next::NoData => return self.negative(Rcode::NoError, 0, kind),
                Next::Alias(target) => target,
            };
            self.followed.push(name);
            let is_over = self.followed.len() > MOST_ALIASES
                || !is_at_or_below(name.wire(), zone.name().wire())
                || name.wire() == question.wire()
                || self.followed.iter().rev().skip(1).any(|former| former.wire() == name.wire());
            if is_over {
                return done(Rcode::NoError, kind);
            }
        }
    }

    /// The records at a name that exists, or that a wildcard stands for.
    fn node(&mut self, name: &NameBuf, node: &'w Node) -> Next {
        let follows = !matches!(self.rtype, RecordType::CNAME | RecordType::ANY);
        let cname = node.get(RecordType::CNAME).filter(|_| follows);
        if let Some(cname) = cname.and_then(|cname| self.chosen(cname)) {
            self.sink.put(Section::Answer, self.owner(name, 0), cname);
            return Next::Alias(NameBuf::new(cname.first()));
        }
        let set = match self.rtype {
            // One set is enough (RFC 8482 section 4.1).
            RecordType::ANY => node.sets().iter().find_map(|set| self.chosen(set)),
            rtype => node.get(rtype).and_then(|set| self.chosen(set)),
        };
        let Some(set) = set else { return Next::NoData };
        self.sink.put(Section::Answer, self.owner(name, 0), set);
        Next::Done
    }

    /// Of records that are to be chosen between, those for this client, if there are some.
    fn chosen(&mut self, set: &'w RecordSet) -> Option<&'w RecordSet> {
        let Some(steering) = set.steering() else { return Some(set) };
        self.is_steered = true;
        match steering.choose(self.snapshot, self.client, Moment::now()) {
            Chosen::Records(records) => Some(records),
            Chosen::Everything => Some(set),
            Chosen::OtherTypes | Chosen::Nothing => None,
        }
    }

    /// `None` if the name that a DNAME record leads to is too long.
    fn dname(&mut self, name: &NameBuf, at: usize, dname: &'w RecordSet) -> Option<Next> {
        if !self.dnames.iter().any(|former| std::ptr::eq(*former, dname)) {
            self.sink.put(Section::Answer, self.owner(name, at), dname);
            self.dnames.push(dname);
        }
        let target = NameBuf::join(&name.wire()[..at], dname.first())?;
        self.sink.put_alias(self.owner(name, 0), dname.ttl(), target.wire());
        Some(match self.rtype {
            RecordType::CNAME => Next::Done,
            _ => Next::Alias(target),
        })
    }

    fn referral(&mut self, name: &NameBuf, at: usize, ns: &RecordSet, kind: Kind) -> Verdict {
        self.sink.put(Section::Authority, self.owner(name, at), ns);
        for server in ns.data() {
            let server = NameBuf::new(server);
            // Whatever the zone knows of it is told: without it, the server may not be found.
            let node = Some(server.wire())
                .filter(|wire| is_at_or_below(wire, self.zone.name().wire()))
                .and_then(|wire| self.zone.node(wire));
            for rtype in [RecordType::A, RecordType::AAAA] {
                if let Some(set) = node.and_then(|node| node.get(rtype)) {
                    self.sink.put(Section::Additional, Owner::Name(server.wire()), set);
                }
            }
        }
        let is_alias = !self.followed.is_empty();
        let kind = if is_alias { kind } else { Kind::Referral(at) };
        Verdict { authoritative: is_alias, ..done(Rcode::NoError, kind) }
    }

    fn negative(&mut self, rcode: Rcode, closest: usize, kind: Kind) -> Verdict {
        self.sink.put(Section::Authority, Owner::Question(self.apex), self.soa);
        let kind = if self.followed.is_empty() { Kind::Negative(closest) } else { kind };
        done(rcode, kind)
    }

    /// A name from so many octets on.
    fn owner<'n>(&self, name: &'n NameBuf, at: usize) -> Owner<'n> {
        match self.followed.is_empty() {
            true => Owner::Question(at),
            false => Owner::Name(&name.wire()[at..]),
        }
    }
}

#[expect(clippy::large_enum_variant, reason = "it is on the stack for a moment, and alone")]
enum Next {
    Done,
    NoData,
    Alias(NameBuf),
}

/// An answer of ours.
pub(crate) fn done(rcode: Rcode, kind: Kind) -> Verdict {
    Verdict { rcode, authoritative: true, is_steered: false, kind }
}

fn find<'z>(zone: &'z Zone, name: &[u8], rtype: RecordType) -> Found<'z> {
    if !zone.has_cuts()
        && let Some(node) = zone.node(name)
    {
        return Found::Node(node);
    }
    // From the zone's name down, so that a stranger's many labels cost no more than the zone's own.
    let apex = name.len() - zone.name().wire().len();
    let mut starts = [0; 128];
    let mut count = 0;
    let mut at = 0;
    while at < apex {
        starts[count] = at as u8;
        count += 1;
        at += 1 + usize::from(name[at]);
    }
    let mut closest = (apex, zone.node(zone.name().wire()));
    if apex > 0
        && let Some(dname) = closest.1.and_then(|node| node.get(RecordType::DNAME))
    {
        return Found::Dname(apex, dname);
    }
    for at in starts[..count].iter().rev().map(|at| usize::from(*at)) {
        let Some(node) = zone.node(&name[at..]) else { break };
        if zone.has_cuts() {
            let ns = node.get(RecordType::NS).filter(|_| at > 0 || rtype != RecordType::DS);
            if let Some(ns) = ns {
                return Found::Cut(at, ns);
            }
            if let Some(dname) = node.get(RecordType::DNAME).filter(|_| at > 0) {
                return Found::Dname(at, dname);
            }
        }
        closest = (at, Some(node));
    }
    let (at, Some(node)) = closest else { return Found::Nothing(apex) };
    if at == 0 {
        return Found::Node(node);
    }
    let wildcard = Some(node).filter(|node| node.has_wildcard());
    let wildcard = wildcard.and_then(|_| NameBuf::wildcard(&name[at..]));
    match wildcard.and_then(|wildcard| zone.node(wildcard.wire())) {
        Some(node) => Found::Wildcard(at, node),
        None => Found::Nothing(at),
    }
}
