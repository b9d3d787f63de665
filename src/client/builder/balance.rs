//! How a client chooses among its endpoints, as far as its builder was told.

use std::time::Duration;

use super::invalid;
use crate::balance::{AttemptBudget, Ejection, Endpoints, EndpointsBuilder, Strategy};
use crate::client::backoff::{Jitter, Random};
use crate::endpoint::Endpoint;
use crate::error::{ConfigError, ErrorCode};

/// How endpoints are chosen, as far as it was said.
#[derive(Default)]
pub(super) struct Balance {
    pub(super) strategy: Option<Strategy>,
    pub(super) ejection: Option<Ejection>,
    pub(super) budget: Option<AttemptBudget>,
    pub(super) key: Option<Vec<u8>>,
    pub(super) re_resolve: Option<Duration>,
}

impl Balance {
    pub(super) fn key(&mut self, client_id: Option<&str>) -> Vec<u8> {
        let given = self.key.take().or_else(|| client_id.map(Into::into));
        // Not all to the same endpoint.
        given.unwrap_or_else(|| Jitter::from_system().next_u64().to_be_bytes().into())
    }

    pub(super) fn re_resolve(&self, reliable: bool) -> Result<Option<Duration>, ConfigError> {
        let (least, most) = (Duration::from_secs(1), Duration::from_secs(365 * 24 * 3600));
        match self.re_resolve {
            Some(_) if reliable => Err(ConfigError::new(
                ErrorCode::NotSupported,
                "re_resolve: a reliable session lives on its server and cannot be moved",
            )),
            Some(every) if !(least..=most).contains(&every) => {
                let value = format!("{every:?}");
                Err(ConfigError::option("re_resolve", value, "1 s to a year"))
            }
            every => Ok(every),
        }
    }

    /// The client's own set, or the shared one.
    pub(super) fn endpoints(
        self,
        own: Vec<Endpoint>,
        shared: Option<Endpoints>,
    ) -> Result<Endpoints, ConfigError> {
        match shared {
            Some(_) if !own.is_empty() => Err(invalid(
                "endpoints: a shared set takes the place of the client's own endpoints",
            )),
            Some(_)
                if self.strategy.is_some() || self.ejection.is_some() || self.budget.is_some() =>
            {
                Err(invalid(
                    "endpoints: a shared set brings its own strategy, ejection and budget",
                ))
            }
            Some(shared) => Ok(shared),
            None if own.is_empty() => Err(invalid(
                "endpoint: a client needs at least one, such as tcp://127.0.0.1:8080",
            )),
            None => own
                .into_iter()
                .fold(Endpoints::builder(), EndpointsBuilder::add_endpoint)
                .strategy(self.strategy.unwrap_or_default())
                .ejection(self.ejection.unwrap_or_default())
                .attempt_budget(self.budget.unwrap_or_default())
                .build(),
        }
    }
}
