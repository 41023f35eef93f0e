"""nginx as the API and the token endpoint, on the core of the load.

Debian's, and not the one that is measured: that one's OpenSSL takes twice as long for a request over TLS, and every
proxy waited for it.
"""

import random
import socket
import subprocess

import rig

SIZES = {"64k": 64 * 1024, "1m": 1024 * 1024}


class Origin:
    """Listens with HTTP/1.1 and HTTP/2, each plain and over TLS; refuses whoever comes without the token."""

    def __init__(self, cores=rig.LOAD_CORE):
        self.folder = rig.fresh("origin")
        self.token = "tok-" + "x" * 796
        self.plain, self.tls, self.plain_h2, self.tls_h2 = rig.free_ports(4)
        certificates(self.folder)
        (self.folder / "temp").mkdir()
        (self.folder / "bytes").mkdir()
        for name, size in SIZES.items():
            (self.folder / "bytes" / name).write_bytes(random.Random(size).randbytes(size))
        (self.folder / "upload").touch()
        for template in ("origin.conf", "api.conf"):
            (self.folder / template).write_text(rig.fill(template, self.values()))
        command = [rig.need("nginx", "nginx"), "-p", self.folder, "-c", self.folder / "origin.conf"]
        self.program = rig.Program("origin", command, self.folder, cores)
        self.program.wait_until(lambda: rig.status(self.plain) == 401)
        try:
            self.reads_uploads()
        except BaseException:
            self.program.stop()
            raise

    def values(self):
        return {"token": self.token, "origin_plain": self.plain, "origin_tls": self.tls,
                "origin_plain_h2": self.plain_h2, "origin_tls_h2": self.tls_h2}

    def port(self, scheme, version):
        return {("http", "1"): self.plain, ("https", "1"): self.tls,
                ("http", "2"): self.plain_h2, ("https", "2"): self.tls_h2}[scheme, version]

    def request(self, with_token):
        """A request to the last byte, as a caller's library writes it."""
        fields = ["Host: localhost", *rig.FIELDS, *([f"Authorization: Bearer {self.token}"] if with_token else [])]
        return f"GET {rig.PATH} HTTP/1.1\r\n" + "\r\n".join(fields) + "\r\n\r\n"

    def reads_uploads(self):
        """An upload that is not complete is not answered: what is measured is then a body that truly arrived."""
        head = (f"POST /upload HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self.token}\r\n"
                f"Content-Length: 16384\r\n\r\n")
        with socket.create_connection(("127.0.0.1", self.plain), timeout=0.3) as asked:
            asked.sendall(head.encode() + b"x" * 16383)
            try:
                early = asked.recv(4096)
            except TimeoutError:
                early = b""
            asked.settimeout(5)
            if not early:
                asked.sendall(b"x")
                if asked.recv(4096).startswith(b"HTTP/1.1 200 "):
                    return
        raise rig.Trouble(f"the origin does not read uploads to their end: {early!r}")


def certificates(folder):
    """An authority, and a certificate of its own for localhost."""
    def openssl(*arguments):
        subprocess.run(["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                        "-days", "7", *arguments], cwd=folder, check=True, capture_output=True)
    openssl("-subj", "/CN=compare", "-keyout", "ca-key.pem", "-out", "ca.pem")
    openssl("-subj", "/CN=localhost", "-CA", "ca.pem", "-CAkey", "ca-key.pem", "-addext", "subjectAltName=DNS:localhost",
            "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", "key.pem", "-out", "certificate.pem")
