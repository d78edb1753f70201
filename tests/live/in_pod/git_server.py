"""A git repository over HTTP, and a document, in the image ``companions``.

``serve <folder> <port>`` makes it and serves it, and at /document what is in ``<folder>/document``,
or 503 without that; ``commit <folder> <json>`` commits files, given by
their paths, with null for one that is removed and {"submodule": <commit>} for a submodule.
"""

import json
import sys
import wsgiref.simple_server
from pathlib import Path
from typing import Any

from dulwich.index import IndexEntry
from dulwich.objects import S_IFGITLINK
from dulwich.repo import Repo
from dulwich.server import DictBackend
from dulwich.web import make_wsgi_chain

AUTHOR = b"live <live@example.org>"


class Handler(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


def serve(folder: str, port: str) -> None:
    repository = Repo.init(folder, mkdir=True)
    repository.refs.set_symbolic_ref(b"HEAD", b"refs/heads/main")
    first = json.dumps({"value": "first"})
    commit(folder, json.dumps({"README": "not in the folder", "etc/app/settings.json": first}))
    Path(folder, "document").write_text(json.dumps({"settings.json": first}))
    git = make_wsgi_chain(DictBackend({"/": repository}))

    def app(environ: Any, start_response: Any) -> Any:
        if environ["PATH_INFO"] != "/document":
            return git(environ, start_response)
        try:
            body = Path(folder, "document").read_bytes()
        except FileNotFoundError:
            start_response("503 Service Unavailable", [])
            return [b""]
        start_response("200 OK", [("ETag", f'"{hash(body)}"')])
        return [body]

    wsgiref.simple_server.make_server("", int(port), app, handler_class=Handler).serve_forever()


def commit(folder: str, files: str) -> None:
    repository = Repo(folder)
    for name, content in json.loads(files).items():
        path = Path(folder, name)
        if isinstance(content, dict):
            # A submodule: an entry whose commit is in another repository.
            index = repository.open_index()
            sha = content["submodule"].encode()
            index[name.encode()] = IndexEntry(0, 0, 0, 0, S_IFGITLINK, 0, 0, 0, sha, 0, 0)
            index.write()
            continue
        if content is None:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        repository.stage([name])
    print(repository.do_commit(b"live", committer=AUTHOR, author=AUTHOR).decode())


if __name__ == "__main__":
    {"serve": serve, "commit": commit}[sys.argv[1]](*sys.argv[2:])
