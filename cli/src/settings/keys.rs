//! Files of keys: a line for each, the first is used, all are understood.

use std::fmt;
use std::path::{Path, PathBuf};

use network_system::pipeline::{HmacSha256, KeyError, Keys, Secret};
use zeroize::Zeroizing;

use crate::exit::Failure;

/// The longest file with keys.
const FILE_MAX: u64 = 1024 * 1024;

/// A file of encryption keys, which can be read again.
#[derive(Clone, Debug)]
pub(crate) struct KeyFile {
    path: PathBuf,
    keys: Keys,
}

/// What a file has come to.
#[derive(Clone, Debug)]
pub(crate) struct KeyChange {
    pub(crate) active: u32,
    pub(crate) ids: Vec<u32>,
}

impl KeyFile {
    pub(super) fn new(path: &Path) -> Result<Self, Failure> {
        let read = encryption_keys(path).map_err(Failure::usage)?;
        let Some((id, secret)) = read.first().cloned() else {
            return Err(Failure::usage(in_file(path, KeyError::NoKeys)));
        };
        let keys = Keys::new(id, secret);
        keys.replace(&read)
            .map_err(|error| Failure::usage(in_file(path, error)))?;
        Ok(KeyFile {
            path: path.to_owned(),
            keys,
        })
    }

    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Reads the file again: keys that are new are understood from now on, the first one is used, and those
    /// that are gone are forgotten. When something is wrong, everything stays as it was.
    pub(crate) fn reload(&self) -> Result<KeyChange, String> {
        // A pipe has given what it had, and opening it could wait for ever.
        let is_file = std::fs::metadata(&self.path)
            .map_err(|error| in_file(&self.path, error))?
            .is_file();
        if !is_file {
            return Err(in_file(&self.path, "not a file, which is read only once"));
        }
        let read = encryption_keys(&self.path)?;
        self.keys.replace(&read).map_err(|error| {
            let more = match error {
                KeyError::ReusedId { .. } | KeyError::ReusedSecret { .. } => {
                    "; a new key needs a new number, and one that was removed cannot come back"
                }
                _ => "",
            };
            in_file(&self.path, format_args!("{error}{more}"))
        })?;
        let ids = read.iter().map(|(id, _)| *id).collect();
        Ok(KeyChange {
            active: self.keys.active(),
            ids,
        })
    }
}

/// The key of authentication that is used, and those that are accepted beside it.
pub(super) fn hmac(path: &Path) -> Result<HmacSha256, Failure> {
    let text = read(path).map_err(Failure::usage)?;
    let mut hmac: Option<HmacSha256> = None;
    for (number, line) in lines(&text) {
        let secret = Secret::from_hex(line).map_err(|error| {
            Failure::usage(in_file(path, format_args!("line {number}: {error}")))
        })?;
        hmac = Some(match hmac {
            None => HmacSha256::new(secret),
            Some(hmac) => hmac.accept(secret),
        });
    }
    hmac.ok_or_else(|| Failure::usage(in_file(path, KeyError::NoKeys)))
}

/// Someone may have given the key where its file belongs.
fn in_file(path: &Path, error: impl fmt::Display) -> String {
    let shown = path.to_string_lossy();
    let is_key = shown.len() >= 2 * Secret::MIN_BYTES
        && shown
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() || byte == b' ');
    match is_key {
        true => "keys are read from a file, whose name is expected, and not a key".to_owned(),
        false => format!("{shown}: {error}"),
    }
}

/// The lines of a file with keys, without comments and empty ones, with their numbers.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..)
        .zip(text.lines())
        .map(|(number, line)| (number, line.split('#').next().unwrap_or("").trim()))
        .filter(|(_, line)| !line.is_empty())
}

fn read(path: &Path) -> Result<Zeroizing<String>, String> {
    use std::io::Read as _;
    let file = std::fs::File::open(path).map_err(|error| in_file(path, error))?;
    // As large as it becomes: growing would leave secrets behind.
    let len = file.metadata().map_or(0, |known| known.len());
    let room = usize::try_from(len.min(FILE_MAX)).unwrap_or_default() + 1;
    let mut text = Zeroizing::new(String::with_capacity(room));
    let read = file.take(FILE_MAX + 1).read_to_string(&mut text);
    match read.map_err(|error| in_file(path, error))? as u64 {
        0..=FILE_MAX => Ok(text),
        _ => Err(in_file(path, "longer than 1 MiB")),
    }
}

/// Texts name the line and never show what is in it.
fn encryption_keys(path: &Path) -> Result<Vec<(u32, Secret)>, String> {
    let text = read(path)?;
    let mut keys: Vec<(u32, Secret)> = Vec::new();
    for (number, line) in lines(&text) {
        let wrong = |error: &dyn fmt::Display| in_file(path, format!("line {number}: {error}"));
        let (id, secret) = line
            .split_once(char::is_whitespace)
            .and_then(|(id, secret)| Some((id.parse().ok()?, secret.trim())))
            .ok_or_else(|| wrong(&"expected a number and a secret in hexadecimal"))?;
        if keys.iter().any(|(known, _)| *known == id) {
            return Err(wrong(&format_args!("there is a key {id} already")));
        }
        if keys.len() == Keys::MAX {
            return Err(wrong(&format_args!("more than {} keys", Keys::MAX)));
        }
        let secret = Secret::from_hex(secret).map_err(|error| wrong(&error))?;
        keys.push((id, secret));
    }
    Ok(keys)
}
