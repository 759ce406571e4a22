//! `firn urls`: under which addresses functions can be called.

use anyhow::Result;
use model::lambda::FunctionUrlConfig;
use serde_json::json;

use crate::cli::Global;
use crate::client::Client;
use crate::output;

/// Flags of `firn urls`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The function: a name or an ARN [default: all functions]
    name: Option<String>,
}

pub async fn run(args: Args, global: &Global) -> Result<()> {
    let client = Client::new(global)?;
    let names = match args.name {
        Some(name) => vec![name],
        None => {
            let functions = client.functions().await?.into_iter();
            functions
                .filter_map(|(function, _)| function.function_name)
                .collect()
        }
    };
    let mut urls = Vec::new();
    for name in names {
        urls.extend(client.urls(&name).await?);
    }
    if global.json {
        let rows: Vec<_> = urls.iter().map(document).collect();
        return output::json(&rows);
    }
    if urls.is_empty() && !global.quiet {
        eprintln!("no URLs yet; give a function one with `firn deploy DIR --url none`");
        return Ok(());
    }
    let rows: Vec<_> = urls.iter().map(row).collect();
    output::table(["FUNCTION", "AUTH", "MODE", "URL"], &rows)
}

/// The function's name, with the alias if the URL is one's.
fn function(url: &FunctionUrlConfig) -> String {
    let name = url.function_arn.split(":function:").nth(1);
    name.unwrap_or(&url.function_arn).to_owned()
}

fn mode(url: &FunctionUrlConfig) -> String {
    let mode = url.invoke_mode.as_ref();
    mode.map_or_else(String::new, |mode| mode.as_str().to_owned())
}

fn row(url: &FunctionUrlConfig) -> [String; 4] {
    let auth = url.auth_type.as_str().to_owned();
    [function(url), auth, mode(url), url.function_url.clone()]
}

fn document(url: &FunctionUrlConfig) -> serde_json::Value {
    json!({
        "Function": function(url),
        "AuthType": url.auth_type.as_str(),
        "InvokeMode": mode(url),
        "FunctionUrl": url.function_url,
    })
}
