//! What follows from what is seen of a domain: pure.

use std::{collections::BTreeSet, net::IpAddr};

use weir_config::Hostname;

/// What was seen when the DNS was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Looked {
    /// Where the domain leads, and where the base domain does, which is here.
    pub(crate) leads_to: Result<Vec<IpAddr>, String>,
    pub(crate) here: Result<Vec<IpAddr>, String>,
    /// CAA records, as they go over the wire.
    pub(crate) authorizations: Result<Vec<Box<[u8]>>, String>,
    /// What else is asked of its owner.
    pub(crate) proofs: Vec<Proof>,
    /// Milliseconds since the Unix epoch.
    pub(crate) at: i64,
}

/// A record by which the owner of a domain says something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proof {
    pub(crate) kind: ProofKind,
    /// As a zone file has it.
    pub(crate) record: String,
    pub(crate) is_seen: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProofKind {
    /// That the app may have the domain.
    Ownership,
    /// That Weir may prove to authorities, by DNS, whose it is.
    Delegation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DomainState {
    /// It leads here, and here only.
    Ready,
    /// It leads here and elsewhere, or authorities are forbidden to issue for it.
    Wrong,
    /// It leads elsewhere, or nowhere.
    Missing,
    /// The DNS could not be asked.
    Unknown,
}

impl DomainState {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Wrong => "wrong",
            Self::Missing => "missing",
            Self::Unknown => "unknown",
        }
    }
}

/// What is to be said to the domain's owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Judged {
    pub(crate) state: DomainState,
    /// A sentence.
    pub(crate) message: String,
    /// What to write, each on a line as a zone file has it; any one group is enough.
    pub(crate) needed: Vec<Vec<String>>,
    /// What is seen now, in the same form.
    pub(crate) seen: Vec<String>,
}

/// `target` is the name below the base domain that its app has.
pub(crate) fn judge(host: &Hostname, target: &Hostname, looked: &Looked) -> Judged {
    let record = |(rtype, data): (&str, String)| format!("{host}. {rtype} {data}");
    let address = |address: &IpAddr| match address {
        IpAddr::V4(_) => ("A", address.to_string()),
        IpAddr::V6(_) => ("AAAA", address.to_string()),
    };
    let here = looked.here.clone().unwrap_or_default();
    let mut needed = vec![vec![record(("CNAME", format!("{target}.")))]];
    if !here.is_empty() {
        needed.push(here.iter().map(|a| record(address(a))).collect());
    }
    if !host.starts_with("*.") {
        // For the top of a zone, where no CNAME may be, at those who have such a thing.
        needed.push(vec![record(("ALIAS", format!("{target}.")))]);
    }
    let mut seen: Vec<_> =
        looked.leads_to.iter().flatten().map(|found| record(address(found))).collect();
    let authorizations = looked.authorizations.as_deref().unwrap_or_default();
    let issuers = issuers(authorizations, host.starts_with("*."));
    seen.extend(issuers.iter().flatten().map(|i| record(("CAA", format!("0 issue \"{i}\"")))));
    let (mut state, mut message) = verdict(host, looked, &here, issuers.as_ref());
    let seen_proofs = looked.proofs.iter().filter(|proof| proof.is_seen);
    seen.extend(seen_proofs.map(|proof| proof.record.clone()));
    let missing: Vec<_> = looked.proofs.iter().filter(|proof| !proof.is_seen).collect();
    if state == DomainState::Ready {
        needed = vec![Vec::new()];
        if let Some(first) = missing.first() {
            (state, message) = (DomainState::Missing, first.kind.missing(host));
        }
    }
    for group in &mut needed {
        group.extend(missing.iter().map(|proof| proof.record.clone()));
    }
    needed.retain(|group| !group.is_empty());
    Judged { state, message, needed, seen }
}

impl ProofKind {
    fn missing(self, host: &Hostname) -> String {
        match self {
            Self::Ownership => format!(
                "{host} leads here, but its owner has yet to say that this app may have it; until \
                 then it is not served"
            ),
            Self::Delegation => format!(
                "{host} leads here, but a certificate for it is proven by DNS, and its \
                 _acme-challenge leads to no zone of Weir"
            ),
        }
    }
}

fn verdict(
    host: &Hostname,
    looked: &Looked,
    here: &[IpAddr],
    issuers: Option<&BTreeSet<String>>,
) -> (DomainState, String) {
    let leads_to = match &looked.leads_to {
        Ok(leads_to) => leads_to,
        Err(why) => return (DomainState::Unknown, format!("the DNS cannot be asked: {why}")),
    };
    if leads_to.is_empty() {
        let message = format!("{host} has no address yet; write one of the groups of records");
        return (DomainState::Missing, message);
    }
    if here.is_empty() {
        let why = match &looked.here {
            Ok(_) => "the base domain has no address itself".to_owned(),
            Err(why) => why.clone(),
        };
        return (DomainState::Unknown, format!("where it should lead is not known: {why}"));
    }
    let elsewhere: Vec<_> =
        leads_to.iter().filter(|a| !here.contains(a)).map(ToString::to_string).collect();
    let list = elsewhere.join(", ");
    if elsewhere.len() == leads_to.len() {
        let message = format!("{host} leads to {list}, and not here; write one of the groups");
        return (DomainState::Missing, message);
    }
    if !elsewhere.is_empty() {
        let message = format!("{host} leads here and to {list}; remove those records");
        return (DomainState::Wrong, message);
    }
    match issuers {
        Some(issuers) if issuers.is_empty() => {
            let message = format!("a CAA record forbids everybody to issue for {host}; remove it");
            (DomainState::Wrong, message)
        }
        Some(issuers) => {
            let only = issuers.iter().cloned().collect::<Vec<_>>().join(", ");
            (DomainState::Ready, format!("it leads here; only {only} may issue for it"))
        }
        None => (DomainState::Ready, "it leads here".to_owned()),
    }
}

/// Who may issue for a name with these CAA records; `None` for everybody, empty for nobody (RFC
/// 8659, 4.2). For a wildcard `issuewild` counts, where there is any (4.3).
fn issuers(records: &[Box<[u8]>], is_wildcard: bool) -> Option<BTreeSet<String>> {
    let wild = is_wildcard.then(|| named(records, b"issuewild")).flatten();
    wild.or_else(|| named(records, b"issue"))
}

/// Those in records of a tag; `None` if there is no such record.
fn named(records: &[Box<[u8]>], tag_wanted: &[u8]) -> Option<BTreeSet<String>> {
    let issue = |record: &[u8]| {
        let (_flags, rest) = record.split_first()?;
        let (length, rest) = rest.split_first()?;
        let (tag, value) = rest.split_at_checked(usize::from(*length))?;
        let value = str::from_utf8(value).ok()?;
        let issuer = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        tag.eq_ignore_ascii_case(tag_wanted).then_some(issuer)
    };
    let named: Vec<_> = records.iter().filter_map(|record| issue(record)).collect();
    if named.is_empty() {
        return None;
    }
    Some(named.into_iter().filter(|issuer| !issuer.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &str) -> Result<Vec<IpAddr>, String> {
        match text.strip_prefix('!') {
            Some(error) => Err(error.to_owned()),
            None => Ok(text.split_whitespace().map(|a| a.parse().unwrap()).collect()),
        }
    }

    fn caa(value: &str) -> Box<[u8]> {
        [&[0, 5], b"issue".as_slice(), value.as_bytes()].concat().into()
    }

    #[test]
    fn what_is_missing_is_said_with_what_to_write() {
        let (host, target) = ("www.a.test".parse().unwrap(), "shop.apps.test".parse().unwrap());
        for (leads_to, here, authorizations, state, said) in [
            ("", "192.0.2.1", vec![], DomainState::Missing, "no address"),
            ("192.0.2.9", "192.0.2.1 2001:db8::1", vec![], DomainState::Missing, "192.0.2.9"),
            ("192.0.2.1 192.0.2.9", "192.0.2.1", vec![], DomainState::Wrong, "remove"),
            ("192.0.2.1", "192.0.2.1 2001:db8::1", vec![], DomainState::Ready, "leads here"),
            ("192.0.2.1", "192.0.2.1", vec![caa(";")], DomainState::Wrong, "forbids"),
            (
                "192.0.2.1",
                "192.0.2.1",
                vec![caa("CA.test; x=1")],
                DomainState::Ready,
                "only ca.test",
            ),
            ("!no server", "192.0.2.1", vec![], DomainState::Unknown, "no server"),
            ("192.0.2.1", "", vec![], DomainState::Unknown, "base domain"),
        ] {
            let (leads_to, here) = (addresses(leads_to), addresses(here));
            let authorizations = Ok(authorizations);
            let looked = Looked { leads_to, here, authorizations, proofs: Vec::new(), at: 0 };
            let judged = judge(&host, &target, &looked);
            assert_eq!(judged.state, state, "{judged:?}");
            assert!(judged.message.contains(said), "{judged:?}");
            assert_eq!(judged.needed.is_empty(), state == DomainState::Ready, "{judged:?}");
        }
        let looked = Looked {
            leads_to: addresses("192.0.2.9"),
            here: addresses("192.0.2.1 2001:db8::1"),
            authorizations: Err("not asked".to_owned()),
            proofs: Vec::new(),
            at: 0,
        };
        let judged = judge(&host, &target, &looked);
        let groups = [
            vec!["www.a.test. CNAME shop.apps.test."],
            vec!["www.a.test. A 192.0.2.1", "www.a.test. AAAA 2001:db8::1"],
            vec!["www.a.test. ALIAS shop.apps.test."],
        ];
        assert_eq!(judged.needed, groups);
        assert_eq!(judged.seen, ["www.a.test. A 192.0.2.9"]);
    }

    #[test]
    fn what_the_owner_has_to_say_is_among_what_to_write() {
        let (host, target) = ("*.a.test".parse().unwrap(), "shop.apps.test".parse().unwrap());
        let proof = |kind, is_seen| Proof { kind, record: format!("{kind:?}"), is_seen };
        let judge = |leads_to, proofs| {
            let (leads_to, here) = (addresses(leads_to), addresses("192.0.2.1"));
            judge(
                &host,
                &target,
                &Looked { leads_to, here, authorizations: Ok(vec![]), proofs, at: 0 },
            )
        };
        let both =
            |seen| vec![proof(ProofKind::Ownership, true), proof(ProofKind::Delegation, seen)];
        let missing = judge("192.0.2.1", both(false));
        assert_eq!(
            (missing.state, missing.needed),
            (DomainState::Missing, vec![vec!["Delegation".to_owned()]])
        );
        assert_eq!(missing.seen, ["*.a.test. A 192.0.2.1", "Ownership"]);
        let groups = [
            vec!["*.a.test. CNAME shop.apps.test.", "Delegation"],
            vec!["*.a.test. A 192.0.2.1", "Delegation"],
        ];
        assert_eq!(judge("", both(false)).needed, groups, "no ALIAS of a wildcard");
        let ready = judge("192.0.2.1", both(true));
        assert_eq!((ready.state, ready.needed), (DomainState::Ready, vec![]));
    }

    #[test]
    fn who_may_issue_for_a_wildcard_is_said_apart() {
        let wild: Box<[u8]> = [&[0, 9], b"issuewild".as_slice(), b";".as_slice()].concat().into();
        let records = [caa("ca.test"), wild];
        assert_eq!(issuers(&records, true), Some(BTreeSet::new()));
        assert_eq!(issuers(&records, false), Some(["ca.test".to_owned()].into()));
        assert_eq!(issuers(&records[..1], true), Some(["ca.test".to_owned()].into()));
    }
}
