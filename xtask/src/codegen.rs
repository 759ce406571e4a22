//! Generates `crates/model/src/<service>` from `models/<service>.json`.
//!
//! [`facts`] loads the files, [`model`] works out which Rust type each shape becomes, and one module
//! per generated file writes its text. What is generated stays small: everything that does not
//! depend on the interface is hand-written in `crates/model`.

mod constraints;
mod enums;
mod errors;
mod events;
mod facts;
mod json;
mod model;
mod names;
mod operations;
mod output;
mod service;
mod structures;

use std::path::Path;

use anyhow::{Context, Result};

use facts::AllowList;
use model::Model;
use output::Output;

/// Generates every service in `models/operations.toml`, or checks that this would change nothing.
pub fn run(root: &Path, check: bool) -> Result<()> {
    let models = root.join("models");
    let mut output = Output::new(root);
    for (service, allowed) in AllowList::load(&models)?.services {
        let model = Model::load(&models, &service, &allowed)
            .with_context(|| format!("loading the facts of {service}"))?;
        generate(&model, &mut output).with_context(|| format!("generating {service}"))?;
    }
    if check {
        output.check()
    } else {
        output.write()
    }
}

fn generate(model: &Model, output: &mut Output) -> Result<()> {
    let module = names::module(&model.service);
    output.add(format!("{module}.rs"), service::emit(model)?)?;
    for (file, text) in [
        ("structures", structures::emit(model)?),
        ("enums", enums::emit(model)?),
        ("error", errors::emit(model)?),
        ("json", json::emit(model)?),
        ("constraints", constraints::emit(model)?),
        ("operation", operations::emit(model)?),
    ] {
        output.add(format!("{module}/{file}.rs"), text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn committed_code_is_what_the_facts_give() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        run(root, true).unwrap();
    }
}
