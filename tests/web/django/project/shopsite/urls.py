from django.contrib import admin
from django.contrib.auth import views as auth_views
from django.urls import path

from shopsite import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("logout", auth_views.LogoutView.as_view(next_page="/me")),
    path("login", views.login),
    path("me", views.me),
    path("ame", views.ame),
    path("read", views.read),
    path("aread", views.aread),
    path("write", views.write),
    path("awrite", views.awrite),
    path("append", views.append),
    path("late", views.late),
    path("stream", views.stream),
    path("static-page", views.static_page),
]
