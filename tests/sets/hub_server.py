"""A hub on the loopback interface with the few routes that reading, listing and committing need."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


class Hub:
    """Repositories in memory: ``repos[("dataset", "me/set")]`` is a list of commits, each a table of files."""

    def __init__(self):
        self.repos: dict[tuple[str, str], list[dict[str, bytes]]] = {}
        self.gated: set[str] = set()
        self.asked: list[str] = []
        self.sha = ""  # to claim as a commit in place of the real one
        self.headers: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def answer(self, code, body=b"", headers=()):
                self.send_response(code)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def do_GET(self):
                hub.asked.append(f"{self.command} {self.path}")
                hub.headers.append(str(self.headers))
                hub.respond(self)

            do_HEAD = do_POST = do_GET

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def add(self, repo, files, kind="dataset"):
        """Commit files and return the commit."""
        commits = self.repos.setdefault((kind, repo), [])
        commits.append({name: data if isinstance(data, bytes) else data.encode() for name, data in files.items()})
        return self.commit(kind, repo)

    def add_folder(self, repo, folder, kind="dataset"):
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        return self.add(repo, files, kind)

    def commit(self, kind, repo, number=-1):
        count = len(self.repos[kind, repo])
        return hashlib.sha1(f"{kind} {repo} {number % count}".encode()).hexdigest()

    def files(self, kind, repo, revision):
        commits = self.repos[kind, repo]
        if revision in ("main", "HEAD"):
            return commits[-1]
        return next(
            (files for number, files in enumerate(commits) if self.commit(kind, repo, number) == revision), None
        )

    def respond(self, call):
        url = urlsplit(call.path)
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        body = b""
        if call.command == "POST":
            if call.headers.get("Transfer-Encoding") == "chunked":
                while size := int(call.rfile.readline(), 16):
                    body += call.rfile.read(size)
                    call.rfile.readline()
                call.rfile.readline()
            else:
                body = call.rfile.read(int(call.headers.get("Content-Length", 0)))
        if parts[:3] == ["api", "repos", "create"]:
            asked = json.loads(body)
            repo = f"{asked['organization']}/{asked['name']}"
            self.repos.setdefault((asked["type"], repo), [{}])
            return self.json(call, {"url": f"{self.url}/{asked['type']}s/{repo}"})
        if parts == ["api", "validate-yaml"]:
            return self.json(call, {"warnings": [], "errors": []})
        if parts[0] == "api":
            kind, repo, route, rest = parts[1].removesuffix("s"), "/".join(parts[2:4]), parts[4:5], parts[5:]
        else:
            kind = "dataset" if parts[0] == "datasets" else "model"
            parts = parts[1:] if kind == "dataset" else parts
            repo, route, rest = "/".join(parts[:2]), parts[2:3], parts[3:]
        if repo in self.gated:
            return self.error(call, 403, "GatedRepo")
        if (kind, repo) not in self.repos:
            return self.error(call, 404, "RepoNotFound")
        revision = rest[0] if rest else "main"
        files = self.files(kind, repo, revision)
        if files is None:
            return self.error(call, 404, "RevisionNotFound")
        sha = next(self.commit(kind, repo, n) for n, one in enumerate(self.repos[kind, repo]) if one is files)
        if route == ["tree"]:
            listed = [
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for name, data in files.items()
            ]
            return self.json(call, listed)
        if route == ["resolve"]:
            name = "/".join(rest[1:])
            if name not in files:
                return self.error(call, 404, "EntryNotFound")
            tag = f'"{hashlib.sha1(files[name]).hexdigest()}"'
            return call.answer(200, files[name], [("X-Repo-Commit", sha), ("ETag", tag)])
        if route == ["preupload"]:
            wanted = json.loads(body)["files"]
            return self.json(
                call,
                {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in wanted]},
            )
        if route == ["commit"]:
            changed = dict(files)
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    changed[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "deletedFile":
                    del changed[value["path"]]
            oid = self.add(repo, changed, kind)
            return self.json(call, {"commitUrl": f"{self.url}/{kind}s/{repo}/commit/{oid}", "commitOid": oid})
        assert not parse_qs(url.query).get("token")
        return self.json(call, {"id": repo, "sha": self.sha or sha, "siblings": []})

    def json(self, call, content):
        call.answer(200, json.dumps(content).encode(), [("Content-Type", "application/json")])

    def error(self, call, code, name):
        call.answer(code, b'{"error": "no"}', [("X-Error-Code", name), ("X-Error-Message", "no")])
