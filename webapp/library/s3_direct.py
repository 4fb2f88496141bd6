"""Uploads that go to an S3 store itself: multipart, each part at an address that is signed for it and its size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from webapp.library.store import CHUNK, Begun, Part

if TYPE_CHECKING:
    from webapp.library.s3 import S3


class Multipart:
    """`library.store.Direct` of an S3 store."""

    def __init__(self, store: S3) -> None:
        self.store = store
        self.offered = bool(store.public)

    def begin(self, name: str) -> str:
        with self.store.asked(name):
            return str(self._client.create_multipart_upload(**self._called(name))["UploadId"])

    def address(self, name: str, begun: str, number: int, size: int) -> str:
        """The signature covers the name, the upload, the number and the length of the body: nothing else is taken
        there. What no signature covers (`x-amz-copy-source`) stores refuse."""
        asked = self._called(name, begun) | {"PartNumber": number, "ContentLength": size}
        client = self.store._signing.connection.meta.client
        return str(client.generate_presigned_url("upload_part", asked, ExpiresIn=self.store.signed_for))

    def parts(self, name: str, begun: str) -> list[Part]:
        with self.store.asked(name):
            pages = self._client.get_paginator("list_parts").paginate(**self._called(name, begun))
            return [
                Part(one["PartNumber"], one["Size"], one["ETag"]) for page in pages for one in page.get("Parts", ())
            ]

    def finish(self, name: str, begun: str, parts: list[Part]) -> None:
        named = [{"PartNumber": one.number, "ETag": one.mark} for one in parts]
        with self.store.asked(name):
            self._client.complete_multipart_upload(**self._called(name, begun), MultipartUpload={"Parts": named})

    def give_up(self, name: str, begun: str) -> None:
        try:
            with self.store.asked(name):
                self._client.abort_multipart_upload(**self._called(name, begun))
        except FileNotFoundError:
            pass

    def under_way(self, folder: str) -> Iterator[Begun]:
        start = len(self.store._key("x")) - 1
        asked = {"Bucket": self.store.bucket_name, "Prefix": self.store._key(folder) + "/"}
        with self.store.asked(folder):
            for page in self._client.get_paginator("list_multipart_uploads").paginate(**asked):
                for one in page.get("Uploads", ()):
                    yield Begun(one["Key"][start:], one["UploadId"], one["Initiated"].timestamp())

    def read(self, name: str, mark: str) -> Iterator[bytes]:
        with self.store.asked(name):
            yield from self._client.get_object(**self._called(name), IfMatch=mark)["Body"].iter_chunks(CHUNK)

    def copy(self, name: str, mark: str, target: str) -> None:
        with self.store.asked(name):
            self.store.bucket.copy(
                self._called(name), self.store._key(target), {"CopySourceIfMatch": mark},
                Config=self.store.transfer_config,
            )  # fmt: skip

    @property
    def _client(self) -> Any:
        return self.store.connection.meta.client

    def _called(self, name: str, begun: str = "") -> dict[str, Any]:
        called = {"Bucket": self.store.bucket_name, "Key": self.store._key(name)}
        return called | ({"UploadId": begun} if begun else {})
