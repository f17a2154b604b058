"""Calls every method of the maker's Python SDK, and prints those that were not answered as JSON."""

import asyncio
import inspect
import json
import sys

from pierre_storage import GitStorage
from pierre_storage.repo import RepoImpl

options = json.load(sys.stdin)
author = {"name": "Ann", "email": "ann@example.invalid"}
called = set()


def watched(instance, kind):
    """Notes which methods were called."""
    for name, _ in inspect.getmembers(kind, inspect.isfunction):
        if name.startswith("_"):
            continue

        def noted(*args, _method=getattr(instance, name), _name=name, **kwargs):
            called.add(_name)
            return _method(*args, **kwargs)

        setattr(instance, name, noted)
    return instance


async def body(stream):
    try:
        return await stream.aread()
    finally:
        await stream.aclose()


async def refused(awaitable):
    try:
        await awaitable
    except Exception as error:  # noqa: BLE001 the SDK has several
        assert "500" not in str(error), error
        return True
    return False


async def main():
    storage = watched(GitStorage(options), GitStorage)
    name = "python/all"
    await storage.create_repo(id=name)
    repo = watched(await storage.find_one(id=name), RepoImpl)
    first = await (
        repo.create_commit(target_branch="main", commit_message="First", author=author)
        .add_file_from_string("src/a.py", "one\ntwo\n")
        .add_file_from_string("b", "b\n")
        .send()
    )
    sha = first["commit_sha"]
    diff = "diff --git a/b b/b\n--- a/b\n+++ b/b\n@@ -1 +1 @@\n-b\n+c\n"
    second = await repo.create_commit_from_diff(target_branch="main", commit_message="Second", diff=diff, author=author)
    restored = await repo.restore_commit(target_branch="main", target_commit_sha=sha, author=author, expected_head_sha=second["commit_sha"])
    assert (await repo.get_commit_diff(sha=restored["commit_sha"], base_sha=sha))["stats"]["files"] == 0
    await repo.create_branch(base_ref="main", target_branch="preview", target_is_ephemeral=True)
    await repo.promote_ephemeral_branch(base_branch="preview")
    await (
        repo.create_commit(target_branch="preview", commit_message="More", author=author)
        .add_file_from_string("more", "more\n")
        .send()
    )
    assert (await repo.get_branch_diff(branch="preview"))["stats"]["files"] == 1
    assert (await repo.preview_merge(source_branch="preview", target_branch="main"))["status"] == "clean"
    assert (await repo.merge(source_branch="preview", target_branch="main", strategy="ff_only"))["result"] == "fast_forward"
    await repo.delete_branch(name="preview")
    assert [branch["name"] for branch in (await repo.list_branches())["branches"]] == ["main"]
    assert len((await repo.list_commits())["commits"]) == 4
    assert (await repo.get_commit(sha=sha))["commit"]["message"] == "First"
    assert "src/a.py" in (await repo.list_files())["paths"]
    assert len((await repo.list_files_with_metadata())["files"]) == 3
    assert await body(await repo.get_file_stream(path="src/a.py")) == b"one\ntwo\n"
    assert (await repo.head_file(path="src/a.py"))["size"] == 8
    assert (await repo.get_blame(path="src/a.py"))["lines"][1]["author_name"] == "Ann"
    assert (await repo.grep(pattern="two"))["matches"][0]["path"] == "src/a.py"
    assert (await body(await repo.get_archive_stream()))[:2] == b"\x1f\x8b"
    await repo.create_tag(name="v1", target=sha)
    assert (await repo.list_tags())["tags"][0]["name"] == "v1"
    await repo.delete_tag(name="v1")
    await repo.create_note(sha=sha, note="one", author=author)
    await repo.append_note(sha=sha, note="two", author=author)
    assert (await repo.get_note(sha=sha))["note"] == "one\n\ntwo"
    assert (await repo.list_notes_refs())["refs"][0]["ref"] == "refs/notes/commits"
    await repo.delete_note(sha=sha, author=author)
    assert await refused(repo.pull_upstream())
    for url in (repo.get_remote_url, repo.get_ephemeral_remote_url, repo.get_import_remote_url):
        assert (await url(ttl=60)).startswith("https://t:")
    credential = await storage.create_git_credential(repo_id=name, password="x")
    await storage.update_git_credential(id=credential["id"], password="y")
    await storage.delete_git_credential(id=credential["id"])
    await storage.create_repo(id="python/fork", base_repo={"id": name, "ref": "main"})
    assert len((await storage.list_repos(q="python"))["repos"]) == 2
    await storage.delete_repo(id="python/fork")
    local = {"get_config", "get_default_api_base_url", "get_default_storage_base_url", "repo"}
    methods = {name for kind in (GitStorage, RepoImpl) for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}
    print(json.dumps({"methods": len(methods), "missing": sorted(methods - called - local)}))


asyncio.run(main())
