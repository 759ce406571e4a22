//! The layers of a function: which it may have, and what it keeps of them.
//!
//! `CompatibleRuntimes` and `CompatibleArchitectures` of a layer are not compared with the
//! function's: AWS only uses them to filter lists.

use std::collections::HashMap;

use model::lambda as wire;
use protocol::Caller;
use serde::{Deserialize, Serialize};

use super::name::denied;
use super::{LayerId, VersionId};
use crate::Lambda;
use crate::error::{Error, InvalidParameter};
use crate::function::{Code, Function};
use crate::package::{MAX_UNZIPPED_BYTES, Pin};
use crate::settings::Settings;

const MAX_LAYERS: usize = 5;

/// What a function keeps of a layer version, so that it goes on without it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerUse {
    pub arn: String,
    pub code: Code,
}

impl LayerUse {
    pub fn answer(&self) -> wire::Layer {
        wire::Layer {
            arn: Some(self.arn.clone()),
            code_size: Some(i64::try_from(self.code.size).unwrap_or(i64::MAX)),
            ..wire::Layer::default()
        }
    }
}

/// Keeps the content of layers from being removed until the function that will refer to it is
/// written.
#[derive(Debug, Default)]
pub struct Held(Vec<Pin>);

impl Lambda {
    /// The layers that a request names, in its order, which is that of the mounts: later ones cover
    /// earlier ones.
    pub(crate) fn find_layers(
        &self,
        caller: &Caller,
        arns: &[String],
        held: &mut Held,
    ) -> Result<Vec<LayerUse>, Error> {
        if arns.len() > MAX_LAYERS {
            return Err(InvalidParameter::TooManyLayers.into());
        }
        let mut seen: HashMap<LayerId, &str> = HashMap::new();
        let mut layers = Vec::with_capacity(arns.len());
        for arn in arns {
            let missing = || InvalidParameter::NoSuchLayer { arn: arn.clone() };
            let id = VersionId::parse(arn).ok_or_else(missing)?;
            let code = self.find_layer(caller, &id, arn, held)?;
            if let Some(first) = seen.insert(id.layer, arn) {
                return Err(InvalidParameter::SameLayerTwice {
                    first: first.to_owned(),
                    second: arn.clone(),
                }
                .into());
            }
            layers.push(LayerUse {
                arn: arn.clone(),
                code,
            });
        }
        Ok(layers)
    }

    fn find_layer(
        &self,
        caller: &Caller,
        id: &VersionId,
        arn: &str,
        held: &mut Held,
    ) -> Result<Code, Error> {
        let scope = &id.layer.scope;
        let own = scope.account == caller.account;
        if scope.region != caller.region {
            // An account learns nothing of another one's layers but what it is permitted.
            return Err(if own {
                let region = caller.region.to_string();
                InvalidParameter::LayersOfOtherRegion { region }.into()
            } else {
                denied(caller, "GetLayerVersion", arn.to_owned())
            });
        }
        loop {
            let found = self.layers.get(id);
            let Some(version) = found.filter(|version| {
                let policy = version.policy.as_ref();
                own || policy.is_some_and(|policy| policy.allows(caller.account))
            }) else {
                return Err(if own {
                    let arn = arn.to_owned();
                    InvalidParameter::NoSuchLayer { arn }.into()
                } else {
                    denied(caller, "GetLayerVersion", arn.to_owned())
                });
            };
            let code = version.code;
            held.0.push(self.code.pin(code.digest));
            // Before the pin the version may have been deleted, and its content with it. From here
            // on the content stays.
            if self.layers.get(id).is_some() {
                return Ok(code);
            }
        }
    }

    /// Refuses code and layers that are too large together.
    pub(crate) async fn check_unzipped_size(
        &self,
        code: &Code,
        layers: &[LayerUse],
    ) -> Result<(), Error> {
        if layers.is_empty() {
            return Ok(());
        }
        let mut total = 0_u64;
        for layer in layers {
            total = total.saturating_add(self.code.unzipped_bytes(layer.code.digest).await?);
        }
        if total > MAX_UNZIPPED_BYTES {
            return Err(InvalidParameter::LayersTooLarge.into());
        }
        total = total.saturating_add(self.code.unzipped_bytes(code.digest).await?);
        if total > MAX_UNZIPPED_BYTES {
            return Err(InvalidParameter::CodeAndLayersTooLarge { size: total }.into());
        }
        Ok(())
    }

    /// Has the content of layers looked at that `before` used and `after` does not.
    pub(crate) fn collect_layers(&self, before: &Settings, after: &Function) {
        let kept = |digest| {
            let layers = &after.latest.settings.layers;
            layers.iter().any(|layer| layer.code.digest == digest)
        };
        let digests = before.layers.iter().map(|layer| layer.code.digest);
        let dropped: Vec<_> = digests.filter(|digest| !kept(*digest)).collect();
        if !dropped.is_empty() {
            self.collect_later(dropped);
        }
    }
}
