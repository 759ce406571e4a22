//! What a Map says, with its reader, batcher and writer.

use super::check_language_of;
use super::task::resource;
use crate::definition::fields::{Fields, Found, Range};
use crate::definition::parse::Builder;
use crate::definition::{ItemBatcher, ItemReader, Language, Map, MapMode, ResultWriter};
use crate::jsonata::Offered;
use crate::template::Template;

const MAX_LABEL: usize = 40;

pub fn map(
    builder: &mut Builder,
    fields: &Fields<'_>,
    depth: usize,
    found: &mut Found,
) -> Option<Map> {
    fields.not_both("ItemProcessor", "Iterator", found);
    fields.not_both("ItemSelector", "Parameters", found);
    let max_concurrency = fields.amount("MaxConcurrency", Range::COUNT, found);
    let tolerated_count = fields.amount("ToleratedFailureCount", Range::COUNT, found);
    let tolerated_percentage =
        fields.amount("ToleratedFailurePercentage", Range::PERCENTAGE, found);
    let label = label(fields, found);
    let items_path = fields.path("ItemsPath", found);
    let items = match fields.language {
        Language::JsonPath => None,
        Language::Jsonata => fields.template("Items", Offered::default(), found),
    };
    let selector = if fields.get("ItemSelector").is_some() {
        fields.template("ItemSelector", Offered::default(), found)
    } else {
        fields.template("Parameters", Offered::default(), found)
    };
    let reader = reader(fields, found);
    let batcher = batcher(fields, found);
    let writer = writer(fields, found);
    let name = if fields.get("Iterator").is_some() && fields.get("ItemProcessor").is_none() {
        "Iterator"
    } else {
        "ItemProcessor"
    };
    fields.require(&[name], found);
    let processor = fields.inner(name, found)?;
    let known = ["Comment", "ProcessorConfig", "StartAt", "States"];
    processor.only(&[&known], found);
    let mode = mode(&processor, found);
    Some(Map {
        processor: builder.flow(&processor, depth + 1, found),
        mode,
        items_path,
        items,
        selector,
        max_concurrency,
        tolerated_count,
        tolerated_percentage,
        label,
        reader,
        batcher,
        writer,
    })
}

fn mode(processor: &Fields<'_>, found: &mut Found) -> MapMode {
    let Some(config) = processor.inner("ProcessorConfig", found) else {
        return MapMode::Inline;
    };
    config.only(&[&["Mode", "ExecutionType"]], found);
    let kind = config.one_of("ExecutionType", &["STANDARD", "EXPRESS"], found);
    match config.one_of("Mode", &["INLINE", "DISTRIBUTED"], found) {
        Some("DISTRIBUTED") => {
            config.require(&["ExecutionType"], found);
            MapMode::Distributed {
                express: kind == Some("EXPRESS"),
            }
        }
        _ => MapMode::Inline,
    }
}

/// The name of a distributed map's runs. It becomes a part of ARNs.
fn label(fields: &Fields<'_>, found: &mut Found) -> Option<String> {
    const CODE: &str = "INVALID_LABEL_NAME";
    let label = fields.text("Label", found)?;
    if label.chars().count() > MAX_LABEL {
        let message = format!("Label cannot exceed {MAX_LABEL} characters");
        found.error(CODE, message, fields.at("Label"));
    }
    let refused =
        |c: &char| c.is_whitespace() || c.is_control() || "?*<>{}[]:;,\\|^~$#%&`\"".contains(*c);
    if let Some(character) = label.chars().find(refused) {
        let message = format!("Label contains invalid character: {}", quoted(character));
        found.error(CODE, message, fields.at("Label"));
    }
    Some(label.to_owned())
}

/// A character in quotes, with an escape sequence where it cannot be seen.
fn quoted(character: char) -> String {
    match (character, u32::from(character)) {
        ('\t', _) => "'\\t'".into(),
        ('\n', _) => "'\\n'".into(),
        ('\r', _) => "'\\r'".into(),
        ('\\', _) => "'\\\\'".into(),
        (_, code @ (0..32 | 127..=160)) => format!("'\\x{code:02x}'"),
        (control, code) if control.is_control() || control.is_whitespace() && control != ' ' => {
            format!("'\\u{code:04x}'")
        }
        (other, _) => format!("'{other}'"),
    }
}

fn reader(fields: &Fields<'_>, found: &mut Found) -> Option<ItemReader> {
    let own = fields.inner("ItemReader", found)?;
    let known = [
        "Comment",
        "Resource",
        "ReaderConfig",
        "Parameters",
        "Arguments",
    ];
    own.only(&[&known], found);
    let arguments = arguments(&own, found);
    let mut max_items = None;
    // Column names are not looked at for expressions.
    let config = own.get("ReaderConfig").map(|value| match own.language {
        Language::JsonPath => Template::json_path(value).unwrap_or(Template::Value(value.clone())),
        Language::Jsonata => {
            let template = Template::jsonata(value);
            let mut expressions = Vec::new();
            template.expressions("ReaderConfig", &mut expressions);
            for (_, expression) in expressions {
                found.weigh(expression);
            }
            template
        }
    });
    if let Some(own) = own.inner("ReaderConfig", found) {
        max_items = own.amount("MaxItems", Range::POSITIVE, found);
        let kinds = ["CSV", "JSON", "JSONL", "PARQUET", "MANIFEST"];
        own.one_of("InputType", &kinds, found);
        own.one_of("CSVHeaderLocation", &["FIRST_ROW", "GIVEN"], found);
    }
    Some(ItemReader {
        resource: resource(&own, found)?,
        arguments,
        config,
        max_items,
    })
}

fn batcher(fields: &Fields<'_>, found: &mut Found) -> Option<ItemBatcher> {
    let own = fields.inner("ItemBatcher", found)?;
    let known = [
        "Comment",
        "MaxItemsPerBatch",
        "MaxItemsPerBatchPath",
        "MaxInputBytesPerBatch",
        "MaxInputBytesPerBatchPath",
        "BatchInput",
    ];
    own.only(&[&known], found);
    Some(ItemBatcher {
        max_items: own.amount("MaxItemsPerBatch", Range::POSITIVE, found),
        max_bytes: own.amount("MaxInputBytesPerBatch", Range::POSITIVE, found),
        batch_input: own.template("BatchInput", Offered::default(), found),
    })
}

fn writer(fields: &Fields<'_>, found: &mut Found) -> Option<ResultWriter> {
    let own = fields.inner("ResultWriter", found)?;
    let known = [
        "Comment",
        "Resource",
        "WriterConfig",
        "Parameters",
        "Arguments",
    ];
    own.only(&[&known], found);
    if own.get("Resource").is_none() && own.get("WriterConfig").is_none() {
        own.require(&["Resource"], found);
    }
    if let Some(config) = own.inner("WriterConfig", found) {
        let forms = ["NONE", "COMPACT", "FLATTEN"];
        config.one_of("Transformation", &forms, found);
        config.one_of("OutputType", &["JSON", "JSONL"], found);
    }
    Some(ResultWriter {
        resource: own.get("Resource").and_then(|_| resource(&own, found)),
        arguments: arguments(&own, found),
        config: own.get("WriterConfig").cloned(),
    })
}

fn arguments(fields: &Fields<'_>, found: &mut Found) -> Option<Template> {
    check_language_of(fields, "Parameters", found);
    check_language_of(fields, "Arguments", found);
    match fields.language {
        Language::JsonPath => fields.template("Parameters", Offered::default(), found),
        Language::Jsonata => fields.template("Arguments", Offered::default(), found),
    }
}
