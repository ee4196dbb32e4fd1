//! What goes together in a zone, and what does not.

use super::DesiredZone;
use crate::{DnsName, RecordType};

impl DesiredZone {
    /// Whether the records of a name go together with the others: looks at those of its name, of the
    /// names above it, at whether there is one below it, and at those of [`Self::glue_of`] it.
    ///
    /// # Errors
    /// What does not go together, and what to do about it.
    pub fn lint(&self, name: &DnsName) -> Result<(), String> {
        let zone = &self.zone.name;
        let node = self.custom.node(name.wire());
        let sets = node.map_or(&[][..], |node| node.sets());
        let has = |rtype| sets.iter().any(|set| set.rtype() == rtype);
        let other = |but: RecordType| sets.iter().find(|set| set.rtype() != but);
        if has(RecordType::CNAME)
            && let Some(other) = other(RecordType::CNAME)
        {
            return Err(format!(
                "{name} has a CNAME, beside which there is nothing else (RFC 1034 3.6.2), and {}; \
                 delete one of them",
                other.rtype()
            ));
        }
        if self.aliases.contains_key(name) {
            let addresses = [RecordType::CNAME, RecordType::A, RecordType::AAAA];
            if let Some(other) = addresses.into_iter().find(|rtype| has(*rtype)) {
                return Err(format!(
                    "{name} has an ALIAS, which stands for its addresses, and {other}; delete one \
                     of them"
                ));
            }
        }
        let is_there = !sets.is_empty() || self.aliases.contains_key(name);
        let mut above = name.parent();
        while let Some(parent) = above.filter(|parent| parent.is_at_or_below(zone.dns())) {
            if is_there && self.custom.get(&parent, RecordType::DNAME).is_some() {
                return Err(format!(
                    "{name} is below {parent}, whose DNAME leads all such names elsewhere \
                     (RFC 6672 2.4); delete one of them"
                ));
            }
            above = parent.parent();
        }
        if has(RecordType::DNAME) && self.custom.has_names_below(name) {
            return Err(format!(
                "{name} has a DNAME, which leads all names below it elsewhere (RFC 6672 2.4), but \
                 there are records below it; delete those first"
            ));
        }
        self.lint_glue(name)
    }

    /// The nameservers whose addresses have to be in the zone, because only its own answers lead to
    /// them: those at or below the delegations that a name is at or below.
    pub fn glue_of(&self, name: &DnsName) -> Vec<DnsName> {
        let mut servers = Vec::new();
        let mut at = Some(name.clone());
        while let Some(cut) = at.filter(|at| at != self.zone.name.dns()) {
            let delegated = self.custom.get(&cut, RecordType::NS);
            let named = delegated.into_iter().flat_map(|set| set.data());
            let named = named.filter_map(|data| DnsName::from_wire(data).ok());
            servers.extend(named.filter(|server| server.is_at_or_below(&cut)));
            at = cut.parent();
        }
        servers
    }

    fn lint_glue(&self, name: &DnsName) -> Result<(), String> {
        let has_address = |server: &DnsName| {
            [RecordType::A, RecordType::AAAA]
                .into_iter()
                .any(|rtype| self.custom.get(server, rtype).is_some())
        };
        match self.glue_of(name).into_iter().find(|server| !has_address(server)) {
            None => Ok(()),
            Some(server) => Err(format!(
                "the nameserver {server} is below the name that it is to answer for, so nobody \
                 finds it without its address (glue); write A or AAAA records of {server} in the \
                 same change or before"
            )),
        }
    }
}
