"""Do two runs hold the same filters responsible?"""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from webapp.api.base import APIView, Query
from webapp.api.problems import PROBLEM
from webapp.jobs import access
from webapp.jobs.comparing import compare_runs


class ComparisonSerializer(serializers.Serializer):
    """compare.json of the command line; `path` of a result is its run's name, or its id."""

    schema = serializers.IntegerField()
    verb = serializers.CharField()
    results = serializers.ListField(child=serializers.DictField(), help_text="Both sides: metric, model, histogram, …")
    filters = serializers.IntegerField()
    differs = serializers.ListField(child=serializers.CharField(), help_text="What is not the same on both sides.")
    agreement = serializers.DictField(help_text="{n, spearman, corrected, reliabilities, cut}.")
    overlaps = serializers.ListField(child=serializers.DictField(), help_text="{end, k, shared, share, by_chance, p}.")
    warnings = serializers.ListField(child=serializers.CharField())


class ComparisonQuery(Query):
    a = serializers.UUIDField(help_text="Id of one run.")
    b = serializers.UUIDField(help_text="Id of the other.")


class Comparison(APIView):
    """Two finished runs that repair, explain a metric or value filters."""

    queries = {"GET": ComparisonQuery}

    @extend_schema(
        responses={200: ComparisonSerializer, 400: PROBLEM, 404: PROBLEM, 409: PROBLEM, 422: PROBLEM},
    )
    def get(self, request: Request) -> Response:
        """Rank correlation and overlap of their values, with histograms and removal curves. 422: one of them did not
        value all filters, was repaired by a version that kept no standard errors, or has other filters."""
        a, b = (access.job_for(request.user, self.query[side], access.SEE) for side in ("a", "b"))
        return Response(compare_runs(a, b, (str(a), str(b))))
