//! Signatures of messages with a secret that two servers share (RFC 8945).

use std::sync::Arc;

use hickory_proto::rr::rdata::tsig::{TsigAlgorithm as Algorithm, signed_bitmessage_to_buf};
use weir_config::{DnsName, RecordType, TsigAlgorithm, TsigKey};

/// How far clocks may be apart, in seconds.
const FUDGE: u16 = 300;
const CLASS_ANY: u16 = 255;

/// What is wrong with a signature (RFC 8945 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Signature = 16,
    Key = 17,
    Time = 18,
}

/// Signs what is said to somebody.
#[derive(Debug)]
pub(crate) struct Signer {
    key: Arc<TsigKey>,
    /// What the next signature is about as well: the one before it, or the question's.
    former: Vec<u8>,
    /// The message that is answered.
    id: u16,
    /// Whether it has signed a message of this answer already.
    goes_on: bool,
}

/// A signature that is not believed.
#[derive(Debug)]
pub(crate) struct Rejected {
    pub(crate) fault: Fault,
    name: DnsName,
    algorithm: Vec<u8>,
    time: u64,
    id: u16,
    /// There if the signature is right and only the time is wrong.
    signer: Option<Signer>,
}

/// Checks the signature of a question. `now` is in seconds since 1970.
///
/// # Errors
/// `None` if the message is not well-formed, else why it is not believed.
pub(crate) fn verify<'k>(
    message: &[u8],
    mut keys: impl Iterator<Item = &'k Arc<TsigKey>>,
    now: u64,
) -> Result<Signer, Option<Rejected>> {
    let (signed, record) = signed_bitmessage_to_buf(message, None, true).map_err(|_| None)?;
    let tsig = &record.data;
    let wire = |name: &hickory_proto::rr::Name| {
        let labels = name.iter().flat_map(|label| [&[label.len() as u8][..], label].concat());
        labels.chain([0]).collect::<Vec<_>>()
    };
    let algorithm = wire(&tsig.algorithm.to_name());
    let rejected = |fault, name: DnsName, signer| {
        let (algorithm, time, id) = (algorithm.clone(), tsig.time, tsig.oid);
        Err(Some(Rejected { fault, name, algorithm, time, id, signer }))
    };
    let named = DnsName::from_wire(&wire(&record.name)).map_err(|_| None)?;
    let key = keys.find(|key| key.name == named && hickory(key.algorithm) == tsig.algorithm);
    let Some(key) = key else { return rejected(Fault::Key, named, None) };
    // A signature that is cut short is not taken.
    if tsig.algorithm.verify_mac(&key.secret, &signed, &tsig.mac).is_err() {
        return rejected(Fault::Signature, named, None);
    }
    let former = tsig.mac.clone();
    let signer = Signer { key: key.clone(), former, id: tsig.oid, goes_on: false };
    if now.abs_diff(tsig.time) > tsig.fudge.into() {
        return rejected(Fault::Time, named, Some(signer));
    }
    Ok(signer)
}

impl Signer {
    /// For a message of ours that answers none.
    pub(crate) fn new(key: Arc<TsigKey>, id: u16) -> Self {
        Self { key, former: Vec::new(), id, goes_on: false }
    }

    pub(crate) fn key(&self) -> &TsigKey {
        &self.key
    }

    /// How many octets a signature takes.
    pub(crate) fn len(&self) -> usize {
        const LONGEST_MAC: usize = 64;
        self.key.name.wire().len() + algorithm_name(self.key.algorithm).len() + LONGEST_MAC + 26
    }

    /// Signs a message; of those that make up one answer, one after the other.
    pub(crate) fn sign(&mut self, message: &mut Vec<u8>, now: u64) {
        self.sign_with(message, now, 0, &[]);
    }

    fn sign_with(&mut self, message: &mut Vec<u8>, now: u64, fault: u16, other: &[u8]) {
        let mut signed = Vec::with_capacity(message.len() + 256);
        if !self.former.is_empty() {
            signed.extend_from_slice(&(self.former.len() as u16).to_be_bytes());
            signed.extend_from_slice(&self.former);
        }
        signed.extend_from_slice(message);
        let algorithm = algorithm_name(self.key.algorithm);
        if self.goes_on {
            signed.extend_from_slice(&time_and_fudge(now));
        } else {
            signed.extend_from_slice(self.key.name.wire());
            signed.extend_from_slice(&CLASS_ANY.to_be_bytes());
            signed.extend_from_slice(&[0; 4]);
            signed.extend_from_slice(&algorithm);
            signed.extend_from_slice(&time_and_fudge(now));
            signed.extend_from_slice(&fault.to_be_bytes());
            signed.extend_from_slice(&(other.len() as u16).to_be_bytes());
            signed.extend_from_slice(other);
        }
        // An algorithm that could not be used could not have been made.
        let mac = hickory(self.key.algorithm).mac_data(&self.key.secret, &signed);
        self.former = mac.unwrap_or_default();
        self.goes_on = true;
        let (name, mac) = (self.key.name.wire(), &self.former);
        append(message, name, &algorithm, now, mac, self.id, fault, other);
    }
}

impl Rejected {
    /// Says in an answer why its question was not believed.
    pub(crate) fn append(self, message: &mut Vec<u8>, now: u64) {
        let Self { fault, name, algorithm, time, id, signer } = self;
        match signer {
            // With our time, so that the client can set its clock.
            Some(mut signer) => {
                let ours = &now.to_be_bytes()[2..];
                signer.sign_with(message, time, fault as u16, ours);
            }
            None => append(message, name.wire(), &algorithm, now, &[], id, fault as u16, &[]),
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "they are the fields of a record")]
fn append(
    message: &mut Vec<u8>,
    name: &[u8],
    algorithm: &[u8],
    time: u64,
    mac: &[u8],
    id: u16,
    fault: u16,
    other: &[u8],
) {
    let data = [
        algorithm,
        &time_and_fudge(time),
        &(mac.len() as u16).to_be_bytes(),
        mac,
        &id.to_be_bytes(),
        &fault.to_be_bytes(),
        &(other.len() as u16).to_be_bytes(),
        other,
    ]
    .concat();
    message.extend_from_slice(name);
    message.extend_from_slice(&RecordType::TSIG.0.to_be_bytes());
    message.extend_from_slice(&CLASS_ANY.to_be_bytes());
    message.extend_from_slice(&[0; 4]);
    message.extend_from_slice(&(data.len() as u16).to_be_bytes());
    message.extend_from_slice(&data);
    if let Some(additionals) = message.get_mut(10..12) {
        let count = u16::from_be_bytes([additionals[0], additionals[1]]) + 1;
        additionals.copy_from_slice(&count.to_be_bytes());
    }
}

fn time_and_fudge(time: u64) -> [u8; 8] {
    let mut both = [0; 8];
    both[..6].copy_from_slice(&time.to_be_bytes()[2..]);
    both[6..].copy_from_slice(&FUDGE.to_be_bytes());
    both
}

fn algorithm_name(algorithm: TsigAlgorithm) -> Vec<u8> {
    let label = algorithm.as_str().as_bytes();
    [&[label.len() as u8], label, &[0]].concat()
}

fn hickory(algorithm: TsigAlgorithm) -> Algorithm {
    match algorithm {
        TsigAlgorithm::HmacSha256 => Algorithm::HmacSha256,
        TsigAlgorithm::HmacSha384 => Algorithm::HmacSha384,
        TsigAlgorithm::HmacSha512 => Algorithm::HmacSha512,
    }
}
