from __future__ import annotations

from typing import Any

from rest_framework.pagination import PageNumberPagination


class Pages(PageNumberPagination):
    """`?page=2&page_size=100`; the newest first. The view's query has checked both."""

    page_size_query_param = "page_size"
    max_page_size = 200

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """As JSON Schema 2020 says that a value may be null: the framework says it as OpenAPI 3.0 did."""
        found = super().get_paginated_response_schema(schema)
        for one in found["properties"].values():
            if one.pop("nullable", False):
                one["type"] = [one["type"], "null"]
        return found
