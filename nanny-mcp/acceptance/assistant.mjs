// An assistant that operates the services through MCP alone, as in assistant.py, in short.
//
//     node assistant.mjs client|sdk modern|legacy http|stdio

import assert from 'node:assert/strict';

import { bounded, connect } from './clients.mjs';

const how = process.argv.slice(2);

async function status(service) {
    return (await fetch(`${process.env.URL}/services/${service}/status`)).json();
}

async function work() {
    const assistant = await connect(...how);

    console.log('discovers');
    assert.equal((await assistant.tools()).length, 5);
    const { services } = await assistant.ok('list_services');
    assert(services.some(({ name }) => name === 'painter'));
    const text = JSON.stringify(await assistant.prompt('start_service', { service: 'painter' }));
    assert(text.includes('painter'), text);
    const ref = { type: 'ref/prompt', name: 'start_service' };
    assert.deepEqual(await assistant.complete(ref, { name: 'service', value: 'wri' }), ['writer']);

    console.log('starts');
    const progress = [];
    const started = await assistant.ok('start_service', { name: 'painter' }, { onprogress: (told) => progress.push(told) });
    assert.equal(started.outcome, 'running');
    assert(progress.length > 0, 'no progress was told');
    assert((await status('painter')).ready);

    console.log('meets a conflict, and is declined');
    await assistant.refused('GPU_BUSY', 'start_service', { name: 'writer' });
    const stubborn = await connect(...how, 'decline');
    await stubborn.refused('USER_DECLINED', 'start_service', { name: 'writer', force: true });
    assert.equal(stubborn.asked.length, 1);
    await stubborn.close();
    assert((await status('painter')).ready && !(await status('writer')).is_running);

    console.log('swaps, and is told');
    const told = await assistant.watch('service://status/writer');
    const swapped = await assistant.ok('start_service', { name: 'writer', force: true });
    assert.deepEqual(swapped.stopped, ['painter']);
    await told();
    assert.equal(assistant.asked.length, 1);
    assert(!(await status('painter')).is_running && (await status('writer')).ready);
    assert.equal(JSON.parse(await assistant.read('service://status/writer')).status, 'running');

    console.log('stops');
    assert.equal((await assistant.ok('stop_service', { name: 'writer' })).outcome, 'stopped');
    assert(!(await status('writer')).is_running);

    console.log('gives up a call, which changes nothing: the start goes on');
    const aborted = new AbortController();
    const given_up = assistant.ok('start_service', { name: 'painter' }, {
        signal: aborted.signal,
        onprogress: () => aborted.abort(),
    });
    await assert.rejects(given_up, /abort/i);
    const joined = await assistant.ok('start_service', { name: 'painter' });
    assert(['running', 'already_running'].includes(joined.outcome), joined.outcome);
    assert((await status('painter')).ready);
    assert.equal((await assistant.ok('stop_service', { name: 'painter' })).outcome, 'stopped');
    await assistant.close();
}

bounded(work(), 120);
