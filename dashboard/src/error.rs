//! What can go wrong when a dashboard is made or bound.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::net::SocketAddr;

use network_system::ErrorCode;

/// A dashboard could not be made or bound.
#[derive(Debug)]
pub struct DashboardError {
    code: ErrorCode,
    text: Cow<'static, str>,
    source: Option<io::Error>,
}

impl DashboardError {
    pub(crate) fn configuration(text: impl Into<Cow<'static, str>>) -> Self {
        DashboardError {
            code: ErrorCode::InvalidConfiguration,
            text: text.into(),
            source: None,
        }
    }

    pub(crate) fn bind(addr: SocketAddr, source: io::Error) -> Self {
        DashboardError {
            code: ErrorCode::BindFailed,
            text: format!("the dashboard cannot listen on {addr}").into(),
            source: Some(source),
        }
    }

    /// `bind_failed`, or `invalid_configuration` for everything else.
    pub fn code(&self) -> ErrorCode {
        self.code
    }
}

impl fmt::Display for DashboardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for DashboardError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}
