use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use clock::{Clock, Timestamp};
use tokio::net::unix::pipe;
use tokio::task::JoinSet;

use super::levels::LevelFilter;
use super::tail::Tail;
use super::{FrameParser, LineSplitter, LogLevel};
use crate::telemetry::{Category, Telemetry};
use crate::{Function, Hooks, LogBatch};

/// The log stream of one environment: its account, group and name. Outlives a restarted init.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub account: Arc<str>,
    pub region: Arc<str>,
    pub group: Arc<str>,
    pub name: Arc<str>,
}

impl Stream {
    /// `2026/11/22/[$LATEST]<32 hex>`, a new one per environment. In a log group that is not the
    /// function's own, and may be shared, with the function's name before the version.
    pub fn new(function: &Function, now: Timestamp) -> Self {
        let day = now.to_jiff().strftime("%Y/%m/%d").to_string();
        let unique = uuid::Uuid::new_v4().simple();
        let own = function.log_group.strip_prefix("/aws/lambda/") == Some(&function.name);
        let name = if own { "" } else { &function.name };
        Self {
            account: function.account.as_str().into(),
            region: function.region.as_str().into(),
            group: function.log_group.as_str().into(),
            name: format!("{day}/{name}[{}]{unique}", function.version).into(),
        }
    }
}

/// The read ends of what an environment's processes write to.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    pub lines: Vec<OwnedFd>,
    pub frames: Option<OwnedFd>,
}

/// Brings the output of processes and the platform's lines into one ordered stream of events.
///
/// Two parties read the pipes: tasks that wait for output, and [`Capture::drain`], which reads what
/// is there right now. Output that a runtime wrote before its response is in the pipe when the
/// response arrives, so draining then puts it before END and into the tail.
pub(crate) struct Capture {
    state: Mutex<State>,
    stream: Stream,
    hooks: Hooks,
    clock: Clock,
    telemetry: Arc<Telemetry>,
}

struct State {
    sources: Vec<Source>,
    /// How many of the sources have a task that reads them.
    tended: usize,
    sink: Sink,
    buffer: Box<[u8]>,
}

/// Something that is printed to.
struct Source {
    pipe: Arc<pipe::Receiver>,
    decoder: Decoder,
    category: Category,
}

enum Decoder {
    Lines(LineSplitter),
    Frames(FrameParser),
    Ended,
}

/// Where events go.
struct Sink {
    pending: Vec<(Timestamp, String)>,
    /// Among them there is one that was printed.
    printed: bool,
    tail: Option<Tail>,
    filter: LevelFilter,
    telemetry: Arc<Telemetry>,
}

/// Read at once, and about the size of a pipe.
const BUFFER_BYTES: usize = 16 * 1024;
/// A drain that met more than this leaves the rest to the tasks: someone writes without end.
const MAX_DRAIN_READS: usize = 64;

#[derive(Debug, PartialEq, Eq)]
enum Read {
    Some,
    Empty,
    Ended,
}

impl Capture {
    /// For the platform's lines; [`Capture::add`] adds what processes print.
    pub fn new(stream: Stream, hooks: Hooks, clock: Clock, telemetry: Arc<Telemetry>) -> Self {
        let state = State {
            sources: Vec::new(),
            tended: 0,
            sink: Sink {
                pending: Vec::new(),
                printed: false,
                tail: None,
                filter: LevelFilter::default(),
                telemetry: Arc::clone(&telemetry),
            },
            buffer: Box::default(),
        };
        Self {
            state: Mutex::new(state),
            stream,
            hooks,
            clock,
            telemetry,
        }
    }

    /// Drops lines that the function does not want to keep.
    pub fn filtered(self, filter: LevelFilter) -> Self {
        self.lock().sink.filter = filter;
        self
    }

    pub fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }

    /// Takes over pipes. Must be called inside a tokio runtime.
    pub fn add(&self, sources: Sources, category: Category) -> io::Result<()> {
        let lines = sources.lines.into_iter();
        let lines = lines.map(|fd| (fd, Decoder::Lines(LineSplitter::default())));
        let frames = sources.frames.into_iter();
        let frames = frames.map(|fd| (fd, Decoder::Frames(FrameParser::default())));
        let mut state = self.lock();
        if state.buffer.is_empty() {
            state.buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
        }
        for (fd, decoder) in lines.chain(frames) {
            state.sources.push(Source {
                pipe: Arc::new(pipe::Receiver::from_owned_fd(fd)?),
                decoder,
                category,
            });
        }
        Ok(())
    }

    /// Tasks that read until the pipes end. Whoever holds the set stops them by dropping it.
    pub fn spawn_readers(self: &Arc<Self>) -> JoinSet<()> {
        let mut readers = JoinSet::new();
        self.tend(&mut readers);
        readers
    }

    /// Adds such tasks for the pipes that have none yet.
    pub fn tend(self: &Arc<Self>, readers: &mut JoinSet<()>) {
        let mut state = self.lock();
        for index in state.tended..state.sources.len() {
            let (capture, pipe) = (Arc::clone(self), Arc::clone(&state.sources[index].pipe));
            readers.spawn(async move { capture.read_until_end(index, &pipe).await });
        }
        state.tended = state.sources.len();
    }

    /// Adds a line of the platform. It goes out with the next [`Capture::flush`].
    pub fn push(&self, time: Timestamp, line: Option<String>) {
        if let Some(line) = line {
            self.lock().sink.emit(time, line);
        }
    }

    /// An invocation begins, with this START line; its tail is collected if wanted.
    pub fn begin(&self, time: Timestamp, start: Option<String>, want_tail: bool) {
        let mut state = self.lock();
        state.sink.tail = want_tail.then(Tail::default);
        if let Some(start) = start {
            state.sink.emit(time, start);
        }
    }

    /// It did not begin after all: the line it brought is taken back.
    pub fn unbegin(&self) {
        let mut state = self.lock();
        state.sink.tail = None;
        state.sink.pending.pop();
    }

    pub fn take_tail(&self) -> Option<Bytes> {
        self.lock().sink.tail.take().map(Tail::into_bytes)
    }

    /// Takes in everything that was written so far, unfinished lines included.
    pub fn drain(&self) {
        let mut state = self.lock();
        for index in 0..state.sources.len() {
            for _ in 0..MAX_DRAIN_READS {
                if self.read_now(&mut state, index) != Read::Some {
                    break;
                }
            }
            state.flush_decoder(index, self.clock.now());
        }
    }

    /// Passes all events on.
    pub fn flush(&self) {
        let mut state = self.lock();
        let events = std::mem::take(&mut state.sink.pending);
        state.sink.printed = false;
        if events.is_empty() {
            return;
        }
        // Still under the lock, so that batches arrive in order; the hook does not block.
        (self.hooks.logs)(LogBatch {
            account: Arc::clone(&self.stream.account),
            region: Arc::clone(&self.stream.region),
            group: Arc::clone(&self.stream.group),
            stream: Arc::clone(&self.stream.name),
            events,
        });
        drop(state);
    }

    /// Passes all events on, unless there are none but the platform's.
    pub fn flush_printed(&self) {
        if self.lock().sink.printed {
            self.flush();
        }
    }

    async fn read_until_end(&self, index: usize, pipe: &pipe::Receiver) {
        while pipe.readable().await.is_ok() {
            let read = {
                let mut state = self.lock();
                // Goes through tokio, so that an empty pipe is waited for again.
                let read = pipe.try_read(&mut state.buffer);
                self.take(&mut state, index, read)
            };
            match read {
                Read::Some => {
                    self.flush();
                    // A process that writes without end must not keep others from their turn.
                    tokio::task::yield_now().await;
                }
                Read::Empty => {}
                Read::Ended => {
                    self.flush();
                    return;
                }
            }
        }
    }

    /// Reads what is there now, whether or not the event loop has noticed it.
    fn read_now(&self, state: &mut State, index: usize) -> Read {
        let State {
            sources, buffer, ..
        } = state;
        let read = rustix::io::read(&*sources[index].pipe, &mut **buffer);
        self.take(state, index, read.map_err(io::Error::from))
    }

    fn take(&self, state: &mut State, index: usize, read: io::Result<usize>) -> Read {
        match read {
            Ok(0) => {
                state.end_decoder(index, self.clock.now());
                Read::Ended
            }
            Ok(size) => {
                state.decode(index, size, self.clock.now());
                Read::Some
            }
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => Read::Empty,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => Read::Some,
            Err(_) => Read::Ended,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The hook may panic while the lock is held; the events are whole nevertheless.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Capture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Capture")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

impl State {
    fn decode(&mut self, index: usize, size: usize, now: Timestamp) {
        let bytes = &self.buffer[..size];
        let (source, sink) = (&mut self.sources[index], &mut self.sink);
        let category = source.category;
        match &mut source.decoder {
            Decoder::Lines(lines) => {
                lines.push(bytes, |text| sink.print(category, (now, None), text));
            }
            Decoder::Frames(frames) => frames.push(bytes, |message| {
                let time = message.time.unwrap_or(now);
                sink.print(category, (time, message.level), message.text);
            }),
            Decoder::Ended => {}
        }
    }

    fn flush_decoder(&mut self, index: usize, now: Timestamp) {
        let (source, sink) = (&mut self.sources[index], &mut self.sink);
        let category = source.category;
        match &mut source.decoder {
            Decoder::Lines(lines) => {
                lines.flush(|text| sink.print(category, (now, None), text));
            }
            // Half a frame is completed by the next write, unless its writer is gone.
            Decoder::Frames(_) | Decoder::Ended => {}
        }
    }

    fn end_decoder(&mut self, index: usize, now: Timestamp) {
        self.flush_decoder(index, now);
        let (source, sink) = (&mut self.sources[index], &mut self.sink);
        let category = source.category;
        if let Decoder::Frames(frames) = &mut source.decoder {
            frames.flush(|message| {
                let time = message.time.unwrap_or(now);
                sink.print(category, (time, message.level), message.text);
            });
        }
        source.decoder = Decoder::Ended;
    }
}

impl Sink {
    /// A line of the function or of an extension.
    fn print(
        &mut self,
        category: Category,
        (time, level): (Timestamp, Option<LogLevel>),
        text: String,
    ) {
        self.telemetry.line(category, time, &text);
        if category != Category::Function || self.filter.keeps(level, &text) {
            self.emit(time, text);
            self.printed = true;
        }
    }

    fn emit(&mut self, time: Timestamp, text: String) {
        if let Some(tail) = &mut self.tail {
            tail.push(&text);
            if !text.ends_with('\n') {
                tail.push("\n");
            }
        }
        self.pending.push((time, text));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn pipe() -> (OwnedFd, io::PipeWriter) {
        let (reader, writer) = io::pipe().unwrap();
        (OwnedFd::from(reader), writer)
    }

    type Seen = Arc<Mutex<Vec<String>>>;

    fn capture(sources: Sources) -> (Arc<Capture>, Seen) {
        let seen = Seen::default();
        let hooks = Hooks {
            logs: {
                let seen = Arc::clone(&seen);
                Arc::new(move |batch| {
                    seen.lock()
                        .unwrap()
                        .extend(batch.events.into_iter().map(|(_, text)| text));
                })
            },
            ..Hooks::none()
        };
        let stream = Stream {
            account: "a".into(),
            region: "r".into(),
            group: "g".into(),
            name: "n".into(),
        };
        let telemetry = Arc::new(Telemetry::off(Clock::system()));
        let capture = Capture::new(stream, hooks, Clock::system(), telemetry);
        capture.add(sources, Category::Function).unwrap();
        (Arc::new(capture), seen)
    }

    #[tokio::test]
    async fn output_written_before_the_drain_comes_before_the_end() {
        let (reader, mut writer) = pipe();
        let (capture, seen) = capture(Sources {
            lines: vec![reader],
            frames: None,
        });
        capture.begin(Timestamp::default(), Some("START\n".into()), true);
        writer.write_all(b"one\ntwo without line break").unwrap();
        capture.drain();
        capture.push(Timestamp::default(), Some("END\n".into()));
        assert_eq!(
            capture.take_tail().unwrap(),
            "START\none\ntwo without line break\nEND\n".as_bytes()
        );
        capture.flush();
        assert_eq!(
            *seen.lock().unwrap(),
            ["START\n", "one\n", "two without line break", "END\n"]
        );
    }

    #[tokio::test]
    async fn readers_pass_output_on_and_end_with_the_pipe() {
        let (reader, mut writer) = pipe();
        let (capture, seen) = capture(Sources {
            lines: vec![reader],
            frames: None,
        });
        let mut readers = capture.spawn_readers();
        writer.write_all(b"late\nrest").unwrap();
        drop(writer);
        while readers.join_next().await.is_some() {}
        assert_eq!(*seen.lock().unwrap(), ["late\n", "rest"]);
    }

    #[test]
    fn stream_name_has_day_version_and_a_unique_part() {
        let function = crate::testing::function();
        let stream = Stream::new(&function, Timestamp::from_secs(1_795_305_600));
        let (prefix, unique) = stream.name.split_once(']').unwrap();
        assert_eq!(prefix, "2026/11/22/[$LATEST");
        assert_eq!(unique.len(), 32);
        let shared = Function {
            log_group: "/team/all".into(),
            ..function
        };
        let stream = Stream::new(&shared, Timestamp::from_secs(1_795_305_600));
        assert!(
            stream.name.starts_with("2026/11/22/f[$LATEST]"),
            "{}",
            stream.name
        );
    }
}
