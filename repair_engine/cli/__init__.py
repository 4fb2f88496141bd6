"""The command line: options to a request, phases in one process, documents on stdout."""
