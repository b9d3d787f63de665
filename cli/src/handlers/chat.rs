//! Rooms for people. It works on any transport and with any codec; with `?codec=lines` a plain terminal is a
//! client. On UDP, whose peers come with their first line, answers begin with their second.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use network_system::{CloseReason, GroupName, Handler, Message, Session, SessionId, Transport};

use super::ServerSlot;

/// Where everyone begins, and comes back to with `/leave`.
const LOBBY: &str = "lobby";

/// The longest name and the longest room, in characters: they stand in every line.
const NAME_CHARS: usize = 32;

const HELP: &str =
    "commands: /join ROOM, /leave, /who, /nick NAME, /msg NAME TEXT; other lines go to the room";

pub(crate) struct Chat {
    server: ServerSlot,
    people: Mutex<People>,
}

/// Who is here. Every member has a name that nobody else has, compared without case.
#[derive(Default)]
struct People {
    members: HashMap<SessionId, Member>,
    names: HashMap<String, SessionId>,
}

#[derive(Clone)]
struct Member {
    name: String,
    room: String,
    session: Session,
}

impl People {
    /// Gives a name to a session, unless someone else has it.
    fn take_name(&mut self, id: SessionId, name: &str) -> bool {
        let key = name.to_lowercase();
        if self.names.get(&key).is_some_and(|&owner| owner != id) {
            return false;
        }
        if let Some(member) = self.members.get_mut(&id) {
            self.names.remove(&member.name.to_lowercase());
            name.clone_into(&mut member.name);
        }
        self.names.insert(key, id);
        true
    }

    fn remove(&mut self, id: SessionId) -> Option<Member> {
        let member = self.members.remove(&id)?;
        self.names.remove(&member.name.to_lowercase());
        Some(member)
    }

    fn in_room(&self, room: &str) -> Vec<&str> {
        let members = self.members.values().filter(|member| member.room == room);
        let mut names: Vec<_> = members.map(|member| member.name.as_str()).collect();
        names.sort_unstable();
        names
    }
}

impl Chat {
    pub(crate) fn new(server: ServerSlot) -> Self {
        Chat {
            server,
            people: Mutex::default(),
        }
    }

    fn people(&self) -> MutexGuard<'_, People> {
        self.people.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn member(&self, session: &Session) -> Option<Member> {
        self.people().members.get(&session.id()).cloned()
    }

    async fn line(&self, session: &Session, line: &str) {
        let Some(member) = self.member(session) else {
            return;
        };
        let Some(command) = line.strip_prefix('/') else {
            return self
                .to_room(&member.room, session, format!("{}: {line}", member.name))
                .await;
        };
        let (command, rest) = command
            .split_once(char::is_whitespace)
            .unwrap_or((command, ""));
        let rest = rest.trim();
        match command {
            "join" => self.join(session, member, rest).await,
            "leave" if member.room == LOBBY => {
                tell(
                    session,
                    format!("you are in {LOBBY} already; /join ROOM goes to another"),
                )
                .await;
            }
            "leave" => self.join(session, member, LOBBY).await,
            "who" => {
                let names = self.people().in_room(&member.room).join(", ");
                tell(session, format!("in {}: {names}", member.room)).await;
            }
            "nick" => self.rename(session, member, rest).await,
            "msg" => self.private(session, member, rest).await,
            "help" => tell(session, HELP).await,
            _ => tell(session, format!("unknown command /{command}; {HELP}")).await,
        }
    }

    async fn join(&self, session: &Session, member: Member, room: &str) {
        let group = match group(room) {
            Ok(group) => group,
            Err(text) => return tell(session, format!("{text}; try /join ROOM")).await,
        };
        if member.room == room {
            return tell(session, format!("you are in {room} already")).await;
        }
        if let Ok(old) = group_of(&member.room) {
            session.leave(&old);
        }
        if let Err(error) = session.join(&group) {
            return tell(session, format!("cannot join {room}: {error}")).await;
        }
        let names = {
            let mut people = self.people();
            let Some(member) = people.members.get_mut(&session.id()) else {
                return;
            };
            room.clone_into(&mut member.room);
            people.in_room(room).join(", ")
        };
        let name = &member.name;
        self.to_room(
            &member.room,
            session,
            format!("* {name} left {}", member.room),
        )
        .await;
        self.to_room(room, session, format!("* {name} joined {room}"))
            .await;
        tell(session, format!("you are in {room} with: {names}")).await;
    }

    async fn rename(&self, session: &Session, member: Member, name: &str) {
        if let Err(text) = check_name(name, "a name") {
            return tell(session, format!("{text}; try /nick NAME")).await;
        }
        if !self.people().take_name(session.id(), name) {
            return tell(session, format!("the name {name} is taken; try another")).await;
        }
        self.to_room(
            &member.room,
            session,
            format!("* {} is now {name}", member.name),
        )
        .await;
        tell(session, format!("you are now {name}")).await;
    }

    async fn private(&self, session: &Session, member: Member, rest: &str) {
        let Some((name, text)) = rest.split_once(char::is_whitespace) else {
            return tell(session, "a name and a text are needed; try /msg NAME TEXT").await;
        };
        let other = {
            let people = self.people();
            let id = people.names.get(&name.to_lowercase());
            id.and_then(|id| people.members.get(id))
                .map(|member| member.session.clone())
        };
        match other {
            Some(other) => tell(&other, format!("{} (to you): {}", member.name, text.trim())).await,
            None => {
                tell(
                    session,
                    format!("nobody here is called {name}; /who says who is"),
                )
                .await
            }
        }
    }

    /// Says something to everyone in a room but one.
    async fn to_room(&self, room: &str, except: &Session, text: String) {
        let (Some(server), Ok(group)) = (self.server.server(), group_of(room)) else {
            return;
        };
        if let Err(error) = server.broadcast_to(&group, text, &[except.id()]).await {
            tracing::debug!(%error, room, "not sent to the room");
        }
    }
}

impl Handler for Chat {
    async fn on_connect(&self, session: &Session) {
        let id = session.id();
        let name = {
            let mut people = self.people();
            // A peer without hello has its session's number for a client id.
            let wanted = session.client_id();
            let guest = format!("guest{id}");
            let wanted = Some(wanted)
                .filter(|wanted| *wanted != id.to_string() && check_name(wanted, "").is_ok());
            let candidates = wanted.into_iter().chain([guest.clone()]);
            let numbered = (2..).map(|number| format!("{guest}-{number}"));
            let mut name = guest.clone();
            for candidate in candidates.chain(numbered) {
                if people.take_name(id, &candidate) {
                    name = candidate;
                    break;
                }
            }
            let member = Member {
                name: name.clone(),
                room: LOBBY.to_owned(),
                session: session.clone(),
            };
            people.members.insert(id, member);
            name
        };
        if let Ok(lobby) = group_of(LOBBY)
            && let Err(error) = session.join(&lobby)
        {
            tracing::debug!(%error, "not in the lobby");
        }
        // An address that is not known to receive is sent no more bytes than came from it. One byte is no
        // more, and what comes after it shows that it was received: then the rest leaves as well.
        if session.transport() == Transport::Udp {
            tell(session, "*").await;
        }
        tell(
            session,
            format!("welcome, you are {name} in {LOBBY}; {HELP}"),
        )
        .await;
        self.to_room(LOBBY, session, format!("* {name} joined {LOBBY}"))
            .await;
    }

    async fn on_message(&self, session: &Session, message: &Message) {
        let Some(text) = message.as_text() else {
            return tell(session, "that is not text (UTF-8)").await;
        };
        // A message can hold several lines, and what a terminal would obey instead of showing it.
        for line in text.lines() {
            let line: String = line
                .chars()
                .map(|c| if c == '\t' { ' ' } else { c })
                .filter(|c| !c.is_control())
                .collect();
            let line = line.trim();
            if !line.is_empty() {
                self.line(session, line).await;
            }
        }
    }

    async fn on_disconnect(&self, session: &Session, _: &CloseReason) {
        let Some(member) = self.people().remove(session.id()) else {
            return;
        };
        let text = format!("* {} left {}", member.name, member.room);
        self.to_room(&member.room, session, text).await;
    }
}

async fn tell(session: &Session, text: impl Into<String>) {
    // Someone who has gone does not listen.
    let _ = session.send(text.into()).await;
}

/// A room as someone typed it.
fn group(room: &str) -> Result<GroupName, String> {
    check_name(room, "a room")?;
    group_of(room)
}

fn group_of(room: &str) -> Result<GroupName, String> {
    GroupName::new(room).map_err(|error| error.to_string())
}

fn check_name(name: &str, what: &str) -> Result<(), String> {
    if name.is_empty() {
        Err(format!("{what} is needed"))
    } else if name.chars().count() > NAME_CHARS {
        Err(format!("{what} has at most {NAME_CHARS} characters"))
    } else if name.chars().any(|c| c.is_whitespace() || c.is_control()) || name.starts_with('/') {
        Err(format!("{what} has no spaces and does not begin with /"))
    } else {
        Ok(())
    }
}
