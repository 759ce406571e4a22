"""Builds the benchmark's function packages from their sources, once per content, into a cache outside of git."""

from __future__ import annotations

import hashlib
import os
import pathlib
import shutil
import stat
import subprocess
import sys
import zipfile

FUNCTIONS = pathlib.Path(__file__).with_name("functions")
ROOT = pathlib.Path(__file__).resolve().parents[2]
# No function imports these, and Lambda's limit for an upload is 50 MB.
LEFT_OUT = ("__pycache__", "tests", "bin")


class Missing(Exception):
    """What the machine lacks to build a package."""


def build(name: str, cache: pathlib.Path) -> bytes:
    """The zip of a function."""
    source = FUNCTIONS / name
    made = cache / f"{name}-{fingerprint(source)}.zip"
    if not made.exists():
        cache.mkdir(parents=True, exist_ok=True)
        work = cache / f".{name}"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(source, work)
        print(f"building {name}", file=sys.stderr)
        packed = next(make for file, make in BUILDERS if (source / file).exists())(work)
        unfinished = made.with_suffix(".unfinished")
        pack(packed, unfinished)
        unfinished.rename(made)
        shutil.rmtree(work)
    return made.read_bytes()


def fingerprint(source: pathlib.Path) -> str:
    digest = hashlib.sha256()
    digest.update(pathlib.Path(__file__).read_bytes())
    for path in sorted(p for p in source.rglob("*") if p.is_file() and "target" not in p.parts):
        digest.update(str(path.relative_to(source)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def run(*command: str, cwd: pathlib.Path) -> None:
    if shutil.which(command[0]) is None:
        raise Missing(f"{command[0]} is not installed")
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def with_pip(work: pathlib.Path) -> pathlib.Path:
    run(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", ".",
        "--requirement", "requirements.txt", cwd=work)
    for path in sorted(work.rglob("*"), reverse=True):
        if path.is_dir() and (path.name in LEFT_OUT or path.suffix == ".dist-info"):
            shutil.rmtree(path)
    # Bytecode in the package is the best case for a cold start.
    run(sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", ".", cwd=work)
    return work


def with_npm(work: pathlib.Path) -> pathlib.Path:
    run("npm", "install", "--omit=dev", "--no-audit", "--no-fund", "--no-package-lock", cwd=work)
    return work


def with_maven(work: pathlib.Path) -> pathlib.Path:
    """Classes in the package's root, dependencies in `lib`, as Lambda has it."""
    run("mvn", "--quiet", "--batch-mode", "package", cwd=work)
    packed = work / "target/classes"
    shutil.move(work / "target/lib", packed / "lib")
    return packed


def with_cargo(work: pathlib.Path) -> pathlib.Path:
    run("cargo", "build", "--quiet", "--release", "--locked", "--package", "bench-rust-provided", cwd=ROOT)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    packed = work / "packed"
    packed.mkdir()
    shutil.copy(target / "release/bootstrap", packed)
    return packed


BUILDERS = (
    ("requirements.txt", with_pip),
    ("package.json", with_npm),
    ("pom.xml", with_maven),
    ("Cargo.toml", with_cargo),
)


def pack(folder: pathlib.Path, to: pathlib.Path) -> None:
    with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            entry = zipfile.ZipInfo(str(path.relative_to(folder)), (2024, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (stat.S_IFREG | (0o755 if os.access(path, os.X_OK) else 0o644)) << 16
            archive.writestr(entry, path.read_bytes())
