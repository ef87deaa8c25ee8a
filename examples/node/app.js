// A program that replicates app.db: VERNEUIL_CONFIG=@verneuil.json node app.js
const Database = require("better-sqlite3");
const library = process.env.VERNEUIL_LIB ?? "/usr/local/lib/libverneuil_vfs.so";

// Once in a process, on any connection, and before the database is opened.
new Database(":memory:").loadExtension(library);

const db = new Database("app.db");
db.exec("create table if not exists visits(at text)");
db.exec("insert into visits values(datetime('now'))");
console.log(db.prepare("select count(*) from visits").pluck().get(), "visits");

// Not needed: commits go out by themselves. It waits until all of them are out.
console.log("safe:", db.prepare("select verneuil_flush()").pluck().get());
