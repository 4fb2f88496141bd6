"""Teams, in and out."""

from __future__ import annotations

from rest_framework import serializers

from webapp.accounts.models import Invitation, Membership, Role, Team
from webapp.api.base import Body
from webapp.api.fields import Flag, Line, Whole

NAME = {"max_length": 100}
ROLES = Role.choices


class MemberSerializer(serializers.ModelSerializer):
    id = serializers.IntegerField(help_text="Of the membership: what `members/ID/` takes.")
    user = serializers.CharField(source="user.username")

    class Meta:
        model = Membership
        fields = ["id", "user", "role", "joined_at"]


class TeamSerializer(Body, serializers.ModelSerializer):
    name = Line(**NAME)
    role = serializers.SerializerMethodField(help_text="Yours.")
    payer = serializers.CharField(
        source="payer.username", read_only=True, help_text="In whose quota the team's own things count."
    )
    members = MemberSerializer(source="memberships", many=True, read_only=True)

    class Meta:
        model = Team
        fields = ["id", "name", "role", "viewers_take_weights", "payer", "members", "created_at"]
        read_only_fields = ["id", "created_at"]
        extra_kwargs = {"viewers_take_weights": {"read_only": True}}

    def get_role(self, team: Team) -> str:
        me = self.context["request"].user.pk
        return next((str(one.role) for one in team.memberships.all() if one.user_id == me), "")


class EditTeamSerializer(Body):
    """What is left out stays as it is."""

    name = Line(required=False, **NAME)
    viewers_take_weights = Flag(
        required=False, help_text="Viewers download checkpoints, too, and what else a model can be made of."
    )
    pay = Flag(required=False, help_text="true: what belongs to the team counts in your quota from now on.")


class RoleSerializer(Body):
    role = serializers.ChoiceField(ROLES)


class InvitationSerializer(Body, serializers.ModelSerializer):
    user = Line(
        source="name",
        required=False,
        max_length=150,
        help_text="Whom: a user name. Left out: a link is made, for whoever accepts it first. That there is nobody of "
        "this name is not said.",
    )
    role = serializers.ChoiceField(ROLES, help_text="A link makes viewers and editors alone.")
    invited_by = serializers.CharField(source="invited_by.username", read_only=True)

    class Meta:
        model = Invitation
        fields = ["id", "user", "role", "invited_by", "created_at", "expires_at"]
        read_only_fields = ["id", "created_at", "expires_at"]


class CreatedInvitationSerializer(InvitationSerializer):
    url = serializers.URLField(read_only=True, allow_blank=True, help_text="Of a link, shown this once; else empty.")

    class Meta(InvitationSerializer.Meta):
        fields = [*InvitationSerializer.Meta.fields, "url"]


class MyInvitationSerializer(serializers.ModelSerializer):
    team = serializers.CharField(source="team.name")
    invited_by = serializers.CharField(source="invited_by.username")

    class Meta:
        model = Invitation
        fields = ["id", "team", "role", "invited_by", "created_at", "expires_at"]


class AnswerSerializer(Body):
    accept = Flag(help_text="false: it is declined, which is told to nobody.")


class WithTeamSerializer(Body):
    team = Whole(min_value=1, max_value=2**63 - 1, help_text="A team in which you are an editor or an owner.")
