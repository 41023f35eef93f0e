"""Foreign test material, fetched by package name from the registries into a cache folder; nothing of it is kept here.

gunicorn's request corpus (PyPI, MIT), wfuzz's traversal lists (Debian), nghttp2's raw HTTP/2 streams (Debian source).
"""

import pathlib
import subprocess
import sys
import tarfile

GUNICORN = "27.0.1"


def gunicorn_requests(cache):
    """(name, verdict of its authors, bytes) of each request; those that need an option of gunicorn's are left out."""
    folder = cache / f"gunicorn-{GUNICORN}"
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        _run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", f"gunicorn=={GUNICORN}"], cache)
        with tarfile.open(cache / f"gunicorn-{GUNICORN}.tar.gz") as archive:
            archive.extractall(cache, filter="data") if hasattr(tarfile, "data_filter") else archive.extractall(cache)
    found = []
    for verdict in ("valid", "invalid"):
        for path in sorted((folder / "tests" / "requests" / verdict).glob("*.http")):
            settings = path.with_suffix(".py")
            if settings.exists() and "cfg.set" in settings.read_text():
                continue
            text = path.read_bytes().replace(b"\n", b"")
            for escape, byte in ((b"\\r", b"\r"), (b"\\n", b"\n"), (b"\\0", b"\0")):
                text = text.replace(escape, byte)
            found.append((f"gunicorn/{verdict}/{path.stem}", verdict, text))
    return found


def traversal_lines(cache):
    """Debian's wfuzz lists of directory traversals, each line as bytes."""
    folder = cache / "wfuzz"
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        _run(["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", "wfuzz"], cache)
        package = next(iter(sorted(cache.glob("wfuzz_*.deb"))))
        _run(["dpkg", "-x", package.name, folder.name], cache)
    lists = folder / "usr/share/wfuzz/wordlist"
    names = ["vulns/dirTraversal.txt", "vulns/dirTraversal-nix.txt", "vulns/dirTraversal-win.txt", "Injections/Traversal.txt"]
    lines = []
    for name in names:
        lines += [line.rstrip(b"\r") for line in (lists / name).read_bytes().split(b"\n") if line.strip()]
    return lines


def nghttp2_streams(cache):
    """nghttp2's fuzz corpus made from h2spec: raw client byte streams, preface included."""
    corpus = next(iter(cache.glob("nghttp2-*/fuzz/corpus/h2spec")), None)
    if corpus is None:
        cache.mkdir(parents=True, exist_ok=True)
        _source(cache, "nghttp2")
        archive = next(iter(sorted(cache.glob("nghttp2_*.orig.tar.*"))))
        with tarfile.open(archive) as opened:
            opened.extractall(cache, filter="data") if hasattr(tarfile, "data_filter") else opened.extractall(cache)
        corpus = next(iter(cache.glob("nghttp2-*/fuzz/corpus/h2spec")))
    return [(path.name, path.read_bytes()) for path in sorted(corpus.iterdir()) if path.is_file()]


def _source(cache, package):
    """A Debian source package, without touching the machine's own list of sources."""
    parts, lists = cache / "apt-sources", cache / "apt-lists"
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    parts.mkdir(exist_ok=True)
    for path in pathlib.Path("/etc/apt/sources.list.d").glob("debian*.sources"):
        (parts / path.name).write_text(path.read_text().replace("Types: deb\n", "Types: deb-src\n"))
    options = ["-qq", "-o", f"Dir::Etc::sourceparts={parts}", "-o", "Dir::Etc::sourcelist=/dev/null",
               "-o", f"Dir::State::lists={lists}", "-o", "APT::Sandbox::User=root"]
    _run(["apt-get", *options, "update"], cache)
    _run(["apt-get", *options, "source", "--download-only", package], cache)


def _run(command, folder):
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{ended.stdout}{ended.stderr}")
