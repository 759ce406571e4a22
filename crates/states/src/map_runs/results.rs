//! What becomes of the results of children: the output of the state, or files in S3.
//! <https://docs.aws.amazon.com/step-functions/latest/dg/input-output-resultwriter.html>

mod files;
mod stored;

use std::collections::BTreeMap;

use asl::definition::Resource;
use asl::failure::{Failure, names};
use asl::machine::MAX_DATA_BYTES;
use asl::machine::distributed::Writer;
use serde_json::{Value, json};

use self::files::Files;
use self::stored::Stored;
use super::MapRuns;
use super::children::Children;
use super::live::{Halt, Live};
use super::objects::{Objects, Who};
use super::record::{Ended, Outcome};

/// How results are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transformation {
    /// With everything that is known of the child.
    None,
    /// The outputs.
    Compact,
    /// The elements of outputs that are arrays.
    Flatten,
}

/// Where results go, and in which form.
#[derive(Debug)]
pub struct Form {
    transformation: Transformation,
    lines: bool,
    place: Option<Place>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    bucket: String,
    /// With a slash at its end, unless it is empty.
    prefix: String,
}

/// A run whose results are told.
pub struct Results<'a> {
    pub runs: &'a MapRuns,
    pub live: &'a Live,
    pub children: &'a Children,
    pub objects: &'a Objects,
    pub who: &'a Who,
    pub state: &'a str,
}

impl Form {
    /// What a `ResultWriter` says, if there is one.
    pub fn of(writer: Option<&Writer>) -> Result<Self, Failure> {
        let Some(writer) = writer else {
            return Ok(Self {
                transformation: Transformation::Compact,
                lines: false,
                place: None,
            });
        };
        let place = match &writer.resource {
            None => None,
            Some(Resource::Service {
                service, action, ..
            }) if service == "s3" && action == "putObject" => Some(place(&writer.arguments)?),
            Some(_) => return Err(refused("A ResultWriter can only use s3:putObject.")),
        };
        let text = |name: &str| writer.config.get(name).and_then(Value::as_str);
        let transformation = match text("Transformation") {
            Some("NONE") => Transformation::None,
            Some("COMPACT") => Transformation::Compact,
            Some("FLATTEN") => Transformation::Flatten,
            None if place.is_some() => Transformation::None,
            None => Transformation::Compact,
            Some(other) => return Err(unknown("Transformation", other)),
        };
        let lines = match text("OutputType") {
            None | Some("JSON") => false,
            Some("JSONL") => true,
            Some(other) => return Err(unknown("OutputType", other)),
        };
        Ok(Self {
            transformation,
            lines,
            place,
        })
    }

    /// A result in its form, as JSON texts.
    fn shown(&self, stored: &mut Stored<'_>, outcome: &Outcome) -> Result<Vec<String>, Halt> {
        match (&outcome.how, self.transformation) {
            // What failed is always told as a whole.
            (Ended::Failed { .. }, _) | (_, Transformation::None) => {
                Ok(vec![stored.whole(outcome)?])
            }
            (Ended::Succeeded { output }, Transformation::Compact) => Ok(vec![output.clone()]),
            (Ended::Succeeded { output }, Transformation::Flatten) => Ok(flattened(output)),
        }
    }
}

impl Results<'_> {
    /// Sees that files can be written where they are to go, before anything runs.
    pub async fn check(&self, form: &Form) -> Result<(), Failure> {
        let Some(place) = &form.place else {
            return Ok(());
        };
        let manifest = files::manifest(&place.bucket, &self.children.run_arn, &Files::default());
        let key = self.key(place, "manifest.json");
        let written = self.objects.put(self.who, &place.bucket, &key, manifest);
        written.await.map_err(|error| {
            // Observed on AWS.
            let entered = "Failed to write a test manifest into the specified output bucket.";
            Failure::new(
                "States.ResultWriterFailed",
                format!("{entered} | Message from S3: {error}"),
            )
        })
    }

    /// The output of the state, once all children have ended.
    pub async fn output(&self, form: &Form) -> Result<Value, Halt> {
        match &form.place {
            None => self.gather(form),
            Some(place) => self.export(form, place).await,
        }
    }

    /// Writes what there is of a run that has failed.
    pub async fn leave(&self, form: &Form) -> Result<(), Halt> {
        match &form.place {
            None => Ok(()),
            Some(place) => self.export(form, place).await.map(drop),
        }
    }

    /// An array of all results, in the order of the children.
    fn gather(&self, form: &Form) -> Result<Value, Halt> {
        let mut stored = Stored::open(self.runs, self.live, self.children)?;
        let latest = stored.latest()?;
        let mut bytes = 2;
        let mut results: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        let mut after = None;
        while let Some(outcomes) = stored.next(&mut after)? {
            for outcome in outcomes {
                if !latest.is(&outcome) {
                    continue;
                }
                let shown = form.shown(&mut stored, &outcome)?;
                bytes += shown.iter().map(|text| text.len() + 1).sum::<usize>();
                if bytes > MAX_DATA_BYTES + 1 {
                    let cause = format!(
                        "The state/task '{}' returned a result with a size exceeding the maximum \
                         number of bytes service limit.",
                        self.state
                    );
                    return Err(Failure::new(names::DATA_LIMIT_EXCEEDED, cause).into());
                }
                results.insert(outcome.child, shown);
            }
        }
        let texts: Vec<String> = results.into_values().flatten().collect();
        if form.lines {
            return Ok(Value::String(texts.join("\n")));
        }
        let values: Result<Vec<Value>, _> = texts
            .iter()
            .map(|text| serde_json::from_str(text))
            .collect();
        let values = values.map_err(|source| crate::Error::Record {
            what: "map run",
            source,
        })?;
        Ok(Value::Array(values))
    }

    /// Files of all results, and a manifest that names them.
    async fn export(&self, form: &Form, place: &Place) -> Result<Value, Halt> {
        let mut stored = Stored::open(self.runs, self.live, self.children)?;
        let latest = stored.latest()?;
        let ending = if form.lines { "jsonl" } else { "json" };
        let mut files = Files::new(form.lines);
        for succeeded in [true, false] {
            let class = if succeeded { "SUCCEEDED" } else { "FAILED" };
            let mut after = None;
            while let Some(outcomes) = stored.next(&mut after)? {
                for outcome in outcomes {
                    let is_it = matches!(outcome.how, Ended::Succeeded { .. }) == succeeded;
                    if !is_it || !latest.is(&outcome) {
                        continue;
                    }
                    for text in form.shown(&mut stored, &outcome)? {
                        files.add(&text);
                    }
                    if files.is_full() {
                        self.put(place, &mut files, class, ending).await?;
                    }
                }
            }
            self.put(place, &mut files, class, ending).await?;
        }
        let mut after = None;
        while let Some(pending) = stored.next_pending(&mut after, &latest)? {
            for text in pending {
                files.add(&text);
            }
            if files.is_full() {
                self.put(place, &mut files, "PENDING", ending).await?;
            }
        }
        self.put(place, &mut files, "PENDING", ending).await?;
        let manifest = files::manifest(&place.bucket, &self.children.run_arn, &files);
        let key = self.key(place, "manifest.json");
        let written = self.objects.put(self.who, &place.bucket, &key, manifest);
        written.await.map_err(|error| refused(&error.to_string()))?;
        Ok(json!({
            "MapRunArn": self.children.run_arn,
            "ResultWriterDetails": {"Bucket": place.bucket, "Key": key},
        }))
    }

    async fn put(
        &self,
        place: &Place,
        files: &mut Files,
        class: &'static str,
        ending: &str,
    ) -> Result<(), Halt> {
        let Some((number, body)) = files.take(class) else {
            return Ok(());
        };
        let key = self.key(place, &format!("{class}_{number}.{ending}"));
        let size = body.len();
        let written = self.objects.put(self.who, &place.bucket, &key, body);
        written.await.map_err(|error| refused(&error.to_string()))?;
        files.written(class, key, size);
        Ok(())
    }

    fn key(&self, place: &Place, name: &str) -> String {
        format!("{}{}/{name}", place.prefix, self.live.id)
    }
}

fn place(arguments: &Value) -> Result<Place, Failure> {
    let text = |name: &str| arguments.get(name).and_then(Value::as_str);
    let bucket = text("Bucket").ok_or_else(|| refused("The ResultWriter names no Bucket."))?;
    let mut prefix = text("Prefix").unwrap_or_default().to_owned();
    if !prefix.is_empty() && !prefix.ends_with('/') {
        prefix.push('/');
    }
    Ok(Place {
        bucket: bucket.to_owned(),
        prefix,
    })
}

/// The elements of an array; anything else as it is.
fn flattened(output: &str) -> Vec<String> {
    if !output.starts_with('[') {
        return vec![output.to_owned()];
    }
    match serde_json::from_str::<Vec<Box<serde_json::value::RawValue>>>(output) {
        Ok(elements) => elements.iter().map(|raw| raw.get().to_owned()).collect(),
        Err(_) => vec![output.to_owned()],
    }
}

fn refused(cause: &str) -> Failure {
    Failure::new("States.ResultWriterFailed", cause)
}

fn unknown(field: &str, value: &str) -> Failure {
    let value: String = value.chars().take(100).collect();
    refused(&format!(
        "The {field} '{value}' of the ResultWriter is not known."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(resource: Option<&str>, arguments: Value, config: Value) -> Writer {
        Writer {
            resource: resource.map(|resource| Resource::parse(resource).unwrap()),
            arguments,
            config,
        }
    }

    const PUT: &str = "arn:aws:states:::s3:putObject";

    #[test]
    fn outputs_alone_are_the_form_without_files_and_everything_that_with_files() {
        let form = Form::of(None).unwrap();
        assert_eq!(form.transformation, Transformation::Compact);
        let arguments = json!({"Bucket": "b", "Prefix": "p"});
        let form = Form::of(Some(&writer(Some(PUT), arguments, Value::Null))).unwrap();
        assert_eq!(form.transformation, Transformation::None);
        assert_eq!(form.place.unwrap().prefix, "p/");
        let config = json!({"Transformation": "FLATTEN", "OutputType": "JSONL"});
        let form = Form::of(Some(&writer(None, Value::Null, config))).unwrap();
        assert_eq!(form.transformation, Transformation::Flatten);
        assert!(form.lines);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for (resource, arguments, config) in [
            (Some(PUT), json!({}), Value::Null),
            (
                Some("arn:aws:states:::sqs:sendMessage"),
                json!({}),
                Value::Null,
            ),
            (None, Value::Null, json!({"Transformation": "X"})),
            (None, Value::Null, json!({"OutputType": "X"})),
        ] {
            let failure = Form::of(Some(&writer(resource, arguments, config))).unwrap_err();
            assert_eq!(failure.error.as_deref(), Some("States.ResultWriterFailed"));
        }
    }

    #[test]
    fn only_arrays_are_flattened() {
        assert_eq!(flattened(r#"[{"a":[1]}, 2]"#), [r#"{"a":[1]}"#, "2"]);
        assert_eq!(flattened("[]"), Vec::<String>::new());
        assert_eq!(flattened(r#"{"a":1}"#), [r#"{"a":1}"#]);
        assert_eq!(flattened("\"[\""), ["\"[\""]);
    }
}
