//! Function URLs, as commands give and list them.

use anyhow::{Context, Result};
use model::lambda::{
    AddPermissionInput, CreateFunctionUrlConfigInput, FunctionUrlAuthType, FunctionUrlConfig,
    InvokeMode, ListFunctionUrlConfigsInput, UpdateFunctionUrlConfigInput,
};

use super::Client;
use super::lambda::is_not_found;
use crate::failure::service_code;

/// The statements that let everybody call a URL. The names are those of AWS's console.
const PUBLIC: [(&str, &str); 2] = [
    ("FunctionURLAllowPublicAccess", "lambda:InvokeFunctionUrl"),
    (
        "FunctionURLInvokeAllowPublicAccess",
        "lambda:InvokeFunction",
    ),
];

impl Client {
    /// Gives a function or an alias a URL, or changes the one it has; returns its address.
    pub async fn put_url(
        &self,
        name: &str,
        alias: Option<&str>,
        auth_type: FunctionUrlAuthType,
        mode: Option<InvokeMode>,
    ) -> Result<String> {
        let update = UpdateFunctionUrlConfigInput {
            function_name: name.to_owned(),
            qualifier: alias.map(str::to_owned),
            auth_type: Some(auth_type.clone()),
            invoke_mode: mode.clone(),
            ..UpdateFunctionUrlConfigInput::default()
        };
        let url = match self.call(&update).await {
            Ok(reply) => reply.output.function_url,
            Err(err) if is_not_found(&err) => {
                let create = CreateFunctionUrlConfigInput {
                    function_name: name.to_owned(),
                    qualifier: alias.map(str::to_owned),
                    auth_type: auth_type.clone(),
                    invoke_mode: mode,
                    ..CreateFunctionUrlConfigInput::default()
                };
                let created = self.call(&create).await;
                created
                    .context("cannot create the URL")?
                    .output
                    .function_url
            }
            Err(err) => return Err(err),
        };
        if auth_type == FunctionUrlAuthType::None {
            self.open_url(name, alias).await?;
        }
        Ok(url)
    }

    /// Lets everybody call the URL of a function. What is allowed already stays so.
    async fn open_url(&self, name: &str, alias: Option<&str>) -> Result<()> {
        for (statement, action) in PUBLIC {
            let of_url = action == "lambda:InvokeFunctionUrl";
            let input = AddPermissionInput {
                function_name: name.to_owned(),
                qualifier: alias.map(str::to_owned),
                statement_id: statement.to_owned(),
                action: action.to_owned(),
                principal: "*".to_owned(),
                function_url_auth_type: of_url.then_some(FunctionUrlAuthType::None),
                invoked_via_function_url: (!of_url).then_some(true),
                ..AddPermissionInput::default()
            };
            match self.call(&input).await {
                Err(err) if service_code(&err) == Some("ResourceConflictException") => {}
                other => drop(other.context("cannot open the URL to everybody")?),
            }
        }
        Ok(())
    }

    /// All URLs of a function.
    pub async fn urls(&self, name: &str) -> Result<Vec<FunctionUrlConfig>> {
        let mut all = Vec::new();
        let mut input = ListFunctionUrlConfigsInput {
            function_name: name.to_owned(),
            ..ListFunctionUrlConfigsInput::default()
        };
        loop {
            let output = self.call(&input).await?.output;
            all.extend(output.function_url_configs);
            input.marker = output.next_marker.filter(|marker| !marker.is_empty());
            if input.marker.is_none() {
                return Ok(all);
            }
        }
    }
}
