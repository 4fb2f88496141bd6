"""What whoever has a link sees. Nothing here asks who it is, and nothing here takes an id."""

from django.urls import path

from webapp.pages.views import shared

app_name = "shared"
urlpatterns = [
    path("<str:token>/", shared.run, name="run"),
    path("<str:token>/map/", shared.unit_map, name="map"),
    path("<str:token>/unit/", shared.unit, name="unit"),
    path("<str:token>/images/", shared.images, name="images"),
    path("<str:token>/images/<int:number>/", shared.image, name="image"),
    path("<str:token>/thumbnails/<slug:version>/<int:number>/<slug:size>/", shared.thumbnail, name="thumbnail"),
    path(
        "<str:token>/adversarial/<slug:version>/<int:number>/<slug:size>/",
        shared.adversarial,
        name="adversarial",
    ),
    path("<str:token>/files/<str:name>", shared.file, name="file"),
]
