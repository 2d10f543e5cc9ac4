// Timers, promises, files and worker threads, each of which has an event loop of its own. The
// invariants are checked in every turn. It ends when "go.1" appears.
'use strict';
const assert = require('node:assert');
const crypto = require('node:crypto');
const fs = require('node:fs');
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');

const WORKERS = 3;

/** The hash of `turns` steps from a seed. */
function chain(seed, turns) {
    let value = `${seed}`;
    for (let n = 0; n < turns; n++)
        value = crypto.createHash('sha256').update(value).digest('hex');
    return value;
}

if (isMainThread) {
    let turns = 0, ticks = 0, last = 0;
    const ticking = setInterval(() => ticks++, 5);
    const answers = new Array(WORKERS).fill(0);
    const workers = answers.map((_, who) => {
        const worker = new Worker(__filename, { workerData: who });
        worker.on('message', ([turn, value]) => {
            assert.strictEqual(turn, ++answers[who]);
            assert.strictEqual(value, chain(who, turn % 50));
            worker.postMessage(turn + 1);
        });
        worker.on('error', error => { throw error; });
        worker.postMessage(1);
        return worker;
    });
    const turn = async () => {
        while (!answers.every(count => count > 0))
            await new Promise(resolve => setTimeout(resolve, 5));
        fs.writeSync(1, 'ready 1\n');
        for (; !fs.existsSync('go.1'); turns++) {
            const text = `${turns} `.repeat(1000);
            await fs.promises.writeFile(`file.${turns % 10}`, text);
            assert.strictEqual(await fs.promises.readFile(`file.${turns % 10}`, 'utf8'), text);
            await new Promise(resolve => setTimeout(resolve, 1));
            fs.writeFileSync('count', `${turns}`.padStart(15));
            const now = Number(process.hrtime.bigint() / 1000n);
            assert(now > last);
            last = now;
        }
        clearInterval(ticking);
        await Promise.all(workers.map(worker => worker.terminate()));
        assert(ticks > 0);
        fs.writeSync(1, 'ok\n');
    };
    turn().catch(error => {
        fs.writeSync(1, `FAIL ${error.stack}\n`);
        process.exit(1);
    });
} else {
    parentPort.on('message', turn => setTimeout(() => {
        parentPort.postMessage([turn, chain(workerData, turn % 50)]);
    }, 1));
}
