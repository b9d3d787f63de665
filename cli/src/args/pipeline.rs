//! What servers and clients take about the stages that messages go through.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::values::Toggle;
use crate::units::Size;

#[derive(Args, Clone, Debug)]
pub(crate) struct PipelineArgs {
    /// Stages that messages go through, in this order, which is also the order of preference: lz4, zstd,
    /// gzip, deflate, aes-256-gcm, chacha20-poly1305, hmac-sha256
    #[arg(
        long,
        value_name = "STAGE",
        value_delimiter = ',',
        hide_possible_values = true,
        help_heading = "Pipeline"
    )]
    pub(crate) pipeline: Vec<StageName>,

    /// Which of these the other side must have: encryption and authentication (security), all or none
    /// [default: security]
    #[arg(
        long,
        value_name = "WHICH",
        value_enum,
        requires = "pipeline",
        hide_possible_values = true,
        help_heading = "Pipeline"
    )]
    pub(crate) pipeline_require: Option<Require>,

    /// The keys of encryption, as `netsys key --id N` makes them: a line for each with its number and at
    /// least 16 bytes in hexadecimal. The first is used, all are understood; read again on SIGHUP
    #[arg(long, value_name = "FILE", help_heading = "Pipeline")]
    pub(crate) pipeline_keys: Option<PathBuf>,

    /// The keys of hmac-sha256, as `netsys key` makes them: a line for each in hexadecimal. The first is
    /// used, all are understood
    #[arg(long, value_name = "FILE", help_heading = "Pipeline")]
    pub(crate) hmac_keys: Option<PathBuf>,

    /// Messages below this size are not compressed by the pipeline [default: 1KiB]
    #[arg(
        long,
        value_name = "SIZE",
        requires = "pipeline",
        help_heading = "Pipeline"
    )]
    pub(crate) pipeline_threshold: Option<Size>,

    /// Take a peer that says no hello to use all stages as well: on ?codec=length, plain WebSocket, plain
    /// datagrams. Both sides need it [default: off]
    #[arg(
        long,
        value_name = "on|off",
        value_enum,
        hide_possible_values = true,
        requires = "pipeline",
        help_heading = "Pipeline"
    )]
    pub(crate) pipeline_without_hello: Option<Toggle>,

    /// A message that a stage refuses ends the session (disconnect) or is dropped (drop) [default: disconnect]
    #[arg(
        long,
        value_name = "FATE",
        value_enum,
        requires = "pipeline",
        hide_possible_values = true,
        help_heading = "Pipeline"
    )]
    pub(crate) pipeline_failure: Option<Fate>,

    /// Log each message to stderr, without its payload
    #[arg(long, value_name = "on|off", value_enum, hide_possible_values = true,
        default_value_t = Toggle::Off, help_heading = "Pipeline")]
    pub(crate) log_messages: Toggle,
}

/// Stages, by their names in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StageName {
    Lz4,
    Zstd,
    Gzip,
    Deflate,
    #[value(name = "aes-256-gcm")]
    Aes256Gcm,
    #[value(name = "chacha20-poly1305")]
    ChaCha20Poly1305,
    #[value(name = "hmac-sha256")]
    HmacSha256,
}

impl StageName {
    pub(crate) fn encrypts(self) -> bool {
        matches!(self, StageName::Aes256Gcm | StageName::ChaCha20Poly1305)
    }

    pub(crate) fn compresses(self) -> bool {
        !self.encrypts() && self != StageName::HmacSha256
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Require {
    /// encryption and authentication
    Security,
    /// every kind of stage that is named
    All,
    /// nothing
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fate {
    /// the session ends
    Disconnect,
    /// the message is dropped
    Drop,
}
