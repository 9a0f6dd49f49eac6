/** How reading and appending can fail. */

/** Problem details (RFC 9457) as the server sent them; `type` is `urn:throughline:problem:` and the code. */
export interface Problem {
  readonly type: string
  readonly title?: string
  readonly status?: number
  readonly detail?: string
  readonly [field: string]: unknown
}

/**
 * Why a run can't be read on, or an append was not done.
 *
 * `code` is the name of the problem that the server answered with, such as `run-unknown`, `cursor-stale` or `run-ended`
 * (PROTOCOL.md lists them), or one of these:
 *
 * | code | means |
 * | --- | --- |
 * | `refused` | a status without a problem: something before the server answered |
 * | `unreachable` | no connection, or none that held, for as many tries in a row as allowed; `cause` is the last failure |
 * | `protocol-violation` | the answer is not what the protocol says; `message` tells in what way |
 */
export class RunError extends Error {
  override readonly name = "RunError"
  readonly code: string
  /** The status of the answer, where there was one. */
  readonly status: number | undefined
  /** What the server said, with the fields of its own, such as `endSeq` of `run-ended`. */
  readonly problem: Problem | undefined

  constructor(
    code: string,
    message: string,
    options: {
      readonly status?: number | undefined
      readonly problem?: Problem | undefined
      readonly cause?: unknown
    } = {},
  ) {
    super(message, { cause: options.cause })
    this.code = code
    this.status = options.status
    this.problem = options.problem
  }
}
