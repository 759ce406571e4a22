//! Node.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use snapshot::Memory;

use crate::programs::Program;

const LOOP: &str = r#"
const crypto = require('crypto'), fs = require('fs'), zlib = require('zlib');
const child_process = require('child_process'), { Worker } = require('worker_threads');
globalThis.signals = 0;
process.on('SIGUSR2', () => signals++);
globalThis.ticks = 0;
// Busy at times, as when it is frozen.
setInterval(() => { ticks++; for (const from = Date.now(); Date.now() - from < 4; ); }, 10);
crypto.randomBytes(8);
zlib.gzipSync('x'.repeat(1000));
const socket = require('net').connect(9001, '127.0.0.1', () => fs.readFile('/etc/hostname', () => socket.write('ready\n')));
let rest = '';
socket.on('data', async chunk => {
  rest += chunk;
  for (let end; (end = rest.indexOf('\n')) >= 0;) {
    const line = rest.slice(0, end);
    rest = rest.slice(end + 1);
    let value;
    try { value = await eval(line); } catch (error) { value = error.stack.split('\n')[0]; }
    socket.write(String(value) + '\n');
  }
});
socket.on('end', () => process.exit(0));
"#;

pub fn works_on() -> Result<()> {
    if !std::path::Path::new("/usr/bin/node").exists() {
        eprintln!("SKIPPED: no /usr/bin/node");
        return Ok(());
    }
    let program = Program::freeze(&["/usr/bin/node", "--expose-gc", "-e", LOOP])?;
    ensure!(!program.image.reseed.is_empty(), "nothing is reseeded");
    let tape = program.tape(Memory::Shared, None)?;
    let mut seen = BTreeSet::new();
    for _ in 0..10 {
        let (mut cage, mut peer) = program.thaw(&tape)?;
        let sleep = "new Promise(done => setTimeout(done, 50))";
        for (question, answer) in [
            ("1 + 1", "2"),
            ("zlib.gunzipSync(zlib.gzipSync('text')).toString()", "text"),
            (
                "fs.promises.readFile('/proc/self/comm', 'utf8').then(text => text.trim())",
                "node",
            ),
            (
                "new Promise(done => zlib.gzip('x', (_, out) => done(out.length > 0)))",
                "true",
            ),
            ("gc(); 'collected'", "collected"),
            ("process.kill(process.pid, 'SIGUSR2')", "true"),
            (sleep, "undefined"),
            ("signals", "1"),
            ("ticks > 2", "true"),
            (
                "child_process.execSync('echo $((6*7))').toString().trim()",
                "42",
            ),
            (
                "new Promise(done => new Worker('require(\"worker_threads\").parentPort.postMessage(7)', {eval: true}).on('message', done))",
                "7",
            ),
            (
                "let f = n => n ? f(n - 1) : 0; try { f(1e6) } catch (e) { e.name }",
                "RangeError",
            ),
            (
                "let a = []; for (let i = 0; i < 1e6; i++) a.push({i}); a.length",
                "1000000",
            ),
        ] {
            let is = peer.ask(question)?;
            ensure!(is == answer, "{question}: {is}, not {answer}");
        }
        let value = peer.ask("crypto.randomBytes(16).toString('hex')")?;
        ensure!(seen.insert(value.clone()), "{value} repeats");
        drop(peer);
        let status = cage.wait()?;
        ensure!(status == 0, "status {status}");
    }
    Ok(())
}
