"""The two Python SDKs behind one face, so that the assistant's script is written once.

Every answer is the JSON that was on the wire, and must not hold the secret that the nanny and all
services have in their environment.
"""

import asyncio
import json
import os
from contextlib import asynccontextmanager

import mcp.types as types
from mcp import ClientSession, StdioServerParameters

try:
    from mcp import Client, MCPError  # 2.x
except ImportError:
    from mcp.client.stdio import stdio_client
    from mcp.client.streamable_http import streamable_http_client
    from mcp.shared.exceptions import McpError as MCPError
    from pydantic import AnyUrl

    Client = None

NANNY = os.environ["NANNY"]
URL = os.environ["URL"]
SECRET = os.environ["SECRET"]
# Nothing takes as long unless it is broken.
DEADLINE = 60


def plain(model):
    """What was on the wire."""
    text = model.model_dump_json(by_alias=True, exclude_none=True)
    assert SECRET not in text, f"a secret is told: {text}"
    return json.loads(text)


class User:
    """Whoever sits before the client: answers what is asked, and remembers it."""

    def __init__(self, action):
        self.action = action
        self.asked = []

    async def __call__(self, _context, params):
        question = plain(params)
        self.asked.append(question["message"])
        fields = question["requestedSchema"]["properties"]
        content = {name: True for name in fields} if self.action == "accept" else None
        return types.ElicitResult(action=self.action, content=content)


class Assistant:
    """One connection, whichever the SDK and the era."""

    def __init__(self, session, notified, version):
        self.session = session
        self.notified = notified
        self.version = version

    async def tools(self):
        return {tool["name"]: tool for tool in plain(await self.session.list_tools())["tools"]}

    async def call(self, tool, progress=None, /, **arguments):
        async def told(value, _total, message):
            if progress is not None:
                progress.append((value, message))

        return plain(await self.session.call_tool(tool, arguments, progress_callback=told))

    async def ok(self, tool, progress=None, /, **arguments):
        """A call that must succeed: its structured result, of which the text is a copy."""
        result = await self.call(tool, progress, **arguments)
        assert not result.get("isError"), f"{tool} {arguments}: {result}"
        assert json.loads(result["content"][0]["text"]) == result["structuredContent"], result
        return result["structuredContent"]

    async def refused(self, code, tool, /, **arguments):
        """A call that must be a tool error of this code: its sentence for the model."""
        result = await self.call(tool, **arguments)
        assert result.get("isError"), f"{tool} {arguments} succeeds: {result}"
        assert "structuredContent" not in result, result
        sentence, details = (block["text"] for block in result["content"])
        assert sentence.startswith(f"{code}: "), sentence
        assert json.loads(details)["error"]["code"] == code, details
        return sentence

    async def resources(self):
        return {each["uri"] for each in plain(await self.session.list_resources())["resources"]}

    async def templates(self):
        listed = plain(await self.session.list_resource_templates())["resourceTemplates"]
        return {each["uriTemplate"] for each in listed}

    async def read(self, uri):
        answer = await self.session.read_resource(uri if Client else AnyUrl(uri))
        (content,) = plain(answer)["contents"]
        assert content["uri"] == uri, content
        return json.loads(content["text"]) if content["mimeType"] == "application/json" else content["text"]

    async def prompts(self):
        return {each["name"]: each for each in plain(await self.session.list_prompts())["prompts"]}

    async def prompt(self, prompt, /, **arguments):
        return plain(await self.session.get_prompt(prompt, arguments))["messages"]

    async def complete(self, reference, name, start):
        answer = await self.session.complete(reference, {"name": name, "value": start})
        return plain(answer)["completion"]["values"]

    @asynccontextmanager
    async def watching(self, uri):
        """Gives what waits until the resource is said to have changed."""
        if self.version == "2026-07-28":
            async with self.session.listen(resource_subscriptions=[uri]) as events:

                async def told():
                    event = await asyncio.wait_for(anext(events), DEADLINE)
                    assert event.uri == uri, event

                yield told
        else:
            address = uri if Client else AnyUrl(uri)
            await self.session.subscribe_resource(address)

            async def told():
                assert await asyncio.wait_for(self.notified.get(), DEADLINE) == uri

            yield told
            await self.session.unsubscribe_resource(address)


@asynccontextmanager
async def connect(era, transport, user=None):
    """An assistant over HTTP or `nanny mcp`; without a user it cannot ask anybody."""
    notified = asyncio.Queue()

    async def hear(message):
        message = getattr(message, "root", message)
        if isinstance(message, types.ResourceUpdatedNotification):
            notified.put_nowait(str(message.params.uri))

    stdio = StdioServerParameters(command=NANNY, args=["mcp", "--url", URL])
    if Client:
        server = stdio if transport == "stdio" else f"{URL}/mcp"
        mode = {"modern": "auto", "legacy": "legacy"}[era]
        async with Client(server, mode=mode, elicitation_callback=user, message_handler=hear) as client:
            yield Assistant(client, notified, client.protocol_version)
    else:
        streams = stdio_client(stdio) if transport == "stdio" else streamable_http_client(f"{URL}/mcp")
        async with streams as (read, write, *_):
            async with ClientSession(read, write, elicitation_callback=user, message_handler=hear) as session:
                version = (await session.initialize()).protocolVersion
                yield Assistant(session, notified, version)
