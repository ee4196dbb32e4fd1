//! The connection to a running server.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, anyhow};
use clap::Args;
use reqwest::{Method, Request, RequestBuilder, Response, StatusCode, Url, header};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::{Instant, sleep};
use weir_control::api::wire::{AppResource, Explanation, InstanceResource, List, ProblemDetails};

use super::client_error::ClientError;
use crate::paths;

/// Which server, and who asks.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct Connection {
    /// The admin API [default: what the state directory says]
    #[arg(long, env = "WEIR_URL", value_name = "URL", hide_env_values = true, global = true)]
    url: Option<String>,
    /// The API token [default: the one in the state directory]
    #[arg(long, env = "WEIR_TOKEN", value_name = "TOKEN", hide_env_values = true, global = true)]
    token: Option<String>,
    /// Where `weir serve` keeps its state [default: /var/lib/weir for root, else ~/.local/state/weir]
    #[arg(long, env = "WEIR_STATE_DIR", value_name = "DIR", hide_env_values = true, global = true)]
    state_dir: Option<PathBuf>,
}

/// How long a connection may take to open. The server is near, or it is not there.
const CONNECT: Duration = Duration::from_secs(5);
/// How long the server may take to answer, beside what it was asked to wait.
const ANSWER: Duration = Duration::from_secs(30);
/// The server waits no longer at once, whatever is asked for; the caller asks again.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

impl Connection {
    /// Finds the server and the token. Nothing is sent yet.
    pub(super) fn open(&self) -> anyhow::Result<Client> {
        let dir = self.state_dir.clone().unwrap_or_else(paths::default_state_dir);
        let url = match &self.url {
            Some(url) => url.clone(),
            None => read(&dir, "admin.url", "--url")?,
        };
        let (token, token_from) = match &self.token {
            Some(token) => (token.clone(), "--token or WEIR_TOKEN".to_owned()),
            None => {
                let file = dir.join("admin.token").display().to_string();
                (read(&dir, "admin.token", "--token")?, file)
            }
        };
        let base = Url::parse(&url).ok().filter(|url| url.scheme() == "http" && url.has_host());
        let base = base.with_context(|| {
            format!("`{url}` is not the URL of an admin API; write it like http://127.0.0.1:8600")
        })?;
        // The token is for this server alone: neither a proxy of the environment nor the target of
        // a redirect may see it.
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("cannot set up HTTP")?;
        Ok(Client { http, base, token, token_from })
    }
}

fn read(dir: &Path, name: &str, flag: &str) -> anyhow::Result<String> {
    let file = dir.join(name);
    let shown = file.display();
    match fs::read_to_string(&file) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) => Err(match error.kind() {
            io::ErrorKind::NotFound => anyhow!(
                "no Weir has run with the state directory {}; start `weir serve`, or name the \
                 right one by --state-dir, or the server by --url and --token",
                dir.display()
            ),
            io::ErrorKind::PermissionDenied => anyhow!(
                "no permission to read {shown}; run this as the user that runs `weir serve` \
                 (such as by sudo), or give {flag}"
            ),
            _ => anyhow!("cannot read {shown}: {error}"),
        }),
    }
}

/// A server and the right to ask it.
#[derive(Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    token: String,
    /// Named when the token is refused.
    token_from: String,
}

impl Client {
    pub(super) async fn app(&self, name: &str) -> Result<AppResource, ClientError> {
        self.get(&["apps", name]).await
    }

    /// `None` if there is no such object.
    pub(super) async fn find<T: DeserializeOwned>(
        &self,
        path: &[&str],
    ) -> Result<Option<T>, ClientError> {
        match self.get(path).await {
            Ok(object) => Ok(Some(object)),
            Err(ClientError::Refused { problem, .. }) if problem.status == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// An object once it is settled, or after `limit`.
    pub(super) async fn settled<T: DeserializeOwned>(
        &self,
        path: &[&str],
        limit: Duration,
    ) -> Result<T, ClientError> {
        self.json(self.waiting(Method::GET, path, limit)).await
    }

    /// The instances of one app.
    pub(super) async fn instances_of(
        &self,
        app: &str,
    ) -> Result<Vec<InstanceResource>, ClientError> {
        let all: List<InstanceResource> = self.get(&["instances"]).await?;
        Ok(all.items.into_iter().filter(|instance| instance.app == app).collect())
    }

    pub(super) async fn explain(&self, hostname: &str) -> Result<Explanation, ClientError> {
        self.get(&["hostnames", hostname, "explain"]).await
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, ClientError> {
        self.json(self.request(Method::GET, path, &[]).timeout(ANSWER)).await
    }

    /// A part of a list.
    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<List<T>, ClientError> {
        self.json(self.request(Method::GET, path, query).timeout(ANSWER)).await
    }

    /// All of a list, page by page.
    pub(super) async fn all<T: DeserializeOwned>(
        &self,
        path: &[&str],
    ) -> Result<List<T>, ClientError> {
        let mut all: List<T> = self.list(path, &[]).await?;
        while let Some(cursor) = all.next_cursor.take() {
            let page: List<T> = self.list(path, &[("cursor", &cursor)]).await?;
            all.items.extend(page.items);
            all.next_cursor = page.next_cursor;
        }
        Ok(all)
    }

    /// Does to an object what needs no more words than the path's.
    pub(super) async fn post<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, ClientError> {
        self.json(self.request(Method::POST, path, &[])).await
    }

    pub(super) async fn delete(&self, path: &[&str]) -> Result<(), ClientError> {
        self.send(self.request(Method::DELETE, path, &[])).await.map(drop)
    }

    /// Acts on an app, and waits up to `limit` for what comes of it.
    pub(super) async fn act(
        &self,
        app: &str,
        action: &str,
        body: &impl Serialize,
        limit: Duration,
    ) -> Result<AppResource, ClientError> {
        let path = ["apps", app, "actions", action];
        self.json(self.waiting(Method::POST, &path, limit).json(body)).await
    }

    /// A request that the server answers once there is something to say, or after `limit`.
    fn waiting(&self, method: Method, path: &[&str], limit: Duration) -> RequestBuilder {
        let limit = limit.min(LONGEST_WAIT);
        let wait = format!("{}ms", limit.as_millis());
        self.request(method, path, &[("wait", &wait)]).timeout(limit + ANSWER)
    }

    /// A request below `/v1`.
    pub(super) fn request(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> RequestBuilder {
        let mut url = self.base.clone();
        // Only a URL without a host has no segments, and `open` has refused it.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.http.request(method, url).bearer_auth(&self.token)
    }

    /// Sends a request that is answered by an object.
    pub(super) async fn json<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<T, ClientError> {
        let answer = self.send(request).await?;
        let body = answer.bytes().await.map_err(ClientError::interrupted)?;
        serde_json::from_slice(&body).map_err(|source| {
            let url = self.base.to_string();
            ClientError::NotUnderstood { url, why: source.to_string() }
        })
    }

    /// Sends a request; any answer but success is an error.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let request = request.build().map_err(ClientError::interrupted)?;
        let answer = self.answer(request).await.map_err(|source| match source.is_connect() {
            true => ClientError::NoAnswer { url: self.base.to_string(), source },
            false => ClientError::interrupted(source),
        })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = answer.bytes().await.map_err(ClientError::interrupted)?;
        let Ok(problem) = serde_json::from_slice::<ProblemDetails>(&body) else {
            let (url, why) = (self.base.to_string(), format!("status {status}"));
            return Err(ClientError::NotUnderstood { url, why });
        };
        let token_from = (status == StatusCode::UNAUTHORIZED).then(|| self.token_from.clone());
        Err(ClientError::Refused { problem: Box::new(problem), token_from })
    }

    /// The answer, of several that ask to come again the last one: while a process is replaced,
    /// neither can write for a moment.
    async fn answer(&self, mut request: Request) -> reqwest::Result<Response> {
        let deadline = Instant::now() + ANSWER;
        loop {
            let again = request.try_clone().filter(|again| again.method().is_idempotent());
            let answer = self.http.execute(request).await?;
            let (Some(again), Some(pause)) = (again, retry_after(&answer)) else {
                return Ok(answer);
            };
            if Instant::now() + pause >= deadline {
                return Ok(answer);
            }
            sleep(pause).await;
            request = again;
        }
    }
}

/// After how long a request is to be sent again, if the server says so (RFC 9110, 10.2.3).
fn retry_after(answer: &Response) -> Option<Duration> {
    if answer.status() != StatusCode::SERVICE_UNAVAILABLE {
        return None;
    }
    let seconds = answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// An `ETag` for a precondition.
pub(super) fn etag(revision: u64) -> (header::HeaderName, String) {
    (header::IF_MATCH, format!("\"{revision}\""))
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// Answers each connection by the next of these, and ends when all of them are given.
    async fn server(answers: &'static [&'static str]) -> (Client, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let serving = tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 4096];
                assert!(stream.read(&mut request).await.unwrap() > 0);
                let more = "Connection: close\r\nContent-Length: 2\r\n\r\n{}";
                stream.write_all(format!("HTTP/1.1 {answer}\r\n{more}").as_bytes()).await.unwrap();
            }
        });
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let (token, token_from) = ("secret".to_owned(), "a test".to_owned());
        (Client { http, base, token, token_from }, serving)
    }

    #[tokio::test]
    async fn who_is_asked_to_come_again_comes_again_unless_it_could_do_something_twice() {
        const AGAIN: &str = "503 Service Unavailable\r\nRetry-After: 0";
        const NEVER: &str = "503 Service Unavailable";
        const LATE: &str = "503 Service Unavailable\r\nRetry-After: 3600";
        for (method, answers, succeeds) in [
            (Method::PUT, &[AGAIN, AGAIN, "200 OK"][..], true),
            (Method::GET, &[AGAIN, "200 OK"][..], true),
            (Method::DELETE, &[AGAIN, "404 Not Found"][..], false),
            (Method::POST, &[AGAIN][..], false),
            (Method::PUT, &[NEVER][..], false),
            (Method::PUT, &[LATE][..], false),
        ] {
            let (client, serving) = server(answers).await;
            let request = client.request(method.clone(), &["apps", "shop"], &[]);
            let sent = client.send(request).await;
            assert_eq!(sent.is_ok(), succeeds, "{method} {answers:?}");
            serving.await.unwrap();
        }
    }
}
