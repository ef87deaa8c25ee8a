// node:sqlite and a database in a store: node remote.mjs LIBRARY URI
import { DatabaseSync } from 'node:sqlite';
import { Worker, isMainThread, workerData, parentPort } from 'node:worker_threads';

const [lib, uri] = isMainThread ? process.argv.slice(2) : workerData;
const open = (from) => {
  const db = new DatabaseSync(from);
  db.exec('pragma busy_timeout=60000');
  return db;
};
if (!isMainThread) { // a worker commits its rows one by one
  const db = open(uri);
  const insert = db.prepare('insert into t(b) values(?)');
  for (let i = 0; i < 10; i++) insert.run(i);
  db.close();
  parentPort.postMessage('done');
} else {
  const loader = new DatabaseSync(':memory:', { allowExtension: true });
  loader.loadExtension(lib);
  const db = open(new URL(uri));
  db.exec('create table t(a integer primary key, b)');
  await Promise.all(Array.from({ length: 4 }, () => new Promise((resolve, reject) => {
    const worker = new Worker(new URL(import.meta.url), { workerData: [lib, uri] });
    worker.on('error', reject);
    worker.on('exit', (code) => (code ? reject(new Error(`exit code ${code}`)) : resolve()));
  })));
  const { n } = db.prepare('select count(*) as n from t').get();
  console.log(`${n} rows`);
  db.close();
}
