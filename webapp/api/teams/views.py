"""Teams: who is in them, and what is shared with them. Who is in a team is changed with a password alone, not by a
token: one that leaks must not make its finder a member.
"""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import serializers, status
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from webapp.accounts import rights
from webapp.accounts.models import Team
from webapp.api.base import APIView, ListView
from webapp.api.problems import PROBLEM
from webapp.api.repairs.serializers import RepairSerializer
from webapp.api.teams.serializers import (
    AnswerSerializer,
    CreatedInvitationSerializer,
    EditTeamSerializer,
    InvitationSerializer,
    MemberSerializer,
    MyInvitationSerializer,
    RoleSerializer,
    TeamSerializer,
    WithTeamSerializer,
)
from webapp.api.uploads.serializers import DatasetSerializer, ModelSerializer
from webapp.jobs import access, teams

REFUSED = dict.fromkeys((400, 403, 404, 409), PROBLEM)


def with_password(request: Request) -> None:
    """Raises PermissionDenied: it is a token that asks."""
    if request.auth is not None:
        raise PermissionDenied("A token cannot change who is in a team: sign in with your password.")


def _said(kind: type[serializers.Serializer], request: Request) -> dict[str, Any]:
    data = kind(data=request.data, context={"request": request})
    data.is_valid(raise_exception=True)
    return data.validated_data


class TeamList(ListView):
    """Your teams."""

    serializer_class = TeamSerializer

    def get_queryset(self):
        found = rights.teams(self.request.user).select_related("payer")
        return found.prefetch_related("memberships__user").order_by("name", "pk")

    @extend_schema(request=TeamSerializer, responses={201: TeamSerializer, **REFUSED})
    def post(self, request: Request) -> Response:
        """Make a team, and own it. What belongs to it counts in your quota."""
        with_password(request)
        team = teams.create_team(owner=request.user, name=_said(TeamSerializer, request)["name"])
        return Response(TeamSerializer(team, context={"request": request}).data, status=status.HTTP_201_CREATED)


class TeamDetail(APIView):
    """One team."""

    @extend_schema(responses={200: TeamSerializer, 404: PROBLEM})
    def get(self, request: Request, pk: int) -> Response:
        """With its members."""
        team = access.team_for(request.user, pk)
        return Response(TeamSerializer(team, context={"request": request}).data)

    @extend_schema(request=EditTeamSerializer, responses={200: TeamSerializer, 413: PROBLEM, **REFUSED})
    def patch(self, request: Request, pk: int) -> Response:
        """Its owners: the name, what viewers may take, and who pays."""
        with_password(request)
        team = access.team_for(request.user, pk, access.OWN)
        said = _said(EditTeamSerializer, request)
        pay = said.pop("pay", False)
        if said:
            teams.edit_team(by=request.user, team=team, **said)
        if pay:
            teams.pay_for(by=request.user, team=team)
        return Response(TeamSerializer(team, context={"request": request}).data)

    @extend_schema(responses={204: None, **REFUSED})
    def delete(self, request: Request, pk: int) -> Response:
        """Its owners: with all that belongs to it, at once and for good; what runs is stopped. What is shared with it
        stays its owners'."""
        with_password(request)
        teams.delete_team(by=request.user, team=access.team_for(request.user, pk, access.OWN))
        return Response(status=status.HTTP_204_NO_CONTENT)


class TeamMember(APIView):
    """One member."""

    @extend_schema(request=RoleSerializer, responses={200: MemberSerializer, **REFUSED})
    def patch(self, request: Request, pk: int, member: int) -> Response:
        """Owners: change the role. 409: nobody would own the team."""
        with_password(request)
        team = access.team_for(request.user, pk, access.OWN)
        row = access.membership_for(request.user, team, member)
        teams.set_role(by=request.user, membership=row, role=_said(RoleSerializer, request)["role"])
        return Response(MemberSerializer(row).data)

    @extend_schema(responses={204: None, **REFUSED})
    def delete(self, request: Request, pk: int, member: int) -> Response:
        """Owners: remove them; everybody: leave. What they shared is theirs alone again; of what the team's runs use
        the team keeps a copy. 409: nobody would own the team."""
        with_password(request)
        team = access.team_for(request.user, pk)
        teams.remove_member(by=request.user, membership=access.membership_for(request.user, team, member))
        return Response(status=status.HTTP_204_NO_CONTENT)


class TeamInvitations(APIView):
    """Invitations to a team."""

    @extend_schema(operation_id="teams_invitations_list", responses={200: InvitationSerializer(many=True), **REFUSED})
    def get(self, request: Request, pk: int) -> Response:
        """Owners: those that are open (never the addresses of links)."""
        team = access.team_for(request.user, pk, access.OWN)
        return Response(InvitationSerializer(access.open_invitations(team), many=True).data)

    @extend_schema(request=InvitationSerializer, responses={201: CreatedInvitationSerializer, **REFUSED})
    def post(self, request: Request, pk: int) -> Response:
        """Owners: invite somebody by name, or with a link. It is open for 14 days."""
        with_password(request)
        team = access.team_for(request.user, pk, access.OWN)
        row, token = teams.invite(by=request.user, team=team, **_said(InvitationSerializer, request))
        url = reverse("pages:join", args=[token], request=request) if token else ""
        return Response({**InvitationSerializer(row).data, "url": url}, status=status.HTTP_201_CREATED)


class TeamInvitation(APIView):
    """One invitation to a team."""

    @extend_schema(responses={204: None, **REFUSED})
    def delete(self, request: Request, pk: int, invitation: int) -> Response:
        """Owners: take it back."""
        with_password(request)
        team = access.team_for(request.user, pk, access.OWN)
        teams.take_back(by=request.user, invitation=access.open_invitation_for(team, invitation))
        return Response(status=status.HTTP_204_NO_CONTENT)


class MyInvitations(ListView):
    """Invitations to you."""

    serializer_class = MyInvitationSerializer

    def get_queryset(self):
        return access.invitations_to(self.request.user)


class MyInvitation(APIView):
    """One invitation to you."""

    @extend_schema(request=AnswerSerializer, responses={200: TeamSerializer, 204: None, **REFUSED})
    def post(self, request: Request, pk: int) -> Response:
        """200: you are a member now; 204: it is declined."""
        with_password(request)
        found = access.invitation_for(request.user, pk)
        if not _said(AnswerSerializer, request)["accept"]:
            teams.decline(invitation=found)
            return Response(status=status.HTTP_204_NO_CONTENT)
        team: Team = teams.accept(user=request.user, invitation=found)
        return Response(TeamSerializer(team, context={"request": request}).data)


class _WithTeam(APIView):
    """Sharing one's own thing with a team."""

    find: ClassVar[Any]
    serializer: ClassVar[Any]

    def _answer(self, request: Request, thing: Any) -> Response:
        return Response(self.serializer(thing, context={"request": request}).data)

    def put(self, request: Request, pk: UUID) -> Response:
        """Share it: members see and use it by their role, and it stays yours. With a run goes all that it uses. What
        the team's runs use the team keeps, as a copy, when you take it back."""
        thing = type(self).find(request.user, pk, access.OWN)
        team = access.team_for(request.user, _said(WithTeamSerializer, request)["team"], access.EDIT)
        teams.share(by=request.user, thing=thing, team=team)
        return self._answer(request, thing)

    def delete(self, request: Request, pk: UUID) -> Response:
        """Take it back: whose it is, and who owns the team. 409: it is not shared."""
        thing = type(self).find(request.user, pk, access.SEE)
        access.check_takes_out(request.user, thing)
        teams.take_out(by=request.user, thing=thing)
        return Response(status=status.HTTP_204_NO_CONTENT)


def _shared(answer: type[serializers.Serializer]):
    """The document's part of one kind of thing."""
    return extend_schema_view(
        put=extend_schema(request=WithTeamSerializer, responses={200: answer, **REFUSED}),
        delete=extend_schema(responses={204: None, **REFUSED}),
    )


@_shared(ModelSerializer)
class ModelTeam(_WithTeam):
    """A model and a team."""

    find, serializer = staticmethod(access.model_for), ModelSerializer


@_shared(DatasetSerializer)
class DatasetTeam(_WithTeam):
    """A dataset and a team."""

    find, serializer = staticmethod(access.dataset_for), DatasetSerializer


@_shared(RepairSerializer)
class RepairTeam(_WithTeam):
    """A run and a team."""

    find, serializer = staticmethod(access.job_for), RepairSerializer


class _Copy(APIView):
    find: ClassVar[Any]
    serializer: ClassVar[Any]

    def post(self, request: Request, pk: UUID) -> Response:
        """Give a team a copy of its own: no byte is sent again. 201: it is new; 200: the team has the same already."""
        thing = type(self).find(request.user, pk, access.OWN)
        team = access.team_for(request.user, _said(WithTeamSerializer, request)["team"], access.EDIT)
        copy, new = teams.copy_to(by=request.user, upload=thing, team=team)
        code = status.HTTP_201_CREATED if new else status.HTTP_200_OK
        return Response(self.serializer(copy).data, status=code)


def _copied(answer: type[serializers.Serializer]):
    found = {201: answer, 200: answer, 413: PROBLEM, **REFUSED}
    return extend_schema_view(post=extend_schema(request=WithTeamSerializer, responses=found))


@_copied(ModelSerializer)
class ModelCopy(_Copy):
    """A model, for a team."""

    find, serializer = staticmethod(access.model_for), ModelSerializer


@_copied(DatasetSerializer)
class DatasetCopy(_Copy):
    """A dataset, for a team."""

    find, serializer = staticmethod(access.dataset_for), DatasetSerializer
