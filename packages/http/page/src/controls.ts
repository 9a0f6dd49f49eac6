/**
 * Characters that are not seen themselves but change how what is seen is read: one that turns the direction around makes
 * "x gnp.exe" of what is shown as "x exe.png". They are shown as what they are and do nothing.
 */

/** Embeddings, overrides and isolates: each turns the letters after it around, whatever they are. */
const directions = "\\u202a-\\u202e\\u2066-\\u2069"

/** Those, direction marks, spaces without width, fillers, and what else has no shape; joiners make letters, and stay. */
const unseen = `${directions}\\u061c\\u115f\\u1160\\u200b\\u200e\\u200f\\u2028\\u2029\\u2060-\\u2065\\u206a-\\u206f\\u3164\\ufeff\\uffa0\\ufff9-\\ufffb`

const patterns = {
  /** Where letters are read one by one: names, commands, output. */
  exact: { one: new RegExp(`[${unseen}]`), all: new RegExp(`([${unseen}])`) },
  /** Where a person writes: texts from right to left have marks of their own, which turn no letters around. */
  prose: { one: new RegExp(`[${directions}]`), all: new RegExp(`([${directions}])`) },
} as const

export type Reading = keyof typeof patterns

/** The name of a character, such as U+202E. */
const nameOf = (character: string): string => `U+${character.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}`

/** The text in pieces: every second one is the name of a character that stood there. */
export const pieces = (text: string, reading: Reading = "exact"): ReadonlyArray<string> => {
  const { all, one } = patterns[reading]
  return one.test(text) ? text.split(all).map((piece, index) => (index % 2 === 1 ? nameOf(piece) : piece)) : [text]
}

/** For where there is only text: those characters by name. */
export const named = (text: string): string => pieces(text).join("")
