/** What the page is shown in tests: an agent's run with a bit of everything, and a way to append over HTTP. */

type Event = Readonly<Record<string, unknown>>

/** Appends events to a run of a server. */
export const append = async (base: string, run: string, events: ReadonlyArray<Event>, query = ""): Promise<void> => {
  const response = await fetch(new URL(`runs/${run}/events${query}`, base), {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(events.map((event) => ({ event }))),
  })
  if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`)
}

const escape = "\u001b"

/** A text as a model sends it, some characters at a time. */
export const deltas = (messageId: string, text: string): ReadonlyArray<Event> =>
  Array.from(text.matchAll(/[\s\S]{1,7}/g), ([part]) => ({ _tag: "TextDelta", messageId, text: part }))

export const answer = `The build fails because two packages pin different versions of the parser. I will align them and run the tests again.

Nothing else in the lockfile changes, so the fix is small: one line in packages/web/package.json.`

/** Up to where the agent has run the tests; `ending` finishes it. */
export const agentRun: ReadonlyArray<Event> = [
  { _tag: "RunStarted", name: "fix-the-build", input: { ticket: "ENG-2041", branch: "main" } },
  { _tag: "ContextBuilt", messages: 3, tokens: 18_240, maxTokens: 200_000 },
  { _tag: "ModelStarted", messageId: "m1", model: "large-2" },
  { _tag: "ReasoningDelta", messageId: "m1", text: "The error names a duplicate declaration, " },
  { _tag: "ReasoningDelta", messageId: "m1", text: "so the versions of the parser should be compared first." },
  ...deltas("m1", answer),
  { _tag: "ToolCallStarted", messageId: "m1", toolCallId: "c1", name: "edit_file" },
  { _tag: "ToolCallDelta", toolCallId: "c1", arguments: '{"path":"packages/web' },
  { _tag: "ToolCallDelta", toolCallId: "c1", arguments: '/package.json","from":"7.1.0","to":"7.2.4"}' },
  {
    _tag: "ToolCallCompleted",
    toolCallId: "c1",
    name: "edit_file",
    arguments: { path: "packages/web/package.json", from: "7.1.0", to: "7.2.4" },
  },
  { _tag: "UsageRecorded", messageId: "m1", inputTokens: 18_240, outputTokens: 412, costUsd: 0.0613 },
  { _tag: "ToolExecutionStarted", toolCallId: "c1", name: "edit_file" },
  {
    _tag: "ToolExecutionFinished",
    toolCallId: "c1",
    name: "edit_file",
    outcome: { _tag: "Success", output: { changed: 1, diff: '-  "parser": "7.1.0"\n+  "parser": "7.2.4"' } },
    durationMs: 38,
  },
  { _tag: "ApprovalRequested", approvalId: "a1", question: "Run the whole test suite? It takes about four minutes." },
  { _tag: "ApprovalResolved", approvalId: "a1", decision: "approved", by: "mira" },
  ...[
    "$ npm test",
    "",
    ` ${escape}[32m✓${escape}[0m parser ${escape}[2m(41 tests)${escape}[0m 212ms`,
    ` ${escape}[32m✓${escape}[0m web/router ${escape}[2m(18 tests)${escape}[0m 96ms`,
    ` ${escape}[31m✗${escape}[0m web/forms ${escape}[2m(7 tests)${escape}[0m 1.2s`,
    `   ${escape}[31mAssertionError${escape}[0m: expected ${escape}[32m"2"${escape}[0m to equal ${escape}[31m"1"${escape}[0m`,
  ].map((line) => ({ _tag: "OutputLine", stream: "stdout", line })),
  { _tag: "OutputLine", stream: "stderr", line: "npm error code ELIFECYCLE" },
  { _tag: "OutputLine", stream: "stderr", line: "npm error errno 1" },
  { _tag: "ModelStarted", messageId: "m2", model: "large-2" },
  ...deltas("m2", "One test depended on the old rounding. Its expectation is wrong since 7.2.0, so I will correct it."),
  { _tag: "ToolCallStarted", messageId: "m2", toolCallId: "c2", name: "bash" },
  { _tag: "ToolCallCompleted", toolCallId: "c2", name: "bash", arguments: { command: "npx vitest run web/forms" } },
  { _tag: "ToolExecutionStarted", toolCallId: "c2", name: "bash" },
]

export const agentEnding: ReadonlyArray<Event> = [
  {
    _tag: "ToolExecutionFinished",
    toolCallId: "c2",
    name: "bash",
    outcome: { _tag: "Success", output: "7 passed" },
    durationMs: 1840,
  },
  { _tag: "RunCompleted", finishReason: "stop", iterations: 2 },
]

/** Appends an ended run of so many output lines, `line 1` at seq 2, with its beginning before and its end behind them. */
export const appendLines = async (base: string, run: string, count: number): Promise<void> => {
  await append(base, run, [{ _tag: "RunStarted", name: run }])
  // As many as a server takes at once.
  const batch = 1000
  for (let from = 1; from <= count; from += batch) {
    const length = Math.min(batch, count - from + 1)
    const line = (_: unknown, index: number) => ({ _tag: "OutputLine", stream: "stdout", line: `line ${from + index}` })
    await append(base, run, Array.from({ length }, line))
  }
  await append(base, run, [{ _tag: "RunCompleted", finishReason: "exit", iterations: 0 }])
}
