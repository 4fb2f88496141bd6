"""Settings, all from the environment (docs/operations.md, Settings). Nothing here needs a network.

`neuron-repair serve` (`manage.py dev`) starts everything with these defaults: SQLite and files in DATA_DIR, a private
redis-server.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
import tempfile
from pathlib import Path

import dj_database_url
from redis.backoff import NoBackoff
from redis.retry import Retry

from repair_engine import __version__
from webapp import env, private

_PACKAGE = Path(__file__).resolve().parent
BASE_DIR = _PACKAGE.parent
# Templates, samples and the client: beside the packages in a checkout, within this one where it is installed.
INSTALLED = (_PACKAGE / "shipped").is_dir()
SHIPPED = _PACKAGE / "shipped" if INSTALLED else BASE_DIR

# --- where things are kept -------------------------------------------------------------------------------
# Web and workers share this directory (one machine, or a shared volume), or an object store (NR_S3_BUCKET): then each
# machine has a directory of its own, which holds what is under way and up to CACHE_BYTES of what it uses of the store.
DATA_DIR = Path(env.text("NR_DATA_DIR", "neuron-repair-data" if INSTALLED else str(BASE_DIR / "var"))).resolve()
DATA_DIR.mkdir(parents=True, exist_ok=True)
BLOB_DIR = DATA_DIR / "blobs"
INCOMING_DIR = DATA_DIR / "incoming"
JOB_DIR = DATA_DIR / "jobs"
for _folder in (BLOB_DIR, INCOMING_DIR, JOB_DIR):
    private.folder(_folder)
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    "store": env.object_store() or {"BACKEND": "webapp.library.store.Folder"},
}
CACHE_BYTES = env.number("NR_CACHE_BYTES", 20 * 1024**3)


def _generated_key() -> str:
    """A random key, kept in the data directory so that web and workers share it and sessions survive."""
    path = DATA_DIR / "secret_key"
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        # Another process may have created it a moment ago and not yet written it.
        for _ in range(100):
            if key := path.read_text().strip():
                return key
        raise RuntimeError(f"{path} is empty: delete it, or set SECRET_KEY") from None
    key = secrets.token_urlsafe(50)
    with os.fdopen(handle, "w") as file:
        file.write(key)
    return key


# Signs receipts of repairs (webapp.jobs.receipts). Machines without a shared disk are all given the same file.
SIGNING_KEY = Path(env.text("NR_SIGNING_KEY") or DATA_DIR / "signing_key.pem")

# --- security --------------------------------------------------------------------------------------------
DEBUG = env.flag("DEBUG", False)
SECRET_KEY_GENERATED = not env.text("SECRET_KEY")
SECRET_KEY = env.text("SECRET_KEY") or _generated_key()
# localhost always: the container asks itself whether it is well.
ALLOWED_HOSTS = [*env.words("ALLOWED_HOSTS", "127.0.0.1,[::1]"), "localhost"]
CSRF_TRUSTED_ORIGINS = env.words("CSRF_TRUSTED_ORIGINS")
HTTPS = env.flag("NR_HTTPS", not DEBUG)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = HTTPS
SECURE_HSTS_SECONDS = env.number("NR_HSTS_SECONDS", 30 * 24 * 3600) if HTTPS else 0
# Whether other hosts of the domain are on HTTPS, and may be told to browsers for ever, is not for this program to say.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
SESSION_ENGINE = "webapp.accounts.sessions"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
if env.flag("NR_BEHIND_PROXY", False):  # the proxy must set (and strip from clients) X-Forwarded-Proto
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
# Only these peers may say for whom they speak (X-Forwarded-For, -Proto); see webapp.middleware.Forwarded.
PROXY_NETWORKS = env.networks("NR_PROXY_NETWORKS")
SIGN_UP_OPEN = env.flag("NR_SIGN_UP", True)

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_htmx",
    "webapp.accounts",
    "webapp.library",
    "webapp.jobs",
    "webapp.api",
    "webapp.pages",
    "webapp.devserver",
]

MIDDLEWARE = [
    "webapp.middleware.Uploads",
    "webapp.middleware.Forwarded",
    "webapp.monitoring.middleware.Machines",
    "webapp.monitoring.middleware.Log",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "webapp.middleware.ContentSecurityPolicy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]

ROOT_URLCONF = "webapp.urls"
WSGI_APPLICATION = "webapp.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [SHIPPED / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "webapp.context.site",
            ],
        },
    }
]

# --- accounts --------------------------------------------------------------------------------------------
AUTH_USER_MODEL = "accounts.User"
LOGIN_URL = "accounts:sign_in"
LOGIN_REDIRECT_URL = "pages:home"
LOGOUT_REDIRECT_URL = "accounts:sign_in"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

PASSWORD_RESET_TIMEOUT = env.number("NR_RESET_SECONDS", 4 * 3600)

# --- mail (for forgotten passwords, and at the end of runs) ----------------------------------------------
# EMAIL_URL=submission://user:password@host:587, or EMAIL_HOST and the rest; neither: none is sent.
globals().update(env.mail())
MAIL = bool(env.text("EMAIL_URL") or env.text("EMAIL_HOST"))
EMAIL_TIMEOUT = 10
# How people reach this server: in mails that no request asks for.
SITE_URL = env.text("NR_SITE_URL") or (CSRF_TRUSTED_ORIGINS or ["http://localhost:8000"])[0]
DEFAULT_FROM_EMAIL = SERVER_EMAIL = env.text("DEFAULT_FROM_EMAIL", "neuron-repair@localhost")

# --- database --------------------------------------------------------------------------------------------
_database = env.text("DATABASE_URL") or f"sqlite:///{DATA_DIR / 'db.sqlite3'}"
DATABASES = {"default": dict(dj_database_url.parse(_database, conn_max_age=60, conn_health_checks=True))}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    if not env.text("DATABASE_URL"):
        private.file(DATA_DIR / "db.sqlite3")
    # Many processes write: WAL lets readers go on, IMMEDIATE takes the write lock at BEGIN (a lock taken
    # later in a transaction cannot wait and fails at once), and the busy timeout waits for it.
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 30,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-16000;",
    }
    # Tests use a file too: threads and WAL behave as they do in use.
    DATABASES["default"]["TEST"] = {"NAME": str(DATA_DIR / f"test-{os.getpid()}.sqlite3")}

# --- broker and workers ----------------------------------------------------------------------------------
# Without REDIS_URL `neuron-repair serve` starts a private server on this socket (a path may have 107 bytes).
REDIS_SOCKET = DATA_DIR / "redis" / "redis.sock"
if len(str(REDIS_SOCKET)) > 100:
    _place = hashlib.sha256(str(DATA_DIR).encode()).hexdigest()[:12]
    REDIS_SOCKET = Path(tempfile.gettempdir()) / f"neuron-repair-{os.getuid()}-{_place}" / "redis.sock"
REDIS_URL = env.text("REDIS_URL") or f"redis+socket://{REDIS_SOCKET}"
CELERY_BROKER_URL = REDIS_URL
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {"socket_connect_timeout": 3, "socket_timeout": 30, "max_retries": 1}
CELERY_TASK_PUBLISH_RETRY = False  # a bell that cannot be rung is rung again by the reaper
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_IGNORE_RESULT = True
CELERY_RESULT_BACKEND = None
CELERY_TASK_ACKS_LATE = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_DISABLE_PREFETCH = True  # a bell must not wait behind a minute's work in one busy worker
CELERY_WORKER_SEND_TASK_EVENTS = False
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TASK_DEFAULT_QUEUE = "light"
CELERY_ENABLE_UTC = True
REAP_EVERY = env.number("NR_REAP_SECONDS", 10)
WAIT_SECONDS = env.number("NR_WAIT_SECONDS", 25)  # of a page, for a run to change; impatient proxies give up after 30
CELERY_BEAT_SCHEDULE = {
    "reap": {
        "task": "webapp.jobs.tasks.reap",
        "schedule": REAP_EVERY,
        "options": {"expires": REAP_EVERY, "queue": "light"},
    }
}
CELERY_BEAT_SCHEDULE_FILENAME = str(DATA_DIR / "beat-schedule")

# --- jobs ------------------------------------------------------------------------------------------------
ENGINE = env.text("NR_ENGINE", "webapp.jobs.engine:RepairEngine")
LEASE_SECONDS = env.number("NR_LEASE_SECONDS", 90)  # of a shard of blocks; renewed by progress
SLOW_LEASE_SECONDS = env.number("NR_SLOW_LEASE_SECONDS", 900)  # of preparing and finishing: child processes
WORKER_THREADS = env.number("NR_WORKER_THREADS", 1)  # of one worker; the same for all of a job's workers
MAX_ATTEMPTS = 3  # of a shard, in a row, that did not finish one more block
MAX_LOSSES = 10  # likewise, when each time the whole worker went away: a machine that dies is not the shard's fault
RETRY_SECONDS = env.number("NR_RETRY_SECONDS", 5)  # before the second attempt; four times as long before each further
SHARD_SECONDS = env.number("NR_SHARD_SECONDS", 60)
BELL_SECONDS = env.number("NR_BELL_SECONDS", 30)  # a pending shard nobody took: ring again after this
# Of one person, unless staff have set others (`jobs.models.Allowance`); 0: no limit.
USER_RUNNING = env.number("NR_USER_RUNNING", 8)  # runs at work at once; others wait
USER_QUEUED = env.number("NR_USER_QUEUED", 200)  # runs that wait; more are refused
USER_WORKERS = env.number("NR_USER_WORKERS", 0)  # of one kind, at once
KEEP_DAYS = env.days("NR_KEEP_DAYS")  # by kind of jobs.cleanup, where it is not as there
WEBHOOK_ALLOW_PRIVATE = env.flag("NR_WEBHOOK_ALLOW_PRIVATE", False)
WEBHOOK_TIMEOUT = 10

# --- uploads ---------------------------------------------------------------------------------------------
MAX_MODEL_BYTES = env.number("NR_MAX_MODEL_BYTES", 2 * 1024**3)
MAX_DATASET_BYTES = env.number("NR_MAX_DATASET_BYTES", 4 * 1024**3)
UPLOADS_AT_ONCE = env.number("NR_UPLOADS_AT_ONCE", 4)  # of one account, in one web process
USER_QUOTA_BYTES = env.number("NR_USER_QUOTA_BYTES", 50 * 1024**3)
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024**2  # form fields; files are streamed to disk and capped on the way
FILE_UPLOAD_HANDLERS = ["webapp.library.uploads.NoFiles"]  # unless uploads.accept() lets one in
# Architectures the operator trusts: their code runs in web checks and workers. NAME=package.module:factory
ARCHITECTURES = env.pairs("NR_ARCHITECTURES")
ARCHITECTURE_PATH = [path for path in env.text("NR_ARCHITECTURE_PATH").split(os.pathsep) if path]
sys.path.extend(path for path in ARCHITECTURE_PATH if path not in sys.path)  # child processes inherit it

# --- API -------------------------------------------------------------------------------------------------
API_PER_MINUTE = env.number("NR_API_PER_MINUTE", 0)  # requests of one account; 0: as many as it likes
# Counters alone (webapp.api.limits). A Redis that is away is not tried again: whoever asks would wait.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL.replace("redis+socket://", "unix://"),
        "OPTIONS": {"socket_connect_timeout": 1, "socket_timeout": 1, "retry": Retry(NoBackoff(), 0)},
    }
}
REST_FRAMEWORK = {
    "DEFAULT_THROTTLE_CLASSES": ["webapp.api.limits.PerMinute"],
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "webapp.api.authentication.TokenAuthentication",
        "webapp.api.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["webapp.api.parsing.JSONParser"],
    "DEFAULT_PAGINATION_CLASS": "webapp.api.pagination.Pages",
    "PAGE_SIZE": 50,
    "EXCEPTION_HANDLER": "webapp.api.problems.handle",
    "DEFAULT_SCHEMA_CLASS": "webapp.api.schema.Schema",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS = {
    "OAS_VERSION": "3.1.0",  # bounds of property names are of JSON Schema 2020
    "TITLE": "Neuron Repair",
    "DESCRIPTION": "Find the filters that are responsible for a misbehaving image classifier, and export a "
    "repaired checkpoint. Errors are application/problem+json.",
    "VERSION": __version__,
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_SETTINGS": {"deepLinking": False},  # its links stand inside buttons
    "REDOC_DIST": "SIDECAR",
    "SCHEMA_PATH_PREFIX": r"/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {
        "RepairState": "webapp.jobs.models.Job.State",
        "UploadState": "webapp.library.models.Upload.State",
        "UploadKind": "webapp.library.models.ResumableUpload.Kind",
        "GateVerdict": "webapp.api.gates.VERDICTS",
        "DeliveryState": "webapp.jobs.models.Delivery.State",
        "TeamRole": "webapp.accounts.models.Role",
        "GatesVerdict": "webapp.api.gates.OF_ALL",
    },
}

# --- static files, time, log -----------------------------------------------------------------------------
STATIC_URL = "static/"
STATIC_ROOT = DATA_DIR / "static"
STATIC_ROOT.mkdir(exist_ok=True)
STATICFILES_DIRS = [_PACKAGE / "static"]
# Files are served from where they are: nothing to collect on a laptop. The image collects and hashes them.
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = DEBUG
if env.flag("NR_COLLECTED_STATIC", False):
    WHITENOISE_USE_FINDERS = False
    STATIC_ROOT = SHIPPED / "static_collected"
    STORAGES["staticfiles"] = {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"}
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
LOG_FORMAT = env.choice("NR_LOG_FORMAT", "line", "json")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"()": "webapp.logs.Lines", "format": "%(asctime)s %(levelname)s %(name)s: %(message)s"},
        "json": {"()": "webapp.logs.Json"},
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT}},
    "root": {"handlers": ["stderr"], "level": env.text("LOG_LEVEL", "INFO")},
    "loggers": {
        "celery": {"level": "WARNING"},
        "webapp": {"level": env.text("LOG_LEVEL", "INFO")},
        "webapp.audit": {"level": "INFO"},  # whatever LOG_LEVEL is
        "webapp.request": {"level": "INFO" if LOG_FORMAT == "json" else "WARNING"},  # lines: --access-log
    },
}

# --- what machines ask -----------------------------------------------------------------------------------
METRICS_TOKEN = env.text("NR_METRICS_TOKEN")
METRICS_NETWORKS = env.networks("NR_METRICS_NETWORKS")
