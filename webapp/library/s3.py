"""An S3-compatible object store, by django-storages."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from django.utils.http import content_disposition_header
from storages.backends.s3 import S3Storage
from urllib3.exceptions import HTTPError

from webapp.library import cache
from webapp.library.objects import Objects
from webapp.library.s3_direct import Multipart
from webapp.library.store import Entry

PART = 16 << 20  # bytes of a part of what is larger than that
_NONE = ("404", "NoSuchKey", "NotFound", "NoSuchUpload", "412", "PreconditionFailed")  # or is another


class S3(Objects, S3Storage):
    """Args:
    public: the address at which others reach the store; "" = they do not, and files go through the web process.
    signed_for: seconds that an address is good for.
    The others are `S3Storage`'s.
    """

    away = (BotoCoreError, ClientError, Boto3Error, HTTPError)

    def __init__(self, *, public: str = "", signed_for: int = 600, **options: Any) -> None:
        self.public, self.signed_for, self.given = public, signed_for, options
        client = Config(
            signature_version="s3v4",
            s3={"addressing_style": options.get("addressing_style")},
            connect_timeout=5,
            read_timeout=30,
            retries={"mode": "standard", "max_attempts": 4},
            # Our own hashes say what was put; not every store knows the checksums that Amazon added in 2025.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        transfer = TransferConfig(multipart_threshold=PART, multipart_chunksize=PART, max_concurrency=4)
        super().__init__(**options, client_config=client, transfer_config=transfer)
        os.register_at_fork(after_in_child=self._connect_anew)

    def _connect_anew(self) -> None:
        """A worker's child must not speak on the sockets of its parent."""
        self._bucket, self._connections = None, threading.local()

    def where(self, name: str) -> str:
        return f"s3://{self.bucket_name}/{self._key(name)}"

    def _key(self, name: str) -> str:
        return str(self._normalize_name(name))

    @contextmanager
    def asked(self, name: str) -> Iterator[None]:
        with super().asked(name):
            try:
                yield
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") not in _NONE:
                    raise
                # HEAD does not say whether it is the object or the whole bucket that is not there.
                self.connection.meta.client.head_bucket(Bucket=self.bucket_name)
                raise FileNotFoundError(self.where(name)) from error

    def _download(self, name: str, path: Path) -> None:
        """In parts, each asked for again where it was cut short."""
        with self.asked(name):
            self.bucket.Object(self._key(name)).download_file(str(path), Config=self.transfer_config)

    def find(self, name: str) -> Entry | None:
        try:
            with self.asked(name):
                said = self.connection.meta.client.head_object(Bucket=self.bucket_name, Key=self._key(name))
        except FileNotFoundError:
            return None
        return Entry(name, said["ContentLength"], said["LastModified"].timestamp(), f"{said['ETag']}")

    def exists(self, name: str) -> bool:
        return self.find(name) is not None

    def entries(self, folder: str) -> Iterator[Entry]:
        start = len(self._key("x")) - 1  # of the names, after what stands before all of them
        with self.asked(folder):
            for one in self.bucket.objects.filter(Prefix=self._key(folder) + "/"):
                yield Entry(one.key[start:], one.size, one.last_modified.timestamp(), one.e_tag)

    def move(self, name: str, target: str) -> None:
        """Within the store."""
        with self.asked(name):
            source = {"Bucket": self.bucket_name, "Key": self._key(name)}
            self.bucket.copy(source, self._key(target), Config=self.transfer_config)
        self.delete(name)

    def delete_folder(self, name: str) -> None:
        for found in self.entries(name):
            self.delete(found.name)
        cache.drop(self.at(name))

    @cached_property
    def direct(self) -> Multipart:  # type: ignore[override]
        return Multipart(self)

    @cached_property
    def _signing(self) -> S3Storage:
        return S3Storage(**{**self.given, "endpoint_url": self.public, "client_config": self.client_config})

    def signed(self, name: str, file_name: str, media_type: str) -> str:
        if not self.public:
            return ""
        asked = {
            "ResponseContentDisposition": content_disposition_header(True, file_name),
            "ResponseContentType": media_type,
            "ResponseCacheControl": "private, no-store",
        }
        return str(self._signing.url(name, parameters=asked, expire=self.signed_for))
