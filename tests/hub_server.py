"""A hub on this machine: as much of the Hugging Face hub's HTTP API as segkit needs."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_of_the_tests"
LFS = (".safetensors", ".png")


class Repository:
    """Files on the branch `main`, whose commits are named by their content."""

    def __init__(self, private=False):
        self.private = private
        self.files: dict[str, bytes] = {}

    @property
    def commit(self):
        return hashlib.sha1(repr(sorted(self.files.items())).encode()).hexdigest()


class Hub:
    """A server with repositories by name, that notes each request as `METHOD path`."""

    def __init__(self):
        self.repos: dict[str, Repository] = {}
        self.lfs: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.hub = self
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()

    def add(self, repo, folder, private=False):
        """Hold a folder as a repository."""
        self.repos[repo] = Repository(private)
        self.repos[repo].files = {path.name: path.read_bytes() for path in folder.iterdir()}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    @property
    def hub(self):
        return self.server.hub

    def do_HEAD(self):
        self.note()
        self.resolve(with_body=False)

    def do_GET(self):
        self.note()
        repo = self.path.removeprefix("/api/models/")
        if repo in self.hub.repos:
            held = self.hub.repos[repo]
            self.answer({"id": repo, "private": held.private, "sha": held.commit, "siblings": []})
        elif "/resolve/" in self.path:
            self.resolve(with_body=True)
        else:
            self.answer({"error": f"no such page: {self.path}"}, 404)

    def do_PUT(self):
        self.note()
        self.hub.lfs[self.path.removeprefix("/lfs/")] = self.body()
        self.answer({})

    def do_POST(self):
        self.note()
        body = self.body()
        path = self.path.partition("?")[0]
        if path == "/api/validate-yaml":
            self.answer({"warnings": [], "errors": []})
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.answer({"error": "Invalid username or password."}, 401)
        elif path == "/api/repos/create":
            self.create(json.loads(body))
        elif "/preupload/" in path:
            self.preupload(json.loads(body))
        elif path.endswith("/info/lfs/objects/batch"):
            self.batch(json.loads(body))
        elif "/commit/" in path:
            self.commit(path, body)
        else:
            self.answer({"error": f"no such endpoint: {path}"}, 404)

    def resolve(self, with_body):
        owner, model, _, revision, *rest = self.path.strip("/").split("/")
        held, name = self.hub.repos.get(f"{owner}/{model}"), "/".join(rest)
        if held is None or (held.private and "Authorization" not in self.headers):
            self.answer({}, 401, {"X-Error-Code": "RepoNotFound"})
        elif revision not in ("main", held.commit):
            self.answer({}, 404, {"X-Error-Code": "RevisionNotFound"})
        elif name not in held.files:
            headers = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": held.commit}
            self.answer({}, 404, headers)
        else:
            content = held.files[name]
            etag = f'"{hashlib.sha256(content).hexdigest()}"'
            self.send(content, {"X-Repo-Commit": held.commit, "ETag": etag}, with_body=with_body)

    def create(self, asked):
        repo = f"{asked['organization']}/{asked['name']}"
        url = f"{self.hub.url}/{repo}"
        if repo in self.hub.repos:
            self.answer({"error": "You already created this model repo", "url": url}, 409)
            return
        is_private = asked.get("private") or asked.get("visibility") == "private"
        self.hub.repos[repo] = Repository(bool(is_private))
        self.answer({"url": url, "name": repo})

    def preupload(self, asked):
        paths = [file["path"] for file in asked["files"]]
        modes = ["lfs" if path.endswith(LFS) else "regular" for path in paths]
        self.answer(
            {
                "files": [
                    {"path": path, "uploadMode": mode, "shouldIgnore": False}
                    for path, mode in zip(paths, modes, strict=True)
                ]
            }
        )

    def batch(self, asked):
        objects = [
            {**each, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{each['oid']}"}}}
            for each in asked["objects"]
        ]
        self.answer({"transfer": "basic", "objects": objects})

    def commit(self, path, body):
        owner, model = path.split("/")[3:5]
        held = self.hub.repos[f"{owner}/{model}"]
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                held.files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                content = self.hub.lfs[value["oid"]]
                assert hashlib.sha256(content).hexdigest() == value["oid"]
                held.files[value["path"]] = content
        url = f"{self.hub.url}/{owner}/{model}/commit/{held.commit}"
        self.answer({"success": True, "commitOid": held.commit, "commitUrl": url})

    def note(self):
        self.hub.requests.append(f"{self.command} {self.path}")

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def answer(self, content, status=200, headers=None):
        headers = {"Content-Type": "application/json", **(headers or {})}
        with_body = self.command != "HEAD"
        self.send(json.dumps(content).encode(), headers, status, with_body)

    def send(self, content, headers, status=200, with_body=True):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content)
