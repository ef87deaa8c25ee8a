/** A database that was to be replicated is not; the message says why. */
export class NotReplicatedError extends Error {}
/** The path of the extension, for what loads it by itself. */
export function loadablePath(): string;
/** Loads the extension, once in a process, on any connection. */
export function load(db: { loadExtension(path: string): unknown }): void;
/** Throws NotReplicatedError, which says why, unless the database is replicated. */
export function assertReplicated(db: { prepare(sql: string): any }, schema?: string): void;
/** Opens a database that is replicated; with better-sqlite3 the configuration has to set make_default. */
export function connect<Database = any>(
  filename: string,
  options?: { driver?: new (filename: string, options?: any) => Database; [option: string]: unknown },
): Database;
