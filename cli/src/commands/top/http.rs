//! The client of the API: HTTP/1.1 without TLS, one request at a time over one connection.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::data::{Clean, Refusal};
use crate::args::{AdminToken, DashboardUrl};
use crate::exit::{ExitStatus, Failure};

/// A request with its connection and its answer takes no longer.
const DEADLINE: Duration = Duration::from_secs(5);

/// The longest answer, in bytes: 1,000 sessions with long names, or 900 samples, are less than half of it.
const ANSWER_MAX: usize = 4 * 1024 * 1024;

/// The longest head of an answer, in bytes.
const HEAD_MAX: usize = 64 * 1024;

/// Speaks with one dashboard.
pub(super) struct Api {
    url: DashboardUrl,
    token: Option<HeaderValue>,
    connection: Option<Connection>,
}

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Why there is no answer to work with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ApiError {
    /// Nobody answers there.
    NotConnected(String),
    /// The server says no.
    Refused(StatusCode, Clean),
    /// What answers is no dashboard, or one that this program does not understand.
    Strange(String),
}

impl Api {
    pub(super) fn new(url: DashboardUrl, token: Option<&AdminToken>) -> Result<Self, Failure> {
        let token = token.map(|token| {
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.reveal()))?;
            value.set_sensitive(true);
            Ok::<_, hyper::header::InvalidHeaderValue>(value)
        });
        Ok(Api {
            url,
            token: token
                .transpose()
                .map_err(|_| Failure::usage("the token cannot be sent"))?,
            connection: None,
        })
    }

    /// Asks for something below `/api/v1/`.
    pub(super) async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, ApiError> {
        let body = self.ask(Method::GET, path, Bytes::new()).await?;
        serde_json::from_slice(&body)
            .map_err(|error| ApiError::Strange(format!("{path} answers something else: {error}")))
    }

    /// Asks for something to be done.
    pub(super) async fn post(
        &mut self,
        path: &str,
        body: &serde_json::Value,
    ) -> Result<(), ApiError> {
        let body = Bytes::from(body.to_string());
        self.ask(Method::POST, path, body).await.map(|_| ())
    }

    async fn ask(&mut self, method: Method, path: &str, body: Bytes) -> Result<Bytes, ApiError> {
        let answered = tokio::time::timeout(DEADLINE, self.exchange(method, path, body)).await;
        let answered = answered.unwrap_or_else(|_| {
            let seconds = DEADLINE.as_secs();
            Err(ApiError::NotConnected(format!(
                "no answer within {seconds} s"
            )))
        });
        if matches!(
            answered,
            Err(ApiError::NotConnected(_) | ApiError::Strange(_))
        ) {
            // What may be half read is not used again.
            self.connection = None;
        }
        answered
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Bytes, ApiError> {
        // A server may close a connection that was idle just when it is used again.
        let may_be_old = self.connection.is_some() && method == Method::GET;
        let response = match self.send(&method, path, &body).await {
            Err(ApiError::NotConnected(_)) if may_be_old => {
                self.connection = None;
                self.send(&method, path, &body).await?
            }
            other => other?,
        };
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_MAX)
            .collect()
            .await
            .map_err(|error| ApiError::Strange(format!("the answer cannot be read: {error}")))?
            .to_bytes();
        if status.is_success() {
            return Ok(body);
        }
        let text = match serde_json::from_slice::<Refusal>(&body) {
            Ok(refusal) => refusal.error.message,
            Err(_) => Clean::new(status.canonical_reason().unwrap_or("no reason")),
        };
        Err(ApiError::Refused(status, text))
    }

    async fn send(
        &mut self,
        method: &Method,
        path: &str,
        body: &Bytes,
    ) -> Result<hyper::Response<hyper::body::Incoming>, ApiError> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}/api/v1/{path}", self.url.base))
            .header(HOST, self.url.authority())
            .header(ACCEPT, "application/json");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token);
        }
        if method == Method::POST {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request
            .body(Full::new(body.clone()))
            .map_err(|error| ApiError::Strange(format!("the request cannot be made: {error}")))?;
        let connection = match &mut self.connection {
            Some(connection) if !connection.sender.is_closed() => connection,
            place => place.insert(connect(&self.url).await?),
        };
        let sent = match connection.sender.ready().await {
            Ok(()) => connection.sender.send_request(request).await,
            Err(error) => Err(error),
        };
        sent.map_err(|error| match error.is_parse() {
            true => ApiError::Strange(format!("what answers does not speak HTTP: {error}")),
            false => ApiError::NotConnected(crate::exit::chain(&error)),
        })
    }
}

async fn connect(url: &DashboardUrl) -> Result<Connection, ApiError> {
    let failed = |error: &dyn std::error::Error| ApiError::NotConnected(crate::exit::chain(error));
    let stream = TcpStream::connect((url.host.as_str(), url.port))
        .await
        .map_err(|error| failed(&error))?;
    // Small requests, each of which waits for its answer.
    let _ = stream.set_nodelay(true);
    let (sender, driver) = Builder::new()
        .max_buf_size(HEAD_MAX)
        .max_headers(64)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed(&error))?;
    let driver = tokio::spawn(async move {
        // Requests learn of its errors.
        let _ = driver.await;
    });
    Ok(Connection { sender, driver })
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ApiError::NotConnected(text) | ApiError::Strange(text) => {
                f.write_str(Clean::new(text).as_str())
            }
            ApiError::Refused(StatusCode::UNAUTHORIZED, text) => {
                write!(f, "the token is missing or wrong ({text})")
            }
            ApiError::Refused(status, text) => write!(f, "{} {text}", status.as_u16()),
        }
    }
}

impl ApiError {
    /// How the program ends with it, at the start.
    pub(super) fn failure(&self, url: &DashboardUrl) -> Failure {
        let (status, text) = match self {
            ApiError::NotConnected(_) => (
                ExitStatus::NotConnected,
                format!("cannot connect to the dashboard at {url}: {self}"),
            ),
            ApiError::Refused(StatusCode::UNAUTHORIZED, _) => (
                ExitStatus::Failed,
                format!("{url}: {self}; --token or --token-file names the one of the server"),
            ),
            ApiError::Refused(StatusCode::NOT_FOUND, _) | ApiError::Strange(_) => (
                ExitStatus::Failed,
                format!("there is no dashboard at {url}: {self}"),
            ),
            ApiError::Refused(..) => (ExitStatus::Failed, format!("{url}: {self}")),
        };
        Failure::new(status, text)
    }
}

/// A value in a query: everything but plain letters and digits is encoded.
pub(super) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_changes_no_request() {
        assert_eq!(encoded("a b&c=d#é/\r\n"), "a%20b%26c%3Dd%23%C3%A9%2F%0D%0A");
        assert_eq!(encoded("c-7_x.~"), "c-7_x.~");
    }
}
