"""Sessions in the database, as Django's, read by a query that is written once: every look at a page reads one."""

from __future__ import annotations

from django.contrib.sessions.backends import db
from django.contrib.sessions.models import Session
from django.utils import timezone

from webapp.prepared import TEXT, Prepared

_by_key: Prepared[Session] = Prepared(lambda key: Session.objects.filter(session_key=key), TEXT)


class SessionStore(db.SessionStore):
    def _get_session_from_db(self) -> Session | None:
        for row in _by_key(self.session_key or ""):
            if row.expire_date > timezone.now():
                return row
        self._session_key = None
        return None
