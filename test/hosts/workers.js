// Worker threads write one database with better-sqlite3, which has no way to name a VFS:
// make_default in VERNEUIL_CONFIG it must be.
//
// Usage: workers.js LIBRARY DATABASE JOURNAL_MODE. Prints rows and a flush's answer, leaves
// one more row to the exit, and exits with code 3.

"use strict";
const Database = require("better-sqlite3");
const { Worker, isMainThread, workerData } = require("node:worker_threads");

const WORKERS = 3;
const COMMITS = 20;

function write(file, worker) {
  const db = new Database(file, { timeout: 60000 });
  const insert = db.prepare("insert into t(b, c) values(?, randomblob(2000))");
  for (let i = 0; i < COMMITS; i++) db.transaction(() => insert.run(`${worker}/${i}`)).immediate();
  db.close();
}

async function main([library, file, journal]) {
  const loader = new Database(":memory:");
  loader.loadExtension(library);
  loader.close();
  const db = new Database(file, { timeout: 60000 });
  if (db.pragma(`journal_mode=${journal}`, { simple: true }) !== journal) throw new Error("journal_mode");
  db.exec("create table t(a integer primary key, b text, c blob)");
  const ends = [];
  for (let worker = 0; worker < WORKERS; worker++) {
    ends.push(new Promise((resolve, reject) => {
      new Worker(__filename, { workerData: { file, worker } }).on("error", reject).on("exit", resolve);
    }));
  }
  for (const code of await Promise.all(ends)) if (code !== 0) throw new Error(`a worker ends with ${code}`);
  const { rows } = db.prepare("select count(*) as rows from t").get();
  const flushed = db.pragma("verneuil_flush_replication_data", { simple: true });
  console.log(`${rows} rows, flush ${flushed}`);
  db.exec("insert into t(b) values('last words')");
  process.exit(3);
}

if (isMainThread) main(process.argv.slice(2));
else write(workerData.file, workerData.worker);
