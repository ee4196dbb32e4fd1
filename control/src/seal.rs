//! Sealing: keeping what must not be read by whoever sees the database.
//!
//! AES-256-GCM with a random nonce for each value. What a value is of (its app, name and version)
//! is authenticated with it, so that a value that was moved to another place does not open.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// A value as it is kept: the key it needs, and what is nothing without it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Sealed {
    pub(crate) key: String,
    /// Nonce, ciphertext and tag, in Base64.
    pub(crate) text: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("it is sealed with the key {0}, which is not there; put its line back in secrets.key")]
    UnknownKey(String),
    #[error("it does not open: it was changed, or belongs somewhere else; set it again")]
    Broken,
    #[error("the cryptographic library failed")]
    Library,
}

/// The keys of one Weir: the newest seals, every one of them opens.
pub(crate) struct Keyring {
    keys: Vec<Key>,
}

#[derive(Clone)]
struct Key {
    /// Of the key's hash, so that a key with a slip of the pen in it is known to be damaged.
    id: String,
    bytes: Zeroizing<[u8; 32]>,
}

impl Keyring {
    /// One of a single new key.
    pub(crate) fn new() -> Self {
        Self { keys: vec![Key::new(Zeroizing::new(rand::random()))] }
    }

    /// Whether there are keys that only open.
    pub(crate) fn has_former(&self) -> bool {
        self.keys.len() > 1
    }

    /// The key that seals.
    pub(crate) fn newest(&self) -> &str {
        self.keys.first().map_or("", |key| &key.id)
    }

    /// This one with a new key before the others.
    pub(crate) fn renewed(&self) -> Self {
        let mut renewed = Self::new();
        renewed.keys.extend_from_slice(&self.keys);
        renewed
    }

    /// The newest, and of the others those that are still needed.
    pub(crate) fn reduced(&self, is_needed: impl Fn(&str) -> bool) -> Self {
        let newest = self.newest();
        let kept = self.keys.iter().filter(|key| key.id == newest || is_needed(&key.id));
        Self { keys: kept.cloned().collect() }
    }

    /// This one, and after its keys those of another that it does not have.
    pub(crate) fn joined(&self, other: &Self) -> Self {
        let more = other.keys.iter().filter(|key| self.key(&key.id).is_none());
        Self { keys: self.keys.iter().chain(more).cloned().collect() }
    }

    /// `of` says what the value is of; it opens with the same words only.
    pub(crate) fn seal(&self, of: &[&str], value: &[u8]) -> Result<Sealed, SealError> {
        let key = self.keys.first().ok_or(SealError::Library)?;
        let mut sealed = Zeroizing::new(value.to_vec());
        let nonce = key.cipher()?.seal_in_place_append_tag(Aad::from(words(of)), &mut *sealed);
        let nonce = nonce.map_err(|_| SealError::Library)?;
        let text = BASE64.encode([nonce.as_ref().as_slice(), &sealed].concat());
        Ok(Sealed { key: key.id.clone(), text })
    }

    /// # Errors
    /// [`SealError::UnknownKey`]; [`SealError::Broken`] unless it is what was sealed with `of`.
    pub(crate) fn open(
        &self,
        of: &[&str],
        sealed: &Sealed,
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let key = self.key(&sealed.key);
        let key = key.ok_or_else(|| SealError::UnknownKey(sealed.key.clone()))?;
        let mut bytes = BASE64.decode(&sealed.text).map_err(|_| SealError::Broken)?;
        let (nonce, ciphertext) = bytes.split_at_mut_checked(NONCE_LEN).ok_or(SealError::Broken)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Broken)?;
        let opened = key.cipher()?.open_in_place(nonce, Aad::from(words(of)), ciphertext);
        let value = Zeroizing::new(opened.map_err(|_| SealError::Broken)?.to_vec());
        // What was opened in place is the value too.
        zeroize::Zeroize::zeroize(&mut bytes);
        Ok(value)
    }

    fn key(&self, id: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.id == id)
    }

    /// The text of a key file: a line for each key, the newest first.
    pub(crate) fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(self.keys.len() * 80));
        for key in &self.keys {
            text.push_str(&key.id);
            text.push(' ');
            text.push_str(&hex(&*key.bytes));
            text.push('\n');
        }
        text
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// What is wrong with it, in words that do not tell a key.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let keys: Result<Vec<_>, _> = text.lines().enumerate().map(Key::parse).collect();
        match keys? {
            none if none.is_empty() => Err("it is empty".to_owned()),
            keys => Ok(Self { keys }),
        }
    }
}

impl Key {
    fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        let hash = Sha256::digest(bytes.as_slice());
        Self { id: hex(&hash[..4]).to_string(), bytes }
    }

    fn parse((i, line): (usize, &str)) -> Result<Self, String> {
        let damaged = || format!("its line {} is damaged", i + 1);
        let (id, digits) = line.split_once(' ').ok_or_else(damaged)?;
        let mut bytes = Zeroizing::new([0; 32]);
        if digits.len() != 64 || !digits.is_ascii() {
            return Err(damaged());
        }
        for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| damaged())?;
        }
        Some(Self::new(bytes)).filter(|key| key.id == id).ok_or_else(damaged)
    }

    fn cipher(&self) -> Result<RandomizedNonceKey, SealError> {
        RandomizedNonceKey::new(&AES_256_GCM, &*self.bytes).map_err(|_| SealError::Library)
    }
}

/// Unambiguous: no two lists of words are the same bytes.
fn words(words: &[&str]) -> Vec<u8> {
    let length = |word: &str| (word.len() as u64).to_be_bytes();
    words.iter().flat_map(|word| [&length(word)[..], word.as_bytes()].concat()).collect()
}

fn hex(bytes: &[u8]) -> Zeroizing<String> {
    let digit = |n: u8| char::from_digit(n.into(), 16).unwrap_or_default();
    Zeroizing::new(bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]).collect())
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed with {}", self.key)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.id)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF: &[&str] = &["secret", "shop", "KEY", "1"];

    #[test]
    fn what_is_sealed_opens_with_its_key_at_its_place_and_nowhere_else() {
        let ring = Keyring::new();
        let sealed = ring.seal(OF, b"hunter2").unwrap();
        assert_eq!(&**ring.open(OF, &sealed).unwrap(), b"hunter2");
        assert_ne!(sealed, ring.seal(OF, b"hunter2").unwrap(), "each has a nonce of its own");
        for elsewhere in [
            &["secret", "blog", "KEY", "1"][..],
            &["secret", "shop", "KEY", "2"],
            &["secret", "shopKEY", "", "1"],
            &["certificate", "shop", "KEY", "1"],
        ] {
            assert_eq!(ring.open(elsewhere, &sealed), Err(SealError::Broken), "{elsewhere:?}");
        }
        let error = Keyring::new().open(OF, &sealed).unwrap_err();
        assert_eq!(error, SealError::UnknownKey(sealed.key));
    }

    #[test]
    fn a_value_that_was_changed_or_cut_short_does_not_open() {
        let ring = Keyring::new();
        let sealed = ring.seal(OF, b"hunter2").unwrap();
        let bytes = BASE64.decode(&sealed.text).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            for broken in [BASE64.encode(&changed), BASE64.encode(&bytes[..at])] {
                let sealed = Sealed { text: broken, ..sealed.clone() };
                assert_eq!(ring.open(OF, &sealed), Err(SealError::Broken), "byte {at}");
            }
        }
        let sealed = Sealed { text: "not Base64!".to_owned(), ..sealed };
        assert_eq!(ring.open(OF, &sealed), Err(SealError::Broken));
    }

    #[test]
    fn after_a_rotation_the_new_key_seals_and_the_old_one_opens_until_it_is_let_go() {
        let old = Keyring::new();
        let sealed = old.seal(OF, b"hunter2").unwrap();
        let both = old.renewed();
        assert_ne!(both.newest(), old.newest());
        assert_eq!(&**both.open(OF, &sealed).unwrap(), b"hunter2");
        assert_eq!(both.seal(OF, b"x").unwrap().key, both.newest());
        assert!(both.reduced(|key| key == old.newest()).open(OF, &sealed).is_ok());
        let new = both.reduced(|_| false);
        assert!(new.open(OF, &sealed).is_err());
        assert_eq!(new.newest(), both.newest());
        assert!(new.joined(&old).open(OF, &sealed).is_ok());
    }

    #[test]
    fn a_key_file_that_was_cut_short_or_changed_anywhere_is_not_believed() {
        let ring = Keyring::new().renewed();
        let text = ring.to_text();
        let read = Keyring::parse(&text).unwrap();
        assert_eq!(read.to_text(), text);
        let first_line = text.find('\n').unwrap();
        for cut in 0..text.len() - 1 {
            let cut_at_a_line = cut == first_line || cut == first_line + 1;
            assert_eq!(Keyring::parse(&text[..cut]).is_ok(), cut_at_a_line, "{cut} bytes");
        }
        for at in (0..text.len()).filter(|at| *at != first_line && at + 1 != text.len()) {
            let mut changed = text.as_bytes().to_vec();
            changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(Keyring::parse(&changed).is_err(), "byte {at}");
        }
        assert_eq!(Keyring::parse("").unwrap_err(), "it is empty");
    }

    #[test]
    fn nothing_of_a_key_or_a_value_shows_in_debug_output() {
        let ring = Keyring::new();
        let shown = format!("{ring:?} {:?}", ring.seal(OF, b"hunter2").unwrap());
        assert_eq!(shown, format!("[\"{0}\"] Sealed with {0}", ring.newest()));
    }
}
