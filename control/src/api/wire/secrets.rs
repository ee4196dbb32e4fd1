//! Secrets, without their values.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What may be known of a secret: everything but its value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SecretResource {
    pub name: String,
    /// Another one for every value; a deployment names those that it was made with.
    pub version: u64,
    /// RFC 3339.
    pub updated_at: String,
}

/// A secret's value, as it is sent.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "the schema of what is read by hand, so that no error tells it")]
pub(crate) struct SecretValue {
    value: String,
}

/// What a rotation of the key came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct KeyRotation {
    /// The name of the new key.
    pub key: String,
    /// How many values were sealed anew.
    pub resealed: u64,
    /// Secrets whose key was not there, as `app/NAME`: they must be set again.
    pub unreadable: Vec<String>,
}
