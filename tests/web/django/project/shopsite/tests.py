"""What a project's own tests look like; run by `manage.py test` and by pytest-django."""

from django.conf import settings
from django.contrib.auth import get_user_model
from django.test import TestCase

from sessile.web.django import get_store


class ShopTests(TestCase):
    def test_the_test_client_is_unchanged(self) -> None:
        user = get_user_model().objects.create_user("alice", password="sesame")
        session = self.client.session
        session["basket"] = 3
        session.save()
        assert self.client.get("/read").json()["fields"] == {"basket": 3}
        self.client.force_login(user)
        assert self.client.get("/me").json()["user"] == "alice"
        assert settings.SESSION_COOKIE_NAME in self.client.cookies
        assert self.client.session["basket"] == 3
        self.client.logout()
        assert self.client.get("/me").json()["user"] == ""
        assert self.client.login(username="alice", password="sesame")
        assert self.client.get("/me", secure=True).json()["user"] == "alice"

    def test_sessions_go_to_a_table_of_the_tests(self) -> None:
        self.client.get("/write?a=1")
        store = get_store()
        assert store._path is None
        assert store.stats().sessions >= 1
        print("WROTE-A-SESSION")
