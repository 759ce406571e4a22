//! What commands ask of the Lambda API beyond a single operation.

use anyhow::{Context, Result};
use model::lambda::{
    CreateAliasInput, FunctionConfiguration, GetFunctionConfigurationInput, ListFunctionsInput,
    UpdateAliasInput,
};
use serde_json::Value;

use super::Client;
use crate::failure::service_code;

impl Client {
    /// One function, or nothing if it does not exist.
    pub async fn find_function(&self, name: &str) -> Result<Option<FunctionConfiguration>> {
        let input = GetFunctionConfigurationInput {
            function_name: name.to_owned(),
            ..GetFunctionConfigurationInput::default()
        };
        match self.call(&input).await {
            Ok(reply) => Ok(Some(reply.output)),
            Err(err) if is_not_found(&err) => Ok(None),
            Err(err) => Err(err),
        }
    }

    /// All functions, over all pages: typed, and as the service described them.
    pub async fn functions(&self) -> Result<Vec<(FunctionConfiguration, Value)>> {
        let mut all = Vec::new();
        let mut input = ListFunctionsInput::default();
        loop {
            let reply = self.call(&input).await?;
            let documents = match reply.document()?.get_mut("Functions").map(Value::take) {
                Some(Value::Array(documents)) => documents,
                _ => Vec::new(),
            };
            all.extend(
                reply
                    .output
                    .functions
                    .unwrap_or_default()
                    .into_iter()
                    .zip(documents),
            );
            input.marker = reply.output.next_marker.filter(|marker| !marker.is_empty());
            if input.marker.is_none() {
                return Ok(all);
            }
        }
    }

    /// Points an alias at a version, whether the alias exists or not.
    pub async fn put_alias(&self, name: &str, alias: &str, version: &str) -> Result<()> {
        let update = UpdateAliasInput {
            function_name: name.to_owned(),
            name: alias.to_owned(),
            function_version: Some(version.to_owned()),
            ..UpdateAliasInput::default()
        };
        match self.call(&update).await {
            Err(err) if is_not_found(&err) => {}
            other => return other.map(drop),
        }
        let create = CreateAliasInput {
            function_name: name.to_owned(),
            name: alias.to_owned(),
            function_version: version.to_owned(),
            ..CreateAliasInput::default()
        };
        self.call(&create)
            .await
            .map(drop)
            .context("cannot create the alias")
    }
}

/// Whether the service says that there is no such resource.
pub fn is_not_found(err: &anyhow::Error) -> bool {
    service_code(err) == Some("ResourceNotFoundException")
}
