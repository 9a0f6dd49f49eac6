/** A run's head as JSON and as headers. */
import * as Cursor from "@throughline/core/Cursor"
import type { RunHead } from "@throughline/core/RunHead"
import { timestamp } from "@throughline/core/Vocabulary"

/** The cursor of a head's last envelope; `undefined` for a run without one. */
export const cursorOf = ({ generation, lastSeq }: RunHead): string | undefined =>
  generation === undefined ? undefined : Cursor.run(lastSeq, generation)

/** A head over the wire; fields that have no value are left out by `JSON.stringify`. */
export const toJson = (head: RunHead) => ({
  runId: head.runId,
  status: head.status,
  firstSeq: head.firstSeq,
  lastSeq: head.lastSeq,
  cursor: cursorOf(head),
  sessionId: head.sessionId,
  vocabulary: head.vocabulary,
  startedAt: head.startedAt === undefined ? undefined : timestamp(head.startedAt),
  lastActivityAt: head.lastActivityAt === undefined ? undefined : timestamp(head.lastActivityAt),
})

export const headers = (head: RunHead): Record<string, string> => ({
  "run-status": head.status,
  "run-head": cursorOf(head) ?? "0",
  "run-first": String(head.firstSeq),
})

/** Strong: it changes whenever a page's bytes could, and differs between representations of one address. */
export const etag = (head: RunHead, representation: "json" | "ndjson"): string =>
  `"${[
    head.generation,
    head.firstSeq,
    head.lastSeq,
    (head.lastActivityAt ?? 0).toString(36),
    head.status,
    representation,
  ].join(".")}"`

/** Whether an `If-None-Match` names a tag (RFC 9110, section 13.1.2: compared weakly). */
export const matches = (ifNoneMatch: string | undefined, tag: string): boolean =>
  ifNoneMatch !== undefined &&
  ifNoneMatch.split(",").some((candidate) => candidate.trim().replace(/^W\//, "") === tag || candidate.trim() === "*")
