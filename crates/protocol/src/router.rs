//! From a request to the operation it names.
//!
//! REST operations are found by method and path, the JSON protocols' by their target header. A
//! signature names its service, so that two services may share a path. Paths are split into
//! segments before percent-decoding: an encoded ARN is one segment, whatever it holds.

mod paths;

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header, request};
use model::rpc::{self, SMITHY_PROTOCOL};
use model::{
    Operation, OperationBinding, OversizedBody, Protocol, ServiceModel, common_error, form,
};

use crate::error::REQUEST_ID;
use crate::{ApiError, Body, Caller, Service};
use paths::{Found, Paths};

/// Finds and runs operations. Built once, then shared.
pub struct Router {
    services: Vec<Entry>,
    by_signing_name: HashMap<&'static str, usize>,
    by_target_prefix: HashMap<&'static str, usize>,
}

struct Entry {
    service: Arc<dyn Service>,
    model: &'static ServiceModel,
    paths: Paths,
    /// The row that serves an operation, by the operation's index in the model.
    rows: Vec<Option<usize>>,
}

/// An operation that a request names and this server has.
#[derive(Clone, Copy)]
pub struct Route {
    service: usize,
    row: usize,
    model: &'static ServiceModel,
    binding: &'static OperationBinding,
    protocol: Protocol,
    /// The operation is named in the body, which is not there yet.
    in_body: bool,
}

/// Collects services for a [`Router`].
#[derive(Default)]
pub struct RouterBuilder {
    services: Vec<Arc<dyn Service>>,
}

impl Router {
    /// Starts with no services.
    pub fn builder() -> RouterBuilder {
        RouterBuilder::default()
    }

    /// The operation that a request names.
    ///
    /// `signing_service` is the service in the signature's credential scope, if there is one. It
    /// decides between services with the same paths; without it the host name does, or the order in
    /// which services were added.
    pub fn route(
        &self,
        request: &request::Parts,
        signing_service: Option<&str>,
    ) -> Result<Route, ApiError> {
        let (name, value) = SMITHY_PROTOCOL;
        if (request.headers.get(name)).is_some_and(|found| found == value) {
            return self.route_rpc(request.uri.path());
        }
        if let Some(target) = request.headers.get("x-amz-target") {
            return self.route_target(target);
        }
        let (path, query) = (request.uri.path(), request.uri.query());
        let chosen = signing_service
            .and_then(|name| self.by_signing_name.get(name).copied())
            .or_else(|| self.service_of_host(request));
        if let Some(route) = self.route_form(request, chosen) {
            return Ok(route);
        }
        let mut wrong_method = None;
        for index in candidates(chosen, self.services.len()) {
            match self.services[index]
                .paths
                .find(&request.method, path, query)
            {
                Found::Operation(operation) => return self.served(index, operation),
                Found::OtherMethod => wrong_method = Some(index),
                Found::Nothing => {}
            }
        }
        if wrong_method.is_some() {
            let message = format!("{} is not supported for this resource", request.method);
            return Err(ApiError::new(&common_error::METHOD_NOT_ALLOWED, message));
        }
        Err(unknown_path(
            signing_service,
            chosen.map(|index| self.services[index].model),
            path,
        ))
    }

    fn route_target(&self, target: &HeaderValue) -> Result<Route, ApiError> {
        let target = target.to_str().unwrap_or_default();
        let (prefix, name) = target.rsplit_once('.').unwrap_or((target, ""));
        if let Some(&service) = self.by_target_prefix.get(prefix)
            && let Some(operation) = self.services[service].model.operation_index(name)
        {
            return self.served(service, operation);
        }
        let shown: String = target.chars().take(128).collect();
        Err(ApiError::new(
            &common_error::UNKNOWN_TARGET,
            format!("The target {shown} names no operation that this server has"),
        ))
    }

    fn route_rpc(&self, path: &str) -> Result<Route, ApiError> {
        let mut parts = path.split('/').skip(1);
        let mut next = || parts.next().unwrap_or_default();
        if let ("service", name, "operation", operation) = (next(), next(), next(), next())
            && let Some(&service) = self.by_target_prefix.get(name)
            && let Some(operation) = self.services[service].model.operation_index(operation)
        {
            let mut route = self.served(service, operation)?;
            route.protocol = Protocol::RpcV2Cbor;
            return Ok(route);
        }
        let shown: String = path.chars().take(128).collect();
        Err(ApiError::new(
            &common_error::UNKNOWN_OPERATION,
            format!("The path {shown} names no operation that this server has"),
        ))
    }

    /// A request of the Query protocol, whose operation [`Router::complete`] finds in the body. Until
    /// then the service's largest limit holds.
    fn route_form(&self, request: &request::Parts, chosen: Option<usize>) -> Option<Route> {
        let is_form = request
            .headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| {
                kind.as_bytes()
                    .starts_with(b"application/x-www-form-urlencoded")
            });
        let query = request.uri.query().unwrap_or_default();
        let in_uri = || form::parameter(query.as_bytes(), "Action").is_some();
        if request.uri.path() != "/" || !(is_form || in_uri()) {
            return None;
        }
        let speaks = |index: &usize| {
            self.services[*index]
                .model
                .protocols
                .contains(&Protocol::AwsQuery)
        };
        let service = match chosen {
            Some(chosen) => Some(chosen).filter(speaks),
            None => (0..self.services.len()).find(speaks),
        }?;
        let model = self.services[service].model;
        let largest = |binding: &&OperationBinding| binding.max_body_bytes;
        Some(Route {
            service,
            row: usize::MAX,
            model,
            binding: model.operations.iter().max_by_key(largest)?,
            protocol: Protocol::AwsQuery,
            in_body: true,
        })
    }

    /// Finds the operation of a route whose request names it in its body. Others stay as they are.
    pub fn complete(
        &self,
        route: Route,
        request: &request::Parts,
        body: &Bytes,
    ) -> Result<Route, ApiError> {
        if !route.in_body {
            return Ok(route);
        }
        let form = rpc::form(request, body);
        let Some(action) = form::parameter(form, "Action") else {
            let message = "The request must contain the parameter Action";
            return Err(ApiError::new(&common_error::MISSING_ACTION, message));
        };
        // Versions are dates, of which each service has its own.
        let version = form::parameter(form, "Version");
        let service = self
            .services
            .iter()
            .position(|entry| {
                entry.model.protocols.contains(&Protocol::AwsQuery)
                    && version.as_deref() == Some(entry.model.api_version)
            })
            .unwrap_or(route.service);
        let Some(operation) = self.services[service].model.operation_index(&action) else {
            let action: String = action.chars().take(64).collect();
            let version: String = version.unwrap_or_default().chars().take(64).collect();
            return Err(ApiError::new(
                &common_error::INVALID_ACTION,
                format!("Could not find operation {action} for version {version}"),
            ));
        };
        let mut found = self.served(service, operation)?;
        found.protocol = Protocol::AwsQuery;
        let length = body.len() as u64;
        if length > found.max_body_bytes() {
            return Err(found.too_large(length));
        }
        Ok(found)
    }

    fn service_of_host(&self, request: &request::Parts) -> Option<usize> {
        let host = request.headers.get(header::HOST)?.to_str().ok()?;
        let label = host.split(['.', ':']).next()?;
        self.services
            .iter()
            .position(|entry| entry.model.endpoint_prefix == label)
    }

    fn served(&self, service: usize, operation: usize) -> Result<Route, ApiError> {
        let entry = &self.services[service];
        let binding = &entry.model.operations[operation];
        match entry.rows[operation] {
            Some(row) => Ok(Route {
                service,
                row,
                model: entry.model,
                binding,
                protocol: entry.model.protocol,
                in_body: false,
            }),
            None => Err(ApiError::new(
                &common_error::NOT_IMPLEMENTED,
                format!(
                    "firn does not implement {} of {} yet",
                    binding.name, entry.model.name
                ),
            )),
        }
    }

    /// Runs an operation for a request. Errors are answers, too.
    pub async fn dispatch(
        &self,
        route: &Route,
        request: &request::Parts,
        body: Bytes,
        caller: &Caller,
    ) -> Response<Body> {
        match self.try_dispatch(route, request, body, caller).await {
            Ok(response) => response,
            Err(error) => route.refuse(&error, &caller.request_id),
        }
    }

    /// Runs an operation for a request, leaving an error to the caller to log and render.
    pub async fn try_dispatch(
        &self,
        route: &Route,
        request: &request::Parts,
        body: Bytes,
        caller: &Caller,
    ) -> Result<Response<Body>, ApiError> {
        let entry = &self.services[route.service];
        let mut response = entry
            .service
            .serve(route.row, request, body, caller)
            .await?;
        put_request_id(response.headers_mut(), &caller.request_id);
        Ok(response)
    }

    /// Runs an operation from inside the process, with typed values instead of messages.
    pub async fn call<O: Operation>(
        &self,
        caller: &Caller,
        input: O::Input,
    ) -> Result<O::Output, ApiError> {
        let (service, row) = self
            .row_of::<O>()
            .ok_or_else(|| ApiError::internal(format!("{} is not served", O::NAME)))?;
        let input: Box<dyn Any + Send> = Box::new(input);
        let output = self.services[service]
            .service
            .call(row, input, caller)
            .await?;
        match output.downcast::<O::Output>() {
            Ok(output) => Ok(*output),
            Err(_) => Err(ApiError::internal(format!(
                "{} answered another's output",
                O::NAME
            ))),
        }
    }

    /// Whether there is a service that signatures name so.
    pub fn serves(&self, signing_name: &str) -> bool {
        self.by_signing_name.contains_key(signing_name)
    }

    fn row_of<O: Operation>(&self) -> Option<(usize, usize)> {
        let service = self
            .services
            .iter()
            .position(|entry| std::ptr::eq(entry.model, O::SERVICE))?;
        let operation = O::SERVICE.operation_index(O::NAME)?;
        Some((service, self.services[service].rows[operation]?))
    }

    /// The operations whose types are generated but which no service's table names: a test that
    /// this is empty finds a forgotten row.
    pub fn unserved(&self) -> Vec<&'static str> {
        let of_service = |entry: &Entry| {
            let operations = entry.model.operations.iter().zip(&entry.rows);
            let unserved = operations.filter(|(binding, row)| binding.generated && row.is_none());
            unserved
                .map(|(binding, _)| binding.name)
                .collect::<Vec<_>>()
        };
        self.services.iter().flat_map(of_service).collect()
    }

    /// Renders an error for which no route was found, in the protocol the request seems to speak.
    pub fn reject(
        &self,
        request: &request::Parts,
        error: &ApiError,
        request_id: &str,
    ) -> Response<Body> {
        let target = request
            .headers
            .get("x-amz-target")
            .and_then(|value| value.to_str().ok());
        let service = target
            .and_then(|target| target.rsplit_once('.'))
            .and_then(|(prefix, _)| self.by_target_prefix.get(prefix))
            .map(|&index| self.services[index].model);
        let (name, value) = SMITHY_PROTOCOL;
        if (request.headers.get(name)).is_some_and(|found| found == value) {
            return error.to_response_in(Protocol::RpcV2Cbor, service, request_id);
        }
        if service.is_none()
            && let Some(route) = self.route_form(request, self.service_of_host(request))
        {
            return route.refuse(error, request_id);
        }
        error.to_response(service, request_id)
    }
}

/// The chosen service alone, or all of them.
fn candidates(chosen: Option<usize>, all: usize) -> std::ops::Range<usize> {
    chosen.map_or(0..all, |index| index..index + 1)
}

fn unknown_path(
    signing_service: Option<&str>,
    service: Option<&ServiceModel>,
    path: &str,
) -> ApiError {
    let path: String = path.chars().take(128).collect();
    match (signing_service, service) {
        (None, _) => ApiError::new(
            &common_error::MISSING_AUTHENTICATION_TOKEN,
            "Missing Authentication Token",
        ),
        (Some(_), Some(service)) if service.protocol != Protocol::RestJson1 => ApiError::new(
            &common_error::UNKNOWN_TARGET,
            format!("A request to {} needs an X-Amz-Target header", service.name),
        ),
        (Some(_), Some(_)) => ApiError::new(
            &common_error::UNKNOWN_OPERATION,
            format!("Unable to determine service/operation name to be authorized: {path}"),
        ),
        (Some(name), None) => ApiError::new(
            &common_error::UNKNOWN_OPERATION,
            format!(
                "firn does not serve {} (path {path})",
                name.chars().take(64).collect::<String>()
            ),
        ),
    }
}

fn put_request_id(headers: &mut HeaderMap, request_id: &str) {
    if let Ok(request_id) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, request_id);
    }
}

impl RouterBuilder {
    /// Adds a service.
    #[must_use]
    pub fn service<S: Service>(mut self, service: Arc<S>) -> Self {
        self.services.push(service);
        self
    }

    /// The finished router.
    ///
    /// # Panics
    /// If a service's table names an operation that its interface does not have, or names one
    /// wrongly: mistakes in the program that must not reach a user.
    pub fn build(self) -> Router {
        let services: Vec<Entry> = self.services.into_iter().map(entry).collect();
        let indices = || services.iter().enumerate();
        let by_signing_name = indices()
            .map(|(index, entry)| (entry.model.signing_name, index))
            .collect();
        let by_target_prefix = indices()
            .filter(|(_, entry)| !entry.model.target_prefix.is_empty())
            .map(|(index, entry)| (entry.model.target_prefix, index))
            .collect();
        Router {
            by_signing_name,
            by_target_prefix,
            services,
        }
    }
}

fn entry(service: Arc<dyn Service>) -> Entry {
    let model = service.model();
    let mut rows = vec![None; model.operations.len()];
    for (row, name) in service.operations().into_iter().enumerate() {
        match model.operation_index(name) {
            Some(operation) => rows[operation] = Some(row),
            None => panic!("{} has no operation {name}", model.name),
        }
    }
    let paths = match model.protocol {
        Protocol::RestJson1 => Paths::new(model.operations),
        _ => Paths::default(),
    };
    Entry {
        service,
        model,
        paths,
        rows,
    }
}

impl Route {
    /// The operation's name.
    pub fn operation(&self) -> &'static str {
        self.binding.name
    }

    /// False if the request names its operation in the body; see [`Router::complete`].
    pub fn is_complete(&self) -> bool {
        !self.in_body
    }

    /// The service's interface.
    pub fn service(&self) -> &'static ServiceModel {
        self.model
    }

    /// The answer for an error, in the protocol of the request.
    pub fn refuse(&self, error: &ApiError, request_id: &str) -> Response<Body> {
        error.to_response_in(self.protocol, Some(self.model), request_id)
    }

    /// Larger bodies must be refused with [`Route::too_large`].
    pub fn max_body_bytes(&self) -> u64 {
        self.binding.max_body_bytes
    }

    /// The error for a body of `length` bytes that is beyond the limit. Of a body without a stated
    /// length, `length` is what was read before reading stopped.
    pub fn too_large(&self, length: u64) -> ApiError {
        let (limit, name) = (self.binding.max_body_bytes, self.binding.name);
        match self.binding.oversized {
            OversizedBody::Entity => ApiError::new(
                &common_error::REQUEST_ENTITY_TOO_LARGE,
                format!("Request must be smaller than {limit} bytes for the {name} operation"),
            ),
            OversizedBody::Payload => ApiError::new(
                &common_error::REQUEST_TOO_LARGE,
                format!(
                    "{length} byte payload is too large for the RequestResponse invocation type \
                     (limit {limit} bytes)"
                ),
            ),
        }
    }
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Route({} {})", self.model.name, self.binding.name)
    }
}

#[cfg(test)]
mod tests;
