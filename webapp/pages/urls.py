"""Pages for people. A repair's address is the same while it runs and when it has ended."""

from django.urls import path

from webapp.pages.views import attacks, comparisons, followups, home, images, operator, repairs, results, runs, uploads

app_name = "pages"
urlpatterns = [
    path("", home.home, name="home"),
    path("models/", uploads.ModelList.as_view(), name="models"),
    path("models/new/", uploads.new_model, name="new_model"),
    path("models/<uuid:pk>/", uploads.model, name="model"),
    path("models/<uuid:pk>/state/", uploads.model_state, name="model_state"),
    path("models/<uuid:pk>/delete/", uploads.delete_model, name="delete_model"),
    path("datasets/", uploads.DatasetList.as_view(), name="datasets"),
    path("datasets/new/", uploads.new_dataset, name="new_dataset"),
    path("datasets/<uuid:pk>/", uploads.dataset, name="dataset"),
    path("datasets/<uuid:pk>/state/", uploads.dataset_state, name="dataset_state"),
    path("datasets/<uuid:pk>/images/", images.dataset_images, name="dataset_images"),
    path("datasets/<uuid:pk>/images/<int:number>/", images.dataset_image, name="dataset_image"),
    path("datasets/<uuid:pk>/thumbnails/", images.dataset_thumbnails, name="dataset_thumbnails"),
    path("datasets/<uuid:pk>/thumbnails/make/", images.make_thumbnails, name="make_dataset_thumbnails"),
    path(
        "datasets/<uuid:pk>/thumbnails/<slug:version>/<int:number>/<slug:size>/",
        images.thumbnail,
        name="dataset_thumbnail",
    ),
    path("datasets/<uuid:pk>/delete/", uploads.delete_dataset, name="delete_dataset"),
    path("operator/", operator.operator, name="operator"),
    path("compare/", comparisons.compare, name="compare"),
    path("attacks/new/", attacks.new_attack, name="new_attack"),
    path("repairs/", runs.run_list, name="repairs"),
    path("repairs/rows/", runs.rows, name="rows"),
    path("repairs/selected/", runs.selected, name="selected"),
    path("repairs/undo/", runs.undo, name="undo"),
    path("repairs/new/", repairs.new_repair, name="new_repair"),
    path("repairs/<uuid:pk>/", repairs.repair, name="repair"),
    path("repairs/<uuid:pk>/progress/", repairs.progress, name="progress"),
    path("repairs/<uuid:pk>/cancel/", repairs.cancel, name="cancel"),
    path("repairs/<uuid:pk>/retry/", repairs.retry, name="retry"),
    path("repairs/<uuid:pk>/delete/", repairs.delete, name="delete_repair"),
    path("repairs/<uuid:pk>/restore/", runs.restore, name="restore"),
    path("repairs/<uuid:pk>/edit/", runs.edit, name="edit"),
    path("repairs/<uuid:pk>/filters/", results.filters, name="filters"),
    path("repairs/<uuid:pk>/images/", images.images, name="images"),
    path("repairs/<uuid:pk>/images/<int:number>/", images.image, name="image"),
    path("repairs/<uuid:pk>/follow/", followups.follow, name="follow"),
    path("repairs/<uuid:pk>/files/<str:name>", results.file, name="file"),
]
