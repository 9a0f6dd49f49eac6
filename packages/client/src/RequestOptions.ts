/** What every request takes. */
export interface RequestOptions {
  /** Sent with every request, such as `Authorization`. */
  readonly headers?: Readonly<Record<string, string>> | undefined
  /** Ends it: the connection is closed, and what is being waited for fails with the signal's reason. */
  readonly signal?: AbortSignal | undefined
  /** `globalThis.fetch` by default. */
  readonly fetch?: typeof globalThis.fetch | undefined
  /** Tries in a row that may fail before it gives up as `unreachable`; 30 by default, some 12 minutes. */
  readonly attempts?: number | undefined
  /** The time before another try, in ms; `failures` counts from 1, `asked` is what the server asked for. */
  readonly backoff?: ((failures: number, asked: number | undefined) => number) | undefined
}
