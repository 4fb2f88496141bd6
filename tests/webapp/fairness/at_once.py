"""python -m tests.webapp.fairness.at_once SHARDS WORKERS: two people, and workers who take all at once. JSON on stdout.

Needs a DATABASE_URL of an empty database, in which it makes the tables.
"""

from __future__ import annotations

import json
import sys
import threading


def take_all(worker: str) -> list[dict]:
    """What this worker was given until nothing was left, with where its person's turns stood."""
    from webapp.jobs import fair
    from webapp.jobs.models import Lane, Shard

    found = []
    while lease := fair.take("cpu", worker):
        shard = Shard.objects.select_related("job__made_by", "job__share").get(pk=lease.shard_id)
        assert (shard.state, shard.worker, shard.attempt) == ("leased", worker, lease.attempt)
        stands = Lane.objects.get(pk="cpu").virtual
        found.append({"shard": shard.pk, "attempt": lease.attempt, "who": shard.job.made_by.username, "pass": stands})
    return found


def main(shards: int, workers: int) -> None:
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import connection

    from tests.webapp.conftest import Person
    from tests.webapp.fairness.helpers import start
    from tests.webapp.helpers import ready_dataset, ready_model
    from webapp.accounts import services as accounts
    from webapp.library import tasks

    call_command("migrate", verbosity=0)
    tasks._away_until = float("inf")  # there is no broker here
    for name in ("owner", "mate"):
        user = accounts.create_user(username=name, password="correct horse battery")
        content = name.encode()
        start(Person(user, "", ready_model(user, content), ready_dataset(user, content)), shards=shards)
    taken: list[dict] = []
    begin = threading.Barrier(workers)

    def work(number: int) -> None:
        begin.wait()
        try:
            taken.extend(take_all(f"w{number}/1/{number}"))
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(taken))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
