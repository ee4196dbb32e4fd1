//! Messages by HTTP, signed as <https://www.standardwebhooks.com> has it.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::RequestBuilder;
use weir_config::SECRET_PREFIX;

use crate::time::unix_millis;

/// A request that carries a message, with the headers that sign it.
///
/// # Errors
/// When the secret is none.
pub(crate) fn signed(
    request: RequestBuilder,
    secret: Option<&str>,
    id: &str,
    body: &str,
) -> Result<RequestBuilder, String> {
    let timestamp = unix_millis() / 1000;
    let request = request
        .header("webhook-id", id)
        .header("webhook-timestamp", timestamp)
        .body(body.to_owned());
    let Some(secret) = secret else { return Ok(request) };
    let key = secret.strip_prefix(SECRET_PREFIX).unwrap_or(secret);
    let key = STANDARD.decode(key).map_err(|_| "its secret is not base64; write it anew")?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let signature = hmac::sign(&key, format!("{id}.{timestamp}.{body}").as_bytes());
    let signature = format!("v1,{}", STANDARD.encode(signature.as_ref()));
    Ok(request.header("webhook-signature", signature))
}

/// An error with what is behind it.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
