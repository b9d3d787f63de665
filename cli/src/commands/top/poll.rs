//! Asks the server again and again, beside the display, which so never waits for the network.

use std::time::Duration;

use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::data::{Detail, Events, GroupPage, HistoryPart, Listeners, SessionPage, Status};
use super::http::{Api, ApiError, encoded};
use crate::args::SortKey;

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    Overview,
    Sessions,
    Groups,
    Listeners,
    Events,
}

/// What the display wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) view: View,
    pub(super) sort: SortKey,
    pub(super) descending: bool,
    /// Of sessions or groups.
    pub(super) filter: String,
    pub(super) offset: usize,
    pub(super) limit: usize,
    /// The session whose details are shown.
    pub(super) detail: Option<u64>,
    pub(super) paused: bool,
}

/// What the user wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Disconnect(u64),
}

/// What the display learns.
#[derive(Debug)]
pub(super) enum Update {
    Polled(Box<Polled>),
    Failed(ApiError),
    /// What came of an action, as text.
    Acted(String),
}

/// One look at the server.
#[derive(Debug)]
pub(super) struct Polled {
    pub(super) status: Status,
    pub(super) history: HistoryPart,
    pub(super) body: Body,
    /// The details that were asked for; `None` inside for a session that is gone.
    pub(super) detail: Option<(u64, Option<Detail>)>,
}

/// What belongs to the view.
#[derive(Debug)]
pub(super) enum Body {
    Overview,
    Sessions(SessionPage),
    Groups(GroupPage),
    Listeners(Listeners),
    Events(Events),
}

/// What is known already, so that it is not asked for again.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    status: Option<Status>,
    history: u64,
    events: u64,
}

/// Looks once.
pub(super) async fn look(
    api: &mut Api,
    query: &Query,
    known: &mut Known,
) -> Result<Polled, ApiError> {
    let status: Status = api.get("status").await?;
    if known
        .status
        .as_ref()
        .is_some_and(|before| status.is_newer_than(before))
    {
        *known = Known::default();
    }
    let history: HistoryPart = api.get(&format!("history?since={}", known.history)).await?;
    let body = match query.view {
        View::Overview => Body::Overview,
        View::Sessions => Body::Sessions(sessions(api, query).await?),
        View::Groups => Body::Groups(groups(api, query).await?),
        View::Listeners => Body::Listeners(api.get("listeners").await?),
        View::Events => Body::Events(api.get(&format!("events?since={}", known.events)).await?),
    };
    let detail = match query.detail {
        None => None,
        Some(id) => Some(match api.get(&format!("sessions/{id}")).await {
            Ok(detail) => (id, Some(detail)),
            Err(ApiError::Refused(hyper::StatusCode::NOT_FOUND, _)) => (id, None),
            Err(error) => return Err(error),
        }),
    };
    // What fails half way is asked for again.
    known.status = Some(status.clone());
    known.history = history.next;
    if let Body::Events(events) = &body {
        known.events = events.next;
    }
    Ok(Polled {
        status,
        history,
        body,
        detail,
    })
}

pub(super) async fn sessions(api: &mut Api, query: &Query) -> Result<SessionPage, ApiError> {
    let order = if query.descending { "desc" } else { "asc" };
    let mut path = format!(
        "sessions?sort={}&order={order}&offset={}&limit={}",
        query.sort.name(),
        query.offset,
        query.limit
    );
    add_filter(&mut path, &query.filter);
    api.get(&path).await
}

pub(super) async fn groups(api: &mut Api, query: &Query) -> Result<GroupPage, ApiError> {
    let mut path = format!("groups?offset={}&limit={}", query.offset, query.limit);
    add_filter(&mut path, &query.filter);
    api.get(&path).await
}

fn add_filter(path: &mut String, filter: &str) {
    if !filter.is_empty() {
        path.push_str("&filter=");
        path.push_str(&encoded(filter));
    }
}

/// Looks at every interval and whenever something else is wanted, until the display is gone.
pub(super) struct Poller {
    pub(super) api: Api,
    pub(super) interval: Duration,
    pub(super) queries: watch::Receiver<Query>,
    pub(super) actions: mpsc::Receiver<Action>,
    pub(super) updates: mpsc::Sender<Update>,
    pub(super) known: Known,
}

impl Poller {
    pub(super) async fn run(mut self) {
        loop {
            let began = Instant::now();
            let query = self.queries.borrow_and_update().clone();
            if !query.paused {
                let update = match look(&mut self.api, &query, &mut self.known).await {
                    Ok(polled) => Update::Polled(Box::new(polled)),
                    Err(error) => Update::Failed(error),
                };
                if self.updates.send(update).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                () = tokio::time::sleep_until(began + self.interval) => {}
                changed = self.queries.changed() => if changed.is_err() {
                    return;
                },
                action = self.actions.recv() => {
                    let Some(action) = action else {
                        return;
                    };
                    let text = self.act(&action).await;
                    if self.updates.send(Update::Acted(text)).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    async fn act(&mut self, action: &Action) -> String {
        match action {
            Action::Disconnect(id) => {
                let body = json!({ "reason": "disconnected by an operator" });
                let done = self
                    .api
                    .post(&format!("sessions/{id}/disconnect"), &body)
                    .await;
                match done {
                    Ok(()) => format!("session {id} is told to go"),
                    Err(error) => format!("session {id} was not disconnected: {error}"),
                }
            }
        }
    }
}
