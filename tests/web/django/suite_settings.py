"""Settings of Django's own suites; see suites.py."""

SESSION_ENGINE = "sessile.web.django"
SESSILE = {"capacity": 10_000, "memory": "16 MiB"}
SECRET_KEY = "django_tests_secret_key"
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3"},
    "other": {"ENGINE": "django.db.backends.sqlite3"},
}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
