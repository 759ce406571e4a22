//! What the fields of a distributed map say, for who runs one.
//!
//! They are evaluated when the map has begun: the reader's, the batcher's and the writer's once, the
//! selector for each item.
//! <https://docs.aws.amazon.com/step-functions/latest/dg/state-map-distributed.html>

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::data::number;
use super::{MapRequest, is_too_deep};
use crate::budget::Budget;
use crate::definition::{Amount, Map, Resource};
use crate::failure::{Evaluation, EvaluationError};
use crate::scope::{Scope, Seeded};
use crate::template::Template;

/// The values of the fields that are the same for all items.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub reader: Option<Reader>,
    pub batcher: Option<Batcher>,
    pub writer: Option<Writer>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Reader {
    pub resource: Resource,
    pub arguments: Value,
    /// `ReaderConfig`.
    pub config: Value,
    pub max_items: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Batcher {
    pub max_items: Option<f64>,
    pub max_bytes: Option<f64>,
    pub input: Option<Value>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Writer {
    /// Results are only given another form if there is none.
    pub resource: Option<Resource>,
    pub arguments: Value,
    /// `WriterConfig`.
    pub config: Value,
}

/// Where an item stands in its dataset: `$$.Map.Item`.
#[derive(Clone, Debug, PartialEq)]
pub struct Place<'a> {
    pub index: u64,
    /// The item's name, where the dataset is an object.
    pub key: Option<&'a str>,
    /// `STATE_DATA`, or an S3 URI.
    pub source: &'a str,
}

/// Makes inputs of children.
#[derive(Debug)]
pub struct Selector<'a> {
    template: Option<&'a Template>,
    request: &'a MapRequest,
    context: Value,
}

impl Settings {
    /// Evaluates the fields of a map. `now_ms` and `seed` belong to the request, so that it gives
    /// the same settings again.
    pub fn of(
        map: &Map,
        request: &MapRequest,
        now_ms: i64,
        seed: u64,
    ) -> Result<Self, EvaluationError> {
        let mut chance = Seeded::new(seed);
        let mut evaluation = evaluation(request, &request.context, &mut chance, now_ms);
        let evaluation = &mut evaluation;
        let reader = match &map.reader {
            None => None,
            Some(reader) => Some(Reader {
                resource: reader.resource.clone(),
                arguments: value(&reader.arguments, "ItemReader/Arguments", evaluation)?,
                config: value(&reader.config, "ItemReader/ReaderConfig", evaluation)?,
                max_items: amount(&reader.max_items, "MaxItems", evaluation)?,
            }),
        };
        let batcher = match &map.batcher {
            None => None,
            Some(batcher) => Some(Batcher {
                max_items: amount(&batcher.max_items, "MaxItemsPerBatch", evaluation)?,
                max_bytes: amount(&batcher.max_bytes, "MaxInputBytesPerBatch", evaluation)?,
                input: match &batcher.batch_input {
                    None => None,
                    Some(input) => Some(input.evaluate("ItemBatcher/BatchInput", evaluation)?),
                },
            }),
        };
        let writer = match &map.writer {
            None => None,
            Some(writer) => Some(Writer {
                resource: writer.resource.clone(),
                arguments: value(&writer.arguments, "ResultWriter/Arguments", evaluation)?,
                config: writer.config.clone().unwrap_or_default(),
            }),
        };
        Ok(Self {
            reader,
            batcher,
            writer,
        })
    }
}

impl<'a> Selector<'a> {
    pub fn new(map: &'a Map, request: &'a MapRequest) -> Self {
        Self {
            template: map.selector.as_ref(),
            request,
            context: request.context.clone(),
        }
    }

    /// What the child that has this item is given.
    pub fn select(
        &mut self,
        item: Value,
        place: &Place<'_>,
        now_ms: i64,
        seed: u64,
    ) -> Result<Value, EvaluationError> {
        let Some(template) = self.template else {
            // Observed on AWS: a member of an object becomes a pair.
            return Ok(match place.key {
                None => item,
                Some(key) => json!({"Key": key, "Value": item}),
            });
        };
        let mut shown = json!({"Index": place.index});
        if let Some(key) = place.key {
            shown["Key"] = key.into();
        }
        shown["Value"] = item;
        shown["Source"] = place.source.into();
        self.context["Map"] = json!({"Item": shown});
        let mut chance = Seeded::new(seed);
        let mut evaluation = evaluation(self.request, &self.context, &mut chance, now_ms);
        let value = template.evaluate("ItemSelector", &mut evaluation)?;
        match is_too_deep(&value) {
            true => Err(EvaluationError::too_much("ItemSelector")),
            false => Ok(value),
        }
    }
}

fn evaluation<'a>(
    request: &'a MapRequest,
    context: &'a Value,
    chance: &'a mut Seeded,
    now_ms: i64,
) -> Evaluation<'a> {
    Evaluation {
        scope: Scope {
            input: &request.input,
            context,
            variables: &request.variables,
        },
        chance,
        budget: Budget::default(),
        now_ms,
        result: None,
        error_output: None,
    }
}

fn value(
    template: &Option<Template>,
    place: &str,
    evaluation: &mut Evaluation<'_>,
) -> Result<Value, EvaluationError> {
    match template {
        None => Ok(Value::Null),
        Some(template) => template.evaluate(place, evaluation),
    }
}

fn amount(
    amount: &Option<Amount>,
    field: &str,
    evaluation: &mut Evaluation<'_>,
) -> Result<Option<f64>, EvaluationError> {
    match amount {
        None => Ok(None),
        Some(amount) => number(field, amount, evaluation).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::{Definition, Kind, MapMode};
    use crate::machine::{Command, Execution, Identity, Input};

    fn request(map: Value, input: Value) -> (Definition, MapRequest) {
        let text = json!({"StartAt": "M", "States": {"M": map}}).to_string();
        let definition = Definition::parse(&text).unwrap();
        let mut execution = Execution::new(Identity {
            number: 1,
            execution_arn: "arn:aws:states:eu-west-1:123456789012:execution:m:run".into(),
            execution_name: "run".into(),
            machine_arn: "arn:aws:states:eu-west-1:123456789012:stateMachine:m".into(),
            machine_name: "m".into(),
            role_arn: "arn:aws:iam::123456789012:role/r".into(),
            region: "eu-west-1".into(),
            started_ms: 1_700_000_000_000,
            input: std::sync::Arc::new(input),
            redrive_count: 0,
        });
        let commands = execution.step(&definition, Input::Start, 1_700_000_000_000, 7);
        let request = commands.into_iter().find_map(|command| match command {
            Command::RunMap(request) => Some(request),
            _ => None,
        });
        (definition, request.unwrap())
    }

    fn map_of(definition: &Definition, request: &MapRequest) -> Map {
        match &definition.state(request.state).kind {
            Kind::Map(map) => (**map).clone(),
            other => panic!("{}", other.name()),
        }
    }

    fn distributed(fields: Value) -> Value {
        let mut map = json!({
            "Type": "Map",
            "ItemProcessor": {
                "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "EXPRESS"},
                "StartAt": "P",
                "States": {"P": {"Type": "Pass", "End": true}},
            },
            "End": true,
        });
        for (name, value) in fields.as_object().unwrap() {
            map[name] = value.clone();
        }
        map
    }

    #[test]
    fn fields_are_evaluated_with_what_the_map_was_given() {
        let (definition, request) = request(
            distributed(json!({
                "ItemReader": {
                    "Resource": "arn:aws:states:::s3:getObject",
                    "ReaderConfig": {"InputType": "JSON", "MaxItemsPath": "$.most"},
                    "Parameters": {"Bucket.$": "$.bucket", "Key": "k"},
                },
                "ItemBatcher": {
                    "MaxItemsPerBatchPath": "$.batch",
                    "BatchInput": {"run.$": "$$.Execution.Name"},
                },
                "ResultWriter": {
                    "Resource": "arn:aws:states:::s3:putObject",
                    "Parameters": {"Bucket": "b", "Prefix.$": "$.bucket"},
                },
            })),
            json!({"bucket": "mine", "most": 5, "batch": "2"}),
        );
        let map = map_of(&definition, &request);
        let settings = Settings::of(&map, &request, 0, 0).unwrap();
        let reader = settings.reader.unwrap();
        assert_eq!(reader.arguments, json!({"Bucket": "mine", "Key": "k"}));
        assert_eq!(reader.config["InputType"], "JSON");
        assert_eq!(reader.max_items, Some(5.0));
        let batcher = settings.batcher.unwrap();
        assert_eq!(batcher.max_items, Some(2.0));
        assert_eq!(batcher.input, Some(json!({"run": "run"})));
        let writer = settings.writer.unwrap();
        assert_eq!(writer.arguments["Prefix"], "mine");
    }

    #[test]
    fn selector_sees_the_item_its_place_and_the_input_of_the_map() {
        let (definition, request) = request(
            distributed(json!({
                "ItemsPath": "$.items",
                "ItemSelector": {"item.$": "$$.Map.Item", "all.$": "$.tag"},
            })),
            json!({"items": {"a": 1}, "tag": "t"}),
        );
        let map = map_of(&definition, &request);
        let mut selector = Selector::new(&map, &request);
        let place = Place {
            index: 3,
            key: Some("a"),
            source: "STATE_DATA",
        };
        let selected = selector.select(json!(1), &place, 0, 0).unwrap();
        let item = json!({"Index": 3, "Key": "a", "Value": 1, "Source": "STATE_DATA"});
        assert_eq!(selected, json!({"item": item, "all": "t"}));
    }

    #[test]
    fn without_a_selector_an_item_is_the_input_and_a_member_a_pair() {
        let (definition, request) = request(distributed(json!({})), json!([1]));
        let map = map_of(&definition, &request);
        let mut selector = Selector::new(&map, &request);
        let mut place = Place {
            index: 0,
            key: None,
            source: "STATE_DATA",
        };
        assert_eq!(selector.select(json!(1), &place, 0, 0).unwrap(), json!(1));
        place.key = Some("k");
        let pair = json!({"Key": "k", "Value": 1});
        assert_eq!(selector.select(json!(1), &place, 0, 0).unwrap(), pair);
    }

    #[test]
    fn processor_runs_as_a_machine_of_its_own() {
        let (definition, request) = request(distributed(json!({})), json!([1]));
        let map = map_of(&definition, &request);
        assert_eq!(map.mode, MapMode::Distributed { express: true });
        let child = definition.processor(map.processor);
        let start = child.flow(child.main()).start;
        assert_eq!(&*child.state(start).name, "P");
        assert_eq!(child.timeout_seconds, None);
    }
}
