use std::sync::Arc;

use model::lambda::{FunctionConfiguration, ListFunctionsInput, ListFunctionsOutput};
use protocol::Caller;

use crate::error::Error;
use crate::function::{Function, Scope, Version};
use crate::{Lambda, configuration, paging};

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: ListFunctionsInput,
) -> Result<ListFunctionsOutput, Error> {
    let scope = Scope {
        account: caller.account,
        region: caller.region.clone(),
    };
    // Only Lambda@Edge copies functions to other regions, and nothing is copied here.
    let elsewhere = |region: &String| region != "ALL" && *region != *scope.region.as_str();
    if input.master_region.as_ref().is_some_and(elsewhere) {
        return Ok(ListFunctionsOutput {
            functions: Some(Vec::new()),
            next_marker: None,
        });
    }
    let size = paging::size(input.max_items);
    let after = paging::read(input.marker.as_deref())?;
    let (functions, next_marker) = if input.function_version.is_some() {
        all_versions(lambda, &scope, after.as_deref(), size)
    } else {
        latest(lambda, &scope, after.as_deref(), size)
    };
    Ok(ListFunctionsOutput {
        functions: Some(functions),
        next_marker,
    })
}

type Page = (Vec<FunctionConfiguration>, Option<String>);

fn latest(lambda: &Lambda, scope: &Scope, after: Option<&str>, size: usize) -> Page {
    let mut functions = lambda.functions.list(scope, after, size + 1);
    let marker = paging::cut(&mut functions, size, |function| function.id.name.clone());
    let describe = |function: &Arc<Function>| {
        configuration::in_list(function, &function.latest, function.id.arn())
    };
    (functions.iter().map(describe).collect(), marker)
}

/// Functions by name, and of each `$LATEST` first. The marker is `name/number`, with 0 for
/// `$LATEST`.
fn all_versions(lambda: &Lambda, scope: &Scope, after: Option<&str>, size: usize) -> Page {
    let mut items: Vec<(Arc<Function>, Arc<Version>)> = Vec::new();
    let (mut name, number) = match after.and_then(|after| after.split_once('/')) {
        Some((name, number)) => (Some(name.to_owned()), number.parse::<u64>().unwrap_or(0)),
        None => (None, 0),
    };
    if let Some(name) = &name {
        let id = crate::function::FunctionId {
            scope: scope.clone(),
            name: name.clone(),
        };
        if let Ok(function) = lambda.functions.get(&id, None) {
            let rest = function.versions.range(number + 1..).take(size + 1);
            items.extend(rest.map(|(_, version)| (Arc::clone(&function), Arc::clone(version))));
        }
    }
    while items.len() <= size {
        let page = lambda.functions.list(scope, name.as_deref(), size + 1);
        let Some(last) = page.last() else { break };
        name = Some(last.id.name.clone());
        for function in &page {
            let versions = function.all_versions();
            items.extend(versions.map(|version| (Arc::clone(function), Arc::clone(version))));
        }
    }
    let marker = paging::cut(&mut items, size, |(function, version)| {
        format!("{}/{}", function.id.name, version.number.unwrap_or(0))
    });
    let describe = |(function, version): &(Arc<Function>, Arc<Version>)| {
        configuration::in_list(function, version, function.id.qualified_arn(version.name()))
    };
    (items.iter().map(describe).collect(), marker)
}
