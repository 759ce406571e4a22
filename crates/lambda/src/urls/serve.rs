//! One request to a URL, from the lookup to the response.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use clock::Timestamp;
use http::header::{HeaderName, HeaderValue};
use http::{Response, request};
use invoker::{Measurement, Metric, Mode, Outcome, Payload, StreamItem};
use model::Region;
use policy::{Context, Principal};
use protocol::{ApiError, Body, Caller, PrincipalKind};
use serde::Serialize;

use super::address::{self, Target};
use super::event::{self, Facts};
use super::head::Head;
use super::stream::{INTEGRATION, Prelude, StreamedBody};
use super::{AuthType, InvokeMode, UrlConfig, answer, cors, refusal};
use crate::error::Error;
use crate::function::{Function, FunctionId};
use crate::invoke::Call;
use crate::name::{LATEST, Qualifier};
use crate::policies;
use crate::service::{Address, Lambda};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const TRACE_ID: HeaderName = HeaderName::from_static("x-amzn-trace-id");
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// A request to a URL.
#[derive(Debug)]
pub struct UrlRequest {
    pub parts: request::Parts,
    pub body: Bytes,
    pub peer: Option<IpAddr>,
    pub request_id: String,
    /// Who signed, if anybody did; or why the signature does not count.
    pub signer: Result<Option<Caller>, ApiError>,
}

/// Who signed a request, as its event tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UrlSigner {
    pub access_key: String,
    pub account_id: String,
    pub caller_id: String,
    pub user_arn: String,
    pub user_id: String,
}

/// A request whose URL is known.
struct Visit<'a> {
    function: &'a Arc<Function>,
    key: &'a str,
    url: &'a UrlConfig,
    target: Target<'a>,
}

impl UrlSigner {
    pub fn account(&self) -> &str {
        &self.account_id
    }

    /// A session is known by its role and its name, anybody else by their account.
    fn of(caller: &Caller) -> Self {
        let id = match caller.principal.kind {
            PrincipalKind::AssumedRole => {
                let session = caller.principal.arn.split_once('/');
                session.map_or("", |(_, session)| session).replace('/', ":")
            }
            _ => caller.account.to_string(),
        };
        Self {
            access_key: caller.access_key.clone().unwrap_or_default(),
            account_id: caller.account.to_string(),
            caller_id: id.clone(),
            user_arn: caller.principal.arn.clone(),
            user_id: id,
        }
    }
}

/// The answer to a request that does not reach the function.
type Refused = Box<Response<Body>>;

impl Lambda {
    /// Answers a request to a function URL.
    pub async fn answer_url(self: &Arc<Self>, request: UrlRequest) -> Response<Body> {
        let request_id = request.request_id.clone();
        let mut response = self.visit(&request).await;
        if let Ok(id) = HeaderValue::from_str(&request_id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        response
    }

    async fn visit(self: &Arc<Self>, request: &UrlRequest) -> Response<Body> {
        let Some(target) = address::target(&request.parts) else {
            return refusal::forbidden();
        };
        let id = target.id.to_ascii_lowercase();
        let Some(place) = self.urls.find(&id) else {
            return refusal::forbidden();
        };
        let function = self.functions.get(&place.function, None).ok();
        let found = function.as_ref().and_then(|function| {
            let url = function.attached.urls.get(&place.key)?;
            let here = function.id.scope.region.as_str();
            let is_here = target
                .region
                .is_none_or(|region| region.eq_ignore_ascii_case(here));
            (url.id == id && is_here).then_some((function, url))
        });
        let Some((function, url)) = found else {
            return refusal::forbidden();
        };
        let visit = Visit {
            function,
            key: &place.key,
            url,
            target,
        };
        let stopwatch = Stopwatch::start(self, &visit);
        let mut response = self.answer_visit(request, &visit, stopwatch).await;
        if let Some(cors) = &url.cors
            && response.extensions().get::<Preflight>().is_none()
        {
            cors::add(cors, &request.parts, response.headers_mut());
        }
        response
    }

    async fn answer_visit(
        &self,
        request: &UrlRequest,
        visit: &Visit<'_>,
        mut stopwatch: Stopwatch,
    ) -> Response<Body> {
        let preflight = visit.url.cors.as_ref();
        if let Some(mut response) = preflight.and_then(|cors| cors::preflight(cors, &request.parts))
        {
            response.extensions_mut().insert(Preflight);
            stopwatch.answered(&response);
            return response;
        }
        let response = match self.admit(request, visit) {
            Ok(signer) => return self.run(request, visit, signer.as_ref(), stopwatch).await,
            Err(response) => *response,
        };
        stopwatch.answered(&response);
        response
    }

    /// Who may call the function. A URL without authentication tells nobody's name.
    fn admit(&self, request: &UrlRequest, visit: &Visit<'_>) -> Result<Option<UrlSigner>, Refused> {
        let auth_type = visit.url.auth_type;
        let context = Context::new()
            .with("lambda:FunctionUrlAuthType", auth_type.as_str())
            .with("lambda:InvokedViaFunctionUrl", "true")
            .with(
                "aws:SourceIp",
                request.peer.map(|ip| ip.to_string()).unwrap_or_default(),
            );
        let (principal, signer) = match auth_type {
            AuthType::None => (Principal::Anonymous, None),
            AuthType::AwsIam => match &request.signer {
                Ok(Some(caller)) => (policies::principal(caller), Some(UrlSigner::of(caller))),
                Ok(None) => return Err(refusal::forbidden().into()),
                Err(error) => return Err(refusal::unsigned(error).into()),
            },
        };
        let qualifier = qualifier(visit.key);
        let mut actions = vec!["lambda:InvokeFunctionUrl"];
        if self.config.url_needs_invoke_function {
            actions.push("lambda:InvokeFunction");
        }
        for action in actions {
            let (function, qualifier) = (visit.function, qualifier.as_ref());
            if let Err(error) = self.authorise(function, qualifier, &principal, action, &context) {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "a function URL refuses"
                );
                return Err(refusal::forbidden().into());
            }
        }
        Ok(signer)
    }

    async fn run(
        &self,
        request: &UrlRequest,
        visit: &Visit<'_>,
        signer: Option<&UrlSigner>,
        mut stopwatch: Stopwatch,
    ) -> Response<Body> {
        let now = self.clock.now();
        let trace = request.parts.headers.get(TRACE_ID);
        let trace = trace.and_then(|trace| trace.to_str().ok());
        let active = visit.function.version(qualifier(visit.key).as_ref());
        let active = active.is_ok_and(|version| version.settings.tracing_active);
        let trace = invoker::trace_header(trace, active, now);
        let payload = match self.event_for(request, visit, signer, &trace, now) {
            Ok(payload) => payload,
            Err(response) => {
                stopwatch.answered(&response);
                return *response;
            }
        };
        let call = Call {
            request_id: request.request_id.clone(),
            payload,
            trace_header: Some(trace.clone()),
            mode: match visit.url.invoke_mode {
                InvokeMode::Buffered => Mode::Buffered,
                InvokeMode::ResponseStream => Mode::Streaming,
            },
            ..Call::default()
        };
        let address = Address {
            id: visit.function.id.clone(),
            qualifier: qualifier(visit.key),
        };
        let mut response = match self.invoke(&address, call).await {
            Err(error) => {
                let response = refusal::not_run(error, &request.request_id);
                stopwatch.answered(&response);
                response
            }
            Ok(answer) => respond(answer.outcome, visit.url.invoke_mode, stopwatch).await,
        };
        let shown = trace.split(";Lineage=").next().unwrap_or_default();
        if let Ok(trace) = HeaderValue::from_str(shown) {
            response.headers_mut().insert(TRACE_ID, trace);
        }
        response
    }

    fn event_for(
        &self,
        request: &UrlRequest,
        visit: &Visit<'_>,
        signer: Option<&UrlSigner>,
        trace_header: &str,
        now: Timestamp,
    ) -> Result<Bytes, Refused> {
        let region: &Region = &visit.function.id.scope.region;
        let url_id = visit.url.id.as_str();
        let addresses = &self.url_addresses;
        let by_path = visit.target.region.is_none();
        let facts = Facts {
            url_id,
            path: visit.target.path,
            host: by_path.then(|| addresses.host(url_id, region)),
            source_ip: request.peer.map(|ip| ip.to_string()).unwrap_or_default(),
            scheme: addresses.scheme,
            port: addresses.port,
            request_id: &request.request_id,
            trace_header: trace_header.split(";Lineage=").next().unwrap_or_default(),
            signer,
            now,
        };
        match event::build(&request.parts, &request.body, &facts) {
            Ok(event) if event.len() as u64 > super::MAX_BODY_BYTES => {
                Err(refusal::too_large().into())
            }
            Ok(event) => Ok(event),
            Err(cause) => {
                let of = visit.function.id.arn();
                let error = Error::Record { of, cause };
                Err(refusal::not_run(error, &request.request_id).into())
            }
        }
    }
}

/// Marks the answer to a preflight, to which nothing is added.
#[derive(Clone)]
struct Preflight;

fn qualifier(key: &str) -> Option<Qualifier> {
    (key != LATEST).then(|| Qualifier::Alias(key.to_owned()))
}

/// Turns what the function did into a response. A stream goes on after this.
async fn respond(outcome: Outcome, mode: InvokeMode, mut stopwatch: Stopwatch) -> Response<Body> {
    let Outcome {
        payload,
        content_type,
        function_error,
        ..
    } = outcome;
    let response = match payload {
        _ if function_error.is_some() => refusal::bad_gateway(),
        Payload::Buffered(payload) => match mode {
            InvokeMode::Buffered => whole(answer::read(&payload, content_type.as_deref())),
            // A function that does not stream is passed on as it is, like one that does.
            InvokeMode::ResponseStream if content_type.as_deref() == Some(INTEGRATION) => {
                whole(answer::read(&payload, content_type.as_deref()))
            }
            InvokeMode::ResponseStream => whole(Ok((Head::ok(type_of(content_type)), payload))),
        },
        Payload::Stream(stream) => return streamed(stream, content_type, stopwatch).await,
    };
    stopwatch.answered(&response);
    response
}

fn whole(read: Result<(Head, Bytes), super::head::Malformed>) -> Response<Body> {
    match read {
        Ok((head, body)) => with_head(head, Body::from(body)),
        Err(error) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "no HTTP response");
            refusal::bad_gateway()
        }
    }
}

fn with_head(head: Head, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    response
}

fn type_of(content_type: Option<String>) -> HeaderValue {
    content_type
        .and_then(|text| HeaderValue::from_str(&text).ok())
        .unwrap_or(OCTETS)
}

/// Waits for the first bytes, because a function that fails before them gets another status; and
/// for status and headers, if the stream has them.
async fn streamed(
    mut stream: invoker::ResponseStream,
    content_type: Option<String>,
    mut stopwatch: Stopwatch,
) -> Response<Body> {
    let mut prelude = (content_type.as_deref() == Some(INTEGRATION)).then(Prelude::default);
    let mut plain = Some(content_type).filter(|_| prelude.is_none());
    let started = loop {
        match stream.next().await {
            Some(StreamItem::Chunk(chunk)) => {
                if let Some(content_type) = plain.take() {
                    break Some((Head::ok(type_of(content_type)), chunk));
                }
                match prelude.as_mut().map(|prelude| prelude.push(&chunk)) {
                    Some(Ok(None)) => {}
                    Some(Ok(Some(started))) => break Some(started),
                    Some(Err(_)) | None => break None,
                }
            }
            Some(StreamItem::End(end)) if end.function_error.is_none() => {
                // Without a byte: an empty answer, but no half prelude.
                let head = plain
                    .take()
                    .map(|content_type| Head::ok(type_of(content_type)));
                let response = match head {
                    Some(head) => with_head(head, Body::empty()),
                    None => refusal::bad_gateway(),
                };
                stopwatch.answered(&response);
                return response;
            }
            Some(StreamItem::End(_)) | None => break None,
        }
    };
    let Some((head, first)) = started else {
        let response = refusal::bad_gateway();
        stopwatch.answered(&response);
        return response;
    };
    stopwatch.began(head.status.as_u16());
    let has_body = head.has_body();
    let body = StreamedBody {
        first: Some(first),
        stream,
        stopwatch,
    };
    let body = if has_body {
        Body::stream(body)
    } else {
        Body::empty()
    };
    with_head(head, body)
}

/// Measures a visit: from its beginning until the last byte was handed on.
pub struct Stopwatch {
    lambda: Arc<Lambda>,
    function: FunctionId,
    key: String,
    began: Timestamp,
    status: u16,
    running: bool,
}

impl Stopwatch {
    fn start(lambda: &Arc<Lambda>, visit: &Visit<'_>) -> Self {
        Self {
            lambda: Arc::clone(lambda),
            function: visit.function.id.clone(),
            key: visit.key.to_owned(),
            began: lambda.clock.now(),
            status: 0,
            running: true,
        }
    }

    /// The status is known; the body follows.
    fn began(&mut self, status: u16) {
        self.status = status;
    }

    /// The whole answer is there.
    fn answered(&mut self, response: &Response<Body>) {
        self.status = response.status().as_u16();
        self.stop();
    }

    /// The body broke off: a fault, whatever the status said.
    pub fn failed(&mut self) {
        self.status = 502;
        self.stop();
    }

    pub fn stop(&mut self) {
        if !std::mem::take(&mut self.running) {
            return;
        }
        let FunctionId { scope, name } = &self.function;
        let (account, region) = (scope.account.to_string(), scope.region.to_string());
        let resource = match self.key.as_str() {
            LATEST => None,
            alias => Some(format!("{name}:{alias}")),
        };
        let now = self.lambda.clock.now();
        let count = |is: bool| if is { 1.0 } else { 0.0 };
        let values = [
            (Metric::UrlRequestCount, 1.0),
            (
                Metric::Url4xxCount,
                count((400..500).contains(&self.status)),
            ),
            (Metric::Url5xxCount, count(self.status >= 500)),
            (
                Metric::UrlRequestLatency,
                now.duration_since(self.began).as_secs_f64() * 1e3,
            ),
        ];
        self.lambda.measure(&Measurement {
            resource: resource.as_deref().or(Some(name)),
            ..Measurement::of_function(&account, &region, name, now, &values)
        });
    }
}

impl std::fmt::Debug for Stopwatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stopwatch")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl Drop for Stopwatch {
    /// The client went away.
    fn drop(&mut self) {
        self.stop();
    }
}
