//! What an `ItemReader` says.

use asl::definition::Resource;
use serde_json::Value;

use super::manifest::Located;
use super::{MAX_ITEMS, Unreadable};

/// What the items are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dataset {
    /// What a bucket says of its objects.
    Listing,
    /// What is in the objects of a bucket.
    Listed(Format),
    /// What is in one object.
    Object(Format),
    /// The objects in an S3 inventory.
    Inventory { delimiter: u8 },
    /// What is in the objects that an Athena query has made.
    Athena(Format),
}

/// How an object is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    Csv {
        delimiter: u8,
        /// `None` if the first row is the header.
        header: Option<Vec<String>>,
    },
    Json {
        pointer: String,
    },
    Lines,
}

/// Where the dataset is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub bucket: String,
    pub key: Option<String>,
    pub prefix: String,
    pub version: Option<String>,
}

impl Place {
    pub fn located(&self) -> Result<Located, Unreadable> {
        match &self.key {
            Some(key) => Ok(Located {
                bucket: self.bucket.clone(),
                key: key.clone(),
            }),
            None => Err(Unreadable::new("The ItemReader names no Key.")),
        }
    }
}

/// `MaxItems`; 0 and nothing mean all of them.
pub fn max_items(given: Option<f64>) -> Result<u64, Unreadable> {
    let Some(number) = given else {
        return Ok(MAX_ITEMS);
    };
    if number < 0.0 {
        // Recorded on AWS.
        return Err(Unreadable::new("field MaxItems must be positive"));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative, and what is beyond the range becomes its end"
    )]
    let number = number as u64;
    Ok(if number == 0 {
        MAX_ITEMS
    } else {
        number.min(MAX_ITEMS)
    })
}

pub fn place(arguments: &Value) -> Result<Place, Unreadable> {
    let text = |name: &str| match arguments.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(Unreadable::new(format!(
            "The {name} of the ItemReader must be a string."
        ))),
    };
    Ok(Place {
        bucket: text("Bucket")?
            .ok_or_else(|| Unreadable::new("The ItemReader names no Bucket."))?,
        key: text("Key")?,
        prefix: text("Prefix")?.unwrap_or_default(),
        version: text("VersionId")?,
    })
}

pub fn dataset(resource: &Resource, config: &Value) -> Result<Dataset, Unreadable> {
    let action = match resource {
        Resource::Service {
            service, action, ..
        } if service == "s3" => action.as_str(),
        _ => "",
    };
    let text = |name: &str| config.get(name).and_then(Value::as_str);
    match action {
        "listObjectsV2" => match text("Transformation") {
            None | Some("NONE") => Ok(Dataset::Listing),
            Some("LOAD_AND_FLATTEN") => format(config).map(Dataset::Listed),
            Some(other) => Err(unknown("Transformation", other)),
        },
        "getObject" => match (text("InputType"), text("ManifestType")) {
            (None | Some("MANIFEST"), None | Some("S3_INVENTORY"))
            | (Some("MANIFEST"), Some("")) => Ok(Dataset::Inventory {
                delimiter: delimiter(config)?,
            }),
            (_, Some("ATHENA_DATA")) => format(config).map(Dataset::Athena),
            (_, None) => format(config).map(Dataset::Object),
            (_, Some(other)) => Err(unknown("ManifestType", other)),
        },
        _ => Err(Unreadable::new(
            "An ItemReader can only use s3:getObject and s3:listObjectsV2.",
        )),
    }
}

fn format(config: &Value) -> Result<Format, Unreadable> {
    let text = |name: &str| config.get(name).and_then(Value::as_str);
    match text("InputType") {
        Some("CSV") => Ok(Format::Csv {
            delimiter: delimiter(config)?,
            header: match text("CSVHeaderLocation") {
                Some("FIRST_ROW") => None,
                Some("GIVEN") => Some(header(config)?),
                None => {
                    return Err(Unreadable::new(
                        "The ReaderConfig of a CSV file must have a CSVHeaderLocation.",
                    ));
                }
                Some(other) => return Err(unknown("CSVHeaderLocation", other)),
            },
        }),
        Some("JSON") => Ok(Format::Json {
            pointer: text("ItemsPointer").unwrap_or_default().to_owned(),
        }),
        Some("JSONL") => Ok(Format::Lines),
        Some("PARQUET") => Err(Unreadable::new("firn does not read PARQUET files yet.")),
        Some(other) => Err(unknown("InputType", other)),
        None => Err(Unreadable::new("The ReaderConfig must have an InputType.")),
    }
}

fn header(config: &Value) -> Result<Vec<String>, Unreadable> {
    let names = config.get("CSVHeaders").and_then(Value::as_array);
    let names: Option<Vec<String>> = names
        .into_iter()
        .flatten()
        .map(|name| name.as_str().map(str::to_owned))
        .collect();
    match names {
        Some(names) if !names.is_empty() => Ok(names),
        _ => Err(Unreadable::new(
            "With CSVHeaderLocation GIVEN, CSVHeaders must be a list of names.",
        )),
    }
}

fn delimiter(config: &Value) -> Result<u8, Unreadable> {
    match config.get("CSVDelimiter").and_then(Value::as_str) {
        None | Some("COMMA") => Ok(b','),
        Some("PIPE") => Ok(b'|'),
        Some("SEMICOLON") => Ok(b';'),
        Some("SPACE") => Ok(b' '),
        Some("TAB") => Ok(b'\t'),
        Some(other) => Err(unknown("CSVDelimiter", other)),
    }
}

fn unknown(field: &str, value: &str) -> Unreadable {
    let value: String = value.chars().take(100).collect();
    Unreadable::new(format!("The {field} '{value}' is not known."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn get() -> Resource {
        Resource::parse("arn:aws:states:::s3:getObject").unwrap()
    }

    #[test]
    fn most_items_are_limited_as_recorded_on_aws() {
        assert_eq!(max_items(None).unwrap(), 100_000_000);
        assert_eq!(max_items(Some(0.0)).unwrap(), 100_000_000);
        assert_eq!(max_items(Some(2.0)).unwrap(), 2);
        assert_eq!(max_items(Some(1e30)).unwrap(), 100_000_000);
        let refused = max_items(Some(-1.0)).unwrap_err();
        assert_eq!(refused.cause, "field MaxItems must be positive");
    }

    #[test]
    fn formats_are_read_and_unknown_ones_named() {
        let csv = json!({"InputType": "CSV", "CSVHeaderLocation": "GIVEN",
            "CSVHeaders": ["a"], "CSVDelimiter": "TAB"});
        let expected = Format::Csv {
            delimiter: b'\t',
            header: Some(vec!["a".into()]),
        };
        assert_eq!(dataset(&get(), &csv).unwrap(), Dataset::Object(expected));
        let parquet = dataset(&get(), &json!({"InputType": "PARQUET"})).unwrap_err();
        assert!(parquet.cause.contains("PARQUET"));
        let inventory = dataset(&get(), &json!({"InputType": "MANIFEST"})).unwrap();
        assert_eq!(inventory, Dataset::Inventory { delimiter: b',' });
        let athena = json!({"ManifestType": "ATHENA_DATA", "InputType": "JSONL"});
        assert_eq!(
            dataset(&get(), &athena).unwrap(),
            Dataset::Athena(Format::Lines)
        );
        for broken in [
            json!({"InputType": "XML"}),
            json!({"InputType": "CSV"}),
            json!({"InputType": "CSV", "CSVHeaderLocation": "GIVEN", "CSVHeaders": [1]}),
        ] {
            assert!(dataset(&get(), &broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn listing_is_read_as_it_is_or_opened() {
        let list = Resource::parse("arn:aws:states:::s3:listObjectsV2").unwrap();
        assert_eq!(dataset(&list, &Value::Null).unwrap(), Dataset::Listing);
        let flatten = json!({"Transformation": "LOAD_AND_FLATTEN", "InputType": "JSON"});
        assert!(matches!(
            dataset(&list, &flatten).unwrap(),
            Dataset::Listed(_)
        ));
        let other = Resource::parse("arn:aws:states:::sqs:sendMessage").unwrap();
        assert!(dataset(&other, &Value::Null).is_err());
    }
}
