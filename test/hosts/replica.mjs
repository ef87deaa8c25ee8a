// Four workers read a replica, each on a connection of its own, and refresh it.
//
// Usage: node replica.mjs LIBRARY URI, for a Node that has node:sqlite (22.5 and later).

import { DatabaseSync } from 'node:sqlite';
import { fileURLToPath } from 'node:url';
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';

const workers = 4, rounds = 50;

if (isMainThread) {
  const [library, uri] = process.argv.slice(2);
  new DatabaseSync(':memory:', { allowExtension: true }).loadExtension(library);
  const seen = [];
  for (let i = 0; i < workers; i++) {
    seen.push(new Promise((resolve, reject) => {
      const worker = new Worker(fileURLToPath(import.meta.url), { workerData: uri });
      worker.on('message', resolve);
      worker.on('error', reject);
    }));
  }
  console.log(JSON.stringify(await Promise.all(seen)));
} else {
  const db = new DatabaseSync(workerData, { readOnly: true });
  let sum = 0;
  for (let i = 0; i < rounds; i++) {
    db.prepare(`pragma verneuil_snapshot_refresh=${i % 3}`).get();
    const row = db.prepare('select sum(k) k, sum(length(x)) x from t').get();
    sum = row.k + row.x;
  }
  db.close();
  parentPort.postMessage(sum);
}
