"use strict";
// SQLite databases that are replicated as they are written: for better-sqlite3 and node:sqlite.
const path = require("node:path");

/** A database that was to be replicated is not; the message says why. */
class NotReplicatedError extends Error {
  constructor(message) {
    super(message);
    this.name = "NotReplicatedError";
  }
}

/** The path of the extension, for what loads it by itself. */
function loadablePath() {
  return path.join(__dirname, "lib", "libverneuil_vfs.so");
}

/** Loads the extension, once in a process, on any connection. */
function load(db) {
  if (typeof db?.loadExtension !== "function")
    throw new TypeError("verneuil.load: want a Database of better-sqlite3, or a DatabaseSync of node:sqlite");
  db.loadExtension(loadablePath());
}

/** Throws NotReplicatedError, which says why, unless the database is replicated. */
function assertReplicated(db, schema = "main") {
  try {
    db.prepare("select verneuil_replicated(?)").get(schema);
  } catch (error) {
    let why = error.message;
    if (why.includes("no such function"))
      why = "the extension was not loaded when this connection was opened: open it with verneuil.connect()";
    else if (why.includes("make_default is not set") && !isNodeSqlite(db.constructor))
      why += " (better-sqlite3 takes no URI: it needs make_default)";
    throw new NotReplicatedError(why);
  }
}

function isNodeSqlite(Database) {
  return Database.name === "DatabaseSync";
}

// What the program itself would get by require.
function driverOf(program) {
  try {
    return require(require.resolve("better-sqlite3", { paths: [path.dirname(program), process.cwd(), __dirname] }));
  } catch (error) {
    if (error.code !== "MODULE_NOT_FOUND") throw error;
  }
  try {
    return require("node:sqlite").DatabaseSync;
  } catch {
    throw new Error("verneuil.connect: no better-sqlite3 (npm install better-sqlite3), and no node:sqlite (Node 22.13 or newer)");
  }
}

// The name as a URI, and whether it is the VFS verneuil that it names.
function throughVerneuil(name) {
  if (!name.startsWith("file:")) return ["file:" + name.split("/").map(encodeURIComponent).join("/") + "?vfs=verneuil", true];
  const [, file, parameters] = /^([^?]*)\??(.*)$/s.exec(name);
  const vfs = parameters.split("&").find((p) => p.startsWith("vfs="));
  if (vfs) return [name, vfs === "vfs=verneuil"];
  return [file + "?" + (parameters ? parameters + "&" : "") + "vfs=verneuil", true];
}

const loaded = new Set(); // classes: each may bring a SQLite of its own

/**
 * Opens a database that is replicated. options are those of the driver, and driver: the class
 * (better-sqlite3's Database, the default, or DatabaseSync of node:sqlite).
 *
 * With better-sqlite3 the configuration has to set make_default, as it cannot name a VFS. A database
 * that would not be replicated is not opened: NotReplicatedError says why.
 */
function connect(filename, options = {}) {
  const { driver = driverOf(require.main?.filename ?? process.cwd() + "/."), ...others } = options;
  let name = String(filename), ours = true;
  if (name === "" || name === ":memory:") throw new NotReplicatedError("a database in memory is not replicated");
  if (isNodeSqlite(driver)) [name, ours] = throughVerneuil(name);
  if (!loaded.has(driver)) {
    const first = new driver(":memory:", isNodeSqlite(driver) ? { allowExtension: true } : {});
    try {
      load(first);
    } finally {
      first.close();
    }
    loaded.add(driver);
  }
  const db = new driver(name, others);
  try {
    if (ours) assertReplicated(db);
  } catch (error) {
    db.close();
    throw error;
  }
  return db;
}

module.exports = { NotReplicatedError, assertReplicated, connect, load, loadablePath };
