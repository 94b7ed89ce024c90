"""The private SSH and FTP servers, and the proxies that make them far away. All on loopback, all stopped by their own pid."""

import base64
import getpass
import hashlib
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

#: The one cipher and the one key exchange that everybody negotiates: the server offers no other.
#: OpenSSH's first choice, sntrup761, would cost its own client 70 ms of each login, and the others nothing.
CIPHER = "aes128-gcm@openssh.com"
KEY_EXCHANGE = "curve25519-sha256"

SSHD_CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {place}/hostkey
PidFile {place}/sshd.pid
AuthorizedKeysFile {place}/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PubkeyAuthentication yes
PermitRootLogin prohibit-password
AllowUsers {user}
UseDNS no
PrintMotd no
Ciphers {cipher}
KexAlgorithms {key_exchange}
# An empty home: what the user's shell does at login is no part of the work.
SetEnv HOME={place}
Subsystem sftp internal-sftp
"""

SSH_CONFIG = """\
Host near
    Port {port}
Host far
    Port {far_port}
Host *
    HostName 127.0.0.1
    User {user}
    IdentityFile {place}/client
    IdentitiesOnly yes
    UserKnownHostsFile {place}/known_hosts
    HostKeyAlias bench
    StrictHostKeyChecking yes
    BatchMode yes
    Ciphers {cipher}
"""


class Sshd:
    """An OpenSSH server that lets the current user in with a key made for it."""

    def __init__(self, place):
        self.place = place
        self.user = getpass.getuser()
        place.mkdir(parents=True)
        for name in ("hostkey", "client"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place / name], check=True)
        shutil.copy(place / "client.pub", place / "authorized_keys")
        kind, key = (place / "hostkey.pub").read_text().split()[:2]
        (place / "known_hosts").write_text(f"bench {kind} {key}\n")
        digest = base64.b64encode(hashlib.sha256(base64.b64decode(key)).digest()).decode().rstrip("=")
        self.fingerprint = f"SHA256:{digest}"
        self._start()
        self.describe(self.port)

    def _start(self):
        if os.getuid() == 0:
            # Where sshd locks its unprivileged half in.
            Path("/run/sshd").mkdir(exist_ok=True)
        for _ in range(10):
            self.port = free_port()
            config = self.place / "sshd_config"
            config.write_text(self._server_config())
            # sshd starts itself again for each connection, hence the absolute path.
            program = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin") or "/usr/sbin/sshd"
            argv = [program, "-D", "-f", config, "-E", self.place / "sshd.log"]
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
            if wait_for_banner(self.port, self.process, b"SSH-"):
                return
            self.stop()
        raise RuntimeError("sshd does not start: " + (self.place / "sshd.log").read_text()[-2000:])

    def _server_config(self):
        return SSHD_CONFIG.format(
            port=self.port, place=self.place, user=self.user, cipher=CIPHER, key_exchange=KEY_EXCHANGE
        )

    def describe(self, far_port):
        """Writes the client's configuration: host `near` is the server, host `far` the proxy before it."""
        text = SSH_CONFIG.format(
            port=self.port, far_port=far_port, user=self.user, place=self.place, cipher=CIPHER
        )
        self.config.write_text(text)

    @property
    def config(self):
        """For `ssh -F` and `sftp -F`."""
        return self.place / "ssh_config"

    def url(self, scheme, path, port=None):
        """The source as xvault takes it."""
        return f"{scheme}://{quote(self.user)}@127.0.0.1:{port or self.port}{quote(str(path))}"

    def login(self):
        """The flags that log xvault in."""
        return ["--ssh-key", self.place / "client", "--host-key", self.fingerprint]

    def cpu_seconds(self):
        """CPU of all connections so far; waits until the last one has ended, for only then it is accounted."""
        deadline = time.monotonic() + 10
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        while children.read_text().strip() and time.monotonic() < deadline:
            time.sleep(0.02)
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        # utime, stime, cutime, cstime are fields 14 to 17; `fields` begins with field 3.
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        """Ends the server; connections end with their clients."""
        end(self.process)


#: Plain text, as wget knows nothing else. The address is that of the proxies, for clients that believe PASV.
PROFTPD_CONFIG = """\
ServerType standalone
DefaultServer on
DefaultAddress 127.0.0.1
MasqueradeAddress 127.0.0.2
Port {port}
UseIPv6 off
UseReverseDNS off
WtmpLog off
TransferLog none
SystemLog {place}/log
PidFile {place}/pid
ScoreboardFile {place}/scoreboard
User nobody
Group nogroup
MaxInstances 200
RequireValidShell off
AuthOrder mod_auth_file.c
AuthUserFile {place}/passwd
AuthGroupFile {place}/group
PassivePorts {first} {last}
<IfModule mod_delay.c>
DelayEngine off
</IfModule>
"""


class Ftpd:
    """A ProFTPD that lets one account read everything. It takes root to start."""

    USER, PASSWORD = "bench", "bench-pw"
    #: Where its data connections go: as many ports as a run needs before the system takes them back.
    FIRST, LAST = 12_000, 12_999

    def __init__(self, place):
        self.place = place
        place.mkdir(parents=True)
        place.chmod(0o755)
        hashed = subprocess.run(
            ["openssl", "passwd", "-6", "-stdin"], input=self.PASSWORD, check=True, capture_output=True, text=True
        ).stdout.strip()
        (place / "password").write_text(self.PASSWORD)
        for name, line in (("passwd", f"{self.USER}:{hashed}:0:0::/:/bin/false"), ("group", f"{self.USER}:x:0:")):
            (place / name).write_text(line + "\n")
            (place / name).chmod(0o600)
        program = shutil.which("proftpd", path=os.environ.get("PATH", "") + ":/usr/sbin") or "/usr/sbin/proftpd"
        for _ in range(10):
            self.port = free_port()
            config = place / "config"
            config.write_text(
                PROFTPD_CONFIG.format(port=self.port, place=place, first=self.FIRST, last=self.LAST) + "RootLogin on\n"
            )
            argv = [program, "--nodaemon", "-c", config]
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if wait_for_banner(self.port, self.process, b"220 "):
                return
            self.stop()
        raise RuntimeError("proftpd does not start: " + (place / "log").read_text()[-2000:])

    def stop(self):
        """Ends the server and its sessions."""
        end(self.process)


class FarAway:
    """xvault-testkit's proxy as a process: every byte takes half of `rtt_ms` each way."""

    def __init__(self, program, port, rtt_ms, *ports):
        argv = [program, str(port), str(rtt_ms / 2), *map(str, ports)]
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line.strip().isdigit():
            self.stop()
            raise RuntimeError(f"the delay proxy did not print its port but {line!r}")
        self.port = int(line)

    def stop(self):
        """Ends the proxy and what runs through it."""
        end(self.process)


def end(process):
    """SIGTERM, then SIGKILL after five seconds; only this process."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port():
    """A port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_banner(port, process, banner):
    """Whether a server greets with `banner` on `port` before `process` ends or ten seconds pass."""
    deadline = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                if connection.recv(4) == banner:
                    return True
        except OSError:
            time.sleep(0.02)
    return False
