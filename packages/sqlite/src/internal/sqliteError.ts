/** What SQLite and the file system say no to, as an `SqlError` that names the file and what to do. */
import * as SqlError from "effect/sql/SqlError"
import * as fs from "node:fs"
import type { DatabaseSync } from "node:sqlite"
import { dirname } from "node:path"

const reasons = {
  AuthorizationError: SqlError.AuthorizationError,
  ConnectionError: SqlError.ConnectionError,
  LockTimeoutError: SqlError.LockTimeoutError,
  SqlSyntaxError: SqlError.SqlSyntaxError,
  UnknownError: SqlError.UnknownError,
}

export const failure = (
  reason: keyof typeof reasons,
  message: string,
  cause: unknown,
  operation: string,
): SqlError.SqlError => new SqlError.SqlError({ reason: new reasons[reason]({ message, cause, operation }) })

export const transactionEnded = (path: string): SqlError.SqlError =>
  failure("UnknownError", `The transaction on ${path} has already ended`, undefined, "execute")

/** SQLite's extended result codes: https://sqlite.org/rescode.html. The low byte is the primary code. */
export const errorCode = (cause: unknown): number =>
  typeof cause === "object" && cause !== null && "errcode" in cause ? Number(cause.errcode) : 0

export const busy = 5
const busySnapshot = 517
const corrupt = 11
const notADatabase = 26

/** Whether an error says that a file isn't the database that it was. */
export const isDamage = (cause: unknown): boolean => [corrupt, notADatabase].includes(errorCode(cause) & 0xff)

export const isBusy = (error: SqlError.SqlError, database: DatabaseSync): boolean => {
  const code = errorCode(error.reason.cause)
  // A snapshot that is out of date stays so until its transaction ends.
  return (code & 0xff) === busy && !(code === busySnapshot && database.isTransaction)
}

export const sqlError = (cause: unknown, path: string, operation: string): SqlError.SqlError => {
  const native = cause instanceof Error ? cause.message : String(cause)
  const code = errorCode(cause)
  switch (code & 0xff) {
    case 1:
      if (!native.includes("syntax error")) break
      return failure("SqlSyntaxError", native, cause, operation)
    case busy:
      return failure("LockTimeoutError", `${path} is locked by another connection (${native})`, cause, operation)
    case 8: {
      const message = `${path} is read-only for this user or connection: make it and its directory writable (${native})`
      return failure("AuthorizationError", message, cause, operation)
    }
    case 10:
      return failure("UnknownError", `Reading or writing ${path} failed: check its disk (${native})`, cause, operation)
    case corrupt:
      return damaged(cause, path, operation)
    case 13: {
      const message = `The disk of ${path} is full: free some space and write again; what was stored stays readable (${native})`
      return failure("UnknownError", message, cause, operation)
    }
    case 14:
      return cannotOpen(cause, path)
    case notADatabase: {
      // What was a database when it was opened was written over since.
      if (operation !== "open") return damaged(cause, path, operation)
      const message = `${path} is not a SQLite database: name another file, or move this one away (${native})`
      return failure("UnknownError", message, cause, operation)
    }
  }
  // Effect's classifier reads the number from `errno`, where other drivers have it.
  const numbered = cause instanceof Error && code !== 0 ? Object.assign(cause, { errno: code }) : cause
  return new SqlError.SqlError({ reason: SqlError.classifySqliteError(numbered, { message: native, operation }) })
}

const damaged = (cause: unknown, path: string, operation: string): SqlError.SqlError => {
  const native = cause instanceof Error ? cause.message : String(cause)
  return failure("UnknownError", `${path} is damaged: restore it from a backup (${native})`, cause, operation)
}

/** SQLite doesn't say why a file can't be opened; asking for access to it does. */
const cannotOpen = (cause: unknown, path: string): SqlError.SqlError => {
  try {
    fs.accessSync(fs.existsSync(path) ? path : dirname(path), fs.constants.R_OK | fs.constants.W_OK)
    return failure(
      "ConnectionError",
      `${path} can't be opened: check its directory and the limit of open files`,
      cause,
      "open",
    )
  } catch (reason) {
    return fileError(reason, path)
  }
}

export const fileError = (cause: unknown, path: string): SqlError.SqlError => {
  const code = cause instanceof Error && "code" in cause ? cause.code : undefined
  switch (code) {
    case "EACCES":
    case "EPERM":
    case "EROFS":
      return failure(
        "AuthorizationError",
        `${path} can't be written: give this user its directory (${code})`,
        cause,
        "open",
      )
    case "ENOTDIR":
    case "EEXIST":
      return failure(
        "UnknownError",
        `${path} can't be created: a file is in the place of its directory (${code})`,
        cause,
        "open",
      )
    case "ENOENT":
      return failure(
        "UnknownError",
        `${path} can't be created: its directory can't be made there, name another (${code})`,
        cause,
        "open",
      )
    case "ENOSPC":
      return failure("UnknownError", `${path} can't be created: the disk is full (${code})`, cause, "open")
    default:
      return failure("ConnectionError", `${path} can't be opened (${String(code ?? cause)})`, cause, "open")
  }
}
