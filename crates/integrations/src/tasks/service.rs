//! Operations of services, made of what the catalog says.

use asl::failure::{Failure, names};
use bytes::Bytes;
use http::Response;
use serde_json::{Map, Value};

use super::Task;
use crate::catalog::{self, Entry, Operation};
use crate::exchange::{Unsent, add_metadata};
use crate::failure::{Voice, unfit};
use crate::support::Optimised;
use crate::wire::{self, Style};
use crate::{Context, Integrations};

/// What a call has answered.
pub struct Answered {
    pub output: Map<String, Value>,
    pub response: Response<Bytes>,
}

impl Integrations {
    /// Calls an operation, once.
    pub(crate) async fn invoke(
        &self,
        context: &Context,
        call: &wire::Call<'_>,
        voice: Voice,
    ) -> Result<Answered, Failure> {
        let style = match voice {
            Voice::One(_) => Style::One,
            Voice::Two(_) | Voice::Named(_) => Style::Two,
        };
        let message = wire::write(call).map_err(|invalid| unfit(call.parameters, &[invalid]))?;
        let entry = call.entry;
        let response =
            self.exchange(context, entry, message)
                .await
                .map_err(|unsent| match unsent {
                    Unsent::NotServed => voice.not_served(entry),
                    Unsent::TooLarge => too_large(&entry.names.name),
                    Unsent::Failed(_) => voice.unreached(unsent.to_string()),
                })?;
        let answer = wire::read(entry, call.operation, style, &response)
            .map_err(|rejected| voice.rejected(entry, &rejected))?;
        Ok(Answered {
            output: answer.output,
            response,
        })
    }
}

fn too_large(service: &str) -> Failure {
    let cause = format!(
        "The state/task '{service}' returned a result with a size exceeding the maximum number of \
         bytes service limit."
    );
    Failure::new(names::DATA_LIMIT_EXCEEDED, cause)
}

impl Task<'_> {
    /// An operation of `aws-sdk`.
    pub async fn sdk(
        &self,
        entry: &'static Entry,
        (name, operation): (&'static str, &'static Operation),
    ) -> Result<Value, Failure> {
        let call = wire::Call {
            entry,
            name,
            operation,
            parameters: &self.call.input,
            token: &self.request_id(),
        };
        let invoked = self
            .integrations
            .invoke(&self.context, &call, Voice::Two(entry));
        Ok(Value::Object(invoked.await?.output))
    }

    /// An operation of a closely integrated service.
    pub async fn optimised(
        &self,
        known: &'static Optimised,
        action: &str,
    ) -> Result<Value, Failure> {
        self.operate(known, action, &self.call.input).await
    }

    /// As [`Task::optimised`], with other parameters.
    pub async fn operate(
        &self,
        known: &'static Optimised,
        action: &str,
        parameters: &Value,
    ) -> Result<Value, Failure> {
        let found =
            catalog::find(known.service).and_then(|entry| Some((entry, entry.operation(action)?)));
        let Some((entry, (name, operation))) = found else {
            let cause = format!("{}:{action} is not known", known.name);
            return Err(Failure::new(names::RUNTIME, cause));
        };
        let call = wire::Call {
            entry,
            name,
            operation,
            parameters,
            token: &self.request_id(),
        };
        let voice = match known.style {
            Style::One => Voice::One(known),
            Style::Two => Voice::Named(known),
        };
        let answered = self
            .integrations
            .invoke(&self.context, &call, voice)
            .await?;
        let mut output = answered.output;
        if known.headers {
            let head = &answered.response;
            add_metadata(&mut output, head.status().as_u16(), head.headers());
            output.sort_keys();
        }
        Ok(Value::Object(output))
    }

    /// `events:putEvents`. Events name the execution and its machine as resources, and one that was
    /// not taken fails the task.
    pub async fn put_events(&self, known: &'static Optimised) -> Result<Value, Failure> {
        let mut parameters = (*self.call.input).clone();
        let entries = parameters.get_mut("Entries").and_then(Value::as_array_mut);
        for entry in entries
            .into_iter()
            .flatten()
            .filter_map(Value::as_object_mut)
        {
            let own = [&self.call.execution_arn, &self.call.machine_arn];
            let own = own.map(|arn| Value::from(arn.as_str()));
            let resources = entry
                .entry("Resources")
                .or_insert_with(|| Value::Array(Vec::new()));
            // A wrong value is for the service to refuse.
            if let Value::Array(resources) = resources {
                resources.extend(own);
            }
        }
        let answered = self.operate(known, "putEvents", &parameters).await?;
        match answered.get("FailedEntryCount").and_then(Value::as_u64) {
            None | Some(0) => Ok(answered),
            Some(_) => Err(Failure::new(
                "EventBridge.FailedEntry",
                answered.to_string(),
            )),
        }
    }
}
