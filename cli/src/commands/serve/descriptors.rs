//! Sockets that systemd has bound for this process.

use network_system::BoundSocket;
#[cfg(unix)]
use network_system::activation::{self, Activated};
use serde_json::json;

use crate::args::{Descriptor, Listen, Which};
use crate::exit::Failure;
use crate::output::Output;

/// A place to listen at, with its socket if it is bound already.
pub(super) enum Place {
    Unbound(network_system::Endpoint),
    #[cfg_attr(not(unix), allow(dead_code, reason = "nothing is handed over there"))]
    Bound(BoundSocket, String),
}

/// Finds the sockets that were asked for. To be called before there are other threads, as it changes the
/// environment.
#[cfg(unix)]
pub(super) fn places(listen: Vec<Listen>, output: Output) -> Result<Vec<Place>, Failure> {
    let mut sockets: Vec<Option<Activated>> =
        activation::sockets()?.into_iter().map(Some).collect();
    let known: Vec<_> = sockets
        .iter()
        .flatten()
        .map(|activated| activated.name.clone())
        .collect();
    let mut places = Vec::new();
    for listen in listen {
        let Descriptor { which, endpoint } = match listen {
            Listen::At(endpoint) => {
                places.push(Place::Unbound(endpoint));
                continue;
            }
            Listen::On(descriptor) => descriptor,
        };
        let is_it = |at: usize| match &which {
            Which::Index(index) => at == *index,
            Which::Name(name) => known.get(at) == Some(name),
        };
        let found: Vec<_> = (0..known.len()).filter(|&at| is_it(at)).collect();
        if found.is_empty() {
            return Err(Failure::usage(format_args!(
                "{} is none of the {} sockets that were handed over{}",
                shown(&which),
                known.len(),
                match known.len() {
                    0 => " (LISTEN_FDS): is it a unit with sockets?".to_owned(),
                    _ => format!(": {}", known.join(", ")),
                }
            )));
        }
        for at in found {
            let Some(activated) = sockets[at].take() else {
                return Err(Failure::usage(format_args!(
                    "the socket {} ({at}) is listened on more than once",
                    known[at]
                )));
            };
            let url = url_of(&activated.socket, &endpoint);
            places.push(Place::Bound(activated.socket, url));
        }
    }
    for activated in sockets.into_iter().flatten() {
        let name = activated.name;
        let text = format!("the socket {name} was handed over and is not listened on");
        output.note(&json!({ "event": "unused_socket", "name": name }), &text);
    }
    Ok(places)
}

#[cfg(not(unix))]
pub(super) fn places(listen: Vec<Listen>, _: Output) -> Result<Vec<Place>, Failure> {
    let place = |listen| match listen {
        Listen::At(endpoint) => Ok(Place::Unbound(endpoint)),
        Listen::On(Descriptor { which, .. }) => Err(Failure::usage(format_args!(
            "{}: sockets are handed over on Unix only",
            shown(&which)
        ))),
    };
    listen.into_iter().map(place).collect()
}

fn shown(which: &Which) -> String {
    match which {
        Which::Index(index) => format!("fd://{index}"),
        Which::Name(name) => format!("fd://{name}"),
    }
}

/// The URL with the path of a Unix socket in it, if it has one.
#[cfg(unix)]
fn url_of(socket: &BoundSocket, endpoint: &network_system::Endpoint) -> String {
    use network_system::{Address, Endpoint};
    let url = endpoint.to_string();
    let BoundSocket::Unix(listener) = socket else {
        return url;
    };
    let addr = listener.local_addr().ok();
    let path = addr.as_ref().and_then(|addr| addr.as_pathname());
    let Some(bound) = path.and_then(|path| Endpoint::unix(path).ok()) else {
        return url;
    };
    let bound = bound.to_string();
    let path = bound.trim_start_matches("unix://");
    match endpoint.address() {
        Address::WebSocketUnix { target, .. } => format!("ws+unix://{path}:{target}"),
        Address::Unix(_) => url.replacen("/fd", path, 1),
        _ => url,
    }
}
