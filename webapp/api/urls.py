"""/api/v1/: models, datasets, repairs, teams, tokens."""

from django.urls import path

from webapp.api import about
from webapp.api.attacks import views as attacks
from webapp.api.baselines.views import BaselineList
from webapp.api.comparisons.views import Comparison
from webapp.api.deliveries.views import DeliveryAgain, DeliveryList
from webapp.api.direct import views as direct
from webapp.api.gates import RepairGates
from webapp.api.links.views import LinkDetail, LinkList
from webapp.api.receipts import RepairReceipt
from webapp.api.repairs import views as repairs
from webapp.api.resumable import views as resumable
from webapp.api.teams import views as teams
from webapp.api.tokens import views as tokens
from webapp.api.uploads import views as uploads

app_name = "api"
urlpatterns = [
    path("", about.About.as_view(), name="about"),
    path("architectures/", about.Architectures.as_view(), name="architectures"),
    path("models/", uploads.ModelList.as_view(), name="models"),
    path("models/<uuid:pk>/", uploads.ModelDetail.as_view(), name="model"),
    path("models/<uuid:pk>/team/", teams.ModelTeam.as_view(), name="model_team"),
    path("models/<uuid:pk>/copy/", teams.ModelCopy.as_view(), name="model_copy"),
    path("datasets/", uploads.DatasetList.as_view(), name="datasets"),
    path("datasets/<uuid:pk>/", uploads.DatasetDetail.as_view(), name="dataset"),
    path("datasets/<uuid:pk>/team/", teams.DatasetTeam.as_view(), name="dataset_team"),
    path("datasets/<uuid:pk>/copy/", teams.DatasetCopy.as_view(), name="dataset_copy"),
    path("uploads/", resumable.UploadList.as_view(), name="uploads"),
    path("uploads/<uuid:pk>/", resumable.UploadDetail.as_view(), name="upload"),
    path("direct-uploads/", direct.DirectUploadList.as_view(), name="direct_uploads"),
    path("direct-uploads/<uuid:pk>/", direct.DirectUploadDetail.as_view(), name="direct_upload"),
    path("direct-uploads/<uuid:pk>/parts/", direct.DirectUploadParts.as_view(), name="direct_upload_parts"),
    path("direct-uploads/<uuid:pk>/complete/", direct.DirectUploadComplete.as_view(), name="direct_upload_complete"),
    path("baselines/", BaselineList.as_view(), name="baselines"),
    path("repairs/", repairs.RepairList.as_view(), name="repairs"),
    path("repairs/<uuid:pk>/", repairs.RepairDetail.as_view(), name="repair"),
    path("repairs/<uuid:pk>/cancel/", repairs.RepairCancel.as_view(), name="cancel"),
    path("repairs/<uuid:pk>/retry/", repairs.RepairRetry.as_view(), name="retry"),
    path("repairs/<uuid:pk>/pause/", repairs.RepairPause.as_view(), name="pause"),
    path("repairs/<uuid:pk>/resume/", repairs.RepairResume.as_view(), name="resume"),
    path("repairs/<uuid:pk>/restore/", repairs.RepairRestore.as_view(), name="restore"),
    path("repairs/<uuid:pk>/choice/", repairs.RepairChoice.as_view(), name="choice"),
    path("repairs/<uuid:pk>/gates/", RepairGates.as_view(), name="gates"),
    path("repairs/<uuid:pk>/events/", repairs.RepairEvents.as_view(), name="events"),
    path("repairs/<uuid:pk>/results/<str:name>", repairs.RepairResult.as_view(), name="result"),
    path("repairs/<uuid:pk>/receipt/", RepairReceipt.as_view(), name="receipt"),
    path("repairs/<uuid:pk>/links/", LinkList.as_view(), name="links"),
    path("repairs/<uuid:pk>/links/<int:link>/", LinkDetail.as_view(), name="link"),
    path("repairs/<uuid:pk>/team/", teams.RepairTeam.as_view(), name="repair_team"),
    path("attacks/", attacks.AttackList.as_view(), name="attacks"),
    path("compare/", Comparison.as_view(), name="compare"),
    path("teams/", teams.TeamList.as_view(), name="teams"),
    path("teams/<int:pk>/", teams.TeamDetail.as_view(), name="team"),
    path("teams/<int:pk>/members/<int:member>/", teams.TeamMember.as_view(), name="member"),
    path("teams/<int:pk>/invitations/", teams.TeamInvitations.as_view(), name="team_invitations"),
    path("teams/<int:pk>/invitations/<int:invitation>/", teams.TeamInvitation.as_view(), name="team_invitation"),
    path("invitations/", teams.MyInvitations.as_view(), name="invitations"),
    path("invitations/<int:pk>/", teams.MyInvitation.as_view(), name="invitation"),
    path("deliveries/", DeliveryList.as_view(), name="deliveries"),
    path("deliveries/<uuid:pk>/again/", DeliveryAgain.as_view(), name="delivery_again"),
    path("tokens/", tokens.TokenList.as_view(), name="tokens"),
    path("tokens/<int:pk>/", tokens.TokenDetail.as_view(), name="token"),
]
