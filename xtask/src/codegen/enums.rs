//! `enums.rs`: named strings.

use std::collections::BTreeSet;
use std::fmt::Write;

use anyhow::{Result, bail};

use super::model::Model;
use super::names;

pub fn emit(model: &Model) -> Result<String> {
    let mut out = String::from("//! Named strings.\n\nuse crate::string_enum::string_enum;\n\n");
    for shape in model.enums()? {
        let mut taken = BTreeSet::new();
        writeln!(
            out,
            "string_enum! {{ /// `{shape}`.\n{} {{",
            names::type_name(shape)
        )?;
        for value in &model.shape(shape)?.values {
            let variant = names::variant(value);
            if !taken.insert(variant.clone()) {
                bail!("two values of {shape} would be called {variant}");
            }
            writeln!(out, "{variant} = {value:?},")?;
        }
        writeln!(out, "}} }}\n")?;
    }
    Ok(out)
}
