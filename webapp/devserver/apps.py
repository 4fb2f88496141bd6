from django.apps import AppConfig


class DevserverConfig(AppConfig):
    name = "webapp.devserver"
    label = "devserver"
