//! One invocation on one environment, from the event to the REPORT line.

mod extended;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::sync::{mpsc, oneshot};

use crate::admission::Permit;
use crate::environment::{Crash, Environment, Restored};
use crate::extensions::ExtensionFault;
use crate::invoker::Invoker;
use crate::output::Capture;
use crate::output::platform::{Details, Finished, Status, Writer};
use crate::runtime_api::{
    Answer, Chunk, Event, StreamError, StreamFault, StreamSource, Undelivered,
};
use crate::start::{FailedInit, InitFault, error_body, silent_capture};
use crate::trace::Trace;
use crate::{
    Function, FunctionError, Invocation, Measurement, Metric, Mode, Outcome, Payload, Report,
    ResponseStream, StreamEnd, StreamItem,
};

/// An invocation that its runtime has, or is about to get.
pub(crate) struct Flight {
    invoker: Arc<Invoker>,
    environment: Box<Environment>,
    answer: oneshot::Receiver<Answer>,
    began: Instant,
    deadline: Instant,
    notes: Notes,
    _permit: Permit,
}

/// What the log and the outcome need to know at the end.
struct Notes {
    request_id: String,
    invoked_arn: String,
    trace: Trace,
    timeout: Duration,
    init_duration: Option<Duration>,
    restored: Option<Restored>,
    want_tail: bool,
    mode: Mode,
    max_response_bytes: usize,
}

/// An invocation before it has an environment, and the time it has used up already.
pub(crate) struct Ticketed {
    pub invocation: Invocation,
    pub permit: Permit,
    /// Since when its timeout runs; earlier than now if its init was repeated within it.
    pub began: Instant,
}

/// An invocation that needs another environment, because this one is dead.
pub(crate) struct Grounded {
    pub environment: Box<Environment>,
    pub ticketed: Ticketed,
}

/// What came first.
#[derive(Debug)]
pub(crate) enum Landing {
    Answer(Answer),
    TimedOut,
    /// An extension broke the environment.
    Extension(ExtensionFault),
}

impl Flight {
    /// Hands the event to the environment. Gives everything back if its runtime has just ended.
    pub fn depart(
        invoker: &Arc<Invoker>,
        mut environment: Box<Environment>,
        ticketed: Ticketed,
    ) -> Result<Self, Box<Grounded>> {
        if !environment.wake() || environment.is_broken() {
            return Err(Box::new(Grounded {
                environment,
                ticketed,
            }));
        }
        let Ticketed {
            invocation,
            permit,
            began,
        } = ticketed;
        let function = Arc::clone(&environment.function);
        let now = invoker.clock().now();
        let trace = Trace::of(
            invocation.trace_header.as_deref(),
            function.tracing_active,
            now,
        );
        let left = function.timeout.saturating_sub(began.elapsed());
        environment.deliveries += 1;
        let event = Arc::new(Event {
            invocation_id: format!("{:x}-{:x}", environment.id(), environment.deliveries),
            deadline_ms: (now + left).as_millis(),
            trace_header: trace.header.clone(),
            invocation,
        });
        let invocation = &event.invocation;
        // Before the runtime can print anything that belongs to this invocation.
        environment.capture.begin(
            now,
            environment
                .writer
                .start(now, &invocation.request_id, &function.version),
            invocation.want_tail,
        );
        if let Some(companions) = &environment.companions {
            let invoked = (&*invocation.request_id, &*function.version);
            extended::tell_start(companions, now, invoked, &trace);
        }
        let answer = match environment.exchange.deliver(Arc::clone(&event)) {
            Ok(answer) => answer,
            Err(Undelivered) => {
                environment.capture.unbegin();
                let invocation = invocation.clone();
                let ticketed = Ticketed {
                    invocation,
                    permit,
                    began,
                };
                return Err(Box::new(Grounded {
                    environment,
                    ticketed,
                }));
            }
        };
        if let Some(companions) = &environment.companions {
            extended::announce(companions, &event);
        }
        let notes = Notes {
            init_duration: environment.init_duration.take(),
            restored: environment.restored.take(),
            ..Notes::new(invocation, trace, &function, invoker)
        };
        let deadline = began + function.timeout;
        Ok(Self {
            invoker: Arc::clone(invoker),
            environment,
            answer,
            began,
            deadline,
            notes,
            _permit: permit,
        })
    }

    /// Waits for the runtime. May be dropped and called again.
    pub async fn land(&mut self) -> Landing {
        if self.environment.companions.is_some() {
            return extended::land(self).await;
        }
        match tokio::time::timeout_at(self.deadline.into(), &mut self.answer).await {
            Ok(Ok(answer)) => Landing::Answer(answer),
            // The exchange, held by the environment, answers before it drops the sender.
            Ok(Err(_)) => Landing::Answer(Answer::Truncated),
            Err(_) => Landing::TimedOut,
        }
    }

    /// Sees it through, whatever the answer is like.
    pub async fn complete(self, landing: Landing) -> Outcome {
        let Landing::Answer(Answer::Stream {
            chunks,
            content_type,
        }) = landing
        else {
            let verdict = Verdict::of(landing, &self);
            return self.finish(verdict).await;
        };
        match self.notes.mode {
            Mode::Streaming => self.stream(chunks, content_type),
            Mode::Buffered => self.buffer(chunks, content_type).await,
        }
    }

    /// Composes the outcome and lets go of the environment. The log is completed before the answer
    /// only if the answer needs it.
    async fn finish(self, verdict: Verdict) -> Outcome {
        if self.environment.companions.is_some() {
            return Box::pin(extended::finish(self, verdict)).await;
        }
        let Self {
            invoker,
            environment,
            began,
            notes,
            _permit,
            ..
        } = self;
        let mut report = notes.report(began, &verdict.status);
        let failed = verdict.function_error.is_some();
        notes.measure(&invoker, &environment.function, &report, failed);
        if verdict.keep {
            invoker.expect_back(&environment.key);
        }
        let mut outcome = Outcome {
            payload: Payload::Buffered(verdict.payload),
            content_type: verdict.content_type,
            function_error: verdict.function_error,
            log_tail: None,
            report,
        };
        let ending = Ending {
            status: verdict.status,
            message: verdict.message,
        };
        let tasks = invoker.tasks().clone();
        if notes.want_tail {
            report.max_memory_mb = Some(environment.max_memory_mb());
            let log = (&*environment.capture, environment.writer);
            ending.log(
                &invoker,
                log,
                &notes,
                &report,
                environment.function.memory_mb,
            );
            outcome.log_tail = environment.capture.take_tail();
            outcome.report = report;
            environment.capture.flush();
            tasks.spawn(async move { invoker.settle(environment, verdict.keep).await });
        } else {
            tasks.spawn(async move {
                report.max_memory_mb = Some(environment.max_memory_mb());
                let log = (&*environment.capture, environment.writer);
                ending.log(
                    &invoker,
                    log,
                    &notes,
                    &report,
                    environment.function.memory_mb,
                );
                environment.capture.flush();
                invoker.settle(environment, verdict.keep).await;
            });
        }
        outcome
    }

    /// Collects a streamed response for a caller who wants it whole.
    async fn buffer(self, chunks: StreamSource, content_type: Option<String>) -> Outcome {
        let (sender, receiver) = oneshot::channel();
        let tasks = self.invoker.tasks().clone();
        // In a task of its own, so that it goes on when the caller goes away.
        tasks.spawn(async move {
            let verdict = self.collect(chunks, content_type).await;
            let _ = sender.send(self.finish(verdict).await);
        });
        // The task always sends; it cannot be cancelled while this runtime lives.
        receiver.await.unwrap_or_else(|_| Outcome::server_stopped())
    }

    async fn collect(&self, mut chunks: StreamSource, content_type: Option<String>) -> Verdict {
        let mut body = BytesMut::new();
        loop {
            match tokio::time::timeout_at(self.deadline.into(), chunks.next()).await {
                Ok(Chunk::Data(data))
                    if body.len() + data.len() > self.notes.max_response_bytes =>
                {
                    return Verdict::too_large(self.notes.max_response_bytes);
                }
                Ok(Chunk::Data(data)) => body.extend_from_slice(&data),
                Ok(Chunk::End(None)) => return Verdict::success(body.freeze(), content_type),
                Ok(Chunk::End(Some(error))) => return Verdict::reported(error),
                Ok(Chunk::Broken(fault)) => return self.broken_stream(fault),
                Err(_) => return Verdict::timed_out(&self.notes),
            }
        }
    }

    /// Passes a streamed response on while it comes in.
    fn stream(self, chunks: StreamSource, content_type: Option<String>) -> Outcome {
        let (sender, stream) = ResponseStream::channel();
        let report = self.notes.report(self.began, &Status::Success);
        let tasks = self.invoker.tasks().clone();
        tasks.spawn(async move {
            let verdict = self.forward(chunks, &sender).await;
            let error_type = verdict.error_type.clone();
            let failed = verdict.function_error.is_some();
            let outcome = self.finish(verdict).await;
            let end = StreamEnd {
                function_error: outcome.function_error,
                error_type,
                error: outcome.payload.into_buffered().filter(|_| failed),
                log_tail: outcome.log_tail,
                report: outcome.report,
            };
            // The caller may have gone away.
            let _ = sender.send(StreamItem::End(Box::new(end))).await;
        });
        Outcome {
            payload: Payload::Stream(stream),
            content_type,
            function_error: None,
            log_tail: None,
            report,
        }
    }

    async fn forward(&self, mut chunks: StreamSource, to: &mpsc::Sender<StreamItem>) -> Verdict {
        let forwarding = async {
            let mut produced_bytes = 0;
            loop {
                match chunks.next().await {
                    Chunk::Data(data) => {
                        produced_bytes += data.len();
                        // A caller that went away does not stop the function.
                        let _ = to.send(StreamItem::Chunk(data)).await;
                    }
                    Chunk::End(None) => {
                        return Verdict {
                            produced_bytes,
                            ..Verdict::success(Bytes::new(), None)
                        };
                    }
                    Chunk::End(Some(error)) => return Verdict::reported(error),
                    Chunk::Broken(fault) => return self.broken_stream(fault),
                }
            }
        };
        tokio::time::timeout_at(self.deadline.into(), forwarding)
            .await
            .unwrap_or_else(|_| Verdict::timed_out(&self.notes))
    }

    fn broken_stream(&self, fault: StreamFault) -> Verdict {
        match fault {
            StreamFault::Truncated => Verdict::truncated(&self.notes.request_id),
            StreamFault::TooLarge => {
                Verdict::too_large(self.invoker.config().max_streamed_response_bytes)
            }
        }
    }
}

/// The outcome of an invocation whose init failed twice, with its log lines.
pub(crate) fn without_environment(
    invoker: &Invoker,
    function: &Function,
    failed: &FailedInit,
    ticketed: Ticketed,
) -> Outcome {
    let Ticketed {
        invocation,
        began,
        permit: _permit,
    } = ticketed;
    let now = invoker.clock().now();
    let trace = Trace::of(
        invocation.trace_header.as_deref(),
        function.tracing_active,
        now,
    );
    let notes = Notes::new(&invocation, trace, function, invoker);
    let verdict = match &failed.fault {
        InitFault::Crashed(crash) => Verdict::crashed(crash, &notes.request_id),
        InitFault::Reported(fault) => Verdict {
            status: failed.fault.status(),
            keep: false,
            ..Verdict::reported(StreamError {
                error_type: fault.error_type.clone(),
                body: fault.body.clone(),
            })
        },
        InitFault::TimedOut => Verdict::timed_out(&notes),
    };
    let mut report = notes.report(began, &verdict.status);
    report.max_memory_mb = Some(0);
    notes.measure(invoker, function, &report, true);
    let capture = silent_capture(invoker, failed.stream.clone());
    let writer = Writer::of(function);
    capture.begin(
        now,
        writer.start(now, &notes.request_id, &function.version),
        notes.want_tail,
    );
    let ending = Ending {
        status: verdict.status,
        message: verdict.message,
    };
    ending.log(
        invoker,
        (&capture, writer),
        &notes,
        &report,
        function.memory_mb,
    );
    capture.flush();
    Outcome {
        payload: Payload::Buffered(verdict.payload),
        content_type: None,
        function_error: verdict.function_error,
        log_tail: capture.take_tail(),
        report,
    }
}

impl Outcome {
    pub(crate) fn server_stopped() -> Self {
        Self {
            payload: Payload::Buffered(error_body("Sandbox.Failure", "the server stopped")),
            content_type: None,
            function_error: Some(FunctionError::Unhandled),
            log_tail: None,
            report: Report::default(),
        }
    }
}

impl Notes {
    fn new(invocation: &Invocation, trace: Trace, function: &Function, invoker: &Invoker) -> Self {
        Self {
            request_id: invocation.request_id.clone(),
            invoked_arn: invocation.invoked_arn.clone(),
            trace,
            timeout: function.timeout,
            init_duration: None,
            restored: None,
            want_tail: invocation.want_tail,
            mode: invocation.mode,
            max_response_bytes: invoker.config().max_response_bytes,
        }
    }

    /// Tells what AWS counts per invocation. Errors and throttles count as zeros, too, so that their
    /// averages are rates.
    fn measure(&self, invoker: &Invoker, function: &Function, report: &Report, failed: bool) {
        let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
        let values = [
            (Metric::Invocations, 1.0),
            (Metric::Errors, f64::from(u8::from(failed))),
            (Metric::Throttles, 0.0),
            (Metric::Duration, ms(report.duration)),
            (
                Metric::InitDuration,
                ms(report.init_duration.unwrap_or_default()),
            ),
            (
                Metric::RestoreDuration,
                ms(report.restore_duration.unwrap_or_default()),
            ),
        ];
        let known = match (report.init_duration, report.restore_duration) {
            (None, None) => &values[..4],
            (Some(_), None) => &values[..5],
            // A restored environment had no init of its own.
            (_, Some(_)) => &[values[0], values[1], values[2], values[3], values[5]],
        };
        invoker.measure(&Measurement::of_invocation(
            function,
            &self.invoked_arn,
            invoker.clock().now(),
            known,
        ));
    }

    fn report(&self, began: Instant, status: &Status) -> Report {
        self.report_of(match status {
            Status::Timeout => self.timeout,
            _ => began.elapsed(),
        })
    }

    fn report_of(&self, duration: Duration) -> Report {
        let billed_restore = self.restored.map(|restored| whole_millis(restored.hooks));
        let billed = duration + self.init_duration.unwrap_or_default();
        Report {
            duration,
            billed: whole_millis(billed) + billed_restore.unwrap_or_default(),
            max_memory_mb: None,
            init_duration: self.init_duration,
            restore_duration: self.restored.map(|restored| restored.duration),
            billed_restore_duration: billed_restore,
        }
    }
}

/// Rounded up, as everything is billed.
fn whole_millis(duration: Duration) -> Duration {
    Duration::from_millis(
        u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX),
    )
}

/// How the log of an invocation ends.
struct Ending {
    status: Status,
    message: Option<String>,
}

impl Ending {
    /// Takes in what the runtime wrote before its answer, then writes END and REPORT.
    fn log(
        &self,
        invoker: &Invoker,
        (capture, writer): (&Capture, Writer),
        notes: &Notes,
        report: &Report,
        memory_mb: u32,
    ) {
        capture.drain();
        let now = invoker.clock().now();
        let sampled = notes.trace.sampled.as_ref();
        let finished = Finished {
            request_id: &notes.request_id,
            status: &self.status,
            message: self.message.as_deref(),
            report,
            memory_mb,
            trace: sampled.map(|(root, segment)| (root.as_str(), segment.as_str())),
            details: Details::default(),
        };
        writer.finish(now, &finished, |line| capture.push(now, Some(line)));
    }
}

/// What an invocation came to.
struct Verdict {
    payload: Bytes,
    content_type: Option<String>,
    function_error: Option<FunctionError>,
    error_type: Option<String>,
    status: Status,
    /// For the log, when the platform had to step in.
    message: Option<String>,
    /// Bytes of the runtime's answer.
    produced_bytes: usize,
    /// The environment can serve others.
    keep: bool,
}

impl Verdict {
    fn of(landing: Landing, flight: &Flight) -> Self {
        let request_id = &flight.notes.request_id;
        match landing {
            Landing::TimedOut => Self::timed_out(&flight.notes),
            Landing::Extension(fault) => Self::crashed(&fault.into(), request_id),
            Landing::Answer(answer) => match answer {
                Answer::Response { body, content_type } => Self::success(body, content_type),
                // Streams are taken apart before.
                Answer::Stream { .. } | Answer::Truncated => Self::truncated(request_id),
                Answer::Error(fault) => Self::reported(StreamError {
                    error_type: fault.error_type,
                    body: fault.body,
                }),
                Answer::TooLarge => Self::too_large(flight.notes.max_response_bytes),
                Answer::InvalidResponseMode => Self {
                    keep: true,
                    ..Self::crashed(
                        &Crash {
                            error_type: "Runtime.InvalidResponseModeHeader",
                            message: "Invalid function response mode".into(),
                        },
                        request_id,
                    )
                },
                Answer::Exited(exit) => Self::crashed(&flight.environment.crash(&exit), request_id),
            },
        }
    }

    fn success(payload: Bytes, content_type: Option<String>) -> Self {
        Self {
            produced_bytes: payload.len(),
            payload,
            content_type,
            function_error: None,
            error_type: None,
            status: Status::Success,
            message: None,
            keep: true,
        }
    }

    /// The function failed, in its runtime's own words.
    fn reported(error: StreamError) -> Self {
        Self {
            produced_bytes: error.body.len(),
            payload: error.body,
            content_type: None,
            function_error: Some(FunctionError::Unhandled),
            error_type: error.error_type.clone(),
            status: Status::FunctionError(error.error_type),
            message: None,
            keep: true,
        }
    }

    fn too_large(limit: usize) -> Self {
        const ERROR_TYPE: &str = "Function.ResponseSizeTooLarge";
        let message =
            format!("Response payload size exceeded maximum allowed payload size ({limit} bytes).");
        let body = serde_json::json!({"errorMessage": message, "errorType": ERROR_TYPE});
        Self::reported(StreamError {
            error_type: Some(ERROR_TYPE.to_owned()),
            body: body.to_string().into(),
        })
    }

    fn truncated(request_id: &str) -> Self {
        let crash = Crash {
            error_type: "Runtime.TruncatedResponse",
            message: "Runtime response was truncated".into(),
        };
        Self::crashed(&crash, request_id)
    }

    fn crashed(crash: &Crash, request_id: &str) -> Self {
        let message = format!("RequestId: {request_id} Error: {}", crash.message);
        Self {
            payload: error_body(crash.error_type, &message),
            content_type: None,
            function_error: Some(FunctionError::Unhandled),
            error_type: Some(crash.error_type.to_owned()),
            status: Status::Error(crash.error_type.to_owned()),
            message: Some(crash.message.clone()),
            produced_bytes: 0,
            keep: false,
        }
    }

    fn timed_out(notes: &Notes) -> Self {
        const ERROR_TYPE: &str = "Sandbox.Timedout";
        let message = format!(
            "Task timed out after {:.2} seconds",
            notes.timeout.as_secs_f64()
        );
        let body = error_body(
            ERROR_TYPE,
            &format!("RequestId: {} Error: {message}", notes.request_id),
        );
        Self {
            payload: body,
            content_type: None,
            function_error: Some(FunctionError::Unhandled),
            error_type: Some(ERROR_TYPE.to_owned()),
            status: Status::Timeout,
            message: Some(message),
            produced_bytes: 0,
            keep: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use clock::Timestamp;

    use super::*;

    fn notes() -> Notes {
        Notes {
            request_id: "id".into(),
            invoked_arn: String::new(),
            trace: Trace::of(None, false, Timestamp::default()),
            timeout: Duration::from_secs(3),
            init_duration: None,
            restored: None,
            want_tail: false,
            mode: Mode::Buffered,
            max_response_bytes: 0,
        }
    }

    /// Pairs of durations, and what was billed for them, from REPORT lines recorded on AWS.
    #[test]
    fn restore_is_billed_by_what_its_hooks_took() {
        for (duration_us, hooks_us, billed_restore, billed) in [
            (149_530, 162_300, 163, 313),
            (306_340, 303_000, 303, 610),
            (2_338_660, 181_999, 182, 2521),
            (127_100, 25_001, 26, 154),
        ] {
            let report = Notes {
                restored: Some(Restored {
                    duration: Duration::from_millis(500),
                    hooks: Duration::from_micros(hooks_us),
                }),
                ..notes()
            }
            .report_of(Duration::from_micros(duration_us));
            let restore = report.billed_restore_duration;
            assert_eq!(restore, Some(Duration::from_millis(billed_restore)));
            assert_eq!(report.billed, Duration::from_millis(billed));
            assert_eq!(report.restore_duration, Some(Duration::from_millis(500)));
            assert_eq!(report.init_duration, None);
        }
    }

    #[test]
    fn init_is_billed_together_with_the_invocation() {
        let report = Notes {
            init_duration: Some(Duration::from_micros(105_204)),
            ..notes()
        }
        .report_of(Duration::from_micros(1_234));
        assert_eq!(report.billed, Duration::from_millis(107));
        assert_eq!(report.billed_restore_duration, None);
    }
}
