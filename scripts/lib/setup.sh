# shellcheck shell=bash
#
# Installs what the other scripts need on a Debian or Ubuntu machine, and nothing that is there already.
# Sourced, not run:
#
#     . "$(dirname "${BASH_SOURCE[0]}")/lib/setup.sh"
#     ensure_packages && ensure_rust && ensure_python && ensure_node
#
# Each function is silent when there is nothing to do, and leaves PATH such that the tool is found.

FIRN_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
FIRN_VENV="${FIRN_VENV:-$FIRN_ROOT/.venv}"

# The oldest Rust and Node that do.
FIRN_RUST_MINIMUM="$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$FIRN_ROOT/Cargo.toml")"
FIRN_NODE_MINIMUM="18"

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
warn() { printf '\033[33mwarning:\033[0m %s\n' "$*" >&2; }
die() {
    printf '\033[31merror:\033[0m %s\n' "$*" >&2
    exit 1
}

# version_at_least HAVE WANT
version_at_least() {
    [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "need root (or sudo) for: $*"
    fi
}

apt_updated=""
apt_install() {
    command -v apt-get >/dev/null || die "not a Debian or Ubuntu machine; please install: $*"
    if [ -z "$apt_updated" ]; then
        as_root apt-get update -qq
        apt_updated=yes
    fi
    say "installing $*"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# ensure_command COMMAND PACKAGE...: installs the packages when the command is missing.
ensure_command() {
    local wanted="$1"
    shift
    command -v "$wanted" >/dev/null || apt_install "$@"
}

# Compiler, linker and the small tools the scripts call. firn itself needs no tool at run time: it
# speaks to the kernel directly.
ensure_packages() {
    ensure_command cc build-essential
    ensure_command curl curl ca-certificates
    ensure_command git git
    ensure_java
}

# A JDK: the build compiles firn's Java client into the binary, the tests their functions.
ensure_java() {
    ensure_command javac openjdk-17-jdk-headless
}

# What the tests' Java functions package, in $FIRN_VENV/java. Maven's own settings say where it comes from.
ensure_java_jars() {
    local pom="$FIRN_ROOT/tests/runtimes/java/pom.xml" target="$FIRN_VENV/java" stamp
    stamp="$target/.$(sha256sum "$pom" | cut -c 1-16)"
    [ -e "$stamp" ] && return
    ensure_command mvn maven
    say "fetching the jars of the Java tests"
    rm -rf "$target"
    if mvn -q -B -f "$pom" dependency:copy-dependencies -DoutputDirectory="$target" >&2; then
        touch "$stamp"
    else
        warn "no jars for the Java tests: those that need them will be skipped"
    fi
}

# A Redis or Valkey for the tests of the tier that servers share; each test starts one of its own.
ensure_redis() {
    command -v valkey-server >/dev/null && return
    command -v redis-server >/dev/null && return
    if command -v apt-get >/dev/null; then
        apt_install redis-server
    else
        warn "neither valkey-server nor redis-server: tests of the shared tier will be skipped"
    fi
}

ensure_rust() {
    [ -d "$HOME/.cargo/bin" ] && PATH="$HOME/.cargo/bin:$PATH"
    local have
    have="$(rustc --version 2>/dev/null | cut -d ' ' -f 2 || true)"
    if [ -n "$have" ] && version_at_least "$have" "$FIRN_RUST_MINIMUM"; then
        return
    fi
    if ! command -v rustup >/dev/null; then
        say "installing Rust with rustup (found: ${have:-none}, wanted: $FIRN_RUST_MINIMUM or newer)"
        if apt-cache show rustup >/dev/null 2>&1; then
            apt_install rustup
        else
            curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs |
                sh -s -- -y --no-modify-path --profile minimal --default-toolchain none
            PATH="$HOME/.cargo/bin:$PATH"
        fi
    fi
    rustup toolchain install stable --profile minimal --component rustfmt,clippy
    rustup default stable
    # An older compiler of the distribution may come first on the path.
    PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
    export PATH
}

# rustfmt and clippy, which a minimal toolchain may lack.
ensure_rust_components() {
    cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
    cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
}

ensure_python() {
    ensure_command python3 python3
    # Debian splits venv's ensurepip off, and only says so when one tries.
    python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv
}

# ensure_venv REQUIREMENTS: the virtual environment of the tests, refreshed when the requirements change.
ensure_venv() {
    local requirements="$1" stamp
    stamp="$FIRN_VENV/.$(sha256sum "$requirements" | cut -c 1-16)"
    if [ ! -e "$stamp" ] || ! "$FIRN_VENV/bin/python" -c '' 2>/dev/null; then
        ensure_python
        say "filling $FIRN_VENV"
        python3 -m venv --clear "$FIRN_VENV"
        "$FIRN_VENV/bin/pip" install --quiet --disable-pip-version-check -r "$requirements"
        touch "$stamp"
    fi
    ensure_java_jars
}

ensure_node() {
    local have
    have="$(node --version 2>/dev/null | tr -d v || true)"
    if [ -n "$have" ] && version_at_least "$have" "$FIRN_NODE_MINIMUM"; then
        return
    fi
    if [ -z "$have" ]; then
        apt_install nodejs npm
        have="$(node --version | tr -d v)"
    fi
    version_at_least "$have" "$FIRN_NODE_MINIMUM" ||
        warn "node $have is older than $FIRN_NODE_MINIMUM; functions for newer Node runtimes may not run"
}
