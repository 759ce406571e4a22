//! Models of Bedrock: at an endpoint that speaks as Bedrock does, or at one that speaks as OpenAI.

use std::time::Duration;

use asl::failure::{Failure, names};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request};
use serde_json::{Map, Value, json};

use super::Task;
use crate::catalog;
use crate::exchange::MAX_ANSWER;
use crate::failure::{Voice, unfit};
use crate::support::Optimised;
use crate::wire::{self, Invalid};

/// Models take their time.
const TIMEOUT: Duration = Duration::from_secs(300);

/// Whose words a model is asked in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    /// Messages and `max_tokens`.
    Anthropic,
    /// Messages of content blocks and `inferenceConfig`.
    Nova,
    /// As OpenAI's own.
    OpenAi,
    /// `prompt` and `max_gen_len`.
    Llama,
    /// `inputText` and `textGenerationConfig`.
    Titan,
}

impl Task<'_> {
    /// `bedrock:invokeModel`.
    pub async fn invoke_model(&self, known: &'static Optimised) -> Result<Value, Failure> {
        let given = &*self.call.input;
        let missing = |field: &str| unfit(given, &[Invalid::Missing(field.to_owned())]);
        let model = given.get("ModelId").and_then(Value::as_str);
        let model = model.ok_or_else(|| missing("ModelId"))?;
        if given.get("Input").is_some() || given.get("Output").is_some() {
            let cause = "Input and Output in S3 are not supported for bedrock:invokeModel here";
            return Err(Failure::new(names::RUNTIME, cause));
        }
        let body = given.get("Body").ok_or_else(|| missing("Body"))?;
        if !self.integrations.config.openai.is_empty() {
            return self.ask_openai(known, model, body).await;
        }
        let found = catalog::find("bedrock-runtime")
            .and_then(|entry| Some((entry, entry.operation("invokeModel")?)));
        let Some((entry, (name, operation))) = found else {
            return Err(Failure::new(names::RUNTIME, "bedrock-runtime is not known"));
        };
        let mut parameters = given.clone();
        let json = || Value::from("application/json");
        if let Some(parameters) = parameters.as_object_mut() {
            parameters.entry("ContentType").or_insert_with(json);
            parameters.entry("Accept").or_insert_with(json);
        }
        let call = wire::Call {
            entry,
            name,
            operation,
            parameters: &parameters,
            token: "",
        };
        let integrations = self.integrations;
        let answered = integrations
            .invoke(&self.context, &call, Voice::Named(known))
            .await?;
        let text = answered.output.get("Body").and_then(Value::as_str);
        let text = text.unwrap_or_default();
        let body = serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
        let kind = answered.output.get("ContentType").cloned();
        Ok(json!({"Body": body, "ContentType": kind.unwrap_or_else(json)}))
    }

    async fn ask_openai(
        &self,
        known: &'static Optimised,
        model: &str,
        body: &Value,
    ) -> Result<Value, Failure> {
        let voice = Voice::Named(known);
        let refused = |code: &str, cause: String| Failure::new(format!("Bedrock.{code}"), cause);
        let family = family(model, body).ok_or_else(|| {
            let cause = format!("No way is known to ask {model} in OpenAI's words");
            refused("ValidationException", cause)
        })?;
        let config = &self.integrations.config;
        let asked = if config.openai_model.is_empty() {
            model
        } else {
            &config.openai_model
        };
        let ask = to_chat(family, asked, body);
        let url = format!("{}/chat/completions", config.openai.trim_end_matches('/'));
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(url)
            .header(CONTENT_TYPE, "application/json");
        if !config.openai_key_secret.is_empty() {
            let key = format!("Bearer {}", config.openai_key_secret);
            request = request.header(AUTHORIZATION, key);
        }
        let request = request
            .body(Bytes::from(ask.to_string()))
            .map_err(|error| voice.unreached(error.to_string()))?;
        let response = self
            .integrations
            .client
            .send(request, MAX_ANSWER, TIMEOUT)
            .await
            .map_err(|error| voice.unreached(format!("Unable to execute HTTP request: {error}")))?;
        let text = String::from_utf8_lossy(response.body());
        let code = match response.status().as_u16() {
            200..=299 => {
                let chat = serde_json::from_str(&text).unwrap_or(Value::Null);
                let body = from_chat(family, &chat, model);
                return Ok(json!({"Body": body, "ContentType": "application/json"}));
            }
            401 | 403 => "AccessDeniedException",
            404 => "ResourceNotFoundException",
            429 => "ThrottlingException",
            400..=499 => "ValidationException",
            _ => "ModelErrorException",
        };
        Err(refused(code, text.into_owned()))
    }
}

fn family(model: &str, body: &Value) -> Option<Family> {
    let has = |name: &str| body.get(name).is_some();
    if has("inputText") {
        Some(Family::Titan)
    } else if has("prompt") {
        Some(Family::Llama)
    } else if !has("messages") {
        None
    } else if has("anthropic_version") || model.contains("anthropic.") {
        Some(Family::Anthropic)
    } else if has("inferenceConfig") || model.contains("amazon.nova") {
        Some(Family::Nova)
    } else {
        Some(Family::OpenAi)
    }
}

/// The question in OpenAI's words.
fn to_chat(family: Family, model: &str, body: &Value) -> Value {
    let mut ask = Map::new();
    ask.insert("model".into(), model.into());
    let user = |text: &Value| json!([{"role": "user", "content": text}]);
    match family {
        Family::OpenAi => {
            if let Some(body) = body.as_object() {
                ask.extend(body.clone());
                ask.insert("model".into(), model.into());
            }
        }
        Family::Anthropic | Family::Nova => {
            let mut messages = Vec::new();
            if let Some(system) = body.get("system") {
                messages.push(json!({"role": "system", "content": plain(system)}));
            }
            for message in body["messages"].as_array().into_iter().flatten() {
                let role = message["role"].as_str().unwrap_or("user");
                messages.push(json!({"role": role, "content": plain(&message["content"])}));
            }
            ask.insert("messages".into(), messages.into());
            let nova = &body["inferenceConfig"];
            copy(
                &mut ask,
                body,
                &[
                    ("max_tokens", "max_tokens"),
                    ("temperature", "temperature"),
                    ("top_p", "top_p"),
                    ("stop_sequences", "stop"),
                ],
            );
            copy(
                &mut ask,
                nova,
                &[
                    ("maxTokens", "max_tokens"),
                    ("max_new_tokens", "max_tokens"),
                    ("temperature", "temperature"),
                    ("topP", "top_p"),
                    ("stopSequences", "stop"),
                ],
            );
        }
        Family::Llama => {
            ask.insert("messages".into(), user(&body["prompt"]));
            copy(
                &mut ask,
                body,
                &[
                    ("max_gen_len", "max_tokens"),
                    ("max_tokens", "max_tokens"),
                    ("temperature", "temperature"),
                    ("top_p", "top_p"),
                ],
            );
        }
        Family::Titan => {
            ask.insert("messages".into(), user(&body["inputText"]));
            let of = &body["textGenerationConfig"];
            copy(
                &mut ask,
                of,
                &[
                    ("maxTokenCount", "max_tokens"),
                    ("temperature", "temperature"),
                    ("topP", "top_p"),
                    ("stopSequences", "stop"),
                ],
            );
        }
    }
    Value::Object(ask)
}

fn copy(ask: &mut Map<String, Value>, from: &Value, names: &[(&str, &str)]) {
    for (name, to) in names {
        if let Some(value) = from.get(name) {
            ask.insert((*to).to_owned(), value.clone());
        }
    }
}

/// The texts of content blocks, or a text as it is.
fn plain(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => {
            let texts = blocks
                .iter()
                .filter_map(|block| block.get("text")?.as_str());
            texts.collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

/// The answer in the model's own words.
fn from_chat(family: Family, chat: &Value, model: &str) -> Value {
    let choice = &chat["choices"][0];
    let text = choice["message"]["content"].as_str().unwrap_or_default();
    let (asked, made) = (
        &chat["usage"]["prompt_tokens"],
        &chat["usage"]["completion_tokens"],
    );
    let cut = choice["finish_reason"].as_str() == Some("length");
    match family {
        Family::OpenAi => chat.clone(),
        Family::Anthropic => json!({
            "id": chat["id"],
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [{"type": "text", "text": text}],
            "stop_reason": if cut { "max_tokens" } else { "end_turn" },
            "stop_sequence": null,
            "usage": {"input_tokens": asked, "output_tokens": made},
        }),
        Family::Nova => json!({
            "output": {"message": {"role": "assistant", "content": [{"text": text}]}},
            "stopReason": if cut { "max_tokens" } else { "end_turn" },
            "usage": {"inputTokens": asked, "outputTokens": made, "totalTokens": chat["usage"]["total_tokens"]},
        }),
        Family::Llama => json!({
            "generation": text,
            "prompt_token_count": asked,
            "generation_token_count": made,
            "stop_reason": if cut { "length" } else { "stop" },
        }),
        Family::Titan => json!({
            "inputTextTokenCount": asked,
            "results": [{
                "tokenCount": made,
                "outputText": text,
                "completionReason": if cut { "LENGTH" } else { "FINISH" },
            }],
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_asked_in_openais_words_and_answered_in_the_models_own() {
        let body = json!({
            "anthropic_version": "bedrock-2023-05-31",
            "system": "be brief",
            "max_tokens": 9,
            "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        });
        let model = "anthropic.claude-3-haiku-20240307-v1:0";
        let family = family(model, &body).unwrap();
        assert_eq!(family, Family::Anthropic);
        let expected = json!({
            "model": "m",
            "messages": [
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": "hi"},
            ],
            "max_tokens": 9,
        });
        assert_eq!(to_chat(family, "m", &body), expected);
        let chat = json!({
            "id": "c",
            "choices": [{"message": {"content": "ho"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
        });
        let answer = from_chat(family, &chat, model);
        assert_eq!(answer["content"][0]["text"], "ho");
        assert_eq!(answer["stop_reason"], "end_turn");
        assert_eq!(
            from_chat(Family::Titan, &chat, model)["results"][0]["outputText"],
            "ho"
        );
    }

    #[test]
    fn families_are_told_by_their_words() {
        let of = |body: Value| family("x", &body);
        assert_eq!(of(json!({"inputText": ""})), Some(Family::Titan));
        assert_eq!(of(json!({"prompt": ""})), Some(Family::Llama));
        assert_eq!(
            of(json!({"messages": [], "inferenceConfig": {}})),
            Some(Family::Nova)
        );
        assert_eq!(of(json!({"messages": []})), Some(Family::OpenAi));
        assert_eq!(of(json!({"texts": []})), None);
    }
}
