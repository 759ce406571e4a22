//! What `firn deploy` reserves and provisions.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use model::lambda::{
    DeleteProvisionedConcurrencyConfigInput, GetProvisionedConcurrencyConfigInput,
    GetProvisionedConcurrencyConfigOutput, ProvisionedConcurrencyStatusEnum as Status,
    PutFunctionConcurrencyInput, PutProvisionedConcurrencyConfigInput,
};

use super::{POLL, WAIT_LIMIT};
use crate::client::Client;
use crate::failure::service_code;

/// Reserves a part of the account's concurrency for a function.
pub async fn reserve(client: &Client, function: &str, reserved: i32) -> Result<()> {
    let input = PutFunctionConcurrencyInput {
        function_name: function.to_owned(),
        reserved_concurrent_executions: reserved,
    };
    client.call(&input).await.map(drop)
}

/// Has so many environments of a version or an alias kept initialised, and waits for them if asked
/// to.
pub async fn provision(
    client: &Client,
    (function, qualifier): (&str, &str),
    wanted: i32,
    wait: bool,
) -> Result<()> {
    let place = (function, qualifier);
    if wanted == 0 {
        let input = DeleteProvisionedConcurrencyConfigInput {
            function_name: function.to_owned(),
            qualifier: qualifier.to_owned(),
        };
        return client.call(&input).await.map(drop);
    }
    let before = progress(client, place).await?;
    let has = before.and_then(|before| before.requested_provisioned_concurrent_executions);
    if has.is_some() {
        // An alias that has just been pointed at another version takes no new number before it is
        // there.
        settled(client, place).await?;
    }
    if has != Some(wanted) {
        let input = PutProvisionedConcurrencyConfigInput {
            function_name: function.to_owned(),
            qualifier: qualifier.to_owned(),
            provisioned_concurrent_executions: wanted,
        };
        client.call(&input).await?;
    }
    if wait {
        settled(client, place).await?;
    }
    Ok(())
}

/// Waits until all environments are there.
async fn settled(client: &Client, place: (&str, &str)) -> Result<()> {
    let deadline = Instant::now() + WAIT_LIMIT;
    loop {
        let now = progress(client, place).await?;
        let now = now.context("the provisioned concurrency has been deleted meanwhile")?;
        match now.status {
            Some(Status::Ready) => return Ok(()),
            Some(Status::Failed) => bail!(
                "the environments could not be initialised: {}; `firn logs` shows why",
                now.status_reason.unwrap_or_default()
            ),
            _ if Instant::now() >= deadline => bail!(
                "the environments are not ready after {} s",
                WAIT_LIMIT.as_secs()
            ),
            _ => tokio::time::sleep(POLL).await,
        }
    }
}

async fn progress(
    client: &Client,
    (function, qualifier): (&str, &str),
) -> Result<Option<GetProvisionedConcurrencyConfigOutput>> {
    let input = GetProvisionedConcurrencyConfigInput {
        function_name: function.to_owned(),
        qualifier: qualifier.to_owned(),
    };
    match client.call(&input).await {
        Ok(reply) => Ok(Some(reply.output)),
        Err(err) if service_code(&err) == Some("ProvisionedConcurrencyConfigNotFoundException") => {
            Ok(None)
        }
        Err(err) => Err(err),
    }
}
