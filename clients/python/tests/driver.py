"""Does what a test says in lines of JSON, by the client of both kinds: `driver.py sync` or `driver.py async`. The Go module has the same."""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from contextlib import aclosing
from typing import Any, AsyncIterator, Iterable, cast

from pydantic import BaseModel

from switchyard import ApiError, AsyncClient, Client, Webhook

Made = Any


async def value_of(made: Made) -> Any:
    return await made if inspect.isawaitable(made) else made


async def items_of(made: Made) -> AsyncIterator[Any]:
    if inspect.isasyncgen(made):
        async with aclosing(made) as items:
            async for item in items:
                yield item
    else:
        for item in cast("Iterable[Any]", made):
            yield item


def plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_unset=True)
    if isinstance(value, list):
        return [plain(each) for each in value]
    if hasattr(value, "job_id"):
        return value.job_id
    return value


async def run(client: Any, op: str, args: Any, show: Any) -> Any:
    if op == "verify":
        return Webhook(args["secrets"], now=lambda: args["now"]).verify(args["body"].encode(), args["headers"])
    if op == "enqueue":
        if "requestKey" in args:
            return await value_of(client.enqueue(args["spec"], request_key=args["requestKey"]))
        return await value_of(client.enqueue(**args["spec"]))
    if op == "enqueueMany":
        return await value_of(client.enqueue_many(args["specs"]))
    if op == "get":
        return await value_of(client.job(args["jobId"]).get())
    if op == "wait":
        return await value_of(client.job(args["jobId"]).wait(args["timeoutMs"] / 1000))
    if op == "list":
        return [item.job_id async for item in items_of(client.list(page_size=args["pageSize"], **args["filter"]))]
    if op in ("logs", "events"):
        count = 0
        made = client.job(args["jobId"]).logs(follow=args["follow"], after=args.get("after")) if op == "logs" else client.events(after=args.get("after"))
        async for item in items_of(made):
            show(plain(item))
            count += 1
            if count == args.get("count"):
                break
        return count
    if op == "cancel":
        return await value_of(client.job(args["jobId"]).cancel(args.get("reason")))
    if op == "retry":
        return await value_of(client.job(args["jobId"]).retry(args.get("from")))
    if op == "artifacts":
        return await value_of(client.job(args["jobId"]).artifacts(link_seconds=args.get("linkSeconds")))
    if op == "download":
        return await value_of(client.job(args["jobId"]).download(args["path"], args["to"]))
    if op == "schedules":
        return await value_of(getattr(client.schedules, args["do"])(*args["with"]))
    if op == "providers":
        return await value_of(client.providers())
    if op == "tenants":
        return [plain(item) async for item in items_of(client.tenants())]
    if op == "costs":
        return await value_of(client.costs(**args))
    if op == "audit":
        return await value_of(client.audit(limit=args["limit"]))
    if op == "check":
        return await value_of(client.check())
    raise ValueError(f"there is no {op}")


async def main(kind: str) -> None:
    client: Any = None

    def show(item: Any) -> None:
        print(json.dumps({"item": item}), flush=True)

    for line in sys.stdin:
        asked = json.loads(line)
        op, args = asked["op"], asked["args"]
        try:
            if op == "connect":
                settings = {"max_retries": args["maxRetries"], "timeout": args.get("timeoutMs", 30_000) / 1000}
                client = (Client if kind == "sync" else AsyncClient)(args["url"], args["key"], **settings)
                assert args["key"] not in repr(client)
                answer: Any = {"value": None}
            else:
                answer = {"value": plain(await run(client, op, args, show))}
        except Exception as error:
            answer = {"error": {"kind": type(error).__name__, "message": str(error)}}
            if isinstance(error, ApiError):
                answer["error"].update(code=error.code, status=error.status, title=error.title, problems=error.problems)
        print(json.dumps(answer), flush=True)


asyncio.run(main(sys.argv[1]))
