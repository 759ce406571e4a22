//! A URL for the function, which anybody may call.

use anyhow::Result;
use model::lambda::{
    AddPermissionInput, CreateFunctionUrlConfigInput, DeleteFunctionUrlConfigInput,
    FunctionUrlAuthType, GetFunctionUrlConfigInput, RemovePermissionInput,
};

use crate::client::Client;
use crate::client::lambda::is_not_found;

const STATEMENT: &str = "firn-dev-url";

/// The URL that the function has, or a new one.
pub async fn of(client: &Client, name: &str) -> Result<String> {
    let input = GetFunctionUrlConfigInput {
        function_name: name.to_owned(),
        ..GetFunctionUrlConfigInput::default()
    };
    match client.call(&input).await {
        Ok(reply) => return Ok(reply.output.function_url),
        Err(err) if is_not_found(&err) => {}
        Err(err) => return Err(err),
    }
    let input = CreateFunctionUrlConfigInput {
        function_name: name.to_owned(),
        auth_type: FunctionUrlAuthType::None,
        ..CreateFunctionUrlConfigInput::default()
    };
    let created = client.call(&input).await?.output;
    let permission = AddPermissionInput {
        function_name: name.to_owned(),
        statement_id: STATEMENT.to_owned(),
        action: "lambda:InvokeFunctionUrl".to_owned(),
        principal: "*".to_owned(),
        function_url_auth_type: Some(FunctionUrlAuthType::None),
        ..AddPermissionInput::default()
    };
    client.call(&permission).await?;
    Ok(created.function_url)
}

/// Takes away a URL that [`of`] made. With the function everything of it goes anyway.
pub async fn remove(client: &Client, name: &str, function_goes: bool) -> Result<()> {
    if function_goes {
        return Ok(());
    }
    let permission = RemovePermissionInput {
        function_name: name.to_owned(),
        statement_id: STATEMENT.to_owned(),
        ..RemovePermissionInput::default()
    };
    // Without the statement the URL was there before, and stays.
    match client.call(&permission).await {
        Err(err) if is_not_found(&err) => return Ok(()),
        other => drop(other?),
    }
    let input = DeleteFunctionUrlConfigInput {
        function_name: name.to_owned(),
        ..DeleteFunctionUrlConfigInput::default()
    };
    client.call(&input).await.map(drop)
}
