//! What code inside must not be able to do, tried as an attacker would.

use std::os::unix::net::UnixListener;

use sandbox::{Exit, Sandboxes, Spec};

use crate::harness::{
    Outcome, code, config, enter, mount, output, py, python, rootless, sh, shell, skip,
    wait_for_line,
};
use crate::tests;

tests![
    nothing_of_the_host_can_be_read,
    files_of_another_environment_cannot_be_reached,
    every_privilege_is_gone,
    init_cannot_be_seen_traced_signalled_or_limited,
    only_own_processes_exist,
    proc_cannot_be_used_to_change_or_leave_anything,
    dangerous_calls_are_refused,
    raw_calls_are_refused_too,
    device_nodes_are_of_no_use,
    setuid_programs_gain_nothing,
    the_network_is_its_own,
    a_neighbours_listener_cannot_be_reached,
    the_hosts_sockets_cannot_be_reached,
    special_sockets_cannot_be_made,
    shared_memory_and_queues_are_private,
    no_descriptor_leaks_in,
    no_variable_leaks_in,
    terminals_cannot_be_fed,
    init_survives_whatever_is_thrown_at_it,
];

/// Python that calls the kernel directly.
const PRELUDE: &str = "\
import ctypes, errno, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def call(n, *a):
    ctypes.set_errno(0)
    r = libc.syscall(ctypes.c_long(n), *[ctypes.c_void_p(x) if isinstance(x, int) else x for x in a])
    return 'OK' if r >= 0 else errno.errorcode[ctypes.get_errno()]
def attempt(f, *a):
    try: f(*a); return 'OK'
    except OSError as e: return errno.errorcode[e.errno]
";

fn prelude(script: &str) -> String {
    format!("{PRELUDE}{script}")
}

async fn nothing_of_the_host_can_be_read() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    let secret = tempfile::Builder::new().prefix("firn-secret").tempdir()?;
    std::fs::write(secret.path().join("key"), "host secret")?;
    let task = code(&[("f", "x")])?;
    std::os::unix::fs::symlink(secret.path().join("key"), task.path().join("link"))?;
    std::os::unix::fs::symlink("../../../../../../../../etc/shadow", task.path().join("up"))?;
    let spec = Spec {
        mounts: vec![mount(task.path(), "/var/task")],
        ..Spec::default()
    };
    let sandbox = enter(&sandboxes, spec).await?;
    let secret = secret.path().join("key");
    let script = format!(
        "for f in /root /home /boot /srv /mnt /media /etc/shadow /etc/gshadow /etc/ssh \
         /etc/sudoers /var/lib /var/log /var/run /lost+found {0} /var/task/link /var/task/up \
         /proc/1/root{0} /proc/self/root{0} /proc/self/cwd/../..{0} /dev/vda /dev/mem /dev/kvm \
         /dev/loop0 /dev/loop-control /dev/tty /dev/fuse /dev/net/tun /sys/fs/cgroup /sys/kernel \
         /new /old; do ls -d $f/ >/dev/null 2>&1 && echo directory $f; \
         cat $f >/dev/null 2>&1 && echo file $f; done; true",
        secret.display()
    );
    assert_eq!(sh(&sandbox, &script).await?.stdout, "");
    let walked = "import os\nfor d, s, f in os.walk('/'):\n  if d == '/': s[:] = [x for x in s if x \
                  not in ('usr', 'proc')]\n  for n in f + s:\n    p = os.path.join(d, n)\n    if \
                  os.access(p, os.W_OK) and not os.path.islink(p): print(p)";
    let writable = py(&sandbox, walked).await?;
    let mut writable: Vec<_> = writable.lines().collect();
    writable.sort_unstable();
    let expected = [
        "/dev/full",
        "/dev/null",
        "/dev/random",
        "/dev/shm",
        "/dev/urandom",
        "/dev/zero",
        "/tmp",
    ];
    assert_eq!(writable, expected);
    let passwd = sh(&sandbox, "cut -d: -f1 /etc/passwd | tr '\\n' ' '")
        .await?
        .stdout;
    assert_eq!(passwd, "root sbx_user1051 nobody ");
    Ok(())
}

async fn files_of_another_environment_cannot_be_reached() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    let (victim, attacker) = (
        enter(&sandboxes, Spec::default()),
        enter(&sandboxes, Spec::default()),
    );
    let (victim, attacker) = (victim.await?, attacker.await?);
    let mut holder = victim
        .spawn(shell(
            "echo secret > /tmp/secret; echo secret > /dev/shm/secret; echo ok; exec sleep 60",
        ))
        .await?;
    wait_for_line(&mut holder).await?;
    let script = "find / -name 'secret*' -not -path '/usr/*' -not -path '/proc/sys/*' 2>/dev/null; \
                  for p in /proc/[0-9]*; do cat $p/root/tmp/secret $p/cwd/tmp/secret 2>/dev/null; done; true";
    assert_eq!(sh(&attacker, script).await?.stdout, "");
    if rootless() {
        return Ok(());
    }
    // Not even the numbers of the host users are shared.
    let owner = |process: &sandbox::Process| {
        let fd = std::os::fd::AsRawFd::as_raw_fd(&process.pidfd());
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
        let pid = info
            .lines()
            .find_map(|line| line.strip_prefix("Pid:"))
            .unwrap_or_default()
            .trim();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status
            .lines()
            .find(|line| line.starts_with("Uid:"))
            .map(str::to_owned)
    };
    let other = attacker.spawn(shell("exec sleep 60")).await?;
    let (one, two) = (owner(&holder), owner(&other));
    assert!(
        one.is_some() && two.is_some() && one != two,
        "{one:?} {two:?}"
    );
    assert!(!one.unwrap_or_default().contains("\t0\t"));
    Ok(())
}

async fn every_privilege_is_gone() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    let sandbox = enter(&sandboxes, Spec::default()).await?;
    let status = sh(&sandbox, "cat /proc/self/status").await?.stdout;
    let field = |name: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().trim().to_owned()
    };
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!(field("NoNewPrivs"), "1");
    assert_eq!(field("Seccomp"), "2");
    assert_eq!(field("Uid"), "993\t993\t993\t993");
    assert_eq!(field("SigIgn"), "0000000000000000");
    assert_eq!(field("SigBlk"), "0000000000000000");
    if !rootless() {
        assert_eq!(field("Groups"), "");
    }
    let script = prelude(
        "print(attempt(os.setuid, 0), attempt(os.setgid, 0), attempt(os.setgroups, [0]), \
         attempt(os.chown, '/tmp', 0, 0), attempt(os.nice, -5), attempt(os.setuid, 65534))",
    );
    // A user that does not exist inside is an invalid argument.
    let answers = py(&sandbox, &script).await?;
    assert!(
        answers
            .split(' ')
            .all(|answer| ["EPERM", "EINVAL"].contains(&answer)),
        "{answers}"
    );
    Ok(())
}

async fn init_cannot_be_seen_traced_signalled_or_limited() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    let sandbox = enter(&sandboxes, Spec::default()).await?;
    let script = "ls /proc/1 2>/dev/null && echo seen; cat /proc/1/mem /proc/1/environ /proc/1/maps \
                  /proc/1/cmdline 2>/dev/null; ls /proc/1/root/ /proc/1/fd/ /proc/1/cwd/ \
                  /proc/1/ns/ /proc/1/task/1/fd/ 2>/dev/null; true";
    assert_eq!(sh(&sandbox, script).await?.stdout, "");
    let script = prelude(
        "import signal, resource, sys
tried = set()
for s in range(1, 65):
    tried.add(attempt(os.kill, 1, s))
print(tried <= {'OK', 'EPERM'}, attempt(lambda: resource.prlimit(1, resource.RLIMIT_NOFILE, (0, 0))),
      attempt(os.sched_setscheduler, 1, os.SCHED_FIFO, os.sched_param(1)),
      call(101, 16, 1, 0, 0), call(310, 1, 0, 0, 0, 0, 0), call(312, os.getpid(), 1, 0, 0, 0))",
    );
    // PermissionError of prlimit has no number in its exception on some versions.
    let answer = py(
        &sandbox,
        &script.replace(
            "attempt(lambda: resource.prlimit(1, resource.RLIMIT_NOFILE, (0, 0)))",
            "call(302, 1, 7, (ctypes.c_long * 2)(0, 0), 0)",
        ),
    )
    .await?;
    assert_eq!(answer, "True EPERM EPERM EPERM EPERM EPERM");
    assert_eq!(sh(&sandbox, "echo alive").await?.stdout, "alive\n");
    Ok(())
}

async fn only_own_processes_exist() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    let (one, two) = (
        enter(&sandboxes, Spec::default()),
        enter(&sandboxes, Spec::default()),
    );
    let (one, two) = (one.await?, two.await?);
    let neighbour = one.spawn(shell("exec sleep 60")).await?;
    let script = prelude(
        "own = [p for p in os.listdir('/proc') if p.isdigit()]
found = [p for p in range(1, 40000) if p not in (1, os.getpid()) and attempt(os.kill, p, 0) != 'ESRCH']
print(len(own), found, attempt(os.kill, -1, 9))",
    );
    // A signal to everybody reaches nobody but the sender's own environment.
    let answer = output(&two, python(&script)).await?;
    assert!(
        answer.stdout.starts_with("1 [] "),
        "{} {}",
        answer.stdout,
        answer.stderr
    );
    neighbour.signal(0).ok();
    assert_eq!(sh(&one, "pgrep -c sleep").await?.stdout, "1\n");
    Ok(())
}

async fn proc_cannot_be_used_to_change_or_leave_anything() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    let sandbox = enter(&sandboxes, Spec::default()).await?;
    let script = "for f in /proc/sysrq-trigger /proc/sys/kernel/core_pattern \
        /proc/sys/kernel/modprobe /proc/sys/vm/overcommit_memory /proc/sys/kernel/hostname \
        /proc/sys/net/ipv4/ip_forward /proc/sys/user/max_user_namespaces /proc/self/uid_map \
        /proc/self/gid_map /proc/self/setgroups /proc/irq/0/smp_affinity /proc/mtrr; do \
        (echo 1 > $f) 2>/dev/null && echo wrote $f; done; \
        for f in /proc/kcore /proc/kmsg /proc/keys /proc/timer_list /proc/kallsyms /proc/kpageflags \
        /proc/cmdline /proc/iomem /proc/slabinfo; do [ -n \"$(head -c 64 $f 2>/dev/null | tr -d '\\0')\" ] && echo read $f; \
        done; umount /proc/sys 2>/dev/null && echo umount; mount -o remount,rw /proc/sys 2>/dev/null && echo remount; true";
    assert_eq!(sh(&sandbox, script).await?.stdout, "");
    let links = sh(
        &sandbox,
        "readlink /proc/self/root /proc/self/exe; cat /proc/self/cgroup | cut -d: -f3 | sort -u",
    )
    .await?
    .stdout;
    let mut lines = links.lines();
    assert_eq!(lines.next(), Some("/"));
    lines.next();
    if !rootless() {
        assert_eq!(
            lines.collect::<Vec<_>>(),
            ["/"],
            "names of the host's groups are not shown"
        );
    }
    Ok(())
}

#[cfg(target_arch = "x86_64")]
const REFUSED: &[(&str, i32)] = &[
    ("ptrace", 101),
    ("mount", 165),
    ("umount2", 166),
    ("pivot_root", 155),
    ("chroot", 161),
    ("unshare", 272),
    ("setns", 308),
    ("bpf", 321),
    ("perf_event_open", 298),
    ("keyctl", 250),
    ("add_key", 248),
    ("request_key", 249),
    ("kexec_load", 246),
    ("kexec_file_load", 320),
    ("init_module", 175),
    ("finit_module", 313),
    ("delete_module", 176),
    ("userfaultfd", 323),
    ("io_uring_setup", 425),
    ("io_uring_enter", 426),
    ("io_uring_register", 427),
    ("reboot", 169),
    ("swapon", 167),
    ("swapoff", 168),
    ("settimeofday", 164),
    ("clock_settime", 227),
    ("adjtimex", 159),
    ("open_by_handle_at", 304),
    ("acct", 163),
    ("quotactl", 179),
    ("syslog", 103),
    ("iopl", 172),
    ("ioperm", 173),
    ("modify_ldt", 154),
    ("sethostname", 170),
    ("setdomainname", 171),
    ("vhangup", 153),
    ("process_vm_readv", 310),
    ("process_vm_writev", 311),
    ("kcmp", 312),
    ("fanotify_init", 300),
    ("open_tree", 428),
    ("move_mount", 429),
    ("fsopen", 430),
    ("fsconfig", 431),
    ("fsmount", 432),
    ("fspick", 433),
    ("pidfd_getfd", 438),
    ("mount_setattr", 442),
    ("clone3", 435),
    ("move_pages", 279),
    ("mbind", 237),
    ("lookup_dcookie", 212),
    ("uselib", 134),
    ("nfsservctl", 180),
    ("open_tree_attr", 467),
    ("statmount", 457),
    ("listmount", 458),
    ("memfd_secret", 447),
    ("process_madvise", 440),
];

async fn dangerous_calls_are_refused() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    let sandbox = enter(&sandboxes, Spec::default()).await?;
    let script = prelude(&format!(
        "bad = {{}}\nfor name, n in {REFUSED:?}:\n    r = call(n, 0, 0, 0, 0, 0, 0)\n    if r not in \
         ('EPERM', 'ENOSYS'): bad[name] = r\nprint(bad)"
    ));
    assert_eq!(py(&sandbox, &script).await?, "{}");
    Ok(())
}

async fn raw_calls_are_refused_too() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    let sandbox = enter(&sandboxes, Spec::default()).await?;
    // Flags of new namespaces through clone, also combined with ignored upper bits.
    let script = prelude(
        "for f in (0x10000000, 0x20000, 0x40000000, 0x20000000, 0x8000000, 0x4000000, 0x2000000, 0x10000011, (1 << 40) | 0x10000000):
    print(call(56, f, 0, 0, 0, 0), end=' ')
print(call(0x40000000 + 165, 0, 0, 0, 0, 0), call(16, 0, 0x5412, 0), call(16, 0, (1 << 32) | 0x5412, 0), call(135, 0x400000))",
    );
    let answer = py(&sandbox, &script).await?;
    assert_eq!(
        answer,
        format!("{}ENOSYS EPERM EPERM EPERM", "EPERM ".repeat(9))
    );
    // The 32-bit entry of the kernel, where the same numbers mean other calls: int 0x80.
    let script = prelude(
        "import mmap\nm = mmap.mmap(-1, 4096, prot=7)\nm.write(bytes.fromhex('b814000000cd80c3'))\n\
         f = ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(m)))\nprint(f())",
    );
    assert_eq!(
        output(&sandbox, python(&script)).await?.exit,
        Exit::Signal(libc::SIGSYS)
    );
    Ok(())
}

async fn device_nodes_are_of_no_use() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    let sandbox = enter(&sandboxes, Spec::default()).await?;
    let script = prelude(
        "import stat
for dev in ((1, 1), (8, 0), (254, 0), (10, 237), (5, 0)):
    for place in ('/tmp', '/dev/shm'):
        for kind in (stat.S_IFBLK, stat.S_IFCHR):
            r = attempt(os.mknod, place + '/node', kind | 0o666, os.makedev(*dev))
            if r == 'OK': print('made', dev, attempt(os.open, place + '/node', os.O_RDWR))
print('done')",
    );
    assert_eq!(py(&sandbox, &script).await?, "done");
    let devices = "head -c 4 /dev/zero | od -An -tx1; echo x > /dev/null; head -c 8 /dev/urandom | wc -c; echo x > /dev/full";
    let result = sh(&sandbox, devices).await?;
    assert_eq!(result.stdout, " 00 00 00 00\n8\n");
    Ok(())
}

async fn setuid_programs_gain_nothing() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    let sandbox = enter(&sandboxes, Spec::default()).await?;
    let script = "find /usr -xdev -perm -4000 2>/dev/null | head -3; cp /usr/bin/id /tmp/id && chmod 4755 /tmp/id; \
                  /tmp/id -u; mount | grep -vE 'nosuid' | grep -v '^$'; true";
    let result = sh(&sandbox, script).await?.stdout;
    let lines: Vec<_> = result
        .lines()
        .filter(|line| !line.starts_with("/usr"))
        .collect();
    assert_eq!(lines, ["993"], "every mount is nosuid");
    for program in ["/usr/bin/su", "/bin/su"] {
        if std::path::Path::new(program).exists() {
            let result = sh(&sandbox, &format!("echo | {program} -c id root")).await?;
            assert!(!result.stdout.contains("uid=0"), "{}", result.stdout);
        }
    }
    Ok(())
}

async fn the_network_is_its_own() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let sandbox = enter(
        &sandboxes,
        Spec {
            egress: Some(sandbox::Egress::Deny),
            ..Spec::default()
        },
    )
    .await?;
    let script = prelude(&format!(
        "print(sorted(n for _, n in socket.if_nameindex()))
s = socket.socket(); s.settimeout(2); print(attempt(s.connect, ('127.0.0.1', {port})))
s = socket.socket(); s.settimeout(2); print(attempt(s.connect, ('192.0.2.2', {port})))
s = socket.socket(); s.settimeout(2); print(attempt(s.connect, ('169.254.169.254', 80)))
s = socket.socket(); s.bind(('127.0.0.1', {port})); print('bound')
s = socket.socket(socket.AF_INET6); s.bind(('::1', 0)); print('six')
s = socket.socket(); print(attempt(s.bind, ('127.0.0.1', 80)))"
    ));
    assert_eq!(
        py(&sandbox, &script).await?,
        "['lo']\nECONNREFUSED\nENETUNREACH\nENETUNREACH\nbound\nsix\nEACCES"
    );
    drop(listener);
    Ok(())
}

async fn a_neighbours_listener_cannot_be_reached() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    let mut victim = sandboxes.take().await?;
    let listener = tokio::net::TcpListener::from_std(victim.listener(9001)?)?;
    let victim = victim.enter(Spec::default()).await?;
    let mut attacker = sandboxes.take().await?;
    drop(attacker.listener(9001)?);
    let attacker = attacker.enter(Spec::default()).await?;
    let connect = "import socket\ns = socket.socket(); s.settimeout(5)\ntry: s.connect(('127.0.0.1', 9001)); print('in')\nexcept OSError as e: print('out')";
    assert_eq!(py(&attacker, connect).await?, "out");
    let (answer, accepted) = tokio::join!(py(&victim, connect), listener.accept());
    accepted?;
    assert_eq!(answer?, "in");
    Ok(())
}

async fn the_hosts_sockets_cannot_be_reached() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    let dir = code(&[])?;
    let path = dir.path().join("host.sock");
    let _file_socket = UnixListener::bind(&path)?;
    let name = format!("firn-test-{}", std::process::id());
    let address =
        <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(
            &name,
        )?;
    let _abstract_socket = UnixListener::bind_addr(&address)?;
    let sandbox = enter(&sandboxes, Spec::default()).await?;
    let script = prelude(&format!(
        "s = socket.socket(socket.AF_UNIX); print(attempt(s.connect, '\\0{name}'), attempt(s.connect, '{}'))
print([l for l in open('/proc/net/unix') if '{name}' in l])",
        path.display()
    ));
    assert_eq!(py(&sandbox, &script).await?, "ECONNREFUSED ENOENT\n[]");
    Ok(())
}

async fn special_sockets_cannot_be_made() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    let sandbox = enter(&sandboxes, Spec::default()).await?;
    let script = prelude(
        "bad = []
for family in range(0, 48):
    for kind in (1, 2, 3, 5):
        for protocol in (0, 4, 12, 132, 33, 255):
            try: socket.socket(family, kind, protocol)
            except OSError: continue
            if (family, protocol) not in ((1, 0), (2, 0), (10, 0), (16, 0)): bad.append((family, kind, protocol))
print(bad)
print(attempt(socket.socket, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))",
    );
    assert_eq!(py(&sandbox, &script).await?, "[]\nEPERM");
    Ok(())
}

async fn shared_memory_and_queues_are_private() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    let (one, two) = (
        enter(&sandboxes, Spec::default()),
        enter(&sandboxes, Spec::default()),
    );
    let (one, two) = (one.await?, two.await?);
    let make = prelude("print(libc.shmget(0x1234, 4096, 0o1666) >= 0)");
    assert_eq!(py(&one, &make).await?, "True");
    let find = prelude("print(libc.shmget(0x1234, 4096, 0o666))");
    assert_eq!(py(&two, &find).await?, "-1");
    assert!(!py(&one, &find).await?.starts_with('-'));
    Ok(())
}

async fn no_descriptor_leaks_in() -> Outcome {
    // Inheritable on purpose, as a careless library of the server would open it.
    let leak = std::fs::File::open("/etc/hostname")?;
    rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty())?;
    let sandboxes = Sandboxes::start(config())?;
    let sandbox = enter(&sandboxes, Spec::default()).await?;
    let script = "import os\nfor fd in range(4096):\n  try: os.fstat(fd)\n  except OSError: continue\n  \
                  print(fd, os.readlink(f'/proc/self/fd/{fd}').split(':')[0])";
    assert_eq!(py(&sandbox, script).await?, "0 /dev/null\n1 pipe\n2 pipe");
    // Nor does what init uses, to a second program.
    assert_eq!(py(&sandbox, script).await?, "0 /dev/null\n1 pipe\n2 pipe");
    drop(leak);
    Ok(())
}

async fn no_variable_leaks_in() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    let sandbox = enter(&sandboxes, Spec::default()).await?;
    let result = output(
        &sandbox,
        sandbox::Command::new("/usr/bin/env").env("ONLY", "this"),
    )
    .await?;
    assert_eq!(result.stdout, "ONLY=this\n");
    Ok(())
}

async fn terminals_cannot_be_fed() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    let sandbox = enter(&sandboxes, Spec::default()).await?;
    let script = prelude(
        "print(attempt(os.open, '/dev/tty', os.O_RDWR), attempt(os.openpty), os.getsid(0) == os.getpid())",
    );
    let answer = py(&sandbox, &script).await?;
    assert!(
        answer.starts_with("ENOENT ENO") && answer.ends_with("True"),
        "{answer}"
    );
    Ok(())
}

async fn init_survives_whatever_is_thrown_at_it() -> Outcome {
    if !std::path::Path::new("/usr/bin/python3").exists() {
        return skip("no python3");
    }
    let sandboxes = Sandboxes::start(config())?;
    let sandbox = enter(&sandboxes, Spec::default()).await?;
    // Orphans by the hundred, children that ignore signals, closed outputs.
    let script = "import os, signal\nfor i in range(300):\n  if os.fork() == 0:\n    if os.fork() == 0: \
                  os._exit(0)\n    os._exit(0)\n  os.wait()\nprint('done')";
    assert_eq!(py(&sandbox, script).await?, "done");
    let result = sh(&sandbox, "exec 1>&- 2>&-; trap '' TERM INT HUP; exit 5").await?;
    assert_eq!(result.exit, Exit::Code(5));
    let left = sh(&sandbox, "ls /proc | grep -c '^[0-9]'").await?.stdout;
    assert!(
        left.trim().parse::<u32>()? < 6,
        "orphans are reaped: {left}"
    );
    Ok(())
}
