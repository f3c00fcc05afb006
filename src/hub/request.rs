//! Requests to the hub: the token goes to the hub alone, transient failures are tried again.

use std::time::Duration;

use ureq::http::{Method, Response, Uri};
use ureq::{Agent, Body};

use super::{Error, HubSettings};

/// Tries of a request.
const TRIES: u32 = 5;
/// Longest wait between two, in seconds.
const LONGEST: u64 = 60;

/// An answer's status, its headers and its body.
pub(super) type HttpResponse = Response<Body>;

/// Sends requests to one hub.
pub(super) struct Client {
    agent: Agent,
    host: Option<String>,
    token: Option<String>,
}

/// What a request failed with, and whether it may be tried again.
pub(super) enum Failure {
    Transient { why: String, wait: Option<Duration> },
    Final(Error),
}

impl Client {
    pub(super) fn new(settings: &HubSettings) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // Followed by hand: the token must not go along.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)))
            .user_agent(concat!("unsee/", env!("CARGO_PKG_VERSION")))
            .build();
        Self {
            agent: config.into(),
            host: authority(&settings.endpoint),
            token: settings.token.clone(),
        }
    }

    /// One request, redirects of the kinds that `follow` accepts followed.
    ///
    /// # Errors
    /// As a failure.
    pub(super) fn once(
        &self,
        method: &Method,
        url: &str,
        from: u64,
        follow: &dyn Fn(&str) -> bool,
    ) -> Result<HttpResponse, Failure> {
        let mut url = url.to_owned();
        for _ in 0..8 {
            let mut request = ureq::http::Request::builder().method(method).uri(&url);
            if let Some(token) = self.token.as_ref().filter(|_| authority(&url) == self.host) {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            if from > 0 {
                request = request.header("range", format!("bytes={from}-"));
            }
            // A compressed body has another length than the file.
            let request = request.header("accept-encoding", "identity").body(());
            let request = request.map_err(|error| bad_response(&url, error.to_string()))?;
            let answer = self.agent.run(request).map_err(|error| transient(error.to_string()))?;
            let status = answer.status().as_u16();
            match header(&answer, "location") {
                Some(to) if (300..400).contains(&status) && follow(&to) => url = joined(&url, &to),
                _ if status == 429 || status >= 500 => {
                    let wait = header(&answer, "retry-after").and_then(|text| text.parse().ok());
                    return Err(Failure::Transient {
                        why: format!("the hub answers {status}"),
                        wait: wait.map(Duration::from_secs),
                    });
                }
                _ => return Ok(answer),
            }
        }
        Err(bad_response(&url, "more than eight redirects".to_owned()))
    }

    /// Does `work` until it succeeds, fails for good, or has failed too often. `interrupted` is
    /// asked during each wait, and may stop it.
    ///
    /// # Errors
    /// What stopped it.
    pub(super) fn with_retries<T>(
        url: &str,
        interrupted: &dyn Fn() -> bool,
        mut work: impl FnMut() -> Result<T, Failure>,
    ) -> Result<T, Error> {
        let mut last = String::new();
        for n in 0..TRIES {
            match work() {
                Ok(done) => return Ok(done),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Transient { why, wait }) => {
                    last = why;
                    if n + 1 < TRIES {
                        let wait = wait.unwrap_or(Duration::from_millis(250 << n));
                        sleep(wait.min(Duration::from_secs(LONGEST)), interrupted)?;
                    }
                }
            }
        }
        Err(Error::Failed { url: url.to_owned(), why: format!("{last}, {TRIES} times") })
    }
}

fn sleep(wait: Duration, interrupted: &dyn Fn() -> bool) -> Result<(), Error> {
    let slice = Duration::from_millis(100);
    let mut left = wait;
    while !left.is_zero() {
        if interrupted() {
            return Err(Error::Interrupted);
        }
        std::thread::sleep(left.min(slice));
        left = left.saturating_sub(slice);
    }
    Ok(())
}

pub(super) fn transient(why: String) -> Failure {
    Failure::Transient { why, wait: None }
}

pub(super) fn bad_response(url: &str, why: String) -> Failure {
    Failure::Final(Error::HttpResponse { url: url.to_owned(), why })
}

pub(super) fn header(answer: &HttpResponse, name: &str) -> Option<String> {
    answer.headers().get(name)?.to_str().ok().map(str::to_owned)
}

/// Scheme, host and port of an address: what the token was given for.
fn authority(url: &str) -> Option<String> {
    let uri = url.parse::<Uri>().ok()?;
    Some(format!("{}://{}", uri.scheme_str()?, uri.authority()?))
}

/// Whether a redirect stays where it was asked.
pub(super) fn is_relative(to: &str) -> bool {
    to.starts_with('/') && !to.starts_with("//")
}

fn joined(url: &str, to: &str) -> String {
    if !is_relative(to) {
        return to.to_owned();
    }
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find('/').map_or(url.len(), |at| start + at);
    format!("{}{to}", &url[..end])
}
