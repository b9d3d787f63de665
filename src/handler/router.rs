//! Handlers by the type of a message.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;

use super::{BoxFuture, Handler};
use crate::message::{Message, MessageKind};
use crate::session::Session;

type Route = Box<dyn Fn(Session, Message) -> BoxFuture<'static, ()> + Send + Sync>;

/// A handler that hands each message to the route for its kind.
///
/// A routed message costs what a closure costs, a look-up and a boxed future more. Messages without a
/// route go to [`otherwise`](Self::otherwise), or are ignored.
///
/// ```
/// use network_system::{Message, Router, Server, Session};
///
/// const LOGIN: u16 = 0x8001;
///
/// let router = Router::new()
///     .on(LOGIN, |session: Session, login: Message| async move {
///         session.set_data("user", login.as_text().unwrap_or("?"));
///     })
///     .otherwise(|session: Session, message: Message| async move {
///         let _ = session.send(message).await;
///     });
/// let server = Server::builder().handler(router).build()?;
/// # Ok::<(), network_system::ConfigError>(())
/// ```
#[derive(Default)]
pub struct Router {
    routes: HashMap<u16, Route>,
    otherwise: Option<Route>,
}

impl Router {
    /// A router without routes.
    pub fn new() -> Self {
        Router::default()
    }

    /// Sets the route for an application type, `0x8000` to `0xFFFF`. Other types never match.
    #[must_use]
    pub fn on<F, R>(mut self, frame_type: u16, route: F) -> Self
    where
        F: Fn(Session, Message) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.routes.insert(frame_type, boxed(route));
        self
    }

    /// Sets the route for everything that has none, plain messages included.
    #[must_use]
    pub fn otherwise<F, R>(mut self, route: F) -> Self
    where
        F: Fn(Session, Message) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.otherwise = Some(boxed(route));
        self
    }
}

fn boxed<F, R>(route: F) -> Route
where
    F: Fn(Session, Message) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    Box::new(move |session, message| Box::pin(route(session, message)))
}

impl Handler for Router {
    async fn on_message(&self, session: &Session, message: &Message) {
        let route = match message.kind() {
            MessageKind::Application(frame_type) => self.routes.get(&frame_type),
            _ => None,
        };
        if let Some(route) = route.or(self.otherwise.as_ref()) {
            route(session.clone(), message.clone()).await;
        }
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router")
            .field("routes", &self.routes.len())
            .finish_non_exhaustive()
    }
}
