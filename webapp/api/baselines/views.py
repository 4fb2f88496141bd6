"""What a model recognises of a dataset before any run."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from webapp.api.base import APIView, Body
from webapp.api.problems import PROBLEM
from webapp.jobs import access, baselines
from webapp.library.errors import Refused

STATES = ("nothing", "figures", "speed", "failed")


class PairSerializer(Body):
    """A model and a dataset, both ready."""

    model = serializers.UUIDField()
    dataset = serializers.UUIDField()
    again = serializers.BooleanField(required=False, help_text="Try once more what has failed.")


class BaselineSerializer(serializers.Serializer):
    model = serializers.UUIDField(source="model_id")
    dataset = serializers.UUIDField(source="dataset_id")
    state = serializers.ChoiceField(
        STATES, help_text="What is known so far; figures come first, and speed is all. failed: `error` says why."
    )
    figures = serializers.DictField(
        allow_null=True,
        help_text="accuracy, classes, columns (by value, and by class within), confused, calibration, worst, "
        "suggestions; `images` says how many were looked at. Shares have Wilson intervals of 95%.",
    )
    speed = serializers.DictField(
        allow_null=True,
        help_text="evaluations_per_second here and, for each effort, the budget and the expected overlap of the "
        "lowest `top_k` from and to; null where it cannot be foreseen.",
    )
    note = serializers.CharField(help_text="What is done now.")
    share = serializers.FloatField(min_value=0, max_value=1, help_text="Of that, done.")
    error = serializers.CharField()
    mend = serializers.CharField()


class BaselineList(APIView):
    """Before a run."""

    @extend_schema(
        request=PairSerializer,
        responses={200: BaselineSerializer, 202: BaselineSerializer, **dict.fromkeys((400, 404, 409), PROBLEM)},
    )
    def post(self, request: Request) -> Response:
        """What the model recognises, made once for the pair: 200, it is all there, or has failed; 202: a worker is at
        it, ask again. No image is looked at on which a repair with seed 0 is reported. 409: one of the two is not
        ready."""
        data = PairSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        asked = data.validated_data
        model = access.model_for(request.user, asked["model"], access.EDIT)
        dataset = access.dataset_for(request.user, asked["dataset"], access.EDIT)
        if asked.get("again"):
            baselines.again(model, dataset)
        found = baselines.wanted(model, dataset)
        if found is None:
            raise Refused("The model and the dataset have to be ready.", "See their state.", status=409)
        answer = BaselineSerializer(found).data
        if found.state in ("speed", "failed"):
            return Response(answer)
        return Response(answer, status=status.HTTP_202_ACCEPTED, headers={"Retry-After": "1"})
