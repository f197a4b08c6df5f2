"""An assistant that operates the services through MCP alone. What it is told is compared with what
REST says and with what runs on the engine.

    python3 assistant.py modern|legacy http|stdio
"""

import asyncio
import json
import os
import subprocess
import sys
import urllib.request

from mcp import types

from clients import DEADLINE, URL, MCPError, User, connect

PROJECTS = os.environ["PROJECTS"]
TOOLS = {"list_services", "get_service_status", "start_service", "stop_service", "get_service_logs"}
PROMPTS = {"available_services", "start_service", "gpu_usage", "service_logs"}
SERVICES = {"guarded", "painter", "search", "slow", "writer"}
INVALID_PARAMS = -32602
NO_SUCH_RESOURCE = {"modern": INVALID_PARAMS, "legacy": -32002}


def rest(path, method="GET"):
    request = urllib.request.Request(URL + path, method=method)
    with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
        return json.load(answer)


def without_nulls(value):
    if isinstance(value, dict):
        return {key: without_nulls(each) for key, each in value.items() if each is not None}
    return [without_nulls(each) for each in value] if isinstance(value, list) else value


def runs(service):
    """Whether it runs: REST and the engine must agree."""
    containers = subprocess.run(
        ["docker", "ps", "-q", "--filter", f"label=com.docker.compose.project={PROJECTS}-{service}"],
        capture_output=True, check=True, text=True, timeout=DEADLINE,
    ).stdout.split()
    said = rest(f"/services/{service}/status")["is_running"]
    assert said == bool(containers), f"{service}: REST says {said}, the engine {containers}"
    return said


async def protocol_error(code, call):
    try:
        answer = await call
    except MCPError as error:
        assert error.error.code == code, error.error
        return
    raise AssertionError(f"no error {code}, but {answer}")


async def discovers(assistant):
    tools = await assistant.tools()
    assert set(tools) == TOOLS, tools
    for name, tool in tools.items():
        changes = name in ("start_service", "stop_service")
        hints = {"readOnlyHint": not changes, "destructiveHint": changes, "idempotentHint": True, "openWorldHint": False}
        assert hints.items() <= tool["annotations"].items(), tool
        assert tool["outputSchema"]["type"] == "object", tool

    while True:  # another client is starting a service
        said = without_nulls(rest("/services"))
        listed = await assistant.ok("list_services")
        if said == without_nulls(rest("/services")):
            break
    assert {each["name"] for each in listed["services"]} == SERVICES and listed["total"] == len(SERVICES), listed
    assert {**said, "gpus": listed["gpus"]} == listed, f"REST says {said}, MCP {listed}"
    found = await assistant.ok("list_services", filter={"gpu": True, "name_contains": "wri"})
    assert [each["name"] for each in found["services"]] == ["writer"], found
    assert await assistant.ok("get_service_status", name="painter") == without_nulls(rest("/services/painter/status"))


async def goes_on_to_a_server_behind_a_service(assistant):
    behind = {"endpoint": "http://localhost:18123/mcp", "tools": ["find"], "resources": ["index://all"]}

    async def shown():
        listed = await assistant.ok("list_services", filter={"name_contains": "search"})
        return listed["services"][0].get("mcp")

    assert await shown() is None
    assert (await assistant.ok("start_service", name="search"))["outcome"] == "running"
    assert await shown() == behind, await shown()
    assert (await assistant.ok("stop_service", name="search"))["outcome"] == "stopped"


async def starts(assistant):
    progress = []
    started = await assistant.ok("start_service", progress, name="painter")
    assert started["outcome"] == "running" and started["service"]["ready"] and runs("painter"), started
    assert progress, "no progress was told"
    values = [value for value, _ in progress]
    assert values == sorted(set(values)) and all(message for _, message in progress), progress
    print("progress:", progress)
    assert (await assistant.ok("start_service", name="painter"))["outcome"] == "already_running"


async def meets_a_conflict(assistant, user):
    sentence = await assistant.refused("GPU_BUSY", "start_service", name="writer")
    assert "painter" in sentence and not user.asked, sentence
    assert runs("painter") and not runs("writer")


async def is_declined(era, transport):
    user = User("decline")
    async with connect(era, transport, user) as assistant:
        await assistant.refused("USER_DECLINED", "start_service", name="writer", force=True)
    assert len(user.asked) == 1 and "painter" in user.asked[0], user.asked
    assert runs("painter") and not runs("writer")


async def cannot_ask(era, transport):
    async with connect(era, transport) as assistant:
        await assistant.refused("CONFIRMATION_REQUIRED", "start_service", name="writer", force=True)
    assert runs("painter") and not runs("writer")


async def swaps(assistant, user):
    async with assistant.watching("service://status/writer") as told:
        started = await assistant.ok("start_service", name="writer", force=True)
        await told()
    assert len(user.asked) == 1 and "painter" in user.asked[0], user.asked
    assert started["outcome"] == "running" and started["stopped"] == ["painter"], started
    assert runs("writer") and not runs("painter")
    assert (await assistant.ok("list_services"))["gpu_service_running"] == "writer"


async def reads_logs(assistant):
    logs = await assistant.ok("get_service_logs", name="writer", contains="weights")
    lines = logs["logs"].splitlines()
    assert lines and all("weights" in line for line in lines), logs
    logs = await assistant.ok("get_service_logs", name="writer", tail=1)
    assert logs["logs"].count("\n") == 1 and "ready" in logs["logs"], logs
    assert "weights" in await assistant.read("service://logs/writer")


async def reads_resources(assistant, era):
    listed = await assistant.resources()
    assert {"service://status", "service://metrics", "service://status/writer", "service://logs/writer"} <= listed, listed
    templates = await assistant.templates()
    assert {"service://status/{name}", "service://logs/{name}"} <= templates, templates
    status = await assistant.read("service://status")
    assert {each["name"] for each in status["services"]} == SERVICES, status
    assert (await assistant.read("service://status/writer"))["status"] == "running"
    metrics = json.dumps(await assistant.read("service://metrics"))
    assert all(f'"{name}"' in metrics for name in SERVICES), metrics
    await protocol_error(NO_SUCH_RESOURCE[era], assistant.read("service://status/nobody"))


async def uses_prompts(assistant):
    prompts = await assistant.prompts()
    assert set(prompts) == PROMPTS, prompts
    for name, arguments in [
        ("available_services", {}),
        ("start_service", {"service": "painter"}),
        ("gpu_usage", {}),
        ("service_logs", {"name": "writer"}),
        ("service_logs", {}),
    ]:
        text = json.dumps(await assistant.prompt(name, **arguments))
        assert "writer" in text or "painter" in text, f"{name}: {text}"
    await protocol_error(INVALID_PARAMS, assistant.prompt("start_service"))
    await protocol_error(INVALID_PARAMS, assistant.prompt("no_such_prompt"))

    prompt = types.PromptReference(type="ref/prompt", name="start_service")
    assert "painter" in await assistant.complete(prompt, "service", "pa")
    template = types.ResourceTemplateReference(type="ref/resource", uri="service://logs/{name}")
    assert await assistant.complete(template, "name", "wr") == ["writer"]


async def is_told_of_mistakes(assistant):
    assert "writer" in await assistant.refused("SERVICE_NOT_FOUND", "get_service_status", name="writr")
    await protocol_error(INVALID_PARAMS, assistant.call("no_such_tool"))


async def stops(assistant):
    assert (await assistant.ok("stop_service", name="writer"))["outcome"] == "stopped"
    assert not runs("writer")
    assert (await assistant.ok("stop_service", name="writer"))["outcome"] == "already_stopped"


async def spares_what_is_protected(assistant, user):
    assert (await assistant.ok("start_service", name="guarded"))["outcome"] == "running"
    asked = len(user.asked)
    await assistant.refused("PROTECTED", "stop_service", name="guarded")
    await assistant.refused("PROTECTED", "start_service", name="painter", force=True)
    assert len(user.asked) == asked, "nobody is asked about what will not be done"
    assert runs("guarded") and not runs("painter")
    # A person still can.
    rest("/services/guarded/stop", "POST")
    assert not runs("guarded")


async def work(era, transport):
    user = User("accept")
    async with connect(era, transport, user) as assistant:
        assert (assistant.version == "2026-07-28") == (era == "modern"), assistant.version
        print("speaks", assistant.version)
        await step(discovers(assistant))
        await step(goes_on_to_a_server_behind_a_service(assistant))
        await step(starts(assistant))
        await step(meets_a_conflict(assistant, user))
        await step(is_declined(era, transport))
        await step(cannot_ask(era, transport))
        await step(swaps(assistant, user))
        await step(reads_logs(assistant))
        await step(reads_resources(assistant, era))
        await step(uses_prompts(assistant))
        await step(is_told_of_mistakes(assistant))
        await step(stops(assistant))
        await step(spares_what_is_protected(assistant, user))


async def step(part):
    print(part.__name__.replace("_", " "), flush=True)
    await asyncio.wait_for(part, 2 * DEADLINE)


asyncio.run(work(*sys.argv[1:]))
