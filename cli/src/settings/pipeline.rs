//! The stages that messages go through.

use network_system::Endpoint;
use network_system::pipeline::{
    Compression, Encryption, HmacSha256, MessageLog, OnFailure, Pipeline, PipelineBuilder,
    StageDefinition,
};

use super::has_hello;
use super::keys::{KeyFile, hmac};
use crate::args::{Fate, PipelineArgs, Require, StageName};
use crate::exit::Failure;

/// What messages go through.
#[derive(Debug)]
pub(crate) struct PipelineSettings {
    pub(crate) pipeline: Pipeline,
    /// There when messages are encrypted.
    pub(crate) keys: Option<KeyFile>,
    /// Whether there are keys that are read at the start only.
    pub(crate) has_fixed_keys: bool,
    /// Whether stages are named, and not messages logged alone.
    has_stages: bool,
    /// Whether the other side must have one of them.
    is_required: bool,
    encrypts: bool,
    without_hello: bool,
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
        let keys_file = args
            .pipeline_keys
            .as_deref()
            .map(KeyFile::new)
            .transpose()?;
        let hmac = args.hmac_keys.as_deref().map(hmac).transpose()?;
        let mut builder = Pipeline::builder();
        if args.log_messages.is_on() {
            builder = builder.offer(MessageLog::new(tracing::Level::INFO));
        }
        let mut any_required = false;
        for name in &args.pipeline {
            let stage = stage(*name, args, keys_file.as_ref(), hmac.as_ref());
            let Some(stage) = stage else { continue };
            let is_required = match args.pipeline_require.unwrap_or(Require::Security) {
                Require::All => true,
                Require::Security => !name.compresses(),
                Require::None => false,
            };
            any_required |= is_required;
            builder = match is_required {
                true => builder.require(stage),
                false => builder.offer(stage),
            };
        }
        let without_hello = args.pipeline_without_hello.is_some_and(|on| on.is_on());
        Ok(Some(PipelineSettings {
            pipeline: finish(builder, args, without_hello)?,
            keys: keys_file,
            has_fixed_keys: hmac.is_some(),
            has_stages: !args.pipeline.is_empty(),
            is_required: any_required,
            encrypts,
            without_hello,
        }))
    }

    /// Whether plain datagrams can go through it.
    pub(super) fn suits_plain_datagrams(&self) -> bool {
        match self.without_hello {
            true => !self.encrypts,
            false => !self.is_required,
        }
    }

    /// Refuses stages that would have no effect, and peers that cannot agree on those that are needed.
    pub(super) fn check<'a>(
        &self,
        endpoints: impl Iterator<Item = (&'a Endpoint, bool)>,
    ) -> Result<(), Failure> {
        if self.without_hello || !self.has_stages {
            return Ok(());
        }
        let mut lacking = None;
        let mut some_agree = false;
        for (endpoint, says_hello) in endpoints {
            match says_hello {
                true => some_agree = true,
                false => lacking = lacking.or(Some(endpoint)),
            }
        }
        match lacking {
            Some(endpoint) if self.is_required || !some_agree => Err(Failure::usage(format_args!(
                "--pipeline: on {endpoint} there is no hello to agree on stages: expected MSGI, \
                     or --pipeline-without-hello on for both sides"
            ))),
            _ => Ok(()),
        }
    }

    /// For a client; `is_plain` says that no MSGI is spoken inside of WebSocket, `is_msgi` that nothing else
    /// is.
    pub(super) fn check_client(
        &self,
        url: &Endpoint,
        is_plain: bool,
        is_msgi: bool,
    ) -> Result<(), Failure> {
        let says_hello = has_hello(url) && !is_plain;
        if self.without_hello && says_hello && is_msgi {
            return Err(Failure::usage(format_args!(
                "--pipeline-without-hello means nothing on {url}, where hello is said"
            )));
        }
        self.check([(url, says_hello)].into_iter())
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
        StageName::Aes256Gcm => return Some(Encryption::aes_256_gcm(keys?.keys()).into()),
        StageName::ChaCha20Poly1305 => {
            return Some(Encryption::chacha20_poly1305(keys?.keys()).into());
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
