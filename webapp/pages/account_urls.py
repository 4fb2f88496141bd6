from django.contrib.auth.views import LogoutView
from django.urls import path

from webapp.pages.views import accounts as views

app_name = "accounts"
urlpatterns = [
    path("sign-in/", views.SignIn.as_view(), name="sign_in"),
    path("sign-out/", LogoutView.as_view(), name="sign_out"),
    path("sign-up/", views.sign_up, name="sign_up"),
    path("password/", views.ChangePassword.as_view(), name="password"),
    path("forgot/", views.AskReset.as_view(), name="forgot"),
    path("reset/<uidb64>/<token>/", views.Reset.as_view(), name="reset"),
    path("profile/", views.profile, name="profile"),
    path("close/", views.close, name="close"),
    path("ended/", views.ended, name="ended"),
    path("tokens/", views.tokens, name="tokens"),
    path("tokens/<int:pk>/revoke/", views.revoke_token, name="revoke_token"),
]
