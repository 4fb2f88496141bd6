"""What all views and bodies of the API have in common: what is not declared is refused, and what is declared stands in
the document."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any, ClassVar

from django.http import QueryDict
from rest_framework import generics, serializers, views
from rest_framework.request import Request
from rest_framework.response import Response

from webapp.api import limits


class Query(serializers.Serializer):
    """The parameters behind a `?`. One that is not declared is refused: misspelt, it would be left out silently."""


class Body(serializers.Serializer):
    """What is sent. An unknown field is refused; `webapp.api.schema` says so in the document."""

    rules: ClassVar[dict[str, Any]] = {}  # of several fields together, as JSON schema, for the document

    def to_internal_value(self, data: Any) -> Any:
        known = [name for name, field in self.fields.items() if not field.read_only]
        if isinstance(data, dict) and (unknown := sorted(set(data) - set(known))):
            raise serializers.ValidationError({name: [self.unknown(name, known)] for name in unknown})
        if isinstance(data, QueryDict) and (twice := [name for name in known if self._is_repeated(name, data)]):
            raise serializers.ValidationError({name: ["It is given more than once."] for name in twice})
        return super().to_internal_value(data)

    def _is_repeated(self, name: str, form: QueryDict) -> bool:
        """Whether a form has several values for a field that takes one: Django would keep the last."""
        return len(form.getlist(name)) > 1 and not isinstance(self.fields[name], serializers.ListField)

    def unknown(self, name: str, known: list[str]) -> str:
        """What is said of a field that is not `known`."""
        return f"There is no such field.{nearest(name, known)}"


class ListQuery(Query):
    page = serializers.IntegerField(required=False, min_value=1, max_value=10**9, help_text="From 1.")
    page_size = serializers.IntegerField(required=False, min_value=1, max_value=200, help_text="Default: 50.")


class _Queried:
    """`queries` says what each method takes; the schema reads it too (`webapp.api.schema`).

    `self.query` has the values of the present request.
    """

    queries: ClassVar[dict[str, type[Query]]] = {}
    query: dict[str, Any]

    def initial(self, request: Request, *args: object, **kwargs: object) -> None:
        super().initial(request, *args, **kwargs)  # type: ignore[misc]
        if not hasattr(self, str(request.method).lower()):
            return  # 405 is what there is to say
        self.query = check_query(request, self.queries.get(_asked(request), Query))

    def finalize_response(self, request: Request, response: Response, *args: object, **kwargs: object) -> Response:
        limits.tell(request, response)
        return super().finalize_response(request, response, *args, **kwargs)  # type: ignore[misc]


class APIView(_Queried, views.APIView):
    """In the place of Django REST framework's."""


class ListView(_Queried, generics.ListAPIView):
    """`?page=2&page_size=100`; the newest first."""

    queries: ClassVar[dict[str, type[Query]]] = {"GET": ListQuery}


class DetailView(_Queried, generics.RetrieveDestroyAPIView):
    """One object."""


def check_query(request: Request, declared: type[Query]) -> dict[str, Any]:
    """The parameters of `request`, as `declared` reads them.

    Raises:
        ValidationError: one is not known (the nearest that is is named), is given twice, or has no such value.
    """
    known = list(declared().fields)
    errors: dict[str, list[str]] = {}
    for name, values in request.query_params.lists():
        if name not in known:
            errors[name] = [f"There is no such query parameter.{nearest(name, known)}"]
        elif len(values) > 1:
            errors[name] = ["It is given more than once."]
    if errors:
        raise serializers.ValidationError(errors)
    query = declared(data=request.query_params.dict())
    query.is_valid(raise_exception=True)
    return query.validated_data


def nearest(name: str, known: list[str]) -> str:
    if near := get_close_matches(name, known, n=1):
        return f" Is {near[0]} meant?"
    return f" Known: {', '.join(sorted(known))}." if known else " None is known here."


def _asked(request: Request) -> str:
    return "GET" if request.method == "HEAD" else str(request.method)
