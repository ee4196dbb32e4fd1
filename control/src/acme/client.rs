//! How authorities are reached: with limits on everything, and without losing what they say.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use jiff::{Timestamp, fmt::rfc2822};
use reqwest::redirect::Policy;

const CONNECT: Duration = Duration::from_secs(10);
/// Of a whole answer: some authorities take their time to sign.
const ANSWER: Duration = Duration::from_secs(60);
/// Of an answer, in bytes; a chain has some thousand.
const MOST: usize = 1 << 20;
/// What is told of an answer that is no ACME, in characters.
const TOLD: usize = 200;
/// Where an authority does not say when to ask for its suggestion again, as it must (RFC 9773, 4.2).
const ASK_AGAIN: &str = "21600";

/// One try's way to an authority.
#[derive(Clone, Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    /// What a `Retry-After` of a refusal asked for, in seconds: the library keeps no headers.
    retry_after: Arc<Mutex<Option<i64>>>,
}

impl Client {
    /// # Errors
    /// When the roots cannot be read.
    pub(super) fn new(roots_pem: Option<&str>) -> Result<Self, reqwest::Error> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .timeout(ANSWER)
            .redirect(Policy::none())
            .https_only(true);
        if let Some(pem) = roots_pem {
            let roots = reqwest::Certificate::from_pem_bundle(pem.as_bytes())?;
            builder = builder.tls_certs_merge(roots);
        }
        Ok(Self { http: builder.build()?, retry_after: Arc::default() })
    }

    /// The same way for another try, which has heard nothing yet.
    pub(super) fn afresh(&self) -> Self {
        Self { http: self.http.clone(), retry_after: Arc::default() }
    }

    pub(super) fn retry_after(&self) -> Option<i64> {
        *self.retry_after.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        let (parts, body) = request.into_parts();
        let is_signed = parts.method != Method::GET;
        let body = body.collect().await.map_err(other)?.to_bytes();
        let sent = self.http.request(parts.method, parts.uri.to_string()).headers(parts.headers);
        let mut answer = sent.body(body).send().await.map_err(other)?;
        let (status, mut headers) = (answer.status(), std::mem::take(answer.headers_mut()));
        let mut body = BytesMut::new();
        while let Some(chunk) = answer.chunk().await.map_err(other)? {
            body.extend_from_slice(&chunk);
            if body.len() > MOST {
                return Err(Error::Str("the authority's answer is too long"));
            }
        }
        let mut body = body.freeze();
        if is_refusal(status) {
            let asked = headers.get(header::RETRY_AFTER).and_then(seconds);
            if asked.is_some() {
                *self.retry_after.lock().unwrap_or_else(PoisonError::into_inner) = asked;
            }
            if !is_problem(&headers) {
                body = problem(status, &body);
            }
        } else if !is_signed && !headers.contains_key(header::RETRY_AFTER) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(ASK_AGAIN));
        }
        let mut response = Response::new(Full::new(body));
        (*response.status_mut(), *response.headers_mut()) = (status, headers);
        Ok(BytesResponse::from(response))
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        Box::pin(self.clone().ask(request))
    }
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Other(Box::new(error))
}

fn is_refusal(status: StatusCode) -> bool {
    status.is_client_error() || status.is_server_error()
}

fn is_problem(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.is_some_and(|content_type| content_type.contains("json"))
}

/// In place of an error page, which says something to people only.
fn problem(status: StatusCode, page: &[u8]) -> Bytes {
    let text = String::from_utf8_lossy(page);
    let mut in_tag = false;
    let out_of_tags = |c| {
        let was_in_tag = in_tag;
        in_tag = (in_tag || c == '<') && c != '>';
        if in_tag || was_in_tag { ' ' } else { c }
    };
    let plain: String = text.chars().map(out_of_tags).collect();
    let words: Vec<_> = plain.split_whitespace().collect();
    let said: String = words.join(" ").chars().take(TOLD).collect();
    let detail = match said.as_str() {
        "" => format!("the authority answered {status}"),
        said => format!("the authority answered {status}: {said}"),
    };
    serde_json::json!({ "detail": detail, "status": status.as_u16() }).to_string().into()
}

/// Of a `Retry-After`, which is seconds or a date (RFC 9110, 10.2.3).
fn seconds(value: &HeaderValue) -> Option<i64> {
    let text = value.to_str().ok()?;
    text.trim().parse().ok().filter(|seconds| *seconds >= 0).or_else(|| {
        let date = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
        Some((date.as_second() - Timestamp::now().as_second()).max(0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_after_is_seconds_or_a_date() {
        let read = |text: &str| seconds(&HeaderValue::from_str(text).unwrap());
        assert_eq!([read("120"), read("-1"), read("soon")], [Some(120), None, None]);
        let in_an_hour = Timestamp::now() + jiff::SignedDuration::from_hours(1);
        let date = in_an_hour.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        assert!((3598..=3600).contains(&read(&date).unwrap()), "{date}");
        assert_eq!(read("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
    }

    #[test]
    fn of_an_error_page_its_words_are_told() {
        let page = b"<html><head><title>503</title></head>\n<body>Back <b>soon</b></body></html>";
        let problem: serde_json::Value =
            serde_json::from_slice(&problem(StatusCode::SERVICE_UNAVAILABLE, page)).unwrap();
        let detail = "the authority answered 503 Service Unavailable: 503 Back soon";
        assert_eq!(problem["detail"], detail);
    }
}
