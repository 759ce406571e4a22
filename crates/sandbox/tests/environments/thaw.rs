//! Processes brought back from images.

use std::fs::File;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use anyhow::Context;
use sandbox::{Process, Sandbox, Sandboxes, Spec, Thaw};
use snapshot::{CompileOptions, External, FreezeOptions, Frozen, Memory, Tape};
use tokio::io::AsyncWriteExt;

use crate::harness::{Outcome, config, python, skip};
use crate::tests;

tests![
    a_process_comes_back_in_another_environment,
    a_thawed_process_is_confined_like_any_other,
    scratch_files_come_back,
    an_unusable_tape_ends_the_process_with_a_reason,
    many_clones_leave_nothing_behind,
];

const PORT: u16 = 9001;

/// Answers each line it gets with one on standard output.
const LOOP: &str = "
import os, socket, threading, time
server = socket.create_connection(('127.0.0.1', 9001))
threading.Thread(target=lambda: time.sleep(1e6), daemon=True).start()
count = 40
def status(*names):
    lines = (line.split(':') for line in open('/proc/self/status'))
    return [value.strip() for name, value in lines if name in names]
print('ready', flush=True)
while True:
    line = server.recv(1000).decode()
    if not line:
        break
    count += 1
    print(eval(line), flush=True)
";

struct Image {
    frozen: Frozen,
    pages: File,
    tape: Tape,
}

fn memfd(name: &str) -> anyhow::Result<File> {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    Ok(rustix::fs::memfd_create(name, flags)?.into())
}

fn inode(fd: impl AsFd) -> anyhow::Result<u64> {
    Ok(rustix::fs::fstat(fd)?.st_ino)
}

async fn accept(
    listener: TcpListener,
) -> anyhow::Result<(tokio::net::TcpListener, tokio::net::TcpStream)> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let (stream, _) = listener.accept().await?;
    Ok((listener, stream))
}

/// The output of a process, line by line.
struct Lines(tokio::io::Lines<tokio::io::BufReader<tokio::net::unix::pipe::Receiver>>);

impl Lines {
    fn of(fd: Option<OwnedFd>) -> anyhow::Result<Self> {
        use tokio::io::AsyncBufReadExt;
        let fd = fd.context("the output was taken")?;
        let pipe = tokio::net::unix::pipe::Receiver::from_owned_fd(fd)?;
        Ok(Self(tokio::io::BufReader::new(pipe).lines()))
    }

    async fn next(&mut self) -> anyhow::Result<String> {
        self.0.next_line().await?.context("the output ended")
    }
}

/// Runs [`LOOP`], after `prelude`, up to where it waits for its first line, and freezes it.
async fn freeze(sandboxes: &Sandboxes, prelude: &str) -> anyhow::Result<Image> {
    let mut prepared = sandboxes.take().await?;
    let listener = prepared.listener(PORT)?;
    let sandbox = prepared.enter(Spec::default()).await?;
    let mut process = sandbox.spawn(python(&format!("{prelude}\n{LOOP}"))).await?;
    let (stdout, stderr) = (process.stdout(), process.stderr());
    let externals = [
        (
            External::Output,
            inode(stdout.as_ref().context("no output")?)?,
        ),
        (
            External::Error,
            inode(stderr.as_ref().context("no errors")?)?,
        ),
    ];
    let mut lines = Lines::of(stdout)?;
    let (_listener, _stream) = accept(listener).await?;
    anyhow::ensure!(lines.next().await? == "ready");
    // It is on its way into `recv`, which the freeze finds it in or before.
    let pid = process.host_pid()?;
    let pages = memfd("pages")?;
    let writable = pages.try_clone()?;
    let frozen = tokio::task::spawn_blocking(move || {
        let options = FreezeOptions {
            externals: &externals,
            local_listeners: &[PORT],
            ..FreezeOptions::default()
        };
        snapshot::freeze(pid, &options, &writable)
    })
    .await??;
    sandbox.destroy().await;
    let checked = snapshot::Image::decode(&frozen.image.encode())?;
    anyhow::ensure!(
        checked == frozen.image,
        "the image does not survive its encoding"
    );
    let tape = compile(sandboxes, &frozen)?;
    Ok(Image {
        frozen,
        pages,
        tape,
    })
}

fn compile(sandboxes: &Sandboxes, frozen: &Frozen) -> anyhow::Result<Tape> {
    let confinement = sandboxes.confinement().context("no confinement")?;
    let options = CompileOptions {
        memory: Memory::Shared,
        confinement: Some(snapshot::Confinement {
            uid: confinement.uid,
            gid: confinement.gid,
            drop_groups: confinement.drop_groups,
            filter: &confinement.filter,
        }),
        ..CompileOptions::default()
    };
    Ok(snapshot::compile(&frozen.image, &options)?)
}

struct Clone {
    sandbox: Sandbox,
    process: Process,
    lines: Lines,
    stream: tokio::net::TcpStream,
}

impl Clone {
    async fn ask(&mut self, expression: &str) -> anyhow::Result<String> {
        self.stream.write_all(expression.as_bytes()).await?;
        match self.lines.next().await {
            Ok(line) => Ok(line),
            Err(_) => anyhow::bail!("{}", crate::harness::read(self.process.stderr()).await?),
        }
    }
}

async fn begin(
    sandboxes: &Sandboxes,
    image: &Image,
) -> anyhow::Result<(Sandbox, Process, TcpListener)> {
    let mut prepared = sandboxes.take().await?;
    let listener = prepared.listener(PORT)?;
    // The clones must not be able to write what they share.
    let pages = File::open(format!("/proc/self/fd/{}", image.pages.as_raw_fd()))?;
    let scratch = snapshot::encode_scratch(&image.frozen.image)
        .map(|list| {
            let file = memfd("scratch")?;
            std::os::unix::fs::FileExt::write_all_at(&file, &list, 0)?;
            anyhow::Ok(file)
        })
        .transpose()?;
    let thaw = Thaw {
        pid: image.tape.pid(),
        tape: image.tape.file(),
        pages: pages.as_fd(),
        log: None,
        userfault: None,
        scratch: scratch.as_ref().map(AsFd::as_fd),
    };
    let (sandbox, process) = prepared.enter_thawing(Spec::default(), thaw).await?;
    Ok((sandbox, process, listener))
}

async fn thaw(sandboxes: &Sandboxes, image: &Image) -> anyhow::Result<Clone> {
    let (sandbox, mut process, listener) = begin(sandboxes, image).await?;
    let lines = Lines::of(process.stdout())?;
    let (_, stream) = tokio::select! {
        accepted = accept(listener) => accepted?,
        exit = process.wait() => anyhow::bail!("{exit:?}: {:?}", process.thaw_failure()),
    };
    Ok(Clone {
        sandbox,
        process,
        lines,
        stream,
    })
}

async fn a_process_comes_back_in_another_environment() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    if sandboxes.confinement().is_none() {
        return skip("thawing needs user namespaces");
    }
    let image = freeze(&sandboxes, "import random").await?;
    for _ in 0..3 {
        let mut clone = thaw(&sandboxes, &image).await?;
        assert_eq!(clone.ask("count").await?, "41");
        assert_eq!(
            clone.ask("(count, threading.active_count())").await?,
            "(42, 2)"
        );
        assert_eq!(
            clone.ask("os.getpid()").await?,
            clone.process.pid().to_string()
        );
        drop(clone.stream);
        let exit = clone.process.wait().await;
        assert_eq!(
            exit,
            sandbox::Exit::Code(0),
            "{:?}",
            clone.process.thaw_failure()
        );
        clone.sandbox.destroy().await;
    }
    sandboxes.shutdown().await;
    Ok(())
}

async fn a_thawed_process_is_confined_like_any_other() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    if sandboxes.confinement().is_none() {
        return skip("thawing needs user namespaces");
    }
    let names = "'Uid', 'Gid', 'Groups', 'CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb', \
                 'NoNewPrivs', 'Seccomp', 'Seccomp_filters', 'SigIgn', 'SigCgt', 'SigBlk'";
    let limits = "open('/proc/self/limits').read()";
    let facts = format!(
        "(status({names}), {limits}, os.listdir('/proc/self/fd') != [], os.getcwd(), \
         open('/proc/self/oom_score_adj').read(), os.getsid(0), os.environ, \
         os.readlink('/proc/self/exe'), os.stat('/proc/self/mem').st_uid)"
    );
    let image = freeze(&sandboxes, &format!("born = lambda: {facts}")).await?;
    // What the same program says when it was never frozen.
    let mut prepared = sandboxes.take().await?;
    let listener = prepared.listener(PORT)?;
    let sandbox = prepared.enter(Spec::default()).await?;
    let script = format!("born = lambda: {facts}\n{LOOP}");
    let mut process = sandbox.spawn(python(&script)).await?;
    let mut lines = Lines::of(process.stdout())?;
    let (_listener, mut stream) = accept(listener).await?;
    lines.next().await?;
    stream.write_all(b"born()").await?;
    let ordinary = lines.next().await?;
    let mut clone = thaw(&sandboxes, &image).await?;
    assert_eq!(clone.ask("born()").await?, ordinary);
    // No descriptor of the server's stays behind.
    let open = clone
        .ask("sorted(map(int, os.listdir('/proc/self/fd')))")
        .await?;
    stream
        .write_all(b"sorted(map(int, os.listdir('/proc/self/fd')))")
        .await?;
    assert_eq!(open, lines.next().await?);
    let capabilities = "set(l for p in __import__('glob').glob('/proc/self/task/*/status') for l in open(p) \
         if l.startswith(('CapEff', 'CapPrm', 'Seccomp:', 'Uid')))";
    let set = clone.ask(&format!("len({capabilities})")).await?;
    assert_eq!(set, "4", "all threads are confined alike");
    sandboxes.shutdown().await;
    Ok(())
}

async fn scratch_files_come_back() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    if sandboxes.confinement().is_none() {
        return skip("thawing needs user namespaces");
    }
    let prelude = "
import os
os.mkdir('/tmp/dir')
open('/tmp/dir/file', 'wb').write(bytes(range(256)) * 40)
os.chmod('/tmp/dir/file', 0o640)
os.utime('/tmp/dir/file', (5, 7))
os.chmod('/tmp/dir', 0o500)
os.symlink('/etc/passwd', '/tmp/link')
held = open('/tmp/held', 'w+'); held.write('abc'); held.flush()
gone = open('/tmp/gone', 'w+'); gone.write('xyz'); gone.flush(); os.unlink('/tmp/gone')
";
    let image = freeze(&sandboxes, prelude).await?;
    let mut clone = thaw(&sandboxes, &image).await?;
    let content = "open('/tmp/dir/file','rb').read() == bytes(range(256)) * 40";
    assert_eq!(clone.ask(content).await?, "True");
    let facts = "(lambda s: (oct(s.st_mode), s.st_mtime, s.st_uid == os.getuid()))(os.stat('/tmp/dir/file'))";
    assert_eq!(clone.ask(facts).await?, "('0o100640', 7.0, True)");
    assert_eq!(
        clone.ask("oct(os.stat('/tmp/dir').st_mode)").await?,
        "0o40500"
    );
    assert_eq!(clone.ask("os.readlink('/tmp/link')").await?, "/etc/passwd");
    assert_eq!(
        clone
            .ask("(held.write('d'), held.flush(), open('/tmp/held').read())[2]")
            .await?,
        "abcd"
    );
    assert_eq!(
        clone
            .ask("(gone.seek(0), gone.read(), os.path.exists('/tmp/gone'))[1:]")
            .await?,
        "('xyz', False)"
    );
    sandboxes.shutdown().await;
    Ok(())
}

async fn an_unusable_tape_ends_the_process_with_a_reason() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    if sandboxes.confinement().is_none() {
        return skip("thawing needs user namespaces");
    }
    let mut image = freeze(&sandboxes, "").await?;
    let program = image
        .frozen
        .image
        .files
        .first_mut()
        .context("no mapped files")?;
    program.size += 1;
    image.tape = compile(&sandboxes, &image.frozen)?;
    let (_sandbox, process, _listener) = begin(&sandboxes, &image).await?;
    assert_eq!(process.wait().await, sandbox::Exit::Code(98));
    let reason = process.thaw_failure().unwrap_or_default();
    assert!(reason.contains("not the file"), "{reason:?}");
    sandboxes.shutdown().await;
    Ok(())
}

async fn many_clones_leave_nothing_behind() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    if sandboxes.confinement().is_none() {
        return skip("thawing needs user namespaces");
    }
    let image = freeze(&sandboxes, "").await?;
    let open = || std::fs::read_dir("/proc/self/fd").map(Iterator::count);
    let mut counts = Vec::new();
    for _ in 0..4 {
        for _ in 0..10 {
            let mut clone = thaw(&sandboxes, &image).await?;
            assert_eq!(clone.ask("count").await?, "41");
            clone.sandbox.destroy().await;
        }
        counts.push(open()?);
    }
    // The pool of prepared environments comes and goes by a few.
    assert!(counts[3] <= counts[1] + 20, "{counts:?}");
    sandboxes.shutdown().await;
    Ok(())
}
