//! The end of an invocation in an environment with extensions.
//!
//! The caller has its answer as soon as the runtime has given it. The invocation goes on until the
//! runtime and every extension that was told of it ask for the next event; that time is part of
//! its duration and of its timeout, and REPORT comes after it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clock::Timestamp;
use tokio::sync::oneshot;

use super::{Flight, Landing, Notes, Permit, Verdict};
use crate::environment::{Crash, Environment};
use crate::extensions::{Companions, InvokeEvent, Reason};
use crate::invoker::{EXPECTED_BACK, Invoker};
use crate::output::platform::{Details, Finished, Span, Status, start_record};
use crate::runtime_api::{Answer, Back, Event};
use crate::telemetry::Audience;
use crate::{Measurement, Metric, Outcome, Payload, Report};

/// Tells extensions of an invocation that its runtime has just been given.
pub(super) fn announce(companions: &Companions, event: &Event) {
    let invocation = &event.invocation;
    companions.extensions.invoke(
        &event.invocation_id,
        &InvokeEvent::new(
            &invocation.request_id,
            &invocation.invoked_arn,
            event.deadline_ms,
            &event.trace_header,
        ),
    );
}

/// Tells subscribers of it, before the runtime can print anything.
pub(super) fn tell_start(
    companions: &Companions,
    now: Timestamp,
    (request_id, version): (&str, &str),
    trace: &crate::trace::Trace,
) {
    let telemetry = &companions.telemetry;
    telemetry.platform(Audience::Both, now, "platform.start", || {
        start_record(request_id, version, sampled(trace))
    });
}

/// As [`Flight::land`], where an extension may break the invocation.
pub(super) async fn land(flight: &mut Flight) -> Landing {
    let Some(companions) = &flight.environment.companions else {
        return Landing::TimedOut;
    };
    let extensions = Arc::clone(&companions.extensions);
    let landing = tokio::time::timeout_at(flight.deadline.into(), async {
        tokio::select! {
            biased;
            answer = &mut flight.answer => {
                Landing::Answer(answer.unwrap_or(Answer::Truncated))
            }
            fault = extensions.broken() => Landing::Extension(fault),
        }
    });
    landing.await.unwrap_or(Landing::TimedOut)
}

/// Composes the outcome. The rest goes on in a task; it is waited for only if the answer needs
/// the log.
pub(super) async fn finish(flight: Flight, verdict: Verdict) -> Outcome {
    let Flight {
        invoker,
        environment,
        began,
        deadline,
        notes,
        _permit: permit,
        ..
    } = flight;
    let mut outcome = Outcome {
        payload: Payload::Buffered(verdict.payload),
        content_type: verdict.content_type,
        function_error: verdict.function_error,
        log_tail: None,
        report: notes.report(began, &verdict.status),
    };
    let want_tail = notes.want_tail;
    let reason = match verdict.status {
        Status::Timeout => Reason::Timeout,
        _ => Reason::Failure,
    };
    let conclusion = Conclusion {
        broken: (!verdict.keep).then_some(reason),
        failed: verdict.function_error.is_some(),
        status: verdict.status,
        message: verdict.message,
        produced_bytes: verdict.produced_bytes,
        answered: Instant::now(),
        invoker,
        environment,
        began,
        deadline,
        notes,
        permit,
    };
    if conclusion.broken.is_none() {
        conclusion.invoker.expect_back(&conclusion.environment.key);
    }
    let (sender, receiver) = oneshot::channel();
    let tasks = conclusion.invoker.tasks().clone();
    tasks.spawn(conclusion.run(sender));
    if want_tail && let Ok((tail, report)) = receiver.await {
        outcome.log_tail = tail;
        outcome.report = report;
    }
    outcome
}

/// What was measured after the answer.
struct Measured {
    /// Of the runtime.
    spans: Vec<Span>,
    /// Of the extensions.
    after: Vec<Span>,
    overhead: Duration,
}

type Ended = (Option<bytes::Bytes>, Report);

/// An invocation whose caller has its answer.
struct Conclusion {
    invoker: Arc<Invoker>,
    environment: Box<Environment>,
    began: Instant,
    deadline: Instant,
    answered: Instant,
    notes: Notes,
    permit: Permit,
    status: Status,
    message: Option<String>,
    produced_bytes: usize,
    failed: bool,
    /// Why the environment cannot serve another invocation.
    broken: Option<Reason>,
}

impl Conclusion {
    async fn run(mut self, ended: oneshot::Sender<Ended>) {
        let mut returning = self.broken.is_none();
        let (invoker, key) = (Arc::clone(&self.invoker), self.environment.key.clone());
        let measured = {
            let mut waiting = Box::pin(self.wait());
            match tokio::time::timeout(EXPECTED_BACK, &mut waiting).await {
                Ok(measured) => measured,
                Err(_) => {
                    if std::mem::take(&mut returning) {
                        invoker.late(&key);
                    }
                    waiting.await
                }
            }
        };
        let report = self.report(&measured);
        self.measure(&report, measured.overhead);
        let tail = self.environment.capture.take_tail();
        self.environment.capture.flush();
        let Self {
            environment,
            permit,
            broken,
            ..
        } = self;
        drop(permit);
        // Who has the answer finds the environment free, or gone. Nobody may wait for it.
        match broken {
            None => {
                invoker.release(environment, returning);
                let _ = ended.send((tail, report));
            }
            Some(reason) => {
                invoker.lost(&key, returning);
                let _ = ended.send((tail, report));
                environment.shut_down(reason, invoker.clock()).await;
            }
        }
    }

    /// Sees the invocation to its end.
    async fn wait(&mut self) -> Measured {
        if self.broken.is_none() {
            self.await_runtime().await;
        }
        let done = Instant::now();
        let spans = self.tell_runtime_done(done);
        let mut overhead = Duration::ZERO;
        let mut after = Vec::new();
        if self.broken.is_none() {
            self.await_extensions().await;
            overhead = done.elapsed();
            after.push(Span::new("extensionOverhead", self.wall(done), overhead));
        }
        Measured {
            spans,
            after,
            overhead,
        }
    }

    /// Waits until the runtime asks for the next event.
    async fn await_runtime(&mut self) {
        let back = self.environment.exchange.back();
        let deadline = self.deadline;
        let came = tokio::time::timeout_at(deadline.into(), back).await;
        match came {
            Ok(Ok(Back::Ready)) => {}
            Ok(Ok(Back::Exited(exit))) => {
                let crash = self.environment.crash(&exit);
                self.broken_by(&crash);
            }
            // The sender lives in the exchange, which the environment holds.
            Ok(Err(_)) => self.broken = Some(Reason::Failure),
            Err(_) => self.timed_out(),
        }
    }

    /// Waits until all extensions that were told of the invocation ask for the next event.
    async fn await_extensions(&mut self) {
        let Some(companions) = &self.environment.companions else {
            return;
        };
        let extensions = Arc::clone(&companions.extensions);
        let came = tokio::time::timeout_at(self.deadline.into(), async {
            tokio::select! {
                biased;
                fault = extensions.broken_within(crate::start::EXIT_AFTER_REPORT) => Some(fault),
                () = extensions.done() => None,
            }
        });
        match came.await {
            Ok(None) => {}
            Ok(Some(fault)) => self.broken_by(&fault.into()),
            Err(_) => self.timed_out(),
        }
    }

    fn broken_by(&mut self, crash: &Crash) {
        self.broken = Some(Reason::Failure);
        self.failed = true;
        self.status = Status::Error(crash.error_type.to_owned());
        self.message = Some(crash.message.clone());
    }

    fn timed_out(&mut self) {
        let verdict = Verdict::timed_out(&self.notes);
        self.broken = Some(Reason::Timeout);
        self.failed = true;
        self.status = verdict.status;
        self.message = verdict.message;
    }

    /// What subscribers wait for before they end their part. Answers the runtime's spans.
    fn tell_runtime_done(&self, done: Instant) -> Vec<Span> {
        self.environment.capture.drain();
        let mut spans = Vec::new();
        if let Some(claimed) = self.environment.exchange.claimed() {
            let mut span = |name, from: Instant, to: Instant| {
                let duration = to.saturating_duration_since(from);
                spans.push(Span::new(name, self.wall(from), duration));
            };
            span("responseLatency", self.began, claimed);
            span("responseDuration", claimed, self.answered);
            if self.broken.is_none() {
                span("runtimeOverhead", self.answered, done);
            }
        }
        if let Some(companions) = &self.environment.companions {
            let report = self.notes.report(self.began, &self.status);
            let now = self.invoker.clock().now();
            let telemetry = &companions.telemetry;
            telemetry.platform(Audience::Both, now, "platform.runtimeDone", || {
                self.finished(&report, &spans, &[]).runtime_done_record()
            });
        }
        spans
    }

    /// Completes the log.
    fn report(&self, measured: &Measured) -> Report {
        let environment = &self.environment;
        environment.capture.drain();
        let mut report = self.notes.report(self.began, &self.status);
        report.max_memory_mb = Some(environment.max_memory_mb());
        let now = self.invoker.clock().now();
        let finished = self.finished(&report, &measured.spans, &measured.after);
        environment.writer.finish(now, &finished, |line| {
            environment.capture.push(now, Some(line));
        });
        if let Some(companions) = &environment.companions {
            let telemetry = &companions.telemetry;
            if let Some(text) = finished.fault_text(now) {
                telemetry.platform(Audience::Logs, now, "platform.fault", || text);
            }
            telemetry.platform(
                Audience::Logs,
                now,
                "platform.end",
                || serde_json::json!({"requestId": self.notes.request_id}),
            );
            telemetry.platform(Audience::Both, now, "platform.report", || {
                finished.full_report_record()
            });
        }
        report
    }

    fn finished<'a>(
        &'a self,
        report: &'a Report,
        spans: &'a [Span],
        after: &'a [Span],
    ) -> Finished<'a> {
        Finished {
            request_id: &self.notes.request_id,
            status: &self.status,
            message: self.message.as_deref(),
            report,
            memory_mb: self.environment.function.memory_mb,
            trace: sampled(&self.notes.trace),
            details: Details {
                produced_bytes: Some(self.produced_bytes),
                spans,
                after,
            },
        }
    }

    fn measure(&self, report: &Report, overhead: Duration) {
        let function = &self.environment.function;
        self.notes
            .measure(&self.invoker, function, report, self.failed);
        let ms = overhead.as_secs_f64() * 1000.0;
        let now = self.invoker.clock().now();
        self.invoker.measure(&Measurement::of_invocation(
            function,
            &self.notes.invoked_arn,
            now,
            &[(Metric::PostRuntimeExtensionsDuration, ms)],
        ));
    }

    /// The time of day of a moment in the past.
    fn wall(&self, moment: Instant) -> Timestamp {
        self.invoker.clock().now() - moment.elapsed()
    }
}

fn sampled(trace: &crate::trace::Trace) -> Option<(&str, &str)> {
    let sampled = trace.sampled.as_ref();
    sampled.map(|(root, segment)| (root.as_str(), segment.as_str()))
}
