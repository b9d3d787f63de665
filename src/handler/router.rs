//! Handlers by the type of a message.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::atomic::Ordering;

use super::{BoxFuture, Handler};
use crate::container::{Container, DecodeError, DecodeOptions, Format};
use crate::error::ErrorCode;
use crate::events::{self, shown};
use crate::message::{Message, MessageKind};
use crate::session::Session;

type Route = Box<dyn Fn(Session, Message) -> BoxFuture<'static, ()> + Send + Sync>;
type ContainerRoute = Box<dyn Fn(Session, Container) -> BoxFuture<'static, ()> + Send + Sync>;
type OnError = Box<dyn Fn(&Session, ErrorCode, &str) + Send + Sync>;

/// A handler that hands each message to the route for its kind: by the application type of the message, or
/// by the message type of the [`Container`] that it holds.
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
///
/// # Containers
///
/// With a route for containers, every message that has no route by its application type is read as a
/// container, in the one format that [`containers`](Self::containers) names; a format is never guessed.
///
/// | message | goes to |
/// |---|---|
/// | a container whose type has a route | that route |
/// | a container whose type has none | `otherwise`, as it came |
/// | no container | the [error handler](Self::on_error), with `invalid_frame`, then `otherwise`; the session goes on |
///
/// ```
/// use network_system::container::{Container, Format};
/// use network_system::{Message, Router, Server, Session};
///
/// let router = Router::new()
///     .containers(Format::MessagePack)
///     .on_container("user_login", |session: Session, login: Container| async move {
///         let answer = login.reply("response").with("status", "success");
///         if let Ok(bytes) = answer.encode(Format::MessagePack) {
///             let _ = session.send(Message::binary(bytes)).await;
///         }
///     });
/// let server = Server::builder().handler(router).build()?;
/// # Ok::<(), network_system::ConfigError>(())
/// ```
#[derive(Default)]
pub struct Router {
    routes: HashMap<u16, Route>,
    containers: HashMap<Vec<u8>, ContainerRoute>,
    format: Format,
    options: DecodeOptions,
    otherwise: Option<Route>,
    on_error: Option<OnError>,
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

    /// Sets the format of containers. Default MessagePack. With a format that can only be written, no
    /// message is a container.
    #[must_use]
    pub fn containers(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// Sets what is read of containers at most.
    #[must_use]
    pub fn container_limits(mut self, options: DecodeOptions) -> Self {
        self.options = options;
        self
    }

    /// Sets the route for containers of a message type. See [above](Self#containers).
    #[must_use]
    pub fn on_container<F, R>(mut self, message_type: impl AsRef<[u8]>, route: F) -> Self
    where
        F: Fn(Session, Container) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let route: ContainerRoute =
            Box::new(move |session, container| Box::pin(route(session, container)));
        self.containers
            .insert(message_type.as_ref().to_vec(), route);
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

    /// Sets what is called when something goes wrong on a session, as
    /// [`ServerBuilder::on_error`](crate::ServerBuilder::on_error), and when a message is no container. Must
    /// not block.
    #[must_use]
    pub fn on_error<F>(mut self, handler: F) -> Self
    where
        F: Fn(&Session, ErrorCode, &str) + Send + Sync + 'static,
    {
        self.on_error = Some(Box::new(handler));
        self
    }

    /// The container that a message is, when containers have routes.
    fn container(&self, message: &Message) -> Option<Result<Container, DecodeError>> {
        if self.containers.is_empty() {
            return None;
        }
        let input = message.clone().into_payload();
        Some(Container::decode_with(self.format, &input, &self.options))
    }

    fn report(&self, session: &Session, error: &DecodeError) {
        let shared = &session.shared;
        shared.counters.errors.fetch_add(1, Ordering::Relaxed);
        shared.hub().recorder.totals.session_error(error.code());
        events::session_error {
            session: session.id().as_u64(),
            code: error.code().as_i32(),
            reason: shown(error),
        }
        .emit();
        self.on_error(session, error.code(), &error.to_string());
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
        if route.is_none() {
            match self.container(message) {
                Some(Ok(container)) => {
                    let message_type = container.message_type().as_bytes();
                    if let Some(route) = self.containers.get(message_type) {
                        return route(session.clone(), container).await;
                    }
                }
                Some(Err(error)) => self.report(session, &error),
                None => {}
            }
        }
        if let Some(route) = route.or(self.otherwise.as_ref()) {
            route(session.clone(), message.clone()).await;
        }
    }

    fn on_error(&self, session: &Session, code: ErrorCode, text: &str) {
        if let Some(handler) = &self.on_error {
            handler(session, code, text);
        }
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router")
            .field("routes", &self.routes.len())
            .field("containers", &self.containers.len())
            .finish_non_exhaustive()
    }
}
