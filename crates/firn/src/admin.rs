//! The pages for operators: snapshots, idle environments, and numbers for a monitoring system.

use std::collections::BTreeSet;
use std::sync::Arc;

use chunks::{Chunks, TierStats};
use gateway::Pages;
use gateway::pages::{self, AdminRequest};
use http::{Method, Response, StatusCode};
use invoker::{Function, FunctionCapacity, Invoker};
use lambda::Lambda;
use model::AccountId;
use protocol::Body;
use serde_json::{Value, json};

use crate::measurements::Measurements;

mod metrics;

const FUNCTIONS: &str = "/_firn/functions/";
const END_ENVIRONMENTS: &str = "/environments/end";

/// What the pages need.
#[derive(Clone)]
struct Parts {
    lambda: Arc<Lambda>,
    invoker: Arc<Invoker>,
    images: Chunks,
    measurements: Arc<Measurements>,
}

/// Adds the operators' pages.
pub fn pages(
    pages: Pages,
    lambda: &Arc<Lambda>,
    invoker: &Arc<Invoker>,
    images: &Chunks,
    measurements: &Arc<Measurements>,
) -> Pages {
    let parts = Parts {
        lambda: Arc::clone(lambda),
        invoker: Arc::clone(invoker),
        images: images.clone(),
        measurements: Arc::clone(measurements),
    };
    let of = |parts: &Parts| parts.clone();
    let (snapshots, functions) = (of(&parts), of(&parts));
    let (collecting, dropping, numbers) = (of(&parts), of(&parts), of(&parts));
    let running = of(&parts);
    pages
        .admin("/_firn/environments", move |request| {
            let answer = match request.method {
                Method::GET => pages::json(&running.environments(request.account)),
                _ => wrong_method(),
            };
            async move { answer }
        })
        .admin("/_firn/snapshots", move |request| {
            let parts = snapshots.clone();
            async move { parts.snapshots(&request) }
        })
        .admin("/_firn/snapshots/gc", move |request| {
            let parts = collecting.clone();
            async move { parts.collect(&request).await }
        })
        .admin("/_firn/snapshots/drop-memory", move |request| {
            let answer = only_post(&request, || {
                pages::json(&json!({ "dropped": dropping.invoker.drop_live_images() }))
            });
            async move { answer }
        })
        .admin(FUNCTIONS, move |request| {
            let answer = functions.function_page(&request);
            async move { answer }
        })
        .page("/_firn/metrics", move |_| {
            let (invoker, measurements) = (&numbers.invoker, &numbers.measurements);
            let text = metrics::render(invoker, &numbers.images.stats(), measurements.totals());
            async move { pages::text("text/plain; version=0.0.4; charset=utf-8", text) }
        })
}

fn capacity_json(function: &FunctionCapacity) -> Value {
    let provisioned = function.provisioned.iter().map(|(version, status)| {
        json!({
            "version": version,
            "requested": status.wanted,
            "allocated": status.allocated,
            "running": status.running,
            "invocations": status.invocations,
            "spillovers": status.spillovers,
            "failure": status.failure.as_deref(),
        })
    });
    json!({
        "function_arn": function.arn,
        "reserved": function.reserved,
        "running": function.running,
        "provisioned": provisioned.collect::<Vec<_>>(),
    })
}

impl Parts {
    fn snapshots(&self, request: &AdminRequest) -> Response<Body> {
        match request.method {
            Method::GET => pages::json(&self.list(request.account)),
            Method::DELETE => self.delete(request),
            _ => wrong_method(),
        }
    }

    /// All environments, and what functions use of their account's concurrency.
    fn environments(&self, account: Option<AccountId>) -> Value {
        let mut environments = self.invoker.environments();
        environments.retain(|one| belongs_to(&one.function_arn, account));
        let mut capacity = self.invoker.capacity();
        capacity.retain(|one| belongs_to(&one.arn, account));
        capacity.sort_by(|a, b| a.arn.cmp(&b.arn));
        let functions: Vec<_> = capacity.iter().map(capacity_json).collect();
        json!({ "environments": environments, "functions": functions })
    }

    fn list(&self, account: Option<AccountId>) -> Value {
        let mut snapshots = self.invoker.snapshots();
        snapshots.retain(|snapshot| belongs_to(&snapshot.function_arn, account));
        let stats = self.images.stats();
        let tier = |stats: &TierStats| {
            json!({
                "hits": stats.hits,
                "misses": stats.misses,
                "readBytes": stats.read_bytes,
                "writtenBytes": stats.written_bytes,
                "errors": stats.errors,
                "corrupt": stats.corrupt,
                "evictions": stats.evictions,
                "residentBytes": stats.resident_bytes,
            })
        };
        json!({
            "snapshots": snapshots,
            "tiers": {
                "cache": tier(&stats.l1),
                "redis": tier(&stats.l2),
                "store": tier(&stats.l3),
            },
        })
    }

    /// Deletes the snapshots of one version, or of all versions and `$LATEST`.
    fn delete(&self, request: &AdminRequest) -> Response<Body> {
        let Some(name) = request.parameter("function") else {
            let text = "name a function: ?function=NAME, and &version=N for one version\n";
            return pages::plain(StatusCode::BAD_REQUEST, text);
        };
        let version = request.parameter("version");
        let mut found = self.revisions(&name, request.account);
        found.retain(|function| {
            version
                .as_ref()
                .is_none_or(|version| function.version == *version)
        });
        if found.is_empty() {
            return pages::plain(StatusCode::NOT_FOUND, "there is no such function\n");
        }
        let mut deleted = Vec::new();
        for function in &found {
            self.invoker.forget_snapshot(function);
            deleted.push(json!({ "function": function.arn, "version": function.version }));
        }
        pages::json(&json!({ "deleted": deleted }))
    }

    async fn collect(&self, request: &AdminRequest) -> Response<Body> {
        if request.method != Method::POST {
            return wrong_method();
        }
        match self.images.collect_garbage().await {
            Ok(collected) => pages::json(&json!({
                "chunks": collected.chunks,
                "bytes": collected.bytes,
            })),
            Err(err) => {
                tracing::error!(
                    error = &err as &dyn std::error::Error,
                    "cannot collect unused parts of snapshots"
                );
                let text = "unused parts of snapshots could not be collected\n";
                pages::plain(StatusCode::INTERNAL_SERVER_ERROR, text)
            }
        }
    }

    /// `POST /_firn/functions/NAME/environments/end`.
    fn function_page(&self, request: &AdminRequest) -> Response<Body> {
        let rest = request.rest(FUNCTIONS).unwrap_or_default();
        let Some(name) = rest.strip_suffix(END_ENVIRONMENTS) else {
            return pages::plain(StatusCode::NOT_FOUND, "firn has no such page\n");
        };
        only_post(request, || {
            let found = self.revisions(name, request.account);
            let arns: BTreeSet<&str> = found.iter().map(|function| function.arn.as_str()).collect();
            let ended: usize = arns
                .into_iter()
                .map(|arn| self.invoker.end_idle_environments(arn))
                .sum();
            pages::json(&json!({ "ended": ended }))
        })
    }

    /// All versions of the functions of this name or ARN.
    fn revisions(&self, name: &str, account: Option<AccountId>) -> Vec<Arc<Function>> {
        let mut found = self.lambda.revisions();
        found.retain(|function| {
            (function.name == name || function.arn == name) && belongs_to(&function.arn, account)
        });
        found
    }
}

fn belongs_to(arn: &str, account: Option<AccountId>) -> bool {
    let Some(account) = account else { return true };
    arn.split(':').nth(4) == Some(&account.to_string())
}

fn only_post(request: &AdminRequest, answer: impl FnOnce() -> Response<Body>) -> Response<Body> {
    match request.method {
        Method::POST => answer(),
        _ => wrong_method(),
    }
}

fn wrong_method() -> Response<Body> {
    let text = "this page has other methods\n";
    pages::plain(StatusCode::METHOD_NOT_ALLOWED, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_belong_to_the_account_in_their_arn() {
        let arn = "arn:aws:lambda:us-east-1:123456789012:function:f";
        assert!(belongs_to(arn, None));
        assert!(belongs_to(arn, Some("123456789012".parse().unwrap())));
        assert!(!belongs_to(arn, Some("210987654321".parse().unwrap())));
    }
}
