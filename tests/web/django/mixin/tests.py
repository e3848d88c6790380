"""Django's own `SessionTestsMixin` with sessile's engine; suites.py puts this among Django's test modules."""

from django.test import SimpleTestCase
from sessions_tests.tests import SessionTestsMixin

from sessile.web.django import SessionStore


class SessileSessionTests(SessionTestsMixin, SimpleTestCase):
    backend = SessionStore
