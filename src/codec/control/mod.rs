//! The payload of CONTROL frames: one JSON object that opens, acknowledges, groups or warns.
//!
//! Parsing is lenient where the protocol is meant to grow and strict where two readers could
//! disagree:
//!
//! * An unknown `op` is [`Control::Unknown`], an unknown field is skipped, `null` is the same as absent,
//!   and an absent field has the default that its type's documentation gives.
//! * A key that stands twice, in the object or in `resume`, is refused: readers differ in which one
//!   they take, and a check made on one value must not be undone by the other.
//! * A known field of the wrong type is refused as well. Taking it for absent would quietly turn a
//!   reliable session into an unreliable one.
//! * Whole numbers are written without fraction or exponent and stay below 2^53, so that every JSON
//!   reader sees the same number.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Serialize, Serializer};

/// The largest whole number of a CONTROL payload; counts stay below 2^53.
pub(crate) const MAX_INTEGER: u64 = (1 << 53) - 1;

/// Random bytes that each side contributes to the keys of a link, in hexadecimal on the wire.
pub(crate) type Nonce = [u8; 16];

/// The longest client id, in bytes: servers keep it as long as its session, and show it.
pub(crate) const CLIENT_ID_MAX: usize = 256;

/// The longest key of a peer's that an error text repeats, in characters.
const SHOWN_CHARS: usize = 32;

/// One CONTROL payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub(crate) enum Control {
    /// A client opens or resumes a session.
    Hello(Box<Hello>),
    /// The server's answer to hello.
    Welcome(Box<Welcome>),
    /// The sender has handled this many application frames of the session.
    Ack {
        /// The count; 0, which acknowledges nothing, when absent.
        received: u64,
    },
    /// A client wants to join a group. The name is not checked yet: a bad one is answered with
    /// `refused`, which costs the client no connection.
    Join {
        /// The group; empty when absent, which is no valid name.
        group: String,
    },
    /// A client wants to leave a group. As with [`Control::Join`], the name is not checked yet.
    Leave {
        /// The group; empty when absent.
        group: String,
    },
    /// The session is in the group.
    Joined {
        /// The group.
        group: String,
    },
    /// The session is not in the group any more.
    Left {
        /// The group.
        group: String,
    },
    /// A join or leave was refused.
    Refused {
        /// The group.
        group: String,
        /// The error code; 0 when absent.
        code: i32,
        /// The reason for people; empty when absent.
        text: String,
    },
    /// A client says anew who it is, in a session that is open.
    Refresh(Box<Refresh>),
    /// The server has taken the new token.
    Refreshed {
        /// That of the refresh; 0 when absent.
        id: u64,
        /// After how many milliseconds the identity expires; never when absent.
        #[serde(skip_serializing_if = "Option::is_none")]
        expires_ms: Option<u64>,
    },
    /// The server has not taken the new token. What held before still does.
    #[serde(rename = "refresh_refused")]
    RefreshRefused {
        /// That of the refresh; 0 when absent.
        id: u64,
        /// The error code; 0 when absent.
        code: i32,
        /// The reason for people; empty when absent.
        text: String,
    },
    /// The server is about to restart.
    Goaway {
        /// When to come back, in milliseconds. Without it the client's own back-off decides: a
        /// missing hint is no reason to return at once.
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_ms: Option<u64>,
    },
    /// An `op` that this version does not know, to be ignored. It is never sent.
    Unknown,
}

/// What a client says first.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Hello {
    /// The highest protocol version that the client speaks; 1 when absent.
    pub(crate) version: u32,
    /// The name that the client gives itself; its session id stands in when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client_id: Option<String>,
    /// What the client authenticates with. Never logged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// The client's part of the salt for the keys of this link.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "write_nonce"
    )]
    pub(crate) nonce: Option<Nonce>,
    /// The stages offered, in order; none when absent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) pipeline: Vec<String>,
    /// Whether a reliable session is asked for; no when absent.
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) reliable: bool,
    /// The most unacknowledged bytes that the client accepts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) window: Option<u64>,
    /// The session that the client wants back; a new one is opened when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) resume: Option<Resume>,
}

/// The session that a client wants back.
///
/// Absent fields are empty or 0. They match no session, and so are answered like any unknown one.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Resume {
    /// Which session.
    pub(crate) session_id: String,
    /// Proves that the client had the session. Never logged.
    pub(crate) resume_token: String,
    /// How many application frames the client has decoded.
    pub(crate) received: u64,
}

/// What a client authenticates with anew.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Refresh {
    /// What the answer repeats; 0 when absent.
    pub(crate) id: u64,
    /// Never logged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
}

/// The server's answer to [`Hello`].
#[derive(Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Welcome {
    /// The version that both speak from now on; 1 when absent.
    pub(crate) version: u32,
    /// The id that the server gave the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) session_id: Option<String>,
    /// The server's part of the salt for the keys of this link.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "write_nonce"
    )]
    pub(crate) nonce: Option<Nonce>,
    /// The stages agreed on, in order. Written even when empty.
    pub(crate) pipeline: Vec<String>,
    /// Whether the session is reliable. Always written.
    pub(crate) reliable: bool,
    /// The most unacknowledged bytes that the server accepts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) window: Option<u64>,
    /// What the client proves with that the session is its own. Never logged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) resume_token: Option<String>,
    /// How long the session is kept after its link is lost, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) resume_ms: Option<u64>,
    /// Whether this is the session that was asked for, rather than a new one. Always written.
    pub(crate) resumed: bool,
    /// How many application frames the server has decoded; absent means none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) received: Option<u64>,
    /// After how much silence the server sends PING, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) heartbeat_ms: Option<u64>,
    /// The longest message that the server accepts, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message_limit: Option<u64>,
    /// After how many milliseconds the client's identity expires; never when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expires_ms: Option<u64>,
}

/// A CONTROL payload that breaks the protocol; the answer is ERROR `invalid_frame` with this text.
///
/// The text names the field and says what it must be. It repeats no values, which can be secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ControlError(Cow<'static, str>);

impl Default for Hello {
    fn default() -> Self {
        Hello {
            version: 1,
            client_id: None,
            token: None,
            nonce: None,
            pipeline: Vec::new(),
            reliable: false,
            window: None,
            resume: None,
        }
    }
}

impl Default for Welcome {
    fn default() -> Self {
        Welcome {
            version: 1,
            session_id: None,
            nonce: None,
            pipeline: Vec::new(),
            reliable: false,
            window: None,
            resume_token: None,
            resume_ms: None,
            resumed: false,
            received: None,
            heartbeat_ms: None,
            message_limit: None,
            expires_ms: None,
        }
    }
}

impl Control {
    /// Reads the payload of a CONTROL frame, whose length the codec has limited before.
    ///
    /// # Errors
    ///
    /// The payload is not one JSON object in UTF-8, has no text `op`, has a key twice, or a field that
    /// its `op` knows has a wrong type.
    pub(crate) fn parse(payload: &[u8]) -> Result<Control, ControlError> {
        if let Some(received) = plain_ack(payload) {
            return Ok(Control::Ack { received });
        }
        let text = std::str::from_utf8(payload)
            .map_err(|_| ControlError(Cow::Borrowed("CONTROL is not valid UTF-8")))?;
        let value: Value = serde_json::from_str(text).map_err(|error| {
            ControlError(format!("CONTROL is not one JSON object: {error}").into())
        })?;
        let Value::Object(mut object) = value else {
            return Err(ControlError(Cow::Borrowed("CONTROL is not a JSON object")));
        };
        object.refuse_duplicates("CONTROL")?;
        let Some(op) = object.text("op")? else {
            return Err(ControlError(Cow::Borrowed("CONTROL has no `op`")));
        };
        Ok(match op.as_str() {
            "hello" => Control::Hello(Box::new(Hello::read(object)?)),
            "welcome" => Control::Welcome(Box::new(Welcome::read(object)?)),
            "ack" => Control::Ack {
                received: object.count("received")?.unwrap_or(0),
            },
            "join" => Control::Join {
                group: object.text_or_empty("group")?,
            },
            "leave" => Control::Leave {
                group: object.text_or_empty("group")?,
            },
            "joined" => Control::Joined {
                group: object.text_or_empty("group")?,
            },
            "left" => Control::Left {
                group: object.text_or_empty("group")?,
            },
            "refused" => Control::Refused {
                group: object.text_or_empty("group")?,
                code: object.code("code")?.unwrap_or(0),
                text: object.text_or_empty("text")?,
            },
            "refresh" => Control::Refresh(Box::new(Refresh {
                id: object.count("id")?.unwrap_or(0),
                token: object.text("token")?,
            })),
            "refreshed" => Control::Refreshed {
                id: object.count("id")?.unwrap_or(0),
                expires_ms: object.count("expires_ms")?,
            },
            "refresh_refused" => Control::RefreshRefused {
                id: object.count("id")?.unwrap_or(0),
                code: object.code("code")?.unwrap_or(0),
                text: object.text_or_empty("text")?,
            },
            "goaway" => Control::Goaway {
                retry_ms: object.count("retry_ms")?,
            },
            _ => Control::Unknown,
        })
    }

    /// Writes the payload. The caller sees to it that it fits into a CONTROL frame.
    pub(crate) fn to_bytes(&self) -> Bytes {
        if let Control::Ack { received } = self {
            return format!("{ACK_START}{received}}}").into();
        }
        let json = serde_json::to_vec(self).expect("text, numbers and lists are always valid JSON");
        Bytes::from(json)
    }
}

/// How an acknowledgement begins that is written without spaces, its fields in the protocol's order.
const ACK_START: &str = r#"{"op":"ack","received":"#;

/// Whether this begins as an acknowledgement does that is written so.
#[inline]
pub(super) fn is_plain_ack(payload: &[u8]) -> bool {
    payload.starts_with(ACK_START.as_bytes())
}

/// The count of such an acknowledgement, as nearly all that is read while messages flow. Everything else, what is
/// invalid too, is left to the parser of JSON.
fn plain_ack(payload: &[u8]) -> Option<u64> {
    let digits = payload
        .strip_prefix(ACK_START.as_bytes())?
        .strip_suffix(b"}")?;
    let is_plain = match digits {
        [b'0'] => true,
        // Fifteen digits are within every limit of a count.
        [b'1'..=b'9', rest @ ..] => rest.len() < 15 && rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    let count = |count: u64, digit: &u8| 10 * count + u64::from(digit - b'0');
    is_plain.then(|| digits.iter().fold(0, count))
}

impl Hello {
    fn read(mut object: Object) -> Result<Hello, ControlError> {
        Ok(Hello {
            version: object.version()?,
            client_id: object.short_text("client_id", CLIENT_ID_MAX)?,
            token: object.text("token")?,
            nonce: object.nonce("nonce")?,
            pipeline: object.texts("pipeline")?,
            reliable: object.flag("reliable")?,
            window: object.count("window")?,
            resume: object.object("resume")?.map(Resume::read).transpose()?,
        })
    }
}

impl Resume {
    fn read(mut object: Object) -> Result<Resume, ControlError> {
        object.refuse_duplicates("`resume`")?;
        Ok(Resume {
            session_id: object.text_or_empty("session_id")?,
            resume_token: object.text_or_empty("resume_token")?,
            received: object.count("received")?.unwrap_or(0),
        })
    }
}

impl Welcome {
    fn read(mut object: Object) -> Result<Welcome, ControlError> {
        Ok(Welcome {
            version: object.version()?,
            session_id: object.text("session_id")?,
            nonce: object.nonce("nonce")?,
            pipeline: object.texts("pipeline")?,
            reliable: object.flag("reliable")?,
            window: object.count("window")?,
            resume_token: object.text("resume_token")?,
            resume_ms: object.count("resume_ms")?,
            resumed: object.flag("resumed")?,
            received: object.count("received")?,
            heartbeat_ms: object.count("heartbeat_ms")?,
            message_limit: object.count("message_limit")?,
            expires_ms: object.count("expires_ms")?,
        })
    }
}

// The types with tokens print them as `[hidden]`. Taking the value apart makes the compiler ask about
// each field that is added later.

/// Stands for a secret in debug output, and shows whether there is one.
fn hidden<T>(secret: &Option<T>) -> Option<fmt::Arguments<'static>> {
    secret.as_ref().map(|_| format_args!("[hidden]"))
}

impl fmt::Debug for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Hello {
            version,
            client_id,
            token,
            nonce,
            pipeline,
            reliable,
            window,
            resume,
        } = self;
        f.debug_struct("Hello")
            .field("version", version)
            .field("client_id", client_id)
            .field("token", &hidden(token))
            .field("nonce", nonce)
            .field("pipeline", pipeline)
            .field("reliable", reliable)
            .field("window", window)
            .field("resume", resume)
            .finish()
    }
}

impl fmt::Debug for Refresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refresh { id, token } = self;
        f.debug_struct("Refresh")
            .field("id", id)
            .field("token", &hidden(token))
            .finish()
    }
}

impl fmt::Debug for Resume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Resume {
            session_id,
            resume_token: _,
            received,
        } = self;
        f.debug_struct("Resume")
            .field("session_id", session_id)
            .field("resume_token", &format_args!("[hidden]"))
            .field("received", received)
            .finish()
    }
}

impl fmt::Debug for Welcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Welcome {
            version,
            session_id,
            nonce,
            pipeline,
            reliable,
            window,
            resume_token,
            resume_ms,
            resumed,
            received,
            heartbeat_ms,
            message_limit,
            expires_ms,
        } = self;
        f.debug_struct("Welcome")
            .field("version", version)
            .field("session_id", session_id)
            .field("nonce", nonce)
            .field("pipeline", pipeline)
            .field("reliable", reliable)
            .field("window", window)
            .field("resume_token", &hidden(resume_token))
            .field("resume_ms", resume_ms)
            .field("resumed", resumed)
            .field("received", received)
            .field("heartbeat_ms", heartbeat_ms)
            .field("message_limit", message_limit)
            .field("expires_ms", expires_ms)
            .finish()
    }
}

fn is_false(flag: &bool) -> bool {
    !flag
}

fn write_nonce<S: Serializer>(nonce: &Option<Nonce>, serializer: S) -> Result<S::Ok, S::Error> {
    match nonce {
        Some(nonce) => {
            serializer.collect_str(&format_args!("{:032x}", u128::from_be_bytes(*nonce)))
        }
        None => serializer.serialize_none(),
    }
}

/// A JSON value as far as CONTROL needs it.
///
/// `serde_json::Value` would keep the last of two equal keys and forget that there were two.
enum Value {
    Null,
    Flag(bool),
    Integer(i64),
    /// A number with a fraction or an exponent, or one that no field can hold.
    OtherNumber,
    Text(String),
    List(Vec<Value>),
    Object(Object),
}

/// A JSON object. Reading a field takes it out.
#[derive(Default)]
struct Object {
    fields: BTreeMap<String, Value>,
    /// The first key that stood there a second time.
    duplicate: Option<String>,
}

impl Object {
    fn refuse_duplicates(&self, place: &str) -> Result<(), ControlError> {
        let Some(key) = &self.duplicate else {
            return Ok(());
        };
        let key: String = key.chars().take(SHOWN_CHARS).collect();
        Err(ControlError(
            format!("{place} has the key {key:?} twice").into(),
        ))
    }

    /// The field's value; null counts as absent.
    fn take(&mut self, name: &str) -> Option<Value> {
        self.fields
            .remove(name)
            .filter(|value| !matches!(value, Value::Null))
    }

    /// The field's value as `convert` reads it, or an error that says what it must be.
    fn read<T>(
        &mut self,
        name: &'static str,
        expected: impl fmt::Display,
        convert: impl FnOnce(Value) -> Option<T>,
    ) -> Result<Option<T>, ControlError> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        match convert(value) {
            Some(value) => Ok(Some(value)),
            None => Err(ControlError(format!("`{name}` must be {expected}").into())),
        }
    }

    fn text(&mut self, name: &'static str) -> Result<Option<String>, ControlError> {
        self.read(name, "a string", Value::into_text)
    }

    fn short_text(
        &mut self,
        name: &'static str,
        most: usize,
    ) -> Result<Option<String>, ControlError> {
        let expected = format_args!("a string of at most {most} bytes");
        self.read(name, expected, |value| {
            value.into_text().filter(|text| text.len() <= most)
        })
    }

    fn text_or_empty(&mut self, name: &'static str) -> Result<String, ControlError> {
        Ok(self.text(name)?.unwrap_or_default())
    }

    fn texts(&mut self, name: &'static str) -> Result<Vec<String>, ControlError> {
        let texts = self.read(name, "a list of strings", |value| match value {
            Value::List(values) => values.into_iter().map(Value::into_text).collect(),
            _ => None,
        })?;
        Ok(texts.unwrap_or_default())
    }

    fn flag(&mut self, name: &'static str) -> Result<bool, ControlError> {
        let flag = self.read(name, "true or false", |value| match value {
            Value::Flag(flag) => Some(flag),
            _ => None,
        })?;
        Ok(flag.unwrap_or(false))
    }

    fn count(&mut self, name: &'static str) -> Result<Option<u64>, ControlError> {
        let expected = format_args!("a whole number from 0 to {MAX_INTEGER}");
        self.read(name, expected, |value| match value {
            Value::Integer(number) => u64::try_from(number)
                .ok()
                .filter(|&number| number <= MAX_INTEGER),
            _ => None,
        })
    }

    fn code(&mut self, name: &'static str) -> Result<Option<i32>, ControlError> {
        self.read(name, "a whole number of 32 bits", |value| match value {
            Value::Integer(number) => i32::try_from(number).ok(),
            _ => None,
        })
    }

    fn version(&mut self) -> Result<u32, ControlError> {
        let version = self.count("version")?.unwrap_or(1);
        // "At least this high" is all that matters about a version beyond the known ones.
        Ok(u32::try_from(version).unwrap_or(u32::MAX))
    }

    fn nonce(&mut self, name: &'static str) -> Result<Option<Nonce>, ControlError> {
        self.read(name, "32 hexadecimal digits", |value| {
            let text = value.into_text()?;
            // `from_str_radix` alone would accept a leading plus sign.
            let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            let number = u128::from_str_radix(&text, 16).ok().filter(|_| is_hex)?;
            Some(number.to_be_bytes())
        })
    }

    fn object(&mut self, name: &'static str) -> Result<Option<Object>, ControlError> {
        self.read(name, "an object", |value| match value {
            Value::Object(object) => Some(object),
            _ => None,
        })
    }
}

impl Value {
    fn into_text(self) -> Option<String> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Flag(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Integer(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(i64::try_from(number).map_or(Value::OtherNumber, Value::Integer))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::OtherNumber)
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = access.next_element()? {
            values.push(value);
        }
        Ok(Value::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut object = Object::default();
        while let Some((key, value)) = access.next_entry::<String, Value>()? {
            match object.fields.entry(key) {
                Entry::Vacant(entry) => {
                    entry.insert(value);
                }
                Entry::Occupied(entry) => {
                    object.duplicate.get_or_insert_with(|| entry.key().clone());
                }
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests;
