"""/api/v1/: models, datasets, repairs, tokens."""

from django.urls import path

from webapp.api import about
from webapp.api.attacks import views as attacks
from webapp.api.baselines.views import BaselineList
from webapp.api.comparisons.views import Comparison
from webapp.api.gates import RepairGates
from webapp.api.links.views import LinkDetail, LinkList
from webapp.api.repairs import views as repairs
from webapp.api.resumable import views as resumable
from webapp.api.tokens import views as tokens
from webapp.api.uploads import views as uploads

app_name = "api"
urlpatterns = [
    path("", about.About.as_view(), name="about"),
    path("architectures/", about.Architectures.as_view(), name="architectures"),
    path("models/", uploads.ModelList.as_view(), name="models"),
    path("models/<uuid:pk>/", uploads.ModelDetail.as_view(), name="model"),
    path("datasets/", uploads.DatasetList.as_view(), name="datasets"),
    path("datasets/<uuid:pk>/", uploads.DatasetDetail.as_view(), name="dataset"),
    path("uploads/", resumable.UploadList.as_view(), name="uploads"),
    path("uploads/<uuid:pk>/", resumable.UploadDetail.as_view(), name="upload"),
    path("baselines/", BaselineList.as_view(), name="baselines"),
    path("repairs/", repairs.RepairList.as_view(), name="repairs"),
    path("repairs/<uuid:pk>/", repairs.RepairDetail.as_view(), name="repair"),
    path("repairs/<uuid:pk>/cancel/", repairs.RepairCancel.as_view(), name="cancel"),
    path("repairs/<uuid:pk>/retry/", repairs.RepairRetry.as_view(), name="retry"),
    path("repairs/<uuid:pk>/restore/", repairs.RepairRestore.as_view(), name="restore"),
    path("repairs/<uuid:pk>/choice/", repairs.RepairChoice.as_view(), name="choice"),
    path("repairs/<uuid:pk>/gates/", RepairGates.as_view(), name="gates"),
    path("repairs/<uuid:pk>/events/", repairs.RepairEvents.as_view(), name="events"),
    path("repairs/<uuid:pk>/results/<str:name>", repairs.RepairResult.as_view(), name="result"),
    path("repairs/<uuid:pk>/links/", LinkList.as_view(), name="links"),
    path("repairs/<uuid:pk>/links/<int:link>/", LinkDetail.as_view(), name="link"),
    path("attacks/", attacks.AttackList.as_view(), name="attacks"),
    path("compare/", Comparison.as_view(), name="compare"),
    path("tokens/", tokens.TokenList.as_view(), name="tokens"),
    path("tokens/<int:pk>/", tokens.TokenDetail.as_view(), name="token"),
]
