// The two TypeScript SDKs behind one face, so that the assistant's script is written once.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

const { NANNY, URL: url, SECRET, NODE_TOOLS } = process.env;
// They lie elsewhere, where `import` does not look.
const require = createRequire(`${NODE_TOOLS}/`);

const sdks = {
    client() {
        const { Client, StreamableHTTPClientTransport } = require('@modelcontextprotocol/client');
        const { StdioClientTransport } = require('@modelcontextprotocol/client/stdio');
        return {
            Client, StreamableHTTPClientTransport, StdioClientTransport,
            elicitation: 'elicitation/create',
            updated: 'notifications/resources/updated',
            call: (client, request, options) => client.callTool(request, options),
        };
    },
    sdk() {
        const { Client } = require('@modelcontextprotocol/sdk/client/index.js');
        const { StreamableHTTPClientTransport } = require('@modelcontextprotocol/sdk/client/streamableHttp.js');
        const { StdioClientTransport } = require('@modelcontextprotocol/sdk/client/stdio.js');
        const types = require('@modelcontextprotocol/sdk/types.js');
        return {
            Client, StreamableHTTPClientTransport, StdioClientTransport,
            elicitation: types.ElicitRequestSchema,
            updated: types.ResourceUpdatedNotificationSchema,
            call: (client, request, options) => client.callTool(request, undefined, options),
        };
    },
};

// Connects with an SDK in an era over a transport; `action` is what the user answers when asked.
export async function connect(name, era, transport, action = 'accept') {
    const sdk = sdks[name]();
    const asked = [];
    const updates = [];
    const waiting = [];

    const negotiation = name === 'client'
        ? { versionNegotiation: { mode: era === 'modern' ? { pin: '2026-07-28' } : 'legacy' } }
        : {};
    const client = new sdk.Client(
        { name: 'acceptance', version: '1.0.0' },
        { capabilities: { elicitation: { form: {} } }, ...negotiation },
    );
    client.setRequestHandler(sdk.elicitation, ({ params }) => {
        asked.push(params.message);
        const yes = Object.keys(params.requestedSchema.properties).map((field) => [field, true]);
        return action === 'accept' ? { action, content: Object.fromEntries(yes) } : { action };
    });
    client.setNotificationHandler(sdk.updated, ({ params }) => {
        updates.push(params.uri);
        waiting.splice(0).forEach((wake) => wake());
    });
    await client.connect(transport === 'stdio'
        ? new sdk.StdioClientTransport({ command: NANNY, args: ['mcp', '--url', url] })
        : new sdk.StreamableHTTPClientTransport(new URL(`${url}/mcp`)));

    const checked = (answer) => {
        assert(!JSON.stringify(answer).includes(SECRET), 'a secret is told');
        return answer;
    };
    const call = async (tool, parameters, options) =>
        checked(await sdk.call(client, { name: tool, arguments: parameters }, options));
    return {
        asked,
        close: () => client.close(),
        tools: async () => checked(await client.listTools()).tools,
        prompt: async (prompt, parameters) => checked(await client.getPrompt({ name: prompt, arguments: parameters })),
        complete: async (ref, argument) => checked(await client.complete({ ref, argument })).completion.values,
        read: async (uri) => checked(await client.readResource({ uri })).contents[0].text,

        async ok(tool, parameters = {}, options = undefined) {
            const result = await call(tool, parameters, options);
            assert(!result.isError, `${tool}: ${JSON.stringify(result)}`);
            return result.structuredContent;
        },

        async refused(code, tool, parameters) {
            const result = await call(tool, parameters);
            assert(result.isError, `${tool} succeeds: ${JSON.stringify(result)}`);
            assert(result.content[0].text.startsWith(`${code}: `), result.content[0].text);
            return result.content[0].text;
        },

        // Gives what waits until the resource is said to have changed.
        async watch(uri) {
            if (era === 'modern') await client.listen({ resourceSubscriptions: [uri] });
            else await client.subscribeResource({ uri });
            return async () => {
                while (!updates.length) await new Promise((wake) => waiting.push(wake));
                assert.equal(updates.shift(), uri);
            };
        },
    };
}

// Nothing takes as long unless it is broken.
export function bounded(work, seconds) {
    const late = setTimeout(() => {
        console.error(`not done in ${seconds} s`);
        process.exit(1);
    }, seconds * 1000);
    return work.then(
        () => { clearTimeout(late); process.exit(0); },
        (error) => { console.error(error); process.exit(1); },
    );
}
