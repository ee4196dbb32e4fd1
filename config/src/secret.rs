//! Values that nobody but an app may see.

use std::{collections::BTreeMap, fmt};

use zeroize::Zeroizing;

use crate::SecretName;

/// The secrets that a container is made with.
pub type Secrets = BTreeMap<SecretName, Secret>;

/// The longest value, in bytes: half of what Linux takes for one variable of the environment.
pub const MAX_SECRET: usize = 64 << 10;

/// A value that is never printed, compared in constant time by whoever keeps it, and wiped from
/// memory when it is dropped. It has no serialisation, so that it cannot get into an answer, a
/// snapshot or a log line by being part of something else.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Checks a value.
    ///
    /// # Errors
    /// What is wrong with it, in words that do not tell the value.
    pub fn new(value: Zeroizing<String>) -> Result<Self, String> {
        if value.is_empty() {
            return Err("it is empty; to remove a secret, delete it".to_owned());
        }
        if value.len() > MAX_SECRET {
            return Err(format!("it is longer than {MAX_SECRET} bytes"));
        }
        if value.contains('\0') {
            return Err("it has a NUL byte, which no environment can hold".to_owned());
        }
        Ok(Self(value))
    }

    /// The value itself, for the one who has to have it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(value: &str) -> Result<Secret, String> {
        Secret::new(Zeroizing::new(value.to_owned()))
    }

    #[test]
    fn a_secret_does_not_show_in_debug_output_nor_in_what_is_wrong_with_it() {
        let value = secret("hunter2").unwrap();
        assert_eq!((format!("{value:?}").as_str(), value.expose()), ("Secret", "hunter2"));
        let long = "hunter2".repeat(MAX_SECRET / 7 + 1);
        for bad in ["", "hunter2\0", &long] {
            assert!(!secret(bad).unwrap_err().contains("hunter2"));
        }
        assert!(secret(&long[..MAX_SECRET]).is_ok());
    }
}
