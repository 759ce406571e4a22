"""Functions as hostile code. Each attack reports what it got; the tests say what it may get, which is nothing."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from functions import create, invoke, python

# Every attack runs as the body of a function and returns what it found.
PRELUDE = """
import ctypes, errno, glob, json, os, socket, struct, subprocess, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def outcome(call):
    try:
        return call()
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
def syscall(number, *args):
    result = libc.syscall(number, *args)
    return "ok" if result >= 0 else errno.errorcode[ctypes.get_errno()]
def handler(event, context):
    return attack(event)
"""


@pytest.fixture
def attack(functions):
    def run(source: str, event=None, name: str = "attacker", **config):
        import textwrap
        create(functions, name, python(PRELUDE + "\n" + textwrap.dedent(source)), Timeout=config.pop("Timeout", 20), **config)
        answer = invoke(functions, name, event, LogType="Tail")
        assert answer.error is None, (answer.body, answer.tail)
        return answer.json

    return run


def test_it_has_no_capabilities_and_no_way_to_new_ones(attack):
    seen = attack("""
        def attack(event):
            status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
            return {k: status[k].strip() for k in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")}
    """)
    assert seen == {"CapInh": "0" * 16, "CapPrm": "0" * 16, "CapEff": "0" * 16, "CapBnd": "0" * 16,
                    "CapAmb": "0" * 16, "NoNewPrivs": "1", "Seccomp": "2"}


def test_it_is_not_root_and_cannot_become_root(attack):
    seen = attack("""
        def attack(event):
            return {"ids": [os.getuid(), os.geteuid(), os.getgid()],
                    "setuid": outcome(lambda: os.setuid(0)),
                    "setgroups": outcome(lambda: os.setgroups([0])),
                    "uid_map": outcome(lambda: os.write(os.open("/proc/self/uid_map", os.O_WRONLY), b"0 0 1"))}
    """)
    assert 0 not in seen["ids"]
    assert seen["setuid"] == "EPERM" and seen["setgroups"] == "EPERM"
    assert seen["uid_map"] in ("EPERM", "EACCES", "EROFS", "EINVAL")


@pytest.mark.parametrize("what, number, args", [
    ("mount", 165, "b'none', b'/tmp', b'tmpfs', 0, None"),
    ("umount", 166, "b'/tmp', 2"),
    ("pivot_root", 155, "b'/tmp', b'/tmp'"),
    ("chroot", 161, "b'/tmp'"),
    ("unshare a user namespace", 272, "0x10000000"),
    ("unshare a mount namespace", 272, "0x00020000"),
    ("clone a user namespace", 56, "0x10000000 | 17, 0, 0, 0, 0"),
    ("bpf", 321, "0, 0, 0"),
    ("kexec_load", 246, "0, 0, 0, 0"),
    ("init_module", 175, "0, 0, b''"),
    ("reboot", 169, "0xfee1dead, 672274793, 0, 0"),
    ("swapon", 167, "b'/tmp/x', 0"),
    ("settimeofday", 164, "0, 0"),
    ("clock_settime", 227, "0, (ctypes.c_long * 2)(0, 0)"),
    ("sethostname", 170, "b'x', 1"),
    ("keyctl", 250, "0, 0, 0, 0, 0"),
    ("add_key", 248, "b'user', b'd', b'p', 1, -3"),
    ("perf_event_open", 298, "0, 0, 0, 0, 0"),
    ("userfaultfd", 323, "0"),
    ("open_by_handle_at", 304, "0, 0, 0"),
    ("iopl", 172, "3"),
    ("io_uring_setup", 425, "1, ctypes.create_string_buffer(120)"),
    ("setns", 308, "os.open('/proc/self/ns/net', os.O_RDONLY), 0"),
    ("fsopen", 430, "b'tmpfs', 0"),
    ("move_mount", 429, "-100, b'/tmp', -100, b'/tmp', 0"),
    ("mknod a block device", 133, "b'/tmp/disk', 0o60666, 0x0800"),
])
def test_a_dangerous_system_call_is_refused(attack, what, number, args):
    if os.uname().machine != "x86_64":
        pytest.skip("system call numbers of x86-64")
    got = attack(f"""
        def attack(event):
            return syscall({number}, {args})
    """)
    assert got in ("EPERM", "ENOSYS", "EACCES", "EINVAL" if what in ("settimeofday", "umount") else "EPERM"), what
    assert got != "ok"


def test_system_calls_of_the_32_bit_abi_are_no_way_around(attack):
    got = attack("""
        def attack(event):
            # x32: mount with the ABI bit set
            return syscall(0x40000000 + 165, b"none", b"/tmp", b"tmpfs", 0, None)
    """)
    assert got in ("EPERM", "ENOSYS")


def test_it_sees_only_its_own_processes(attack):
    seen = attack("""
        def attack(event):
            pids = [p for p in os.listdir("/proc") if p.isdigit()]
            lines = [open(f"/proc/{p}/cmdline", "rb").read().decode(errors="replace") for p in pids]
            return {"pids": len(pids), "lines": lines,
                    "kill": outcome(lambda: os.kill(-1, 0)) if False else None}
    """)
    assert seen["pids"] <= 4
    assert not any("serve" in line for line in seen["lines"])


def test_it_cannot_trace_or_read_the_memory_of_what_is_not_its_own(attack):
    seen = attack("""
        def attack(event):
            parent = os.getppid()
            return {"ptrace": syscall(101, 16, parent or 1, 0, 0),
                    "mem": outcome(lambda: open(f"/proc/{parent or 1}/mem", "rb").read(1) and "read"),
                    "environ": outcome(lambda: open("/proc/1/environ").read() if os.getpid() != 1 else "EACCES"),
                    "process_vm_readv": syscall(310, parent or 1, 0, 0, 0, 0, 0)}
    """)
    assert seen["ptrace"] != "ok"
    assert seen["mem"] != "read"
    assert "FIRN" not in str(seen["environ"])


@pytest.mark.parametrize("path", [
    "/etc/shadow", "/root", "/home", "/proc/1/root/etc/shadow", "/proc/self/root/../../etc/shadow", "/proc/kcore",
    "/proc/sysrq-trigger", "/dev/mem", "/dev/kmsg", "/dev/sda", "/dev/vda", "/sys/kernel/debug", "/sys/fs/cgroup/memory.max",
    "/var/run/docker.sock", "/run/systemd", "/var/lib/dpkg", "/boot",
])
def test_the_hosts_files_are_not_there(attack, path):
    got = attack("""
        def attack(event):
            def look():
                if os.path.isdir(event):
                    return {"listed": os.listdir(event)}
                with open(event, "rb") as f:
                    return {"read": len(f.read(16))}
            return [outcome(look), sys.base_prefix]
    """, path)
    got, interpreter = got
    # An interpreter in somebody's home is visible there, and nothing beside it.
    way = interpreter[len(path):].strip("/").split("/")[0] if interpreter.startswith(path + "/") else None
    assert got in ("ENOENT", "EACCES", "EPERM", "ENOTDIR", {"listed": []}, {"listed": [way]}), f"{path}: {got}"


def test_the_servers_data_is_not_visible(attack, server):
    got = attack("""
        def attack(event):
            found = []
            for folder, folders, files in os.walk("/", onerror=lambda e: None):
                if folder.startswith(("/proc", "/sys", "/usr", "/lib", "/var/runtime")):
                    folders[:] = []
                    continue
                found += [os.path.join(folder, f) for f in files if event["secret"] in f or "firn" in f]
            mounts = open("/proc/self/mountinfo").read()
            return {"found": found, "exists": os.path.exists(event["data"]), "mounts": mounts}
    """, {"data": str(server.data), "secret": "server.key"})
    assert got["exists"] is False
    assert got["found"] == []


def test_another_functions_code_and_environment_are_out_of_reach(functions, attack):
    create(functions, "victim", python("SECRET = 'code-secret-9731'\ndef handler(e, c): return 1\n"),
           Environment={"Variables": {"TOKEN": "env-secret-4402"}})
    invoke(functions, "victim")
    found = attack("""
        def attack(event):
            found = []
            for folder, folders, files in os.walk("/", onerror=lambda e: None):
                if folder.startswith(("/sys", "/usr", "/lib", "/nix")):
                    folders[:] = []
                    continue
                for name in files:
                    path = os.path.join(folder, name)
                    if path.startswith("/var/task"):
                        continue
                    try:
                        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
                        data = os.read(fd, 1 << 16)
                        os.close(fd)
                    except OSError:
                        continue
                    if b"code-secret" + b"-9731" in data or b"env-secret" + b"-4402" in data:
                        found.append(path)
            return found
    """, Timeout=60)
    assert found == []


def test_writing_through_proc_self_exe_and_fds_is_refused(attack):
    got = attack("""
        def attack(event):
            result = {"exe": outcome(lambda: open("/proc/self/exe", "r+b") and "opened")}
            fds = {}
            for fd in os.listdir("/proc/self/fd"):
                fds[fd] = outcome(lambda: os.readlink(f"/proc/self/fd/{fd}"))
            result["fds"] = fds
            return result
    """)
    assert got["exe"] in ("EROFS", "EACCES", "ETXTBSY", "EPERM")
    for target in got["fds"].values():
        assert not target.startswith("/") or target.startswith(("/dev/null", "/proc", "/var/task", "/tmp")), got["fds"]


# Network


def test_only_its_own_ports_are_reachable(attack, server):
    seen = attack("""
        def attack(event):
            def connect(host, port):
                with socket.create_connection((host, port), 1):
                    return "connected"
            def attempt(host, port):
                try:
                    return connect(host, port)
                except OSError as error:
                    return type(error).__name__
            route = [l.split() for l in open("/proc/net/route").read().splitlines()[1:]]
            gateways = {socket.inet_ntoa(struct.pack("<L", int(r[2], 16))) for r in route if r[2] != "00000000"}
            targets = {"loopback control plane": ("127.0.0.1", event["port"]), "metadata": ("169.254.169.254", 80)}
            for gateway in gateways:
                targets[f"gateway {gateway} control plane"] = (gateway, event["port"])
                targets[f"gateway {gateway} ssh"] = (gateway, 22)
            return {what: attempt(*target) for what, target in targets.items()}
    """, {"port": server.port})
    assert "connected" not in seen.values(), seen


def test_a_neighbours_runtime_api_is_out_of_reach(functions, attack):
    create(functions, "neighbour", python("""
        import os, socket, time
        def handler(event, context):
            mine = []
            for line in open("/proc/net/fib_trie"):
                if "/32 host LOCAL" in line:
                    mine.append(before)
                before = line.split()[-1]
            if event.get("wait"):
                time.sleep(event["wait"])
            return sorted(set(mine))
    """), Timeout=30)
    addresses = invoke(functions, "neighbour").json
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(invoke, functions, "neighbour", {"wait": 4})
        time.sleep(0.5)
        seen = attack("""
            def attack(event):
                result = {}
                for address in event["addresses"]:
                    if address.startswith("127."):
                        continue
                    for port in (9001, 4566):
                        try:
                            socket.create_connection((address, port), 1).close()
                            result[f"{address}:{port}"] = "connected"
                        except OSError as error:
                            result[f"{address}:{port}"] = type(error).__name__
                return result
        """, {"addresses": addresses})
        assert running.result().error is None
    assert "connected" not in seen.values(), seen


def test_abstract_sockets_and_ipc_of_the_host_are_not_shared(attack):
    import socket as host_socket
    with host_socket.socket(host_socket.AF_UNIX) as listener:
        listener.bind("\0firn-test-abstract")
        listener.listen()
        got = attack(r"""
            def attack(event):
                with socket.socket(socket.AF_UNIX) as s:
                    return outcome(lambda: s.connect("\0firn-test-abstract") or "connected")
        """)
    assert got == "ECONNREFUSED"


def test_raw_and_packet_sockets_are_refused(attack):
    got = attack("""
        def attack(event):
            kinds = {"raw": (socket.AF_INET, socket.SOCK_RAW, 1), "packet": (socket.AF_PACKET, socket.SOCK_RAW, 3),
                     "vsock": (40, socket.SOCK_STREAM, 0)}
            return {name: outcome(lambda: socket.socket(*kind) and "open") for name, kind in kinds.items()}
    """)
    assert got["raw"] != "open" and got["packet"] != "open" and got["vsock"] != "open"


def test_the_runtime_api_of_ones_own_takes_garbage_in_its_stride(functions, attack):
    got = attack(r"""
        def attack(event):
            host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
            garbage = [b"\0" * 4096, b"GET / HTTP/9.9\r\n\r\n", b"POST /2018-06-01/runtime/invocation/" + b"A" * 9000 + b"/response HTTP/1.1\r\n\r\n",
                       b"POST /2018-06-01/runtime/invocation/../../x/response HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
                       b"POST /2018-06-01/runtime/invocation/00000000-0000-0000-0000-000000000000/response HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
                       b"POST /2018-06-01/runtime/init/error HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n"]
            answers = []
            for bytes_ in garbage:
                with socket.create_connection((host, int(port)), 2) as s:
                    s.settimeout(2)
                    try:
                        s.sendall(bytes_)
                        answers.append(s.recv(64).decode(errors="replace").split("\r\n")[0])
                    except OSError as error:
                        answers.append(type(error).__name__)
            return answers
    """)
    assert not any(" 20" in answer for answer in got), got
    assert invoke(functions, "attacker").error is None


# Exhaustion, while a neighbour keeps answering


EXHAUSTION = {
    "processes": """
        def attack(event):
            made = 0
            try:
                while made < 100_000:
                    if os.fork() == 0:
                        time.sleep(60)
                        os._exit(0)
                    made += 1
            except OSError:
                return made
    """,
    "threads": """
        import threading
        def attack(event):
            made = 0
            try:
                while made < 100_000:
                    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
                    made += 1
            except RuntimeError:
                return made
    """,
    "file descriptors": """
        def attack(event):
            held = []
            try:
                while len(held) < 10_000_000:
                    held.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                return len(held)
    """,
    "disk": """
        def attack(event):
            written = 0
            try:
                with open("/tmp/x", "wb", buffering=0) as out:
                    while written < 10 << 30:
                        written += out.write(bytes(1 << 20))
            except OSError:
                return written
    """,
    "inodes": """
        def attack(event):
            made = 0
            try:
                while made < 5_000_000:
                    open(f"/tmp/{made}", "w").close()
                    made += 1
            except OSError:
                return made
    """,
    "log output": """
        def attack(event):
            until = time.time() + 3
            while time.time() < until:
                sys.stdout.write("x" * 65536 + "\\n")
            return 1
    """,
    "cpu": """
        def attack(event):
            until = time.time() + 5
            for _ in range(16):
                if os.fork() == 0:
                    while time.time() < until:
                        pass
                    os._exit(0)
            return 1
    """,
}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("what", EXHAUSTION)
def test_exhausting_a_resource_leaves_the_neighbour_answering(functions, server, what):
    import textwrap
    create(functions, "neighbour", MemorySize=1769)
    invoke(functions, "neighbour")
    create(functions, "hog", python(PRELUDE + "\n" + textwrap.dedent(EXHAUSTION[what])), Timeout=30, MemorySize=512)
    slowest = 0.0
    with ThreadPoolExecutor(1) as pool:
        hog = pool.submit(invoke, functions, "hog")
        while not hog.done():
            began = time.monotonic()
            assert invoke(functions, "neighbour", 1).json == 1
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.02)
        answer = hog.result()
    assert answer.error in (None, "Unhandled")
    assert slowest < 5, f"the neighbour waited {slowest:.1f} s"
    assert server.alive()
    assert invoke(functions, "neighbour", 2).json == 2


def test_processes_left_running_do_not_outlive_a_timeout(functions):
    create(functions, "leaver", python("""
        import os, time
        def handler(event, context):
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    os.execvp("sleep", ["sleep", "31536777"])
                os._exit(0)
            time.sleep(30)
    """), Timeout=1)
    assert invoke(functions, "leaver").json["errorType"] == "Sandbox.Timedout"
    until = time.monotonic() + 10
    while any_process_with("31536777"):
        assert time.monotonic() < until, "a detached child survived its sandbox"
        time.sleep(0.05)


def any_process_with(text: str) -> bool:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as line:
                if text.encode() in line.read():
                    return True
        except OSError:
            continue
    return False
