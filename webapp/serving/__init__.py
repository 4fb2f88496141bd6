"""The web server: Granian in front, an event loop that takes bodies in, threads that run Django.

Slow people must not cost a thread. Granian (Rust, hyper) reads the headers of all connections on its own threads and
ends those whose headers take too long. `bridge` takes bodies in on an event loop, to a nameless file on the disk, after
`gate` has said from the headers alone how large a body this caller may send; only what has come in whole gets one of
the few threads in which Django runs, as WSGI: views, ORM and middleware are synchronous. Results are sent by the loop.

Considered: gunicorn's gthread (what was here: a thread per half-sent header and per slow body); waitress (takes bodies
in as this does, but before anybody could ask who sends them, and bounds no headers' time); Granian or others as WSGI (a
thread per slow body); uvicorn (no bound on headers' time); Django's ASGI handler (writes any stranger's body to the
disk before the first middleware runs, makes a database connection per request, reads a whole download into memory);
nginx in front (nothing for a laptop; welcome on a server, see docs/operations.md).
"""
