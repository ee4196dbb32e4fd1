//! Session tickets: what a client comes back with instead of a full handshake (RFC 5077, and RFC
//! 8446, 4.6.1).
//!
//! Nothing is kept here about a session; the ticket holds it, sealed with a key that only we have.
//! So any number of clients can come back, also after a restart, as long as the keys are kept.

use std::{
    fmt::{self, Write},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand,
};
use rustls::server::ProducesTickets;

use super::hex;

/// The keys of session tickets, the newest first; never none.
///
/// Whoever has them can read recorded connections of TLS 1.2 that came back with a ticket, which is
/// why they live no longer than [`TicketKeys::ROTATION`] and [`TicketKeys::LIFETIME`] together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketKeys(Vec<TicketKey>);

#[derive(Clone, PartialEq, Eq)]
struct TicketKey {
    /// In seconds since 1970.
    created: u64,
    /// Stands at the beginning of each ticket; tells which key to open it with.
    name: [u8; NAME_LEN],
    secret: [u8; SECRET_LEN],
}

const NAME_LEN: usize = 16;
const SECRET_LEN: usize = 32;

#[derive(Debug, thiserror::Error)]
pub enum TicketKeysError {
    #[error("the system gives no random numbers")]
    NoRandomness,
    #[error("line {line} is not a key; delete the file, and new keys are made")]
    Damaged { line: usize },
}

impl TicketKeys {
    /// How long the newest key seals tickets.
    pub const ROTATION: Duration = Duration::from_secs(6 * 60 * 60);
    /// How long a ticket is good for, and its key kept after it sealed its last one.
    pub const LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);

    /// One new key.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn generate(now: SystemTime) -> Result<Self, TicketKeysError> {
        Ok(Self(vec![TicketKey::generate(unix_seconds(now))?]))
    }

    /// With a new key before the others if one is due, and without those that have had their time.
    /// `None` if neither is so. A key from the future has had its time: the clock was wrong.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn rotate(&self, now: SystemTime) -> Result<Option<Self>, TicketKeysError> {
        let now = unix_seconds(now);
        let younger = |than: Duration| {
            move |key: &&TicketKey| {
                now.checked_sub(key.created).is_some_and(|age| age < than.as_secs())
            }
        };
        let mut keys: Vec<_> =
            self.0.iter().filter(younger(Self::ROTATION + Self::LIFETIME)).cloned().collect();
        if !keys.first().is_some_and(|newest| younger(Self::ROTATION)(&newest)) {
            keys.insert(0, TicketKey::generate(now)?);
        }
        Ok((keys != self.0).then_some(Self(keys)))
    }

    /// Reads what [`TicketKeys::serialize`] wrote.
    ///
    /// # Errors
    /// The first line that is no key.
    pub fn parse(text: &str) -> Result<Self, TicketKeysError> {
        let keys: Vec<_> = text
            .lines()
            .enumerate()
            .map(|(i, line)| TicketKey::parse(line).ok_or(TicketKeysError::Damaged { line: i + 1 }))
            .collect::<Result<_, _>>()?;
        if keys.is_empty() {
            return Err(TicketKeysError::Damaged { line: 1 });
        }
        Ok(Self(keys))
    }

    /// As text, for a file that only its owner may read: a key in each line, as its creation time,
    /// its name and its secret.
    pub fn serialize(&self) -> String {
        self.0.iter().fold(String::new(), |mut text, key| {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{} {} {}", key.created, hex(&key.name), hex(&key.secret));
            text
        })
    }
}

impl fmt::Debug for TicketKey {
    /// The secret stays out of every log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKey").field("created", &self.created).finish_non_exhaustive()
    }
}

impl TicketKey {
    fn generate(created: u64) -> Result<Self, TicketKeysError> {
        let (mut name, mut secret) = ([0; NAME_LEN], [0; SECRET_LEN]);
        rand::fill(&mut name)
            .and_then(|()| rand::fill(&mut secret))
            .map_err(|_| TicketKeysError::NoRandomness)?;
        Ok(Self { created, name, secret })
    }

    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(' ');
        let mut field = || fields.next();
        let key = Self {
            created: field()?.parse().ok()?,
            name: unhex(field()?)?,
            secret: unhex(field()?)?,
        };
        field().is_none().then_some(key)
    }
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// Seals and opens tickets with keys that can be replaced at any time. Clones share their keys.
#[derive(Clone)]
pub struct Tickets(Arc<ArcSwap<Vec<Key>>>);

struct Key {
    name: [u8; NAME_LEN],
    aead: LessSafeKey,
}

/// Ours are smaller: they hold a secret and a server name, and never a certificate. So nobody makes
/// us try to open more.
const MAX_TICKET: usize = 1024;

impl Tickets {
    pub fn new(keys: &TicketKeys) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(ready(keys))))
    }

    /// From now on, tickets are sealed and opened with these.
    pub fn replace(&self, keys: &TicketKeys) {
        self.0.store(Arc::new(ready(keys)));
    }
}

fn ready(keys: &TicketKeys) -> Vec<Key> {
    let key = |key: &TicketKey| {
        // A secret of this length is a key.
        let aead = UnboundKey::new(&AES_256_GCM, &key.secret).ok()?;
        Some(Key { name: key.name, aead: LessSafeKey::new(aead) })
    };
    keys.0.iter().filter_map(key).collect()
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}

/// A ticket is the key's name, a nonce, and the session sealed.
impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        TicketKeys::LIFETIME.as_secs() as u32
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        let keys = self.0.load();
        let Key { name, aead } = keys.first()?;
        // A random one is never met twice: within a key's time there are far less than 2³² tickets.
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut sealed = session.to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        aead.seal_in_place_append_tag(unique, Aad::from(name), &mut sealed).ok()?;
        let ticket = [&name[..], &nonce, &sealed].concat();
        (ticket.len() <= MAX_TICKET).then_some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        if ticket.len() > MAX_TICKET {
            return None;
        }
        let (name, rest) = ticket.split_first_chunk::<NAME_LEN>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let keys = self.0.load();
        let key = keys.iter().find(|key| key.name == *name)?;
        let mut session = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = key.aead.open_in_place(nonce, Aad::from(name), &mut session).ok()?.len();
        session.truncate(opened);
        Some(session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(60 * 60);

    fn at(hours: u32) -> SystemTime {
        UNIX_EPOCH + 1_000_000 * HOUR + hours * HOUR
    }

    #[test]
    fn a_ticket_is_good_for_its_whole_lifetime_and_its_key_is_then_forgotten() {
        let mut keys = TicketKeys::generate(at(0)).unwrap();
        let tickets = Tickets::new(&keys);
        let mut sealed = Vec::new();
        for hour in 0..100 {
            if let Some(rotated) = keys.rotate(at(hour)).unwrap() {
                keys = rotated;
                tickets.replace(&keys);
            }
            assert!(keys.0.len() <= 3, "{keys:?}");
            sealed.push(tickets.encrypt(format!("session {hour}").as_bytes()).unwrap());
            for (then, ticket) in sealed.iter().enumerate() {
                let opened = tickets.decrypt(ticket);
                match hour as usize - then {
                    0..12 => assert_eq!(opened.unwrap(), format!("session {then}").as_bytes()),
                    18.. => assert_eq!(opened, None, "of hour {then} at hour {hour}"),
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn nothing_is_rotated_before_it_is_due() {
        let keys = TicketKeys::generate(at(0)).unwrap();
        assert_eq!(keys.rotate(at(5)).unwrap(), None);
        let rotated = keys.rotate(at(6)).unwrap().unwrap();
        assert_eq!((rotated.0.len(), &rotated.0[1]), (2, &keys.0[0]));
    }

    #[test]
    fn a_key_from_the_future_is_forgotten() {
        let keys = TicketKeys::generate(at(1000)).unwrap();
        let rotated = keys.rotate(at(0)).unwrap().unwrap();
        assert_eq!((rotated.0.len(), rotated.0[0] == keys.0[0]), (1, false));
    }

    #[test]
    fn keys_are_read_as_they_were_written() {
        let one = TicketKeys::generate(at(0)).unwrap();
        let two = one.rotate(at(7)).unwrap().unwrap();
        for keys in [one, two] {
            assert_eq!(TicketKeys::parse(&keys.serialize()).unwrap(), keys);
        }
    }

    #[test]
    fn what_is_damaged_is_no_key() {
        let good = TicketKeys::generate(at(0)).unwrap().serialize();
        let bad = [
            String::new(),
            "\n".to_owned(),
            good[..good.len() - 2].to_owned(),
            good.replace(' ', "  "),
            format!("{good}x"),
            good.trim_end().to_owned() + " 1\n",
            good.trim_end().rsplit_once(' ').unwrap().0.to_owned() + &" é".repeat(32),
        ];
        for text in bad {
            assert!(TicketKeys::parse(&text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_was_not_sealed_here_is_not_opened() {
        let tickets = Tickets::new(&TicketKeys::generate(at(0)).unwrap());
        let ticket = tickets.encrypt(b"session").unwrap();
        for i in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[i] ^= 1;
            assert_eq!(tickets.decrypt(&changed), None, "byte {i}");
            assert_eq!(tickets.decrypt(&ticket[..i]), None, "{i} bytes");
        }
        let other = Tickets::new(&TicketKeys::generate(at(0)).unwrap());
        assert_eq!(other.decrypt(&ticket), None);
        assert_eq!(tickets.encrypt(&[0; MAX_TICKET]), None);
    }
}
