// A service that is ready after 90 s, and a client that waits no longer than 60 s for an answer.
//
//     node slow.mjs client|sdk modern|legacy http|stdio

import assert from 'node:assert/strict';

import { bounded, connect } from './clients.mjs';

async function work() {
    const assistant = await connect(...process.argv.slice(2));
    const told = await assistant.watch('service://status/slow');
    const { outcome, message, waited_ms } = await assistant.ok('start_service', { name: 'slow' });
    console.log(outcome, waited_ms, message);
    // Who comes second may find its container running, and not ready.
    assert(['starting', 'already_running'].includes(outcome), outcome);
    assert.match(message, /get_service_status/);
    let status;
    do {
        await told();
        status = await assistant.ok('get_service_status', { name: 'slow' });
        console.log(status.status, 'ready:', status.ready);
    } while (!status.ready);
    await assistant.close();
}

bounded(work(), 180);
