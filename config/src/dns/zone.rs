//! A zone as it is served.

use std::sync::Arc;

use foldhash::fast::RandomState;
use imbl::{GenericHashMap, OrdMap, ordmap::DiffItem, shared_ptr::DefaultSharedPtr};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{DnsName, RecordSet, RecordType, Secondary};

/// A persistent hash map from names: a change copies the few nodes that lead to it.
///
/// The hasher is quick and seeded. A stranger can ask for any name but put none in, and so cannot
/// make names collide.
pub(crate) type NameMap<T> = GenericHashMap<DnsName, T, RandomState, DefaultSharedPtr>;

/// The names and records of one zone. Cloning is cheap and shares structure: a change costs the
/// names that it touches, not all of them.
#[derive(Clone, Debug)]
pub struct Zone {
    name: DnsName,
    /// For questions.
    nodes: NameMap<Arc<Node>>,
    /// The same nodes, for transfers and to find out what has changed. Comparing names canonically
    /// is slow, so that questions are not asked here.
    in_order: OrdMap<DnsName, Arc<Node>>,
    records: usize,
    cuts: usize,
    negative: Option<RecordSet>,
    secondaries: Arc<[Secondary]>,
}

/// A name that exists in a zone, because it has records or because one below it has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// Ordered by type.
    sets: Arc<[RecordSet]>,
    /// Names that are one label longer.
    children: u32,
    has_wildcard: bool,
}

/// A name does not belong to a zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} is not below {zone}, whose zone it was to be put into")]
pub struct OutOfZone {
    pub name: DnsName,
    pub zone: DnsName,
}

impl Zone {
    /// A zone without records, which is not ready to be served: it needs SOA and NS.
    pub fn new(name: DnsName) -> Self {
        let mut zone = Self {
            name: name.clone(),
            nodes: NameMap::default(),
            in_order: OrdMap::new(),
            records: 0,
            cuts: 0,
            negative: None,
            secondaries: Arc::default(),
        };
        zone.put(name, Node::default());
        zone
    }

    pub fn name(&self) -> &DnsName {
        &self.name
    }

    /// Of its SOA, if it has one.
    pub fn serial(&self) -> Option<u32> {
        self.soa().map(|soa| number_from_end(soa, 5))
    }

    pub fn soa(&self) -> Option<&RecordSet> {
        self.get(&self.name, RecordType::SOA)
    }

    /// The SOA as it goes with a negative answer: its TTL says how long that may be kept (RFC 2308
    /// section 3).
    pub fn negative_soa(&self) -> Option<&RecordSet> {
        self.negative.as_ref()
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.records
    }

    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Whether a name below the zone's has NS records or any name has a DNAME record, so that the
    /// names above the one that is asked for matter.
    pub fn has_cuts(&self) -> bool {
        self.cuts > 0
    }

    /// What there is at a name, which is lower-cased and uncompressed.
    pub fn node(&self, wire: &[u8]) -> Option<&Node> {
        self.nodes.get(wire).map(|node| &**node)
    }

    /// The sets at a name, ordered by type.
    pub fn sets_at(&self, name: &DnsName) -> &[RecordSet] {
        self.nodes.get(name).map_or(&[], |node| &node.sets)
    }

    pub fn get(&self, name: &DnsName, rtype: RecordType) -> Option<&RecordSet> {
        self.nodes.get(name)?.get(rtype)
    }

    /// All sets in the canonical order of their names (RFC 4034 section 6.1), and at a name by type.
    pub fn iter(&self) -> impl Iterator<Item = (&DnsName, &RecordSet)> {
        self.in_order.iter().flat_map(|(name, node)| node.sets.iter().map(move |set| (name, set)))
    }

    /// As [`Self::iter`], from a name on.
    pub fn iter_from<'a>(
        &'a self,
        first: &DnsName,
    ) -> impl Iterator<Item = (&'a DnsName, &'a RecordSet)> + use<'a> {
        let nodes = self.in_order.range(first.clone()..);
        nodes.flat_map(|(name, node)| node.sets.iter().map(move |set| (name, set)))
    }

    /// Whether there is a name below this one.
    pub fn has_names_below(&self, name: &DnsName) -> bool {
        self.nodes.get(name).is_some_and(|node| node.children > 0)
    }

    /// The names whose records are others than in `former`. Costs what has changed, if the one was
    /// made out of the other.
    pub fn changed_names<'a>(&'a self, former: &'a Self) -> impl Iterator<Item = &'a DnsName> {
        former.in_order.diff(&self.in_order).filter_map(|item| match item {
            DiffItem::Add(name, node) | DiffItem::Remove(name, node) => {
                (!node.sets.is_empty()).then_some(name)
            }
            DiffItem::Update { old: (_, old), new: (name, new) } => {
                (old.sets != new.sets).then_some(name)
            }
        })
    }

    /// Who may have all of it, and is told of changes.
    pub fn secondaries(&self) -> &Arc<[Secondary]> {
        &self.secondaries
    }

    pub fn set_secondaries(&mut self, secondaries: Arc<[Secondary]>) {
        self.secondaries = secondaries;
    }

    /// Puts records in the place of the former ones of their name and type.
    ///
    /// # Errors
    /// [`OutOfZone`], and nothing changes; also for a SOA elsewhere than at the zone's name.
    pub fn set(&mut self, name: &DnsName, set: RecordSet) -> Result<(), OutOfZone> {
        let is_soa = set.rtype() == RecordType::SOA;
        if !name.is_at_or_below(&self.name) || is_soa && *name != self.name {
            return Err(OutOfZone { name: name.clone(), zone: self.name.clone() });
        }
        if is_soa {
            self.negative = Some(set.with_ttl(set.ttl().min(number_from_end(&set, 1))));
        }
        self.make(name);
        let (rtype, len) = (set.rtype(), set.len());
        let former = self.replace(name, rtype, Some(set));
        self.records += len;
        self.records -= former.as_ref().map_or(0, RecordSet::len);
        self.cuts += usize::from(former.is_none() && self.is_cut(name, rtype));
        Ok(())
    }

    /// Takes away the records of a name and type, and gives them back.
    pub fn remove(&mut self, name: &DnsName, rtype: RecordType) -> Option<RecordSet> {
        self.get(name, rtype)?;
        let former = self.replace(name, rtype, None)?;
        self.records -= former.len();
        self.cuts -= usize::from(self.is_cut(name, rtype));
        if rtype == RecordType::SOA {
            self.negative = None;
        }
        self.unmake(name);
        Some(former)
    }

    fn is_cut(&self, name: &DnsName, rtype: RecordType) -> bool {
        rtype == RecordType::DNAME || rtype == RecordType::NS && *name != self.name
    }

    fn replace(
        &mut self,
        name: &DnsName,
        rtype: RecordType,
        set: Option<RecordSet>,
    ) -> Option<RecordSet> {
        let mut node = Node::clone(self.nodes.get(name)?);
        let former = node.get(rtype).cloned();
        let others = node.sets.iter().filter(|set| set.rtype() != rtype).cloned();
        let mut sets: Vec<_> = others.chain(set).collect();
        sets.sort_by_key(RecordSet::rtype);
        node.sets = sets.into();
        self.put(name.clone(), node);
        former
    }

    /// Makes sure that a name of the zone exists, and with it those between it and the zone's.
    fn make(&mut self, name: &DnsName) {
        if self.nodes.contains_key(name) {
            return;
        }
        self.put(name.clone(), Node::default());
        let Some(above) = name.parent() else { return };
        self.make(&above);
        let mut node = self.nodes.get(&above).map_or_else(Node::default, |node| Node::clone(node));
        node.children += 1;
        node.has_wildcard |= name.is_wildcard();
        self.put(above, node);
    }

    /// Forgets a name that has no records and none below it, and so those above it.
    fn unmake(&mut self, name: &DnsName) {
        let is_nothing = self.nodes.get(name).is_some_and(|node| node.is_nothing());
        if *name == self.name || !is_nothing {
            return;
        }
        self.nodes.remove(name);
        self.in_order.remove(name);
        let Some(above) = name.parent() else { return };
        if let Some(node) = self.nodes.get(&above) {
            let mut node = Node::clone(node);
            node.children -= 1;
            node.has_wildcard &= !name.is_wildcard();
            self.put(above.clone(), node);
        }
        self.unmake(&above);
    }

    fn put(&mut self, name: DnsName, node: Node) {
        let node = Arc::new(node);
        self.nodes.insert(name.clone(), node.clone());
        self.in_order.insert(name, node);
    }
}

impl PartialEq for Zone {
    /// The rest is made from these.
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.in_order, &self.secondaries)
            == (&other.name, &other.in_order, &other.secondaries)
    }
}

impl Node {
    pub fn get(&self, rtype: RecordType) -> Option<&RecordSet> {
        // Few, so that looking at each is quickest.
        self.sets.iter().find(|set| set.rtype() == rtype)
    }

    /// Ordered by type; none at a name that exists only because of those below it.
    pub fn sets(&self) -> &[RecordSet] {
        &self.sets
    }

    /// Whether there is a name that is this one with `*` in front.
    pub fn has_wildcard(&self) -> bool {
        self.has_wildcard
    }

    fn is_nothing(&self) -> bool {
        self.sets.is_empty() && self.children == 0
    }
}

/// One of the five numbers that the data of a SOA ends with.
fn number_from_end(soa: &RecordSet, place: usize) -> u32 {
    let data = soa.first();
    let bytes = data.len().checked_sub(4 * place).and_then(|at| data[at..].first_chunk());
    bytes.map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

/// As kept on disk.
#[derive(Deserialize)]
struct Saved {
    name: DnsName,
    sets: Vec<(DnsName, RecordSet)>,
    secondaries: Arc<[Secondary]>,
}

#[derive(Serialize)]
struct Saving<'a> {
    name: &'a DnsName,
    sets: Vec<(&'a DnsName, &'a RecordSet)>,
    secondaries: &'a [Secondary],
}

impl Serialize for Zone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (name, sets) = (&self.name, self.iter().collect());
        Saving { name, sets, secondaries: &self.secondaries }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let saved = Saved::deserialize(deserializer)?;
        let mut zone = Self::new(saved.name);
        for (name, set) in saved.sets {
            zone.set(&name, set).map_err(de::Error::custom)?;
        }
        zone.secondaries = saved.secondaries;
        Ok(zone)
    }
}
