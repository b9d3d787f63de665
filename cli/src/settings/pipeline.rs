//! The stages that messages go through, and their keys.

use std::fmt;
use std::path::{Path, PathBuf};

use network_system::pipeline::{
    Compression, Encryption, HmacSha256, Keys, MessageLog, OnFailure, Pipeline, PipelineBuilder,
    Secret, StageDefinition,
};

use crate::args::{Fate, PipelineArgs, Require, StageName};
use crate::exit::Failure;

/// What messages go through.
#[derive(Debug)]
pub(crate) struct PipelineSettings {
    pub(crate) pipeline: Pipeline,
    /// There when messages are encrypted.
    pub(crate) keys: Option<KeyFile>,
    /// Whether peers have to say hello.
    pub(crate) needs_hello: bool,
}

impl PipelineSettings {
    /// `None` when messages are sent as they are.
    pub(crate) fn new(args: &PipelineArgs) -> Result<Option<Self>, Failure> {
        let encrypts = args.pipeline.iter().any(|stage| stage.encrypts());
        let authenticates = args.pipeline.contains(&StageName::HmacSha256);
        for (option, path, used) in [
            ("pipeline-keys", &args.pipeline_keys, encrypts),
            ("hmac-keys", &args.hmac_keys, authenticates),
        ] {
            let problem = match (path.is_some(), used) {
                (true, false) => "means nothing without a stage in --pipeline that uses them",
                (false, true) => "is needed for what --pipeline names",
                _ => continue,
            };
            return Err(Failure::usage(format_args!("--{option} {problem}")));
        }
        let compresses = args.pipeline.iter().any(|stage| stage.compresses());
        if args.pipeline_threshold.is_some() && !compresses {
            let text = "--pipeline-threshold means nothing without compression in --pipeline";
            return Err(Failure::usage(text));
        }
        if args.pipeline.is_empty() && !args.log_messages.is_on() {
            return Ok(None);
        }
        let keys = args
            .pipeline_keys
            .as_deref()
            .map(KeyFile::new)
            .transpose()?;
        let hmac = args.hmac_keys.as_deref().map(hmac).transpose()?;
        let mut builder = Pipeline::builder();
        if args.log_messages.is_on() {
            builder = builder.offer(MessageLog::new(tracing::Level::INFO));
        }
        let mut needs_hello = false;
        for name in &args.pipeline {
            let stage = stage(*name, args, keys.as_ref(), hmac.as_ref());
            let Some(stage) = stage else { continue };
            let is_required = match args.pipeline_require.unwrap_or(Require::Security) {
                Require::All => true,
                Require::Security => !name.compresses(),
                Require::None => false,
            };
            needs_hello |= is_required;
            builder = match is_required {
                true => builder.require(stage),
                false => builder.offer(stage),
            };
        }
        let without_hello = args.pipeline_without_hello.is_some_and(|on| on.is_on());
        Ok(Some(PipelineSettings {
            pipeline: finish(builder, args, without_hello)?,
            keys,
            needs_hello: needs_hello && !without_hello,
        }))
    }
}

fn finish(
    mut builder: PipelineBuilder,
    args: &PipelineArgs,
    without_hello: bool,
) -> Result<Pipeline, Failure> {
    if without_hello {
        builder = builder.without_hello();
    }
    if args.pipeline_failure == Some(Fate::Drop) {
        builder = builder.on_failure(OnFailure::Drop);
    }
    Ok(builder.build()?)
}

/// `None` without the keys that it needs.
fn stage(
    name: StageName,
    args: &PipelineArgs,
    keys: Option<&KeyFile>,
    hmac: Option<&HmacSha256>,
) -> Option<StageDefinition> {
    let compression = match name {
        StageName::Lz4 => Compression::lz4(),
        StageName::Zstd => Compression::zstd(),
        StageName::Gzip => Compression::gzip(),
        StageName::Deflate => Compression::deflate(),
        StageName::Aes256Gcm => return Some(Encryption::aes_256_gcm(&keys?.keys).into()),
        StageName::ChaCha20Poly1305 => {
            return Some(Encryption::chacha20_poly1305(&keys?.keys).into());
        }
        StageName::HmacSha256 => return Some(hmac?.clone().into()),
    };
    Some(match args.pipeline_threshold {
        Some(size) => {
            let bytes = usize::try_from(size.0).unwrap_or(usize::MAX);
            compression.threshold(bytes).into()
        }
        None => compression.into(),
    })
}

/// A file of keys, which can be read again.
#[derive(Clone, Debug)]
pub(crate) struct KeyFile {
    path: PathBuf,
    keys: Keys,
}

/// What a file has come to.
#[derive(Debug)]
pub(crate) struct KeyChange {
    pub(crate) active: u32,
    pub(crate) ids: Vec<u32>,
}

impl KeyFile {
    fn new(path: &Path) -> Result<Self, Failure> {
        let mut read = read_keys(path).map_err(Failure::usage)?.into_iter();
        let wrong = |error| Failure::usage(in_file(path, error));
        let keys = match read.next() {
            Some((id, secret)) => Keys::new(id, secret),
            None => return Err(wrong("there is no key in it".to_owned())),
        };
        for (id, secret) in read {
            keys.add(id, secret)
                .map_err(|error| wrong(error.to_string()))?;
        }
        Ok(KeyFile {
            path: path.to_owned(),
            keys,
        })
    }

    /// Reads the file again: keys that are new are understood from now on, the first one is used, and those
    /// that are gone are forgotten. When something is wrong, nothing that was understood before is lost.
    pub(crate) fn reload(&self) -> Result<KeyChange, String> {
        let wrong = |error: &dyn fmt::Display| in_file(&self.path, error);
        let read = read_keys(&self.path)?;
        let ids: Vec<_> = read.iter().map(|(id, _)| *id).collect();
        let Some(active) = ids.first().copied() else {
            return Err(wrong(&"there is no key in it"));
        };
        for (id, secret) in read {
            self.keys.add(id, secret).map_err(|error| wrong(&error))?;
        }
        self.keys.activate(active).map_err(|error| wrong(&error))?;
        for id in self.keys.ids() {
            if !ids.contains(&id) {
                self.keys.remove(id).map_err(|error| wrong(&error))?;
            }
        }
        Ok(KeyChange { active, ids })
    }
}

fn in_file(path: &Path, error: impl fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

/// The lines of a file with keys, without comments and empty ones, with their numbers.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..)
        .zip(text.lines())
        .map(|(number, line)| (number, line.split('#').next().unwrap_or("").trim()))
        .filter(|(_, line)| !line.is_empty())
}

/// The longest file with keys.
const FILE_MAX: u64 = 1024 * 1024;

fn read(path: &Path) -> Result<String, String> {
    use std::io::Read as _;
    let file = std::fs::File::open(path).map_err(|error| in_file(path, error))?;
    let mut text = String::new();
    let read = file.take(FILE_MAX + 1).read_to_string(&mut text);
    match read.map_err(|error| in_file(path, error))? as u64 {
        0..=FILE_MAX => Ok(text),
        _ => Err(in_file(path, "longer than 1 MiB")),
    }
}

/// Texts name the line and never show what is in it.
fn read_keys(path: &Path) -> Result<Vec<(u32, Secret)>, String> {
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
        let secret = Secret::from_hex(secret).map_err(|error| wrong(&error))?;
        keys.push((id, secret));
    }
    Ok(keys)
}

fn hmac(path: &Path) -> Result<HmacSha256, Failure> {
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
    hmac.ok_or_else(|| Failure::usage(in_file(path, "there is no key in it")))
}
