//! Which stages a link uses: what a client offers, and what a server chooses from that.

use std::borrow::Cow;

use super::{Configured, OnFailure, Pipeline, StageKind};
use crate::endpoint::{Address, CodecKind, Endpoint};
use crate::error::{ConfigError, ErrorCode};

/// Positions in the configured pipeline, in the order in which they are applied to what is sent.
pub(crate) type Agreed = Vec<u8>;

impl Pipeline {
    /// The names that a client offers, in order.
    pub(crate) fn offered(&self) -> Vec<String> {
        self.negotiable()
            .map(|(_, stage)| stage.definition.name.to_string())
            .collect()
    }

    /// Whether any stage is required of every link.
    pub(crate) fn has_required(&self) -> bool {
        self.negotiable().any(|(_, stage)| stage.is_required)
    }

    /// Whether peers without hello are refused.
    pub(crate) fn needs_hello(&self) -> bool {
        self.has_required() && !self.works_without_hello()
    }

    /// What a server chooses from a client's offer: of each kind the first in its own order, and every
    /// custom stage.
    ///
    /// # Errors
    /// The text says which required stage is missing.
    pub(crate) fn choose(
        &self,
        offered: &[String],
        has_nonce: bool,
    ) -> Result<Agreed, Cow<'static, str>> {
        let mut chosen: Agreed = Vec::new();
        for (index, stage) in self.negotiable() {
            let kind = stage.definition.kind;
            let has_one = chosen
                .iter()
                .any(|known| self.inner.stages[usize::from(*known)].definition.kind == kind);
            let takes = offered.iter().any(|name| *name == stage.definition.name)
                && (kind == StageKind::Custom || !has_one || self.prefers(stage, &chosen))
                && (kind != StageKind::Encryption || has_nonce);
            if takes {
                if kind != StageKind::Custom {
                    chosen.retain(|known| {
                        self.inner.stages[usize::from(*known)].definition.kind != kind
                    });
                }
                chosen.push(index);
            }
        }
        self.check_required(&chosen)?;
        Ok(self.with_observers(chosen))
    }

    /// Whether `stage` takes the place of the chosen one of its kind: it is required, and that is not.
    fn prefers(&self, stage: &Configured, chosen: &[u8]) -> bool {
        stage.is_required
            && chosen
                .iter()
                .map(|index| &self.inner.stages[usize::from(*index)])
                .filter(|known| known.definition.kind == stage.definition.kind)
                .all(|known| !known.is_required)
    }

    /// What a client makes of the stages that its server has chosen. Their order is the server's.
    ///
    /// # Errors
    /// The text says which stage was not offered, or is required and missing.
    pub(crate) fn accept(&self, agreed: &[String]) -> Result<Agreed, Cow<'static, str>> {
        let mut accepted: Agreed = Vec::new();
        for name in agreed {
            let known = self
                .negotiable()
                .find(|(_, stage)| stage.definition.name == *name);
            let Some((index, _)) = known else {
                return Err(not_offered(name));
            };
            if accepted.contains(&index) {
                return Err(format!("the server agreed to the stage {name} twice").into());
            }
            let kind = self.inner.stages[usize::from(index)].definition.kind;
            if kind != StageKind::Custom
                && self
                    .chosen(&accepted)
                    .any(|other| other.definition.kind == kind)
            {
                let text = format!("the server agreed to {name} and another stage of {kind:?}");
                return Err(text.into());
            }
            accepted.push(index);
        }
        self.check_required(&accepted)?;
        Ok(self.with_observers(accepted))
    }

    /// The names of those of these stages that are on the wire, in order.
    pub(crate) fn wire_names(&self, agreed: &[u8]) -> Vec<String> {
        self.chosen(agreed)
            .filter(|stage| stage.definition.kind != StageKind::Observer)
            .map(|stage| stage.definition.name.to_string())
            .collect()
    }

    /// Whether one of these stages encrypts.
    pub(crate) fn has_encryption(&self, agreed: &[u8]) -> bool {
        self.chosen(agreed)
            .any(|stage| stage.definition.kind == StageKind::Encryption)
    }

    fn chosen(&self, agreed: &[u8]) -> impl Iterator<Item = &Configured> {
        agreed
            .iter()
            .map(|index| &self.inner.stages[usize::from(*index)])
    }

    /// Every stage: what peers without hello use.
    pub(crate) fn all(&self) -> Agreed {
        (0..self.inner.stages.len() as u8).collect()
    }

    /// What a link uses that is known to agree on nothing.
    pub(crate) fn observers(&self) -> Agreed {
        self.with_observers(Vec::new())
    }

    /// A reliable session drops nothing.
    pub(crate) fn check_reliable(&self) -> Result<(), ConfigError> {
        match self.is_empty() || self.on_failure() == OnFailure::Disconnect {
            true => Ok(()),
            false => Err(ConfigError::option(
                "pipeline: on_failure",
                "drop",
                "disconnect: a reliable session drops nothing",
            )),
        }
    }

    /// Checks that the stages can be used where a server listens or a client connects.
    pub(crate) fn check_endpoint(&self, endpoint: &Endpoint) -> Result<(), ConfigError> {
        let codec = match endpoint.codec() {
            None | Some(CodecKind::Msgi) => return Ok(()),
            Some(codec) => codec,
        };
        let refuse = |code, text: &str| {
            let text = format!("pipeline: `{endpoint}` {text}");
            Err(ConfigError::new(code, text))
        };
        if !self.works_without_hello() {
            return match self.has_required() {
                false => Ok(()),
                true => refuse(
                    ErrorCode::InvalidConfiguration,
                    "has no hello to agree on the stages that are required; both sides can be \
                     configured without hello",
                ),
            };
        }
        let is_udp = matches!(endpoint.address(), Address::Udp { .. });
        let mut stages = self.negotiable().map(|(_, stage)| &stage.definition);
        if is_udp {
            return match stages.any(|stage| stage.needs_order) {
                false => Ok(()),
                true => refuse(
                    ErrorCode::NotSupported,
                    "loses messages, and encryption without hello needs the first one; use codec=msgi",
                ),
            };
        }
        match codec {
            CodecKind::Raw if stages.next().is_some() => refuse(
                ErrorCode::NotSupported,
                "keeps no message together, which every stage needs; use codec=length or msgi",
            ),
            CodecKind::Lines if stages.any(|stage| stage.is_binary) => refuse(
                ErrorCode::NotSupported,
                "carries lines of text, and stages make bytes of them; use codec=length or msgi",
            ),
            _ => Ok(()),
        }
    }

    /// The stages that hello and welcome speak of.
    fn negotiable(&self) -> impl Iterator<Item = (u8, &Configured)> {
        (0u8..)
            .zip(&self.inner.stages)
            .filter(|(_, stage)| stage.definition.kind != StageKind::Observer)
    }

    fn with_observers(&self, mut agreed: Agreed) -> Agreed {
        for (index, stage) in (0u8..).zip(&self.inner.stages) {
            if stage.definition.kind == StageKind::Observer {
                let behind = agreed.iter().position(|other| *other > index);
                agreed.insert(behind.unwrap_or(agreed.len()), index);
            }
        }
        agreed
    }

    /// Of every kind of which stages are required, one of these must be there.
    fn check_required(&self, agreed: &[u8]) -> Result<(), Cow<'static, str>> {
        for (index, stage) in self.negotiable().filter(|(_, stage)| stage.is_required) {
            let definition = &stage.definition;
            let satisfies = |other: &u8| {
                let other_stage = &self.inner.stages[usize::from(*other)];
                *other == index
                    || definition.kind != StageKind::Custom
                        && other_stage.is_required
                        && other_stage.definition.kind == definition.kind
            };
            if !agreed.iter().any(satisfies) {
                let text = format!(
                    "the pipeline needs {}, which is not agreed on",
                    definition.name
                );
                return Err(text.into());
            }
        }
        Ok(())
    }
}

/// A name may be as long as a CONTROL frame; a text is not.
const SHOWN: usize = 32;

fn not_offered(name: &str) -> Cow<'static, str> {
    let shown = &name[..name.floor_char_boundary(SHOWN)];
    format!("the server agreed to the stage {shown:?}, which was not offered").into()
}
